//! Whether what shall be on devices and what is there agree: looked at four times a second, and remembered for an hour.
//!
//! A difference is no disagreement at once: things change, and the other side hears of it a moment later. It becomes one when
//! it lasts longer than the pace allows that is set for its subject. What an operation loads is its own matter until it
//! has ended: how far that is stands in its progress.

mod differences;
mod ledger;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_domain::{DeviceId, ModelId};
use hoist_planner::State;
use hoist_runtime::{Clock, Shutdown};

use crate::control::Control;
use crate::fleet::Fleet;

pub use differences::{Difference, differences, subjects};
pub use ledger::{Incident, Ledger, Standing};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What has two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Device(DeviceId),
    /// What shall be there of a model.
    Model(ModelId, DeviceId),
}

impl Subject {
    #[must_use]
    pub const fn device(self) -> DeviceId {
        match self {
            Self::Device(device) | Self::Model(_, device) => device,
        }
    }

    #[must_use]
    pub const fn model(self) -> Option<ModelId> {
        match self {
            Self::Device(_) => None,
            Self::Model(model, _) => Some(model),
        }
    }
}

/// The ledger, for whoever reads it. Cloning is a reference count.
#[derive(Clone, Debug, Default)]
pub struct SyncHealth(Arc<Mutex<Ledger>>);

impl SyncHealth {
    /// The ledger as it is.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look. Whoever tells of both sides looks first: what it tells is of now.
    pub fn look(&self, state: &State, fleet: &Fleet, clock: &Clock) {
        let found = differences(state, |device| fleet.pulse(device));
        let policy = state.devices().policy();
        let pace = |subject: Subject| match subject {
            Subject::Device(device) => policy.pace_of(device),
            Subject::Model(model, device) => policy.pace_of_model(model, device),
        };
        let allows = |subject| pace(subject).allows();
        self.ledger().look(&subjects(state), &found, allows, clock.monotonic(), clock.wall());
    }
}

/// Looks until the server drains.
///
/// # Errors
/// Never.
pub async fn watch_over(
    health: SyncHealth,
    control: Control,
    fleet: Fleet,
    clock: Clock,
    draining: Shutdown,
) -> Result<(), Infallible> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = draining.triggered() => return Ok(()),
            _ = looks.tick() => {}
        }
        health.look(&control.view().state, &fleet, &clock);
    }
}
