//! A worker without its device: everything that is the same for each of them.
//!
//! ```text
//!  coordinator ◄── session (task): registers, tells what is there, hears what shall be there ──► coordinator
//!                     │ take (policy)                     ▲ view: newest, never waited for
//!                     ▼                                   │
//!                  Shared: what is desired, newest wins ──┼── driver (thread): owns the device, one step at a time
//!                                                         └── next (policy): unload what is not desired, load what is
//! ```
//!
//! The thread that drives the device does nothing else and is the only one that touches it. The session never waits for it: a
//! device that hangs is seen by its progress not counting on. Nothing here knows what a device is made of; nothing here
//! decides what shall be on it.

pub mod args;
pub mod device;
mod driver;
#[cfg(feature = "suite")]
pub mod fake;
#[cfg(feature = "suite")]
pub mod peer;
pub mod policy;
pub mod process;
mod run;
mod session;
mod shared;
mod side;
#[cfg(feature = "suite")]
pub mod standin;
#[cfg(feature = "suite")]
pub mod suite;
mod view;

pub use driver::drive;
pub use run::{Ending, Process, run};
pub use session::SessionSettings;
pub use shared::{Read, Shared};
pub use view::{Delta, Removed, View};
