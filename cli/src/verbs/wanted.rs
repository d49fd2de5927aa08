//! What people write for models or components of them: NAME or NAME:COMPONENT.

use std::collections::BTreeSet;

use hoist_wire::v1;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::text;
use crate::verbs::show;

/// A model, and which of its components are meant. None: all of them.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) model: v1::Model,
    pub(crate) components: Vec<String>,
}

impl Wanted {
    /// In words: `vae of sdxl`, or the model's name alone for all of it.
    pub(crate) fn words(&self) -> String {
        let model = &self.model.display_name;
        text::one_line(&match self.components.as_slice() {
            [] => model.clone(),
            some => format!("{} of {model}", some.join(", ")),
        })
    }

    /// The same, if the model has all of them.
    ///
    /// # Errors
    /// It has one of them not, as the server would tell.
    pub(crate) fn of_its_components(self) -> Result<Self> {
        let known: Vec<&str> = self.model.components.iter().map(|one| one.name.as_str()).collect();
        let Some(missing) = self.components.iter().find(|one| !known.contains(&one.as_str())) else {
            return Ok(self);
        };
        Err(Error::usage(
            format!("{} has no component `{missing}`; it has: {}", self.model.display_name, known.join(", ")),
            None,
        ))
    }
}

/// The model that is called so, or else the one that what stands before the last colon is called: a name with a colon in
/// it wins over a component. `flags` are components that were named beside it.
pub(crate) async fn resolve(client: &Client, written: &str, flags: &[String]) -> Result<Wanted> {
    let whole = match show::catalogued(client, written).await {
        Ok(model) => return Ok(Wanted { model, components: flags.to_vec() }),
        Err(error) => error,
    };
    // What is wrong with the whole may be no more than the colon in it.
    let may_have_parts = matches!(whole.exit(), Exit::NotFound | Exit::Usage);
    let Some((name, component)) = split(written).filter(|_| may_have_parts) else { return Err(whole) };
    let model = show::catalogued(client, name).await?;
    if !flags.is_empty() {
        return Err(Error::usage(
            format!("`{written}` names a component, and so does --component"),
            Some("leave one of the two out"),
        ));
    }
    Ok(Wanted { model, components: vec![component.to_owned()] })
}

/// The same for several, each beside what was written. One that stands for nothing does not fail the others.
///
/// # Errors
/// The server is not there, or speaks of something else.
pub(crate) async fn resolve_each(
    client: &Client,
    written: &[String],
    flags: &[String],
) -> Result<Vec<(String, Result<Wanted>)>> {
    let mut named = Vec::with_capacity(written.len());
    for name in written {
        match resolve(client, name, flags).await {
            Err(error) if error.is_ours() => return Err(error),
            known => named.push((name.clone(), known)),
        }
    }
    Ok(named)
}

/// Each model once, however often it is named; a component of a model that is named itself comes with that, if there is one
/// of that name.
pub(crate) fn once(mut named: Vec<(String, Result<Wanted>)>) -> Vec<(String, Result<Wanted>)> {
    let mut known: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    named.retain(|(_, wanted)| match wanted {
        Ok(it) => known.insert((it.model.name.clone(), it.components.clone())),
        Err(_) => true,
    });
    let has = |it: &Wanted, name: &String| it.model.components.iter().any(|one| one.name == *name);
    let is_part_of_another = |it: &Wanted| {
        !it.components.is_empty()
            && known.contains(&(it.model.name.clone(), Vec::new()))
            && it.components.iter().all(|name| has(it, name))
    };
    named.retain(|(_, wanted)| !wanted.as_ref().is_ok_and(is_part_of_another));
    named
}

/// What is meant by all of these, each thing once, where it is judged as a whole.
///
/// # Errors
/// One of them stands for nothing, or names a component that its model has not.
pub(crate) async fn all(client: &Client, written: &[String], flags: &[String]) -> Result<Vec<Wanted>> {
    let named = once(resolve_each(client, written, flags).await?);
    named.into_iter().map(|(_, wanted)| wanted.and_then(Wanted::of_its_components)).collect()
}

/// The same as a request says it.
pub(crate) fn parts(wanted: &[Wanted]) -> Vec<v1::ModelPart> {
    let part = |it: &Wanted| v1::ModelPart { name: it.model.name.clone(), components: it.components.clone() };
    wanted.iter().map(part).collect()
}

/// The same in words, as long as that is short.
pub(crate) fn words(wanted: &[Wanted]) -> String {
    const NAMED: usize = 3;
    match wanted {
        some if some.len() <= NAMED => some.iter().map(Wanted::words).collect::<Vec<_>>().join(", "),
        many => format!("all {} of them", many.len()),
    }
}

/// The two sides of the last colon, where both can be what they should be.
fn split(written: &str) -> Option<(&str, &str)> {
    let (name, component) = written.rsplit_once(':')?;
    (!name.is_empty() && !component.is_empty() && !component.contains('/')).then_some((name, component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_stands_behind_the_last_colon() {
        assert_eq!(split("sdxl:vae"), Some(("sdxl", "vae")));
        assert_eq!(split("a:b:text_encoder_2"), Some(("a:b", "text_encoder_2")));
        assert_eq!(split("/m/a:b.safetensors:vae"), Some(("/m/a:b.safetensors", "vae")));
        for whole in ["sdxl", "sdxl:", ":vae", "/m/odd:folder/a.safetensors"] {
            assert_eq!(split(whole), None, "{whole}");
        }
    }

    #[test]
    fn what_is_named_twice_is_asked_for_once() {
        let named = |written: &str| {
            let (name, part) = written.split_once(':').unwrap_or((written, ""));
            let components = Some(part.to_owned()).filter(|part| !part.is_empty()).into_iter().collect();
            let has = |name: &str| v1::ModelComponent { name: name.to_owned(), ..Default::default() };
            let model = v1::Model {
                name: name.to_owned(),
                components: vec![has("vae"), has("unet")],
                ..Default::default()
            };
            (written.to_owned(), Ok(Wanted { model, components }))
        };
        let kept = |all: &[&str]| -> Vec<String> {
            once(all.iter().map(|written| named(written)).collect())
                .into_iter()
                .map(|(written, _)| written)
                .collect()
        };
        assert_eq!(kept(&["a:vae", "b", "a:vae", "a:unet", "b"]), ["a:vae", "b", "a:unet"]);
        assert_eq!(kept(&["a:vae", "a", "b:vae"]), ["a", "b:vae"]);
        assert_eq!(kept(&["a", "a:nope"]), ["a", "a:nope"], "to be refused");
        let missing = || ("x".to_owned(), Err(Error::failed("no")));
        assert_eq!(once(vec![missing(), missing()]).len(), 2);
    }
}
