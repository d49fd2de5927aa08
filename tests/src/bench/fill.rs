//! From a file to a segment: cold beside what the disk gives, warm, and when it is there already; and what that costs.
//!
//! One file, and rounds in each of which everybody reads it once: disks differ more from minute to minute than their
//! readers do. Nobody's reading warms the page cache for the next one: that is looked at each time. fio reads right before
//! a fill, with the segment's memory free, our own reader right after it, with the memory taken: in a virtual machine that
//! gives free memory back to its host, the disk is not equally fast in both states.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hoist_runtime::machine;
use hoist_wire::v1;
use hoist_wire::v1::cached_component::Source;

use super::figures::{Rounds, millis, now};
use super::report::{Row, Target};
use super::weights::{Weights, make_cold, make_warm};
use super::{Options, disk, kept};
use crate::caching::{cache, evict};
use crate::library::Open;
use crate::{Sandbox, process};

/// Calls for what is there already, in each round.
const AGAIN: u32 = 50;

/// What the rounds came to. Rates are in gigabytes a second.
#[derive(Default)]
struct Figures {
    cold: Vec<f64>,
    warm: Vec<f64>,
    fio: Vec<f64>,
    threads: Vec<f64>,
    /// Core-seconds of the server for a gigabyte.
    cold_spent: Vec<f64>,
    warm_spent: Vec<f64>,
    /// Milliseconds.
    again: Vec<f64>,
}

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let file = big(options)?;
    let (sandbox, open) = options.serve(folder_of(&file)?).await?;
    let name = file.display().to_string();
    let mut figures = Figures::default();
    // The first fill of a server's life pays for what every later one finds: it is none of the rounds.
    fill(&open, &name, &mut Vec::new(), &mut Vec::new()).await?;
    for _ in 0..options.rounds() {
        evict(&open.at, &name).await?;
        make_cold(&file)?;
        figures.fio.extend(disk::by_fio(&file)?);
        make_cold(&file)?;
        fill(&open, &name, &mut figures.cold, &mut figures.cold_spent).await?;
        make_cold(&file)?;
        figures.threads.push(disk::by_threads(&file)?);
        for _ in 0..AGAIN {
            let begun = now();
            let report = cache(&open.at, &name, &[]).await?;
            figures.again.push(millis(now().saturating_sub(begun)));
            ensure!(report.read_bytes == 0, "it was not there: {report:?}");
        }
        evict(&open.at, &name).await?;
        make_warm(&file)?;
        fill(&open, &name, &mut figures.warm, &mut figures.warm_spent).await?;
    }
    let mut rows = figures.rows(&file, &sandbox)?;
    open.server.kill()?;
    make_cold(&file)?;
    rows.extend(kept::shared(options).await?);
    rows.extend(kept::restarts(options).await?);
    Ok(rows)
}

/// The file to measure with: the one that was named, or our own, which stays for the next run.
pub(super) fn big(options: &Options) -> Result<PathBuf> {
    let file = match &options.big {
        Some(named) => named.clone(),
        None => {
            let weights = Weights { dtype: "BF16", tensors: 288, rows: options.pick(1_780, 217), seed: 4 };
            let folder = format!("hoist-bench/{}-tensors-of-{}-rows", weights.tensors, weights.rows);
            let path = tempfile::env::temp_dir().join(folder).join("big.safetensors");
            weights.write_once(&path)?;
            path
        }
    };
    file.canonicalize().with_context(|| file.display().to_string())
}

/// The folder that is served for a file.
pub(super) fn folder_of(file: &Path) -> Result<&Path> {
    file.parent().context("a file is in a folder")
}

/// Caches it, which must mean to read it.
async fn fill(open: &Open, name: &str, rates: &mut Vec<f64>, spent: &mut Vec<f64>) -> Result<()> {
    let before = process::processor_time(open.server.process_id())?;
    let begun = now();
    let report = cache(&open.at, name, &[]).await?;
    let took = now().saturating_sub(begun);
    let after = process::processor_time(open.server.process_id())?;
    ensure!(was_read(&report), "it was not read: {report:?}");
    let gigabytes = report.read_bytes as f64 / 1e9;
    rates.push(gigabytes / took.as_secs_f64());
    spent.push(after.saturating_sub(before).as_secs_f64() / gigabytes);
    Ok(())
}

fn was_read(report: &v1::CacheModelResponse) -> bool {
    !report.components.is_empty() && report.components.iter().all(|one| one.source() == Source::Read)
}

impl Figures {
    fn rows(&self, file: &Path, sandbox: &Sandbox) -> Result<Vec<Row>> {
        let size = file.metadata()?.len() as f64 / 1e9;
        let tmpfs = machine::filesystem(Path::new("/"), sandbox.runtime_dir())?;
        let huge = tmpfs.huge().filter(|huge| *huge != "never");
        // Fresh pages of 4 KiB come slowly: what a default install has is held to less.
        let (least, pages) = match huge {
            Some(huge) => (0.95, format!("tmpfs with huge={huge}")),
            None => (0.85, "a default tmpfs, with pages of 4 KiB".to_owned()),
        };
        let cold = |peer: &[f64]| {
            Row::new(format!("{size:.1} GB, cold: from the call to the seal"), "GB/s", Rounds::of(&self.cold))
                .beside(Rounds::of(peer), Rounds::ratio(&self.cold, peer, |rate| *rate))
        };
        let target = Target::RatioAtLeast(least);
        let mut rows = Vec::new();
        if self.fio.is_empty() {
            rows.push(cold(&self.threads).target(target).note(format!(
                "{pages}; peer: 16 threads that read 4 MiB each past the page cache; fio is not installed"
            )));
        } else {
            let note = format!("{pages}; peer: fio, 16 reads of 4 MiB in flight, past the page cache");
            rows.push(cold(&self.fio).target(target).note(note));
            let note = "peer: 16 threads that read 4 MiB each past the page cache, right after it, with the segment still in RAM";
            rows.push(cold(&self.threads).note(note));
        }
        let spent = |what: &str, spent: &[f64]| {
            Row::new(format!("{size:.1} GB, {what}: the server's processor time"), "s/GB", Rounds::of(spent))
        };
        rows.push(
            spent("cold", &self.cold_spent)
                .target(Target::AtMost(0.6))
                .note("read, hashed, and written to fresh pages; what the kernel does for it included"),
        );
        rows.push(
            Row::new(format!("{size:.1} GB, in the page cache"), "GB/s", Rounds::of(&self.warm))
                .note("copied twice: out of the page cache, and to fresh pages"),
        );
        rows.push(spent("in the page cache", &self.warm_spent));
        rows.push(
            Row::new("asked for again when it is there", "ms", Rounds::of(&self.again))
                .note(format!("{} calls; nothing is read but the file's identity", self.again.len())),
        );
        Ok(rows)
    }
}
