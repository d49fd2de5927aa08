//! `hoist replicas`: what is on devices, or on its way there or away.

use std::collections::{BTreeMap, BTreeSet};

use hoist_wire::v1;
use serde_json::Value;

use crate::args::ReplicasArgs;
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::called::Parts;
use crate::output::replicas;
use crate::output::results::plural;
use crate::output::text;
use crate::verbs::{Session, list, names, names_of};

/// All pages of the replicas on this device, and of this model; empty: on all, of all.
pub(crate) async fn pages(client: &Client, device: &str, model: &str) -> Result<Vec<v1::Replica>> {
    let (mut replicas, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListReplicasRequest {
            request_id: request_id(),
            device_id: device.to_owned(),
            name: model.to_owned(),
            page_size: i32::try_from(list::PAGE).unwrap_or(i32::MAX),
            page_token,
        };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.residency().list_replicas(request)).await?;
        replicas.extend(page.replicas);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(replicas);
        }
    }
}

pub(crate) async fn run(session: &Session, args: &ReplicasArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let name = args.name.as_ref().map(|name| names::model(name)).transpose()?.unwrap_or_default();
    let replicas = pages(&client, args.device.as_deref().unwrap_or_default(), &name).await?;
    let out = session.out;
    if out.json {
        out.value(&replicas.iter().map(replicas::value).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if replicas.is_empty() {
        out.note(nothing(args));
        return Ok(Exit::Done);
    }
    let models = names_of::models(&client, replicas.iter().flat_map(|it| &it.models).map(String::as_str));
    let parts = Parts::of(&models.await?);
    let ids: Vec<&str> = replicas.iter().map(replicas::id_of).collect();
    replicas::print_all(out, &replicas, &names::short(&ids), &parts)?;
    out.note(plural(u64::try_from(replicas.len()).unwrap_or(u64::MAX), "replica"));
    Ok(Exit::Done)
}

fn nothing(args: &ReplicasArgs) -> String {
    let place = args.device.as_deref().map_or_else(|| "any device".to_owned(), text::one_line);
    match &args.name {
        Some(name) => {
            format!("nothing of {0} is on {place}: `hoist load {0}` brings it there", text::one_line(name))
        }
        None => format!("nothing is on {place}: `hoist load NAME` brings a model there"),
    }
}

/// What is on a device: components, and the models that have one there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) replicas: usize,
    pub(crate) models: usize,
}

/// The same of each device, by its id.
pub(crate) fn counts(replicas: &[v1::Replica]) -> BTreeMap<&str, Count> {
    let failed = i32::from(v1::replica::State::Failed);
    let mut models: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    // What did not get there holds nothing.
    for it in replicas.iter().filter(|it| it.state != failed) {
        let known = models.entry(&it.device_id).or_default();
        known.extend(it.models.iter().map(String::as_str));
        let count = counts.entry(&it.device_id).or_default();
        *count = Count { replicas: count.replicas + 1, models: known.len() };
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_counted_once_a_device() {
        let replica = |device: &str, models: &[&str], state: v1::replica::State| v1::Replica {
            device_id: device.to_owned(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            state: state.into(),
            ..Default::default()
        };
        use v1::replica::State::{Active, Failed, Unloading};
        let replicas = [
            replica("cpu:0", &["models/x"], Active),
            replica("cpu:0", &["models/x", "models/y"], Active),
            replica("cuda:0", &[], Unloading),
            replica("cuda:0", &["models/z"], Failed),
        ];
        let counts = counts(&replicas);
        assert_eq!(counts["cpu:0"], Count { replicas: 2, models: 2 });
        assert_eq!(counts["cuda:0"], Count { replicas: 1, models: 0 });
    }
}
