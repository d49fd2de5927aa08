//! `hoist load`: brings models to a device. Also what `hoist plan` asks with.

use std::time::Duration;

use hoist_wire::{longrunning, v1};
use tonic::{Response as Answer, Status};

use crate::args::{HowArgs, LoadArgs};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::called::Called;
use crate::output::json::Response;
use crate::output::progress::Bar;
use crate::output::residency;
use crate::verbs::wanted::{self, Wanted};
use crate::verbs::{Session, awaited, names_of, scan};

/// The server gives up after an hour; a little longer, so that its answer is what ends the wait.
const HOLD: Duration = Duration::from_secs(61 * 60);

/// All of it goes to one device or none of it: a name that stands for nothing fails the others.
pub(crate) async fn run(session: &Session, args: &LoadArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = wanted::all(&client, &args.names, &args.components).await?;
    let request = Request::of(&wanted, &args.how, !args.no_wait);
    let id = request.id().to_owned();
    if args.no_wait {
        let operation = client.call(Some(&id), request.send(&client, None)).await?;
        return scan::started(session, &operation);
    }
    let ask = |wait_for| request.clone().send(&client, Some(wait_for));
    let bar = Bar::new(session.out);
    let operation = Box::pin(awaited::to_the_end(session, &client, &id, HOLD, &bar, ask)).await?;
    drop(bar);
    match (operation.failure(), &operation.response) {
        (Some(error), _) => Err(error),
        (None, Some(Response::LoadModel(loaded))) => tell(session, &client, &wanted, args, loaded).await,
        (None, _) => Err(Error::unreadable("what was loaded")),
    }
}

async fn tell(
    session: &Session,
    client: &Client,
    wanted: &[Wanted],
    args: &LoadArgs,
    loaded: &v1::LoadModelResponse,
) -> Result<Exit> {
    let out = session.out;
    let models = wanted.iter().map(|it| &it.model);
    if out.json {
        out.value(&residency::loaded_value(loaded, &Called::of(models)))?;
        return Ok(Exit::Done);
    }
    // Also those that made room, which nobody has named.
    let others = names_of::models(client, loaded.unloaded.iter().map(String::as_str)).await?;
    let called = Called::apart(models.chain(&others));
    residency::print_loaded(out, loaded, &called)?;
    // Who says by what rule the device is found sees what the rule came to; others ask `hoist plan`.
    if args.how.place.is_some() {
        residency::note_reasons(out, loaded);
    }
    out.note(residency::loaded_summary(loaded, &called));
    Ok(Exit::Done)
}

/// One model is asked for by its name; several, or parts of several, are one request, too.
#[derive(Clone, Debug)]
enum Request {
    One(v1::LoadModelRequest),
    Several(v1::LoadComponentsRequest),
}

impl Request {
    fn of(wanted: &[Wanted], how: &HowArgs, is_awaited: bool) -> Self {
        let options = Some(options(how));
        match wanted {
            [one] => Self::One(v1::LoadModelRequest {
                request_id: request_id(),
                name: one.model.name.clone(),
                components: one.components.clone(),
                options,
                cancel_on_disconnect: is_awaited,
                ..Default::default()
            }),
            several => Self::Several(v1::LoadComponentsRequest {
                request_id: request_id(),
                parts: wanted::parts(several),
                options,
                cancel_on_disconnect: is_awaited,
                ..Default::default()
            }),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::One(it) => &it.request_id,
            Self::Several(it) => &it.request_id,
        }
    }

    fn send(
        self,
        client: &Client,
        wait_for: Option<prost_types::Duration>,
    ) -> impl Future<Output = std::result::Result<Answer<longrunning::Operation>, Status>> + use<> {
        let mut residency = client.residency();
        async move {
            match self {
                Self::One(it) => residency.load_model(v1::LoadModelRequest { wait_for, ..it }).await,
                Self::Several(it) => {
                    residency.load_components(v1::LoadComponentsRequest { wait_for, ..it }).await
                }
            }
        }
    }
}

/// How a load is done, as far as the command line says.
pub(crate) fn options(how: &HowArgs) -> v1::LoadOptions {
    let level = if how.validate { v1::ValidationLevel::Full } else { v1::ValidationLevel::Unspecified };
    v1::LoadOptions {
        device_id: how.device.clone().unwrap_or_default(),
        placement: how.place.map_or(v1::Placement::Unspecified, v1::Placement::from).into(),
        dtype: how.dtype.clone().unwrap_or_default(),
        priority: how.priority.map_or(v1::Priority::Unspecified, v1::Priority::from).into(),
        force: how.force,
        validation_level: level.into(),
        allow: how.allow.iter().map(|&verdict| v1::Verdict::from(verdict).into()).collect(),
        strategies: how.strategies.iter().map(|&it| v1::LoadStrategy::from(it).into()).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{Verb, parse};

    fn wanted(name: &str, component: &str) -> Wanted {
        Wanted {
            model: v1::Model { name: name.to_owned(), ..Default::default() },
            components: vec![component.to_owned()],
        }
    }

    #[test]
    fn one_is_asked_for_by_its_name_and_several_at_once() {
        let Request::One(one) = Request::of(&[wanted("models/x", "vae")], &HowArgs::default(), true) else {
            panic!()
        };
        assert_eq!((one.name.as_str(), one.components.as_slice()), ("models/x", &["vae".to_owned()][..]));
        assert!(one.cancel_on_disconnect, "who waits gives it up");
        let both = [wanted("models/x", "vae"), wanted("models/y", "unet")];
        let Request::Several(several) = Request::of(&both, &HowArgs::default(), false) else { panic!() };
        assert_eq!(several.parts.len(), 2);
        assert!(!several.cancel_on_disconnect, "who does not leaves it running");
    }

    #[test]
    fn what_the_command_line_does_not_say_is_not_sent() {
        assert_eq!(options(&HowArgs::default()), v1::LoadOptions::default());
        let line = "hoist load x --place pack --dtype BF16 --priority high --force --validate --allow corrupt \
                    --strategy streaming --strategy standard";
        let Ok(Verb::Load(args)) = parse(line.split_whitespace().map(OsString::from)).map(|cli| cli.verb)
        else {
            panic!()
        };
        let said = options(&args.how);
        assert_eq!((said.placement(), said.priority()), (v1::Placement::Pack, v1::Priority::High));
        assert_eq!((said.dtype.as_str(), said.force), ("BF16", true));
        assert_eq!(said.validation_level(), v1::ValidationLevel::Full);
        assert_eq!(said.allow().collect::<Vec<_>>(), [v1::Verdict::Corrupt]);
        let tried = [v1::LoadStrategy::Streaming, v1::LoadStrategy::Standard];
        assert_eq!(said.strategies().collect::<Vec<_>>(), tried);
    }
}
