//! Asks what people call models.

use std::collections::BTreeSet;

use hoist_wire::v1;
use hoist_wire::v1::resource::Value as Kind;

use crate::client::Client;
use crate::error::Result;
use crate::output::called::Called;
use crate::verbs::status;

/// The most names in one question; the server's own bound.
const NAMES: usize = 1_000;

/// The models of these names, all asked for at once. One that is gone is not among them.
pub(crate) async fn models<'m>(
    client: &Client,
    names: impl Iterator<Item = &'m str>,
) -> Result<Vec<v1::Model>> {
    let names: BTreeSet<&str> = names.filter(|model| !model.is_empty()).collect();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let mut models = Vec::with_capacity(names.len());
    for some in names.chunks(NAMES) {
        // What is joined with them is for those who ask where they are.
        for status in status::batch(client, some.to_vec(), &["resource"]).await?.into_iter().flatten() {
            if let Some(Kind::Model(model)) = status.resource.and_then(|it| it.value) {
                models.push(model);
            }
        }
    }
    Ok(models)
}

/// What they are called.
pub(crate) async fn read<'m>(client: &Client, names: impl Iterator<Item = &'m str>) -> Result<Called> {
    Ok(Called::of(&models(client, names).await?))
}

/// The models that a resource speaks of.
pub(crate) fn spoken_of(resource: &v1::Resource) -> Vec<&str> {
    match resource.value.as_ref() {
        Some(Kind::Operation(it)) => vec![&it.subject],
        Some(Kind::Lease(it)) => vec![&it.model],
        Some(Kind::Replica(it)) => it.models.iter().map(String::as_str).collect(),
        Some(Kind::Segment(it)) => {
            let beneficiary = it.eviction.as_ref().map(|it| it.beneficiary.as_str());
            it.models.iter().map(String::as_str).chain(beneficiary).collect()
        }
        _ => Vec::new(),
    }
}
