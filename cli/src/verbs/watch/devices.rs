//! What is to be told of devices and of what is on them, in the words of people.

use hoist_domain::Bytes;
use serde_json::{Map, Value};

use crate::output::cache::short_segment;
use crate::verbs::watch::seen::Names;

type Fields = Map<String, Value>;

/// A replica or a device in a few words; nothing for anything else.
pub(super) fn summary(resource: &Value, names: &dyn Names) -> Option<String> {
    if let Some(it) = fields(resource, "replica") {
        let failure = text(it, "failure");
        let why = if failure.is_empty() { String::new() } else { format!(": {failure}") };
        let words = [text(it, "device_id").to_owned(), content(it, names), text(it, "state").to_owned()];
        return Some(format!("{}, {}{why}", words.join(", "), size(taken(it))));
    }
    let it = fields(resource, "device")?;
    let mut words = vec![text(it, "state").to_owned()];
    words.extend(cordon(it));
    words.extend(worker(it).map(|state| format!("worker {state}")));
    if let free @ 1.. = number(it, "free_bytes") {
        words.push(format!("{} free", size(free)));
    }
    Some(words.join(", "))
}

/// What differs between two states of a replica or a device. Empty where nothing is worth a line; nothing for anything else.
pub(super) fn difference(before: Option<&Value>, after: &Value, names: &dyn Names) -> Option<String> {
    let none = Fields::new();
    let old = |kind: &str| before.and_then(|before| fields(before, kind)).unwrap_or(&none).clone();
    if let Some(new) = fields(after, "replica") {
        return Some(of_replica(&old("replica"), new, names));
    }
    Some(of_device(&old("device"), fields(after, "device")?))
}

/// Every line says which it is: its id means nothing to people.
fn of_replica(old: &Fields, new: &Fields, names: &dyn Names) -> String {
    let mut parts = Vec::new();
    let (was, now) = (text(old, "state"), text(new, "state"));
    if was != now {
        parts.push(from_to("", was, now));
    }
    if taken(old) != taken(new) && now == "active" {
        parts.push(size(taken(new)));
    }
    parts.extend(Some(text(new, "failure")).filter(|why| *why != text(old, "failure")).map(str::to_owned));
    for (sign, some, others) in [("also for", new, old), ("not any more for", old, new)] {
        // That it is nobody's any more is told by its state.
        let gone = texts(some, "models").filter(|model| !texts(others, "models").any(|it| it == *model));
        if !old.is_empty() && texts(new, "models").next().is_some() {
            parts.extend(gone.map(|model| format!("{sign} {}", names.model(model))));
        }
    }
    let (was, now) = (text(old, "priority"), text(new, "priority"));
    if was != now && !was.is_empty() {
        parts.push(from_to("priority ", was, now));
    }
    let which: Vec<String> = [text(new, "device_id").to_owned(), content(new, names)]
        .into_iter()
        .filter(|it| !it.is_empty())
        .collect();
    match (parts.is_empty(), which.is_empty()) {
        (true, _) => String::new(),
        (false, true) => parts.join(", "),
        (false, false) => format!("{}: {}", which.join(", "), parts.join(", ")),
    }
}

fn of_device(old: &Fields, new: &Fields) -> String {
    let mut parts = Vec::new();
    for key in ["state", "model"] {
        let (was, now) = (text(old, key), text(new, key));
        if was != now {
            parts.push(from_to(if key == "state" { "" } else { "is a " }, was, now));
        }
    }
    parts.extend(cordon_change(old, new));
    let (was, now) = (worker(old), worker(new));
    if was != now {
        parts.push(from_to("worker ", was.unwrap_or_default(), now.unwrap_or_default()));
    }
    let problem = |it: &Fields| {
        it.get("worker")
            .and_then(Value::as_object)
            .map(|it| text(it, "problem").to_owned())
            .unwrap_or_default()
    };
    parts.extend(Some(problem(new)).filter(|now| !now.is_empty() && *now != problem(old)));
    if new.contains_key("used_bytes") && number(old, "used_bytes") != number(new, "used_bytes") {
        parts.push(format!("{} used", size(number(new, "used_bytes"))));
    }
    parts.join(", ")
}

/// That it is cordoned, where its state does not say so; and why.
fn cordon(it: &Fields) -> Option<String> {
    let (reason, is_told) = (text(it, "cordon_reason"), text(it, "state") == "cordoned");
    match (is_cordoned(it)?, is_told, reason) {
        (false, ..) | (true, true, "") => None,
        (true, true, reason) => Some(reason.to_owned()),
        (true, false, "") => Some("cordoned".to_owned()),
        (true, false, reason) => Some(format!("cordoned: {reason}")),
    }
}

/// What is to be told of that beside the change of its state.
fn cordon_change(old: &Fields, new: &Fields) -> Option<String> {
    let was = is_cordoned(old).unwrap_or(false);
    let is_news = is_cordoned(new)? != was || was && text(old, "cordon_reason") != text(new, "cordon_reason");
    match is_cordoned(new)? {
        _ if !is_news => None,
        true => cordon(new),
        // Its worker is away, and was: the state is what it was.
        false => (text(old, "state") == text(new, "state")).then(|| "not cordoned any more".to_owned()),
    }
}

fn is_cordoned(it: &Fields) -> Option<bool> {
    it.get("cordoned").and_then(Value::as_bool)
}

fn from_to(what: &str, was: &str, now: &str) -> String {
    if was.is_empty() { format!("{what}{now}") } else { format!("{what}{was} -> {now}") }
}

/// What is in a replica, by the first model that has it: `sdxl:vae +3`.
fn content(it: &Fields, names: &dyn Names) -> String {
    let segment = text(it, "segment");
    let models: Vec<&str> = texts(it, "models").collect();
    let known = models.iter().find_map(|model| Some((*model, names.component(model, segment)?)));
    let first = match (known, models.first()) {
        (Some((model, component)), _) => format!("{}:{component}", names.model(model)),
        (None, Some(model)) => names.model(model),
        (None, None) => return short_segment(segment).unwrap_or(segment).to_owned(),
    };
    match models.len() {
        0 | 1 => first,
        all => format!("{first} +{}", all - 1),
    }
}

/// What it takes, or was given room for as long as nothing of it is there.
fn taken(it: &Fields) -> u64 {
    match number(it, "own_bytes").saturating_add(number(it, "mapped_bytes")) {
        0 => number(it, "planned_bytes"),
        bytes => bytes,
    }
}

fn worker(it: &Fields) -> Option<&str> {
    it.get("worker")?.get("state")?.as_str()
}

fn fields<'r>(resource: &'r Value, kind: &str) -> Option<&'r Fields> {
    resource.get(kind)?.as_object()
}

fn text<'f>(it: &'f Fields, key: &str) -> &'f str {
    it.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'f>(it: &'f Fields, key: &str) -> impl Iterator<Item = &'f str> {
    it.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn number(it: &Fields, key: &str) -> u64 {
    it.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn size(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use serde_json::json;

    fn replica() -> Value {
        json!({ "name": "replicas/a", "replica": {
            "device_id": "cpu:0", "segment": "segments/ab", "state": "loading", "models": ["models/x"],
            "planned_bytes": 4096, "own_bytes": 0, "mapped_bytes": 0, "priority": "normal", "failure": null,
        } })
    }

    fn seen() -> BTreeMap<String, Value> {
        let components = json!([{ "name": "unet", "digest": "ab" }]);
        let model = json!({ "model": { "name": "portrait", "components": components } });
        [("models/x".to_owned(), model)].into()
    }

    #[test]
    fn a_replica_is_told_by_its_device_and_its_component() {
        let before = replica();
        assert_eq!(summary(&before, &seen()).unwrap(), "cpu:0, portrait:unet, loading, 4.0 KiB");
        let mut after = before.clone();
        after["replica"]["state"] = "active".into();
        after["replica"]["own_bytes"] = 8192.into();
        let words = |before: &Value, after: &Value| difference(Some(before), after, &seen()).unwrap();
        assert_eq!(words(&before, &after), "cpu:0, portrait:unet: loading -> active, 8.0 KiB");
        assert_eq!(words(&after, &after), "");
        let mut shared = after.clone();
        shared["replica"]["models"] = json!(["models/x", "models/y"]);
        assert_eq!(words(&after, &shared), "cpu:0, portrait:unet +1: also for models/y");
        assert_eq!(words(&shared, &after), "cpu:0, portrait:unet: not any more for models/y");
        let mut going = after.clone();
        going["replica"]["state"] = "unloading".into();
        going["replica"]["models"] = json!([]);
        assert_eq!(words(&after, &going), "cpu:0, ab: active -> unloading");
        let mut failed = before.clone();
        failed["replica"]["state"] = "failed".into();
        failed["replica"]["failure"] = "out of memory".into();
        assert_eq!(words(&before, &failed), "cpu:0, portrait:unet: loading -> failed, out of memory");
        assert_eq!(
            summary(&failed, &seen()).unwrap(),
            "cpu:0, portrait:unet, failed, 4.0 KiB: out of memory"
        );
    }

    #[test]
    fn what_is_not_known_after_a_position_is_left_out() {
        let partial = json!({ "replica": { "state": "active" } });
        assert_eq!(difference(None, &partial, &seen()).unwrap(), "active");
        assert_eq!(difference(None, &json!({ "lease": {} }), &seen()), None);
    }

    #[test]
    fn a_device_is_told_by_its_state_and_its_worker() {
        let before = json!({ "device": {
            "device_id": "cpu:0", "state": "open", "model": "AMD", "free_bytes": 1 << 20, "used_bytes": 0,
            "worker": { "state": "active", "problem": "" },
        } });
        assert_eq!(summary(&before, &seen()).unwrap(), "open, worker active, 1.0 MiB free");
        let mut after = before.clone();
        after["device"]["state"] = "lost".into();
        after["device"]["worker"] = json!({ "state": "lost", "problem": "it was killed" });
        after["device"]["used_bytes"] = 2048.into();
        assert_eq!(
            difference(Some(&before), &after, &seen()).unwrap(),
            "open -> lost, worker active -> lost, it was killed, 2.0 KiB used"
        );
    }

    #[test]
    fn that_a_device_is_cordoned_is_told_once_and_with_the_reason() {
        let device = |state: &str, cordoned: bool, reason: Option<&str>| json!({ "device": { "state": state, "cordoned": cordoned, "cordon_reason": reason } });
        let words = |before: &Value, after: &Value| difference(Some(before), after, &seen()).unwrap();
        let (open, closed) = (device("open", false, None), device("cordoned", true, Some("hot")));
        assert_eq!(words(&open, &closed), "open -> cordoned, hot");
        assert_eq!(words(&closed, &closed), "");
        assert_eq!(words(&closed, &open), "cordoned -> open");
        let (away, both) = (device("lost", false, None), device("lost", true, None));
        assert_eq!(words(&away, &both), "cordoned");
        assert_eq!(words(&both, &away), "not cordoned any more");
        assert_eq!(summary(&both, &seen()).unwrap(), "lost, cordoned");
        assert_eq!(summary(&closed, &seen()).unwrap(), "cordoned, hot");
    }
}
