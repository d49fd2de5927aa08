//! How much the randomised tests do, and from which seeds. The one place that reads `HOIST_SOAK` and `HOIST_SEED`.

use std::ops::Range;

/// `ci` rounds; `HOIST_SOAK` multiplies them.
#[must_use]
pub fn rounds(ci: usize) -> usize {
    ci.saturating_mul(number("HOIST_SOAK").and_then(|factor| usize::try_from(factor).ok()).unwrap_or(1))
}

/// The seeds of that many rounds; with `HOIST_SEED`, only that one, to see a failure again.
#[must_use]
pub fn seeds(ci: usize) -> Range<u64> {
    match number("HOIST_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..rounds(ci) as u64,
    }
}

fn number(variable: &str) -> Option<u64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is its own edge; only how much it does depends on it"
    )]
    std::env::var(variable).ok()?.parse().ok()
}
