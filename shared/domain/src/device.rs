//! Devices, the workers that drive them, and what is on them: names and facts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Bytes, DeviceState, Digest, Dtype, Epoch, Error, ModelId, Reason, ReplicaState, WallTime, WorkerState,
    excerpt,
};

/// What kind of memory a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// The machine's own: what is on it is in RAM, converted or as its segment is.
    Cpu,
    /// An NVIDIA card.
    Cuda,
}

impl DeviceKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// A device of this machine: `cpu:0`, `cuda:1`. Read as well: `gpu:0`, `GPU_0`, which are `cuda:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId {
    pub kind: DeviceKind,
    pub number: u16,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.number)
    }
}

impl FromStr for DeviceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = || {
            let (kind, number) = text.split_once([':', '_'])?;
            let kind = match kind {
                "cpu" => DeviceKind::Cpu,
                "cuda" | "gpu" | "GPU" => DeviceKind::Cuda,
                _ => return None,
            };
            // Digits alone: `+1` and `01` are other spellings of a number, and of no device.
            let is_plain = number == "0" || !number.starts_with(['0', '+']);
            Some(Self { kind, number: number.parse().ok().filter(|_| is_plain)? })
        };
        parsed().ok_or_else(|| {
            let message = format!("`{}` is no device: write cpu:0 or cuda:0", excerpt(text));
            Error::new(Reason::NameInvalid, message)
        })
    }
}

impl TryFrom<String> for DeviceId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.to_string()
    }
}

/// A device, and how much of it may be taken: `cpu:0=8GiB`; without a size as much as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    pub id: DeviceId,
    pub capacity: Option<Bytes>,
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, capacity) = match text.split_once('=') {
            Some((id, size)) => (id, Some(size.parse::<Bytes>().map_err(|error| error.to_string())?)),
            None => (text, None),
        };
        if capacity == Some(Bytes(0)) {
            return Err(format!("`{text}`: a device of no size holds nothing"));
        }
        Ok(Self { id: id.parse().map_err(|error: Error| error.to_string())?, capacity })
    }
}

/// How a worker ends that wants another process in its place, which is no failure.
pub const WORKER_RENEWS: u8 = 75;

/// A place that workers run in, over their restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

/// One process of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

/// One attempt to have a component on a device. What failed is tried again as another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub Uuid);

macro_rules! hyphenated {
    ($($id:ident)*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    )*};
}
hyphenated!(WorkerId Incarnation ReplicaId);

/// The order of what is desired of one device. Within an epoch numbers begin with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    pub epoch: Epoch,
    pub number: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// What a device is. Does not change while its worker lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    pub id: DeviceId,
    /// What it calls itself, for people.
    pub model: String,
    pub capacity: Bytes,
    /// A replica that is not converted is the segment itself, mapped.
    pub maps_segments: bool,
    /// Its memory is given in multiples of this. 0: to the byte.
    #[serde(default)]
    pub granule: Bytes,
    /// Where a tensor begins is a multiple of this. 0: anywhere.
    #[serde(default)]
    pub alignment: Bytes,
    /// Of the way from the machine's memory to it, bytes a second at most. 0: not known, or there is none.
    #[serde(default)]
    pub bus: Bytes,
    /// Of the machine's memory, the node that is nearest. None: there is but one, or it is not known.
    #[serde(default)]
    pub node: Option<u32>,
    /// What replicas can be converted to.
    pub dtypes: Vec<Dtype>,
    /// With their versions, for people.
    pub libraries: Vec<String>,
}

impl DeviceFacts {
    /// What so many tensors of so many bytes together take of it, at most.
    #[must_use]
    pub fn takes(&self, bytes: Bytes, tensors: u32) -> Bytes {
        let between = self.alignment.0.saturating_sub(1).saturating_mul(tensors.into());
        let all = bytes.0.saturating_add(between);
        Bytes(all.checked_next_multiple_of(self.granule.0.max(1)).unwrap_or(u64::MAX))
    }
}

/// A device's memory, as its worker sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMemory {
    /// What replicas take of it.
    pub used: Bytes,
    /// What could be put on it now.
    pub free: Bytes,
    /// What of replicas is mapped segments.
    pub mapped: Bytes,
    /// What is neither free nor replicas: other processes, and what the worker itself needs.
    #[serde(default)]
    pub others: Bytes,
    /// Of others: what other processes still have of replicas that are gone.
    #[serde(default)]
    pub lent: Bytes,
    /// How many processes that are.
    #[serde(default)]
    pub lent_to: u32,
}

/// Why a component did not get onto its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReplicaFailure {
    /// One whose driver refuses what it has is full all the same.
    #[error("the device has {free} free, and {needed} are needed")]
    NoMemory { needed: Bytes, free: Bytes },
    /// It cannot be read, or is not what was desired.
    #[error("the segment cannot be read: {0}")]
    Segment(String),
    /// Whatever is free.
    #[error("the device cannot hold it: {0}")]
    Unsupported(String),
    /// If it cannot go on, its worker ends.
    #[error("the device failed: {0}")]
    Device(String),
}

/// A component on a device, as its worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedReplica {
    pub id: ReplicaId,
    pub digest: Digest,
    pub dtype: Option<Dtype>,
    pub state: ReplicaState,
    /// What it takes of the device for itself.
    pub own: Bytes,
    /// What of it is the segment, mapped.
    pub mapped: Bytes,
    pub tensors: u32,
    /// Once it is ACTIVE: since it was LOADING.
    pub load_time: Option<std::time::Duration>,
    /// Once it is FAILED.
    pub failure: Option<ReplicaFailure>,
}

/// The process that drives a device, as the coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub state: WorkerState,
    /// Unset until one has registered.
    pub id: Option<WorkerId>,
    pub incarnation: Option<Incarnation>,
    /// Which of its streams speaks for it: the last that registered. 0: none has.
    pub session: u64,
    /// As the kernel says.
    pub process: Option<u32>,
    /// Its release, for people.
    pub release: String,
    /// This coordinator has started it, and starts it again.
    pub is_supervised: bool,
    /// Of one that is supervised: how often it was started again.
    pub restarts: u32,
    /// Why it is not what it should be, with its last words where there are any. Empty: it is.
    pub problem: String,
    /// Of this state.
    pub since: WallTime,
}

/// A device of this machine, and who drives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub id: DeviceId,
    pub state: DeviceState,
    /// Unset until a worker has registered for it.
    pub facts: Option<DeviceFacts>,
    /// As its worker has said last.
    pub memory: DeviceMemory,
    /// Why it takes nothing new, as its worker has said last: it keeps what it has. Empty: nothing is wrong.
    pub problem: String,
    pub worker: Worker,
    /// It takes nothing new, and why, in the words of who said so.
    pub cordoned: Option<Box<str>>,
}

/// How long what shall be on a device and what is there may differ until that counts as disagreement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncPace {
    High,
    #[default]
    Standard,
    Background,
    Idle,
}

impl SyncPace {
    #[must_use]
    pub const fn allows(self) -> Duration {
        match self {
            Self::High => Duration::from_millis(500),
            Self::Standard => Duration::from_secs(2),
            Self::Background => Duration::from_secs(10),
            Self::Idle => Duration::from_secs(60),
        }
    }
}

/// What people say of devices. Durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DevicesPolicy {
    /// Those that take nothing new, and why.
    pub cordoned: BTreeMap<DeviceId, Box<str>>,
    /// Of whatever has no pace of its own.
    pub pace: SyncPace,
    pub device_paces: BTreeMap<DeviceId, SyncPace>,
    pub model_paces: BTreeMap<ModelId, SyncPace>,
}

impl DevicesPolicy {
    /// Of a device.
    #[must_use]
    pub fn pace_of(&self, device: DeviceId) -> SyncPace {
        self.device_paces.get(&device).copied().unwrap_or(self.pace)
    }

    /// Of a model on a device: its own, or the device's.
    #[must_use]
    pub fn pace_of_model(&self, model: ModelId, device: DeviceId) -> SyncPace {
        self.model_paces.get(&model).copied().unwrap_or_else(|| self.pace_of(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_in_one_way_and_read_in_those_of_old() {
        let cuda = DeviceId { kind: DeviceKind::Cuda, number: 0 };
        for text in ["cuda:0", "gpu:0", "GPU_0"] {
            assert_eq!(text.parse(), Ok(cuda), "{text}");
        }
        assert_eq!(cuda.to_string(), "cuda:0");
        assert_eq!("cpu:12".parse(), Ok(DeviceId { kind: DeviceKind::Cpu, number: 12 }));
        for wrong in
            ["", "cpu", "cpu:", "cpu:-1", "cpu:+1", "cpu:01", "cpu:65536", "tpu:0", "cpu:0:0", "../cpu:0"]
        {
            let error = wrong.parse::<DeviceId>().unwrap_err();
            assert_eq!(error.reason(), Reason::NameInvalid, "{wrong}");
        }
    }

    #[test]
    fn a_device_is_named_with_or_without_its_size() {
        let spec = |text: &str| text.parse::<DeviceSpec>();
        let cpu = "cpu:0".parse().unwrap();
        assert_eq!(spec("cpu:0=8GiB"), Ok(DeviceSpec { id: cpu, capacity: Some(Bytes::gib(8)) }));
        assert_eq!(spec("cpu:0"), Ok(DeviceSpec { id: cpu, capacity: None }));
        for wrong in ["", "cpu", "cpu:0=", "cpu:0=0", "cpu:0=lots", "=8GiB"] {
            assert!(spec(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn generations_follow_each_other_by_epoch_first() {
        let of = |epoch, number| Generation { epoch: Epoch(epoch), number };
        assert!(of(1, 9) < of(2, 1) && of(2, 1) < of(2, 2));
        assert_eq!(of(7, 3).to_string(), "7.3");
    }
}
