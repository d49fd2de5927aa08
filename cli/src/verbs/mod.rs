//! The verbs, one file each, and what they share: how to print, where the server is, and the time.

mod awaited;
mod cache;
mod cache_state;
mod completions;
mod components;
mod config;
mod cordon;
mod devices;
mod doctor;
mod edit;
mod evict;
mod follow;
mod hold;
mod leases;
mod list;
mod load;
mod names;
mod names_of;
mod ops;
mod path;
mod pin;
mod plan;
mod policy;
mod probe;
mod remove;
mod replicas;
mod scan;
mod segments;
mod serve;
mod show;
mod shutdown;
mod status;
mod sync;
mod unload;
mod validate;
mod verify;
mod wanted;
mod watch;
mod written;

use std::time::Duration;

use hoist_runtime::Clock;

use crate::args::{Cli, Verb};
use crate::client::{Client, DEFAULT_TIMEOUT, Endpoint};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::Out;

/// What a client verb works with.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) out: Out,
    pub(crate) endpoint: Endpoint,
    /// As written; each verb says what it means when it is not.
    pub(crate) timeout: Option<Duration>,
    pub(crate) clock: Clock,
}

impl Session {
    pub(crate) async fn connect(&self) -> Result<Client> {
        self.connect_within(self.timeout.unwrap_or(DEFAULT_TIMEOUT)).await
    }

    async fn connect_within(&self, timeout: Duration) -> Result<Client> {
        Client::connect(&self.endpoint, timeout).await
    }
}

/// Runs the verb that the command line names.
pub(crate) fn run(cli: Cli, out: Out) -> Result<Exit> {
    // What runs a server, or needs none, comes before the question where one is.
    match &cli.verb {
        Verb::Serve(args) => return serve::run(args),
        Verb::Config(args) if args.offline => {
            config::print(out, &serve::offline(&args.serve)?)?;
            return Ok(Exit::Done);
        }
        Verb::Completions(args) => return completions::run(args),
        _ => {}
    }
    let endpoint = Endpoint::choose(cli.common.endpoint.as_deref())?;
    let session = Session { out, endpoint, timeout: cli.common.timeout, clock: Clock::system() };
    client_verb(&session, cli.verb)
}

/// A client does one thing at a time: one thread is enough.
fn client_verb(session: &Session, verb: Verb) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::failed(format!("cannot start: {cause}")))?;
    runtime.block_on(async {
        match verb {
            Verb::Ls(args) => Box::pin(list::run(session, &args)).await,
            Verb::Show(args) => Box::pin(show::run(session, &args)).await,
            Verb::Scan(args) => Box::pin(scan::scan(session, &args)).await,
            Verb::Digest(args) => Box::pin(scan::digest(session, &args)).await,
            Verb::Validate(args) => Box::pin(validate::validate(session, &args)).await,
            Verb::Verdicts(args) => Box::pin(validate::verdicts(session, &args)).await,
            Verb::Dupes(args) => Box::pin(components::dupes(session, &args)).await,
            Verb::Components(args) => Box::pin(components::components(session, &args)).await,
            Verb::Roots => Box::pin(components::roots(session)).await,
            Verb::Tag(args) => Box::pin(edit::tag(session, &args)).await,
            Verb::Edit(args) => Box::pin(edit::edit(session, &args)).await,
            Verb::Rm(args) => Box::pin(remove::run(session, &args)).await,
            Verb::Cache(args) => Box::pin(cache::run(session, &args)).await,
            Verb::Evict(args) => Box::pin(evict::evict(session, &args)).await,
            Verb::Pin(args) => Box::pin(pin::pin(session, &args)).await,
            Verb::Unpin(args) => Box::pin(pin::unpin(session, &args)).await,
            Verb::Segments(args) => Box::pin(segments::run(session, &args)).await,
            Verb::CachePolicy(args) => Box::pin(policy::run(session, &args)).await,
            Verb::Path(args) => Box::pin(path::run(session, &args)).await,
            Verb::Hold(args) => Box::pin(hold::run(session, &args)).await,
            Verb::Leases(args) => Box::pin(leases::run(session, args)).await,
            Verb::Load(args) => Box::pin(load::run(session, &args)).await,
            Verb::Unload(args) => Box::pin(unload::run(session, &args)).await,
            Verb::Plan(args) => Box::pin(plan::run(session, &args)).await,
            Verb::Replicas(args) => Box::pin(replicas::run(session, &args)).await,
            Verb::Verify(args) => Box::pin(verify::run(session, &args)).await,
            Verb::Devices(args) => Box::pin(devices::run(session, &args)).await,
            Verb::Cordon(args) => Box::pin(cordon::cordon(session, &args)).await,
            Verb::Uncordon(args) => Box::pin(cordon::uncordon(session, &args)).await,
            Verb::Sync(args) => Box::pin(sync::run(session, &args)).await,
            Verb::Status(args) => Box::pin(status::run(session, &args)).await,
            Verb::Watch(args) => Box::pin(watch::run(session, &args)).await,
            Verb::Ops(args) => Box::pin(ops::run(session, args)).await,
            Verb::Config(_) => Box::pin(config::run(session)).await,
            Verb::Doctor(args) if args.probe => Box::pin(probe::run(session, &args)).await,
            Verb::Doctor(args) => Box::pin(doctor::run(session, &args)).await,
            Verb::Shutdown(args) => Box::pin(shutdown::run(session, &args)).await,
            // Handled before there was a session.
            Verb::Serve(args) => serve::run(&args),
            Verb::Completions(args) => completions::run(&args),
        }
    })
}
