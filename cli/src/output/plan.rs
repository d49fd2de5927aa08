//! Where models would be loaded to, why, and what it would take: as JSON, and in words.

use std::collections::BTreeSet;

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::called::Called;
use crate::output::json::{position, seconds};
use crate::output::residency::{names, print_left_out};
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};

fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn component(it: &v1::ComponentEstimate, called: &Called) -> Value {
    json!({
        "model": it.model,
        "model_name": called.get(&it.model),
        "component": it.component,
        "segment": said(&it.segment),
        "ram_bytes": it.ram_bytes,
        "in_ram": it.in_ram,
        "device_bytes": it.device_bytes,
        "on_devices": it.on_devices,
    })
}

pub(crate) fn plan_value(it: &v1::PlanLoadResponse, called: &Called) -> Value {
    let device = |one: &v1::DevicePlan| {
        json!({
            "device_id": one.device_id,
            "fits": one.fits,
            "needed_bytes": one.needed_bytes,
            "resident_bytes": one.resident_bytes,
            "free_bytes": one.free_bytes,
            "refusal": said(&one.refusal),
            "unload": one.unload,
        })
    };
    json!({
        "device_id": said(&it.device_id),
        "reasons": it.reasons,
        "device_bytes": it.device_bytes,
        "unload": it.unload,
        "ram_bytes": it.ram_bytes,
        "read_bytes": it.read_bytes,
        "expected_seconds": seconds(it.expected.as_ref()),
        "devices": it.devices.iter().map(device).collect::<Value>(),
        "refusal": said(&it.refusal),
        "refusal_reason": said(&it.refusal_reason),
        "components": it.components.iter().map(|one| component(one, called)).collect::<Value>(),
        "position": position(it.position.as_ref()),
    })
}

pub(crate) fn estimate_value(it: &v1::EstimateLoadResponse, called: &Called) -> Value {
    json!({
        "components": it.components.iter().map(|one| component(one, called)).collect::<Value>(),
        "device_bytes": it.device_bytes,
        "ram_bytes": it.ram_bytes,
        "missing_ram_bytes": it.missing_ram_bytes,
        "read_bytes": it.read_bytes,
        "peak_ram_bytes": it.peak_ram_bytes,
        "left_out": it.left_out,
    })
}

/// A plan for `what`: where it goes, or why it does not, then each device and each component.
pub(crate) fn print_plan(out: Out, it: &v1::PlanLoadResponse, what: &str, called: &Called) -> Result<()> {
    if it.refusal.is_empty() {
        let device = out.toned(Tone::Good, &text::one_line(&it.device_id));
        out.line(format_args!("{what} would go to {device}"))?;
    } else {
        let refused = out.toned(Tone::Bad, "would be refused");
        let reason = said(&it.refusal_reason).unwrap_or("no reason given");
        out.line(format_args!("{what} {refused}: {}", text::one_line(reason)))?;
        out.row("because", &text::one_line(&it.refusal))?;
    }
    for (index, reason) in it.reasons.iter().enumerate() {
        out.row(if index == 0 { "why" } else { "" }, &text::one_line(reason))?;
    }
    out.row("unloads", &names(&it.unload, called))?;
    let more = |bytes: u64| if bytes == 0 { "nothing more".to_owned() } else { Bytes(bytes).to_string() };
    if !it.device_id.is_empty() {
        out.row("device", &more(it.device_bytes))?;
    }
    out.row("RAM", &more(it.ram_bytes))?;
    let read = if it.read_bytes == 0 { "nothing".to_owned() } else { Bytes(it.read_bytes).to_string() };
    out.row("reads", &read)?;
    let expected = it.expected.as_ref().map(|span| format!("about {}", text::span(text::wire_span(span))));
    out.row("takes", &expected.unwrap_or_default())?;
    print_devices(out, &it.devices, called)?;
    print_components(out, &it.components, called)
}

fn print_devices(out: Out, devices: &[v1::DevicePlan], called: &Called) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table =
        Table::new(["DEVICE", "FITS", "NEEDED", "THERE", "FREE", "UNLOAD", "WHY NOT"]).spare(&[5]);
    for it in devices {
        let (tone, fits) = if it.fits { (Tone::Good, "yes") } else { (Tone::Bad, "no") };
        table.row([
            Toned(Tone::Strong, text::one_line(&it.device_id)),
            Toned(tone, fits.to_owned()),
            Bytes(it.needed_bytes).to_string().into(),
            Bytes(it.resident_bytes).to_string().into(),
            Bytes(it.free_bytes).to_string().into(),
            if it.unload.is_empty() { "-".to_owned() } else { names(&it.unload, called) }.into(),
            text::one_line(&it.refusal).into(),
        ]);
    }
    table.print(out)
}

fn print_components(out: Out, components: &[v1::ComponentEstimate], called: &Called) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let models: BTreeSet<&str> = components.iter().map(|it| it.model.as_str()).collect();
    let skipped = usize::from(models.len() < 2);
    let header = ["MODEL", "COMPONENT", "RAM", "IN RAM", "DEVICE", "IS ON"];
    let mut table = Table::new(header.into_iter().skip(skipped));
    for it in components {
        let on = if it.on_devices.is_empty() { "-".to_owned() } else { it.on_devices.join(", ") };
        let cells: [Toned; 6] = [
            called.name(&it.model).into(),
            Toned(Tone::Strong, text::one_line(&it.component)),
            Bytes(it.ram_bytes).to_string().into(),
            if it.in_ram { Toned(Tone::Good, "yes".to_owned()) } else { "no".into() },
            Bytes(it.device_bytes).to_string().into(),
            text::one_line(&on).into(),
        ];
        table.row(cells.into_iter().skip(skipped));
    }
    table.print(out)
}

/// An estimate for `what`.
pub(crate) fn print_estimate(
    out: Out,
    it: &v1::EstimateLoadResponse,
    what: &str,
    called: &Called,
) -> Result<()> {
    out.line(out.toned(Tone::Strong, what))?;
    out.row("device", &Bytes(it.device_bytes).to_string())?;
    out.row("RAM", &format!("{}, {} of it not there yet", Bytes(it.ram_bytes), Bytes(it.missing_ram_bytes)))?;
    out.row("RAM at most", &format!("{} more than now, while it is loaded", Bytes(it.peak_ram_bytes)))?;
    out.row("reads", &Bytes(it.read_bytes).to_string())?;
    print_components(out, &it.components, called)?;
    print_left_out(out, &it.left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_null() {
        let value = plan_value(&v1::PlanLoadResponse::default(), &Called::default());
        for key in ["device_id", "expected_seconds", "refusal", "refusal_reason", "position"] {
            assert_eq!(value[key], Value::Null, "{key}");
        }
        let refused = v1::PlanLoadResponse {
            refusal: "no room".into(),
            refusal_reason: "VRAM_EXHAUSTED".into(),
            devices: vec![v1::DevicePlan { device_id: "cpu:0".into(), ..Default::default() }],
            components: vec![v1::ComponentEstimate { model: "models/x".into(), ..Default::default() }],
            ..Default::default()
        };
        let value = plan_value(&refused, &Called([("models/x".to_owned(), "x".to_owned())].into()));
        assert_eq!(value["refusal_reason"], "VRAM_EXHAUSTED");
        assert_eq!(
            (&value["devices"][0]["refusal"], &value["devices"][0]["fits"]),
            (&Value::Null, &json!(false))
        );
        assert_eq!(
            (&value["components"][0]["segment"], &value["components"][0]["model_name"]),
            (&Value::Null, &json!("x"))
        );
    }
}
