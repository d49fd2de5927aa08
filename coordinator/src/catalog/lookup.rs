//! Which model somebody means by a name.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use hoist_domain::{Error, Model, ModelPath, Nearest, Reason, ResourceName, Result, excerpt};
use hoist_planner::Models;

/// The longest name that is looked up.
const MAX_BYTES: usize = 4_096;

/// The shortest start of a digest that names a model.
const DIGEST_DIGITS: usize = 8;

/// From so many on, hexadecimal digits that name nothing are likely meant as the start of one.
const SHORT_DIGITS: usize = 4;

/// Candidates that an ambiguous name is refused with.
const CANDIDATES: usize = 10;

/// Names that one which nobody has is refused with.
const MEANT: usize = 3;

/// The model that a name means: its resource name or path; its display name, an alias, its file's name or stem; the end
/// of its path, from a folder's name on; or the start of a component's digest. What comes first decides, and where several
/// models fit equally, nobody does.
///
/// # Errors
/// RESOURCE_NOT_FOUND; NAME_AMBIGUOUS with the candidates; NAME_INVALID.
pub fn find<'a>(models: &'a Models, name: &str) -> Result<&'a Arc<Model>> {
    if name.is_empty() || name.len() > MAX_BYTES {
        return Err(Error::new(Reason::NameInvalid, format!("a model's name has 1 to {MAX_BYTES} bytes")));
    }
    if name.starts_with("models/")
        && let Ok(ResourceName::Model(id)) = name.parse()
    {
        return models.get(id).ok_or_else(|| not_found(name, &[]));
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
    // What tables show of a path where names are not enough.
    let is_tail = name.contains('/') && !name.starts_with('/');
    let by_tail = |model: &Model| {
        let path = model.path.as_path().as_os_str().as_bytes();
        is_tail && path.strip_suffix(name.as_bytes()).is_some_and(|before| before.ends_with(b"/"))
    };
    let is_digest = name.len() >= DIGEST_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_digest =
        |model: &Model| {
            is_digest
                && model.content.components.iter().any(|component| {
                    component.digest.is_some_and(|digest| digest.to_string().starts_with(name))
                })
        };
    let ways: [&dyn Fn(&Model) -> bool; 4] = [&by_path, &by_name, &by_tail, &by_digest];
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
        [] => Err(not_found(name, &meant(models, name))),
        [one] => Ok(one),
        several => Err(ambiguous(name, several)),
    }
}

fn not_found(name: &str, meant: &[&str]) -> Error {
    let shown = excerpt(name);
    let advice = match meant {
        [] => String::new(),
        meant => {
            let meant: Vec<String> = meant.iter().map(|name| format!("`{}`", excerpt(name))).collect();
            format!("; did you mean {}?", meant.join(" or "))
        }
    };
    let is_short_digest = (SHORT_DIGITS..DIGEST_DIGITS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let more = if is_short_digest {
        format!("; as the start of a digest it takes {DIGEST_DIGITS} digits at least")
    } else {
        String::new()
    };
    let message = format!("no model is called `{shown}`{advice}{more}");
    Error::new(Reason::ResourceNotFound, message).with("name", shown).with("kind", "model")
}

/// The names that are nearest to one that nobody has. One more walk, which a refusal can afford: a name that is not
/// near costs a look at its letters.
fn meant<'a>(models: &'a Models, name: &str) -> Vec<&'a str> {
    // Of a path, or of a file's name, what models are called by.
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    let stem = Path::new(last).file_stem().and_then(|stem| stem.to_str()).unwrap_or(last);
    let mut nearest = Nearest::to(if name.starts_with('/') { stem } else { name }, MEANT);
    for model in models.iter() {
        let aliases = model.notes.iter().flat_map(|notes| &notes.aliases);
        for known in aliases.map(String::as_str).chain([model.name()]) {
            nearest.look_at(known);
        }
    }
    nearest.names()
}

fn file_name(model: &Model) -> std::borrow::Cow<'_, str> {
    model.path.as_path().file_name().unwrap_or_default().to_string_lossy()
}

fn ambiguous(name: &str, several: &[&Arc<Model>]) -> Error {
    let mut several = several.to_vec();
    several.sort_unstable_by(|one, other| one.path.cmp(&other.path));
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

#[cfg(test)]
mod tests {
    use hoist_planner::State;

    use super::*;
    use crate::catalog::test_models::{model, state_of};

    fn state(paths: impl IntoIterator<Item = String>) -> State {
        state_of(paths.into_iter().map(|path| Model::clone(&model(&path, "lora", "sdxl", 1, &[]))))
    }

    #[test]
    fn the_end_of_a_path_names_a_model_where_its_name_does_not() {
        let state = state(["/m/a/twin.gguf", "/m/b/twin.gguf", "/m/c/ba/one.gguf"].map(str::to_owned));
        let path = |name: &str| find(state.models(), name).map(|model| model.path.text().into_owned());
        assert_eq!(path("a/twin.gguf").unwrap(), "/m/a/twin.gguf");
        assert_eq!(path("m/b/twin.gguf").unwrap(), "/m/b/twin.gguf");
        assert_eq!(path("one").unwrap(), "/m/c/ba/one.gguf");
        assert_eq!(path("twin").unwrap_err().reason(), Reason::NameAmbiguous);
        // A piece of a folder's name is no folder.
        assert_eq!(path("a/one.gguf").unwrap_err().reason(), Reason::ResourceNotFound);
    }

    #[test]
    fn a_name_that_nobody_has_is_refused_with_those_that_are_near() {
        let state = state(["/m/sd_xl_base_1.0.gguf", "/m/dawn.gguf", "/m/dusk.gguf"].map(str::to_owned));
        let said = |name: &str| find(state.models(), name).unwrap_err().message().to_owned();
        assert!(said("dwan").ends_with("did you mean `dawn`?"), "{}", said("dwan"));
        assert!(said("sdxl").ends_with("did you mean `sd_xl_base_1.0`?"), "{}", said("sdxl"));
        assert!(said("/old/place/Dawn.safetensors").ends_with("did you mean `dawn`?"));
        assert_eq!(said("banana"), "no model is called `banana`");
        assert_eq!(
            said("0fe7a1c"),
            "no model is called `0fe7a1c`; as the start of a digest it takes 8 digits at least"
        );
        for name in ["0fe", "0fe7a1c0", "0fe7z"] {
            assert!(!said(name).contains("digest"), "{name}");
        }
        assert!(!said(&format!("models/{}", uuid::Uuid::nil())).contains("did you mean"));
    }
}
