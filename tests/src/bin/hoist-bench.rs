//! `hoist-bench`: measures the control path, the catalog and the cache of a release build. See `hoist_tests::bench`.

use std::path::PathBuf;

use clap::Parser;
use hoist_tests::bench::{self, GROUPS, Options};

/// Measures the control path, the catalog and the cache, beside a peer in the same run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer and shorter rounds, a tenth of the watchers: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Only this group; may be repeated
    #[arg(long, value_name = "NAME", value_parser = GROUPS)]
    only: Vec<String>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as Markdown: docs/benchmarks.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// A Python that has the `hoist` package [default: .venv/bin/python of this repository, if it has it]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// A safetensors file for the cache's groups, alone in its folder [default: one of 4.2 GB, made once with the temporary files]
    #[arg(long, value_name = "FILE")]
    big: Option<PathBuf>,
    /// A tmpfs for segments, for instance one with huge pages [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    tmpfs: Option<PathBuf>,
    /// Be the peer: serve empty calls on this socket
    #[arg(long, value_name = "SOCKET", hide = true)]
    echo: Option<PathBuf>,
    /// Be the watchers of the server on this socket
    #[arg(long, value_name = "SOCKET", hide = true)]
    crowd: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { quick, only, json, markdown, python, big, tmpfs, echo, crowd } = Arguments::parse();
    match (echo, crowd) {
        (Some(socket), _) => bench::echo(&socket).await,
        (None, Some(socket)) => bench::crowd(&socket).await,
        (None, None) => {
            Box::pin(bench::run(&Options { quick, only, json, markdown, python, big, tmpfs })).await
        }
    }
}
