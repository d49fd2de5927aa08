//! Compiles `proto/` with a compiler written in Rust: nobody has to install protoc.
//!
//! Two passes, because the server sends a Watch as frames whose content is already encoded (see `src/frame.rs`):
//! the first makes messages and clients, the second makes servers that reuse those messages, save for that one.

use std::path::{Path, PathBuf};

const PROTOS: [&str; 12] = [
    "hoist/api/v1/model.proto",
    "hoist/api/v1/catalog_service.proto",
    "hoist/api/v1/integrity_service.proto",
    "hoist/api/v1/cache_service.proto",
    "hoist/api/v1/lease_service.proto",
    "hoist/api/v1/device_service.proto",
    "hoist/api/v1/residency_service.proto",
    "hoist/api/v1/resources.proto",
    "hoist/api/v1/operation.proto",
    "hoist/api/v1/state_service.proto",
    "hoist/api/v1/admin_service.proto",
    "google/longrunning/operations.proto",
];

/// Between the coordinator and workers: not for clients, so not for reflection.
const WORKER_PROTO: &str = "hoist/worker/v1/worker_service.proto";

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(PROTOS, [root])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;

    let descriptors = protox::compile(PROTOS.into_iter().chain([WORKER_PROTO]), [root])?;

    // Type names: what goes into a google.protobuf.Any says what it is.
    let mut with_names = prost_build::Config::new();
    with_names.enable_type_names();
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds_with_config(descriptors.clone(), with_names)?;

    let servers = out.join("servers");
    std::fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .out_dir(&servers)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .extern_path(".google.longrunning", "crate::longrunning")
        .extern_path(".hoist.api.v1", "crate::v1")
        .extern_path(".hoist.worker.v1", "crate::worker")
        .extern_path(".hoist.api.v1.WatchResponse", "crate::frame::WatchFrame")
        .compile_fds(descriptors)?;
    Ok(())
}
