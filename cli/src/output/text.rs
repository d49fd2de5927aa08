//! Values as people read them: times, spans, rates, and names of enum values. Sizes are `hoist_domain::Bytes`.

use std::time::Duration;

use hoist_domain::WallTime;
use hoist_wire::v1;
use prost_types::Timestamp;

const MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Text from elsewhere, made harmless: control characters could move the cursor or hide what follows, and marks of
/// direction could show a name in another order than it has.
pub(crate) fn plain(text: &str) -> String {
    let is_mark =
        |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() && c != '\n' || is_mark(c) { '\u{fffd}' } else { c }).collect()
}

/// The same on one line: a name with a line in it would look like two.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).replace('\n', "\u{fffd}")
}

/// At most `chars` of a name, with the middle left out: names differ at both ends.
pub(crate) fn shortened(name: &str, chars: usize) -> String {
    let count = name.chars().count();
    if count <= chars {
        return name.to_owned();
    }
    let kept = chars.saturating_sub(1);
    let end = kept / 2;
    let start: String = name.chars().take(kept - end).collect();
    let tail: String = name.chars().skip(count - end).collect();
    format!("{start}…{tail}")
}

/// A count of things that there are many of: `860 M`, `6.6 B`.
pub(crate) fn count(count: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("T", 1_000_000_000_000), ("B", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)];
    for (unit, scale) in UNITS {
        if count >= scale.saturating_mul(100) {
            return format!("{} {unit}", count / scale);
        }
        if count >= scale {
            return format!("{}.{} {unit}", count / scale, count % scale / (scale / 10));
        }
    }
    count.to_string()
}

/// An RFC 3339 time in UTC, with a fraction only where there is one.
pub(crate) fn rfc3339(time: &Timestamp) -> String {
    let days = time.seconds.div_euclid(DAY_SECONDS);
    let second_of_day = time.seconds.rem_euclid(DAY_SECONDS);
    let (year, month, day) = civil_date(days);
    let micros = time.nanos.clamp(0, 999_999_999) / 1_000;
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    format!("{year:04}-{month:02}-{day:02}T{}{fraction}Z", clock_time(second_of_day))
}

/// The same, to the second: microseconds mean nothing to people.
pub(crate) fn when(time: &Timestamp) -> String {
    rfc3339(&Timestamp { seconds: time.seconds, nanos: 0 })
}

/// The time of day in UTC, to the second: `14:03:22Z`.
pub(crate) fn time_of_day(time: WallTime) -> String {
    format!("{}Z", clock_time(time.0.div_euclid(MICROS).rem_euclid(DAY_SECONDS)))
}

fn clock_time(second_of_day: i64) -> String {
    format!("{:02}:{:02}:{:02}", second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60)
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts years from March, so that the leap day is the last of its year, in eras of 400 years (146,097 days).
fn civil_date(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(ERA_DAYS);
    let day_of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// How long before `now` a time was; zero if it lies ahead.
pub(crate) fn age(time: &Timestamp, now: WallTime) -> Duration {
    between(time, &hoist_wire::encode::timestamp(now))
}

/// From one time to a later one; zero if it is none.
pub(crate) fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    let micros = |t: &Timestamp| t.seconds.saturating_mul(MICROS).saturating_add(i64::from(t.nanos / 1_000));
    Duration::from_micros(u64::try_from(micros(to).saturating_sub(micros(from))).unwrap_or(0))
}

/// A span of time in at most two units: `120 ms`, `12.3 s`, `3 min 12 s`, `5 d 3 h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 if span.subsec_millis() < 50 => format!("{seconds} s"),
        1..60 => format!("{}.{} s", seconds, span.subsec_millis() / 100),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// A speed, in the decimal units in which disks and buses are sold: `2.8 GB/s`.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, scale) in UNITS {
        if bytes_per_second >= scale {
            return format!("{:.1} {unit}/s", bytes_per_second as f64 / scale as f64);
        }
    }
    format!("{bytes_per_second} B/s")
}

/// A span of time from the wire; a negative one, which no server sends, is zero.
pub(crate) fn wire_span(span: &prost_types::Duration) -> Duration {
    Duration::new(u64::try_from(span.seconds).unwrap_or(0), u32::try_from(span.nanos).unwrap_or(0))
}

/// The short lower-case name of an enum value: `OPERATION_STATE_RUNNING` is `running`. A value that this client does
/// not know is its number.
fn short(full: Option<&'static str>, prefix: &str, number: i32) -> String {
    full.map_or_else(|| number.to_string(), |name| name.trim_start_matches(prefix).to_ascii_lowercase())
}

macro_rules! enum_names {
    ($($(#[$doc:meta])* $name:ident = $type:ty, $prefix:literal;)*) => {
        $($(#[$doc])* pub(crate) fn $name(number: i32) -> String {
            short(<$type>::try_from(number).ok().map(|value| value.as_str_name()), $prefix, number)
        })*
    };
}

enum_names! {
    operation_state = v1::OperationState, "OPERATION_STATE_";
    operation_kind = v1::OperationKind, "OPERATION_KIND_";
    measurement_kind = v1::MeasurementKind, "MEASUREMENT_KIND_";
    machine_state = v1::machine::State, "STATE_";
    severity = v1::condition::Severity, "SEVERITY_";
    change_kind = v1::change::Kind, "KIND_";
    origin = v1::config_entry::Origin, "ORIGIN_";
    model_state = v1::model::State, "STATE_";
    verdict = v1::Verdict, "VERDICT_";
    finding_kind = v1::FindingKind, "FINDING_KIND_";
    validation_level = v1::ValidationLevel, "VALIDATION_LEVEL_";
    check_category = v1::compatibility_check::Category, "CATEGORY_";
    check_result = v1::compatibility_check::Result, "RESULT_";
    segment_state = v1::segment::State, "STATE_";
    eviction_reason = v1::eviction::Reason, "REASON_";
    eviction_policy = v1::EvictionPolicy, "EVICTION_POLICY_";
    lease_state = v1::lease::State, "STATE_";
    device_state = v1::device::State, "STATE_";
    worker_state = v1::worker::State, "STATE_";
    replica_state = v1::replica::State, "STATE_";
    sync_pace = v1::SyncPace, "SYNC_PACE_";
    load_strategy = v1::LoadStrategy, "LOAD_STRATEGY_";
    cached_source = v1::cached_component::Source, "SOURCE_";
    priority = v1::Priority, "PRIORITY_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, nanos, shown) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_709_251_199, 500_000_000, "2024-02-29T23:59:59.500000Z"),
            (-1, 999_999_000, "1969-12-31T23:59:59.999999Z"),
            (4_102_444_800, 0, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(&Timestamp { seconds, nanos }), shown);
        }
    }

    #[test]
    fn spans_and_rates_are_short() {
        for (millis, shown) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (12_345, "12.3 s"),
            (192_000, "3 min 12 s"),
            (7_200_000, "2 h"),
            (446_400_000, "5 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), shown);
        }
        assert_eq!(rate(2_812_345_678), "2.8 GB/s");
        assert_eq!(rate(12), "12 B/s");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("portrait", 8), "portrait");
        assert_eq!(shortened("portrait_v2", 8), "port…_v2");
        assert_eq!(shortened("ééééééééé", 4), "éé…é");
        assert_eq!(shortened("ab", 0), "…");
    }

    #[test]
    fn counts_are_short() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0 k"),
            (99_999, "99.9 k"),
            (859_520_964, "859 M"),
            (6_620_000_000, "6.6 B"),
            (u64::MAX, "18446744 T"),
        ] {
            assert_eq!(count(number), shown);
        }
    }

    #[test]
    fn enum_values_are_short_and_an_unknown_one_is_its_number() {
        assert_eq!(operation_state(2), "running");
        assert_eq!(operation_state(99), "99");
        assert_eq!(measurement_kind(1), "disk_read");
        assert_eq!(origin(3), "environment");
        assert_eq!(machine_state(1), "serving");
        assert_eq!(
            (eviction_policy(2), priority(5), cached_source(3)),
            ("lru".into(), "critical".into(), "shared".into())
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
        assert_eq!(one_line("a\nb\u{202e}c\u{9b}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }
}
