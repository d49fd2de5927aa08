//! The setting that an unknown key most likely stands for.

/// The known key that `name` is a slip of; else one whose last part is the same, which is a key in the wrong table.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.collect();
    let same_end = || known.iter().copied().find(|known| last_part(known) == last_part(name));
    hoist_domain::nearest(name, known.iter().copied()).or_else(same_end)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["state_dir", "watch.history_events", "log.format"];
        let find = |name| nearest(name, known.into_iter());
        assert_eq!(find("sate_dir"), Some("state_dir"));
        assert_eq!(find("watch.histroy_events"), Some("watch.history_events"));
        assert_eq!(find("history_events"), Some("watch.history_events"));
        assert_eq!(find("other.format"), Some("log.format"));
        assert_eq!(find("x"), None);
        assert_eq!(find("completely.different"), None);
        assert_eq!(find(&"s".repeat(100_000)), None);
    }
}
