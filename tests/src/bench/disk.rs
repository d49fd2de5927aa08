//! How fast the disk can be read at all, past the page cache: what a cold fill is held against.
//!
//! fio, where it is installed, in the shape that has been the fastest on the machines that were tried; and a reader of our
//! own, of so many threads that each read the next block, for where it is not.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{Mode, OFlags};

use super::figures::now;

const DEPTH: usize = 16;
const BLOCK: usize = 4 << 20;
/// Of buffers and offsets.
const ALIGNMENT: usize = 4096;

/// Gigabytes a second by fio; none where it is not installed.
pub(super) fn by_fio(path: &Path) -> Result<Option<f64>> {
    let mut command = Command::new("fio");
    command.args([
        "--name=read",
        "--rw=read",
        "--readonly",
        "--direct=1",
        "--ioengine=libaio",
        "--numjobs=1",
    ]);
    command.args([format!("--iodepth={DEPTH}"), format!("--bs={BLOCK}")]);
    command.arg("--output-format=json").arg(format!("--filename={}", path.display()));
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output.context("cannot run fio")?,
    };
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr).trim());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).context("fio's report")?;
    let rate = said.pointer("/jobs/0/read/bw_bytes").and_then(serde_json::Value::as_f64);
    Ok(Some(rate.context("fio does not say how fast it read")? / 1e9))
}

/// Gigabytes a second by threads of our own.
pub(super) fn by_threads(path: &Path) -> Result<f64> {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(path, flags, Mode::empty()).context("O_DIRECT")?.into();
    let (next, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = now();
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..DEPTH).map(|_| scope.spawn(|| every_next_block(&file, &next, &read))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?)
    })?;
    let took = now().saturating_sub(begun);
    let size = file.metadata()?.len();
    ensure!(read.load(Ordering::Relaxed) == size, "not all was read");
    Ok(size as f64 / took.as_secs_f64() / 1e9)
}

fn every_next_block(file: &File, next: &AtomicU64, read: &AtomicU64) -> Result<()> {
    let mut memory = vec![0_u8; BLOCK + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let buffer = memory.get_mut(start..start + BLOCK).context("no aligned block in it")?;
    loop {
        let count = file.read_at(buffer, next.fetch_add(BLOCK as u64, Ordering::Relaxed))?;
        if count == 0 {
            return Ok(());
        }
        read.fetch_add(count as u64, Ordering::Relaxed);
    }
}
