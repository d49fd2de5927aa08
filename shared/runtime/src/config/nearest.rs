//! "Did you mean": the known name that a mistyped one most likely stands for.

/// Longer names are not compared: the cost grows with the product of the lengths, and nobody mistypes that much.
const MAX_COMPARED: usize = 80;

/// The known name with the fewest edits from `name`, if that is few enough to be a slip; else one whose last part is
/// the same, which is a key in the wrong table.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_COMPARED {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    let mut same_end = None;
    for candidate in known {
        let edits = edit_distance(name, candidate);
        if best.is_none_or(|(fewest, _)| edits < fewest) {
            best = Some((edits, candidate));
        }
        if last_part(candidate) == last_part(name) {
            same_end = same_end.or(Some(candidate));
        }
    }
    let slips = (name.len() / 4).max(2);
    best.filter(|(edits, _)| *edits <= slips).map(|(_, candidate)| candidate).or(same_end)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Characters to insert, delete or replace to turn one text into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    // `row[i]` is the distance between what was seen of `from` and the first `i` characters of `to`.
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (seen, from_char) in from.chars().enumerate() {
        let mut left = seen + 1;
        let mut diagonal = seen;
        let mut next = vec![left];
        for (to_char, above) in to.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(from_char != to_char);
            left = replaced.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (from, to, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("é", "e", 1),
        ] {
            assert_eq!(edit_distance(from, to), edits, "{from} {to}");
        }
    }

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["state_dir", "watch.history_events", "log.format"];
        let find = |name| nearest(name, known.into_iter());
        assert_eq!(find("sate_dir"), Some("state_dir"));
        assert_eq!(find("watch.histroy_events"), Some("watch.history_events"));
        assert_eq!(find("history_events"), Some("watch.history_events"));
        assert_eq!(find("x"), None);
        assert_eq!(find("completely.different"), None);
        assert_eq!(find(&"s".repeat(100_000)), None);
    }
}
