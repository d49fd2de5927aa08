//! The Python client's round trip beside plain grpcio to the empty server. The measuring is done in Python:
//! `clients/python/bench/unary.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::figures::Rounds;
use super::report::{Row, Target};
use super::{Options, start, start_echo};

const RESOURCES: u32 = 1_000;

/// Microseconds, one value a round.
#[derive(Deserialize)]
struct Measured {
    status: Side,
    echo: Side,
}

#[derive(Deserialize)]
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(super) fn run(options: &Options) -> Result<Vec<Row>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let candidate = options.python.clone().unwrap_or_else(|| repository.join(".venv/bin/python"));
    let Some(python) = with_packages(candidate, "hoist") else {
        return Ok(vec![Row::not_run(
            "status()",
            "no Python with the hoist package: name one with --python, or run `make test-python` first",
        )]);
    };
    let (_sandbox, server) = start(RESOURCES)?;
    let (_place, echo) = start_echo()?;
    let output = Command::new(&python)
        .arg(repository.join("clients/python/bench/unary.py"))
        .arg("--endpoint")
        .arg(format!("unix://{}", server.socket.display()))
        .arg("--echo")
        .arg(format!("unix://{}", echo.socket.display()))
        .args(["--rounds", &options.rounds().to_string()])
        .args(["--calls", options.pick("3000", "500"), "--json"])
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !output.status.success() {
        bail!("unary.py ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let measured: Measured = serde_json::from_slice(&output.stdout)?;
    let row = |figure: &str, ours: &[f64], peers: &[f64]| {
        Row::new(format!("status() through the client: {figure}"), "us", Rounds::of(ours))
            .beside(Rounds::of(peers), Rounds::ratio(ours, peers, |time| *time))
            .note("peer: plain grpcio to the empty server")
    };
    let (status, echo) = (&measured.status, &measured.echo);
    Ok(vec![
        row("p50", &status.p50, &echo.p50).target(Target::RatioAtMost(1.3)),
        row("p99", &status.p99, &echo.p99),
    ])
}

/// This interpreter, if it has them.
pub(super) fn with_packages(python: PathBuf, packages: &str) -> Option<PathBuf> {
    let asked = Command::new(&python).args(["-c", &format!("import {packages}")]).output().ok()?;
    asked.status.success().then_some(python)
}
