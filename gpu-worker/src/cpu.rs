//! The machine's own memory as a device: what is on it is its segment, mapped; or a converted copy.
//!
//! Nothing is copied that is not converted. The bytes of a map are in RAM once, whoever else has them; they count here all the
//! same, so that a device has a size. What is read back comes through libtorch, as a computation would read it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hoist_domain::{Bytes, DeviceFacts, DeviceId, DeviceMemory, Dtype, ReplicaFailure, ReplicaId};
use hoist_runtime::machine;
use hoist_segment::{Attached, give_back_free_memory};
use hoist_worker::device::{
    Checked, Device, Load, Loaded, Pace, Piece, Share, Stopped, Sums, Unloaded, sums_by_reading,
};
use tch::{Kind, Tensor};

use crate::view::{Placing, Viewed, kind};

/// What replicas can be converted to.
const CONVERTS: [Dtype; 4] = [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64];

/// Of the machine's memory, left to everybody else where no size was said: a sixteenth, within these bounds.
const LEAST_RESERVE: Bytes = Bytes::mib(256);
const MOST_RESERVE: Bytes = Bytes::gib(4);

/// Elements between two looks at the pace: at eight bytes each 32 MiB.
const CHUNK: i64 = 4 << 20;

/// What is on the device under one name.
#[derive(Debug)]
enum Resident {
    Mapped(Viewed),
    Copied(HashMap<Box<str>, Placing>),
}

impl Resident {
    const fn tensors(&self) -> &HashMap<Box<str>, Placing> {
        match self {
            Self::Mapped(viewed) => viewed.tensors(),
            Self::Copied(tensors) => tensors,
        }
    }
}

/// The device.
#[derive(Debug)]
pub(crate) struct Cpu {
    id: DeviceId,
    capacity: Bytes,
    reserve: Bytes,
    there: BTreeMap<ReplicaId, (Resident, Loaded)>,
}

impl Cpu {
    /// # Errors
    /// When the machine does not say what it has.
    pub(crate) fn open(id: DeviceId, capacity: Option<Bytes>) -> Result<Self, String> {
        let memory = machine::memory(Path::new("/")).map_err(|error| error.to_string())?;
        let reserve = Bytes((memory.total.0 / 16).clamp(LEAST_RESERVE.0, MOST_RESERVE.0));
        let most = Bytes(memory.total.0.saturating_sub(reserve.0));
        let capacity = capacity.unwrap_or(most);
        if capacity > memory.total {
            return Err(format!("{capacity} are more than the machine's {}", memory.total));
        }
        Ok(Self { id, capacity, reserve, there: BTreeMap::new() })
    }

    fn taken(&self) -> Loaded {
        let mut all = Loaded::default();
        for (_, loaded) in self.there.values() {
            all.own.0 += loaded.own.0;
            all.mapped.0 += loaded.mapped.0;
        }
        all
    }

    /// Refuses what is more than is free; of copies also what the machine has not.
    fn must_fit(&self, needed: Bytes, is_copy: bool) -> Result<(), Stopped> {
        let mut free = self.memory().free;
        if is_copy && let Ok(memory) = machine::memory(Path::new("/")) {
            free = free.min(Bytes(memory.available.0.saturating_sub(self.reserve.0)));
        }
        if needed > free {
            return Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free }));
        }
        Ok(())
    }
}

fn segment(why: impl ToString) -> Stopped {
    Stopped::Failed(ReplicaFailure::Segment(why.to_string()))
}

fn broken(why: impl ToString) -> Stopped {
    Stopped::Failed(ReplicaFailure::Device(why.to_string()))
}

impl Device for Cpu {
    fn facts(&self) -> DeviceFacts {
        DeviceFacts {
            id: self.id,
            model: model(),
            capacity: self.capacity,
            maps_segments: true,
            granule: Bytes(0),
            alignment: Bytes(0),
            bus: Bytes(0),
            node: None,
            dtypes: CONVERTS.to_vec(),
            libraries: vec![format!("libtorch {}", env!("LIBTORCH_VERSION"))],
        }
    }

    fn memory(&self) -> DeviceMemory {
        let taken = self.taken();
        let used = taken.own.0.saturating_add(taken.mapped.0);
        let free = Bytes(self.capacity.0.saturating_sub(used));
        DeviceMemory {
            used: Bytes(used),
            free,
            mapped: taken.mapped,
            others: Bytes(0),
            ..DeviceMemory::default()
        }
    }

    fn check(&mut self) -> Result<Checked, String> {
        Ok(Checked::Well)
    }

    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped> {
        let target = load.dtype.map(|dtype| {
            let known = kind(dtype).filter(|_| CONVERTS.contains(&dtype));
            let unsupported = || format!("nothing is converted to {dtype} on {}", self.id);
            known
                .map(|kind| (dtype, kind))
                .ok_or_else(|| Stopped::Failed(ReplicaFailure::Unsupported(unsupported())))
        });
        let target = target.transpose()?;
        let attached = Attached::open(&load.path, load.digest).map_err(segment)?;
        let length = attached.length();
        let (resident, loaded) = match target {
            None => {
                self.must_fit(length, false)?;
                if !pace.is_wanted(Bytes(0), length) {
                    return Err(Stopped::NotWanted);
                }
                let viewed = Viewed::of(attached).map_err(segment)?;
                let tensors = count(viewed.tensors());
                let loaded = Loaded { own: Bytes(0), mapped: viewed.length(), tensors };
                (Resident::Mapped(viewed), loaded)
            }
            Some(target) => {
                let needed: u64 =
                    attached.tensors().map(|placed| placed.dtype.converted(placed.length, target.0)).sum();
                self.must_fit(Bytes(needed), true)?;
                let viewed = Viewed::of(attached).map_err(segment)?;
                let copied = convert(&viewed, target, Bytes(needed), pace)?;
                let loaded = Loaded { own: Bytes(needed), mapped: Bytes(0), tensors: count(&copied) };
                (Resident::Copied(copied), loaded)
            }
        };
        self.there.insert(load.id, (resident, loaded));
        Ok(loaded)
    }

    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded> {
        let before = self.memory().used;
        let (resident, loaded) = self.there.remove(&id)?;
        let is_copy = matches!(resident, Resident::Copied(_));
        drop(resident);
        if is_copy {
            give_back_free_memory();
        }
        let returned = Bytes(before.0.saturating_sub(self.memory().used.0));
        Some(Unloaded { expected: Bytes(loaded.own.0.saturating_add(loaded.mapped.0)), returned })
    }

    fn read(&self, id: ReplicaId, tensor: &str, offset: u64, length: usize) -> Option<Piece> {
        let (resident, _) = self.there.get(&id)?;
        let placing = resident.tensors().get(tensor)?;
        let data = placing.read(offset, length).ok()??;
        Some(Piece { dtype: placing.dtype, shape: placing.shape.clone(), size: placing.size, data })
    }

    fn share(&self, _: ReplicaId) -> Result<Share, String> {
        Err(format!("what is on {} is in RAM: lease it there", self.id))
    }

    fn sums(&self, id: ReplicaId, pace: &mut dyn Pace) -> Result<Sums, String> {
        let (resident, _) = self.there.get(&id).ok_or("it is not there")?;
        let tensors = resident.tensors().iter().map(|(name, placing)| (name.clone(), placing.size.0));
        let read = |name: &str, at, length| self.read(id, name, at, length).map(|piece| piece.data);
        sums_by_reading(tensors, read, pace)
    }

    fn tensors(&self, id: ReplicaId) -> Vec<String> {
        let resident = self.there.get(&id).map(|(resident, _)| resident);
        resident.iter().flat_map(|resident| resident.tensors().keys()).map(ToString::to_string).collect()
    }
}

fn count(tensors: &HashMap<Box<str>, Placing>) -> u32 {
    u32::try_from(tensors.len()).unwrap_or(u32::MAX)
}

/// Copies of all tensors, those of floating point as the target.
fn convert(
    viewed: &Viewed,
    target: (Dtype, Kind),
    total: Bytes,
    pace: &mut dyn Pace,
) -> Result<HashMap<Box<str>, Placing>, Stopped> {
    let (mut copied, mut done) = (HashMap::new(), 0);
    for (name, placing) in viewed.tensors() {
        let (dtype, kind) = if placing.dtype.is_convertible() {
            target
        } else {
            (placing.dtype, placing.tensor.f_kind().map_err(broken)?)
        };
        let size = placing.dtype.converted(placing.size.0, target.0);
        let mut pace = |share: f64| {
            // A progress, to be looked at: what is lost to rounding is a byte.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the size"
            )]
            let of_this = (size as f64 * share) as u64;
            pace.is_wanted(Bytes((done + of_this).min(total.0)), total)
        };
        let tensor = copy(&placing.tensor, kind, &mut pace)?;
        done += size;
        copied
            .insert(name.clone(), Placing { dtype, shape: placing.shape.clone(), size: Bytes(size), tensor });
    }
    Ok(copied)
}

/// A copy of its own, piece by piece.
fn copy(from: &Tensor, kind: Kind, pace: &mut dyn FnMut(f64) -> bool) -> Result<Tensor, Stopped> {
    let shape = from.size();
    let to = Tensor::f_empty(&shape, (kind, tch::Device::Cpu)).map_err(broken)?;
    let (source, mut target) =
        (from.f_reshape([-1_i64]).map_err(broken)?, to.f_view([-1_i64]).map_err(broken)?);
    let elements = source.size().first().copied().unwrap_or_default();
    let mut at = 0;
    loop {
        let share = if elements == 0 { 0.0 } else { at as f64 / elements as f64 };
        if !pace(share) {
            return Err(Stopped::NotWanted);
        }
        if at >= elements {
            break;
        }
        let length = CHUNK.min(elements - at);
        let piece = source.f_narrow(0, at, length).map_err(broken)?;
        target = narrow_and_fill(target, at, length, &piece)?;
        at += length;
    }
    Ok(to)
}

/// Writes a piece into its place of a row that is ours.
fn narrow_and_fill(row: Tensor, at: i64, length: i64, piece: &Tensor) -> Result<Tensor, Stopped> {
    let mut place = row.f_narrow(0, at, length).map_err(broken)?;
    place.f_copy_(piece).map_err(broken)?;
    Ok(row)
}

/// What the processor calls itself.
fn model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map_or("processor", |(_, name)| name.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_worker::suite::every_behaviour;

    #[test]
    fn the_machines_memory_does_what_every_device_does() {
        let id = "cpu:0".parse().unwrap();
        every_behaviour(&|size| Box::new(Cpu::open(id, Some(size)).unwrap()));
    }

    #[test]
    fn a_device_larger_than_the_machine_is_refused() {
        let refused = Cpu::open("cpu:0".parse().unwrap(), Some(Bytes::gib(1 << 20))).unwrap_err();
        assert!(refused.contains("more than the machine"), "{refused}");
    }
}
