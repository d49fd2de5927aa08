//! Which model somebody means by a name.

use std::path::Path;
use std::sync::Arc;

use hoist_domain::{Error, Model, ModelPath, Reason, ResourceName, Result, excerpt};
use hoist_planner::Models;

/// The longest name that is looked up.
const MAX_BYTES: usize = 4_096;

/// The shortest start of a digest that names a model.
const DIGEST_DIGITS: usize = 8;

/// Candidates that an ambiguous name is refused with.
const CANDIDATES: usize = 10;

/// The model that a name means: its resource name or path; its display name, an alias, its file's name or stem; or the
/// start of a component's digest. What comes first decides, and where several models fit equally, nobody does.
///
/// # Errors
/// RESOURCE_NOT_FOUND; NAME_AMBIGUOUS with the candidates; NAME_INVALID.
pub fn find<'a>(models: &'a Models, name: &str) -> Result<&'a Arc<Model>> {
    if name.is_empty() || name.len() > MAX_BYTES {
        return Err(Error::new(Reason::NameInvalid, format!("a model's name has 1 to {MAX_BYTES} bytes")));
    }
    let not_found = || {
        let shown = excerpt(name);
        Error::new(
            Reason::ResourceNotFound,
            format!("no model is called `{shown}`; list what there is, or scan"),
        )
        .with("name", shown)
    };
    if name.starts_with("models/") {
        let Ok(ResourceName::Model(id)) = name.parse() else { return Err(not_found()) };
        return models.get(id).ok_or_else(not_found);
    }
    if name.starts_with('/')
        && let Some(model) = models.at(&ModelPath::new(Path::new(name)))
    {
        return Ok(model);
    }
    // One whose path is no text, by what is shown of it.
    let by_path = |model: &Model| {
        name.starts_with('/') && model.path.as_path().to_str().is_none() && model.path.text() == name
    };
    // An alias has no precedence over a name: what is deleted by a name must be what has it.
    let by_name = |model: &Model| {
        model.name() == name
            || *model.path_name == *name
            || file_name(model) == name
            || model.notes.as_ref().is_some_and(|notes| notes.aliases.iter().any(|alias| alias == name))
    };
    let is_digest = name.len() >= DIGEST_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_digest =
        |model: &Model| {
            is_digest
                && model.content.components.iter().any(|component| {
                    component.digest.is_some_and(|digest| digest.to_string().starts_with(name))
                })
        };
    let ways: [&dyn Fn(&Model) -> bool; 3] = [&by_path, &by_name, &by_digest];
    // One walk: models are far apart in memory, and the questions are cheap.
    let (mut best, mut fitting): (usize, Vec<&Arc<Model>>) = (ways.len(), Vec::new());
    for model in models.iter() {
        // A worse way than one that has found something decides nothing any more.
        let found = ways.iter().take(best.saturating_add(1)).position(|way| way(model));
        let Some(found) = found else { continue };
        if found < best {
            best = found;
            fitting.clear();
        }
        fitting.push(model);
    }
    match fitting.as_slice() {
        [] => Err(not_found()),
        [one] => Ok(one),
        several => Err(ambiguous(name, several)),
    }
}

fn file_name(model: &Model) -> std::borrow::Cow<'_, str> {
    model.path.as_path().file_name().unwrap_or_default().to_string_lossy()
}

fn ambiguous(name: &str, several: &[&Arc<Model>]) -> Error {
    let shown: Vec<String> =
        several.iter().take(CANDIDATES).map(|model| model.path.text().into_owned()).collect();
    let more = several.len().saturating_sub(CANDIDATES);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    let ids: Vec<String> =
        several.iter().take(CANDIDATES).map(|model| ResourceName::Model(model.id).to_string()).collect();
    Error::new(
        Reason::NameAmbiguous,
        format!(
            "{} models are called `{}`: {}{tail}; use a path or a models/... name",
            several.len(),
            excerpt(name),
            shown.join(", ")
        ),
    )
    .with("candidates", ids.join(","))
}
