//! "Did you mean": the known names that a mistyped one most likely stands for.
//!
//! Judged whatever their case and whatever stands between their words, because that is what people mistype most. Cheap
//! enough to ask about a hundred thousand names while somebody waits for the refusal.

/// Longer names are not compared: the cost grows with the product of the lengths, and nobody mistypes that much.
const MAX_COMPARED: usize = 80;

/// Shorter pieces are in too many names to tell one.
const LEAST_PIECE: usize = 3;

/// Collects the known names nearest to one that is not known.
#[derive(Debug)]
pub struct Nearest<'a> {
    wanted: Vec<char>,
    letters: u64,
    /// Edits that are still a slip.
    slips: usize,
    /// How many are kept.
    most: usize,
    /// Nearest first, then in the order of texts: the same whatever order they came in.
    kept: Vec<(usize, &'a str)>,
    /// The candidate at hand. Kept, because making one for each of a hundred thousand names is most of the cost.
    candidate: Vec<char>,
}

impl<'a> Nearest<'a> {
    /// The nearest `most` to `name`.
    #[must_use]
    pub fn to(name: &str, most: usize) -> Self {
        let mut wanted = Vec::new();
        if name.len() <= MAX_COMPARED {
            bare(name, &mut wanted);
        }
        Self {
            letters: letters(&wanted),
            slips: (wanted.len() / 4).clamp(1, 4),
            wanted,
            most,
            kept: Vec::new(),
            candidate: Vec::new(),
        }
    }

    /// Looks at one known name.
    pub fn look_at(&mut self, known: &'a str) {
        // Four bytes at most are one character.
        if self.wanted.is_empty() || known.len() > 4 * MAX_COMPARED {
            return;
        }
        bare(known, &mut self.candidate);
        let Some(distance) = self.distance() else { return };
        let found = (distance, known);
        if let Err(place) = self.kept.binary_search(&found)
            && place < self.most
        {
            self.kept.insert(place, found);
            self.kept.truncate(self.most);
        }
    }

    /// How far the candidate is from what is wanted; none if nobody would mean it.
    fn distance(&self) -> Option<usize> {
        let (wanted, candidate) = (self.wanted.as_slice(), self.candidate.as_slice());
        // An edit changes two letters of the set at most: most names are judged by this alone.
        let differing = (self.letters ^ letters(candidate)).count_ones();
        let may_be_slip = usize::try_from(differing).is_ok_and(|differing| differing <= 2 * self.slips);
        if may_be_slip && let Some(edits) = edits(wanted, candidate, self.slips) {
            return Some(edits);
        }
        let (short, long) =
            if wanted.len() < candidate.len() { (wanted, candidate) } else { (candidate, wanted) };
        let is_piece = short.len() >= LEAST_PIECE && long.windows(short.len()).any(|piece| piece == short);
        // What is left over counts, so that the shortest name around a piece comes first.
        is_piece.then(|| self.slips + (long.len() - short.len()))
    }

    /// What was found, nearest first.
    #[must_use]
    pub fn names(self) -> Vec<&'a str> {
        self.kept.into_iter().map(|(_, name)| name).collect()
    }
}

/// The nearest of a few names.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut nearest = Nearest::to(name, 1);
    known.into_iter().for_each(|known| nearest.look_at(known));
    nearest.names().pop()
}

/// Letters and digits in lower case.
fn bare(name: &str, into: &mut Vec<char>) {
    into.clear();
    into.extend(name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()));
}

/// Which letters occur, each as one of 64 bits.
fn letters(name: &[char]) -> u64 {
    name.iter().fold(0, |set, letter| set | 1 << (u32::from(*letter) % 64))
}

/// Characters to insert, delete or replace, or neighbours to swap, to turn one name into the other; none if there are
/// more than `most`.
#[must_use]
pub fn edits(from: &[char], to: &[char], most: usize) -> Option<usize> {
    if from.len().abs_diff(to.len()) > most {
        return None;
    }
    // `row[i]` is the distance between what was seen of `from` and the first `i` characters of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last = None;
    for (seen, from_char) in from.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = seen + 1;
        next.push(left);
        let mut last_to = None;
        for (at, to_char) in to.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let replaced = cell(&row, at) + usize::from(from_char != to_char);
            left = replaced.min(left + 1).min(cell(&row, at + 1) + 1);
            if last == Some(to_char) && last_to == Some(from_char) {
                // The row before the last one, two columns back.
                left = left.min(cell(&before, at.wrapping_sub(1)) + 1);
            }
            last_to = Some(to_char);
            next.push(left);
        }
        last = Some(from_char);
        before = std::mem::replace(&mut row, next);
        // Distances never fall below the least of a row and the one before it.
        if row.iter().chain(&before).all(|distance| *distance > most) {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("é", "e", 1),
            ("dwan", "dawn", 1),
            ("ab", "ba", 1),
            ("abcd", "badc", 2),
        ] {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(edits(&chars(from), &chars(to), 9), Some(expected), "{from} {to}");
            assert_eq!(edits(&chars(from), &chars(to), expected), Some(expected), "{from} {to}");
            if let Some(less) = expected.checked_sub(1) {
                assert_eq!(edits(&chars(from), &chars(to), less), None, "{from} {to}");
            }
        }
    }

    #[test]
    fn a_slip_a_piece_and_another_spelling_find_their_name_and_nonsense_finds_none() {
        let known = ["dawn", "dusk", "sd_xl_base_1.0", "sd_xl_refiner_1.0", "size_bytes", "Ärger"];
        for (name, expected) in [
            ("dwan", Some("dawn")),
            ("DAWN", Some("dawn")),
            ("sdxl base", Some("sd_xl_base_1.0")),
            ("size", Some("size_bytes")),
            ("sise_bytes", Some("size_bytes")),
            ("rger", Some("Ärger")),
            ("dawn.safetensors", Some("dawn")),
            ("banana", None),
            ("x", None),
            ("", None),
            ("--", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"s".repeat(100_000), known), None);
    }

    #[test]
    fn the_nearest_come_first_in_whatever_order_they_are_met() {
        let mut known = ["portrait-v1", "portrait-v2", "portrait", "landscape", "portrait-v10"];
        for _ in 0..known.len() {
            known.rotate_left(1);
            let mut nearest = Nearest::to("portrat", 3);
            known.iter().for_each(|known| nearest.look_at(known));
            assert_eq!(nearest.names(), ["portrait"]);
            let mut nearest = Nearest::to("Portrait v", 3);
            known.iter().for_each(|known| nearest.look_at(known));
            assert_eq!(nearest.names(), ["portrait", "portrait-v1", "portrait-v2"]);
        }
    }
}
