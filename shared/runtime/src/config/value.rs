//! How a setting's value is read from text and from TOML, and written back.
//!
//! The reader calls these; each type says what it accepts, so that an error can tell. Text comes from the environment
//! and from flags. A TOML value must have the type that fits: a number in quotes is a mistake, not a number.

use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::Bytes;

use super::duration::{format_duration, parse_duration};
use crate::redact::{REDACTED, Secret};
use crate::telemetry::LogFormat;

/// A value as the file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileValue {
    Text(String),
    /// TOML promises 64 bits; a wider one is kept to be named in the error.
    Integer(i128),
    Bool(bool),
    List(Vec<FileValue>),
    /// A type that no setting has; the text says which, for the error.
    Other(String),
}

impl FileValue {
    fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("the string {}", shown(text)),
            Self::Integer(number) => format!("the integer {number}"),
            Self::Bool(value) => value.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Other(what) => what.clone(),
        }
    }

    fn mismatch(&self) -> String {
        format!("found {}", self.describe())
    }
}

/// A type that a setting can have. Errors are what is wrong, without place, key or what is accepted.
pub trait SettingValue: Sized {
    /// What can be written, to end the sentence "accepted: ...".
    fn accepted() -> String;

    /// # Errors
    /// What is wrong with the text.
    fn from_text(text: &str) -> Result<Self, String>;

    /// # Errors
    /// What is wrong with the value.
    fn from_file(value: &FileValue) -> Result<Self, String> {
        match value {
            FileValue::Text(text) => Self::from_text(text),
            other => Err(other.mismatch()),
        }
    }

    /// The value as it would be written in the file.
    fn to_toml(&self) -> String;
}

macro_rules! whole_number {
    ($type:ty) => {
        impl SettingValue for $type {
            fn accepted() -> String {
                format!("a whole number from 0 to {}", Self::MAX)
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let digits = text.trim();
                let number = if digits.starts_with('+') { None } else { digits.parse().ok() };
                number.ok_or_else(|| format!("{} is not such a number", shown(text)))
            }

            fn from_file(value: &FileValue) -> Result<Self, String> {
                match value {
                    FileValue::Integer(number) => {
                        Self::try_from(*number).map_err(|_| format!("{number} is out of range"))
                    }
                    other => Err(other.mismatch()),
                }
            }

            fn to_toml(&self) -> String {
                self.to_string()
            }
        }
    };
}

whole_number!(u64);
whole_number!(u32);

impl SettingValue for bool {
    fn accepted() -> String {
        "true or false".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| format!("{} is neither", shown(text)))
    }

    fn from_file(value: &FileValue) -> Result<Self, String> {
        match value {
            FileValue::Bool(value) => Ok(*value),
            other => Err(other.mismatch()),
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for String {
    fn accepted() -> String {
        "a string".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl SettingValue for PathBuf {
    fn accepted() -> String {
        "a path".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("the path holds a NUL".to_owned());
        }
        Ok(Self::from(text))
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl SettingValue for Bytes {
    fn accepted() -> String {
        "a size, for instance 512MiB, 8GiB or a whole number of bytes".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{} is not a size", shown(text)))
    }

    fn from_file(value: &FileValue) -> Result<Self, String> {
        match value {
            FileValue::Integer(bytes) => {
                u64::try_from(*bytes).map(Bytes).map_err(|_| format!("{bytes} is out of range"))
            }
            FileValue::Text(text) => Self::from_text(text),
            other => Err(other.mismatch()),
        }
    }

    /// Exact, unlike the size's own text: the largest unit that divides it.
    fn to_toml(&self) -> String {
        for (unit, bytes) in [("TiB", 1 << 40), ("GiB", Self::GIB), ("MiB", Self::MIB), ("KiB", Self::KIB)] {
            if self.0 > 0 && self.0.is_multiple_of(bytes) {
                return format!("\"{}{unit}\"", self.0 / bytes);
            }
        }
        self.0.to_string()
    }
}

impl SettingValue for Duration {
    fn accepted() -> String {
        "a whole number and a unit, for instance \"250ms\", \"10s\", \"5m\" or \"24h\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        parse_duration(text).map_err(|_| format!("{} is not a duration", shown(text)))
    }

    fn to_toml(&self) -> String {
        quoted(&format_duration(*self))
    }
}

impl SettingValue for LogFormat {
    fn accepted() -> String {
        "\"human\" or \"json\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        [Self::Human, Self::Json]
            .into_iter()
            .find(|format| format.as_str() == text.trim())
            .ok_or_else(|| format!("{} is not a log format", shown(text)))
    }

    fn to_toml(&self) -> String {
        quoted(self.as_str())
    }
}

/// Items in text are separated by commas; a comma within one is written `\,`.
impl SettingValue for Vec<String> {
    fn accepted() -> String {
        "a list of strings, in the file [\"a\", \"b\"] and elsewhere a,b".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::new());
        }
        let items = split(text).into_iter().map(|item| match item.trim() {
            "" => Err(format!("an item of {} is empty", shown(text))),
            item => Ok(item.to_owned()),
        });
        items.collect()
    }

    fn from_file(value: &FileValue) -> Result<Self, String> {
        let FileValue::List(items) = value else { return Err(value.mismatch()) };
        let items = items.iter().map(|item| match item {
            FileValue::Text(text) => Ok(text.clone()),
            other => Err(format!("found {} in the list", other.describe())),
        });
        items.collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// The items between commas; a backslash keeps a comma, and nothing else, from ending one.
fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_kept = c == '\\' && chars.next_if_eq(&',').is_some();
        match items.last_mut() {
            Some(item) if is_kept => item.push(','),
            Some(item) if c != ',' => item.push(c),
            _ => items.push(String::new()),
        }
    }
    items
}

/// Items as one text, which reads back as these.
#[must_use]
pub fn list_text<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| item.replace(',', "\\,")).collect::<Vec<_>>().join(",")
}

/// Empty text is "not set": TOML has no null, and a higher layer must be able to undo a lower one.
impl<T: SettingValue> SettingValue for Option<T> {
    fn accepted() -> String {
        format!("{}, or \"\" for none", T::accepted())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::from_text(text).map(Some) }
    }

    fn from_file(value: &FileValue) -> Result<Self, String> {
        match value {
            FileValue::Text(text) if text.is_empty() => Ok(None),
            value => T::from_file(value).map(Some),
        }
    }

    fn to_toml(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), T::to_toml)
    }
}

impl<T: SettingValue> SettingValue for Secret<T> {
    fn accepted() -> String {
        T::accepted()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Self::new).map_err(|_| HIDDEN_PROBLEM.to_owned())
    }

    fn from_file(value: &FileValue) -> Result<Self, String> {
        T::from_file(value).map(Self::new).map_err(|_| HIDDEN_PROBLEM.to_owned())
    }

    fn to_toml(&self) -> String {
        quoted(REDACTED)
    }
}

/// What is wrong with a secret, without repeating it.
pub(super) const HIDDEN_PROBLEM: &str = "the value cannot be read (it is not shown)";

/// The text in quotes, on one line, cut to what a terminal shows.
fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut cut: String = text.chars().take(MAX_CHARS).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    quoted(&cut)
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;
    use crate::config::file::parse;

    /// What is printed for the file is what the file says.
    fn survives<T: SettingValue + PartialEq + Debug>(value: T) {
        let (settings, errors) = parse(&format!("key = {}", value.to_toml()));
        assert!(errors.is_empty(), "{errors:?} in {}", value.to_toml());
        assert_eq!(T::from_file(&settings["key"].value), Ok(value));
    }

    proptest! {
        #[test]
        fn every_value_survives_the_file(
            number: u64, flag: bool, text: String, items: Vec<String>, seconds: u32, shift in 0..64_u32,
        ) {
            survives(number);
            survives(Bytes(number));
            survives(Bytes(1 << shift));
            survives(flag);
            survives(Duration::from_secs(seconds.into()));
            survives(items);
            survives((!text.is_empty()).then(|| text.clone()));
            survives(text);
        }
    }

    #[test]
    fn items_with_commas_read_back() {
        let items = ["/a,b", "c\\d", "e"];
        let text = list_text(items);
        assert_eq!(Vec::<String>::from_text(&text).unwrap(), items);
        assert!(Vec::<String>::from_text("a,,b").is_err());
    }

    #[test]
    fn a_type_that_does_not_fit_is_named() {
        let text = FileValue::Text("5".into());
        assert_eq!(u64::from_file(&text), Err("found the string \"5\"".into()));
        assert_eq!(bool::from_file(&FileValue::Integer(1)), Err("found the integer 1".into()));
        assert_eq!(Duration::from_file(&FileValue::Integer(10)), Err("found the integer 10".into()));
        assert_eq!(String::from_file(&FileValue::Bool(true)), Err("found true".into()));
        assert_eq!(Bytes::from_file(&FileValue::Other("a float".into())), Err("found a float".into()));
        assert_eq!(Vec::<String>::from_file(&text), Err("found the string \"5\"".into()));
        let mixed = FileValue::List(vec![text, FileValue::Integer(1)]);
        assert_eq!(Vec::<String>::from_file(&mixed), Err("found the integer 1 in the list".into()));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(u32::from_file(&FileValue::Integer(1 << 32)), Err("4294967296 is out of range".into()));
        assert_eq!(u64::from_file(&FileValue::Integer(-1)), Err("-1 is out of range".into()));
        assert_eq!(u64::from_file(&FileValue::Integer(u64::MAX.into())), Ok(u64::MAX));
        for text in ["", "-1", "+1", "1.0", "0x10", "18446744073709551616"] {
            assert!(u64::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn text_means_what_it_says() {
        assert_eq!(Vec::<String>::from_text(" a, b ,c"), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(Vec::<String>::from_text(""), Ok(vec![]));
        assert!(Vec::<String>::from_text("a,,b").is_err());
        assert_eq!(Option::<u64>::from_text(""), Ok(None));
        assert_eq!(Option::<u64>::from_text("7"), Ok(Some(7)));
        assert!(PathBuf::from_text("").is_err());
        assert_eq!(LogFormat::from_text("json"), Ok(LogFormat::Json));
        assert!(LogFormat::from_text("xml").is_err());
        let long = u64::from_text(&"x\n".repeat(10_000)).unwrap_err();
        assert!(long.len() < 200 && !long.contains('\n'), "{long}");
    }
}
