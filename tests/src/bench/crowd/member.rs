//! The watchers' side: opens streams, counts what arrives, and says when the last one had it.
//!
//! Messages are read as frames, whose content stays undecoded: the two cores of a small machine are the server's.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use hoist_wire::frame::WatchFrame;
use hoist_wire::{longrunning, v1};
use http::uri::PathAndQuery;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Order, Reply};
use crate::bench::figures::now;
use crate::bench::load::closed_loop;
use crate::bench::seed;
use crate::{Channels, connect, connect_as};

/// What HTTP/2 grants when nobody asks for more: what a watcher that never reads lets the server send.
const STALLED_WINDOW: u32 = 65_535;

/// Nothing that is waited for here takes longer unless it is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arrivals are sorted into steps of this width, up to five seconds.
const STEP: Duration = Duration::from_micros(50);
const STEPS: usize = 100_000;

/// What all watchers add to.
#[derive(Debug)]
struct Tally {
    snapshots: AtomicU64,
    deltas: AtomicU64,
    /// The number of deltas, or of snapshots while they open, at which somebody wants to know.
    goal: AtomicU64,
    reached: Notify,
    /// When the goal was reached, and when the event was caused that is on its way; nanoseconds.
    reached_at: AtomicU64,
    caused_at: AtomicU64,
    arrivals: Vec<AtomicU32>,
    trouble: Mutex<Option<String>>,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Tally {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            snapshots: AtomicU64::new(0),
            deltas: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
            reached_at: AtomicU64::new(0),
            caused_at: AtomicU64::new(0),
            arrivals: (0..STEPS).map(|_| AtomicU32::new(0)).collect(),
            trouble: Mutex::new(None),
        })
    }

    fn count(&self, counter: &AtomicU64) {
        if counter.fetch_add(1, Ordering::SeqCst) + 1 == self.goal.load(Ordering::SeqCst) {
            self.reached_at.store(nanos(now()), Ordering::SeqCst);
            self.reached.notify_one();
        }
    }

    fn arrived(&self) {
        let after = nanos(now()).saturating_sub(self.caused_at.load(Ordering::Relaxed));
        let step = usize::try_from(u128::from(after) / STEP.as_nanos()).unwrap_or(STEPS).min(STEPS - 1);
        if let Some(arrivals) = self.arrivals.get(step) {
            arrivals.fetch_add(1, Ordering::Relaxed);
        }
        self.count(&self.deltas);
    }

    /// The end of the step within which so many of a thousand arrived; forgets all arrivals.
    fn take_arrivals(&self, rank: u64) -> Duration {
        let counts: Vec<u64> =
            self.arrivals.iter().map(|step| u64::from(step.swap(0, Ordering::Relaxed))).collect();
        let wanted = (counts.iter().sum::<u64>() * rank).div_ceil(1000);
        let mut seen = 0;
        let mut end = Duration::ZERO;
        for count in counts {
            end += STEP;
            seen += count;
            if seen >= wanted {
                break;
            }
        }
        end
    }

    /// Waits for the goal; when it was reached.
    async fn wait(&self, counter: &AtomicU64) -> Result<Duration> {
        let goal = self.goal.load(Ordering::SeqCst);
        if tokio::time::timeout(PATIENCE, self.reached.notified()).await.is_err() {
            let seen = counter.load(Ordering::SeqCst);
            let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(anyhow!("{seen} of {goal} arrived; first trouble: {trouble:?}"));
        }
        Ok(Duration::from_nanos(self.reached_at.load(Ordering::SeqCst)))
    }
}

struct Member {
    socket: PathBuf,
    tally: Arc<Tally>,
    watching: JoinSet<()>,
    watchers: u64,
    stalled: Option<Stalled>,
    /// A connection of its own, that no watcher's traffic shares.
    caller: Channels,
    /// Where the last burst began, and how many events it had.
    last_burst: (Option<v1::Position>, u32),
}

/// Takes orders until there are no more.
pub(in crate::bench) async fn serve(socket: &Path) -> Result<()> {
    let mut member = Member {
        socket: socket.to_owned(),
        tally: Tally::new(),
        watching: JoinSet::new(),
        watchers: 0,
        stalled: None,
        caller: connect(socket).await?,
        last_burst: (None, 0),
    };
    // Blocks only this task's thread, which is not one of those that the watchers run on.
    for line in std::io::stdin().lines() {
        let order = serde_json::from_str(&line?)?;
        let reply = member
            .obey(order)
            .await
            .unwrap_or_else(|error| Reply { error: Some(format!("{error:#}")), ..Reply::default() });
        println!("{}", serde_json::to_string(&reply)?);
    }
    Ok(())
}

impl Member {
    async fn obey(&mut self, order: Order) -> Result<Reply> {
        match order {
            Order::Open { watchers, per_connection } => self.open(watchers, per_connection).await,
            Order::Stall { watchers } => {
                self.stalled = Some(Stalled::open(self.socket.clone(), watchers)?);
                Ok(Reply::default())
            }
            Order::Release => self.stalled.take().map_or(Ok(()), Stalled::release).map(|()| Reply::default()),
            Order::Event { number } => self.event(number).await,
            Order::Burst { first, events, callers } => self.burst(first..first + events, callers).await,
            Order::CatchUp { watchers, per_connection } => self.catch_up(watchers, per_connection).await,
            Order::Join { joiners } => join(&self.socket, joiners).await,
        }
    }

    async fn open(&mut self, watchers: u32, per_connection: u32) -> Result<Reply> {
        let begun = now();
        self.watchers += u64::from(watchers);
        self.tally.goal.store(self.watchers, Ordering::SeqCst);
        for first in (0..watchers).step_by(usize::try_from(per_connection)?) {
            let connected = connect(&self.socket).await?;
            for _ in first..watchers.min(first + per_connection) {
                let (channel, tally) = (connected.channel.clone(), Arc::clone(&self.tally));
                self.watching.spawn(async move {
                    if let Err(status) = watch(channel, &tally).await {
                        let mut first = tally.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert_with(|| status.to_string());
                    }
                });
            }
        }
        let last = self.tally.wait(&self.tally.snapshots).await?;
        Ok(Reply { last: last.saturating_sub(begun), ..Reply::default() })
    }

    /// From here on every watcher is to get so many more deltas.
    fn expect(&self, events: u64) -> Result<()> {
        let seen = self.tally.deltas.load(Ordering::SeqCst);
        ensure!(seen.is_multiple_of(self.watchers), "{seen} deltas at {} watchers", self.watchers);
        self.tally.goal.store(seen + events * self.watchers, Ordering::SeqCst);
        self.tally.take_arrivals(0);
        Ok(())
    }

    async fn event(&mut self, number: u32) -> Result<Reply> {
        self.expect(1)?;
        let request = longrunning::DeleteOperationRequest { name: seed::name(number) };
        let mut client = self.caller.operations();
        let caused = now();
        self.tally.caused_at.store(nanos(caused), Ordering::SeqCst);
        client.delete_operation(request).await?;
        let last = self.tally.wait(&self.tally.deltas).await?;
        let p99 = self.tally.take_arrivals(990);
        Ok(Reply { last: last.saturating_sub(caused), p99, ..Reply::default() })
    }

    async fn burst(&mut self, numbers: std::ops::Range<u32>, callers: u32) -> Result<Reply> {
        let events = numbers.end - numbers.start;
        self.expect(u64::from(events))?;
        let request = v1::GetStatusRequest { name: "machine".into(), ..v1::GetStatusRequest::default() };
        let before = self.caller.state().get_status(request).await?.into_inner().status;
        self.last_burst = (before.context("no status")?.position, events);
        let caused = now();
        let callers = usize::try_from(callers)?;
        closed_loop(callers, |caller| {
            let client = self.caller.operations();
            let mut mine = numbers.clone().skip(caller).step_by(callers);
            move || {
                let mut client = client.clone();
                let request = longrunning::DeleteOperationRequest { name: seed::name(mine.next()?) };
                Some(async move { client.delete_operation(request).await.map(drop) })
            }
        })
        .await?;
        // Without watchers there is nothing to arrive.
        let last = if self.watchers == 0 { now() } else { self.tally.wait(&self.tally.deltas).await? };
        Ok(Reply { last: last.saturating_sub(caused), ..Reply::default() })
    }

    async fn catch_up(&self, watchers: u32, per_connection: u32) -> Result<Reply> {
        let (from, events) = self.last_burst;
        let mut connections = Vec::new();
        for _ in (0..watchers).step_by(usize::try_from(per_connection)?) {
            connections.push(connect(&self.socket).await?);
        }
        let begun = now();
        let mut catching_up = JoinSet::new();
        for (_, connected) in (0..watchers).zip(connections.iter().cycle()) {
            let channel = connected.channel.clone();
            catching_up.spawn(async move {
                let mut stream = frames(channel, from).await?;
                for seen in 0..events {
                    if stream.message().await?.is_none_or(|frame| frame.delta.is_none()) {
                        return Err(Status::aborted(format!("{seen} of {events}, then something else")));
                    }
                }
                Ok(now())
            });
        }
        let mut last = begun;
        while let Some(ended) = catching_up.join_next().await {
            last = last.max(ended??);
        }
        Ok(Reply { last: last.saturating_sub(begun), ..Reply::default() })
    }
}

/// Opens a watch whose messages stay as they came.
async fn frames(channel: Channel, from: Option<v1::Position>) -> Result<Streaming<WatchFrame>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/hoist.api.v1.StateService/Watch");
    let codec = ProstCodec::<v1::WatchRequest, WatchFrame>::default();
    let request = Request::new(v1::WatchRequest { from, ..v1::WatchRequest::default() });
    Ok(client.server_streaming(request, path, codec).await?.into_inner())
}

async fn watch(channel: Channel, tally: &Tally) -> Result<(), Status> {
    let mut stream = frames(channel, None).await?;
    while let Some(frame) = stream.message().await? {
        if frame.delta.is_some() {
            tally.arrived();
        } else if frame.snapshot_end.is_some() {
            tally.count(&tally.snapshots);
        }
    }
    Err(Status::aborted("the watch ended"))
}

async fn join(socket: &Path, joiners: u32) -> Result<Reply> {
    let mut connections = Vec::new();
    for _ in 0..joiners {
        connections.push(connect(socket).await?);
    }
    let begun = now();
    let mut joining = JoinSet::new();
    for connected in connections {
        joining.spawn(async move {
            let mut stream = frames(connected.channel, None).await?;
            let mut bytes = 0;
            while let Some(frame) = stream.message().await? {
                bytes += frame.snapshot.map_or(0, |chunk| chunk.len() as u64);
                if frame.snapshot_end.is_some() {
                    return Ok((now(), bytes));
                }
            }
            Err(Status::aborted("the watch ended within the snapshot"))
        });
    }
    let mut reply = Reply::default();
    while let Some(ended) = joining.join_next().await {
        let (at, bytes) = ended??;
        reply = Reply { last: reply.last.max(at.saturating_sub(begun)), bytes, ..reply };
    }
    Ok(reply)
}

/// Watchers whose sockets nobody reads: their tasks live on a runtime that stands still.
struct Stalled {
    release: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Stalled {
    fn open(socket: PathBuf, watchers: u32) -> Result<Self> {
        let (release, released) = mpsc::channel();
        let (opened, is_open) = mpsc::channel();
        let thread = std::thread::Builder::new().name("stalled".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let held = runtime.block_on(async {
                let mut held = Vec::new();
                for _ in 0..watchers {
                    let endpoint =
                        Endpoint::from_static("http://localhost").initial_stream_window_size(STALLED_WINDOW);
                    held.push(frames(connect_as(endpoint, &socket).await?.channel, None).await?);
                }
                anyhow::Ok(held)
            })?;
            // Whoever waits for either may be gone: then there is nothing left to hold.
            let _ = opened.send(());
            let _ = released.recv();
            drop(held);
            Ok(())
        })?;
        let stalled = Self { release, thread };
        match is_open.recv() {
            Ok(()) => Ok(stalled),
            Err(_) => Err(stalled.release().err().context("the stalled watchers went away")?),
        }
    }

    fn release(self) -> Result<()> {
        drop(self.release);
        self.thread.join().map_err(|_| anyhow!("the stalled watchers' thread panicked"))?.context("stalled")
    }
}
