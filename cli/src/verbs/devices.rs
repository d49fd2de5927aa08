//! `hoist devices`: what models can be loaded to, who drives it, and how much is on it.

use std::collections::{BTreeMap, BTreeSet};

use hoist_wire::v1;
use serde_json::Value;

use crate::args::DevicesArgs;
use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::called::Called;
use crate::output::devices;
use crate::output::json::set;
use crate::verbs::replicas::{self, Count};
use crate::verbs::{Session, names_of};

pub(crate) async fn run(session: &Session, args: &DevicesArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let out = session.out;
    if let Some(name) = &args.device {
        let request = v1::GetDeviceRequest { request_id: request_id(), name: name.clone() };
        let id = request.request_id.clone();
        let answer = client.call(Some(&id), client.devices().get_device(request)).await?;
        let device = answer.device.unwrap_or_default();
        let replicas = replicas::pages(&client, &device.device_id, "").await?;
        if out.json {
            out.value(&value(&device, &replicas::counts(&replicas)))?;
        } else {
            devices::print(out, &device)?;
            let models = replicas.iter().flat_map(|it| &it.models).map(String::as_str);
            let called = Called::apart(&names_of::models(&client, models).await?);
            let names: BTreeSet<&str> = called.0.values().map(String::as_str).collect();
            out.row("models", &names.into_iter().collect::<Vec<_>>().join(", "))?;
        }
        return Ok(Exit::Done);
    }
    let request = v1::ListDevicesRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.devices().list_devices(request)).await?;
    // A call more, for whoever wants to know what is where.
    let replicas = replicas::pages(&client, "", "").await?;
    let counts = replicas::counts(&replicas);
    if out.json {
        out.value(&answer.devices.iter().map(|it| value(it, &counts)).collect())?;
    } else if answer.devices.is_empty() {
        out.note("no devices: `hoist serve` starts a worker for cpu:0 if hoist-worker is beside it");
    } else {
        let models = |it: &v1::Device| counts.get(it.device_id.as_str()).map_or(0, |count| count.models);
        devices::print_all(out, &answer.devices.iter().map(|it| (it, models(it))).collect::<Vec<_>>())?;
    }
    Ok(Exit::Done)
}

/// A device, and how much is on it.
fn value(it: &v1::Device, counts: &BTreeMap<&str, Count>) -> Value {
    let none = Count::default();
    let count = counts.get(it.device_id.as_str()).unwrap_or(&none);
    let mut value = devices::value(it);
    set(&mut value, "replicas", count.replicas.into());
    set(&mut value, "models", count.models.into());
    value
}
