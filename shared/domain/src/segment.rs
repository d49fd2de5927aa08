//! What is in RAM, and who relies on it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Bytes, DeviceId, Digest, LeaseState, ModelId, ModelType, Principal, Priority, ReplicaId, SegmentState,
    WallTime,
};

/// A segment: `segments/{digest}`. Until its content has been read once it is named by where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentName {
    Content(Digest),
    Source {
        model: ModelId,
        /// Its place among the model's components.
        component: u32,
    },
}

impl SegmentName {
    /// Sorts before all others, as long as contents come first.
    pub const LEAST: Self = Self::Content(Digest([0; 32]));

    #[must_use]
    pub const fn digest(self) -> Option<Digest> {
        match self {
            Self::Content(digest) => Some(digest),
            Self::Source { .. } => None,
        }
    }

    /// Reads the last part of a resource's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = match text.split_once('.') {
            None => Self::Content(text.parse().ok()?),
            Some((model, component)) => Self::Source {
                model: ModelId(Uuid::try_parse(model).ok()?),
                component: component.parse().ok()?,
            },
        };
        // A name has one spelling.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(digest) => digest.fmt(f),
            Self::Source { model, component } => write!(f, "{model}.{component}"),
        }
    }
}

/// A component in RAM, or on its way there or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub name: SegmentName,
    pub state: SegmentState,
    /// What it takes of the memory, in whole pages; while it fills, what is reserved for it.
    pub bytes: Bytes,
    /// Files as they are, and no tensors.
    pub is_raw: bool,
    /// Unset for one that was found at a start and that no model has.
    pub component_type: Option<ModelType>,
    /// The highest that it was cached with.
    pub priority: Priority,
    /// Models that it was cached for; not those that only share it.
    pub wanted_by: BTreeSet<ModelId>,
    pub sealed_at: Option<WallTime>,
    /// Evicting: somebody still has it open.
    pub is_zombie: bool,
    /// Evicting: why.
    pub eviction: Option<Eviction>,
}

/// Why a segment is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub reason: EvictionReason,
    /// The model that gets the room.
    pub beneficiary: Option<ModelId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionReason {
    Asked,
    Room,
    /// The machine has less memory to spare than before.
    Pressure,
    Idle,
}

/// A lease: `leases/{uuid}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub Uuid);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// What a lease is on, if it is not on segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedOn {
    pub device: DeviceId,
    /// Of the components, in their order.
    pub replicas: Vec<ReplicaId>,
}

/// Somebody's use of segments, or of replicas: as long as it is held, they stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    #[serde(skip, default = "awaited")]
    pub state: LeaseState,
    pub model: ModelId,
    /// The components, in the model's order, and their content.
    pub components: Vec<(Box<str>, Digest)>,
    /// Unset: on the segments of that content.
    #[serde(default)]
    pub on: Option<LeasedOn>,
    /// What it holds takes together.
    pub bytes: Bytes,
    /// In the holder's own words.
    pub holder: String,
    pub principal: Principal,
    pub process: Option<u32>,
    pub granted_at: WallTime,
}

/// As they come out of a store: nobody has come back for them yet.
const fn awaited() -> LeaseState {
    LeaseState::Awaited
}

impl Lease {
    pub const MAX_HOLDER_BYTES: usize = 256;

    /// What it holds in RAM: each once, however many components it is; none, if it is on a device.
    #[must_use]
    pub fn segments(&self) -> BTreeSet<Digest> {
        self.components.iter().filter(|_| self.on.is_none()).map(|(_, digest)| *digest).collect()
    }

    /// What it holds on a device: each once.
    #[must_use]
    pub fn replicas(&self) -> BTreeSet<ReplicaId> {
        self.on.iter().flat_map(|on| on.replicas.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_has_one_spelling() {
        let model = ModelId(Uuid::from_u128(7));
        for name in [SegmentName::Content(Digest([0xab; 32])), SegmentName::Source { model, component: 12 }] {
            assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        }
        let digest = "ab".repeat(32);
        for wrong in [
            "",
            ".",
            "ab",
            &digest.to_uppercase(),
            &format!("{digest}.1"),
            &format!("{model}.01"),
            &format!("{model}.+1"),
            &format!("{{{model}}}.1"),
        ] {
            assert_eq!(SegmentName::parse(wrong), None, "{wrong}");
        }
    }
}
