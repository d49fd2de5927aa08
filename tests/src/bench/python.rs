//! The Python client's round trip beside plain grpcio to the empty server. The measuring is done in Python:
//! `clients/python/bench/unary.py`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

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
    let Some(python) = interpreter(options, "hoist") else {
        return Ok(vec![Row::not_run(
            "status()",
            "no Python with the hoist package: name one with --python, or run `make test-python` first",
        )]);
    };
    let (_sandbox, server) = start(RESOURCES)?;
    let (_place, echo) = start_echo()?;
    let output = script(&python, "unary.py")
        .arg("--endpoint")
        .arg(format!("unix://{}", server.socket.display()))
        .arg("--echo")
        .arg(format!("unix://{}", echo.socket.display()))
        .args(["--rounds", &options.rounds().to_string()])
        .args(["--calls", options.pick("3000", "500"), "--json"])
        .output();
    let measured: Measured = measured(output, "unary.py")?;
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

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The interpreter that was named, or the one that tests have, if it has these packages.
pub(super) fn interpreter(options: &Options, packages: &str) -> Option<PathBuf> {
    let python = options.python.clone().unwrap_or_else(|| repository().join(".venv/bin/python"));
    let asked = Command::new(&python).args(["-c", &format!("import {packages}")]).output().ok()?;
    asked.status.success().then_some(python)
}

/// A script of the client's benchmarks, with the client of this commit, whichever the interpreter has installed.
pub(super) fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(repository().join("clients/python/bench").join(name));
    command.env("PYTHONPATH", repository().join("clients/python/src"));
    command
}

/// What a script printed.
pub(super) fn measured<T: DeserializeOwned>(output: std::io::Result<Output>, name: &str) -> Result<T> {
    let output = output.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
