//! Whether what shall be on devices and what is there agree: as JSON, and in words.

use std::time::Duration;

use hoist_domain::plural;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::called::Called;
use crate::output::json::{position, seconds, set, time};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

/// The end of an id that stands for a replica where it is shown beside other things.
const ID_CHARS: usize = 8;

fn side_value(it: &v1::SyncHealth) -> Value {
    json!({
        "name": it.name,
        "device_id": set_text(&it.device_id),
        "agreement": it.agreement,
        "looked_at_seconds": seconds(it.looked_at.as_ref()),
        "agrees": it.agrees,
        "difference": set_text(&it.difference),
        "differs_for_seconds": seconds(it.differs_for.as_ref()),
        "staleness_seconds": seconds(it.staleness.as_ref()),
        "drift_found": it.drift_found,
        "drift_repaired": it.drift_repaired,
        // That of everything together is none.
        "pace": (it.pace != i32::from(v1::SyncPace::Unspecified)).then(|| text::sync_pace(it.pace)),
        "generation": it.generation,
        "answered": it.answered,
    })
}

fn set_text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A value of something that may be a model, with what people call it.
fn named(mut value: Value, name: &str, called: &Called) -> Value {
    set(&mut value, "model_name", called.get(name).cloned().into());
    value
}

pub(crate) fn health_value(it: &v1::GetSyncHealthResponse, called: &Called) -> Value {
    json!({
        "overall": it.overall.as_ref().map(side_value),
        "devices": it.devices.iter().map(side_value).collect::<Value>(),
        "models": it.models.iter().map(|one| named(side_value(one), &one.name, called)).collect::<Value>(),
        "position": position(it.position.as_ref()),
    })
}

fn finding_values(findings: &[v1::SyncFinding], called: &Called) -> Value {
    let value = |it: &v1::SyncFinding| {
        let value = json!({
            "name": it.name,
            "device_id": set_text(&it.device_id),
            "message": it.message,
            "advice": set_text(&it.advice),
            "age_seconds": seconds(it.age.as_ref()),
        });
        named(value, &it.name, called)
    };
    findings.iter().map(value).collect()
}

pub(crate) fn diagnosis_value(it: &v1::DiagnoseSyncResponse, called: &Called) -> Value {
    let latency = |one: &v1::SyncLatency| {
        json!({
            "device_id": one.device_id,
            "answers": one.answers,
            "median_seconds": seconds(one.median.as_ref()),
            "p99_seconds": seconds(one.p99.as_ref()),
            "last_seconds": seconds(one.last.as_ref()),
        })
    };
    let incident = |one: &v1::SyncIncident| {
        let value = json!({
            "name": one.name,
            "device_id": set_text(&one.device_id),
            "message": one.message,
            "start_time": time(one.start_time.as_ref()),
            "lasted_seconds": seconds(one.lasted.as_ref()),
        });
        named(value, &one.name, called)
    };
    json!({
        "findings": finding_values(&it.findings, called),
        "latencies": it.latencies.iter().map(latency).collect::<Value>(),
        "history": it.history.iter().map(incident).collect::<Value>(),
    })
}

/// Whether both sides agree is not known where nobody has waited for it.
pub(crate) fn reset_value(it: &v1::ResetSyncResponse, is_awaited: bool, called: &Called) -> Value {
    json!({
        "device_ids": it.device_ids,
        "agrees": is_awaited.then_some(it.agrees),
        "findings": finding_values(&it.findings, called),
    })
}

/// A part of a whole. All of it is said only where it is all: `99.99 %` for what is nearly so.
fn percent(part: f64) -> String {
    if part >= 1.0 {
        return "100 %".to_owned();
    }
    format!("{:.2} %", (part.max(0.0) * 10_000.0).floor() / 100.0)
}

/// How both sides are to each other now, and how good that is.
fn now(it: &v1::SyncHealth) -> Toned {
    match (it.agrees, it.difference.is_empty()) {
        (true, true) => Toned(Tone::Good, "agree".to_owned()),
        // For less long than the pace allows.
        (true, false) => Toned(Tone::Warning, "catching up".to_owned()),
        (false, _) => Toned(Tone::Bad, "differ".to_owned()),
    }
}

fn agreement(it: &v1::SyncHealth) -> Toned {
    let tone = if it.agreement >= 1.0 { Tone::Good } else { Tone::Warning };
    Toned(tone, percent(it.agreement))
}

/// A span of time that may be shorter than a millisecond; a dash where there is none.
fn brief(span: Option<&prost_types::Duration>) -> String {
    match span.map(text::wire_span) {
        None => "-".to_owned(),
        Some(span) if span < Duration::from_millis(1) => format!("{} µs", span.as_micros()),
        Some(span) => text::span(span),
    }
}

/// `standard (2 s)`: which pace, and how long that is.
pub(crate) fn pace_words(pace: i32) -> String {
    let long = match v1::SyncPace::try_from(pace) {
        Ok(v1::SyncPace::High) => "half a second",
        Ok(v1::SyncPace::Standard) => "2 s",
        Ok(v1::SyncPace::Background) => "10 s",
        Ok(v1::SyncPace::Idle) => "a minute",
        Ok(v1::SyncPace::Unspecified) | Err(_) => "as long as the server says",
    };
    format!("{long} ({})", text::sync_pace(pace))
}

/// Of everything, or of what is `named`.
pub(crate) fn print_health(
    out: Out,
    it: &v1::GetSyncHealthResponse,
    named: Option<&str>,
    called: &Called,
) -> Result<()> {
    if it.devices.is_empty() && it.models.is_empty() {
        out.note(nothing(named));
        return Ok(());
    }
    if let Some(whole) = &it.overall {
        let (Toned(tone, part), Toned(now_tone, now)) = (agreement(whole), now(whole));
        let looked_at = match whole.looked_at.as_ref().map(text::wire_span) {
            None | Some(Duration::ZERO) => "no time yet".to_owned(),
            Some(span) => text::span(span),
        };
        out.toned_row("agreement", tone, &part, &format!(" of {looked_at}"))?;
        out.toned_row("now", now_tone, &format!("both sides {now}"), "")?;
        out.row("difference", &difference(whole))?;
    }
    print_devices(out, &it.devices)?;
    print_models(out, &it.models, called)
}

/// There are no two sides.
fn nothing(named: Option<&str>) -> String {
    match named.map(text::one_line) {
        Some(name) => format!("{name} shall be on no device: `hoist load {name}` brings it to one"),
        None => "no device was heard of, and nothing shall be on any".to_owned(),
    }
}

fn print_devices(out: Out, devices: &[v1::SyncHealth]) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let header = ["DEVICE", "AGREEMENT", "NOW", "FOR", "HEARD", "DRIFT", "ANSWERED", "PACE", "WHAT DIFFERS"];
    let mut table = Table::new(header).spare(&[7, 5, 6]);
    for it in devices {
        // Of the numbered desires, how far its worker has come; and of what nobody wanted there, how much is gone.
        let answered = format!("{} of {}", it.answered, it.generation);
        let drift = match it.drift_found {
            0 => "-".to_owned(),
            found => format!("{found}, {} gone", it.drift_repaired),
        };
        let heard = match &it.staleness {
            Some(_) => format!("{} ago", brief(it.staleness.as_ref())).into(),
            None => Toned(Tone::Bad, "away".to_owned()),
        };
        table.row([
            text::one_line(&it.device_id).into(),
            agreement(it),
            now(it),
            brief(it.differs_for.as_ref()).into(),
            heard,
            drift.into(),
            answered.into(),
            text::sync_pace(it.pace).into(),
            text::one_line(&it.difference).into(),
        ]);
    }
    table.print(out)
}

/// Drift is of devices: nobody has asked for what it is.
fn print_models(out: Out, models: &[v1::SyncHealth], called: &Called) -> Result<()> {
    if models.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let header = ["MODEL", "DEVICE", "AGREEMENT", "NOW", "FOR", "PACE", "WHAT DIFFERS"];
    let mut table = Table::new(header).spare(&[5]);
    for it in models {
        table.row([
            Toned(Tone::Strong, called.name(&it.name)),
            text::one_line(&it.device_id).into(),
            agreement(it),
            now(it),
            brief(it.differs_for.as_ref()).into(),
            text::sync_pace(it.pace).into(),
            text::one_line(&it.difference).into(),
        ]);
    }
    table.print(out)
}

/// `vae is not there yet, for 3 s`.
fn difference(it: &v1::SyncHealth) -> String {
    match (&*it.difference, &it.differs_for) {
        ("", _) => String::new(),
        (what, Some(_)) => format!("{}, for {}", text::one_line(what), brief(it.differs_for.as_ref())),
        (what, None) => text::one_line(what),
    }
}

/// What something is about: a model by what it is called, a replica by the end of its id; nothing of a device, which is
/// told beside it.
fn about(name: &str, called: &Called) -> String {
    match name.split_once('/') {
        Some(("devices", _)) | None => String::new(),
        Some(("replicas", id)) => {
            let end = id.len().saturating_sub(ID_CHARS);
            text::one_line(&format!("replicas/{}", id.get(end..).unwrap_or(id)))
        }
        Some(_) => called.name(name),
    }
}

fn print_findings(out: Out, findings: &[v1::SyncFinding], called: &Called) -> Result<()> {
    for it in findings {
        let what = [text::one_line(&it.device_id), about(&it.name, called)];
        let what: Vec<&str> = what.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let age = it.age.as_ref().map(|_| format!(", for {}", brief(it.age.as_ref()))).unwrap_or_default();
        let what = out.toned(Tone::Warning, &format!("{}:", what.join(", ")));
        out.line(format_args!("{what} {}{}", text::one_line(&it.message), out.toned(Tone::Dim, &age)))?;
        if !it.advice.is_empty() {
            out.line(format_args!("  do: {}", text::one_line(&it.advice)))?;
        }
    }
    Ok(())
}

pub(crate) fn print_diagnosis(out: Out, it: &v1::DiagnoseSyncResponse, called: &Called) -> Result<()> {
    if it.findings.is_empty() {
        out.line(out.toned(Tone::Good, "nothing differs"))?;
    }
    print_findings(out, &it.findings, called)?;
    if !it.latencies.is_empty() {
        out.line("")?;
        let mut table = Table::new(["DEVICE", "ANSWERS", "MEDIAN", "P99", "LAST"]);
        for one in &it.latencies {
            table.row([
                text::one_line(&one.device_id).into(),
                one.answers.to_string().into(),
                brief(one.median.as_ref()).into(),
                brief(one.p99.as_ref()).into(),
                brief(one.last.as_ref()).into(),
            ]);
        }
        table.print(out)?;
    }
    if it.history.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(["BEGAN", "LASTED", "DEVICE", "MODEL", "WHAT DIFFERED"]);
    for one in &it.history {
        let model = about(&one.name, called);
        table.row([
            one.start_time.as_ref().map(text::when).unwrap_or_default().into(),
            brief(one.lasted.as_ref()).into(),
            text::one_line(&one.device_id).into(),
            if model.is_empty() { "-".to_owned() } else { model }.into(),
            text::one_line(&one.message).into(),
        ]);
    }
    table.print(out)
}

/// With `waited` also whether both sides agree since.
pub(crate) fn print_reset(
    out: Out,
    it: &v1::ResetSyncResponse,
    waited: Option<Duration>,
    called: &Called,
) -> Result<()> {
    match it.device_ids.as_slice() {
        [] => out.line("what was put off is tried now; no worker was asked for everything")?,
        [one] => {
            out.line(format_args!("the worker of {} is asked for everything again", text::one_line(one)))?
        }
        some => out.line(format_args!(
            "the workers of {} are asked for everything again",
            text::one_line(&some.join(", "))
        ))?,
    }
    let Some(waited) = waited else { return Ok(()) };
    if it.agrees {
        return out.line(out.toned(Tone::Good, "both sides agree"));
    }
    let count = plural(u64::try_from(it.findings.len()).unwrap_or(u64::MAX), "difference");
    let after = format!("both sides do not agree after {}: {count}", text::span(waited));
    out.line(out.toned(Tone::Bad, &after))?;
    print_findings(out, &it.findings, called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_said_only_of_what_is_all() {
        for (part, shown) in [
            (1.0, "100 %"),
            (0.999_999, "99.99 %"),
            (0.5, "50.00 %"),
            (0.0, "0.00 %"),
            (-1.0, "0.00 %"),
            (1.5, "100 %"),
        ] {
            assert_eq!(percent(part), shown);
        }
    }

    #[test]
    fn what_differs_for_less_long_than_it_may_is_catching_up() {
        let side = |agrees: bool, difference: &str| {
            now(&v1::SyncHealth { agrees, difference: difference.into(), ..Default::default() }).1
        };
        assert_eq!(side(true, ""), "agree");
        assert_eq!(side(true, "vae is not there yet"), "catching up");
        assert_eq!(side(false, "vae is not there yet"), "differ");
        let millis = prost_types::Duration { seconds: 0, nanos: 1_500_000 };
        let it = v1::SyncHealth { difference: "x".into(), differs_for: Some(millis), ..Default::default() };
        assert_eq!(difference(&it), "x, for 1 ms");
    }

    #[test]
    fn things_are_called_as_people_know_them() {
        let called = Called([("models/x".to_owned(), "sdxl".to_owned())].into());
        assert_eq!(about("models/x", &called), "sdxl");
        assert_eq!(about("devices/cpu:0", &called), "");
        assert_eq!(about("replicas/0198c2f4-0000-7000-8000-00000000000a", &called), "replicas/0000000a");
        let one = v1::SyncHealth { name: "models/x".into(), ..Default::default() };
        let value =
            health_value(&v1::GetSyncHealthResponse { models: vec![one], ..Default::default() }, &called);
        assert_eq!((&value["models"][0]["model_name"], &value["overall"]), (&json!("sdxl"), &Value::Null));
        assert_eq!(value["models"][0]["difference"], Value::Null);
    }

    #[test]
    fn whether_both_sides_agree_is_not_known_where_nobody_has_waited() {
        let it = v1::ResetSyncResponse { device_ids: vec!["cpu:0".into()], ..Default::default() };
        assert_eq!(reset_value(&it, false, &Called::default())["agrees"], Value::Null);
        assert_eq!(reset_value(&it, true, &Called::default())["agrees"], json!(false));
    }

    #[test]
    fn a_latency_below_a_millisecond_is_told() {
        let span = |nanos: i32| prost_types::Duration { seconds: 0, nanos };
        assert_eq!(brief(Some(&span(250_000))), "250 µs");
        assert_eq!(brief(Some(&span(2_000_000))), "2 ms");
        assert_eq!(brief(None), "-");
    }
}
