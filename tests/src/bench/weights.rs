//! Files of weights that have so many bytes and no others: random, so that no disk, hash or page has a short way with them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::Advice;

use crate::Random;

/// Elements of one row of a tensor, of two bytes each.
const WIDTH: u64 = 4096;

/// Tensors of 16-bit floats, all of one shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    pub(super) dtype: &'static str,
    pub(super) tensors: u64,
    pub(super) rows: u64,
    /// Other seeds, other bytes.
    pub(super) seed: u64,
}

impl Weights {
    /// Of all tensors together, without the header.
    pub(super) const fn bytes(self) -> u64 {
        self.tensors * self.tensor_bytes()
    }

    const fn tensor_bytes(self) -> u64 {
        self.rows * WIDTH * 2
    }

    /// The length of everything before the tensors, and that itself.
    fn header(self) -> Vec<u8> {
        let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
        for at in 0..self.tensors {
            let (dtype, rows, begin) = (self.dtype, self.rows, at * self.tensor_bytes());
            let end = begin + self.tensor_bytes();
            let _ = write!(
                header,
                ",\"model.layers.{at}.self_attn.q_proj.weight\":{{\"dtype\":\"{dtype}\",\"shape\":[{rows},{WIDTH}],\
                 \"data_offsets\":[{begin},{end}]}}"
            );
        }
        header.push('}');
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    }

    /// Writes them as a safetensors file.
    pub(super) fn write(self, path: &Path) -> Result<()> {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        file.write_all(&self.header())?;
        let mut random = Random::new(self.seed);
        let mut tensor = vec![0_u8; usize::try_from(self.tensor_bytes())?];
        for _ in 0..self.tensors {
            for word in tensor.chunks_exact_mut(4) {
                word.copy_from_slice(&u32::try_from(random.below(1 << 32))?.to_le_bytes());
            }
            file.write_all(&tensor)?;
        }
        file.sync_all()?;
        Ok(())
    }

    /// The same, unless they are there: a file of this size is taken for it.
    pub(super) fn write_once(self, path: &Path) -> Result<()> {
        let size = self.bytes() + self.header().len() as u64;
        if std::fs::metadata(path).is_ok_and(|found| found.len() == size) {
            return Ok(());
        }
        std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        // Under its name only when it is whole: the next run would take a part for it.
        let part = path.with_extension("part");
        self.write(&part)?;
        Ok(std::fs::rename(part, path)?)
    }
}

/// Takes a file out of the page cache, and looks whether that helped where the kernel tells.
pub(super) fn make_cold(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let size = file.metadata()?.len();
    let cached = hoist_segment::cached_bytes(&file, 0, size);
    // A header that somebody looks at right now is no matter.
    ensure!(
        cached.is_none_or(|bytes| bytes <= size / 100),
        "{cached:?} bytes of {} stay in the page cache",
        path.display()
    );
    Ok(())
}

/// Brings a file into the page cache.
pub(super) fn make_warm(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    std::io::copy(&mut file, &mut std::io::sink())?;
    let size = file.metadata()?.len();
    let cached = hoist_segment::cached_bytes(&file, 0, size);
    ensure!(
        cached.is_none_or(|bytes| bytes >= size / 100 * 99),
        "only {cached:?} bytes of {} are in the page cache",
        path.display()
    );
    Ok(())
}
