//! For tests: where the libraries of a driver are that check their callers, built from `gpu-worker/tests/driver` by the C compiler.

#![expect(clippy::unwrap_used, reason = "for tests, which other crates call")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The driver, and what watches over its cards: each of one source.
const LIBRARIES: [(&str, &str); 2] = [
    (concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu-worker/tests/driver/driver.c"), "libcuda.so.1"),
    (concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu-worker/tests/driver/nvml.c"), "libnvidia-ml.so.1"),
];

/// Where `scripts/libtorch` puts the vendor's header.
pub const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.libtorch/include-cuda");

/// Builds them, unless that was done, into a folder of their own; where `libcuda.so.1` is, with `libnvidia-ml.so.1` beside it.
/// Processes that run at once build them each, and one of each is kept.
///
/// # Panics
/// When there is no compiler or no header.
#[must_use]
pub fn built() -> PathBuf {
    // Once a process: threads would write to one file.
    static DRIVER: LazyLock<PathBuf> = LazyLock::new(|| {
        let sum = LIBRARIES
            .iter()
            .flat_map(|(source, _)| std::fs::read(source).unwrap())
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let folder = std::env::current_exe().unwrap().with_file_name(format!("standin-{sum:016x}"));
        let [driver, _] = LIBRARIES.map(|(source, name)| {
            let library = folder.join(name);
            if !library.exists() {
                build(source, &library);
            }
            library
        });
        driver
    });
    DRIVER.clone()
}

/// Whoever looks sees all of it or nothing.
fn build(source: &str, library: &Path) {
    assert!(Path::new(INCLUDE).join("cuda.h").is_file(), "there is no cuda.h: run `make libtorch`");
    std::fs::create_dir_all(library.parent().unwrap()).unwrap();
    let part = library.with_extension(format!("part-{}", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O1", "-g", "-shared", "-fPIC", "-pthread", "-I", INCLUDE, source, "-o"]);
    let made = cc.arg(&part).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::rename(part, library).unwrap();
}
