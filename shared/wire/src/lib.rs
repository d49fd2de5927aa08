//! The wire contract: generated code, and its conversions from and to the words of `hoist-domain`.
//!
//! Generated types stop at the edge: handlers, sessions and clients use them, nothing behind those does. What the
//! messages mean stands in `proto/`; the one place where an error becomes a gRPC status is [`status`].

pub mod cache;
pub mod config;
pub mod decode;
pub mod encode;
pub mod examinations;
pub mod frame;
pub mod mask;
pub mod models;
pub mod residency;
pub mod status;
pub mod workers;

pub use google::longrunning;
pub use hoist::api::v1;
pub use hoist::worker::v1 as worker;

/// Generated, in the shape of the packages: generated code refers to itself by it.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
mod hoist {
    pub mod api {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/hoist.api.v1.rs"));
        }
    }
    pub mod worker {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/hoist.worker.v1.rs"));
        }
    }
}

/// Generated: messages and the client of the standard Operations service.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
mod google {
    pub mod longrunning {
        include!(concat!(env!("OUT_DIR"), "/google.longrunning.rs"));
    }
}

/// Server halves of every service.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod server {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/servers/hoist.api.v1.rs"));
    }
    pub mod longrunning {
        include!(concat!(env!("OUT_DIR"), "/servers/google.longrunning.rs"));
    }
    pub mod worker {
        include!(concat!(env!("OUT_DIR"), "/servers/hoist.worker.v1.rs"));
    }
}

/// Every public proto file, encoded as a `FileDescriptorSet`: for reflection, masks, and the test that every RPC has a policy.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
