//! What a filter compares a field with, and how.

use hoist_domain::WallTime;
use hoist_runtime::config::parse_duration;

use super::Operator;
use super::field::Held;
use super::text::Needle;

/// A value as it was written, read in every way that a field may want it.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Lower case.
    text: String,
    needle: Needle,
    /// `*` before, `*` after.
    open: (bool, bool),
    number: Option<f64>,
    time: Option<WallTime>,
}

/// What a number counts, and so what may follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `1.5GiB`, `300MB`.
    Bytes,
    /// `7B`, `350M`: as people write how large a model is.
    Count,
    Bare,
}

impl Unit {
    /// `2e9`, and with the unit.
    pub(super) fn number(self, text: &str) -> Option<f64> {
        let plain = |text: &str| text.trim_end().parse::<f64>().ok().filter(|number| number.is_finite());
        plain(text).or_else(|| match self {
            Self::Bytes => text.parse::<hoist_domain::Bytes>().ok().map(|bytes| bytes.0 as f64),
            Self::Count => {
                let (at, letter) = text.char_indices().next_back()?;
                let times = match letter.to_ascii_uppercase() {
                    'K' => 1e3,
                    'M' => 1e6,
                    'B' => 1e9,
                    'T' => 1e12,
                    _ => return None,
                };
                plain(text.get(..at)?).map(|number| number * times)
            }
            Self::Bare => None,
        })
    }

    /// Whether this word can be what follows a number, of whatever sort.
    pub(super) fn is_one(word: &str) -> bool {
        let one = format!("1{word}");
        word.starts_with(char::is_alphabetic)
            && (Self::Bytes.number(&one).is_some() || Self::Count.number(&one).is_some())
    }
}

/// `2026-11-01`, `2026-11-01T12:00:00Z`, `now`, `now-7d`.
fn time(text: &str, now: WallTime) -> Option<WallTime> {
    let Some(after) = text.strip_prefix("now") else { return WallTime::parse(text) };
    if after.is_empty() {
        return Some(now);
    }
    let ago = parse_duration(after.strip_prefix('-')?).ok()?;
    Some(WallTime(now.0.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))))
}

impl Value {
    /// `is_open`: a `*` at an end stands for anything.
    pub(super) fn new(text: &str, is_open: bool, unit: Unit, now: WallTime) -> Self {
        let (rest, before) = match text.strip_prefix('*') {
            Some(rest) if is_open => (rest, true),
            _ => (text, false),
        };
        let (rest, after) = match rest.strip_suffix('*') {
            Some(rest) if is_open => (rest, true),
            _ => (rest, false),
        };
        Self {
            text: rest.to_lowercase(),
            needle: Needle::new(rest),
            open: (before, after),
            number: unit.number(text),
            time: time(text, now),
        }
    }

    pub(super) const fn is_number(&self) -> bool {
        self.number.is_some()
    }

    pub(super) const fn is_time(&self) -> bool {
        self.time.is_some()
    }

    /// `*` alone.
    pub(super) const fn is_anything(&self) -> bool {
        self.text.is_empty() && self.open.0
    }

    pub(super) fn compares(&self, held: &Held<'_>, operator: Operator) -> bool {
        match held {
            Held::Number(number) => {
                let Some(wanted) = self.number else { return false };
                match operator {
                    Operator::Equal | Operator::Has => (number - wanted).abs() < f64::EPSILON,
                    Operator::NotEqual => (number - wanted).abs() >= f64::EPSILON,
                    Operator::Less => *number < wanted,
                    Operator::LessEqual => *number <= wanted,
                    Operator::Greater => *number > wanted,
                    Operator::GreaterEqual => *number >= wanted,
                }
            }
            Held::Text(text) => match operator {
                Operator::NotEqual => !self.is(text),
                // `:` on text is "contains"; `:*` is "is set".
                Operator::Has if self.text.is_empty() => !text.is_empty(),
                Operator::Has => self.needle.is_in(text),
                _ => self.is(text),
            },
            Held::Texts(texts) => {
                let any = texts.iter().any(|text| self.is(text));
                match operator {
                    Operator::NotEqual => !any,
                    Operator::Has if self.is_anything() => !texts.is_empty(),
                    _ => any,
                }
            }
            // What has no time is neither before nor after one.
            Held::Time(None) => operator == Operator::NotEqual,
            Held::Time(Some(time)) => match (operator, self.time) {
                (_, None) => self.is_anything(),
                (Operator::Equal | Operator::Has, Some(wanted)) => *time == wanted,
                (Operator::NotEqual, Some(wanted)) => *time != wanted,
                (Operator::Less, Some(wanted)) => *time < wanted,
                (Operator::LessEqual, Some(wanted)) => *time <= wanted,
                (Operator::Greater, Some(wanted)) => *time > wanted,
                (Operator::GreaterEqual, Some(wanted)) => *time >= wanted,
            },
        }
    }

    fn is(&self, text: &str) -> bool {
        match self.open {
            (true, true) => self.needle.is_in(text),
            open if text.is_ascii() => {
                let (text, wanted) = (text.as_bytes(), self.text.as_bytes());
                let more = text.len().checked_sub(wanted.len());
                more.is_some_and(|more| match open {
                    (false, false) => more == 0 && text.eq_ignore_ascii_case(wanted),
                    (true, _) => text.get(more..).is_some_and(|end| end.eq_ignore_ascii_case(wanted)),
                    (false, true) => {
                        text.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted))
                    }
                })
            }
            (false, false) => text.to_lowercase() == self.text,
            (true, false) => text.to_lowercase().ends_with(&self.text),
            (false, true) => text.to_lowercase().starts_with(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_compared_as_all_text_is() {
        let texts =
            ["", "a", "Portrait", "PORTRAIT style", "style", "straße", "ÄRGER portrait", "K\u{212a}k", "rt"];
        for text in texts {
            for wanted in texts.map(str::to_lowercase) {
                let lower = text.to_lowercase();
                assert_eq!(Needle::new(&wanted).is_in(text), lower.contains(&wanted), "{text} {wanted}");
                for open in [(false, false), (true, false), (false, true), (true, true)] {
                    let value = Value {
                        text: wanted.clone(),
                        needle: Needle::new(&wanted),
                        open,
                        number: None,
                        time: None,
                    };
                    let expected = match open {
                        (false, false) => lower == wanted,
                        (true, false) => lower.ends_with(&wanted),
                        (false, true) => lower.starts_with(&wanted),
                        (true, true) => lower.contains(&wanted),
                    };
                    assert_eq!(value.is(text), expected, "{text} {wanted} {open:?}");
                }
            }
        }
    }

    #[test]
    fn what_follows_a_number_is_what_the_field_counts() {
        for (unit, text, number) in [
            (Unit::Bytes, "2e9", Some(2e9)),
            (Unit::Bytes, "1B", Some(1.0)),
            (Unit::Bytes, "1K", Some(1024.0)),
            (Unit::Bytes, "1.5GB", Some(1.5e9)),
            (Unit::Count, "1B", Some(1e9)),
            (Unit::Count, "1.5b", Some(1.5e9)),
            (Unit::Count, "350M", Some(350e6)),
            (Unit::Count, "1 T", Some(1e12)),
            (Unit::Count, "2e9", Some(2e9)),
            (Unit::Count, "1k", Some(1e3)),
            (Unit::Count, "1GB", None),
            (Unit::Count, "1GiB", None),
            (Unit::Count, "B", None),
            (Unit::Count, "infB", None),
            (Unit::Count, "", None),
            (Unit::Bare, "0.5", Some(0.5)),
            (Unit::Bare, "1K", None),
        ] {
            assert_eq!(unit.number(text), number, "{unit:?} {text}");
        }
        for (word, is_one) in
            [("GiB", true), ("B", true), ("t", true), ("", false), ("5", false), ("AND", false)]
        {
            assert_eq!(Unit::is_one(word), is_one, "{word}");
        }
    }

    #[test]
    fn a_time_is_a_date_an_instant_or_so_long_ago() {
        let now = WallTime::parse("2026-11-21T10:00:00Z").unwrap();
        let read = |text: &str| Value::new(text, true, Unit::Bare, now).time;
        for (text, same) in [
            ("now", "2026-11-21T10:00:00Z"),
            ("now-7d", "2026-11-14T10:00:00Z"),
            ("now-90m", "2026-11-21T08:30:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
        ] {
            assert_eq!(read(text), WallTime::parse(same), "{text}");
        }
        for text in ["7d", "-7d", "now+7d", "now-", "nowhere", "2026", "*"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("now-99999999999d"), Some(WallTime(now.0 - i64::MAX)));
    }
}
