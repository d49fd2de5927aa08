//! Many watchers of the real server: each is told every change once, whoever else does not read, and those who
//! join at the same moment with a large state all get it whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hoist_domain::{OperationId, Principal};
use hoist_planner::Limits;
use hoist_store::OpenOptions;
use hoist_tests::oracle::Resources;
use hoist_tests::simulation::{Reply, Request, World, content, key, machine};
use hoist_tests::{Channels, Mirror, Sandbox, Server, connect, connect_as, process, request_id};
use hoist_wire::frame::WatchFrame;
use hoist_wire::status::Failure;
use hoist_wire::v1;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use uuid::Uuid;

/// What HTTP/2 grants when nobody asks for more. A snapshot of the prepared state does not fit.
const SMALL_WINDOW: u32 = 65_535;

const OPERATIONS: u64 = 5_000;
const WATCHERS: usize = 1_000;
const STREAMS_PER_CONNECTION: usize = 250;
const SILENT: usize = 50;
const CHANGES: usize = 50;

/// Fewer than the changes: who has not begun to read by then is too late.
const HISTORY_EVENTS: &str = "24";

const JOINERS: usize = 200;

/// A server that has a lot to tell: thousands of finished operations, made by its own code beforehand.
fn prepared() -> Result<(Sandbox, BTreeSet<String>)> {
    let mut sandbox = Sandbox::new()?;
    sandbox.environment.push(("HOIST_WATCH_HISTORY_EVENTS".to_owned(), HISTORY_EVENTS.to_owned()));
    let mut world = World::new(1)?;
    world.limits =
        Limits { request_ids: 100_000, active_operations: 100_000, retention: Duration::from_secs(86_400) };
    let (store, exporter, mut opened) = hoist_store::open(sandbox.state_dir(), OpenOptions::default())?;
    let restored = hoist_coordinator::control::restore(&mut opened, machine(&world.clock));
    let mut life = world.start_with(restored, opened.service_time, store, exporter)?;
    let mut ids = Vec::new();
    let submit = |number: u64| {
        Request::Submit(hoist_planner::Submission {
            key: key("/prepare", number),
            content: content(0),
            // Each is work of its own, or they would join.
            work: hoist_domain::Work::ProbeMachine(hoist_domain::ProbeSpec {
                kinds: hoist_domain::MeasurementKind::ALL.to_vec(),
                bytes: hoist_domain::Bytes((16 << 20) + number),
            }),
            deadline: Duration::from_secs(3_600),
            new_id: OperationId(Uuid::from_u128(u128::from(number + 1))),
        })
    };
    let numbers: Vec<u64> = (0..OPERATIONS).collect();
    for batch in numbers.chunks(250) {
        let requests: Vec<Request> = batch.iter().copied().map(submit).collect();
        for reply in life.serve(&requests)? {
            let Reply::Operation(id) = reply else { bail!("{reply:?}") };
            ids.push(id);
        }
    }
    for batch in ids.chunks(250) {
        let cancel = |id: &OperationId| Request::Cancel { id: *id, by: Principal::Uid(0) };
        life.serve(&batch.iter().map(cancel).collect::<Vec<_>>())?;
    }
    let mut names: BTreeSet<String> = ids.iter().map(|id| format!("operations/{id}")).collect();
    names.insert("machine".to_owned());
    Ok((sandbox, names))
}

/// The messages as the server made them: what they hold is decoded once, not once a watcher.
async fn watch(channels: &Channels, from: Option<v1::Position>) -> Result<Streaming<WatchFrame>> {
    ask(channels, v1::WatchRequest { from, ..Default::default() }).await
}

async fn ask(channels: &Channels, request: v1::WatchRequest) -> Result<Streaming<WatchFrame>> {
    let mut client = tonic::client::Grpc::<Channel>::new(channels.channel.clone());
    client.ready().await?;
    let path = PathAndQuery::from_static("/hoist.api.v1.StateService/Watch");
    let codec = ProstCodec::<v1::WatchRequest, WatchFrame>::default();
    Ok(client.server_streaming(tonic::Request::new(request), path, codec).await?.into_inner())
}

async fn position(channels: &Channels) -> Result<v1::Position> {
    let response = channels.state().get_status(v1::GetStatusRequest::default()).await?.into_inner();
    response.status.and_then(|status| status.position).context("no position")
}

/// A probe that is as small as may be: three changes.
async fn probe(channels: &Channels) -> Result<()> {
    let request = v1::ProbeMachineRequest {
        request_id: request_id(),
        kinds: vec![v1::MeasurementKind::TmpfsWrite.into()],
        bytes: 16 << 20,
        wait_for: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    ensure!(channels.admin().probe_machine(request).await?.into_inner().done);
    Ok(())
}

/// What all watchers have been told, in the order in which each was told it.
#[derive(Default)]
struct Told {
    /// The revision of each delta there was, decoded once.
    known: HashMap<Bytes, u64>,
    by_watcher: Vec<Vec<u64>>,
}

impl Told {
    fn revision(&mut self, delta: Bytes) -> Result<u64> {
        if let Some(revision) = self.known.get(&delta) {
            return Ok(*revision);
        }
        let decoded = v1::Delta::decode(delta.clone())?;
        let revision = decoded.position.context("no position")?.revision;
        ensure!(!decoded.changes.is_empty());
        ensure!(!self.known.values().any(|known| *known == revision), "two deltas of revision {revision}");
        self.known.insert(delta, revision);
        Ok(revision)
    }

    /// Takes what comes until everybody has been told of this revision.
    async fn wait(&mut self, told: &mut mpsc::UnboundedReceiver<(usize, Bytes)>, until: u64) -> Result<()> {
        let last = |revisions: &Vec<u64>| revisions.last().copied().unwrap_or_default();
        let mut behind = self.by_watcher.iter().filter(|revisions| last(revisions) < until).count();
        while behind > 0 {
            let (watcher, delta) = told.recv().await.context("the watchers are gone")?;
            let revision = self.revision(delta)?;
            let revisions = self.by_watcher.get_mut(watcher).context("who is that")?;
            let was_behind = last(revisions) < until;
            revisions.push(revision);
            behind -= usize::from(was_behind && revision >= until);
        }
        Ok(())
    }

    fn revisions(&self) -> Vec<u64> {
        let revisions: BTreeSet<u64> = self.known.values().copied().collect();
        revisions.into_iter().collect()
    }
}

/// Somebody who has opened a watch and does not read.
struct Silent {
    frames: Streaming<WatchFrame>,
    /// Began with a snapshot, which does not fit into what the server may send unread.
    fresh: bool,
}

impl Silent {
    async fn open(server: &Server, from: Option<v1::Position>) -> Result<Self> {
        let endpoint = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(SMALL_WINDOW)
            .initial_connection_window_size(SMALL_WINDOW);
        let frames = watch(&connect_as(endpoint, &server.socket).await?, from).await?;
        Ok(Self { frames, fresh: from.is_none() })
    }

    /// Reads at last: everything up to the end, or up to where it is told that it was too slow.
    async fn read(mut self, told: &mut Told, last: u64) -> Result<Vec<u64>> {
        let mut mirror = Mirror::new();
        let mut revisions = Vec::new();
        while revisions.last() != Some(&last) {
            match self.frames.message().await {
                Ok(Some(frame)) => {
                    if let Some(delta) = &frame.delta {
                        revisions.push(told.revision(delta.clone())?);
                    }
                    if self.fresh {
                        mirror.take(v1::WatchResponse::decode(frame.encode_to_vec().as_slice())?)?;
                    }
                }
                Ok(None) => bail!("a watch ended without a status"),
                Err(status) => {
                    let failure = Failure::from(&status);
                    ensure!(self.fresh && failure.is(hoist_domain::Reason::TooSlow), "{status:?}");
                    let at = mirror.position.context("not even the snapshot was whole")?.revision;
                    ensure!(failure.metadata.get("last_revision") == Some(&at.to_string()), "{failure:?}");
                    ensure!(mirror.resources.len() as u64 > OPERATIONS);
                    return Ok(revisions);
                }
            }
        }
        Ok(revisions)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_get_each_change_once_whoever_else_does_not_read() -> Result<()> {
    let (sandbox, _) = tokio::task::block_in_place(prepared)?;
    let server = sandbox.start()?;
    let caller = connect(&server.socket).await?;
    let from = position(&caller).await?;
    let mut silent = Vec::new();
    for number in 0..SILENT {
        silent.push(Silent::open(&server, (number % 2 == 0).then_some(from)).await?);
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for first in (0..WATCHERS).step_by(STREAMS_PER_CONNECTION) {
        let channels = connect(&server.socket).await?;
        for watcher in first..(first + STREAMS_PER_CONNECTION).min(WATCHERS) {
            let mut frames = watch(&channels, Some(from)).await?;
            let tell = tell.clone();
            watchers.spawn(async move {
                while let Some(frame) = frames.message().await? {
                    if let Some(delta) = frame.delta
                        && tell.send((watcher, delta)).is_err()
                    {
                        break;
                    }
                }
                anyhow::Ok(())
            });
        }
    }
    let mut all = Told { by_watcher: vec![Vec::new(); WATCHERS], ..Told::default() };
    let mut last = from.revision;
    while all.known.len() < CHANGES {
        probe(&caller).await?;
        last = position(&caller).await?.revision;
        tokio::select! {
            waited = all.wait(&mut told, last) => waited?,
            ended = watchers.join_next() => bail!("a watcher ended: {ended:?}"),
        }
    }
    let revisions = all.revisions();
    ensure!(revisions == (from.revision + 1..=last).collect::<Vec<_>>(), "a gap: {revisions:?}");
    for (watcher, seen) in all.by_watcher.iter().enumerate() {
        ensure!(*seen == revisions, "watcher {watcher} was told {seen:?}");
    }
    let (mut exact, mut too_slow) = (0, 0);
    for late in silent {
        let fresh = late.fresh;
        let seen = late.read(&mut all, last).await?;
        // What they were told is the continuation without a gap, as far as it goes.
        ensure!(revisions.starts_with(&seen), "somebody late was told {seen:?}");
        exact += usize::from(seen == revisions);
        too_slow += usize::from(seen.len() < revisions.len());
        ensure!(fresh || seen == revisions, "a watch that had room for everything lost something");
    }
    println!("{} changes; of {SILENT} who did not read {exact} exact, {too_slow} too slow", revisions.len());
    ensure!(exact >= SILENT / 2 && too_slow > 0, "{exact} exact, {too_slow} too slow");
    let (status, log) = server.terminate()?;
    ensure!(status.success() && !log.contains("ERROR"), "{status}: {log}");
    Ok(())
}

/// One who has joined: the parts of the snapshot, its end, and the watch that goes on.
async fn join(channels: Channels) -> Result<(Vec<Bytes>, Bytes, Streaming<WatchFrame>)> {
    let mut frames = watch(&channels, None).await?;
    let mut chunks = Vec::new();
    loop {
        let frame = frames.message().await?.context("a watch ended without a status")?;
        ensure!(frame.delta.is_none(), "a change before the end of the snapshot");
        chunks.extend(frame.snapshot);
        if let Some(end) = frame.snapshot_end {
            return Ok((chunks, end, frames));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_who_join_at_once_get_the_whole_of_a_large_state() -> Result<()> {
    let (sandbox, names) = tokio::task::block_in_place(prepared)?;
    let server = sandbox.start()?;
    let caller = connect(&server.socket).await?;
    let mut joining = JoinSet::new();
    for _ in 0..JOINERS / 50 {
        let channels = connect(&server.socket).await?;
        for _ in 0..50 {
            joining.spawn(join(channels.clone()));
        }
    }
    let mut streams = Vec::new();
    let mut snapshot: Option<(Vec<Bytes>, Bytes)> = None;
    while let Some(joined) = joining.join_next().await {
        let (chunks, end, frames) = joined??;
        streams.push(frames);
        let (first, first_end) = snapshot.get_or_insert_with(|| (chunks.clone(), end.clone()));
        ensure!(*first == chunks && *first_end == end, "two snapshots of one state differ");
    }
    let (chunks, end) = snapshot.context("nobody joined")?;
    let end = v1::SnapshotEnd::decode(end)?;
    let mut resources = Resources::new();
    for chunk in &chunks {
        ensure!(chunk.len() < (256 << 10) + 4_096, "a chunk of {} bytes", chunk.len());
        for resource in v1::SnapshotChunk::decode(chunk.clone())?.resources {
            resources.insert(resource.name.clone(), resource);
        }
    }
    ensure!(resources.keys().eq(names.iter()), "{} resources of {}", resources.len(), names.len());
    ensure!(end.resources == names.len() as u64 && end.position == Some(position(&caller).await?));
    println!("{} chunks, {} resources", chunks.len(), resources.len());

    // Each goes on from the position of its snapshot.
    probe(&caller).await?;
    let last = position(&caller).await?.revision;
    let first = end.position.context("no position")?.revision + 1;
    let mut deltas: BTreeMap<u64, Bytes> = BTreeMap::new();
    for mut frames in streams {
        for expected in first..=last {
            let frame = frames.message().await?.context("a watch ended without a status")?;
            let delta = frame.delta.context("not a change")?;
            let known = deltas.entry(expected).or_insert_with(|| delta.clone());
            ensure!(*known == delta, "revision {expected} was told in two ways");
        }
    }
    for (revision, delta) in deltas {
        ensure!(v1::Delta::decode(delta)?.position.is_some_and(|at| at.revision == revision));
    }
    Ok(())
}

/// The state is 200 times that, were each of them to hold what it has not read.
const UNREAD: usize = 200;
const UNREAD_BYTES: u64 = 32 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_watch_that_does_not_read_costs_one_chunk_and_one_that_does_gets_what_passes() -> Result<()>
{
    let (sandbox, names) = tokio::task::block_in_place(prepared)?;
    let server = sandbox.start()?;
    let filter = v1::WatchFilter {
        kinds: vec![v1::ResourceKind::Operation.into(), v1::ResourceKind::Condition.into()],
        ..Default::default()
    };
    let request = v1::WatchRequest { filter: Some(filter), ..Default::default() };
    let before = process::peak_bytes(server.process_id())?;
    let mut unread = Vec::new();
    for _ in 0..UNREAD / STREAMS_PER_CONNECTION + 1 {
        let window = 1 << 30;
        let endpoint = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(SMALL_WINDOW)
            .initial_connection_window_size(window);
        let channels = connect_as(endpoint, &server.socket).await?;
        for _ in 0..UNREAD.min(STREAMS_PER_CONNECTION) {
            unread.push(ask(&channels, request.clone()).await?);
        }
    }
    let mut frames = ask(&connect(&server.socket).await?, request).await?;
    let (mut seen, mut bytes) = (BTreeSet::new(), 0);
    let end = loop {
        let frame = frames.message().await?.context("a watch ended without a status")?;
        if let Some(chunk) = frame.snapshot {
            ensure!(chunk.len() < (32 << 10) + 4_096, "a chunk of {} bytes", chunk.len());
            bytes += chunk.len();
            for resource in v1::SnapshotChunk::decode(chunk)?.resources {
                ensure!(seen.insert(resource.name.clone()), "{} twice", resource.name);
            }
        } else if let Some(end) = frame.snapshot_end {
            break v1::SnapshotEnd::decode(end)?;
        }
    };
    let passing: BTreeSet<String> = names.into_iter().filter(|name| name != "machine").collect();
    ensure!(seen == passing && end.resources == passing.len() as u64, "{} of {}", seen.len(), passing.len());
    let grown = process::peak_bytes(server.process_id())? - before;
    println!("{} unread snapshots of {bytes} bytes: {} KiB", unread.len(), grown >> 10);
    ensure!(bytes as u64 * UNREAD as u64 > 4 * UNREAD_BYTES, "too small to show anything");
    ensure!(grown <= UNREAD_BYTES, "{grown} bytes");
    Ok(())
}
