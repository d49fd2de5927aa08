//! The two times of a process: the wall clock for people, the boot clock for decisions.
//!
//! `main` makes one [`Clock`] and hands clones to whoever asks for the time; tests hand out a manual one. A clock
//! never sleeps and never turns one time into the other: the wall clock may jump in either direction at any moment,
//! and the boot clock says nothing about the date.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hoist_domain::WallTime;
use rustix::time::{ClockId, clock_gettime};

/// Where a component takes the time from. Cheap to clone; every clone tells the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

/// An enum and not a type parameter, so that the choice does not climb every type that needs the time.
#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(ManualClock),
}

impl Clock {
    /// The clocks of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self { source: Source::System }
    }

    /// A clock that stands still until its other half moves it. Both times start at zero.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let hands = ManualClock::default();
        (Self { source: Source::Manual(hands.clone()) }, hands)
    }

    /// The date and time, for people to read. Nothing is decided by it.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        match &self.source {
            Source::System => system_wall(),
            Source::Manual(hands) => hands.times().wall,
        }
    }

    /// Time since the machine booted, counting the time it was suspended. Never runs backwards.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.source {
            Source::System => system_boottime(),
            Source::Manual(hands) => hands.times().monotonic,
        }
    }
}

/// Moves the clock that [`Clock::manual`] returned. The two times are independent, as they are on a real machine.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    times: Arc<Mutex<Times>>,
}

#[derive(Debug, Default)]
struct Times {
    wall: WallTime,
    monotonic: Duration,
}

impl ManualClock {
    /// Moves the monotonic time on; the wall time stays.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times();
        times.monotonic = times.monotonic.saturating_add(by);
    }

    /// Sets the wall time, to the past if need be; the monotonic time stays.
    pub fn set_wall(&self, wall: WallTime) {
        self.times().wall = wall;
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that the lint sends everyone to")]
fn system_wall() -> WallTime {
    // A machine whose clock was never set may stand before 1970: that is a negative time, not an error.
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => WallTime(micros(after)),
        Err(before) => WallTime(-micros(before.duration())),
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// CLOCK_BOOTTIME and not CLOCK_MONOTONIC: a lease must not outlive a suspended laptop's night.
fn system_boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // Neither part of a boot time is ever negative.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_and_monotonic_time_move_independently() {
        let (clock, hands) = Clock::manual();
        let copy = clock.clone();

        hands.advance(Duration::from_millis(1500));
        assert_eq!((clock.wall(), clock.monotonic()), (WallTime(0), Duration::from_millis(1500)));

        hands.set_wall(WallTime(-7));
        assert_eq!((copy.wall(), copy.monotonic()), (WallTime(-7), Duration::from_millis(1500)));

        hands.advance(Duration::MAX);
        assert_eq!(clock.monotonic(), Duration::MAX);
    }

    #[test]
    fn the_system_clock_tells_date_and_uptime() {
        let clock = Clock::system();
        let first = clock.monotonic();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime_seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();

        assert!(clock.monotonic() >= first);
        assert!((first.as_secs_f64() - uptime_seconds).abs() < 60.0, "{first:?} against {uptime}");
        // 2020-01-01, so seconds or milliseconds in place of microseconds would show.
        assert!(clock.wall() > WallTime(1_577_836_800_000_000));
    }
}
