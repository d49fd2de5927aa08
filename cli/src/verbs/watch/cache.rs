//! What is to be told of segments and leases, in the words of people: sizes as sizes, models by what they are called where
//! that is known.

use hoist_domain::Bytes;
use serde_json::{Map, Value};

use crate::output::cache::reason_words;
use crate::verbs::watch::seen::Names;

type Fields = Map<String, Value>;

/// A segment or a lease in a few words; nothing for anything else.
pub(super) fn summary(resource: &Value, names: &dyn Names) -> Option<String> {
    if let Some(it) = fields(resource, "segment") {
        let kind = Some(text(it, "type")).filter(|kind| !kind.is_empty()).unwrap_or("of no known model");
        let models: Vec<String> = texts(it, "models").map(|model| names.model(model)).collect();
        let of = if models.is_empty() { String::new() } else { format!(" for {}", models.join(", ")) };
        return Some(format!("{kind}{of}, {}, {}", size(it.get("bytes")), state(it)));
    }
    let it = fields(resource, "lease")?;
    let holder = text(it, "holder");
    let by = if holder.is_empty() { String::new() } else { format!(" by {holder}") };
    Some(format!("{}, {}, {}{by}", names.model(text(it, "model")), size(it.get("bytes")), state(it)))
}

/// What differs between two states of a segment or a lease. Empty where nothing is worth a line; nothing for anything else.
pub(super) fn difference(before: Option<&Value>, after: &Value, names: &dyn Names) -> Option<String> {
    let kind = ["segment", "lease"].into_iter().find(|kind| after.get(*kind).is_some())?;
    let none = Fields::new();
    let old = before.and_then(|before| fields(before, kind)).unwrap_or(&none);
    let new = fields(after, kind)?;
    let mut parts = Vec::new();
    for (key, now) in new {
        let was = old.get(key).unwrap_or(&Value::Null);
        if was == now {
            continue;
        }
        match key.as_str() {
            "bytes" if was.is_null() => parts.push(size(Some(now))),
            "bytes" => parts.push(format!("{} -> {}", size(Some(was)), size(Some(now)))),
            "zombie" if *now == true => parts.push("still open somewhere".to_owned()),
            "eviction" => parts.extend(why(now, names)),
            "models" => parts.extend(
                texts(new, "models")
                    .filter(|model| !texts(old, "models").any(|had| had == *model))
                    .map(|model| format!("also for {}", names.model(model))),
            ),
            "state" if was.is_null() => parts.push(state(new)),
            "state" | "priority" | "type" | "holder" => {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                parts.push(match word(was).as_str() {
                    "" => format!("{key} {}", word(now)),
                    was => format!("{key} {was} -> {}", word(now)),
                });
            }
            // Names, times and processes say nothing that the line does not.
            _ => {}
        }
    }
    Some(parts.join(", "))
}

fn why(eviction: &Value, names: &dyn Names) -> Option<String> {
    let it = eviction.as_object()?;
    let why = reason_words(text(it, "reason"));
    Some(match text(it, "beneficiary") {
        "" => why.to_owned(),
        model => format!("{why} for {}", names.model(model)),
    })
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

fn state(it: &Fields) -> String {
    text(it, "state").to_owned()
}

fn size(bytes: Option<&Value>) -> String {
    bytes.and_then(Value::as_u64).map(|bytes| Bytes(bytes).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn called(model: &str) -> String {
        model.replace("models/", "the ")
    }

    #[test]
    fn a_segment_is_told_by_what_it_is_and_for_whom() {
        let before = json!({ "name": "segments/ab", "segment": {
            "type": "vae", "models": ["models/x"], "bytes": 1 << 20, "state": "filling", "eviction": null,
        } });
        assert_eq!(summary(&before, &called).unwrap(), "vae for the x, 1.0 MiB, filling");
        let mut after = before.clone();
        after["segment"]["state"] = "evicting".into();
        after["segment"]["models"] = json!(["models/x", "models/y"]);
        after["segment"]["eviction"] = json!({ "reason": "room", "beneficiary": "models/z" });
        assert_eq!(
            difference(Some(&before), &after, &called).unwrap(),
            "to make room for the z, also for the y, state filling -> evicting"
        );
        assert_eq!(difference(Some(&after), &after, &called).unwrap(), "");
        assert_eq!(difference(None, &json!({ "operation": {} }), &called), None);
    }

    #[test]
    fn a_lease_is_told_by_its_model_and_its_holder() {
        let lease = json!({ "name": "leases/a", "lease": {
            "model": "models/x", "bytes": 2048, "state": "held", "holder": "trainer 3",
        } });
        assert_eq!(summary(&lease, &called).unwrap(), "the x, 2.0 KiB, held by trainer 3");
        let awaited = json!({ "lease": { "state": "awaited" } });
        assert_eq!(difference(Some(&lease), &awaited, &called).unwrap(), "state held -> awaited");
        // After --from the state before is not known.
        assert_eq!(difference(None, &awaited, &called).unwrap(), "awaited");
    }
}
