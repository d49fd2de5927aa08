//! Layered configuration: defaults, then the TOML file, then `HOIST_` variables, then flags; the later wins.
//!
//! A process reads its settings once at its start, through one [`Reader`], into a struct of its own. The code that
//! reads is the only list of settings there is: keys, defaults and descriptions stand there, and unknown keys are
//! those it did not ask for. Nothing is read lazily, reloaded, or repaired: a wrong value anywhere, even where a
//! stronger layer overrides it, stops the start, and all errors are told at once.

mod dirs;
mod duration;
mod error;
mod file;
mod nearest;
mod reader;
mod sources;
mod value;

pub use dirs::{DefaultDirs, current_uid, default_dirs};
pub use duration::{ParseDurationError, format_duration, parse_duration};
pub use error::{ConfigError, ConfigErrors};
pub use reader::{Entry, Origin, Reader};
pub use sources::{ConfigFile, FlagValue, MAX_FILE_BYTES, Sources, process_environment};
pub use value::{FileValue, SettingValue, list_text};

pub use crate::telemetry::LogFormat;
