//! How a worker is started: by the coordinator, by hand, by systemd or in a container, in the same words.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hoist_domain::DeviceSpec;
use uuid::Uuid;

/// What every worker is told.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// The device to drive, and how much of it to use at most: cpu:0=8GiB, cuda:1
    #[arg(long, value_name = "DEVICE[=SIZE]")]
    pub device: DeviceSpec,

    /// The coordinator's socket
    #[arg(long, value_name = "unix:///PATH", value_parser = socket)]
    pub coordinator: PathBuf,

    /// Who this worker is over its restarts; a new one without it
    #[arg(long, value_name = "UUID")]
    pub worker_id: Option<Uuid>,

    /// What to log: a level, or targets with levels
    #[arg(long, value_name = "FILTER", env = "HOIST_LOG", default_value = "info")]
    pub log: String,

    /// End when no coordinator was there for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub alone_limit: Duration,
}

fn socket(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        _ => Err("write unix:///path/to/hoist.sock: a worker shares the coordinator's memory".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "write a whole number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_on_this_machine() {
        assert_eq!(socket("unix:///run/hoist.sock"), Ok("/run/hoist.sock".into()));
        for wrong in ["http://127.0.0.1:1", "unix://hoist.sock", "/run/hoist.sock"] {
            assert!(socket(wrong).unwrap_err().contains("unix:///"), "{wrong}");
        }
    }
}
