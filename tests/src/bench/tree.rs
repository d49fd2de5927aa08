//! A tree of many small models, made fast, and the bare walk over it that a rescan is held against.
//!
//! One model in ten is a LoRA with a header of a hundred tensors and more, the rest are textual inversions: what fills
//! real folders by number. Every file differs from every other; they are real files, with all their bytes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Files of one folder.
const PER_FOLDER: u32 = 1_000;

/// One in so many is a LoRA.
pub(super) const LORA_EVERY: u32 = 10;

/// Where the model of this number lies below the top.
pub(super) fn place(number: u32) -> PathBuf {
    let name = if is_lora(number) {
        format!("loras_{:03}/portrait style {number:06}.safetensors", number / PER_FOLDER)
    } else {
        format!("embeddings_{:03}/concept-{number:06}.safetensors", number / PER_FOLDER)
    };
    name.into()
}

const fn is_lora(number: u32) -> bool {
    number.is_multiple_of(LORA_EVERY)
}

/// Makes the models `0..models` below `top`.
pub(super) fn fill(top: &Path, models: u32) -> Result<()> {
    for first in (0..models).step_by(PER_FOLDER as usize) {
        for number in [first, first + 1] {
            let folder = top.join(place(number));
            std::fs::create_dir_all(folder.parent().context("no folder")?)?;
        }
        for number in first..models.min(first + PER_FOLDER) {
            write(&top.join(place(number)), number)?;
        }
    }
    Ok(())
}

/// Writes the model of this number.
pub(super) fn write(path: &Path, number: u32) -> Result<()> {
    let bytes = if is_lora(number) { lora(number) } else { embedding(number) };
    File::create(path)?.write_all(&bytes)?;
    Ok(())
}

/// A safetensors file of these tensors, in 16-bit floats.
fn file(tensors: &[(String, Vec<u64>)], metadata: &str, number: u32) -> Vec<u8> {
    let mut header = format!("{{\"__metadata__\":{{{metadata}}}");
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<u64>() * 2;
        let _ = write!(
            header,
            ",\"{name}\":{{\"dtype\":\"F16\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}"
        );
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    let all = bytes.len() + usize::try_from(end).unwrap_or_default();
    bytes.extend(number.to_le_bytes().iter().cycle().take(all - bytes.len()));
    bytes
}

/// As kohya's scripts name them: the up and down matrices and the scale of each attention of an SD 1.5 or SDXL denoiser.
fn lora(number: u32) -> Vec<u8> {
    let (sdxl, rank) = ((number / LORA_EVERY).is_multiple_of(2), 1 + u64::from(number) % 4);
    let (blocks, depth, context) = if sdxl { (4..6, 2, 2048) } else { (1..3, 1, 768) };
    let mut tensors = Vec::new();
    for block in blocks {
        for attention in 0..2 {
            for layer in 0..depth {
                for part in ["attn1_to_q", "attn1_to_k", "attn2_to_q", "attn2_to_k", "attn2_to_v", "ff_net_2"]
                {
                    let place = if sdxl { "input_blocks" } else { "down_blocks" };
                    let number = format!("{block}_{}_{attention}", if sdxl { "1" } else { "attentions" });
                    let name = format!("lora_unet_{place}_{number}_transformer_blocks_{layer}_{part}");
                    let width = if part.starts_with("attn2_to_k") { context } else { 64 };
                    tensors.push((format!("{name}.alpha"), vec![]));
                    tensors.push((format!("{name}.lora_down.weight"), vec![rank, width]));
                    tensors.push((format!("{name}.lora_up.weight"), vec![64, rank]));
                }
            }
        }
    }
    let version = if sdxl { "sdxl_base_v1-0" } else { "sd_v1" };
    let metadata = format!(
        "\"ss_base_model_version\":\"{version}\",\"ss_network_module\":\"networks.lora\",\"ss_network_dim\":\"{rank}\",\
         \"ss_output_name\":\"portrait style {number}\",\"ss_steps\":\"1600\",\"ss_learning_rate\":\"0.0001\""
    );
    file(&tensors, &metadata, number)
}

fn embedding(number: u32) -> Vec<u8> {
    let tensors: &[(&str, u64)] =
        if number.is_multiple_of(3) { &[("clip_g", 1280), ("clip_l", 768)] } else { &[("emb_params", 768)] };
    let tensors: Vec<(String, Vec<u64>)> =
        tensors.iter().map(|(name, width)| ((*name).to_owned(), vec![1, *width])).collect();
    file(&tensors, "\"format\":\"pt\"", number)
}

/// One file of 16-bit tensors, so large, of bytes that no disk or hash has a short way with.
pub(super) fn write_large(path: &Path, bytes: u64) -> Result<()> {
    const TENSOR: u64 = 16 << 20;
    let tensors: Vec<(String, Vec<u64>)> = (0..bytes / TENSOR)
        .map(|at| (format!("model.layers.{at}.self_attn.q_proj.weight"), vec![TENSOR / 2 / 4096, 4096]))
        .collect();
    let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    for (at, (name, shape)) in tensors.iter().enumerate() {
        let begin = at as u64 * TENSOR;
        let _ = write!(
            header,
            ",\"{name}\":{{\"dtype\":\"F16\",\"shape\":{shape:?},\"data_offsets\":[{begin},{}]}}",
            begin + TENSOR
        );
    }
    header.push('}');
    let mut file = File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut block = vec![0_u8; usize::try_from(TENSOR)?];
    for (word, at) in block.chunks_exact_mut(4).zip(0_u32..) {
        word.copy_from_slice(&at.wrapping_mul(2_654_435_761).to_le_bytes());
    }
    for at in 0..tensors.len() {
        let number = (at as u64).to_le_bytes();
        block.iter_mut().zip(number).for_each(|(to, from)| *to = from);
        file.write_all(&block)?;
    }
    Ok(())
}

/// What any rescan has to do: list every folder and ask for every file's identity, on one thread. How many it found.
pub(super) fn bare_walk(top: &Path) -> Result<u64> {
    let mut waiting = vec![top.to_owned()];
    let mut found = 0;
    while let Some(path) = waiting.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                waiting.push(path.join(std::str::from_utf8(name.to_bytes())?));
                continue;
            }
            let stat = rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
            found += u64::from(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        }
    }
    Ok(found)
}
