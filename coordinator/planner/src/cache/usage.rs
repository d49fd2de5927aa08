//! Who was used when, in uses: also those that are not there any more, so that one that comes back is known.

use imbl::{OrdMap, OrdSet};

/// What is remembered of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The tick of its last use.
    pub last: u64,
    /// Ticks between its uses, the recent ones counting more; unset after the first.
    pub gap: Option<u64>,
    pub count: u64,
}

/// The memory of uses. Persistent, like the state that it is a part of.
#[derive(Clone, Debug)]
pub struct Usage<K: Ord + Clone> {
    /// Grows by one with each use of anything.
    tick: u64,
    uses: OrdMap<K, Use>,
    /// By the last use: who is forgotten first.
    by_age: OrdSet<(u64, K)>,
}

/// Those that are remembered; each costs some hundred bytes.
const REMEMBERED: usize = 16_384;

impl<K: Ord + Clone> Default for Usage<K> {
    fn default() -> Self {
        Self { tick: 0, uses: OrdMap::new(), by_age: OrdSet::new() }
    }
}

impl<K: Ord + Clone> Usage<K> {
    #[must_use]
    pub const fn tick(&self) -> u64 {
        self.tick
    }

    #[must_use]
    pub fn of(&self, key: &K) -> Option<Use> {
        self.uses.get(key).copied()
    }

    /// One use.
    pub fn touch(&mut self, key: K) {
        self.tick += 1;
        let now = self.tick;
        let known = self.uses.get(&key).copied();
        let next = match known {
            None => Use { last: now, gap: None, count: 1 },
            Some(Use { last, gap, count }) => {
                let new = now - last;
                // Half of the weight is the newest gap's: a steady rhythm stays what it is.
                let gap = gap.map_or(new, |old| old.midpoint(new));
                Use { last: now, gap: Some(gap), count: count.saturating_add(1) }
            }
        };
        if let Some(known) = known {
            self.by_age.remove(&(known.last, key.clone()));
        }
        self.by_age.insert((now, key.clone()));
        self.uses.insert(key, next);
        if self.uses.len() > REMEMBERED
            && let Some((last, oldest)) = self.by_age.get_min().cloned()
        {
            self.by_age.remove(&(last, oldest.clone()));
            self.uses.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rhythm_is_known_from_the_second_use_on_and_survives_absence() {
        let mut usage = Usage::default();
        for round in 0..4 {
            for key in ["a", "b", "c"] {
                usage.touch(key);
                let expected = (round > 0).then_some(3);
                assert_eq!(usage.of(&key).unwrap().gap, expected);
            }
        }
        assert_eq!((usage.tick(), usage.of(&"a").unwrap().count), (12, 4));
        assert_eq!(usage.of(&"z"), None);
    }

    #[test]
    fn the_longest_unused_are_forgotten() {
        let mut usage = Usage::default();
        for key in 0..=REMEMBERED {
            usage.touch(key);
        }
        assert_eq!(usage.of(&0), None);
        assert!(usage.of(&1).is_some() && usage.of(&REMEMBERED).is_some());
        assert_eq!((usage.uses.len(), usage.by_age.len()), (REMEMBERED, REMEMBERED));
    }
}
