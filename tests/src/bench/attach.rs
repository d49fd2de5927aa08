//! Having all tensors of a model that is in RAM, through the Python client, beside those who map the same file. The
//! measuring is done in Python: `clients/python/bench/attach.py`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::figures::Rounds;
use super::report::{Row, Target};
use super::{Options, fill, python};
use crate::caching::cache;

/// Milliseconds, one value a round, by side, by what was measured.
#[derive(Deserialize)]
struct Measured {
    framework: String,
    tensors: u64,
    figures: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let Some(python) = python::interpreter(options, "hoist, safetensors") else {
        return Ok(vec![Row::not_run(
            "open",
            "no Python with hoist and safetensors: name one with --python, or run `make test-python` first",
        )]);
    };
    let file = fill::big(options)?;
    let (sandbox, open) = options.serve(fill::folder_of(&file)?).await?;
    cache(&open.at, &file.display().to_string(), &[]).await?;
    let measured = measure(options, &python, &sandbox.socket(), &file)?;
    open.server.kill()?;
    rows(&measured)
}

fn measure(options: &Options, python: &Path, socket: &Path, file: &Path) -> Result<Measured> {
    let output = python::script(python, "attach.py")
        .arg("--endpoint")
        .arg(format!("unix://{}", socket.display()))
        .arg("--file")
        .arg(file)
        .args(["--rounds", &options.rounds().to_string()])
        .args(["--calls", options.pick("30", "5"), "--json"])
        .output();
    python::measured(output, "attach.py")
}

fn rows(measured: &Measured) -> Result<Vec<Row>> {
    let of = |what: &str, side: &str| -> Result<&Vec<f64>> {
        measured.figures.get(what).and_then(|sides| sides.get(side)).with_context(|| format!("{what} {side}"))
    };
    let row = |what: &str, name: String, peer: &str| -> Result<Row> {
        let (ours, peers) = (of(what, "hoist")?, of(what, peer)?);
        let row = Row::new(name, "ms", Rounds::of(ours));
        Ok(row.beside(Rounds::of(peers), Rounds::ratio(ours, peers, |time| *time)))
    };
    let made = format!("all {} tensors of {}", measured.tensors, measured.framework);
    let connected = |peer: &str| row("connected", format!("open in a connected process, {made}"), peer);
    let read = |peer: &str| row("read", "the same, and every byte read".to_owned(), peer);
    let note = match measured.framework.as_str() {
        "numpy" => "peer: load_file of the file in the page cache, which copies for numpy",
        _ => "peer: load_file of the file in the page cache",
    };
    let fresh = "open in a fresh process: after imports, with connect and lease";
    Ok(vec![
        connected("load_file")?.target(Target::RatioAtMost(0.5)).note(note),
        connected("safe_open")?.note("peer: safe_open, and every tensor asked for"),
        connected("load_file of the segment")?.note("peer: load_file of the segment's own file on tmpfs"),
        read("load_file")?.target(Target::RatioAtMost(1.1)).note(note),
        read("load_file of the segment")?.note("peer: load_file of the segment's own file on tmpfs"),
        row("fresh", fresh.to_owned(), "load_file")?.target(Target::AtMost(15.0)).note(note),
    ])
}
