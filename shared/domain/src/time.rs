//! Times as people write them in requests.

use crate::WallTime;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

impl WallTime {
    /// Reads RFC 3339, `2026-11-01T12:00:00Z` or with another offset; also a day alone, which is its beginning in UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once(['T', 't', ' ']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let day_seconds = days(date)?.checked_mul(DAY_SECONDS)?;
        let micros = time.map_or(Some(0), micros_of_day)?;
        day_seconds.checked_mul(SECOND_MICROS)?.checked_add(micros).map(Self)
    }
}

/// A number of exactly so many digits: `+1` and `1 ` are none.
fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(date: &str) -> Option<i64> {
    const DAYS_BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let long_february = i64::from(is_leap);
    let before = *DAYS_BEFORE_MONTH.get(usize::try_from(month - 1).ok()?)?;
    let length = match month {
        2 => 28 + long_february,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Leap days of the years before this one, counted from year 1.
    let past = year - 1;
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    const EPOCH: i64 = 719_162;
    let this_february = if month > 2 { long_february } else { 0 };
    Some(past * 365 + leap_days + before + this_february + day - 1 - EPOCH)
}

/// `12:00:00.5Z` or `12:00:00+02:00` as microseconds after the beginning of the day in UTC.
fn micros_of_day(text: &str) -> Option<i64> {
    let zone_at = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at_checked(zone_at)?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = digits(hours, 2).filter(|hours| *hours < 24)? * 60
                + digits(minutes, 2).filter(|minutes| *minutes < 60)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    // A leap second is the second after it: nothing here counts them.
    let second = digits(parts.next()?, 2).filter(|second| *second <= 60)?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros = fraction.chars().chain("000000".chars()).take(6).collect::<String>().parse::<i64>().ok()?;
    Some(((hour * 60 + minute - offset_minutes) * 60 + second) * SECOND_MICROS + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_writes_them() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2024-02-29T23:59:59.5Z", 1_709_251_199_500_000),
            ("2026-11-01", 1_793_491_200_000_000),
            ("2026-11-01T02:30:00+02:30", 1_793_491_200_000_000),
            ("2026-10-31 21:00:00-03:00", 1_793_491_200_000_000),
            ("2100-01-01T00:00:00z", 4_102_444_800_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ] {
            assert_eq!(WallTime::parse(text), Some(WallTime(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "2100-02-29",
            "2026-1-1",
            "+026-01-01",
            "2026-01-01T",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+0200",
            "2026-01-01T00:00Z",
            "yesterday",
            "2026-01-01T00:00:00é",
        ] {
            assert_eq!(WallTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut last = days("1899-12-31").unwrap();
        for year in 1900..2301 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(found) = days(&format!("{year}-{month:02}-{day:02}")) {
                        assert_eq!(found, last + 1, "{year}-{month}-{day}");
                        last = found;
                    }
                }
            }
        }
    }
}
