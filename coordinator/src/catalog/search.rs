//! Lists of models: filtered, ordered, page by page. A walk over the published state; nothing is indexed, because a
//! hundred thousand models are judged in some ten milliseconds.

use std::cmp::Ordering;
use std::sync::Arc;

use hoist_domain::{Error, Model, ModelId, ModelState, Reason, Result, Verdict};
use hoist_planner::Models;
use uuid::Uuid;

use super::filter::{Filter, words};

/// What to list.
#[derive(Clone, Debug)]
pub struct Query {
    filter: Filter,
    words: Vec<String>,
    order: Order,
    show_missing: bool,
    show_sound: bool,
    /// Tells this query from others in a page token.
    mark: u64,
}

/// What a list is ordered by; equals by path.
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
    /// # Errors
    /// FIELD_INVALID with the field and the place in it.
    pub fn parse(filter: &str, query: &str, order_by: &str, show_missing: bool) -> Result<Self> {
        let order = Order::parse(order_by)?;
        let mark = mark(&[filter, query, order_by, if show_missing { "all" } else { "" }]);
        let filter = Filter::parse(filter)?;
        Ok(Self { filter, words: words(query), order, show_missing, show_sound: true, mark })
    }

    /// What is wrong with models, worst first.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn verdicts(filter: &str, show_sound: bool) -> Result<Self> {
        let order = Order { key: Key::Verdict, descending: false };
        let mark = mark(&[filter, "verdicts", if show_sound { "all" } else { "" }]);
        let filter = Filter::parse(filter)?;
        Ok(Self { filter, words: Vec::new(), order, show_missing: true, show_sound, mark })
    }

    fn passes(&self, model: &Model) -> bool {
        (self.show_missing || model.state == ModelState::Available)
            && (self.show_sound || model.verdict() != Verdict::Ok)
            && self.words.iter().all(|word| super::filter::mentions(model, word))
            && self.filter.passes(model)
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

    fn compare(self, one: &Model, other: &Model) -> Ordering {
        let ordering = match self.key {
            Key::DisplayName => one.name().cmp(other.name()),
            Key::Path => Ordering::Equal,
            Key::Type => one.model_type().as_str().cmp(other.model_type().as_str()),
            Key::Base => one.base().cmp(other.base()),
            Key::Size => one.content.bytes.cmp(&other.content.bytes),
            Key::Parameters => one.content.parameters.cmp(&other.content.parameters),
            Key::Discovered => one.discovered_at.cmp(&other.discovered_at),
            Key::Modified => one.modified_at().cmp(&other.modified_at()),
            Key::Verdict => other.verdict().cmp(&one.verdict()),
        };
        let ordering = ordering.then_with(|| one.path.cmp(&other.path));
        if self.descending { ordering.reverse() } else { ordering }
    }
}

/// The page of a list that a token names.
///
/// # Errors
/// PAGE_TOKEN_INVALID.
pub fn search(models: &Models, query: &Query, size: usize, token: &str) -> Result<Page> {
    let after = if token.is_empty() { None } else { Some(Token::parse(token, query.mark)?) };
    let mut passing: Vec<&Arc<Model>> = models.iter().filter(|model| query.passes(model)).collect();
    let total = passing.len();
    let compare = |one: &&Arc<Model>, other: &&Arc<Model>| query.order.compare(one, other);
    let start = after.map_or(0, |token| token.place(models, &passing, query));
    let end = start.saturating_add(size).min(total);
    // Only what is shown is put in order.
    if end > 0 && end < total {
        passing.select_nth_unstable_by(end - 1, compare);
        passing.truncate(end);
    }
    passing.sort_unstable_by(compare);
    let models = passing.get(start..end).unwrap_or_default().iter().map(|model| Arc::clone(model)).collect();
    Ok(Page { models, total, start, mark: query.mark })
}

/// Where a page ended: after this model, which was the so-manieth. If it is gone since, by its number.
struct Token {
    mark: u64,
    last: ModelId,
    passed: usize,
}

impl Token {
    fn parse(text: &str, mark: u64) -> Result<Self> {
        let invalid = || {
            Error::new(
                Reason::PageTokenInvalid,
                "this page token is not of this list; start from the first page",
            )
            .field("page_token", "is not of this list")
        };
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or_else(invalid);
        let found = u64::from_str_radix(part()?, 16).map_err(|_| invalid())?;
        let last = Uuid::try_parse(part()?).map_err(|_| invalid())?;
        let passed = part()?.parse().map_err(|_| invalid())?;
        if found == mark { Ok(Self { mark, last: ModelId(last), passed }) } else { Err(invalid()) }
    }

    fn place(&self, models: &Models, passing: &[&Arc<Model>], query: &Query) -> usize {
        let Some(last) = models.get(self.last) else { return self.passed };
        passing.iter().filter(|model| query.order.compare(model, last) != Ordering::Greater).count()
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}.{}.{}", self.mark, self.last, self.passed)
    }
}
