//! For tests: where the driver that checks its callers is, built from `gpu-worker/tests/driver` by the C compiler.

#![expect(clippy::unwrap_used, reason = "for tests, which other crates call")]

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu-worker/tests/driver/driver.c");

/// Where `scripts/libtorch` puts the vendor's header.
pub const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.libtorch/include-cuda");

/// Builds it, unless that was done; where it is: `libcuda.so.1` in a folder of its own. Tests that run at once build it each, and
/// one of them is kept.
///
/// # Panics
/// When there is no compiler or no header.
#[must_use]
pub fn built() -> PathBuf {
    let source = std::fs::read(SOURCE).unwrap();
    let sum = source
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let folder = std::env::current_exe().unwrap().with_file_name(format!("standin-{sum:016x}"));
    let library = folder.join("libcuda.so.1");
    if !library.exists() {
        assert!(Path::new(INCLUDE).join("cuda.h").is_file(), "there is no cuda.h: run `make libtorch`");
        std::fs::create_dir_all(&folder).unwrap();
        let part = folder.join(format!("part-{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-O1", "-g", "-shared", "-fPIC", "-pthread", "-I", INCLUDE, SOURCE, "-o"]);
        let made = cc.arg(&part).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::rename(part, &library).unwrap();
    }
    library
}
