//! How long the headers of many models take, beside those who only parse them: the format's reference reader and Python.
//!
//! Ours is a look that reads everything again: it walks, checks, identifies and compares as well, on all processors. The
//! peers open each file, read its header and parse it, one file after the other.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hoist_wire::v1;
use hoist_wire::v1::catalog_service_client::CatalogServiceClient;
use safetensors::SafeTensors;

use super::Options;
use super::figures::{Rounds, millis, now};
use super::report::{Row, Target};
use crate::{Sandbox, connect};

/// As many as a UNet has.
const TENSORS: u64 = 686;

const SCRIPT: &str = "import json,struct,sys,time
paths=sys.argv[1:]
begun=time.perf_counter()
for path in paths:
    with open(path,'rb') as file:
        (length,)=struct.unpack('<Q',file.read(8))
        json.loads(file.read(length))
print((time.perf_counter()-begun)*1000)";

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let models: u32 = options.pick(2_000, 200);
    let place = tempfile::tempdir()?;
    let top = place.path().canonicalize()?;
    let paths = fill(&top, models)?;
    rustix::fs::sync();
    let sandbox = Sandbox::new()?.serving(&top)?;
    let server = sandbox.start()?;
    let mut client = CatalogServiceClient::new(connect(&server.socket).await?.channel);
    let (mut ours, mut reference, mut python) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() + 1 {
        let request = v1::ScanModelsRequest {
            reread: true,
            wait_for: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            ..Default::default()
        };
        let begun = now();
        let operation = client.scan_models(request).await?.into_inner();
        ours.push(millis(now().saturating_sub(begun)));
        ensure!(operation.done, "the look did not end");
        reference.push(by_reference(&paths)?);
        python.push(by_python(options, &paths)?);
    }
    server.kill()?;
    // The first of each warms what writing has left cold.
    let tail = |values: &[f64]| values.get(1..).unwrap_or_default().to_vec();
    let (ours, reference, python) = (tail(&ours), tail(&reference), tail(&python));
    let row = |name: &str, peer: &[f64]| {
        let each: Vec<f64> = ours.iter().map(|value| value * 1_000.0 / f64::from(models)).collect();
        let peers: Vec<f64> = peer.iter().map(|value| value * 1_000.0 / f64::from(models)).collect();
        Row::new(
            format!("{models} headers of {TENSORS} tensors read again: a file, {name}"),
            "us",
            Rounds::of(&each),
        )
        .beside(Rounds::of(&peers), Rounds::ratio(&peers, &each, |value| *value))
    };
    Ok(vec![
        row("beside the reference reader", &reference)
            .target(Target::RatioAtLeast(1.0))
            .note("walked, checked and identified; the peer parses, on one thread"),
        row("beside Python's parse", &python).target(Target::RatioAtLeast(20.0)),
    ])
}

/// Files with the header of a UNet and nearly no data.
fn fill(top: &Path, models: u32) -> Result<Vec<PathBuf>> {
    let tensors = (0..TENSORS).map(|at| {
        let (block, layer) = (at % 12, at / 12);
        let name = format!(
            "model.diffusion_model.input_blocks.{block}.1.transformer_blocks.{layer}.attn1.to_q.weight"
        );
        let (from, to) = (at * 2, at * 2 + 2);
        format!("\"{name}\":{{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[{from},{to}]}}")
    });
    let header =
        format!("{{\"__metadata__\":{{\"format\":\"pt\"}},{}}}", tensors.collect::<Vec<_>>().join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + usize::try_from(TENSORS * 2)?, 0);
    let mut paths = Vec::new();
    for number in 0..models {
        let path = top.join(format!("model-{number}.safetensors"));
        std::fs::write(&path, &file)?;
        paths.push(path);
    }
    Ok(paths)
}

fn by_reference(paths: &[PathBuf]) -> Result<f64> {
    let begun = now();
    for path in paths {
        // It wants the data too, of which there is nearly none.
        let (_, metadata) = SafeTensors::read_metadata(&std::fs::read(path)?)?;
        ensure!(metadata.tensors().len() as u64 == TENSORS, "the reference found others");
    }
    Ok(millis(now().saturating_sub(begun)))
}

fn by_python(options: &Options, paths: &[PathBuf]) -> Result<f64> {
    let python = options.python.clone().unwrap_or_else(|| PathBuf::from("python3"));
    let output = Command::new(&python).args(["-c", SCRIPT]).args(paths).output();
    let output = output.with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
