//! A scripted device, for tests: memory of any size, that fails, hangs or dies when it is told to.
//!
//! It holds bytes of real segments, so that the suite reads back from it what it reads back from every device.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use hoist_domain::{Bytes, DeviceFacts, DeviceId, DeviceMemory, ReplicaFailure, ReplicaId};
use hoist_segment::Attached;

use crate::device::{
    Ahead, Checked, Device, Load, Loaded, Pace, Piece, Share, ShareKind, SharedTensor, Stopped, Sums,
    Unloaded, sums_by_reading,
};

/// Of what is never given back.
const MOST_RETAINED: Bytes = Bytes::mib(1);

/// Bytes between two looks at the pace.
const CHUNK: u64 = 1 << 20;

/// What happens at a load, in place of what usually does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    Fail(ReplicaFailure),
    /// Until [`Script::go_on`], or for ever.
    Hang,
    Poison,
    /// Of what it holds so many bytes do not come back when it is unloaded.
    Retain(Bytes),
}

/// What a device is told by its test. Cloning is a reference count.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    /// For the next loads, one each; none: it goes well.
    loads: VecDeque<Option<Mishap>>,
    hanging: bool,
    released: bool,
}

impl Script {
    /// The next loads go so, one after the other.
    pub fn next_loads(&self, mishaps: impl IntoIterator<Item = Option<Mishap>>) {
        self.lines(|lines| lines.loads.extend(mishaps));
    }

    /// A load hangs now.
    #[must_use]
    pub fn is_hanging(&self) -> bool {
        self.lines(|lines| lines.hanging)
    }

    /// What hangs goes on.
    pub fn go_on(&self) {
        self.lines(|lines| lines.released = true);
        self.0.1.notify_all();
    }

    fn lines<T>(&self, look: impl FnOnce(&mut Lines) -> T) -> T {
        look(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next(&self) -> Option<Mishap> {
        self.lines(|lines| lines.loads.pop_front().flatten())
    }

    fn hang(&self) {
        let (lock, changed) = &*self.0;
        let mut lines = lock.lock().unwrap_or_else(PoisonError::into_inner);
        lines.hanging = true;
        while !lines.released {
            lines = changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        (lines.hanging, lines.released) = (false, false);
    }
}

/// The device.
#[derive(Debug)]
pub struct Fake {
    id: DeviceId,
    capacity: Bytes,
    script: Script,
    there: BTreeMap<ReplicaId, (Attached, Bytes, Bytes)>,
    /// Of segments that were not complete: each takes as much as is of it.
    begun: BTreeMap<ReplicaId, Bytes>,
    /// Never given back.
    retained: Bytes,
}

impl Fake {
    #[must_use]
    pub const fn new(id: DeviceId, capacity: Bytes, script: Script) -> Self {
        Self { id, capacity, script, there: BTreeMap::new(), begun: BTreeMap::new(), retained: Bytes(0) }
    }

    fn used(&self) -> u64 {
        let there = self.there.values().map(|(_, own, _)| own.0);
        there.chain(self.begun.values().map(|begun| begun.0)).sum::<u64>() + self.retained.0
    }
}

impl Device for Fake {
    fn facts(&self) -> DeviceFacts {
        DeviceFacts {
            id: self.id,
            model: "scripted".to_owned(),
            capacity: self.capacity,
            maps_segments: false,
            granule: Bytes(0),
            alignment: Bytes(0),
            bus: Bytes(0),
            node: None,
            dtypes: Vec::new(),
            libraries: Vec::new(),
        }
    }

    fn memory(&self) -> DeviceMemory {
        let used = self.used();
        DeviceMemory {
            used: Bytes(used),
            free: Bytes(self.capacity.0.saturating_sub(used)),
            mapped: Bytes(0),
            ..DeviceMemory::default()
        }
    }

    fn check(&mut self) -> Result<Checked, String> {
        let is_much = self.retained >= MOST_RETAINED;
        Ok(if is_much { Checked::Retains(format!("it keeps {}", self.retained)) } else { Checked::Well })
    }

    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped> {
        let mut retained = Bytes(0);
        self.begun.remove(&load.id);
        match self.script.next() {
            Some(Mishap::Fail(failure)) => return Err(Stopped::Failed(failure)),
            Some(Mishap::Poison) => return Err(Stopped::Poisoned("as scripted".to_owned())),
            Some(Mishap::Hang) => self.script.hang(),
            Some(Mishap::Retain(bytes)) => retained = bytes,
            None => {}
        }
        if load.dtype.is_some() {
            let why = "it converts nothing".to_owned();
            return Err(Stopped::Failed(ReplicaFailure::Unsupported(why)));
        }
        let segment = Attached::open(&load.path, load.digest)
            .map_err(|error| Stopped::Failed(ReplicaFailure::Segment(error.to_string())))?;
        let (needed, free) = (segment.length(), self.memory().free);
        if needed > free {
            return Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free }));
        }
        let mut done = 0;
        while done < needed.0 {
            if !pace.is_wanted(Bytes(done), needed) {
                return Err(Stopped::NotWanted);
            }
            done += CHUNK;
        }
        let tensors = u32::try_from(segment.tensors().count()).unwrap_or(u32::MAX);
        self.there.insert(load.id, (segment, needed, retained));
        Ok(Loaded { own: needed, mapped: Bytes(0), tensors })
    }

    fn ahead(&mut self, ahead: &Ahead, pace: &mut dyn Pace) -> Result<Option<Bytes>, Stopped> {
        if !pace.is_wanted(Bytes(0), ahead.there) {
            return Err(Stopped::NotWanted);
        }
        let free = self.memory().free.0 + self.begun.get(&ahead.id).map_or(0, |begun| begun.0);
        let taken = Bytes(ahead.there.0.min(free));
        self.begun.insert(ahead.id, taken);
        Ok(Some(taken))
    }

    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded> {
        let before = self.used();
        if let Some(begun) = self.begun.remove(&id) {
            return Some(Unloaded { expected: begun, returned: Bytes(before - self.used()) });
        }
        let (_, expected, retained) = self.there.remove(&id)?;
        self.retained.0 += retained.0;
        Some(Unloaded { expected, returned: Bytes(before.saturating_sub(self.used())) })
    }

    fn read(&self, id: ReplicaId, tensor: &str, offset: u64, length: usize) -> Option<Piece> {
        let (segment, ..) = self.there.get(&id)?;
        let (placed, bytes) = segment.find(tensor)?;
        let from = usize::try_from(offset).ok().filter(|from| *from <= bytes.len())?;
        let to = from.saturating_add(length).min(bytes.len());
        Some(Piece {
            dtype: placed.dtype,
            shape: placed.shape.to_vec(),
            size: Bytes(placed.length),
            data: bytes.get(from..to)?.to_vec(),
        })
    }

    fn share(&self, id: ReplicaId) -> Result<Share, String> {
        let (segment, ..) = self.there.get(&id).ok_or("it is not there")?;
        let file = rustix::fs::memfd_create("hoist-fake", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.map_err(|error| error.to_string())?);
        let (mut tensors, mut end) = (Vec::new(), 0_u64);
        for placed in segment.tensors() {
            let (_, bytes) = segment.find(&placed.name).ok_or("a tensor is not where it was")?;
            let offset = end.next_multiple_of(256);
            file.write_all_at(bytes, offset).map_err(|error| error.to_string())?;
            end = offset + placed.length;
            tensors.push(SharedTensor {
                name: placed.name.clone(),
                dtype: placed.dtype,
                shape: placed.shape.to_vec(),
                offset,
                size: placed.length,
            });
        }
        let size = Bytes(end.max(1));
        file.set_len(size.0).map_err(|error| error.to_string())?;
        Ok(Share { memory: file.into(), kind: ShareKind::Memory, card: String::new(), size, tensors })
    }

    fn sums(&self, id: ReplicaId, pace: &mut dyn Pace) -> Result<Sums, String> {
        let (segment, ..) = self.there.get(&id).ok_or("it is not there")?;
        let tensors = segment.tensors().map(|placed| (placed.name.clone(), placed.length));
        let read = |name: &str, at, length| self.read(id, name, at, length).map(|piece| piece.data);
        sums_by_reading(tensors, read, pace)
    }

    fn tensors(&self, id: ReplicaId) -> Vec<String> {
        let segment = self.there.get(&id).map(|(segment, ..)| segment);
        segment.iter().flat_map(|segment| segment.tensors()).map(|placed| placed.name.to_string()).collect()
    }
}
