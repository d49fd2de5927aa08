//! How long two sides have agreed: by subject, in pieces of ten seconds, over the last hour. Pure but for its memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hoist_domain::WallTime;

use super::{Difference, Subject};

/// One piece of the past.
const PIECE: Duration = Duration::from_secs(10);

/// Pieces that are kept: an hour of them.
const MOST_PIECES: usize = 360;

/// Past disagreements that are told.
const MOST_INCIDENTS: usize = 100;

/// Longer between two looks than this, and nobody knows what was in between: the machine stood still.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// What has disagreed, and does not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub subject: Subject,
    pub message: String,
    pub began: WallTime,
    pub lasted: Duration,
}

/// How one subject stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub looked: Duration,
    pub agreed: Duration,
    pub difference: Option<Difference>,
    /// Since how long.
    pub differs_for: Duration,
    /// It differs for longer than it may.
    pub disagrees: bool,
}

impl Standing {
    /// From 0 to 1; 1 where nothing was looked at.
    #[must_use]
    pub fn agreement(&self) -> f64 {
        if self.looked.is_zero() { 1.0 } else { self.agreed.as_secs_f64() / self.looked.as_secs_f64() }
    }
}

#[derive(Debug, Default)]
struct Account {
    /// (when it began, looked at, agreed), the oldest first.
    pieces: VecDeque<(Duration, Duration, Duration)>,
    since: Option<(Duration, WallTime)>,
    difference: Option<Difference>,
    disagrees: bool,
    /// Of the present difference, or the last one: when it began, and how long it has lasted.
    last: (WallTime, Duration),
}

/// The past of all subjects.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<Subject, Account>,
    incidents: VecDeque<Incident>,
    looked_at: Option<Duration>,
}

impl Ledger {
    /// One look: what differs now, and how long each subject may.
    pub fn look(
        &mut self,
        subjects: &[Subject],
        found: &BTreeMap<Subject, Difference>,
        allows: impl Fn(Subject) -> Duration,
        now: Duration,
        wall: WallTime,
    ) {
        let passed = self.looked_at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        let passed = if passed > LONGEST_GAP { Duration::ZERO } else { passed };
        self.looked_at = Some(now);
        // What is not there any more has no two sides.
        let there: BTreeSet<Subject> = subjects.iter().copied().collect();
        self.accounts.retain(|subject, _| there.contains(subject));
        for subject in subjects {
            let is_new = !self.accounts.contains_key(subject);
            let account = self.accounts.entry(*subject).or_default();
            let difference = found.get(subject);
            let is_same = difference.map(|one| one.of) == account.difference.as_ref().map(|one| one.of);
            account.since = difference.and(account.since.filter(|_| is_same).or(Some((now, wall))));
            let differs_for = account.since.map_or(Duration::ZERO, |(since, _)| now.saturating_sub(since));
            let disagreed = account.disagrees;
            account.disagrees = difference.is_some() && differs_for > allows(*subject);
            // Also if it differs in something else by now: that has a while of its own.
            if disagreed && !account.disagrees {
                let message =
                    account.difference.take().map(|difference| difference.message).unwrap_or_default();
                let (began, lasted) = account.last;
                self.incidents.push_front(Incident { subject: *subject, message, began, lasted });
                self.incidents.truncate(MOST_INCIDENTS);
            }
            if let Some((since, began)) = account.since {
                account.last = (began, now.saturating_sub(since));
            }
            account.difference = difference.cloned();
            if !is_new {
                account.add(now, passed, account.disagrees);
            }
        }
    }

    /// How a subject stands over the last so long.
    #[must_use]
    pub fn standing(&self, subject: Subject, window: Duration) -> Standing {
        let Some(account) = self.accounts.get(&subject) else { return Standing::default() };
        let now = self.looked_at.unwrap_or_default();
        let from = now.saturating_sub(window);
        let pieces = account.pieces.iter().filter(|(began, ..)| began.saturating_add(PIECE) > from);
        let (looked, agreed) = pieces.fold((Duration::ZERO, Duration::ZERO), |(looked, agreed), piece| {
            (looked.saturating_add(piece.1), agreed.saturating_add(piece.2))
        });
        Standing {
            looked,
            agreed,
            difference: account.difference.clone(),
            differs_for: account.since.map_or(Duration::ZERO, |(since, _)| now.saturating_sub(since)),
            disagrees: account.disagrees,
        }
    }

    /// The newest first.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter()
    }
}

impl Account {
    fn add(&mut self, now: Duration, passed: Duration, disagrees: bool) {
        if self.pieces.back().is_none_or(|(began, ..)| now.saturating_sub(*began) >= PIECE) {
            self.pieces.push_back((now, Duration::ZERO, Duration::ZERO));
            if self.pieces.len() > MOST_PIECES {
                self.pieces.pop_front();
            }
        }
        if let Some((_, looked, agreed)) = self.pieces.back_mut() {
            *looked = looked.saturating_add(passed);
            if !disagrees {
                *agreed = agreed.saturating_add(passed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: fn() -> Subject = || Subject::Device("cpu:0".parse().unwrap());

    /// Looks each quarter of a second; the seconds from and to which it differs.
    fn looked(seconds: u64, differs: std::ops::Range<u64>, allows: u64) -> (Ledger, Standing) {
        let mut ledger = Ledger::default();
        let difference = Difference { of: 0, message: "it is not so".to_owned(), advice: "" };
        for quarter in 0..=seconds * 4 {
            let now = Duration::from_millis(quarter * 250);
            let is_so = differs.contains(&(quarter / 4));
            let found = is_so.then(|| (SUBJECT(), difference.clone())).into_iter().collect();
            ledger.look(&[SUBJECT()], &found, |_| Duration::from_secs(allows), now, WallTime(0));
        }
        let standing = ledger.standing(SUBJECT(), Duration::from_secs(300));
        (ledger, standing)
    }

    #[test]
    fn what_differs_for_no_longer_than_it_may_agrees() {
        let (ledger, standing) = looked(100, 10..12, 2);
        assert!((standing.agreement() - 1.0).abs() < 1e-9, "{standing:?}");
        assert_eq!(standing.looked, Duration::from_secs(100));
        assert_eq!(ledger.incidents().count(), 0);
    }

    #[test]
    fn what_differs_longer_counts_from_then_on_and_is_remembered() {
        let (ledger, standing) = looked(100, 10..22, 2);
        // Ten seconds of a hundred, but for a look more or less.
        assert!((standing.agreement() - 0.9).abs() < 0.006, "{standing:?}");
        assert!(standing.difference.is_none() && !standing.disagrees);
        let incident = ledger.incidents().next().unwrap();
        assert_eq!(incident.lasted, Duration::from_millis(11_750));
    }

    #[test]
    fn who_is_always_behind_something_else_is_not_behind() {
        let mut ledger = Ledger::default();
        for quarter in 0..400_u64 {
            let difference = Difference { of: u128::from(quarter / 4), message: String::new(), advice: "" };
            let found = [(SUBJECT(), difference)].into_iter().collect();
            let now = Duration::from_millis(quarter * 250);
            ledger.look(&[SUBJECT()], &found, |_| Duration::from_secs(2), now, WallTime(0));
        }
        let standing = ledger.standing(SUBJECT(), Duration::from_secs(300));
        assert!((standing.agreement() - 1.0).abs() < 1e-9, "{standing:?}");
    }

    #[test]
    fn what_still_differs_says_what_and_since_when() {
        let (_, standing) = looked(20, 10..100, 2);
        assert!(standing.disagrees, "{standing:?}");
        assert_eq!(standing.differs_for, Duration::from_secs(10));
        assert_eq!(standing.difference.unwrap().message, "it is not so");
    }

    #[test]
    fn a_machine_that_stood_still_has_looked_at_nothing() {
        let mut ledger = Ledger::default();
        for second in [0, 1, 1_000, 1_001] {
            let (now, none) = (Duration::from_secs(second), BTreeMap::new());
            ledger.look(&[SUBJECT()], &none, |_| Duration::ZERO, now, WallTime(0));
        }
        assert_eq!(ledger.standing(SUBJECT(), Duration::from_secs(3_600)).looked, Duration::from_secs(2));
    }

    #[test]
    fn only_the_window_counts_and_what_is_gone_is_forgotten() {
        let (mut ledger, _) = looked(100, 0..50, 0);
        let standing = ledger.standing(SUBJECT(), Duration::from_secs(40));
        assert!((standing.agreement() - 1.0).abs() < 1e-9, "{standing:?}");
        ledger.look(&[], &BTreeMap::new(), |_| Duration::ZERO, Duration::from_secs(101), WallTime(0));
        assert_eq!(ledger.standing(SUBJECT(), Duration::from_secs(300)), Standing::default());
    }
}
