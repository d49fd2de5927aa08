//! What the kernel says about a running process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of all its threads, those that have ended included.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(process: u32) -> Result<Duration> {
    let text = read(process, "stat")?;
    // The name of the program stands in parentheses and may hold anything; what follows has fixed places.
    let (_, rest) = text.rsplit_once(") ").context("a stat without a name")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |place: usize| -> Result<u64> { Ok(fields.get(place).context("a short stat")?.parse()?) };
    let spent = ticks(11)? + ticks(12)?;
    Ok(Duration::from_secs(spent) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// The most memory it has ever held.
///
/// # Errors
/// When there is no such process.
pub fn peak_bytes(process: u32) -> Result<u64> {
    let text = read(process, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// How many descriptors it has open.
///
/// # Errors
/// When there is no such process.
pub fn open_files(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(directory(process).join("fd"))?.count())
}

/// Every file that is mapped into it.
///
/// # Errors
/// When there is no such process.
pub fn mapped_files(process: u32) -> Result<BTreeSet<String>> {
    let text = read(process, "maps")?;
    Ok(text.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..))).map(Into::into).collect())
}

/// Processes that it has started and that have not been waited for.
///
/// # Errors
/// When there is no such process.
pub fn children(process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(directory(process).join("task"))? {
        // A thread may end in between.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("children")) else { continue };
        children.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(children)
}

/// What it has read from anything, cached or not.
///
/// # Errors
/// When there is no such process.
pub fn read_bytes(process: u32) -> Result<u64> {
    let text = read(process, "io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).context("no rchar")?;
    Ok(line.parse()?)
}

/// The inodes of whose changes the kernel tells it.
///
/// # Errors
/// When there is no such process.
pub fn watched_inodes(process: u32) -> Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for descriptor in std::fs::read_dir(directory(process).join("fdinfo"))? {
        // It may be closed in between.
        let Ok(text) = std::fs::read_to_string(descriptor?.path()) else { continue };
        let watches = text.lines().filter(|line| line.starts_with("inotify wd:"));
        let inode =
            |line: &str| line.split(' ').find_map(|word| word.strip_prefix("ino:").map(str::to_owned));
        inodes.extend(watches.filter_map(inode).filter_map(|ino| u64::from_str_radix(&ino, 16).ok()));
    }
    Ok(inodes)
}

/// The thread of this name.
///
/// # Errors
/// When there is no such process or thread.
pub fn thread(process: u32, name: &str) -> Result<u32> {
    for thread in std::fs::read_dir(directory(process).join("task"))? {
        let thread = thread?;
        // A thread may end in between.
        let Ok(found) = std::fs::read_to_string(thread.path().join("comm")) else { continue };
        if found.trim_end() == name {
            return Ok(thread.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("process {process} has no thread {name}")
}

/// How many threads it has.
#[must_use]
pub fn threads(process: u32) -> usize {
    std::fs::read_dir(directory(process).join("task")).map_or(0, Iterator::count)
}

/// Whether every thread of it is stopped, by a signal or by whoever traces it.
#[must_use]
pub fn is_stopped(process: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(directory(process).join("task")) else { return false };
    threads.filter_map(Result::ok).all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['t', 'T']))
    })
}

/// Its directory in `/proc`, for instance to see the file system as it does: `root`.
#[must_use]
pub fn directory(process: u32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

fn read(process: u32, file: &str) -> Result<String> {
    let path = directory(process).join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
