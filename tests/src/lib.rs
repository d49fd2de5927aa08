//! What the tests and benchmarks of the whole share: a real `hoist` process in private directories, and ways to
//! talk to it. Nothing here imitates a part of Hoist.

mod client;
mod mirror;
mod sandbox;

pub use client::{Channels, connect, request_id};
pub use mirror::Mirror;
pub use sandbox::{Sandbox, Server, binary};
