//! `hoist cordon` and `hoist uncordon`: whether a device takes anything new.

use hoist_domain::DeviceId;
use hoist_wire::v1;

use crate::args::{CordonArgs, UncordonArgs};
use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::devices;
use crate::verbs::Session;

pub(crate) async fn cordon(session: &Session, args: &CordonArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::CordonDeviceRequest {
        request_id: request_id(),
        name: args.device.clone(),
        reason: args.reason.clone(),
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.devices().cordon_device(request)).await?;
    let unheard = || unheard_of(&args.device, Some(&args.reason));
    tell(session, answer.device.as_ref(), unheard)
}

pub(crate) async fn uncordon(session: &Session, args: &UncordonArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::UncordonDeviceRequest { request_id: request_id(), name: args.device.clone() };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.devices().uncordon_device(request)).await?;
    tell(session, answer.device.as_ref(), || unheard_of(&args.device, None))
}

/// What state it is in now: cordoning it has not changed what its worker is doing.
fn tell(
    session: &Session,
    device: Option<&v1::Device>,
    unheard_of: impl FnOnce() -> v1::Device,
) -> Result<Exit> {
    let out = session.out;
    let device = device.cloned().unwrap_or_else(unheard_of);
    if out.json {
        out.value(&devices::value(&device))?;
    } else {
        out.line(devices::sentence(&device))?;
    }
    Ok(Exit::Done)
}

/// What is known of a device that no worker has come for: what somebody has said of it.
fn unheard_of(written: &str, reason: Option<&str>) -> v1::Device {
    let id = written.strip_prefix("devices/").unwrap_or(written);
    // As the server writes it: `GPU_0` is `cuda:0`.
    let device_id = id.parse::<DeviceId>().map_or_else(|_| id.to_owned(), |id| id.to_string());
    v1::Device {
        name: format!("devices/{device_id}"),
        device_id,
        cordoned: reason.is_some(),
        cordon_reason: reason.unwrap_or_default().to_owned(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_nobody_drives_is_called_as_the_server_calls_it() {
        let it = unheard_of("GPU_3", Some("not yet"));
        assert_eq!(
            (it.name.as_str(), it.device_id.as_str(), it.cordoned),
            ("devices/cuda:3", "cuda:3", true)
        );
        assert_eq!(devices::sentence(&it), "cuda:3 is cordoned (not yet); no worker was heard of for it");
        let it = unheard_of("devices/cuda:3", None);
        assert_eq!(devices::sentence(&it), "cuda:3 is not cordoned; no worker was heard of for it");
    }
}
