//! Calls to the kernel, and one to the C library, that nothing safe offers: who else has a file open, what of it the page
//! cache holds, how politely a thread reads, and giving back memory that nobody uses.
//!
//! Each function is one call; each unsafe block says what the kernel asks for and where that is met.
#![expect(unsafe_code, reason = "system calls that no safe crate wraps")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, Once, PoisonError};

/// Whether anything but this one descriptor has the file open, mapped files included: in any process, of any user.
///
/// The kernel grants a write lease on a file only to its sole opener, and a mapping keeps its file open. So the lease is
/// asked for and given back; whoever opens the file within that microsecond waits for it. `file` must be open for
/// reading only, and ours: the kernel grants leases to owners.
pub(crate) fn is_open_elsewhere(file: &File) -> io::Result<bool> {
    static IGNORE: Once = Once::new();
    IGNORE.call_once(|| {
        // The kernel tells a lease's holder by SIGIO that somebody waits for it; unheard, that ends a process.
        // SAFETY: `signal` asks for a valid signal number and a handler that may run at any time: SIGIO is one, and
        // ignoring runs nothing. No code of this workspace handles SIGIO, so nothing is taken from anybody.
        let before = unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        debug_assert_ne!(before, libc::SIG_ERR);
    });
    // A lease is its descriptor's: of two who asked by one at once, the second would find the first's, or none to give back.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lease = |kind: libc::c_int| {
        // SAFETY: `fcntl` with F_SETLEASE asks for an open descriptor, which `file` is as long as it is borrowed, and one
        // of three constants as an int. It writes to no memory of ours.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    match lease(libc::F_WRLCK) {
        Ok(()) => lease(libc::F_UNLCK).map(|()| false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

/// As the kernel lays it out for `cachestat`.
#[repr(C)]
struct Range {
    offset: u64,
    length: u64,
}

/// What `cachestat` fills in, in pages.
#[repr(C)]
#[derive(Default)]
struct Cached {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Bytes of a part of a file that the page cache holds, without changing that; none where the kernel does not tell
/// (before 6.5, or by its policy).
#[must_use]
pub fn cached_bytes(file: &File, offset: u64, length: u64) -> Option<u64> {
    // The same on every architecture, as all calls since 424.
    const CACHESTAT: libc::c_long = 451;
    let range = Range { offset, length };
    let mut cached = Cached::default();
    // SAFETY: the call asks for an open descriptor, which `file` is; for a pointer to a range that it reads and one to a
    // result that it writes, both of its own layout (`repr(C)`, five and two u64 as in linux/mman.h), both alive and,
    // the latter, ours alone until it returns; and for flags, of which there are none yet.
    let result = unsafe {
        libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut cached, 0 as libc::c_uint)
    };
    (result == 0).then(|| cached.cached.saturating_mul(page_bytes()).min(length))
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Makes the calling thread read from disks only when nobody else wants to. It cannot be told to stop doing so by a user
/// without privileges: for threads that end with such work.
///
/// # Errors
/// The kernel's.
pub fn idle_io_priority() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: `ioprio_set` takes three ints and touches no memory of ours; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0 as libc::c_int, CLASS_IDLE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the kernel back what the heap keeps of freed memory: after work on many threads that is as much as their work
/// took, each having a part of the heap of its own. Takes milliseconds; for after such work, not within it.
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `malloc_trim` asks for nothing, locks each part of the heap while it looks at it, and touches no memory
        // that is in use.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = directory.path().join("f");
        File::create(&path).unwrap().write_all(bytes).unwrap();
        (directory, path)
    }

    #[test]
    fn the_sole_opener_is_told_from_one_of_several() {
        let (_directory, path) = file_of(b"x");
        let ours = File::open(&path).unwrap();
        assert!(!is_open_elsewhere(&ours).unwrap());
        let theirs = File::open(&path).unwrap();
        assert!(is_open_elsewhere(&ours).unwrap());
        drop(theirs);
        assert!(!is_open_elsewhere(&ours).unwrap());
    }

    #[test]
    fn a_mapping_counts_after_its_descriptor_is_closed_and_its_name_is_gone() {
        let (_directory, path) = file_of(&[1; 8192]);
        let ours = File::open(&path).unwrap();
        let script = "import mmap,sys,os\nf=open(sys.argv[1],'rb')\nm=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)\nf.close()\nprint('mapped',flush=True)\nsys.stdin.read()\n";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        assert_eq!(line, "mapped\n");
        std::fs::remove_file(&path).unwrap();
        assert!(is_open_elsewhere(&ours).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!is_open_elsewhere(&ours).unwrap());
    }

    #[test]
    fn whoever_opens_while_the_lease_is_tried_gets_in_and_nobody_dies() {
        let (_directory, path) = file_of(b"x");
        let ours = File::open(&path).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    drop(File::open(&path).unwrap());
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                is_open_elsewhere(&ours).unwrap();
            }
        });
        assert!(!is_open_elsewhere(&ours).unwrap());
    }

    #[test]
    fn cached_pages_are_counted_where_the_kernel_tells() {
        let (_directory, path) = file_of(&[1; 3 * 4096]);
        let file = File::open(&path).unwrap();
        if let Some(cached) = cached_bytes(&file, 0, 3 * 4096) {
            // A tmpfs file is nothing but page cache.
            assert_eq!(cached, 3 * 4096);
            assert_eq!(cached_bytes(&file, 4096, 100), Some(100));
        }
    }

    #[test]
    fn freed_memory_is_given_back_and_what_is_in_use_is_not() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * page_bytes()
        };
        // Small pieces, every thousandth of which stays: what lies between them is free, and nothing at the end is.
        let all: Vec<Vec<u8>> = (0..200_000).map(|number: u32| vec![number.to_le_bytes()[0]; 500]).collect();
        let full = resident();
        let mut number = 0;
        let kept: Vec<Vec<u8>> = all
            .into_iter()
            .filter(|_| {
                number += 1;
                number % 1_000 == 0
            })
            .collect();
        give_back_free_memory();
        assert!(kept.iter().all(|piece| piece.iter().all(|byte| *byte == piece[0])));
        if cfg!(target_env = "gnu") {
            assert!(resident() + (50 << 20) < full, "{} of {full}", resident());
        }
    }

    #[test]
    fn a_thread_may_be_polite() {
        std::thread::scope(|scope| scope.spawn(|| idle_io_priority().unwrap()).join().unwrap());
    }
}
