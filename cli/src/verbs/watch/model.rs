//! What changed of a model, in the words of people: each tag, note and file, not the fields that hold them.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::{Bytes, plural};
use serde_json::{Map, Value};

use crate::output::text;

/// Characters of a note that are shown. A description may be pages.
const NOTE_CHARS: usize = 60;

type Fields = Map<String, Value>;

/// What differs between two states of a model, each part a few words. What was not known before is told as new.
pub(super) fn differences(before: Option<&Fields>, after: &Fields) -> Vec<String> {
    let old = |key: &str| before.and_then(|before| before.get(key)).unwrap_or(&Value::Null);
    let mut parts = Vec::new();
    for (key, new) in after.iter().filter(|(key, new)| old(key) != *new) {
        let old = old(key);
        match key.as_str() {
            // The line has its own time; an etag and the kind of a verdict say nothing that nothing else says.
            "id" | "etag" | "verdict_kind" | "modify_time" | "read_time" | "discover_time" => {}
            "name" if old.is_null() => {}
            "name" => parts.push(format!("renamed to {}", word(new))),
            "path" if old.is_null() => parts.push(format!("is at {}", word(new))),
            "path" => parts.push(format!("moved from {} to {}", word(old), word(new))),
            "bytes" => parts.push(from_to("size", &bytes(old), &bytes(new))),
            "validate_time" if !new.is_null() => parts.push("every byte was looked at".to_owned()),
            "notes" => parts.extend(notes(old, new, after)),
            "components" => parts.extend(components(old, new)),
            "findings" => parts.extend(findings(old, new)),
            "dtypes" => parts.push("dtypes changed".to_owned()),
            "candidates" => parts.push(match words_of(new).as_slice() {
                [] => "its base is certain".to_owned(),
                bases => format!("its base may be {}", bases.join(", ")),
            }),
            _ => parts.push(from_to(key, &word(old), &word(new))),
        }
    }
    parts
}

fn from_to(what: &str, old: &str, new: &str) -> String {
    match (old, new) {
        (_, "") => format!("{what} unset"),
        ("", _) => format!("{what} {new}"),
        _ => format!("{what} {old} -> {new}"),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bytes(value: &Value) -> String {
    value.as_u64().map(|bytes| Bytes(bytes).to_string()).unwrap_or_default()
}

fn words_of(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What came with a plus, what went with a minus: `+portrait -old`.
fn plus_and_minus(what: &str, old: &Value, new: &Value) -> Option<String> {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
        (words_of(old).into_iter().collect(), words_of(new).into_iter().collect());
    let signed = |sign: char, some: &BTreeSet<&str>, others: &BTreeSet<&str>| -> Vec<String> {
        some.difference(others).map(|word| format!("{sign}{word}")).collect()
    };
    let parts = [signed('+', &new, &old), signed('-', &old, &new)].concat();
    (!parts.is_empty()).then(|| format!("{what} {}", parts.join(" ")))
}

fn notes(old: &Value, new: &Value, model: &Fields) -> Vec<String> {
    let empty = Map::new();
    let of = |notes: &Value, key: &str| notes.get(key).cloned().unwrap_or_default();
    let mut parts = Vec::new();
    for (key, new) in new.as_object().unwrap_or(&empty) {
        let (old, text) = (of(old, key), word(new));
        if old == *new || old.is_null() && is_empty(new) {
            continue;
        }
        match key.as_str() {
            "tags" | "aliases" => parts.extend(plus_and_minus(key, &old, new)),
            // What follows from these is told as the name, type and base.
            "display_name" => {}
            "type_override" | "base_override" => {
                let what = key.trim_end_matches("_override");
                let now = model.get(what).map(word).unwrap_or_default();
                let by = if text.is_empty() { "as its files say" } else { "set by hand" };
                parts.push(format!("{what} {by}: {now}"));
            }
            "config" => {
                let device = (word(&of(&old, "default_device")), word(&of(new, "default_device")));
                if device.0 != device.1 {
                    parts.push(from_to("device", &device.0, &device.1));
                }
                match (of(&old, "trusted") == true, of(new, "trusted") == true) {
                    (false, true) => parts.push("its code is trusted".to_owned()),
                    (true, false) => parts.push("its code is not trusted any more".to_owned()),
                    _ => {}
                }
                parts.extend(cache_config(&of, &old, new));
            }
            _ if text.is_empty() => parts.push(format!("{key} cleared")),
            _ => parts.push(format!("{key} \"{}\"", shown(&text))),
        }
    }
    parts
}

/// What people have said of how it is kept in RAM.
fn cache_config(of: &dyn Fn(&Value, &str) -> Value, old: &Value, new: &Value) -> Vec<String> {
    let mut parts = Vec::new();
    let pinned = |config: &Value| {
        let components = words_of(&of(config, "pinned_components")).join(", ");
        match (of(config, "pinned") == true, components.is_empty()) {
            (false, _) => String::new(),
            (true, true) => "pinned in RAM".to_owned(),
            (true, false) => format!("{components} pinned in RAM"),
        }
    };
    match (pinned(old), pinned(new)) {
        (before, after) if before == after => {}
        (_, after) if after.is_empty() => parts.push("not pinned any more".to_owned()),
        (_, after) => parts.push(after),
    }
    for (key, what, unit) in
        [("cache_priority", "cache priority", ""), ("cache_idle_ttl_seconds", "idle time in RAM", " s")]
    {
        let (before, after) = (word(&of(old, key)), word(&of(new, key)));
        if before != after {
            let shown = |text: &str| if text.is_empty() { String::new() } else { format!("{text}{unit}") };
            parts.push(from_to(what, &shown(&before), &shown(&after)));
        }
    }
    parts
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn shown(text: &str) -> String {
    text::shortened(&text.replace('\n', " "), NOTE_CHARS)
}

/// By name: which came, which went, of which the digest is known now, and whether others changed.
fn components(old: &Value, new: &Value) -> Vec<String> {
    let by_name = |list: &Value| -> BTreeMap<String, Fields> {
        let all = list.as_array().into_iter().flatten().filter_map(Value::as_object);
        all.map(|it| (it.get("name").map(word).unwrap_or_default(), it.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names = |some: &BTreeMap<String, Fields>| Value::from(some.keys().cloned().collect::<Vec<_>>());
    let mut parts: Vec<String> =
        plus_and_minus("components", &names(&old), &names(&new)).into_iter().collect();
    let (mut read, mut others) = (Vec::new(), Vec::new());
    for (name, is) in &new {
        let Some(was) = old.get(name).filter(|was| *was != is) else { continue };
        let without =
            |it: &Fields| it.iter().filter(|(key, _)| *key != "digest").map(|(_, it)| it.clone()).collect();
        let (was_else, is_else): (Vec<Value>, Vec<Value>) = (without(was), without(is));
        if was_else == is_else { read.push(name.as_str()) } else { others.push(name.as_str()) }
    }
    if !read.is_empty() {
        parts.push(format!("digest of {}", read.join(", ")));
    }
    if !others.is_empty() {
        parts.push(format!("{} changed", others.join(", ")));
    }
    parts
}

/// The first that is new in its own words: it is why the verdict is another.
fn findings(old: &Value, new: &Value) -> Vec<String> {
    let messages = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|it| it.get("message")).map(word).collect()
    };
    let (old, new) = (messages(old), messages(new));
    let came: Vec<&String> = new.iter().filter(|message| !old.contains(message)).collect();
    let gone = old.iter().filter(|message| !new.contains(message)).count();
    match (came.as_slice(), gone) {
        ([], 0) => Vec::new(),
        ([], gone) => vec![format!("{} gone", plural(u64::try_from(gone).unwrap_or(u64::MAX), "finding"))],
        ([one], _) => vec![(*one).clone()],
        ([first, more @ ..], _) => vec![format!("{first} (and {} more)", more.len())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(before: &Value, after: &Value) -> Vec<String> {
        differences(before.as_object(), after.as_object().unwrap())
    }

    fn notes_of(notes: &Value) -> Value {
        json!({ "type": "lora", "base": "sdxl", "notes": notes })
    }

    #[test]
    fn notes_are_told_one_by_one() {
        let before = notes_of(&json!({
            "tags": ["a", "old"], "aliases": [], "description": "", "licence": "mit", "type_override": "",
            "config": { "default_device": "", "trusted": false },
        }));
        for (change, expected) in [
            (json!({ "tags": ["a", "new"] }), &["tags +new -old"][..]),
            (json!({ "description": "for\nthe studio" }), &["description \"for the studio\""]),
            (json!({ "licence": "" }), &["licence cleared"]),
            (json!({ "type_override": "lora" }), &["type set by hand: lora"]),
            (
                json!({ "config": { "default_device": "cuda:0", "trusted": true } }),
                &["device cuda:0", "its code is trusted"],
            ),
            (
                json!({ "config": {
                    "default_device": "", "trusted": false, "pinned": true, "pinned_components": ["vae"],
                    "cache_priority": "high", "cache_idle_ttl_seconds": 60.0,
                } }),
                &["vae pinned in RAM", "cache priority high", "idle time in RAM 60.0 s"],
            ),
            (json!({ "display_name": "x" }), &[]),
        ] {
            let mut after = before.clone();
            after["notes"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(told(&before, &after), expected, "{change}");
        }
        let first = notes_of(&json!({ "tags": ["a"], "aliases": [], "licence": "" }));
        assert_eq!(told(&notes_of(&Value::Null), &first), ["tags +a"]);
    }

    #[test]
    fn files_and_what_they_say_are_told_as_people_would() {
        let component = |name: &str, digest: &Value, bytes: u64| json!({ "name": name, "digest": digest, "bytes": bytes });
        for (before, after, expected) in [
            (json!({ "path": "/m/a" }), json!({ "path": "/m/b" }), &["moved from /m/a to /m/b"][..]),
            (json!({ "name": "a" }), json!({ "name": "b" }), &["renamed to b"]),
            (json!({ "bytes": 1024 }), json!({ "bytes": 2048 }), &["size 1.0 KiB -> 2.0 KiB"]),
            (json!({ "etag": "1", "read_time": "x" }), json!({ "etag": "2", "read_time": "y" }), &[]),
            (
                json!({ "validate_time": null }),
                json!({ "validate_time": "x" }),
                &["every byte was looked at"],
            ),
            (
                json!({ "verdict": "ok", "verdict_kind": null, "findings": [] }),
                json!({ "verdict": "corrupt", "verdict_kind": "data", "findings": [{ "message": "cut" }] }),
                &["cut", "verdict ok -> corrupt"],
            ),
            (
                json!({ "components": [component("vae", &Value::Null, 1), component("unet", &Value::Null, 1)] }),
                json!({ "components": [component("vae", &json!("ab"), 1), component("rest", &Value::Null, 1)] }),
                &["components +rest -unet", "digest of vae"],
            ),
            (
                json!({ "components": [component("vae", &json!("ab"), 1)] }),
                json!({ "components": [component("vae", &json!("cd"), 2)] }),
                &["vae changed"],
            ),
        ] {
            assert_eq!(told(&before, &after), expected, "{after}");
        }
    }

    #[test]
    fn what_was_not_known_before_is_told_as_new() {
        let after = notes_of(&json!({ "tags": ["a"] }));
        assert_eq!(differences(None, after.as_object().unwrap()), ["base sdxl", "tags +a", "type lora"]);
    }
}
