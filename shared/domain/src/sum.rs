//! A number by which bytes in two places are compared without being brought together. Any device computes it fast; who changes bytes
//! on purpose can keep it as it is: it tells damage, not malice.
//!
//! The bytes are little-endian words of 64 bits, the last one filled up with zeros. Each word counts by an odd number of its own, twice its
//! place and one; all of it modulo 2^64. So a single word that differs, or two that have changed places, are always seen.

/// Bytes of a word.
const WORD: usize = 8;

/// A sum that grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    total: u64,
    /// Words so far.
    words: u64,
    /// Of a word that is not all there.
    rest: [u8; WORD],
    filled: usize,
}

impl Sum {
    /// Of all of these.
    #[must_use]
    pub fn of(bytes: &[u8]) -> u64 {
        let mut sum = Self::default();
        sum.add(bytes);
        sum.finish()
    }

    /// The next bytes.
    pub fn add(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 {
            let (some, others) = bytes.split_at(bytes.len().min(WORD - self.filled));
            for (place, byte) in self.rest.iter_mut().skip(self.filled).zip(some) {
                *place = *byte;
            }
            (self.filled, bytes) = (self.filled + some.len(), others);
            if self.filled < WORD {
                return;
            }
            self.filled = 0;
            self.word(self.rest);
        }
        let (words, rest) = bytes.as_chunks::<WORD>();
        for word in words {
            self.word(*word);
        }
        for (place, byte) in self.rest.iter_mut().zip(rest) {
            *place = *byte;
        }
        self.filled = rest.len();
    }

    fn word(&mut self, word: [u8; WORD]) {
        let weight = self.words.wrapping_mul(2).wrapping_add(1);
        self.total = self.total.wrapping_add(u64::from_le_bytes(word).wrapping_mul(weight));
        self.words += 1;
    }

    /// With what is left of the last word.
    #[must_use]
    pub fn finish(mut self) -> u64 {
        if self.filled > 0 {
            self.rest.iter_mut().skip(self.filled).for_each(|byte| *byte = 0);
            self.word(self.rest);
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_count_by_their_places() {
        let words: Vec<u8> = [5_u64, 7, 11].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(Sum::of(&words), 5 + 3 * 7 + 5 * 11);
        assert_eq!(Sum::of(&[1, 2, 3]), 0x03_02_01);
        assert_eq!(Sum::of(&[]), 0);
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(0_usize..200, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut sum = Sum::default();
            for pair in cuts.windows(2) {
                sum.add(&bytes[pair[0]..pair[1]]);
            }
            prop_assert_eq!(sum.finish(), Sum::of(&bytes));
        }

        #[test]
        fn one_byte_that_differs_or_two_words_that_change_places_are_seen(
            bytes in prop::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, by in 1_u8..,
        ) {
            let mut other = bytes.clone();
            other[at.index(bytes.len())] ^= by;
            prop_assert_ne!(Sum::of(&other), Sum::of(&bytes));
            let mut words: Vec<u64> = bytes.iter().map(|byte| u64::from(*byte)).collect();
            let place = at.index(words.len());
            let raw = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
            let before = raw(&words);
            words.swap(0, place);
            prop_assert_eq!(Sum::of(&raw(&words)) == Sum::of(&before), raw(&words) == before);
        }
    }
}
