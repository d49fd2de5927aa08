//! What a device is to its driver: small, synchronous, called from one thread for as long as it lives.
//!
//! A device loads and unloads what it is told to and accounts for every byte. It knows nothing of generations, sessions or
//! other replicas' purposes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::{Bytes, DeviceFacts, DeviceMemory, Digest, Dtype, ReplicaFailure, ReplicaId};

/// A component that is to be loaded. Its segment is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub id: ReplicaId,
    pub digest: Digest,
    /// A safetensors file, or a folder of files as they are.
    pub path: PathBuf,
    /// What tensors of floating point are converted to.
    pub dtype: Option<Dtype>,
}

/// How far a load is. The answer says whether to go on.
pub trait Pace {
    /// Called between pieces of work of some milliseconds, never less often than every 64 MiB.
    fn is_wanted(&mut self, done: Bytes, total: Bytes) -> bool;
}

/// A component that is on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What it takes of the device for itself.
    pub own: Bytes,
    /// What of it is the segment, mapped.
    pub mapped: Bytes,
    pub tensors: u32,
}

/// Why a load came to nothing. Nothing of it is left on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Its pace said so.
    NotWanted,
    /// The device goes on as before.
    Failed(ReplicaFailure),
    /// The device cannot go on: its worker is to end.
    Poisoned(String),
}

/// A component that is not on the device any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unloaded {
    /// What it took of the device, as it was told when it was loaded.
    pub expected: Bytes,
    /// What the device has more since.
    pub returned: Bytes,
}

/// Bytes of a tensor, as they are on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    /// Of the whole tensor.
    pub size: Bytes,
    pub data: Vec<u8>,
}

/// How another process has shared memory in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareKind {
    /// By NVIDIA's driver.
    Cuda,
    /// It maps a file.
    Memory,
}

/// Memory of a replica that can be handed to another process.
#[derive(Debug)]
pub struct Share {
    pub memory: OwnedFd,
    pub kind: ShareKind,
    /// The card's own name for good. Empty: it is no card's.
    pub card: String,
    pub size: Bytes,
    pub tensors: Vec<SharedTensor>,
}

/// Where a tensor is in shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedTensor {
    pub name: Box<str>,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    pub offset: u64,
    pub size: u64,
}

/// The memory of one device, and what is in it.
pub trait Device {
    /// Does not change.
    fn facts(&self) -> DeviceFacts;

    fn memory(&self) -> DeviceMemory;

    /// Looks whether it can go on; called after each unload, and each [`LOOK_EVERY`] when there is nothing else to do. Why it is to
    /// get nothing new, for people; empty: nothing is wrong.
    ///
    /// # Errors
    /// It cannot go on, and why: its worker is to end.
    fn check(&mut self) -> Result<String, String>;

    /// Loads all of it, or nothing. An id is loaded once at a time.
    ///
    /// # Errors
    /// See [`Stopped`].
    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped>;

    /// Gives its bytes back before it returns. None: it is not there.
    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded>;

    /// Reads bytes of a tensor back. None: there is no such replica or tensor, or nothing at this place.
    fn read(&self, id: ReplicaId, tensor: &str, offset: u64, length: usize) -> Option<Piece>;

    /// Names of what is in a replica; none of one that is not there.
    fn tensors(&self, id: ReplicaId) -> Vec<String>;

    /// A replica's memory, for another process. What is handed out stays that process's when the replica is unloaded.
    ///
    /// # Errors
    /// Why it cannot be, for people.
    fn share(&self, id: ReplicaId) -> Result<Share, String>;
}

/// How a thread that drives a device makes it. It is made there and never leaves.
pub type Open = Box<dyn FnOnce() -> Result<Box<dyn Device>, String> + Send>;

/// Between two looks at a device that has nothing to do: what fails for good is known within a second.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The least time between two words about progress.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);
