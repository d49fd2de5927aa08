//! Asks what people call models.

use std::collections::{BTreeSet, HashMap};

use hoist_wire::v1;
use hoist_wire::v1::resource::Value as Kind;

use crate::client::Client;
use crate::error::Result;
use crate::output::called::Called;
use crate::verbs::status;

/// The most names in one question; the server's own bound.
const NAMES: usize = 1_000;

/// Asks for all of these at once.
pub(crate) async fn read<'m>(client: &Client, models: impl Iterator<Item = &'m str>) -> Result<Called> {
    let models: BTreeSet<&str> = models.filter(|model| !model.is_empty()).collect();
    let models: Vec<String> = models.into_iter().map(str::to_owned).collect();
    let mut called = HashMap::new();
    for some in models.chunks(NAMES) {
        for status in status::batch(client, some.to_vec()).await?.into_iter().flatten() {
            if let Some(Kind::Model(model)) = status.resource.and_then(|it| it.value) {
                called.insert(model.name, model.display_name);
            }
        }
    }
    Ok(Called(called))
}

/// The models that these resources speak of.
pub(crate) async fn of<'r>(
    client: &Client,
    resources: impl Iterator<Item = &'r v1::Resource>,
) -> Result<Called> {
    read(client, resources.flat_map(models)).await
}

fn models(resource: &v1::Resource) -> Vec<&str> {
    match resource.value.as_ref() {
        Some(Kind::Operation(it)) => vec![&it.subject],
        Some(Kind::Lease(it)) => vec![&it.model],
        Some(Kind::Segment(it)) => {
            let beneficiary = it.eviction.as_ref().map(|it| it.beneficiary.as_str());
            it.models.iter().map(String::as_str).chain(beneficiary).collect()
        }
        _ => Vec::new(),
    }
}
