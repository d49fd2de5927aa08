//! The same contract over gRPC, with the real binary: transcripts of many clients against that of one who never
//! goes away, across a SIGKILL and a new start.
//!
//! Clients only write down what they are told. When all is over, the undisturbed client's transcript becomes the
//! ledger, after its last state has been compared with what the server says when it is asked.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use hoist_tests::oracle::{Follower, Ledger, Resources};
use hoist_tests::{Channels, Mirror, Random, Sandbox, connect, request_id, soak};
use hoist_wire::status::Failure;
use hoist_wire::v1::watch_response::Event;
use hoist_wire::{longrunning, v1};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Histories in CI.
const SEEDS: usize = 2;

/// Requests in each of the two lives of a server.
const REQUESTS: u64 = 25;

const CLIENTS: u64 = 6;

/// What a client notes.
#[derive(Debug)]
enum Entry {
    Opened(Option<v1::Position>),
    Message(v1::WatchResponse),
    Ended(String),
}

/// Where the test is. Clients wait for it, and for nothing else.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Which server runs; 0 before the first, and odd while there is none.
    life: u64,
    requests: u64,
    /// Clients end here.
    last: Option<v1::Position>,
}

#[derive(Clone)]
struct Client {
    sandbox: std::sync::Arc<Sandbox>,
    filter: v1::WatchFilter,
    /// Unset: never goes away, always reads.
    random: Option<Random>,
    progress: watch::Receiver<Progress>,
}

/// Where a message says that its reader is now.
fn position(message: &v1::WatchResponse) -> Option<v1::Position> {
    match &message.event {
        Some(Event::SnapshotEnd(end)) => end.position,
        Some(Event::Delta(delta)) => delta.position,
        Some(Event::Mark(mark)) => mark.position,
        Some(Event::Snapshot(_) | Event::Progress(_)) | None => None,
    }
}

impl Client {
    async fn follow(mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut from = None;
        loop {
            let serving = |progress: &Progress| progress.life > 0 && progress.life.is_multiple_of(2);
            let life = self.progress.wait_for(serving).await?.life;
            // The server may have been killed since; then the next one is waited for.
            if let Ok(channels) = connect(&self.sandbox.socket()).await
                && self.watch(&channels, &mut from, &mut entries).await?
            {
                return Ok(entries);
            }
            if matches!(entries.last(), Some(Entry::Ended(reason)) if reason.is_empty()) {
                self.progress.wait_for(|progress| progress.life != life).await?;
            }
        }
    }

    /// One stream, until it ends or its reader goes away. Whether everything has been seen.
    async fn watch(
        &mut self,
        channels: &Channels,
        from: &mut Option<v1::Position>,
        entries: &mut Vec<Entry>,
    ) -> Result<bool> {
        let request = v1::WatchRequest {
            from: *from,
            filter: Some(self.filter.clone()),
            mark_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
            progress_interval: self.random.as_mut().and_then(|random| {
                random.percent(50).then_some(prost_types::Duration { seconds: 0, nanos: 100_000_000 })
            }),
            ..Default::default()
        };
        let ended = |status: &tonic::Status, from: &mut Option<v1::Position>| {
            let reason = Failure::from(status).reason;
            // A broken connection says nothing of the position.
            if !reason.is_empty() {
                *from = None;
            }
            Entry::Ended(reason)
        };
        let mut messages = match channels.state().watch(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                entries.push(ended(&status, from));
                return Ok(false);
            }
        };
        entries.push(Entry::Opened(*from));
        let mut left = self.random.as_mut().map_or(u64::MAX, |random| 1 + random.below(40));
        if from.is_none() {
            // Until the snapshot has ended there is nothing to go on from.
            left = left.max(3);
        }
        while left > 0 {
            left -= 1;
            let message = match messages.message().await {
                Ok(Some(message)) => message,
                Ok(None) => bail!("a watch ended without a status"),
                Err(status) => {
                    entries.push(ended(&status, from));
                    return Ok(false);
                }
            };
            let at = position(&message);
            *from = at.or(*from);
            entries.push(Entry::Message(message));
            let last = self.progress.borrow().last;
            if last.is_some() && at.zip(last).is_some_and(|(at, last)| at.revision >= last.revision) {
                return Ok(true);
            }
            self.dawdle().await?;
        }
        Ok(false)
    }

    /// Reads nothing while a few requests are made.
    async fn dawdle(&mut self) -> Result<()> {
        let Some(random) = &mut self.random else { return Ok(()) };
        if random.percent(10) {
            let Progress { requests, life, .. } = *self.progress.borrow();
            let until = requests + random.below(12);
            let over = |now: &Progress| now.requests >= until || now.life != life || now.last.is_some();
            self.progress.wait_for(over).await?;
        }
        Ok(())
    }
}

fn filter(random: &mut Random) -> v1::WatchFilter {
    let mut filter = v1::WatchFilter::default();
    if random.percent(40) {
        filter.kinds = vec![v1::ResourceKind::Operation.into(), v1::ResourceKind::Machine.into()];
        filter.kinds.truncate(1 + random.index(2));
    }
    if random.percent(60) {
        filter.operation_states = (1..=5).filter(|_| random.percent(50)).collect();
    }
    filter
}

/// Probes that are small, wait for each other, are cancelled and forgotten.
async fn make_requests(
    channels: &Channels,
    random: &mut Random,
    progress: &watch::Sender<Progress>,
) -> Result<()> {
    let mut names: Vec<String> = Vec::new();
    for _ in 0..REQUESTS {
        match random.below(10) {
            0..6 => {
                let request = v1::ProbeMachineRequest {
                    request_id: request_id(),
                    kinds: vec![v1::MeasurementKind::TmpfsWrite.into()],
                    // Of different sizes, so that they do not join each other.
                    bytes: (16 << 20) + random.below(8) * 4096,
                    wait_for: random.percent(40).then_some(prost_types::Duration { seconds: 60, nanos: 0 }),
                    ..Default::default()
                };
                names.push(channels.admin().probe_machine(request).await?.into_inner().name);
            }
            6..8 => {
                if let Some(name) = random.pick(&names) {
                    let request = longrunning::CancelOperationRequest { name: name.clone() };
                    channels.operations().cancel_operation(request).await?;
                }
            }
            _ => {
                if !names.is_empty() {
                    let name = names.swap_remove(random.index(names.len()));
                    let wait = longrunning::WaitOperationRequest { name: name.clone(), timeout: None };
                    channels.operations().wait_operation(wait).await?;
                    let delete = longrunning::DeleteOperationRequest { name: name.clone() };
                    channels.operations().delete_operation(delete).await?;
                    // Two requests may have joined one operation.
                    names.retain(|known| *known != name);
                }
            }
        }
        progress.send_modify(|progress| progress.requests += 1);
    }
    Ok(())
}

/// What the server says when it is asked for everything.
async fn ask_for_all(channels: &Channels) -> Result<(v1::Position, Resources)> {
    let list = longrunning::ListOperationsRequest { page_size: 1_000, ..Default::default() };
    let listed = channels.operations().list_operations(list).await?.into_inner();
    ensure!(listed.next_page_token.is_empty());
    for operation in &listed.operations {
        let wait = longrunning::WaitOperationRequest { name: operation.name.clone(), timeout: None };
        channels.operations().wait_operation(wait).await?;
    }
    let mut names: Vec<String> = listed.operations.into_iter().map(|operation| operation.name).collect();
    names.push("machine".to_owned());
    let request = v1::BatchGetStatusRequest { names, ..Default::default() };
    let results = channels.state().batch_get_status(request).await?.into_inner().results;
    let mut all = Resources::new();
    let mut at = None;
    for result in results {
        let Some(v1::status_result::Result::Status(status)) = result.result else { bail!("{result:?}") };
        at = status.position;
        all.insert(status.name, status.resource.context("no resource")?);
    }
    Ok((at.context("no position")?, all))
}

/// The state at every position of an undisturbed client, by epoch.
fn ledgers(transcript: &[Entry]) -> Result<BTreeMap<u64, Ledger>> {
    let mut ledgers: BTreeMap<u64, Ledger> = BTreeMap::new();
    let mut mirror = Mirror::new();
    for entry in transcript {
        match entry {
            Entry::Opened(_) => mirror = Mirror::new(),
            Entry::Message(message) => {
                mirror.take(message.clone())?;
                if let Some(at) = mirror.position {
                    let ledger = ledgers.entry(at.epoch).or_insert_with(|| Ledger::new(at.epoch));
                    ledger.record(at.revision, mirror.resources.clone());
                    // It may have been told less than others when the server was killed.
                    ledger.newest = u64::MAX;
                }
            }
            // On a busy machine even this one may be too slow: then the ledger knows less, and nothing wrong.
            Entry::Ended(reason) => {
                ensure!(["", "EPOCH_MISMATCH", "TOO_SLOW"].contains(&reason.as_str()), "{reason}");
            }
        }
    }
    Ok(ledgers)
}

/// Judges one client. How many messages there were.
fn replay(filter: &v1::WatchFilter, transcript: &[Entry], ledgers: &BTreeMap<u64, Ledger>) -> Result<u64> {
    let mut follower = Follower::new(filter.clone());
    let nothing = Ledger::default();
    let mut messages = 0;
    let mut resumed = None;
    for entry in transcript {
        match entry {
            Entry::Opened(None) => follower = Follower::new(filter.clone()),
            Entry::Opened(Some(from)) => {
                ensure!(follower.mirror.position == Some(*from), "resumed elsewhere");
                resumed = Some(*from);
            }
            Entry::Message(message) => {
                messages += 1;
                let epoch = position(message).or(follower.mirror.position).map(|at| at.epoch);
                let ledger = epoch.and_then(|epoch| ledgers.get(&epoch)).unwrap_or(&nothing);
                follower.take(message.clone(), ledger).with_context(|| format!("after {resumed:?}"))?;
            }
            Entry::Ended(reason) => {
                let known = ["", "EPOCH_MISMATCH", "TOO_SLOW", "REVISION_COMPACTED"];
                ensure!(known.contains(&reason.as_str()), "{reason}");
            }
        }
    }
    Ok(messages)
}

async fn history(seed: u64) -> Result<u64> {
    let mut random = Random::new(seed);
    let mut sandbox = Sandbox::new()?;
    let events = random.pick(&["10", "40", "100000"]).copied().unwrap_or_default();
    sandbox.environment.push(("HOIST_WATCH_HISTORY_EVENTS".to_owned(), events.to_owned()));
    let sandbox = std::sync::Arc::new(sandbox);
    let (progress, watched) = watch::channel(Progress::default());
    let mut clients = JoinSet::new();
    for number in 0..=CLIENTS {
        let undisturbed = number == 0;
        let client = Client {
            sandbox: sandbox.clone(),
            filter: if undisturbed { v1::WatchFilter::default() } else { filter(&mut random) },
            random: (!undisturbed).then(|| Random::new(seed * 100 + number)),
            progress: watched.clone(),
        };
        let filter = client.filter.clone();
        clients.spawn(async move { (number, filter, client.follow().await) });
    }

    let server = sandbox.start()?;
    progress.send_modify(|progress| progress.life += 2);
    make_requests(&connect(&server.socket).await?, &mut random, &progress).await?;
    progress.send_modify(|progress| progress.life += 1);
    server.kill()?;
    let server = sandbox.start()?;
    progress.send_modify(|progress| progress.life += 1);
    let channels = connect(&server.socket).await?;
    make_requests(&channels, &mut random, &progress).await?;
    let (last, told) = ask_for_all(&channels).await?;
    progress.send_modify(|progress| progress.last = Some(last));

    let mut transcripts = BTreeMap::new();
    while let Some(client) = clients.join_next().await {
        let (number, filter, transcript) = client?;
        transcripts.insert(number, (filter, transcript.with_context(|| format!("client {number}"))?));
    }
    let (_, undisturbed) = transcripts.get(&0).context("nobody")?;
    let ledgers = ledgers(undisturbed).context("the undisturbed client")?;
    ensure!(ledgers.len() == 2, "{} epochs", ledgers.len());
    let ledger = ledgers.get(&last.epoch).context("nothing of the last epoch")?;
    ledger.check(&v1::WatchFilter::default(), &told, last.revision..=last.revision)?;
    ensure!(ledger.len() > 15, "hardly anything happened");
    let mut messages = 0;
    for (number, (filter, transcript)) in &transcripts {
        messages += replay(filter, transcript, &ledgers)
            .with_context(|| format!("client {number} with {filter:?}, history of {events}"))?;
    }
    let (status, log) = server.terminate()?;
    ensure!(status.success() && !log.contains("ERROR"), "{status}: {log}");
    Ok(messages)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_of_the_real_server_is_told_the_truth() {
    for seed in soak::seeds(SEEDS) {
        let messages = history(seed).await.unwrap_or_else(|error| panic!("HOIST_SEED={seed}: {error:?}"));
        println!("seed {seed}: {messages} messages");
        assert!(messages > 100, "HOIST_SEED={seed}: only {messages} messages");
    }
}
