//! How a model is to be handled, from the domain to messages and back.

use hoist_domain::{Error, ModelConfig, Result};

use crate::encode::duration;
use crate::{cache, v1};

#[must_use]
pub(crate) fn config(config: &ModelConfig) -> v1::ModelConfig {
    v1::ModelConfig {
        default_device: config.default_device.clone(),
        trusted: config.trusted,
        cache_priority: config.cache_priority.map_or(0, |priority| cache::priority(priority).into()),
        cache_idle_ttl: config.cache_idle_ttl.map(duration),
        pinned: config.is_pinned,
        pinned_components: config.pinned_components.clone(),
    }
}

/// The configuration with what an edit wants.
///
/// # Errors
/// When a value is none; the field is named.
pub(crate) fn edited_config(
    before: &ModelConfig,
    edit: v1::ModelConfig,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<ModelConfig, Error> {
    let whole = wanted("config");
    let is_wanted = |field: &str| whole || wanted(&format!("config.{field}"));
    let mut config = before.clone();
    if is_wanted("default_device") {
        config.default_device = device(edit.default_device)?;
    }
    if is_wanted("trusted") {
        config.trusted = edit.trusted;
    }
    if is_wanted("cache_priority") {
        config.cache_priority = cache::read_priority("notes.config.cache_priority", edit.cache_priority)?;
    }
    if is_wanted("cache_idle_ttl") {
        let ttl = cache::read_idle_ttl("notes.config.cache_idle_ttl", edit.cache_idle_ttl.as_ref())?;
        config.cache_idle_ttl = ttl;
    }
    if is_wanted("pinned") {
        config.is_pinned = edit.pinned;
    }
    if is_wanted("pinned_components") {
        config.pinned_components = component_names("notes.config.pinned_components", edit.pinned_components)?;
    }
    Ok(config)
}

/// Names of components, sorted, without repetition.
///
/// # Errors
/// When there are too many, or one is none.
pub fn component_names(field: &str, mut names: Vec<String>) -> Result<Vec<String>, Error> {
    const MOST: usize = hoist_domain::CacheSpec::MAX_COMPONENTS;
    const LONGEST: usize = 128;
    if names.len() > MOST {
        return Err(Error::invalid_field(field, format!("has {} names, at most {MOST}", names.len())));
    }
    let is_name =
        |name: &String| !name.is_empty() && name.len() <= LONGEST && !name.contains(|c: char| c.is_control());
    if !names.iter().all(is_name) {
        return Err(Error::invalid_field(field, format!("each name has 1 to {LONGEST} bytes of text")));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// `cuda:0`, also as `GPU_0` and `gpu:0`; `cpu:0`.
fn device(said: String) -> Result<String> {
    let lower = said.to_ascii_lowercase();
    let (kind, number) = match lower.split_once([':', '_']) {
        None if lower.is_empty() => return Ok(said),
        Some((kind @ ("cuda" | "gpu" | "cpu"), number)) => (kind, number),
        _ => ("", ""),
    };
    let kind = if kind == "gpu" { "cuda" } else { kind };
    match number.parse::<u16>() {
        Ok(number) if !kind.is_empty() => Ok(format!("{kind}:{number}")),
        _ => Err(Error::invalid_field(
            "notes.config.default_device",
            format!("`{}` is not a device: use cuda:0, gpu:0 or cpu:0", hoist_domain::excerpt(&said)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_edit_changes_the_parts_of_a_configuration_that_it_names() {
        let before = ModelConfig {
            default_device: "cuda:1".to_owned(),
            cache_priority: Some(hoist_domain::Priority::Low),
            cache_idle_ttl: Some(Duration::from_secs(9)),
            pinned_components: vec!["vae".to_owned()],
            ..ModelConfig::default()
        };
        let edit = v1::ModelConfig {
            default_device: "cpu:0".to_owned(),
            trusted: true,
            cache_priority: v1::Priority::High.into(),
            cache_idle_ttl: Some(duration(Duration::from_secs(60))),
            pinned: true,
            pinned_components: vec!["unet".to_owned()],
        };
        let edited =
            |paths: &[&str]| edited_config(&before, edit.clone(), &|path| paths.contains(&path)).unwrap();
        assert_eq!(edited(&[]), before);
        let ttl = Some(Duration::from_secs(60));
        assert_eq!(edited(&["config.pinned"]), ModelConfig { is_pinned: true, ..before.clone() });
        assert_eq!(edited(&["config.cache_idle_ttl"]), ModelConfig { cache_idle_ttl: ttl, ..before.clone() });
        assert_eq!(
            edited(&["config.cache_priority", "config.pinned_components"]),
            ModelConfig {
                cache_priority: Some(hoist_domain::Priority::High),
                pinned_components: vec!["unet".to_owned()],
                ..before.clone()
            }
        );
        let whole = edited(&["config"]);
        assert_eq!(config(&whole), edit, "all of it, and it reads back");
    }

    #[test]
    fn names_of_components_are_few_short_words_without_control_characters() {
        let names = |names: &[&str]| {
            component_names("components", names.iter().map(|name| (*name).to_owned()).collect())
                .map_err(|error| error.fields()[0].field.clone())
        };
        assert_eq!(names(&["vae", "unet", "vae"]).unwrap(), ["unet", "vae"]);
        assert_eq!(names(&[&"x".repeat(128)]).unwrap().len(), 1);
        for wrong in ["", &"x".repeat(129), "v\u{1b}ae", "a\nb"] {
            assert_eq!(names(&["unet", wrong]), Err("components".to_owned()), "{wrong:?}");
        }
        let many: Vec<String> = (0..=64).map(|number| number.to_string()).collect();
        assert_eq!(component_names("components", many[..64].to_vec()).unwrap().len(), 64);
        assert!(component_names("components", many).is_err());
    }
}
