//! Thousands of watchers in a process of their own: what they hold must not count as the server's, and what they
//! compute must be the least there is. This is the handle to that process, and the language it understands: one
//! [`Order`] a line in, one [`Reply`] a line out.
//!
//! One process both causes an event and sees it arrive, so that a latency has one clock.

pub(super) mod member;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What the watchers are told to do. An event is the deletion of a seeded operation, by its number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Open so many more, and wait until each has its snapshot.
    Open { watchers: u32, per_connection: u32 },
    /// Open so many, each on a connection of its own, that never read again once they are open.
    Stall { watchers: u32 },
    /// Let go of those that never read.
    Release,
    /// Cause one event; wait until every watcher has it.
    Event { number: u32 },
    /// Cause many, from so many callers; wait until every watcher has all of them.
    Burst { first: u32, events: u32, callers: u32 },
    /// Watch from where the last burst began, until each of so many has all of it.
    CatchUp { watchers: u32, per_connection: u32 },
    /// Take a snapshot so many times at once, each on a connection of its own.
    Join { joiners: u32 },
}

/// What came of it. Latencies count from the call that caused the event, so the commit is in them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reply {
    /// Until the last one had it.
    pub(super) last: Duration,
    /// Event: until all but one in a hundred had it.
    pub(super) p99: Duration,
    /// Join: bytes of one snapshot.
    pub(super) bytes: u64,
    pub(super) error: Option<String>,
}

/// The process.
#[derive(Debug)]
pub(super) struct Crowd {
    child: Child,
    orders: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

/// No order takes this long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

impl Crowd {
    /// Watchers of the server on this socket; none is open yet.
    pub(super) fn of(socket: &Path) -> Result<Self> {
        let mut command = Command::from(super::ourselves("--crowd", socket)?);
        command.stdin(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start the watchers")?;
        let orders = child.stdin.take().context("no stdin")?;
        let replies = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Self { child, orders, replies })
    }

    pub(super) async fn tell(&mut self, order: Order) -> Result<Reply> {
        let line = serde_json::to_string(&order)? + "\n";
        self.orders.write_all(line.as_bytes()).await?;
        let answered = tokio::time::timeout(PATIENCE, self.replies.next_line()).await;
        let Some(line) = answered.with_context(|| format!("no answer to {order:?}"))?? else {
            bail!("the watchers ended during {order:?}: {:?}", self.child.wait().await?);
        };
        let reply: Reply = serde_json::from_str(&line)?;
        match reply.error {
            Some(error) => bail!("{order:?}: {error}"),
            None => Ok(reply),
        }
    }
}
