//! `hoist hold`: leases for as long as a command runs.
//!
//! ```text
//!   asking ── granted ──► held ── revoked ──────────────────► let go; the command goes on
//!     │ refused, Ctrl-C     │ ▲ granted again                    ▲
//!     ▼                     ▼ │                                  │ refused, or too late
//!   end; nothing was run   the server has gone ──────────────────┘
//! ```
//!
//! The stream is the lease. What the command maps stays readable whatever becomes of that, so nothing ever ends the
//! command but itself; signals to stop are passed on to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::future::Future;
use std::io::{ErrorKind, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::future::{join_all, ready, try_join_all};
use futures_util::{StreamExt as _, stream};
use hoist_domain::Lease;
use hoist_wire::v1;
use hoist_wire::v1::acquire_response::Event;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::oneshot;
use tonic::Streaming;

use crate::args::HoldArgs;
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::progress::{Bar, Bars};
use crate::output::text;
use crate::verbs::Session;
use crate::verbs::wanted::{self, Wanted};

/// Between two attempts to take a lease up again: doubles from the first to the last, so that a restart is met at once and
/// a server that stays away costs nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How long the server may take to note that a lease has ended. Whoever evicts next should find it gone; a server that is
/// slower finds out by itself.
const LET_GO: Duration = Duration::from_secs(2);

/// How a shell ends that does not find a command, or cannot run it.
const NO_COMMAND: u8 = 127;
const NOT_RUN: u8 = 126;

pub(crate) async fn run(session: &Session, args: &HoldArgs) -> Result<Exit> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Error::usage("there is no command", Some("write it after `--`")));
    };
    let client = session.connect().await?;
    let named = wanted::once(wanted::resolve_each(&client, &args.names, &[]).await?);
    let wanted = named.into_iter().map(|(_, wanted)| wanted).collect::<Result<Vec<Wanted>>>()?;
    let holder = args.holder.clone().unwrap_or_else(|| named_after(program));
    let bars = Bars::new(session.out, wanted.len());
    let device = args.device.as_deref().unwrap_or_default();
    let asking = wanted.iter().map(|it| {
        let bar = bars.bar(&it.model.display_name);
        let (client, holder) = (&client, &holder);
        async move { Held::ask(client, it, device, holder, &bar).await }
    });
    let mut held = all(asking).await?;
    let variables =
        variables(&held.iter().map(|it| (it.model.as_str(), &it.components[..])).collect::<Vec<_>>());
    let mut command = tokio::process::Command::new(program);
    command.args(rest).envs(variables);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(cause) => {
            join_all(held.into_iter().map(Held::let_go)).await;
            let what = text::one_line(&program.to_string_lossy());
            session.out.report(&Error::failed(format!("cannot run {what}: {cause}")));
            return Ok(Exit::Of(if cause.kind() == ErrorKind::NotFound { NO_COMMAND } else { NOT_RUN }));
        }
    };
    let ended = while_held(session, child, &mut held).await;
    join_all(held.into_iter().map(Held::let_go)).await;
    ended.map(exit_of).map_err(|cause| Error::failed(format!("cannot wait for the command: {cause}")))
}

/// All of these, or the first refusal, which none of the others is waited for.
async fn all<T>(asking: impl IntoIterator<Item = impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    tokio::select! {
        held = try_join_all(asking) => held,
        // Leaving drops the streams, and with them what was asked for.
        _ = hoist_runtime::stop_signal() => Err(Error::interrupted("interrupted: nothing was run")),
    }
}

/// A lease that this process holds, or has held.
#[derive(Debug)]
struct Held {
    /// What people call the model.
    model: String,
    lease: String,
    holder: String,
    grace: Duration,
    components: Vec<v1::CachedComponent>,
    open: Open,
}

/// The stream that is the lease.
#[derive(Debug)]
struct Open {
    answers: Streaming<v1::AcquireResponse>,
    /// Dropped, it half-closes the stream.
    asks: oneshot::Sender<()>,
}

impl Open {
    async fn new(client: &Client, request: v1::AcquireRequest) -> Result<Self> {
        let id = request.request_id.clone();
        let (asks, closed) = oneshot::channel::<()>();
        // Nothing is ever sent over the channel: its end is the end of the stream.
        let until_closed = stream::once(closed).filter_map(|_| ready(None));
        let requests = stream::once(ready(request)).chain(until_closed);
        let answers = client.call(Some(&id), client.leases().acquire(requests)).await?;
        Ok(Self { answers, asks })
    }

    /// Reads on until the lease is granted.
    async fn granted(&mut self, bar: &Bar) -> Result<v1::Granted> {
        loop {
            let message = self.answers.message().await.map_err(|status| Error::from_status(&status, None))?;
            let gone = || Error::unreachable("the server ended the call", "see whether it is back");
            match message.ok_or_else(gone)?.event {
                Some(Event::Progress(it)) => it.progress.iter().for_each(|progress| bar.show(progress)),
                Some(Event::Granted(granted)) => return Ok(granted),
                Some(Event::Revoked(it)) => {
                    return Err(Error::refused(format!("the lease was revoked: {}", it.reason)));
                }
                // Newer than this client.
                None => {}
            }
        }
    }
}

impl Held {
    async fn ask(client: &Client, wanted: &Wanted, device: &str, holder: &str, bar: &Bar) -> Result<Self> {
        let request = v1::AcquireRequest {
            request_id: request_id(),
            name: wanted.model.name.clone(),
            components: wanted.components.clone(),
            holder: holder.to_owned(),
            device_id: device.to_owned(),
            skip_tensors: true,
            ..Default::default()
        };
        let mut open = Open::new(client, request).await?;
        let granted = open.granted(bar).await?;
        let lease = granted.lease.ok_or_else(|| Error::unreadable("the lease"))?;
        Ok(Self {
            model: wanted.model.display_name.clone(),
            lease: lease.name,
            holder: holder.to_owned(),
            grace: granted.grace.as_ref().map(text::wire_span).unwrap_or_default(),
            // What is on a card has no file.
            components: granted
                .components
                .into_iter()
                .filter_map(|it| it.component)
                .filter(|it| !it.path.is_empty())
                .collect(),
            open,
        })
    }

    /// Keeps the lease over restarts of the server; returns when it is held no more.
    async fn keep(&mut self, session: &Session) {
        loop {
            match self.open.answers.message().await {
                Ok(Some(v1::AcquireResponse { event: Some(Event::Revoked(it)), .. })) => {
                    return self.tell_lost(session, &format!("is revoked: {}", text::one_line(&it.reason)));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    session.out.note(format_args!(
                        "the server is gone: {} is asked for again for {}",
                        self.lease,
                        text::span(self.grace)
                    ));
                    match self.again(session).await {
                        Ok(()) => session.out.note(format_args!("{} is taken up again", self.lease)),
                        Err(error) => {
                            return self.tell_lost(session, &format!("has ended: {}", error.message()));
                        }
                    }
                }
            }
        }
    }

    fn tell_lost(&self, session: &Session, why: &str) {
        session.out.note(format_args!(
            "{} {why}; the command goes on, and what it has open stays as it is",
            self.lease
        ));
    }

    /// Asks for the same lease again until the server is there, for as long as it waits for us.
    async fn again(&mut self, session: &Session) -> Result<()> {
        let began = session.clock.monotonic();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.take_up(session).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let waited = session.clock.monotonic().saturating_sub(began);
            if !matches!(error.exit(), Exit::Unreachable | Exit::TimedOut) || waited >= self.grace {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LAST_PAUSE);
        }
    }

    async fn take_up(&mut self, session: &Session) -> Result<()> {
        let client = session.connect().await?;
        let request = v1::AcquireRequest {
            request_id: request_id(),
            lease: self.lease.clone(),
            holder: self.holder.clone(),
            skip_tensors: true,
            ..Default::default()
        };
        let mut open = Open::new(&client, request).await?;
        // What it is about is in RAM, so there is nothing to see of it.
        open.granted(&Bar::none()).await?;
        self.open = open;
        Ok(())
    }

    /// Ends the lease, and waits until the server knows.
    async fn let_go(self) {
        let Open { mut answers, asks } = self.open;
        drop(asks);
        let ended = async { while let Ok(Some(_)) = answers.message().await {} };
        // The server notices in any case when this process has ended.
        let _ = tokio::time::timeout(LET_GO, ended).await;
    }
}

/// Waits for the command; meanwhile keeps the leases, and passes on what should stop it.
async fn while_held(session: &Session, mut child: Child, held: &mut [Held]) -> std::io::Result<ExitStatus> {
    let keeping = async {
        join_all(held.iter_mut().map(|it| it.keep(session))).await;
        std::future::pending::<()>().await;
    };
    tokio::pin!(keeping);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = &mut keeping => {}
            signal = hoist_runtime::stop_signal() => pass_on(&child, signal),
        }
    }
}

/// Ctrl-C on a terminal goes to the command by itself, as to all that was started with it.
fn pass_on(child: &Child, signal: &str) {
    let by_terminal =
        signal == "SIGINT" && (std::io::stdin().is_terminal() || std::io::stderr().is_terminal());
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let signal = if signal == "SIGINT" { Signal::INT } else { Signal::TERM };
    if let Some(id) = id.filter(|_| !by_terminal) {
        // One that cannot be told has just ended.
        let _ = kill_process(id, signal);
    }
}

/// As a shell tells it: what a signal ended has 128 and the signal's number.
fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    Exit::Of(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// What the lease is called where nobody says: as the command is.
fn named_after(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let mut holder = String::new();
    for c in name.chars() {
        if holder.len() + c.len_utf8() > Lease::MAX_HOLDER_BYTES {
            break;
        }
        holder.push(c);
    }
    holder
}

/// `HOIST_PATH_SDXL_TEXT_ENCODER_2`: where each component of each model is, and `HOIST_PATH_TEXT_ENCODER_2` where that is
/// one file. A name that would be two files is none: whoever relied on it would have either.
fn variables(held: &[(&str, &[v1::CachedComponent])]) -> BTreeMap<String, String> {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let mut files: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (model, components) in held {
        for it in *components {
            for name in [format!("{model}_{}", it.component), it.component.clone()] {
                let name = format!("HOIST_PATH_{}", name.chars().map(capital).collect::<String>());
                files.entry(name).or_default().insert(&it.path);
            }
        }
    }
    let only = |paths: &BTreeSet<&str>| {
        if paths.len() == 1 { paths.first().map(|path| (*path).to_owned()) } else { None }
    };
    files.iter().filter_map(|(name, paths)| Some((name.clone(), only(paths)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn component(name: &str, path: &str) -> v1::CachedComponent {
        v1::CachedComponent { component: name.into(), path: path.into(), ..Default::default() }
    }

    #[tokio::test]
    async fn a_refusal_is_told_while_others_still_wait() {
        let ask = |number: u8| async move {
            match number {
                0 => std::future::pending().await,
                1 => Err(Error::refused("no")),
                _ => Ok(number),
            }
        };
        let told = all([2, 0, 1].map(ask)).now_or_never().unwrap();
        assert_eq!(told.unwrap_err().exit(), Exit::Refused);
        assert_eq!(all([2, 3].map(ask)).await.unwrap(), [2, 3]);
    }

    #[test]
    fn a_component_is_a_variable_with_its_model_and_alone_where_it_is_one() {
        let both = [component("vae", "/s/1"), component("text_encoder_2", "/s/2"), component("vae", "/s/1")];
        let found = variables(&[("sd xl", &both)]);
        assert_eq!((&*found["HOIST_PATH_VAE"], &*found["HOIST_PATH_SD_XL_VAE"]), ("/s/1", "/s/1"));
        assert_eq!(found["HOIST_PATH_TEXT_ENCODER_2"], "/s/2");
        let odd = [component("clip-l.x", "/s/3")];
        assert!(variables(&[("m", &odd)]).contains_key("HOIST_PATH_M_CLIP_L_X"));
        let (one, other) = ([component("vae", "/s/1")], [component("vae", "/s/9")]);
        let found = variables(&[("a", &one), ("b", &other)]);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["HOIST_PATH_A_VAE", "HOIST_PATH_B_VAE"]);
        // What they share is one file.
        assert_eq!(variables(&[("a", &one), ("b", &one)]).len(), 3);
    }

    #[test]
    fn a_command_ends_as_a_shell_would_tell() {
        // Wait statuses as the kernel makes them: the code in the second byte, a signal in the first.
        for (raw, code) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143)] {
            assert_eq!(exit_of(ExitStatus::from_raw(raw)), Exit::Of(code));
        }
    }

    #[test]
    fn a_lease_is_called_as_the_command_is() {
        assert_eq!(named_after(OsStr::new("/usr/bin/python3")), "python3");
        let long = named_after(OsStr::new(&"é".repeat(300)));
        assert_eq!((long.len(), long.chars().count()), (256, 128));
    }
}
