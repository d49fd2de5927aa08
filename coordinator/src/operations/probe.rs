//! Measures the machine: how fast bytes come from the disk, go into fresh tmpfs pages, and move within memory.
//!
//! These are the three speeds that bound a load, so estimates need them. Each is measured the way a load will do
//! it: many requests in flight on the disk past the page cache, `pwrite` of aligned blocks into a new tmpfs file.
//! What cannot be measured is reported as such, with the reason; it never fails the others.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use hoist_domain::{Bytes, Measurement, MeasurementKind, ProbeSpec};
use hoist_runtime::Clock;
use rustix::fs::{Mode, OFlags};
use tokio_util::sync::CancellationToken;

use super::{Directories, ProgressCell};

/// One request to the kernel. At 4 MiB the cost of a call vanishes on every disk that was measured.
const BLOCK: usize = 4 << 20;

/// O_DIRECT wants buffers, offsets and lengths on the device's block size; 4 KiB satisfies all that are sold.
const ALIGNMENT: usize = 4096;

/// Requests in flight on the disk: NVMe saturates at 16 blocks of this size or before.
const DISK_THREADS: u32 = 16;

/// Use at most this part of the free space of a file system, and of free memory.
const SPACE_DIVISOR: u64 = 4;

/// Each thread copies between two buffers of this size, far more than a cache holds, unless less was asked for.
const COPY_BUFFER: u64 = 64 << 20;

/// Where and by which clock to measure.
pub(super) struct Machine {
    pub(super) directories: Directories,
    pub(super) clock: Clock,
}

/// Somebody asked the probe to stop.
#[derive(Debug)]
pub(super) struct Stopped;

/// Why one figure could not be taken.
enum Failed {
    Stopped,
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Failed {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// What a run of threads moved, and how long it took.
struct Run {
    bytes: u64,
    duration: Duration,
    threads: u32,
    block: usize,
    note: String,
}

/// Measures what the spec asks for, one kind after the other. Blocks; checks `stop` between blocks.
pub(super) fn run(
    spec: &ProbeSpec,
    machine: &Machine,
    progress: &ProgressCell,
    stop: &CancellationToken,
) -> Result<Vec<Measurement>, Stopped> {
    let probe = Probe { machine, progress, stop };
    // The disk is written before it can be read.
    let passes: u64 =
        spec.kinds.iter().map(|kind| if *kind == MeasurementKind::DiskRead { 2 } else { 1 }).sum();
    progress.set_total(spec.bytes.0.saturating_mul(passes));
    let mut measurements = Vec::with_capacity(spec.kinds.len());
    for kind in &spec.kinds {
        progress.set_phase(kind.label());
        let run = match kind {
            MeasurementKind::DiskRead => probe.disk_read(spec.bytes),
            MeasurementKind::TmpfsWrite => probe.tmpfs_write(spec.bytes),
            MeasurementKind::MemoryCopy => probe.memory_copy(spec.bytes),
        };
        let run = match run {
            Ok(run) => run,
            Err(Failed::Stopped) => return Err(Stopped),
            Err(Failed::Io(error)) => Run {
                bytes: 0,
                duration: Duration::ZERO,
                threads: 0,
                block: 0,
                note: format!("not measured: {error}"),
            },
        };
        measurements.push(Measurement {
            kind: *kind,
            bytes: Bytes(run.bytes),
            duration: run.duration,
            bytes_per_second: per_second(run.bytes, run.duration),
            threads: run.threads,
            block_bytes: Bytes(run.block as u64),
            measured_at: machine.clock.wall(),
            note: run.note,
        });
    }
    Ok(measurements)
}

fn per_second(bytes: u64, duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return 0;
    }
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

struct Probe<'a> {
    machine: &'a Machine,
    progress: &'a ProgressCell,
    stop: &'a CancellationToken,
}

impl Probe<'_> {
    fn disk_read(&self, asked: Bytes) -> Result<Run, Failed> {
        let directory = &self.machine.directories.state;
        let (bytes, mut notes) = room(directory, asked)?;
        let (file, direct) = match scratch(directory, OFlags::DIRECT) {
            Ok(file) => (file, true),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                (scratch(directory, OFlags::empty())?, false)
            }
            Err(error) => return Err(error.into()),
        };
        self.progress.set_phase("disk write (preparing)");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        self.blocks(bytes, DISK_THREADS, |buffer, offset| write_all(&file, buffer, offset))?;
        file.sync_all()?;
        if !direct {
            notes.push(
                "the file system has no O_DIRECT: read through the page cache after dropping it".to_owned(),
            );
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        self.progress.set_phase(MeasurementKind::DiskRead.label());
        let duration = self.blocks(bytes, DISK_THREADS, |buffer, offset| read_all(&file, buffer, offset))?;
        Ok(Run { bytes, duration, threads: DISK_THREADS, block: BLOCK, note: notes.join("; ") })
    }

    fn tmpfs_write(&self, asked: Bytes) -> Result<Run, Failed> {
        let directory = &self.machine.directories.runtime;
        let (bytes, mut notes) = room(directory, Bytes(asked.0.min(spare_memory()?)))?;
        if bytes + BLOCK as u64 <= asked.0 && notes.is_empty() {
            notes.push(format!("only {} used: a quarter of the free memory", Bytes(bytes)));
        }
        let filesystem =
            hoist_runtime::machine::filesystem(Path::new("/"), directory).map_err(io::Error::other)?;
        if !filesystem.kind.is_memory() {
            notes.push("the runtime directory is not on tmpfs".to_owned());
        }
        let file = scratch(directory, OFlags::empty())?;
        let threads = cpus();
        let duration = self.blocks(bytes, threads, |buffer, offset| write_all(&file, buffer, offset))?;
        Ok(Run { bytes, duration, threads, block: BLOCK, note: notes.join("; ") })
    }

    fn memory_copy(&self, asked: Bytes) -> Result<Run, Failed> {
        let threads = cpus();
        let share = asked.0 / u64::from(threads);
        let per_pass = COPY_BUFFER.min(share).min(spare_memory()? / 2 / u64::from(threads)).max(1);
        let passes = share.div_ceil(per_pass);
        let buffer = usize::try_from(per_pass).map_err(|_| io::Error::other("no such buffer"))?;
        let duration = self.on_threads(
            threads,
            // Both written once before the clock starts: first touch is what the tmpfs figure is about.
            |_| Ok((written(buffer)?, written(buffer)?)),
            |_, (from, to)| {
                for _ in 0..passes {
                    self.go_on()?;
                    to.copy_from_slice(from);
                    std::hint::black_box(&mut *to);
                    self.progress.add(per_pass);
                }
                Ok(())
            },
        )?;
        let bytes = passes * per_pass * u64::from(threads);
        Ok(Run { bytes, duration, threads, block: buffer, note: String::new() })
    }

    fn go_on(&self) -> Result<(), Failed> {
        if self.stop.is_cancelled() { Err(Failed::Stopped) } else { Ok(()) }
    }

    /// Handles every block of a file once, spread over threads; how long that took.
    fn blocks(
        &self,
        bytes: u64,
        threads: u32,
        handle: impl Fn(&mut [u8], u64) -> io::Result<()> + Sync,
    ) -> Result<Duration, Failed> {
        let prepare = |index| {
            let mut memory = written(BLOCK + ALIGNMENT)?;
            fill(&mut memory, u64::from(index) + 1);
            Ok(memory)
        };
        self.on_threads(threads, prepare, |index, memory| {
            let start = memory.as_ptr().align_offset(ALIGNMENT);
            let block =
                memory.get_mut(start..start + BLOCK).ok_or_else(|| io::Error::other("no aligned block"))?;
            let stride = u64::from(threads) * BLOCK as u64;
            let mut offset = u64::from(index) * BLOCK as u64;
            while offset < bytes {
                self.go_on()?;
                handle(block, offset)?;
                self.progress.add(BLOCK as u64);
                offset += stride;
            }
            Ok(())
        })
    }

    /// Runs `work` on so many threads, each with what `prepare` made for it before the clock started; how long that
    /// took. The first failure is the result. Scoped threads borrow from here and end here: they need no supervisor.
    fn on_threads<T: Send>(
        &self,
        threads: u32,
        prepare: impl Fn(u32) -> io::Result<T>,
        work: impl Fn(u32, &mut T) -> Result<(), Failed> + Sync,
    ) -> Result<Duration, Failed> {
        let work = &work;
        let mut prepared: Vec<T> = (0..threads).map(prepare).collect::<io::Result<_>>()?;
        let started = self.machine.clock.monotonic();
        let ends: Vec<Result<(), Failed>> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .zip(&mut prepared)
                .map(|(index, mine)| scope.spawn(move || work(index, mine)))
                .collect();
            let panicked = || Err(io::Error::other("a probe thread panicked").into());
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let duration = self.machine.clock.monotonic().saturating_sub(started);
        ends.into_iter().collect::<Result<(), Failed>>()?;
        Ok(duration)
    }
}

/// Bytes to use of those asked for, in whole blocks, and what to say if they are fewer.
fn room(directory: &Path, asked: Bytes) -> Result<(u64, Vec<String>), Failed> {
    let stat = rustix::fs::statvfs(directory)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let block = BLOCK as u64;
    let bytes = asked.0.min(free / SPACE_DIVISOR) / block * block;
    if bytes < block {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()).into());
    }
    let less = bytes + block <= asked.0;
    Ok((
        bytes,
        if less {
            vec![format!("only {} used: a quarter of what is free", Bytes(bytes))]
        } else {
            Vec::new()
        },
    ))
}

/// What a probe may take of the memory: a quarter of what is free, an eighth of any group's limit. (What a group
/// "uses" is mostly page cache and says little; beyond its limit it is the kernel's killer that answers.)
fn spare_memory() -> io::Result<u64> {
    let root = Path::new("/");
    let free = hoist_runtime::machine::memory(root).map_err(io::Error::other)?.available.0 / SPACE_DIVISOR;
    let groups = hoist_runtime::machine::cgroup_memory(root).map_err(io::Error::other)?;
    let limits = groups.iter().filter_map(|group| group.limit).map(|limit| limit.0 / (2 * SPACE_DIVISOR));
    Ok(limits.fold(free, u64::min))
}

/// Memory that has been written to, or an error where there is none: never the end of the process.
fn written(bytes: usize) -> io::Result<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    memory.resize(bytes, 1);
    Ok(memory)
}

/// A file without a name: whatever happens, nothing is left behind.
fn scratch(directory: &Path, flags: OFlags) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | flags;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn write_all(file: &File, block: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, block, offset)
}

fn read_all(file: &File, block: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, block, offset)
}

fn cpus() -> u32 {
    std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(1).min(16)
}

/// Bytes that no layer below can compress or recognise. Xorshift: speed matters, quality does not.
fn fill(memory: &mut [u8], seed: u64) {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in memory.chunks_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        for (to, from) in chunk.iter_mut().zip(word.to_le_bytes()) {
            *to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kinds: &[MeasurementKind]) -> ProbeSpec {
        ProbeSpec { kinds: kinds.to_vec(), bytes: ProbeSpec::MIN_BYTES }
    }

    fn machine(directory: &Path) -> Machine {
        let directories = Directories { state: directory.to_owned(), runtime: directory.to_owned() };
        Machine { directories, clock: Clock::system() }
    }

    #[test]
    fn every_kind_is_measured_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let (progress, stop) = (ProgressCell::default(), CancellationToken::new());
        let spec = spec(&MeasurementKind::ALL);
        let measured = run(&spec, &machine(directory.path()), &progress, &stop).unwrap();
        assert_eq!(measured.iter().map(|m| m.kind).collect::<Vec<_>>(), MeasurementKind::ALL);
        for measurement in &measured {
            assert!(measurement.bytes_per_second > 0 && measurement.bytes >= spec.bytes, "{measurement:?}");
        }
        let sample = progress.sample(Duration::ZERO);
        assert!(sample.done >= sample.total, "{sample:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stopped_probe_stops() {
        let directory = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let progress = ProgressCell::default();
        assert!(run(&spec(&MeasurementKind::ALL), &machine(directory.path()), &progress, &stop).is_err());
        assert_eq!(progress.sample(Duration::ZERO).done, Bytes(0));
    }

    #[test]
    fn what_cannot_be_measured_says_why_and_spares_the_rest() {
        let machine = machine(Path::new("/nonexistent"));
        let (progress, stop) = (ProgressCell::default(), CancellationToken::new());
        let measured = run(&spec(&MeasurementKind::ALL), &machine, &progress, &stop).unwrap();
        assert!(measured[0].note.starts_with("not measured: "), "{:?}", measured[0]);
        assert_eq!(measured[0].bytes_per_second, 0);
        assert!(measured[2].bytes_per_second > 0);
    }
}
