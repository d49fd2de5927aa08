//! `hoist shutdown`: asks the server to drain and end, and waits until its process is gone. Its socket goes before its
//! hold on the store does, so only the end of the process says that another server can start.

use std::os::fd::OwnedFd;
use std::time::Duration;

use hoist_domain::Bytes;
use hoist_wire::{encode, v1};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::args::ShutdownArgs;
use crate::client::{Endpoint, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::results::plural;
use crate::output::text;
use crate::verbs::{Session, cache_state};

/// A stop takes 10 s of grace and a few seconds of last words at most; longer, and something hangs.
const LONGEST_STOP: Duration = Duration::from_secs(30);

pub(crate) async fn run(session: &Session, args: &ShutdownArgs) -> Result<Exit> {
    let client = session.connect().await?;
    // Opened before the server is told: afterwards its number may already be another process's.
    let process = if args.no_wait { None } else { process_at(&session.endpoint).await };
    // What it cannot tell is no reason to let it run on.
    let kept = cache_state::read(&client).await.ok().filter(|it| it.segments > 0);
    let request = v1::ShutdownRequest { request_id: request_id(), grace: args.grace.map(encode::duration) };
    let id = request.request_id.clone();
    let began = session.clock.monotonic();
    let answer = client.call(Some(&id), client.admin().shutdown(request)).await?;
    let state = match process {
        Some(process) => {
            session.out.note(format_args!("the server at {} is stopping", session.endpoint));
            ended(&process, session.timeout.unwrap_or(LONGEST_STOP)).await?;
            "stopped"
        }
        None => {
            if !args.no_wait {
                session.out.note("the server's process cannot be seen from here: not waiting for its end");
            }
            "draining"
        }
    };
    if session.out.json {
        session.out.value(&json!({
            "request_id": answer.request_id,
            "state": state,
            "segments": kept.as_ref().map_or(0, |it| it.segments),
            "bytes": kept.as_ref().map_or(0, |it| it.sealed_bytes),
            "directory": kept.as_ref().map(|it| &it.directory),
        }))?;
    } else if state == "stopped" {
        let took = text::span(session.clock.monotonic().saturating_sub(began));
        session.out.line(format_args!("the server at {} has stopped after {took}", session.endpoint))?;
    } else {
        session.out.line(format_args!("the server at {} is stopping", session.endpoint))?;
    }
    if let Some(it) = kept {
        let what = plural(it.segments, "segment");
        let (size, directory) = (Bytes(it.sealed_bytes), text::one_line(&it.directory));
        let stay = if it.segments == 1 { "stays" } else { "stay" };
        session.out.note(format_args!(
            "{what}, {size}, {stay} in {directory} for the next server; `rm -r {directory}` frees the memory"
        ));
    }
    Ok(Exit::Done)
}

/// The process that listens at the endpoint, where this one can see it.
async fn process_at(endpoint: &Endpoint) -> Option<AsyncFd<OwnedFd>> {
    let Endpoint::Unix(path) = endpoint else { return None };
    let stream = UnixStream::connect(path).await.ok()?;
    let pid = Pid::from_raw(stream.peer_cred().ok()?.pid()?)?;
    let process = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Its successor is unsafe code, which is forbidden here.
    #[expect(deprecated, reason = "unsound only for types whose descriptor can change; this one is owned")]
    AsyncFd::with_interest(process, Interest::READABLE).ok()
}

/// Waits until the process has ended.
async fn ended(process: &AsyncFd<OwnedFd>, longest: Duration) -> Result<()> {
    // Readable is how the kernel says that it has ended; there is nothing to read.
    match tokio::time::timeout(longest, process.readable()).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::timed_out(
            format!("the server has agreed to stop and still runs after {}", text::span(longest)),
            "wait longer with --timeout, or see what its log says it waits for",
        )),
    }
}
