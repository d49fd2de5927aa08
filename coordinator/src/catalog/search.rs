//! Lists of models: filtered, ordered, page by page. A walk over the published state; nothing is indexed, because a
//! hundred thousand models are judged in some ten milliseconds.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_domain::{Error, Model, ModelId, ModelState, Result, Verdict, WallTime};
use hoist_planner::Models;
use uuid::Uuid;

use super::filter::{Filter, Needle};

/// Threads that one list may take.
const MOST_THREADS: usize = 4;

/// Models that are worth a thread of their own.
const LEAST_SHARE: usize = 8_192;

/// What to list.
#[derive(Clone, Debug)]
pub struct Query {
    filter: Filter,
    words: Vec<Needle>,
    order: Order,
    show_missing: bool,
    show_sound: bool,
    /// Where models lie: free text is looked for below these.
    roots: Vec<PathBuf>,
    /// Tells this query from others in a page token.
    mark: u64,
}

/// Which models a list of verdicts has besides those that something is wrong with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdicts {
    pub sound: bool,
    pub missing: bool,
}

/// What a list is ordered by; equals by path, in whichever direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    key: Key,
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    DisplayName,
    Path,
    Type,
    Base,
    Size,
    Parameters,
    Discovered,
    Modified,
    /// Worst first.
    Verdict,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    pub models: Vec<Arc<Model>>,
    /// How many pass, on all pages together.
    pub total: usize,
    /// How many of those that pass have no files, whether they are listed or not.
    pub missing: usize,
    start: usize,
    mark: u64,
}

impl Page {
    /// The token for what comes after the first `shown` of this page; none if that is the end of the list.
    #[must_use]
    pub fn token_after(&self, shown: usize) -> String {
        let passed = self.start + shown;
        match shown.checked_sub(1).and_then(|last| self.models.get(last)) {
            Some(last) if passed < self.total => Token { mark: self.mark, last: last.id, passed }.to_string(),
            _ => String::new(),
        }
    }
}

impl Query {
    /// `now` is what times so long ago are counted from.
    ///
    /// # Errors
    /// FIELD_INVALID with the field and the place in it.
    pub fn parse(
        filter: &str,
        query: &str,
        order_by: &str,
        show_missing: bool,
        now: WallTime,
    ) -> Result<Self> {
        let order = Order::parse(order_by)?;
        let mark = mark(&[filter, query, order_by, if show_missing { "all" } else { "" }]);
        let filter = Filter::parse(filter, now)?;
        Ok(Self {
            filter,
            words: Needle::words(query),
            order,
            show_missing,
            show_sound: true,
            roots: Vec::new(),
            mark,
        })
    }

    /// What is wrong with models, worst first.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn verdicts(filter: &str, shown: Verdicts, now: WallTime) -> Result<Self> {
        let order = Order { key: Key::Verdict, descending: false };
        let Verdicts { sound: show_sound, missing: show_missing } = shown;
        let flag = |is_set: bool, word: &'static str| if is_set { word } else { "" };
        let mark = mark(&[filter, "verdicts", flag(show_sound, "all"), flag(show_missing, "missing")]);
        let filter = Filter::parse(filter, now)?;
        Ok(Self { filter, words: Vec::new(), order, show_missing, show_sound, roots: Vec::new(), mark })
    }

    /// The same query, where models lie below these roots.
    #[must_use]
    pub fn below(self, roots: Vec<PathBuf>) -> Self {
        Self { roots, ..self }
    }

    /// Whether or not its files are there.
    fn passes(&self, model: &Model) -> bool {
        (self.show_sound || model.verdict() != Verdict::Ok)
            && self.words.iter().all(|word| word.is_about(model, &self.roots))
            && self.filter.passes(model, &self.roots)
    }
}

fn mark(parts: &[&str]) -> u64 {
    let hash = blake3::hash(parts.join("\0").as_bytes());
    hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Order {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split_whitespace();
        let key = match parts.next() {
            None | Some("display_name" | "name") => Key::DisplayName,
            Some("path") => Key::Path,
            Some("type") => Key::Type,
            Some("base") => Key::Base,
            Some("size_bytes" | "size" | "bytes") => Key::Size,
            Some("parameter_count" | "params") => Key::Parameters,
            Some("discover_time") => Key::Discovered,
            Some("modify_time") => Key::Modified,
            Some(other) => {
                return Err(Error::invalid_field(
                    "order_by",
                    format!(
                        "`{}` is nothing to order by: use display_name, path, type, base, size_bytes, parameter_count, \
                         discover_time or modify_time",
                        hoist_domain::excerpt(other)
                    ),
                ));
            }
        };
        let descending = match (parts.next(), parts.next()) {
            (None, _) | (Some("asc"), None) => false,
            (Some("desc"), None) => true,
            _ => return Err(Error::invalid_field("order_by", "is a field, optionally followed by `desc`")),
        };
        Ok(Self { key, descending })
    }

    /// What is compared first: the number itself, or how the text begins. Models lie all over memory, and each is
    /// touched once for this instead of once a comparison.
    fn key_of(self, model: &Model) -> u128 {
        let time = |time: WallTime| u128::from(time.0.abs_diff(i64::MIN));
        match self.key {
            Key::DisplayName | Key::Type | Key::Base => beginning(self.text_of(model)),
            Key::Path => 0,
            Key::Size => model.content.bytes.0.into(),
            Key::Parameters => model.content.parameters.into(),
            Key::Discovered => time(model.discovered_at),
            Key::Modified => model.modified_at().map_or(0, time),
            Key::Verdict => {
                let worse = Verdict::ALL.iter().filter(|verdict| **verdict > model.verdict()).count();
                worse as u128
            }
        }
    }

    fn item(self, place: usize, model: &Arc<Model>) -> Item<'_> {
        Item { key: self.key_of(model), place, model }
    }

    fn text_of(self, model: &Model) -> &str {
        match self.key {
            Key::DisplayName => model.name(),
            Key::Type => model.model_type().as_str(),
            Key::Base => model.base().as_str(),
            _ => "",
        }
    }

    fn compare(self, one: &Item<'_>, other: &Item<'_>) -> Ordering {
        let by_key = one.key.cmp(&other.key);
        let by_key = by_key.then_with(|| self.text_of(one.model).cmp(self.text_of(other.model)));
        let by_path = one.place.cmp(&other.place);
        match (self.descending, self.key) {
            (false, _) => by_key.then(by_path),
            (true, Key::Path) => by_path.reverse(),
            (true, _) => by_key.reverse().then(by_path),
        }
    }
}

/// The first bytes of a text, as a number in the order of texts.
fn beginning(text: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    u128::from_be_bytes(bytes)
}

/// A model that is put in order.
struct Item<'a> {
    key: u128,
    /// In the order of paths.
    place: usize,
    model: &'a Arc<Model>,
}

/// The page of a list that a token names.
///
/// # Errors
/// PAGE_TOKEN_INVALID.
pub fn search(models: &Models, query: &Query, size: usize, token: &str) -> Result<Page> {
    let after = if token.is_empty() { None } else { Some(Token::parse(token, query.mark)?) };
    let order = query.order;
    let all: Vec<&Arc<Model>> = models.by_path().collect();
    let (mut passing, missing) = passing(&all, query);
    let total = passing.len();
    // What earlier pages showed is left out before anything is put in order: the last page costs no more than the first.
    let last = after.as_ref().and_then(|token| models.get(token.last));
    let place = |of: &Arc<Model>| models.by_path().take_while(|model| model.id != of.id).count();
    let last = last.map(|last| order.item(place(last), last));
    if let Some(last) = &last {
        passing.retain(|item| order.compare(item, last) == Ordering::Greater);
    }
    let skipped = total - passing.len();
    // Without the model that a page ended with, its number has to do.
    let from = if last.is_some() { 0 } else { after.map_or(0, |token| token.passed) };
    let to = from.saturating_add(size);
    // Only what is shown is put in order.
    if (1..passing.len()).contains(&to) {
        passing.select_nth_unstable_by(to - 1, |one, other| order.compare(one, other));
        passing.truncate(to);
    }
    passing.sort_unstable_by(|one, other| order.compare(one, other));
    let models = passing.into_iter().skip(from).take(size).map(|item| Arc::clone(item.model)).collect();
    Ok(Page { models, total, missing, start: skipped + from, mark: query.mark })
}

/// Those that pass, in the order of paths, and how many of them are missing, shown or not. Judged on several threads
/// where there are many: what it takes is mostly the wait for memory, as models lie all over it.
fn passing<'a>(all: &[&'a Arc<Model>], query: &Query) -> (Vec<Item<'a>>, usize) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS);
    let share = all.len().div_ceil(threads).max(LEAST_SHARE);
    let judge = |(number, part): (usize, &[&'a Arc<Model>])| -> (Vec<Item<'a>>, usize) {
        let (mut passing, mut missing) = (Vec::new(), 0);
        for (place, model) in (number * share..).zip(part).filter(|(_, model)| query.passes(model)) {
            let is_missing = model.state != ModelState::Available;
            missing += usize::from(is_missing);
            if query.show_missing || !is_missing {
                passing.push(query.order.item(place, model));
            }
        }
        (passing, missing)
    };
    std::thread::scope(|scope| {
        let mut parts = all.chunks(share).enumerate();
        let first = parts.next();
        let running: Vec<_> = parts.map(|part| scope.spawn(move || judge(part))).collect();
        let (mut passing, mut missing) = first.map(judge).unwrap_or_default();
        for thread in running {
            match thread.join() {
                Ok((part, more_missing)) => {
                    passing.extend(part);
                    missing += more_missing;
                }
                // As if it had happened here.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (passing, missing)
    })
}

/// Where a page ended: after this model, which was the so-manieth. If it is gone since, by its number.
struct Token {
    mark: u64,
    last: ModelId,
    passed: usize,
}

impl Token {
    fn parse(text: &str, mark: u64) -> Result<Self> {
        let invalid = Error::other_page;
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or_else(invalid);
        let found = u64::from_str_radix(part()?, 16).map_err(|_| invalid())?;
        let last = Uuid::try_parse(part()?).map_err(|_| invalid())?;
        let passed = part()?.parse().map_err(|_| invalid())?;
        if found == mark { Ok(Self { mark, last: ModelId(last), passed }) } else { Err(invalid()) }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}.{}.{}", self.mark, self.last, self.passed)
    }
}

#[cfg(test)]
mod tests {
    use hoist_planner::State;

    use super::*;
    use crate::catalog::test_models::{model, state_of};

    /// All that an order lists, page by page of so many.
    fn listed(state: &State, query: &Query, size: usize) -> Vec<String> {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = search(state.models(), query, size, &token).unwrap();
            listed.extend(page.models.iter().map(|model| model.path.text().into_owned()));
            token = page.token_after(page.models.len());
            if token.is_empty() {
                return listed;
            }
        }
    }

    #[test]
    fn equals_are_in_the_order_of_paths_in_both_directions() {
        let one = |path: &str, bytes| Model::clone(&model(path, "lora", "sdxl", bytes, &[]));
        let state = state_of([one("/m/b", 2), one("/m/d", 1), one("/m/c", 2), one("/m/a", 1)]);
        for (order, expected) in [
            ("size_bytes", ["/m/a", "/m/d", "/m/b", "/m/c"]),
            ("size_bytes desc", ["/m/b", "/m/c", "/m/a", "/m/d"]),
            ("type desc", ["/m/a", "/m/b", "/m/c", "/m/d"]),
            ("path desc", ["/m/d", "/m/c", "/m/b", "/m/a"]),
        ] {
            let query = Query::parse("", "", order, false, WallTime(0)).unwrap();
            for size in 1..=4 {
                assert_eq!(listed(&state, &query, size), expected, "{order} by {size}");
            }
        }
    }

    #[test]
    fn the_missing_are_counted_as_far_as_they_pass_and_listed_only_when_asked_for() {
        let gone = |path: &str, kind: &str| Model {
            state: ModelState::Missing,
            ..Model::clone(&model(path, kind, "sdxl", 1, &[]))
        };
        let state = state_of([
            Model::clone(&model("/m/there", "lora", "sdxl", 1, &[])),
            gone("/m/lora", "lora"),
            gone("/m/vae", "vae"),
        ]);
        for (filter, show, total, missing) in [
            ("", false, 1, 2),
            ("type = lora", false, 1, 1),
            ("type = lora", true, 2, 1),
            ("type = llm", true, 0, 0),
        ] {
            let query = Query::parse(filter, "", "", show, WallTime(0)).unwrap();
            let page = search(state.models(), &query, 10, "").unwrap();
            assert_eq!((page.total, page.missing), (total, missing), "{filter} {show}");
        }
    }

    #[test]
    fn many_models_are_listed_as_few_are() {
        let count = 3 * LEAST_SHARE + 7;
        let models = (0..count).map(|number| {
            let kind = if number % 3 == 0 { "lora" } else { "vae" };
            let one = model(&format!("/m/{number:06}.safetensors"), kind, "sdxl", number as u64 + 1, &[]);
            Model::clone(&one)
        });
        let state = state_of(models);
        let query = Query::parse("type = lora", "", "path", false, WallTime(0)).unwrap();
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = search(state.models(), &query, 1_000, &token).unwrap();
            assert_eq!(page.total, count.div_ceil(3));
            listed.extend(page.models.iter().map(|model| model.name().to_owned()));
            token = page.token_after(page.models.len());
            if token.is_empty() {
                break;
            }
        }
        let expected: Vec<String> = (0..count).step_by(3).map(|number| format!("{number:06}")).collect();
        assert_eq!(listed, expected);
    }
}
