//! The benchmarks of the control path, the catalog, the cache and loads: real release binaries, real sockets, and beside each figure a peer measured
//! in the same run. The targets stand in the rows.
//!
//! ```text
//! hoist-bench ──► hoist serve            (the server under test) ──► hoist-worker
//!        ├──────► hoist-bench --echo     (the same tonic with nothing behind it)
//!        └──────► hoist-bench --crowd    (thousands of watchers, so that their memory and theirs alone is elsewhere)
//! ```
//!
//! Machines are noisy: rounds alternate between us and the peer, a ratio is taken round against round, and the
//! spread is shown. A benchmark never changes what it measures: servers run with their default configuration.

mod attach;
mod batch;
mod beside_loads;
mod catalog;
mod commit;
mod crowd;
mod disk;
mod echo;
mod facts;
mod fanout;
mod figures;
mod fill;
mod headers;
mod kept;
mod load;
mod loading;
mod process;
mod python;
mod report;
mod restart;
mod seed;
mod snapshot;
mod tree;
mod unary;
mod weights;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::library::Open;
use crate::{Sandbox, Server};
use report::{Report, Row, Verdict};

/// Every group of rows, in the order in which they run.
pub const GROUPS: [&str; 16] = [
    "unary", "batch", "delta", "fanout", "bare", "stalled", "commit", "restart", "snapshot", "catalog",
    "headers", "export", "python", "fill", "attach", "loading",
];

/// What to measure, and where to write it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Fewer and shorter rounds, a tenth of the watchers: whether it works, not how fast.
    pub quick: bool,
    /// Groups; empty: all.
    pub only: Vec<String>,
    pub json: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
    /// An interpreter that has the `hoist` package.
    pub python: Option<PathBuf>,
    /// A safetensors file on the disk that is to be measured; unset: one is made where temporary files are.
    pub big: Option<PathBuf>,
    /// A tmpfs for segments; unset: the one that every machine has.
    pub tmpfs: Option<PathBuf>,
}

impl Options {
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A server that fills segments with the models of this folder, and does nothing but what it is asked for.
    async fn serve(&self, models: &Path) -> Result<(Sandbox, Open)> {
        let sandbox = self.tmpfs.as_deref().map_or_else(Sandbox::new, Sandbox::on)?.serving(models)?;
        let open = Open::to(sandbox.start()?).await?;
        Ok((sandbox, open))
    }

    /// Targets are about medians of at least five.
    const fn rounds(&self) -> u32 {
        if self.quick { 5 } else { 7 }
    }
}

/// Measures, prints the table and writes what was asked for.
///
/// # Errors
/// When a group could not be measured, or a file not written. A target that is missed is no error.
pub async fn run(options: &Options) -> Result<()> {
    hoist_runtime::machine::raise_nofile();
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures mean nothing");
    }
    let place = Sandbox::new()?;
    let mut report = Report { facts: facts::facts(place.state_dir()), rows: Vec::new() };
    let mut failed = Vec::new();
    for group in GROUPS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == group) {
            continue;
        }
        eprintln!("{group} ...");
        match Box::pin(measure(group, options)).await {
            Ok(rows) => report.rows.extend(rows.into_iter().map(|row| row.of(group))),
            Err(error) => {
                report.rows.push(Row::not_run(group, format!("failed: {error:#}")).of(group));
                failed.push(group);
            }
        }
    }
    report.facts.push(("load after", facts::load()));
    let (ok, missed) = (report.count(Verdict::Ok), report.count(Verdict::Miss));
    report.facts.push(("targets", format!("{ok} met, {missed} missed")));
    print!("{}", report.table());
    write(options.json.as_deref(), &(serde_json::to_string_pretty(&report)? + "\n"))?;
    write(options.markdown.as_deref(), &report.markdown())?;
    if failed.is_empty() { Ok(()) } else { bail!("could not measure: {}", failed.join(", ")) }
}

async fn measure(group: &str, options: &Options) -> Result<Vec<Row>> {
    match group {
        "unary" => unary::run(options).await,
        "batch" => batch::run(options).await,
        "delta" => batch::delta().await,
        "fanout" => fanout::many(options).await,
        "bare" => fanout::beside_bare(options).await,
        "stalled" => fanout::never_reading(options).await,
        "commit" => commit::run(options).await,
        "restart" => restart::run(options).await,
        "snapshot" => snapshot::run(options).await,
        "catalog" => catalog::run(options).await,
        "headers" => headers::run(options).await,
        "export" => catalog::export(options).await,
        "python" => python::run(options),
        "fill" => fill::run(options).await,
        "attach" => attach::run(options).await,
        "loading" => loading::run(options).await,
        other => bail!("no group {other}"),
    }
}

fn write(path: Option<&Path>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The part of the program that [`echo`] is.
///
/// # Errors
/// When it cannot listen.
pub async fn echo(socket: &Path) -> Result<()> {
    echo::serve(socket).await
}

/// The part of the program that holds watchers; takes commands from its standard input until that ends.
///
/// # Errors
/// When its input or output breaks.
pub async fn crowd(socket: &Path) -> Result<()> {
    hoist_runtime::machine::raise_nofile();
    crowd::member::serve(socket).await
}

/// This program in another role.
fn ourselves(role: &str, socket: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).arg(socket).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// A server that holds so many finished operations, on the Unix socket and TCP.
fn start(operations: u32) -> Result<(Sandbox, Server)> {
    let mut sandbox = Sandbox::new()?;
    seed::fill(sandbox.state_dir(), operations)?;
    sandbox.flags.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    let server = sandbox.start()?;
    Ok((sandbox, server))
}

/// The peer. Its socket lies in a directory of its own, which has to outlive it.
fn start_echo() -> Result<(Sandbox, Server)> {
    let place = Sandbox::new()?;
    let server = Server::spawn(ourselves("--echo", &place.socket())?)?;
    Ok((place, server))
}

fn tcp_address(server: &Server) -> Result<&str> {
    server.listen.as_deref().context("the server does not listen on TCP")
}
