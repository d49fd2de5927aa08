//! Reads settings one by one, collecting what is wrong, and says at the end where each value came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::error::{ConfigError, ConfigErrors};
use super::file::{self, FileSetting};
use super::nearest::nearest;
use super::sources::{ENV_PREFIX, FlagValue, Sources};
use super::value::{HIDDEN_PROBLEM, SettingValue, quoted};
use crate::redact::REDACTED;

/// The layer that a value came from, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// One setting as it is in force. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: &'static str,
    /// As it would be written in the file.
    pub value: String,
    pub default: String,
    pub origin: Origin,
    /// `hoist.toml:12`, `HOIST_STATE_DIR` or `--state-dir`; for a default, `default`.
    pub origin_detail: String,
    pub description: &'static str,
}

/// Collects settings and errors. Every key is read once.
pub struct Reader {
    /// How errors name the file.
    file_name: String,
    file: BTreeMap<String, FileSetting>,
    environment: BTreeMap<String, String>,
    flags: Vec<FlagValue>,
    /// `HOIST_` variables that are not settings and not mistakes.
    other_env: BTreeSet<String>,
    /// In the order in which they were read.
    entries: Vec<Entry>,
    /// Keys with an unreadable value: their default stands in, so a check of it would mislead.
    failed: BTreeSet<&'static str>,
    errors: ConfigErrors,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Plain,
    Redacted,
}

/// What one layer says about one key, before its type is known to fit.
struct Layer<T> {
    origin: Origin,
    place: String,
    value: Result<T, String>,
}

impl Reader {
    /// `other_env` names the `HOIST_` variables that something else reads, for which no warning is due.
    #[must_use]
    pub fn new(sources: Sources, other_env: &[&str]) -> Self {
        let mut errors = ConfigErrors::default();
        let (file_name, file) = match sources.file {
            Some(found) => {
                let name = found.path.display().to_string();
                let (settings, syntax_errors) = file::parse(&found.text);
                for error in syntax_errors {
                    let place = format!("{name}:{}", error.line);
                    errors.push(ConfigError { place, key: None, problem: error.problem, accepted: None });
                }
                (name, settings)
            }
            None => (String::new(), BTreeMap::new()),
        };
        Self {
            file_name,
            file,
            environment: sources.environment,
            flags: sources.flags,
            other_env: other_env.iter().map(|name| (*name).to_owned()).collect(),
            entries: Vec::new(),
            failed: BTreeSet::new(),
            errors,
        }
    }

    /// The value of the strongest layer that sets the key, else `default`. A value that cannot be read, in whichever
    /// layer, becomes an error, and `default` is returned to go on with.
    pub fn read<T: SettingValue>(&mut self, key: &'static str, default: T, description: &'static str) -> T {
        self.read_as(key, default, description, Shown::Plain)
    }

    /// The same, but neither the entry nor an error shows the value. Read it as a `Secret<T>` to keep it so.
    pub fn read_secret<T: SettingValue>(
        &mut self,
        key: &'static str,
        default: T,
        description: &'static str,
    ) -> T {
        self.read_as(key, default, description, Shown::Redacted)
    }

    fn read_as<T: SettingValue>(
        &mut self,
        key: &'static str,
        default: T,
        description: &'static str,
        shown: Shown,
    ) -> T {
        debug_assert!(!self.is_known(key), "setting {key} is read twice");
        debug_assert!(!self.known_env().any(|name| name == env_name(key)), "{} is ambiguous", env_name(key));
        let text = |value: &T| match shown {
            Shown::Plain => value.to_toml(),
            Shown::Redacted => quoted(REDACTED),
        };
        let default_text = text(&default);
        let mut strongest = None;
        for layer in self.layers::<T>(key) {
            match layer.value {
                Ok(value) => strongest = Some((value, layer.origin, layer.place)),
                Err(problem) => {
                    let problem = if shown == Shown::Plain { problem } else { HIDDEN_PROBLEM.to_owned() };
                    let key_text = Some(key.to_owned());
                    let accepted = Some(T::accepted());
                    self.errors.push(ConfigError { place: layer.place, key: key_text, problem, accepted });
                    self.failed.insert(key);
                }
            }
        }
        let set = strongest.filter(|_| !self.failed.contains(key));
        let (value, origin, origin_detail) = set.unwrap_or((default, Origin::Default, "default".to_owned()));
        let value_text = text(&value);
        self.entries.push(Entry {
            key,
            value: value_text,
            default: default_text,
            origin,
            origin_detail,
            description,
        });
        value
    }

    /// The layers that set the key, the weakest first.
    fn layers<T: SettingValue>(&self, key: &str) -> Vec<Layer<T>> {
        let mut layers = Vec::new();
        if let Some(setting) = self.file.get(key) {
            let place = format!("{}:{}", self.file_name, setting.line);
            layers.push(Layer { origin: Origin::File, place, value: T::from_file(&setting.value) });
        }
        let name = env_name(key);
        if let Some(text) = self.environment.get(&name) {
            layers.push(Layer { origin: Origin::Environment, place: name, value: T::from_text(text) });
        }
        for flag in self.flags.iter().filter(|flag| flag.key == key) {
            let value = T::from_text(&flag.value);
            layers.push(Layer { origin: Origin::Flag, place: flag.flag.to_owned(), value });
        }
        layers
    }

    /// Demands something of a value that was read: adds an error about `key` unless `holds`. A key whose value could
    /// not be read has its error already.
    pub fn check(&mut self, key: &'static str, holds: bool, message: impl Into<String>) {
        if holds || self.failed.contains(key) {
            return;
        }
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let place = entry.map_or("default", |entry| &entry.origin_detail).to_owned();
        let key = Some(key.to_owned());
        self.errors.push(ConfigError { place, key, problem: message.into(), accepted: None });
    }

    /// One line for each `HOIST_` variable that no setting has asked for. Call it when all settings are read. Only a
    /// warning, because an environment is shared and a variable may be meant for another version.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let known: BTreeSet<String> = self.known_env().collect();
        let is_unknown = |name: &&String| {
            name.starts_with(ENV_PREFIX) && !known.contains(*name) && !self.other_env.contains(*name)
        };
        let unknown = self.environment.keys().filter(is_unknown);
        let warn = |name: &String| {
            let hint = did_you_mean(nearest(name, known.iter().map(String::as_str)));
            format!("{name}: no such setting{hint}")
        };
        unknown.map(warn).collect()
    }

    /// Every setting that was read, in that order.
    ///
    /// # Errors
    /// Everything that is wrong, keys that nobody asked for included.
    pub fn finish(mut self) -> Result<Vec<Entry>, ConfigErrors> {
        let mut unknown: Vec<(&String, &FileSetting)> =
            self.file.iter().filter(|(key, setting)| !self.is_expected(key, setting)).collect();
        unknown.sort_by_key(|(_, setting)| setting.line);
        let mut errors = std::mem::take(&mut self.errors);
        for (key, setting) in unknown {
            let place = format!("{}:{}", self.file_name, setting.line);
            let problem = if self.is_table(key) {
                "is a table of settings, not a setting".to_owned()
            } else {
                // Looking for the nearest is slow enough to matter for a hundred thousand keys.
                let meant = if errors.is_full() { None } else { nearest(key, self.known_keys()) };
                format!("no such setting{}", did_you_mean(meant))
            };
            errors.push(ConfigError { place, key: Some(key.clone()), problem, accepted: None });
        }
        for flag in self.flags.iter().filter(|flag| !self.is_known(flag.key)) {
            let problem = "no such setting".to_owned();
            errors.push(ConfigError {
                place: flag.flag.to_owned(),
                key: Some(flag.key.to_owned()),
                problem,
                accepted: None,
            });
        }
        if errors.is_empty() { Ok(self.entries) } else { Err(errors) }
    }

    fn known_keys(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().map(|entry| entry.key)
    }

    fn known_env(&self) -> impl Iterator<Item = String> {
        self.known_keys().map(env_name)
    }

    fn is_known(&self, key: &str) -> bool {
        self.known_keys().any(|known| known == key)
    }

    /// Whether settings were read whose keys begin with this one.
    fn is_table(&self, key: &str) -> bool {
        self.known_keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    fn is_expected(&self, key: &str, setting: &FileSetting) -> bool {
        self.is_known(key) || (setting.is_empty_table && self.is_table(key))
    }
}

/// Shows no values: some are secrets.
impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("entries", &self.entries)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

/// `watch.history_events` is `HOIST_WATCH_HISTORY_EVENTS`.
fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

#[cfg(test)]
mod tests;
