//! From samples to figures: percentiles within a round, medians over rounds, and how far the rounds lie apart.

use std::time::Duration;

use hoist_runtime::Clock;

/// Now, on the clock that every process of a run shares.
pub(super) fn now() -> Duration {
    Clock::system().monotonic()
}

/// Several rounds of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rounds {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Rounds {
    /// Of nothing: not a number, which no target accepts.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            at(half)
        } else {
            f64::midpoint(at(half.saturating_sub(1)), at(half))
        };
        Self { median, least: at(0), most: at(sorted.len().saturating_sub(1)) }
    }

    pub(super) fn each<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Self {
        Self::of(&rounds.iter().map(figure).collect::<Vec<_>>())
    }

    /// Round against round: what disturbs both sides of a round alike cancels out.
    pub(super) fn ratio<T>(ours: &[T], peers: &[T], figure: impl Fn(&T) -> f64) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(peers).map(|(our, peer)| figure(our) / figure(peer)).collect();
        Self::of(&ratios)
    }
}

/// The value that so many of a thousand samples do not exceed (nearest rank). Sorts what it is given.
pub(super) fn per_mille(samples: &mut [Duration], rank: usize) -> Duration {
    samples.sort_unstable();
    let index = (samples.len() * rank).div_ceil(1000).saturating_sub(1);
    samples.get(index).copied().unwrap_or(Duration::ZERO)
}

pub(super) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_a_percentile_on_a_sample() {
        let rounds = Rounds::of(&[3.0, 1.0, 2.0]);
        assert_eq!(rounds, Rounds { median: 2.0, least: 1.0, most: 3.0 });
        assert!((Rounds::of(&[1.0, 2.0]).median - 1.5).abs() < 1e-9);
        assert!(Rounds::of(&[]).median.is_nan());
        let mut samples: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(per_mille(&mut samples, 500), Duration::from_millis(50));
        assert_eq!(per_mille(&mut samples, 990), Duration::from_millis(99));
        assert_eq!(per_mille(&mut samples, 1000), Duration::from_millis(100));
    }
}
