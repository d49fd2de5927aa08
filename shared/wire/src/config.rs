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
