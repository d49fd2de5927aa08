//! Durations as people write them: a whole number and one unit. Exact both ways.
//!
//! Used by the configuration and by the command line. There are no fractions and no sums: `90s` needs no thought,
//! `1m30s` and `1.5m` would be two more ways to write it.

use std::time::Duration;

/// Largest first, so that printing finds the shortest text. `d` is read but not written: hours are plainer.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const DAY_NANOS: u128 = 24 * 3_600_000_000_000;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: write a whole number and a unit, for instance 250ms, 10s, 5m or 24h")]
pub struct ParseDurationError {
    text: String,
}

/// Reads `250ms`, `10s`, `5m`, `24h`, `7d`, also `us` and `ns`.
///
/// # Errors
/// The text has no unit, a sign, a fraction, or means more than a [`Duration`] holds.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    parse(text.trim()).ok_or_else(|| ParseDurationError { text: text.to_owned() })
}

fn parse(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let unit_nanos = match unit {
        "d" => DAY_NANOS,
        _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let nanos = number.parse::<u128>().ok()?.checked_mul(unit_nanos)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// The shortest text that [`parse_duration`] reads as exactly this duration.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, unit_nanos) in UNITS {
        if nanos.is_multiple_of(unit_nanos) {
            return format!("{}{unit}", nanos / unit_nanos);
        }
    }
    format!("{nanos}ns")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            (" 5 m ", 300_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("7us"), Ok(Duration::from_micros(7)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "s", "10", "-1s", "+1s", "1.5s", "1m30s", "1e3s", "10 S", "1y", "٣s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        // One second more than a Duration holds, and more than u128 holds.
        assert!(parse_duration("18446744073709551616s").is_err());
        assert!(parse_duration("340282366920938463463374607431768211455h").is_err());
    }

    #[test]
    fn durations_are_written_in_the_largest_exact_unit() {
        for (seconds, text) in [(0, "0s"), (90, "90s"), (120, "2m"), (86_400, "24h")] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(format_duration(Duration::new(1, 1)), "1000000001ns");
    }

    proptest! {
        #[test]
        fn every_duration_survives_being_written(
            count in any::<u64>(), nanos in 0..1_000_000_000_u32, unit in 0..5_usize,
        ) {
            // Round numbers of every unit, and odd ones.
            let scale = [1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000][unit];
            for duration in [Duration::new(count, nanos), Duration::from_nanos((count / scale) * scale)] {
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,30}") {
            let _ = parse_duration(&text);
        }
    }
}
