//! What is in RAM: how much of it when models share, and that a restart finds all of it.

use std::path::Path;

use anyhow::{Result, ensure};
use hoist_wire::v1::cached_component::Source;

use super::figures::{Rounds, mib, millis, now};
use super::report::{Row, Target};
use super::weights::{Weights, make_cold};
use super::{Options, process as figures_of};
use crate::caching::{cache, counts_are_true, on_tmpfs, status};
use crate::library::Open;
use crate::process;

const FINE_TUNES: u64 = 20;
const SEGMENTS: u64 = 64;
const MEBIBYTES: u64 = 8;
/// Of one row of [`Weights`].
const ROWS_PER_MEBIBYTE: u64 = 128;

/// Fine-tunes with a denoiser of their own and everything else in common.
pub(super) async fn shared(options: &Options) -> Result<Vec<Row>> {
    let place = tempfile::tempdir()?;
    let mut unique = 0;
    for number in 0..FINE_TUNES {
        unique += pipeline(&place.path().join(format!("tune-{number}")), number)?;
    }
    let (sandbox, open) = options.serve(place.path()).await?;
    let mut read = 0;
    for number in 0..FINE_TUNES {
        let report = cache(&open.at, &format!("tune-{number}"), &[]).await?;
        ensure!(report.components.len() == 3 && report.left_out.is_empty(), "{report:?}");
        read += report.read_bytes;
    }
    counts_are_true(&open.at, sandbox.runtime_dir()).await?;
    let (held, names) = on_tmpfs(&sandbox.runtime_dir().join("segments"))?;
    open.server.kill()?;
    let ratio = Rounds::of(&[held as f64 / unique as f64]);
    let name = format!("{FINE_TUNES} fine-tunes that share a VAE and a text encoder: tmpfs");
    let row = Row::once(name, "MiB", mib(held))
        .beside(Rounds::of(&[mib(unique)]), ratio)
        .target(Target::RatioAtMost(1.01))
        .note(format!(
            "peer: bytes of all tensors that differ; {} segments; {:.0} MiB were read to find out, no digest was known",
            names.len(),
            mib(read)
        ));
    Ok(vec![row])
}

/// Writes one of them. Its bytes that no other has; of the first one, all.
fn pipeline(top: &Path, number: u64) -> Result<u64> {
    let index = r#"{"_class_name":"StableDiffusionPipeline","vae":["diffusers","AutoencoderKL"],
        "unet":["diffusers","UNet2DConditionModel"],"text_encoder":["transformers","CLIPTextModel"]}"#;
    std::fs::create_dir_all(top)?;
    std::fs::write(top.join("model_index.json"), index)?;
    let mut own = 0;
    for (part, config, file, is_own) in [
        ("unet", r#"{"_class_name":"UNet2DConditionModel"}"#, "diffusion_pytorch_model", true),
        ("vae", r#"{"_class_name":"AutoencoderKL"}"#, "diffusion_pytorch_model", false),
        ("text_encoder", r#"{"architectures":["CLIPTextModel"]}"#, "model", false),
    ] {
        let folder = top.join(part);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("config.json"), config)?;
        let seed = if is_own { 1_000 + number } else { part.len() as u64 };
        let weights = Weights { dtype: "F16", tensors: 16, rows: MEBIBYTES * ROWS_PER_MEBIBYTE / 16, seed };
        weights.write(&folder.join(format!("{file}.safetensors")))?;
        own += if is_own || number == 0 { weights.bytes() } else { 0 };
    }
    Ok(own)
}

/// Kills a server that holds many segments, and starts the next one.
pub(super) async fn restarts(options: &Options) -> Result<Vec<Row>> {
    let place = tempfile::tempdir()?;
    for number in 0..SEGMENTS {
        let weights =
            Weights { dtype: "BF16", tensors: 4, rows: MEBIBYTES * ROWS_PER_MEBIBYTE / 4, seed: number };
        weights.write(&place.path().join(format!("model-{number}.safetensors")))?;
    }
    let (sandbox, open) = options.serve(place.path()).await?;
    for number in 0..SEGMENTS {
        cache(&open.at, &format!("model-{number}"), &[]).await?;
    }
    open.server.kill()?;
    let (mut times, mut said, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        for number in 0..SEGMENTS {
            make_cold(&place.path().join(format!("model-{number}.safetensors")))?;
        }
        let begun = now();
        let server = sandbox.start()?;
        times.push(millis(now().saturating_sub(begun)));
        let memory = figures_of::resident_bytes(server.process_id())?;
        ensure!(memory < (SEGMENTS * MEBIBYTES) << 20, "{memory} bytes: it has read its segments");
        let open = Open::to(server).await?;
        let mut read = 0;
        for number in 0..SEGMENTS {
            let report = cache(&open.at, &format!("model-{number}"), &[]).await?;
            ensure!(report.components.iter().all(|one| one.source() == Source::Resident), "{report:?}");
            read += report.read_bytes;
        }
        let counted = status(&open.at).await?.statistics.unwrap_or_default();
        said.push(mib(read + counted.read_bytes));
        kernel.push(mib(process::read_bytes(open.server.process_id())?));
        counts_are_true(&open.at, sandbox.runtime_dir()).await?;
        open.server.kill()?;
    }
    let what = format!("{SEGMENTS} segments of {MEBIBYTES} MiB, after a kill");
    Ok(vec![
        Row::new(format!("{what}: exec to ready"), "ms", Rounds::of(&times)).target(Target::AtMost(1_000.0)),
        Row::new(format!("{what}: read again until all were asked for"), "MiB", Rounds::of(&said))
            .target(Target::AtMost(0.0))
            .note(format!(
                "of {} MiB; with its store and all headers {:.1} MiB in all, by the kernel's count",
                SEGMENTS * MEBIBYTES,
                Rounds::of(&kernel).median
            )),
    ])
}
