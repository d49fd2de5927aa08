//! The catalog with many models: first look, rescan, lists, names, restart, memory, changes, digests.
//!
//! One tree, and one server after the other on it; the first has found and digested everything before anything else
//! is asked of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hoist_wire::v1::catalog_service_client::CatalogServiceClient;
use hoist_wire::v1::watch_response::Event;
use hoist_wire::{longrunning, v1};
use tonic::transport::Channel;

use super::figures::{Rounds, mib, millis, now, per_mille};
use super::report::{Row, Target};
use super::{Options, process, tree};
use crate::{Sandbox, Server, connect};

/// Models with a tag, for the query over tags.
const TAGGED: u32 = 20;

/// The first export of the store comes ten seconds after the start.
const FIRST_EXPORT: Duration = Duration::from_secs(12);

/// Long enough for any of it on any machine.
const PATIENCE: Duration = Duration::from_secs(900);

type Client = CatalogServiceClient<Channel>;

/// Everything that is measured against.
struct Bench<'a> {
    options: &'a Options,
    models: u32,
    top: &'a Path,
    sandbox: &'a Sandbox,
    rows: Vec<Row>,
}

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let models = options.pick(100_000, 2_000);
    let place = tempfile::tempdir()?;
    let top = place.path().canonicalize()?;
    tree::fill(&top, models)?;
    // What was just written goes to the disk now, not while something is measured.
    rustix::fs::sync();
    let empty = empty_server()?;
    let mut sandbox = Sandbox::new()?;
    sandbox.flags.extend(["--models".to_owned(), top.display().to_string()]);
    let mut bench = Bench { options, models, top: &top, sandbox: &sandbox, rows: Vec::new() };
    let server = bench.first_look().await?;
    bench.rows.push(bench.memory("after the first look and all digests", &server, empty)?);
    bench.rescan(&server, 1_000.0).await?;
    bench.lists(&server).await?;
    bench.names(&server).await?;
    bench.changes(&server).await?;
    server.kill()?;
    bench.restarts(empty).await?;
    let mut rows = bench.rows;
    rows.extend(rescan_of_half(options, models / 2).await?);
    rows.push(digest_rate(options).await?);
    Ok(rows)
}

/// A tree of models that digests are not found out of: that would go on while something is measured.
struct Still {
    top: PathBuf,
    sandbox: Sandbox,
    _place: tempfile::TempDir,
}

fn still(models: u32) -> Result<Still> {
    let place = tempfile::tempdir()?;
    let top = place.path().canonicalize()?;
    tree::fill(&top, models)?;
    rustix::fs::sync();
    let sandbox = Sandbox::new()?.serving(&top)?;
    Ok(Still { top, sandbox, _place: place })
}

/// Only what an export costs those who edit meanwhile: a minute instead of the whole group's many.
pub(super) async fn export(options: &Options) -> Result<Vec<Row>> {
    let models = options.pick(100_000, 2_000);
    let Still { top, sandbox, _place } = still(models)?;
    let mut bench = Bench { options, models, top: &top, sandbox: &sandbox, rows: Vec::new() };
    let server = sandbox.start()?;
    looked_at(&mut client(&server).await?, models).await?;
    server.kill()?;
    let mut longest = Vec::new();
    for _ in 0..3 {
        let server = sandbox.start()?;
        longest.push(millis(bench.longest_edit(&server).await?));
        server.kill()?;
    }
    bench.rows.push(bench.longest_edit_row(&longest));
    Ok(bench.rows)
}

/// The rescan of a tree of half the size, which has a target of its own.
async fn rescan_of_half(options: &Options, models: u32) -> Result<Vec<Row>> {
    let Still { top, sandbox, _place } = still(models)?;
    let server = sandbox.start()?;
    looked_at(&mut client(&server).await?, models).await?;
    let mut bench = Bench { options, models, top: &top, sandbox: &sandbox, rows: Vec::new() };
    bench.rescan(&server, 500.0).await?;
    Ok(bench.rows)
}

/// What a server without models holds.
fn empty_server() -> Result<u64> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    process::resident_bytes(server.process_id())
}

async fn client(server: &Server) -> Result<Client> {
    Ok(CatalogServiceClient::new(connect(&server.socket).await?.channel))
}

/// Waits until the one root was looked at; how long that took.
async fn looked_at(client: &mut Client, models: u32) -> Result<Duration> {
    let begun = now();
    loop {
        let roots = client.list_roots(v1::ListRootsRequest::default()).await?.into_inner().roots;
        if let Some(v1::Root { scan_took: Some(took), models: found, .. }) = roots.first() {
            ensure!(*found == u64::from(models), "{found} of {models} models");
            return Ok(Duration::try_from(*took)?);
        }
        ensure!(now().saturating_sub(begun) < PATIENCE, "the first look does not end");
        // Counting all models is not free, and is not what is measured.
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

async fn total(client: &mut Client, filter: &str) -> Result<u64> {
    let request = v1::ListModelsRequest { filter: filter.to_owned(), page_size: 1, ..Default::default() };
    Ok(client.list_models(request).await?.into_inner().total_size)
}

impl Bench<'_> {
    fn row(&self, what: &str, unit: &'static str, values: &[f64]) -> Row {
        Row::new(format!("{} models, {what}", self.models), unit, Rounds::of(values))
    }

    /// The first look at everything, then all digests. Their targets hold for the full size.
    async fn first_look(&mut self) -> Result<Server> {
        let server = self.sandbox.start()?;
        let mut client = client(&server).await?;
        let took = looked_at(&mut client, self.models).await?;
        let begun = now();
        while total(&mut client, "NOT digest:*").await? > 0 {
            ensure!(now().saturating_sub(begun) < PATIENCE, "the digests do not end");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let digested = now().saturating_sub(begun);
        let rate = f64::from(self.models) / took.as_secs_f64();
        self.rows.push(self.row("first look: headers read and kept", "models/s", &[rate]).note(format!(
            "{:.1} s; files in the page cache; each commit is on the disk",
            took.as_secs_f64()
        )));
        let rate = f64::from(self.models) / digested.as_secs_f64();
        self.rows.push(
            self.row("all digests, at idle priority", "models/s", &[rate]).note("from the end of the look"),
        );
        Ok(server)
    }

    fn memory(&self, when: &str, server: &Server, empty: u64) -> Result<Row> {
        let resident = process::resident_bytes(server.process_id())?;
        let each = resident.saturating_sub(empty) as f64 / f64::from(self.models);
        let name = format!("{} models, memory of each, {when}", self.models);
        Ok(Row::once(name, "bytes", each).target(Target::AtMost(2_048.0)).note(format!(
            "{:.0} MiB, {:.0} MiB of a server without models",
            mib(resident),
            mib(empty)
        )))
    }

    /// Beside the bare walk, and within so many milliseconds.
    async fn rescan(&mut self, server: &Server, limit: f64) -> Result<()> {
        let mut client = client(server).await?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..self.options.rounds() + 1 {
            let begun = now();
            let found = tree::bare_walk(self.top)?;
            bare.push(millis(now().saturating_sub(begun)));
            ensure!(found == u64::from(self.models), "the walk found {found}");
            let request = v1::ScanModelsRequest {
                wait_for: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
                ..Default::default()
            };
            let begun = now();
            let operation = client.scan_models(request).await?.into_inner();
            ours.push(millis(now().saturating_sub(begun)));
            let unchanged = scanned(&operation)?.unchanged;
            ensure!(unchanged == u64::from(self.models), "{unchanged} are unchanged");
        }
        // The first of each warms what the look before has left cold.
        let (ours, bare) = (ours.get(1..).unwrap_or_default(), bare.get(1..).unwrap_or_default());

        let row = self
            .row("rescan of unchanged files: time of the call", "ms", ours)
            .beside(Rounds::of(bare), Rounds::ratio(ours, bare, |value| *value));
        self.rows
            .push(row.clone().target(Target::AtMost(limit)).note("peer: a bare walk that stats every file"));
        self.rows.push(
            self.row("rescan beside the bare walk", "ms", ours)
                .beside(Rounds::of(bare), Rounds::ratio(ours, bare, |value| *value))
                .target(Target::RatioAtMost(2.0)),
        );
        Ok(())
    }

    async fn lists(&mut self, server: &Server) -> Result<()> {
        let mut client = client(server).await?;
        for number in 0..TAGGED {
            let request = v1::UpdateModelRequest {
                name: self.top.join(tree::place(number * 7)).display().to_string(),
                notes: Some(v1::ModelNotes { tags: vec!["portrait".to_owned()], ..Default::default() }),
                update_mask: Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] }),
                ..Default::default()
            };
            client.update_model(request).await?;
        }
        let filtered =
            |filter: &str| v1::ListModelsRequest { filter: filter.to_owned(), ..Default::default() };
        let ordered = v1::ListModelsRequest { order_by: "size_bytes desc".to_owned(), ..Default::default() };
        let last = self.last_page(&mut client).await?;
        let words = v1::ListModelsRequest { query: "PORTRAIT 0042".to_owned(), ..Default::default() };
        let by_path = v1::ListModelsRequest { order_by: "path".to_owned(), ..Default::default() };
        for (what, request) in [
            ("list, first page by name", v1::ListModelsRequest::default()),
            ("list, type = lora", filtered("type = lora")),
            ("list, base AND size", filtered("base = sdxl AND size_bytes > 4000")),
            ("list, tags:portrait", filtered("tags:portrait")),
            ("list, two words of text", words),
            ("list, a word that nothing has", filtered("nothing-has-it")),
            ("list, by size, largest first", ordered),
            ("list, by path", by_path),
            ("list, the last page", last),
        ] {
            let mut samples = Vec::new();
            let mut passing = 0;
            for _ in 0..self.options.pick(100, 20) {
                let begun = now();
                passing = client.list_models(request.clone()).await?.into_inner().total_size;
                samples.push(now().saturating_sub(begun));
            }
            self.percentiles(what, &mut samples, Some(50.0), &format!("{passing} pass; "));
        }
        Ok(())
    }

    fn percentiles(&mut self, what: &str, samples: &mut [Duration], limit: Option<f64>, note: &str) {
        let (median, p99) = (millis(per_mille(samples, 500)), millis(per_mille(samples, 990)));
        let row = Row::once(format!("{} models, {what}: p99", self.models), "ms", p99);
        let row = limit.into_iter().fold(row, |row, limit| row.target(Target::AtMost(limit)));
        self.rows.push(row.note(format!("{note}median {median:.2} ms of {} calls", samples.len())));
    }

    /// The request for the last page of all, with everything before it walked.
    async fn last_page(&self, client: &mut Client) -> Result<v1::ListModelsRequest> {
        let mut request = v1::ListModelsRequest { page_size: 1_000, ..Default::default() };
        loop {
            let page = client.list_models(request.clone()).await?.into_inner();
            if page.next_page_token.is_empty() {
                return Ok(request);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn names(&mut self, server: &Server) -> Result<()> {
        let mut client = client(server).await?;
        let number = self.models / 2;
        let path = self.top.join(tree::place(number));
        let get = |name: String| v1::GetModelRequest { name, ..Default::default() };
        let found = client.get_model(get(path.display().to_string())).await?.into_inner();
        let found = found.model.context("no model")?;
        for (what, name, limit) in [
            ("by its resource name", found.name, 1.0),
            ("by path", found.path, 1.0),
            ("by display name", found.display_name, 50.0),
            // The refusal names what is near: a second walk over all names.
            ("by a name that nothing has", "nothing-has-it".to_owned(), 100.0),
        ] {
            let mut samples = Vec::new();
            for _ in 0..self.options.pick(100, 20) {
                let begun = now();
                let answer = client.get_model(get(name.clone())).await;
                samples.push(now().saturating_sub(begun));
                ensure!(answer.is_ok() != (name == "nothing-has-it"), "{name}: {answer:?}");
            }
            self.percentiles(&format!("GetModel {what}"), &mut samples, Some(limit), "");
        }
        Ok(())
    }

    /// From a file's appearing to its delta: in a tree at rest, and again right behind that.
    async fn changes(&mut self, server: &Server) -> Result<()> {
        let mut state = connect(&server.socket).await?.state();
        let mut stream = state.watch(v1::WatchRequest::default()).await?.into_inner();
        while !matches!(
            stream.message().await?.and_then(|message| message.event),
            Some(Event::SnapshotEnd(_))
        ) {}
        let aside = tempfile::tempdir_in(self.top.parent().context("no place beside the tree")?)?;
        let (mut made, mut behind) = (Vec::new(), Vec::new());
        for round in 0..self.options.pick(7, 3) {
            tokio::time::sleep(Duration::from_secs(4)).await;
            for (number, samples) in [(0, &mut made), (1, &mut behind)] {
                let number = self.models + round * 2 + number;
                let written = aside.path().join("new.safetensors");
                tree::write(&written, number)?;
                let path = self
                    .top
                    .join(tree::place(number % self.models))
                    .with_file_name(format!("new {number}.safetensors"));
                let begun = now();
                std::fs::rename(&written, &path)?;
                appears(&mut stream, &path).await?;
                samples.push(millis(now().saturating_sub(begun)));
            }
        }
        let rest = self.row("a new file: from its rename to its delta", "ms", &made);
        self.rows.push(
            rest.target(Target::AtMost(1_000.0))
                .note("in a tree at rest; 200 ms are waited for the rest of a burst"),
        );
        self.rows
            .push(self.row("another one right behind it", "ms", &behind).target(Target::AtMost(1_000.0)));
        self.models += self.options.pick(14, 6);
        Ok(())
    }

    async fn restarts(&mut self, empty: u64) -> Result<()> {
        let (mut times, mut looks, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.options.rounds() {
            let begun = now();
            let server = self.sandbox.start()?;
            times.push(millis(now().saturating_sub(begun)));
            looks.push(millis(looked_at(&mut client(&server).await?, self.models).await?));
            peaks.push(mib(process::peak_bytes(server.process_id())?));
            server.kill()?;
        }
        self.rows.push(
            self.row("exec to ready", "ms", &times)
                .target(Target::AtMost(1_000.0))
                .note("after a kill; the store's file is in the page cache"),
        );
        self.rows.push(self.row("first look after a restart", "ms", &looks).note("nothing has changed"));
        let server = self.sandbox.start()?;
        let stalls = self.longest_edit(&server).await?;
        let (spent, begun) = (process::processor_time(server.process_id())?, now());
        tokio::time::sleep(self.options.pick(Duration::from_secs(10), Duration::from_secs(4))).await;
        let spent = process::processor_time(server.process_id())?.saturating_sub(spent);
        let share = 100.0 * spent.as_secs_f64() / now().saturating_sub(begun).as_secs_f64();
        self.rows.push(
            self.memory("after a restart, idle", &server, empty)?
                .note_more(&format!("at most {:.0} MiB on the way to ready", Rounds::of(&peaks).median)),
        );
        self.rows.push(
            Row::once(format!("{} models, idle, watched: processor", self.models), "% of a core", share)
                .target(Target::AtMost(0.5)),
        );
        self.rows.push(self.longest_edit_row(&[millis(stalls)]));
        Ok(())
    }

    fn longest_edit_row(&self, longest: &[f64]) -> Row {
        self.row("longest edit while the store is exported", "ms", longest)
            .note("an edit every 20 ms, over the first export")
    }

    /// Edits one model again and again while the store is exported for the first time: the longest that one took.
    async fn longest_edit(&self, server: &Server) -> Result<Duration> {
        let mut client = client(server).await?;
        let (begun, mut longest) = (now(), Duration::ZERO);
        let mut number = 0_u32;
        while now().saturating_sub(begun) < FIRST_EXPORT {
            number += 1;
            let request = v1::UpdateModelRequest {
                name: self.top.join(tree::place(2)).display().to_string(),
                notes: Some(v1::ModelNotes { description: format!("edit {number}"), ..Default::default() }),
                ..Default::default()
            };
            let sent = now();
            client.update_model(request).await?;
            longest = longest.max(now().saturating_sub(sent));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(longest)
    }
}

fn scanned(operation: &longrunning::Operation) -> Result<v1::ScanModelsResponse> {
    match &operation.result {
        Some(longrunning::operation::Result::Response(any)) => Ok(any.to_msg()?),
        other => bail!("the scan did not end well: {other:?}"),
    }
}

/// Waits for the delta that tells of a model at this path.
async fn appears(stream: &mut tonic::Streaming<v1::WatchResponse>, path: &Path) -> Result<()> {
    let is_it = |change: &v1::Change| {
        let value = change.resource.as_ref().and_then(|resource| resource.value.as_ref());
        matches!(value, Some(v1::resource::Value::Model(model)) if Path::new(&model.path) == path)
    };
    let wait = async {
        loop {
            let message = stream.message().await?.context("the watch has ended")?;
            if matches!(&message.event, Some(Event::Delta(delta)) if delta.changes.iter().any(is_it)) {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.context("no delta came")?
}

/// How fast bytes are read and digested when somebody asks for it.
async fn digest_rate(options: &Options) -> Result<Row> {
    let bytes: u64 = options.pick(2 << 30, 256 << 20);
    let place = tempfile::Builder::new().prefix("hoist-bench-").tempdir_in("/dev/shm")?;
    let top = place.path().canonicalize()?;
    tree::write_large(&top.join("large.safetensors"), bytes)?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let sandbox = Sandbox::new()?.serving(&top)?;
        let server = sandbox.start()?;
        let mut client = client(&server).await?;
        looked_at(&mut client, 1).await?;
        let request = v1::DigestModelsRequest {
            names: vec!["large".to_owned()],
            wait_for: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            ..Default::default()
        };
        let operation = client.digest_models(request).await?.into_inner();
        let Some(longrunning::operation::Result::Response(any)) = operation.result else {
            bail!("the digest did not end well: {operation:?}");
        };
        let report: v1::DigestModelsResponse = any.to_msg()?;
        ensure!(report.read_bytes >= bytes, "{report:?}");
        let took = Duration::try_from(report.took.context("no time")?)?;
        rates.push(report.read_bytes as f64 / took.as_secs_f64() / 1e9);
    }
    Ok(Row::new(
        format!("digest of {:.0} GiB on tmpfs, asked for", bytes as f64 / f64::from(1 << 30)),
        "GB/s",
        Rounds::of(&rates),
    )
    .note("one model on one core"))
}
