//! What every Hoist process needs around its work: supervised tasks, shutdown, clock, configuration, logs and facts
//! about the machine.
//!
//! This is the only crate that spawns, reads a clock or reads the environment; the lints in `clippy.toml` send
//! everyone else here. It knows nothing of models, workers or gRPC.

pub mod clock;
pub mod config;
mod lock;
pub mod machine;
mod panics;
pub mod redact;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

pub use clock::{Clock, ManualClock};
pub use lock::DeviceLock;
pub use panics::panic_message;
pub use redact::Secret;
pub use shutdown::{Gate, Hold, Shutdown, stop_signal};
pub use tasks::{OnError, TaskHandle, TaskPanicked, Tasks, ThreadHandle};
pub use telemetry::{LogFormat, LogGuard, TelemetryError};
