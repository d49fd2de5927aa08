//! What the tests and benchmarks of the whole share: a real `hoist` process in private directories, and ways to
//! talk to it. Nothing here imitates a part of Hoist.

pub mod bench;
mod client;
mod mirror;
pub mod oracle;
mod random;
mod sandbox;
pub mod simulation;
pub mod soak;
mod strace;

pub use client::{Channels, connect, connect_as, request_id};
pub use mirror::Mirror;
pub use random::Random;
pub use sandbox::{Sandbox, Server, binary};
pub use strace::Strace;
