//! Whether a base that somebody says of a model is a word that means something here.
//!
//! The vocabulary is open, because files name architectures that did not exist when this was written; but what people
//! type is more often a slip, which no filter would find again.

use std::collections::BTreeSet;

use hoist_domain::{BaseModel, Error, Nearest, Result, excerpt};
use hoist_wire::v1;

use super::Api;

impl Api {
    /// Passes an edit whose base is known to Hoist, or the base of some model here, or meant to be a new one.
    pub(super) async fn takes_base(&self, request: &v1::UpdateModelRequest) -> Result<()> {
        let said = request.notes.as_ref().map_or("", |notes| notes.base_override.as_str());
        let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let is_edited = paths.is_empty() || paths.iter().any(|path| path == "base_override" || path == "*");
        if !is_edited || said.is_empty() || request.any_base || BaseModel::known().contains(&said) {
            return Ok(());
        }
        // What is no base at all is told by whoever reads the edit.
        let Ok(base) = said.parse::<BaseModel>() else { return Ok(()) };
        self.over_all(move |api| {
            let view = api.control.view();
            let of_models: BTreeSet<&str> =
                view.state.models().iter().map(|model| model.base().as_str()).collect();
            if of_models.contains(base.as_str()) { Ok(()) } else { Err(unknown(base.as_str(), &of_models)) }
        })
        .await
    }
}

fn unknown(base: &str, of_models: &BTreeSet<&str>) -> Error {
    const MEANT: usize = 3;
    let known: BTreeSet<&str> = BaseModel::known().iter().chain(of_models).copied().collect();
    let mut nearest = Nearest::to(base, MEANT);
    known.iter().for_each(|known| nearest.look_at(known));
    let meant: Vec<String> = nearest.names().iter().map(|name| format!("`{name}`")).collect();
    // What is long comes last: long messages are cut.
    let advice = if meant.is_empty() {
        format!("Known are {}", known.into_iter().collect::<Vec<_>>().join(", "))
    } else {
        format!("Did you mean {}?", meant.join(" or "))
    };
    let shown = excerpt(base);
    Error::invalid_field(
        "notes.base_override",
        format!("no base here is called `{shown}`; any_base takes it all the same. {advice}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_what_is_near_and_nonsense_with_all_that_there_is() {
        let here = BTreeSet::from(["flux.1", "brand-new"]);
        assert!(unknown("sdlx", &here).message().contains("Did you mean `sdxl`"));
        assert!(unknown("brandnew", &here).message().contains("`brand-new`"));
        let all = unknown("banana", &here);
        for word in ["Known are", "brand-new, ", "z-image", "any_base"] {
            assert!(all.message().contains(word), "{word}: {all}");
        }
    }
}
