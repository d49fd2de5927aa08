//! What a watch prints: events as JSON lines, or for people one line a change, which needs the state before it.

use std::collections::BTreeMap;

use hoist_runtime::Clock;
use hoist_wire::v1;
use hoist_wire::v1::change::Kind as ChangeKind;
use hoist_wire::v1::watch_response::Event;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::cache::short_segment;
use crate::output::json::{changed, position, progress, resource, set};
use crate::output::progress::in_words;
use crate::output::results::plural;
use crate::output::{Out, Tone, text};
use crate::verbs::watch::seen::{Names, called};
use crate::verbs::watch::{cache, devices, model};

/// A snapshot as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    resources: Vec<Value>,
    complete: bool,
}

impl Snapshot {
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }
}

#[derive(Debug)]
pub(super) struct Show {
    out: Out,
    clock: Clock,
    /// Operations that had ended before the first snapshot are shown, too.
    history: bool,
    /// For people only: each resource as it was last shown, to say what a change replaced.
    known: BTreeMap<String, Value>,
}

impl Show {
    pub(super) const fn new(out: Out, clock: Clock, history: bool) -> Self {
        Self { out, clock, history, known: BTreeMap::new() }
    }

    /// Prints a message; returns the position that has now been seen, if the message carries one.
    pub(super) fn message(
        &mut self,
        message: v1::WatchResponse,
        snapshot: &mut Snapshot,
        seen: Option<&v1::Position>,
    ) -> Result<Option<v1::Position>> {
        match message.event {
            Some(Event::Snapshot(chunk)) => {
                snapshot.resources.extend(chunk.resources.iter().map(resource));
                Ok(None)
            }
            Some(Event::SnapshotEnd(end)) => {
                snapshot.complete = true;
                self.snapshot(std::mem::take(&mut snapshot.resources), end.position.as_ref())?;
                Ok(end.position)
            }
            Some(Event::Delta(delta)) => {
                self.delta(&delta)?;
                Ok(delta.position)
            }
            Some(Event::Mark(mark)) => {
                if self.out.json {
                    self.out
                        .event(&json!({ "event": "mark", "position": position(mark.position.as_ref()) }))?;
                }
                Ok(mark.position)
            }
            Some(Event::Progress(sample)) => self.progress(&sample, seen).map(|()| None),
            // Newer than this client: it carries no position that could be lost.
            None => Ok(None),
        }
    }

    fn snapshot(&mut self, resources: Vec<Value>, at: Option<&v1::Position>) -> Result<()> {
        if self.out.json {
            return self.out.event(&json!({
                "event": "snapshot", "position": position(at), "resources": resources,
            }));
        }
        let now: BTreeMap<String, Value> =
            resources.into_iter().map(|it| (name_of(&it).to_owned(), it)).collect();
        let is_first = self.known.is_empty();
        let mut ended: u64 = 0;
        // After a gap this tells what happened in it; at the start, everything that there is.
        for name in self.known.keys().filter(|name| !now.contains_key(*name)) {
            self.tell(name, Tone::Dim, "removed")?;
        }
        for (name, it) in &now {
            match self.known.get(name) {
                None if is_first && !self.history && has_ended(it) => ended = ended.saturating_add(1),
                None => self.tell(name, Tone::Plain, &summary(it, &now))?,
                Some(before) => {
                    let difference = difference(before, it, &now);
                    if !difference.is_empty() {
                        self.tell(name, Tone::Plain, &difference)?;
                    }
                }
            }
        }
        if ended > 0 {
            let what = plural(ended, "operation");
            self.out.note(format_args!("{what} that had ended not shown: --history shows them"));
        }
        self.known = now;
        Ok(())
    }

    fn delta(&mut self, delta: &v1::Delta) -> Result<()> {
        let mut more = delta.changes.len();
        for change in &delta.changes {
            more = more.saturating_sub(1);
            let is_removal = change.kind() == ChangeKind::Removed;
            let paths = change.mask.as_ref().map(|mask| mask.paths.clone()).unwrap_or_default();
            let partial = change.resource.as_ref().map(resource);
            if self.out.json {
                let mut event = json!({
                    "event": text::change_kind(change.kind),
                    "position": position(delta.position.as_ref()),
                    "more": more,
                    "name": change.name,
                });
                if let Some(partial) = &partial {
                    let is_whole = paths.is_empty();
                    let shown = if is_whole { partial.clone() } else { changed(partial, &paths) };
                    set(&mut event, "resource", shown);
                    if !is_whole {
                        set(&mut event, "changed", paths.into());
                    }
                }
                self.out.event(&event)?;
            } else if is_removal {
                self.known.remove(&change.name);
                self.tell(&change.name, Tone::Dim, "removed")?;
            } else if let Some(partial) = partial {
                self.changed_for_people(change, partial, &paths)?;
            }
        }
        Ok(())
    }

    fn changed_for_people(&mut self, change: &v1::Change, partial: Value, paths: &[String]) -> Result<()> {
        let before = self.known.get(&change.name);
        let after = match before {
            Some(before) if change.kind() == ChangeKind::Modified => {
                merged(before, &changed(&partial, paths))
            }
            // After --from the state before is not known: what changed is all there is to tell.
            None if change.kind() == ChangeKind::Modified => changed(&partial, paths),
            _ => partial,
        };
        let is_part = change.kind() == ChangeKind::Modified;
        let words = match before {
            Some(before) => difference(before, &after, &self.known),
            None if is_part && after.get("model").is_some() => of_model(None, &after),
            None if is_part => {
                let told = cache::difference(None, &after, &self.known)
                    .or_else(|| devices::difference(None, &after, &self.known));
                told.unwrap_or_else(|| summary(&after, &self.known))
            }
            None => summary(&after, &self.known),
        };
        let is_new = change.kind() == ChangeKind::Added && before.is_none();
        let words = if is_new { format!("added, {words}") } else { words };
        // Empty for what only people with scripts would miss, as a time.
        if !words.is_empty() {
            self.tell(&change.name, Tone::Plain, &words)?;
        }
        self.known.insert(change.name.clone(), after);
        Ok(())
    }

    fn progress(&self, sample: &v1::ProgressSample, seen: Option<&v1::Position>) -> Result<()> {
        if self.out.json {
            let operations = sample
                .operations
                .iter()
                .map(|it| json!({ "name": it.name, "progress": it.progress.as_ref().map(progress) }));
            return self.out.event(&json!({
                "event": "progress", "position": position(seen), "operations": operations.collect::<Value>(),
            }));
        }
        for it in &sample.operations {
            if let Some(far) = &it.progress {
                self.tell(&it.name, Tone::Dim, &in_words(far))?;
            }
        }
        Ok(())
    }

    fn tell(&self, name: &str, tone: Tone, words: &str) -> Result<()> {
        let time = self.out.toned(Tone::Dim, &text::time_of_day(self.clock.wall()));
        self.out.line(format_args!(
            "{time} {}  {}",
            text::plain(&short(name)),
            self.out.toned(tone, &text::plain(words))
        ))
    }
}

/// A segment by the start of its digest; everything else by its whole name.
fn short(name: &str) -> String {
    let start = name.strip_prefix("segments/").and_then(short_segment);
    start.map_or_else(|| name.to_owned(), |start| format!("segments/{start}"))
}

fn has_ended(resource: &Value) -> bool {
    let state = resource.get("operation").and_then(|it| it.get("state")).and_then(Value::as_str);
    matches!(state, Some("succeeded" | "failed" | "cancelled"))
}

fn name_of(resource: &Value) -> &str {
    resource.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The part of a resource that says what it is: its one object that is not the position.
fn body(resource: &Value) -> impl Iterator<Item = (&String, &Value)> {
    resource
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "position")
        .filter_map(|(_, value)| value.as_object())
        .flatten()
}

/// A resource with the changed parts replaced.
fn merged(before: &Value, change: &Value) -> Value {
    let mut after = before.clone();
    for (kind, part) in change.as_object().into_iter().flatten() {
        let fields = part.as_object().into_iter().flatten();
        match after.get_mut(kind) {
            Some(whole @ Value::Object(_)) => fields.for_each(|(key, value)| set(whole, key, value.clone())),
            _ => set(&mut after, kind, part.clone()),
        }
    }
    after
}

/// What is most worth knowing about a resource, in a few words.
fn summary(resource: &Value, names: &dyn Names) -> String {
    if let Some(words) = cache::summary(resource, names).or_else(|| devices::summary(resource, names)) {
        return words;
    }
    if let Some(name) = called(resource) {
        let body: BTreeMap<&String, &Value> = body(resource).collect();
        let parts =
            ["type", "base", "state", "verdict"].iter().filter_map(|key| body.get(&(*key).to_owned()));
        return format!("{name}: {}", parts.map(|value| words(value)).collect::<Vec<_>>().join(", "));
    }
    const TELLING: [&str; 7] = ["severity", "kind", "subject", "state", "message", "version", "error"];
    let body: BTreeMap<&String, &Value> = body(resource).collect();
    let parts = TELLING.iter().filter_map(|key| Some((*key, *body.get(&(*key).to_owned())?)));
    let told = |(key, value): (&str, &Value)| match value.as_str() {
        Some(model) if key == "subject" => names.model(model),
        _ => words(value),
    };
    let parts: Vec<String> = parts.filter(|(_, value)| !value.is_null()).map(told).collect();
    parts.join(", ")
}

/// What differs, as `state pending -> running`. Times are left out: the line has its own.
fn difference(before: &Value, after: &Value, names: &dyn Names) -> String {
    let told = cache::difference(Some(before), after, names);
    if let Some(words) = told.or_else(|| devices::difference(Some(before), after, names)) {
        return words;
    }
    if after.get("model").is_some() {
        return of_model(Some(before), after);
    }
    let old: BTreeMap<&String, &Value> = body(before).collect();
    let mut parts = Vec::new();
    for (key, new) in body(after) {
        let old = old.get(key).copied().unwrap_or(&Value::Null);
        if old == new || key.ends_with("_time") || ["name", "progress"].contains(&key.as_str()) {
            continue;
        }
        // That it was started once says no more than that it runs.
        if key == "attempts" && *new == 1 {
            continue;
        }
        parts.push(match (old.is_null() || old.is_array(), new.is_null()) {
            (_, true) => format!("{key} unset"),
            _ if *new == true => key.replace('_', " "),
            (true, false) => format!("{key} {}", words(new)),
            (false, false) => format!("{key} {} -> {}", words(old), words(new)),
        });
    }
    parts.join(", ")
}

/// What changed of a model, behind what it was called before. Empty where nothing is worth a line.
fn of_model(before: Option<&Value>, after: &Value) -> String {
    let fields = |resource: &'_ Value| resource.get("model").and_then(Value::as_object).cloned();
    let parts = model::differences(before.and_then(fields).as_ref(), &fields(after).unwrap_or_default());
    match before.and_then(called).or_else(|| called(after)) {
        Some(name) if !parts.is_empty() => format!("{name}: {}", parts.join(", ")),
        _ => parts.join(", "),
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => match map.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => value.to_string(),
        },
        Value::Array(items) => format!("({} now)", items.len()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_against_what_was_before() {
        let before = json!({
            "name": "operations/a", "position": { "epoch": 1, "revision": 2 },
            "operation": { "name": "operations/a", "state": "pending", "attempts": 0, "error": null },
        });
        let change = json!({ "operation": { "state": "failed", "error": { "message": "no room" } } });
        let after = merged(&before, &change);
        assert_eq!(after["operation"]["attempts"], 0);
        assert_eq!(difference(&before, &after, &str::to_owned), "error no room, state pending -> failed");
        assert_eq!(summary(&before, &str::to_owned), "pending");
        assert_eq!(difference(&after, &after, &str::to_owned), "");
    }

    #[test]
    fn an_operation_is_told_with_what_it_is_about_and_a_segment_by_its_start() {
        let it = json!({ "name": "operations/a", "operation": {
            "kind": "cache_model", "state": "succeeded", "subject": "models/x", "error": null,
        } });
        assert_eq!(
            summary(&it, &|name: &str| name.replace("models/", "the ")),
            "cache_model, the x, succeeded"
        );
        assert!(has_ended(&it) && !has_ended(&json!({ "operation": { "state": "running" } })));
        assert_eq!(short(&format!("segments/{}", "ab".repeat(32))), "segments/abababababab");
        let filling = "segments/0198c2f4-0000-7000-8000-00000000000a.3";
        assert_eq!(short(filling), filling);
    }

    #[test]
    fn a_model_is_told_by_what_people_call_it() {
        let before = json!({
            "name": "models/a", "position": { "epoch": 1, "revision": 2 },
            "model": { "id": "models/a", "name": "base", "type": "vae", "base": "sdxl", "state": "available",
                       "verdict": "ok", "etag": "1", "read_time": "x" },
        });
        assert_eq!(summary(&before, &str::to_owned), "base: vae, sdxl, available, ok");
        let after =
            merged(&before, &json!({ "model": { "verdict": "corrupt", "etag": "2", "name": "new" } }));
        assert_eq!(
            difference(&before, &after, &str::to_owned),
            "base: renamed to new, verdict ok -> corrupt"
        );
        assert_eq!(
            difference(&before, &merged(&before, &json!({ "model": { "read_time": "y" } })), &str::to_owned),
            ""
        );
    }
}
