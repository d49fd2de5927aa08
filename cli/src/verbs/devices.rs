//! `hoist devices`: what models can be loaded to, and who drives it.

use hoist_wire::v1;

use crate::args::DevicesArgs;
use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::devices;
use crate::verbs::Session;

pub(crate) async fn run(session: &Session, args: &DevicesArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let out = session.out;
    if let Some(name) = &args.device {
        let request = v1::GetDeviceRequest { request_id: request_id(), name: name.clone() };
        let id = request.request_id.clone();
        let answer = client.call(Some(&id), client.devices().get_device(request)).await?;
        let device = answer.device.unwrap_or_default();
        if out.json {
            out.value(&devices::value(&device))?;
        } else {
            devices::print(out, &device)?;
        }
        return Ok(Exit::Done);
    }
    let request = v1::ListDevicesRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.devices().list_devices(request)).await?;
    if out.json {
        out.value(&answer.devices.iter().map(devices::value).collect())?;
    } else if answer.devices.is_empty() {
        out.note("no devices: `hoist serve` starts a worker for cpu:0 if hoist-worker is beside it");
    } else {
        devices::print_all(out, &answer.devices)?;
    }
    Ok(Exit::Done)
}
