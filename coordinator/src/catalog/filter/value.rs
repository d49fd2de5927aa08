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

/// `2e9`, `1.5GiB`, `300MB`.
pub(super) fn number(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number).filter(|number| number.is_finite());
    }
    text.parse::<hoist_domain::Bytes>().ok().map(|bytes| bytes.0 as f64)
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
    pub(super) fn new(text: &str, is_open: bool, now: WallTime) -> Self {
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
            number: number(text),
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
    fn a_time_is_a_date_an_instant_or_so_long_ago() {
        let now = WallTime::parse("2026-11-21T10:00:00Z").unwrap();
        let read = |text: &str| Value::new(text, true, now).time;
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
