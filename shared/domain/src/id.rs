//! Names of things. An id is validated once, where it enters, and never joined to a path.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DeviceId, Error, LeaseId, ModelId, Reason, ReplicaId, SegmentName};

/// An operation: `operations/{uuid}`. Version 7, so that ids sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub Uuid);

impl OperationId {
    /// This id or, if it does not sort after `other`, one with the same random part that does.
    ///
    /// An id begins with the wall-clock time at which it was made, and that clock may have been set back since
    /// `other` was. Random parts never repeat, so neither does the id, also when `other` is forgotten later.
    #[must_use]
    pub fn sorted_after(self, other: Self) -> Self {
        // The version, the variant and what is random lie below the 48 bits of the time in milliseconds.
        const BELOW_TIME: u32 = 80;
        const LATEST: u128 = (1 << 48) - 1;
        if self > other {
            return self;
        }
        let later = (other.0.as_u128() >> BELOW_TIME) + 1;
        let rest = self.0.as_u128() & ((1 << BELOW_TIME) - 1);
        Self(Uuid::from_u128((later.min(LATEST) << BELOW_TIME) | rest))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The id a client gives to one request, so that a repeated call is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// BLAKE3 of a request's content without its wait and deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(pub [u8; 32]);

/// Who is calling, as the listener established it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// A process on the Unix socket; the kernel vouches for its user id.
    Uid(u32),
    /// Somebody on this machine, over loopback TCP. Nothing vouches for who it is.
    Loopback,
    /// The server itself, for what it does unasked.
    Hoist,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Loopback => f.write_str("loopback"),
            Self::Hoist => f.write_str("hoist"),
        }
    }
}

/// What a principal may do. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Starts, stops and changes work.
    Operator,
    /// Stops the coordinator.
    Admin,
}

impl Principal {
    /// Whoever may open the 0600 socket is its owner or root: an admin. A TCP peer could be any local user.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Uid(_) | Self::Hoist => Role::Admin,
            Self::Loopback => Role::Operator,
        }
    }
}

/// What makes two requests "the same request".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    pub principal: Principal,
    /// Full method name: `/hoist.api.v1.AdminService/ProbeMachine`.
    pub method: Arc<str>,
    pub id: RequestId,
}

impl RequestKey {
    /// Sorts before every other key: where a range over keys begins.
    #[must_use]
    pub fn least() -> Self {
        Self { principal: Principal::Uid(0), method: "".into(), id: RequestId(Uuid::nil()) }
    }
}

/// What a condition is about; there is at most one condition of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConditionKind {
    /// The store cannot be written: reads go on, changes are refused.
    StoreReadonly,
    /// The store was damaged and has been rebuilt; the details list what is lost.
    StoreRebuilt,
    /// Tasks or request handlers have panicked since the start.
    TaskPanicked,
    /// Roots of the catalog cannot be read; the models below them are kept as they were last seen.
    RootUnavailable,
    /// Changes below the roots are found by looking, not by being told: the kernel's watches ran out.
    RootsPolled,
    /// Some paths below the roots cannot be read, or are passed over.
    PathsUnreadable,
    /// There is no place for segments: nothing can be cached.
    CacheUnavailable,
    /// The machine has less memory than the cache uses, and what is used cannot be evicted.
    MemoryTight,
}

impl ConditionKind {
    pub const ALL: [Self; 8] = [
        Self::StoreReadonly,
        Self::StoreRebuilt,
        Self::TaskPanicked,
        Self::RootUnavailable,
        Self::RootsPolled,
        Self::PathsUnreadable,
        Self::CacheUnavailable,
        Self::MemoryTight,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreReadonly => "STORE_READONLY",
            Self::StoreRebuilt => "STORE_REBUILT",
            Self::TaskPanicked => "TASK_PANICKED",
            Self::RootUnavailable => "ROOT_UNAVAILABLE",
            Self::RootsPolled => "ROOTS_POLLED",
            Self::PathsUnreadable => "PATHS_UNREADABLE",
            Self::CacheUnavailable => "CACHE_UNAVAILABLE",
            Self::MemoryTight => "MEMORY_TIGHT",
        }
    }
}

/// The kinds of resource in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    Machine,
    Operation,
    Condition,
    Model,
    Segment,
    Lease,
    Device,
    Replica,
}

/// The name of anything in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceName {
    Machine,
    Operation(OperationId),
    Condition(ConditionKind),
    Model(ModelId),
    Segment(SegmentName),
    Lease(LeaseId),
    Device(DeviceId),
    Replica(ReplicaId),
}

impl ResourceName {
    #[must_use]
    pub const fn kind(&self) -> ResourceKind {
        match self {
            Self::Machine => ResourceKind::Machine,
            Self::Operation(_) => ResourceKind::Operation,
            Self::Condition(_) => ResourceKind::Condition,
            Self::Model(_) => ResourceKind::Model,
            Self::Segment(_) => ResourceKind::Segment,
            Self::Lease(_) => ResourceKind::Lease,
            Self::Device(_) => ResourceKind::Device,
            Self::Replica(_) => ResourceKind::Replica,
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("machine"),
            Self::Operation(id) => write!(f, "operations/{id}"),
            Self::Condition(kind) => write!(f, "conditions/{}", kind.as_str()),
            Self::Model(id) => write!(f, "models/{id}"),
            Self::Segment(name) => write!(f, "segments/{name}"),
            Self::Lease(id) => write!(f, "leases/{id}"),
            Self::Device(id) => write!(f, "devices/{id}"),
            Self::Replica(id) => write!(f, "replicas/{id}"),
        }
    }
}

/// The longest resource name anybody may send; longer text is refused before it is looked at.
const MAX_NAME_BYTES: usize = 256;

impl FromStr for ResourceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(
                Reason::NameInvalid,
                format!(
                    "`{}` is not a resource name: use machine, operations/{{uuid}}, models/{{uuid}}, leases/{{uuid}}, replicas/{{uuid}} (in lower case), segments/{{digest}}, segments/{{model}}.{{number}}, devices/cpu:0 or conditions/{{KIND}}",
                    excerpt(text)
                ),
            )
        };
        if text.len() > MAX_NAME_BYTES {
            return Err(invalid());
        }
        match text.split_once('/') {
            None if text == "machine" => Ok(Self::Machine),
            Some(("operations", id)) => {
                parse_uuid(id).map(|id| Self::Operation(OperationId(id))).ok_or_else(invalid)
            }
            Some(("models", id)) => parse_uuid(id).map(|id| Self::Model(ModelId(id))).ok_or_else(invalid),
            Some(("devices", id)) => id.parse().map(Self::Device).map_err(|_| invalid()),
            Some(("leases", id)) => parse_uuid(id).map(|id| Self::Lease(LeaseId(id))).ok_or_else(invalid),
            Some(("replicas", id)) => {
                parse_uuid(id).map(|id| Self::Replica(ReplicaId(id))).ok_or_else(invalid)
            }
            Some(("segments", name)) => SegmentName::parse(name).map(Self::Segment).ok_or_else(invalid),
            Some(("conditions", kind)) => ConditionKind::ALL
                .into_iter()
                .find(|known| known.as_str() == kind)
                .map(Self::Condition)
                .ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Some languages write UUIDs in upper case. It is the same id, and is echoed in lower case.
        parse_uuid(&text.to_ascii_lowercase()).map(Self).ok_or_else(|| {
            Error::new(
                Reason::RequestIdInvalid,
                format!("request id `{}` is not a UUID: send a fresh version 4 UUID, or none", excerpt(text)),
            )
            .field("request_id", "must be a UUID in its hyphenated form")
        })
    }
}

/// Only the usual hyphenated form: a name has one spelling, so equal names are equal text.
fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse(text).ok()
}

/// The start of somebody's text, fit to be shown in a message: one line, no control characters, bounded.
#[must_use]
pub fn excerpt(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let mut shown: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// `120 models`, or `1 model`: for words that take an s.
#[must_use]
pub fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let id = OperationId(Uuid::from_u128(7));
        for name in [
            ResourceName::Machine,
            ResourceName::Operation(id),
            ResourceName::Model(ModelId(Uuid::from_u128(8))),
            ResourceName::Lease(LeaseId(Uuid::from_u128(9))),
            ResourceName::Device("cuda:3".parse().unwrap()),
            ResourceName::Replica(ReplicaId(Uuid::from_u128(10))),
            ResourceName::Segment(SegmentName::Content(crate::Digest([9; 32]))),
            ResourceName::Segment(SegmentName::Source { model: ModelId(Uuid::from_u128(8)), component: 3 }),
            ResourceName::Condition(ConditionKind::StoreReadonly),
        ] {
            assert_eq!(name.to_string().parse::<ResourceName>().ok(), Some(name));
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        for text in [
            "",
            "machine/",
            "operations",
            "operations/",
            "operations/../machine",
            "operations/00000000000000000000000000000007",
            "operations/{00000000-0000-0000-0000-000000000007}",
            "operations/ABCDEF00-0000-0000-0000-000000000007",
            "operations/00000000-0000-0000-0000-000000000007/",
            "conditions/store_readonly",
            "models/x",
        ] {
            assert_eq!(
                text.parse::<ResourceName>().map_err(|e| e.reason()),
                Err(Reason::NameInvalid),
                "{text}"
            );
        }
    }

    #[test]
    fn a_request_id_is_the_same_in_upper_case() {
        let lower = "6b0e6f0e-7f0a-4c5e-9d53-0f5a3f1d2c4b";
        let id: RequestId = lower.to_ascii_uppercase().parse().unwrap();
        assert_eq!((Ok(id), id.to_string().as_str()), (lower.parse(), lower));
        for bad in ["", "me", "{6b0e6f0e-7f0a-4c5e-9d53-0f5a3f1d2c4b}", "6b0e6f0e7f0a4c5e9d530f5a3f1d2c4b"] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hostile_name_is_not_repeated_in_full() {
        let long = format!("operations/\u{1b}[2J{}", "x".repeat(10_000));
        let message = long.parse::<ResourceName>().map_err(|e| e.to_string()).err().unwrap_or_default();
        assert!(message.len() < 300 && !message.contains('\u{1b}'), "{message}");
    }
}
