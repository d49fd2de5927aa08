//! What a device is to its driver: small, synchronous, called from one thread for as long as it lives.
//!
//! A device loads and unloads what it is told to and accounts for every byte. It knows nothing of generations, sessions or
//! other replicas' purposes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::{Bytes, DeviceFacts, DeviceMemory, Digest, Dtype, ReplicaFailure, ReplicaId, Sum};

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

/// A component whose segment is still being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    pub id: ReplicaId,
    /// Of the segment, until it is complete: a safetensors file, whose header is there.
    pub path: PathBuf,
    /// From the beginning of the file so much is there, and stays as it is.
    pub there: Bytes,
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

/// What a look at a device has found. The words are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    Well,
    /// Why it is to get nothing new. What it has stays.
    Problem(String),
    /// This process has so much more of it than its replicas take that another in its place is worth it.
    Retains(String),
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

/// By tensor.
pub type Sums = Vec<(Box<str>, u64)>;

/// The sums of these tensors, by pieces that are read back. `tensors` come with their lengths.
///
/// # Errors
/// That it is not wanted any more, or cannot be read.
pub fn sums_by_reading(
    tensors: impl Iterator<Item = (Box<str>, u64)>,
    mut read: impl FnMut(&str, u64, usize) -> Option<Vec<u8>>,
    pace: &mut dyn Pace,
) -> Result<Sums, String> {
    let (mut sums, mut done) = (Vec::new(), 0);
    for (name, length) in tensors {
        let (mut sum, mut at) = (Sum::default(), 0);
        while at < length {
            if !pace.is_wanted(Bytes(done), Bytes(done)) {
                return Err("it is not wanted there any more".to_owned());
            }
            let piece = read(&name, at, SUMMED_AT_ONCE).filter(|piece| !piece.is_empty());
            let piece = piece.ok_or_else(|| format!("`{name}` cannot be read back"))?;
            sum.add(&piece);
            (at, done) = (at + piece.len() as u64, done + piece.len() as u64);
        }
        sums.push((name, sum.finish()));
    }
    Ok(sums)
}

/// Bytes that are read back at once.
const SUMMED_AT_ONCE: usize = 8 << 20;

/// The memory of one device, and what is in it.
pub trait Device {
    /// Does not change.
    fn facts(&self) -> DeviceFacts;

    fn memory(&self) -> DeviceMemory;

    /// Looks whether it can go on; called after each unload, and each [`LOOK_EVERY`] when there is nothing else to do.
    ///
    /// # Errors
    /// It cannot go on, and why: its worker is to end.
    fn check(&mut self) -> Result<Checked, String>;

    /// Loads all of it, or nothing. An id is loaded once at a time.
    ///
    /// # Errors
    /// See [`Stopped`].
    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped>;

    /// Copies what there is of a component whose segment is still being filled, beyond what it has copied of it. Called again when
    /// there is more. [`Self::load`] completes it, [`Self::unload`] gives it back; until then nothing of it can be used. Whoever
    /// completes it makes sure that the segment is the very file that this was copied from. What it takes of the device for itself;
    /// none: it has nothing of it, and is not to be asked again.
    ///
    /// # Errors
    /// Poisoned; NotWanted: what was copied before stays, and nothing more; anything else: nothing of it is there any more.
    fn ahead(&mut self, _: &Ahead, _: &mut dyn Pace) -> Result<Option<Bytes>, Stopped> {
        Ok(None)
    }

    /// Gives its bytes back before it returns. None: it is not there.
    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded>;

    /// A piece of work that nobody waits for, of a tenth of a second at most; called when there is nothing else to do. Whether there
    /// is more.
    fn rest(&mut self) -> bool {
        false
    }

    /// Reads bytes of a tensor back. None: there is no such replica or tensor, or nothing at this place.
    fn read(&self, id: ReplicaId, tensor: &str, offset: u64, length: usize) -> Option<Piece>;

    /// The [`Sum`] of each tensor of a replica, by the bytes as they are on the device.
    ///
    /// # Errors
    /// Why it cannot be, for people.
    ///
    /// [`Sum`]: hoist_domain::Sum
    fn sums(&self, id: ReplicaId, pace: &mut dyn Pace) -> Result<Sums, String>;

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
