//! A stream between a worker and a coordinator: in order, late, and cut at any moment; each side learns of that in its own time.

use std::collections::VecDeque;

use hoist_domain::{DeviceId, DeviceMemory, Epoch, Generation};
use hoist_planner::residency::Report;
use hoist_worker::policy::Desired;

use super::worker::Told;

/// From the worker.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Register { taken: Option<Generation> },
    Observed { sequence: u64, memory: DeviceMemory, report: Report },
}

/// From the coordinator.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Registered { epoch: Epoch },
    Desired(Desired),
    Ack(u64),
    Refused,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Link {
    pub device: DeviceId,
    /// The worker's process.
    pub process: u64,
    /// Unique in the life of a coordinator.
    pub session: u64,
    pub up: VecDeque<Up>,
    pub down: VecDeque<Down>,
    /// Nothing goes through any more.
    pub is_cut: bool,
    /// What each side knows of its end.
    pub worker_gone: bool,
    pub coordinator_gone: bool,
    /// The worker's side.
    pub epoch: Option<Epoch>,
    pub told: Told,
    /// The coordinator's side: what it has heard, and what it has told.
    pub is_registered: bool,
    pub sequence: u64,
    pub generation: Option<u64>,
}

impl Link {
    #[must_use]
    pub(super) fn new(device: DeviceId, process: u64, session: u64, taken: Option<Generation>) -> Self {
        Self {
            device,
            process,
            session,
            up: [Up::Register { taken }].into(),
            down: VecDeque::new(),
            is_cut: false,
            worker_gone: false,
            coordinator_gone: false,
            epoch: None,
            told: Told::default(),
            is_registered: false,
            sequence: 0,
            generation: None,
        }
    }

    /// Nobody has anything to do with it any more.
    #[must_use]
    pub(super) const fn is_over(&self) -> bool {
        self.worker_gone && self.coordinator_gone
    }
}
