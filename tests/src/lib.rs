//! What the tests and benchmarks of the whole share: a real `hoist` process in private directories, and ways to
//! talk to it. Nothing here imitates a part of Hoist.

pub mod bench;
pub mod caching;
mod client;
pub mod devices_world;
pub mod inject;
pub mod ledger;
pub mod library;
pub mod loading;
pub mod making;
mod mirror;
pub mod oracle;
pub mod process;
pub mod quick;
mod random;
pub mod raw;
mod sandbox;
pub mod simulation;
pub mod small_disk;
pub mod soak;
pub mod stepping;

pub use client::{Channels, connect, connect_as, request_id};
pub use ledger::Ledger;
pub use mirror::Mirror;
pub use random::Random;
pub use sandbox::{Sandbox, Server, binary};
