//! `hoist unload`: takes models off devices, and tells what became of their bytes.

use std::time::Duration;

use hoist_wire::{encode, longrunning, v1};
use serde_json::{Value, json};

use crate::args::UnloadArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::called::Parts;
use crate::output::json::{Operation, Response, set};
use crate::output::{residency, text};
use crate::verbs::wanted::{self, Wanted};
use crate::verbs::{Session, follow};

/// The server gives the wait up after a minute; a little longer, so that its answer is what ends ours.
const HOLD: Duration = Duration::from_secs(61);

/// Something that is on no device is no failure: it is as it was asked for.
pub(crate) async fn run(session: &Session, args: &UnloadArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = wanted::all(&client, &args.names, &args.components).await?;
    let operation = Operation::read(&ask(&client, &wanted, args).await?)?;
    let operation = match operation.done {
        true => operation,
        false => follow::to_the_end(session, &client, &operation.metadata.name, None).await?,
    };
    match (operation.failure(), &operation.response) {
        (Some(error), _) => Err(error),
        (None, Some(Response::UnloadModel(unloaded))) => tell(session, &wanted, args, unloaded),
        (None, _) => Err(Error::unreadable("what was unloaded")),
    }
}

/// As with a load: one by its name, several as one request.
async fn ask(client: &Client, wanted: &[Wanted], args: &UnloadArgs) -> Result<longrunning::Operation> {
    let (mut residency, id) = (client.residency(), request_id());
    let wait_for = Some(encode::duration(HOLD));
    let device_id = args.device.clone().unwrap_or_default();
    if let [one] = wanted {
        let request = v1::UnloadModelRequest {
            request_id: id.clone(),
            name: one.model.name.clone(),
            components: one.components.clone(),
            device_id,
            force: args.force,
            wait_for,
            deadline: None,
        };
        return client.call_within(HOLD, Some(&id), residency.unload_model(request)).await;
    }
    let request = v1::UnloadComponentsRequest {
        request_id: id.clone(),
        parts: wanted::parts(wanted),
        device_id,
        force: args.force,
        wait_for,
        deadline: None,
    };
    client.call_within(HOLD, Some(&id), residency.unload_components(request)).await
}

fn tell(
    session: &Session,
    wanted: &[Wanted],
    args: &UnloadArgs,
    unloaded: &v1::UnloadModelResponse,
) -> Result<Exit> {
    let out = session.out;
    let parts = Parts::of(wanted.iter().map(|it| &it.model));
    if out.json {
        let model = |it: &Wanted| json!({ "id": it.model.name, "name": it.model.display_name });
        let mut value = residency::unloaded_value(unloaded, &parts);
        set(&mut value, "models", wanted.iter().map(model).collect::<Value>());
        out.value(&value)?;
        return Ok(Exit::Done);
    }
    if unloaded.replicas.is_empty() {
        out.note(nothing(wanted, args.device.as_deref()));
        return Ok(Exit::Done);
    }
    residency::print_unloaded(out, unloaded, &parts)?;
    out.note(format_args!("{}: {}", wanted::words(wanted), residency::unloaded_summary(unloaded)));
    Ok(Exit::Done)
}

/// `sdxl is not on any device`.
fn nothing(wanted: &[Wanted], device: Option<&str>) -> String {
    let place = device.map_or_else(|| "any device".to_owned(), text::one_line);
    match wanted {
        [one] => format!("{} is not on {place}", one.words()),
        _ => format!("none of these is on {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_no_device_is_told_by_its_name() {
        let one = Wanted {
            model: v1::Model { display_name: "sdxl".into(), ..Default::default() },
            components: vec!["vae".into()],
        };
        assert_eq!(nothing(std::slice::from_ref(&one), None), "vae of sdxl is not on any device");
        assert_eq!(nothing(std::slice::from_ref(&one), Some("cpu:0")), "vae of sdxl is not on cpu:0");
        assert_eq!(nothing(&[one.clone(), one], None), "none of these is on any device");
    }
}
