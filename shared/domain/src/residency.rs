//! Models on devices: what somebody wants there, what is there, and what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Bytes, DeviceId, Digest, Dtype, ModelId, Priority, ReplicaFailure, ReplicaId, ReplicaState, Verdict,
    WallTime,
};

/// A component on a device, or on its way there or away: one attempt at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub id: ReplicaId,
    pub device: DeviceId,
    pub digest: Digest,
    /// What its tensors of floating point are converted to; none: they are as they are.
    pub dtype: Option<Dtype>,
    pub state: ReplicaState,
    /// For whom it is there. None: it is on its way away.
    pub models: BTreeSet<ModelId>,
    /// The highest that it was asked for with: in this order replicas are loaded.
    pub priority: Priority,
    /// What it was given room for.
    pub planned: Bytes,
    /// What it takes of the device for itself, as its worker says.
    pub own: Bytes,
    /// What of it is its segment, mapped.
    pub mapped: Bytes,
    pub tensors: u32,
    /// Once it is ACTIVE: since it was LOADING.
    pub load_time: Option<Duration>,
    /// Once it is FAILED.
    pub failure: Option<ReplicaFailure>,
    /// Of this attempt.
    pub since: WallTime,
}

impl Replica {
    /// What of the device it counts for: what it takes, or what was promised as long as that is more.
    #[must_use]
    pub fn charge(&self) -> Bytes {
        let taken = Bytes(self.own.0.saturating_add(self.mapped.0));
        match self.state {
            ReplicaState::Active => taken,
            // It holds nothing.
            ReplicaState::Failed => Bytes(0),
            _ => taken.max(self.planned),
        }
    }
}

/// That a model, or a part of it, shall be on a device. Durable: what was loaded comes back after whatever has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub model: ModelId,
    pub device: DeviceId,
    /// By the names of the components, each once.
    pub parts: Vec<IntentPart>,
    pub priority: Priority,
    /// When it was loaded, or loaded again.
    pub recorded_at: WallTime,
}

/// A component that shall be on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IntentPart {
    pub component: Box<str>,
    pub digest: Digest,
    #[serde(default)]
    pub dtype: Option<Dtype>,
    /// What it took of the device: kept free for it as long as it is not there.
    #[serde(default)]
    pub bytes: Bytes,
}

/// A model, or some of its components.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelPart {
    pub model: ModelId,
    /// Names, sorted; empty: all.
    pub components: Vec<Box<str>>,
}

/// Where something is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    On(DeviceId),
    /// Where it is best: where most of it is already, and a card before the machine's memory.
    Any,
    /// Where least is.
    Spread,
    /// Where it just fits.
    Pack,
}

/// Models to bring to a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LoadSpec {
    /// In the order in which they were named, each model once, not empty. All of it, or nothing.
    pub parts: Vec<ModelPart>,
    pub placement: Placement,
    #[serde(default)]
    pub dtype: Option<Dtype>,
    pub priority: Priority,
    /// Every byte is looked at before.
    #[serde(default)]
    pub validate: bool,
    /// Verdicts that are no obstacle, sorted.
    #[serde(default)]
    pub allow: Vec<Verdict>,
    /// What matters no more than this makes room for it.
    #[serde(default)]
    pub force: bool,
    /// Of a load by which the server brings back what was lost: exactly this, as it was loaded, and only as far as that shall
    /// still be there when it has come. Empty: somebody else's load.
    #[serde(default)]
    pub restores: Vec<IntentPart>,
}

impl LoadSpec {
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);
    /// Models in one request.
    pub const MAX_MODELS: usize = 1_000;
}

/// Models to take off devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnloadSpec {
    /// In the order in which they were named, each model once, not empty. All of it, or nothing.
    pub parts: Vec<ModelPart>,
    /// Unset: from wherever it is.
    #[serde(default)]
    pub device: Option<DeviceId>,
    /// Also what somebody has leased.
    #[serde(default)]
    pub force: bool,
}

impl UnloadSpec {
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
}

/// What was brought to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    pub device: DeviceId,
    pub components: Vec<LoadedComponent>,
    /// From the models' files.
    pub read: Bytes,
    pub took: Duration,
    /// Models that made room on the device.
    pub unloaded: Vec<ModelId>,
    /// Components that cannot be loaded, and why.
    pub left_out: Vec<String>,
    /// Why it is on this device.
    pub reasons: Vec<String>,
}

/// A component that is on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedComponent {
    pub model: ModelId,
    pub name: Box<str>,
    pub replica: ReplicaId,
    pub digest: Digest,
    #[serde(default)]
    pub dtype: Option<Dtype>,
    pub own: Bytes,
    pub mapped: Bytes,
    pub tensors: u32,
    /// It was there already.
    pub was_there: bool,
    pub load_time: Option<Duration>,
}

/// What was taken off devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadReport {
    pub replicas: Vec<UnloadedReplica>,
    pub took: Duration,
}

/// What became of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadedReplica {
    pub replica: ReplicaId,
    pub device: DeviceId,
    pub digest: Digest,
    /// What it took of the device.
    pub expected: Bytes,
    /// What the device has more since it is gone.
    pub returned: Bytes,
    /// Why it stays; unset: it is gone.
    pub kept: Option<String>,
}

impl UnloadedReplica {
    /// What was not given back.
    #[must_use]
    pub const fn retained(&self) -> Bytes {
        Bytes(if self.kept.is_some() { 0 } else { self.expected.0.saturating_sub(self.returned.0) })
    }
}
