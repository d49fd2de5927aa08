//! Tells the linker where the worker looks for libtorch when it runs: beside itself in every layout that there is, never at
//! a path of the machine that built it; and the worker which libtorch that is.

use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() {
    // From target/PROFILE/, from target/PROFILE/deps/, and from where a package puts it.
    for place in ["../../.libtorch/lib", "../../../.libtorch/lib", "../lib/hoist"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{place}");
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    let version = Path::new(&libtorch).join("build-version");
    println!("cargo:rerun-if-changed={}", version.display());
    let version = std::fs::read_to_string(version).unwrap_or_default();
    println!("cargo:rustc-env=LIBTORCH_VERSION={}", version.trim());
}
