//! A card: each component in a slab of its own, copied there from its segment and given back to the last byte.
//!
//! The segment is not needed once it is there. What is free is the driver's word, whoever has the rest; what is told as returned
//! is measured, not computed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use hoist_domain::{
    Bytes, DeviceFacts, DeviceId, DeviceMemory, DeviceSpec, Dtype, ReplicaFailure, ReplicaId,
};
use hoist_segment::{Attached, Opened};
use hoist_worker::device::{
    Device, Load, Loaded, Pace, Piece, Share, ShareKind, SharedTensor, Stopped, Unloaded,
};

use super::context::Context;
use super::convert::{self, Converter, Unconverted};
use super::copy::{self, GoOn, Halt, Ring};
use super::driver::{Driver, Fault};
use super::health::Health;
use super::lanes::{Lanes, read_back};
use super::places::{ALIGNMENT, Image, Place};
use super::slab::{Slab, size_for};

/// Of the card's memory, left to contexts, libraries and everybody else where no size was said: a thirty-second, within these.
const LEAST_RESERVE: Bytes = Bytes::mib(512);
const MOST_RESERVE: Bytes = Bytes::gib(2);

/// What replicas can be converted to, where there is something to convert with.
const CONVERTS: [Dtype; 4] = [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64];

/// How bytes get to the card
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CopyBy {
    /// The faster one for the size, as far as that was measured: the ring
    #[default]
    Auto,
    /// Through pinned buffers that threads fill
    Ring,
    /// Straight from the segment's pages, registered for it
    Registered,
}

/// What a card is driven with.
#[derive(Debug)]
pub(crate) struct How {
    pub(crate) copy_by: CopyBy,
    /// Of this machine, for whoever is to be on it.
    pub(crate) processors: usize,
    /// What converts elements; or why nothing does.
    pub(crate) converter: Result<Box<dyn Converter>, String>,
    /// The driver's management library.
    pub(crate) management: &'static Path,
}

/// What is on the card under one name.
#[derive(Debug)]
struct Resident {
    slab: Slab,
    places: HashMap<Box<str>, Place>,
}

/// The device.
#[derive(Debug)]
pub(crate) struct Cuda {
    id: DeviceId,
    capacity: Bytes,
    copy_by: CopyBy,
    /// Or why there is none.
    converter: Result<Box<dyn Converter>, String>,
    /// As far as the machine says.
    health: Option<Health>,
    there: BTreeMap<ReplicaId, Resident>,
    ring: Ring,
    lanes: Lanes,
    context: Rc<Context>,
}

impl Cuda {
    /// Takes the card of this number, on the thread that is to drive it.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(crate) fn open(
        driver: Driver,
        DeviceSpec { id, capacity }: DeviceSpec,
        how: How,
    ) -> Result<Self, String> {
        let How { copy_by, processors, converter, management } = how;
        let context = Context::open(driver, id.number)?;
        let card = context.card();
        let reserve = Bytes((card.total.0 / 32).clamp(LEAST_RESERVE.0, MOST_RESERVE.0));
        let capacity = capacity.unwrap_or(Bytes(card.total.0.saturating_sub(reserve.0)));
        if capacity > card.total {
            return Err(format!("{capacity} are more than the {} of {} ({id})", card.total, card.name));
        }
        if copy_by == CopyBy::Registered && !card.registers_read_only {
            return Err(format!("{} cannot register pages that are only read: use --copy ring", card.name));
        }
        let health = Health::of(management, &card.uuid);
        let what = |fault: Fault| format!("{id} cannot be used: {fault}");
        let lanes = Lanes::open(&context).map_err(what)?;
        let ring = Ring::open(&context, processors).map_err(|fault| {
            format!(
                "no memory of the machine can be pinned for {id}: {fault}; see `ulimit -l` and what is free"
            )
        })?;
        tracing::debug!(pinned = %ring.size(), ?copy_by, "buffers taken");
        Ok(Self { id, capacity, copy_by, converter, health, there: BTreeMap::new(), ring, lanes, context })
    }

    /// Of the card and of what drives it, for people.
    fn libraries(&self) -> Vec<String> {
        let card = self.context.card();
        let mut all = vec![
            format!("CUDA driver {}", self.context.driver().version()),
            format!("compute capability {}.{}", card.compute.0, card.compute.1),
            format!("{} at {}", card.uuid, card.bus),
        ];
        all.extend(card.numa_node.map(|node| format!("memory node {node}")));
        all.push(match &self.converter {
            Ok(_) => format!("libtorch {} with CUDA", env!("LIBTORCH_VERSION")),
            Err(why) => why.clone(),
        });
        all
    }

    /// What the driver has to give; nothing where it does not say.
    fn free(&self) -> u64 {
        self.context.memory().map_or(0, |memory| memory.free.0)
    }

    /// What this process has of the card, as far as the machine says.
    fn own(&self) -> Option<u64> {
        self.health.as_ref()?.used_by(std::process::id())
    }

    /// A replica's slab, whole.
    #[cfg(test)]
    pub(super) fn image(&self, id: ReplicaId) -> Vec<u8> {
        let slab = &self.there[&id].slab;
        let mut all = vec![0xee; usize::try_from(slab.size().0).unwrap()];
        read_back(slab, 0, &mut all).unwrap();
        all
    }

    fn used(&self) -> u64 {
        self.there.values().map(|resident| resident.slab.size().0).sum()
    }

    /// What a call that failed means for a load that needs so much.
    fn stopped(&self, fault: &Fault, needed: Bytes) -> Stopped {
        if let Err(lasting) = self.context.synchronize() {
            return Stopped::Poisoned(format!("{fault}; from then on {lasting}"));
        }
        Stopped::Failed(if fault.is_memory() {
            ReplicaFailure::NoMemory { needed, free: self.memory().free }
        } else {
            ReplicaFailure::Device(fault.to_string())
        })
    }

    fn unfilled(&self, why: Unconverted, needed: Bytes) -> Stopped {
        match why {
            Unconverted::Halt(Halt::NotWanted) => Stopped::NotWanted,
            Unconverted::Halt(Halt::Read(error)) => segment(error),
            Unconverted::Halt(Halt::Device(fault)) => self.stopped(&fault, needed),
            Unconverted::Halt(Halt::Threads(error)) => {
                Stopped::Failed(ReplicaFailure::Device(error.to_string()))
            }
            Unconverted::Compute(why) => match self.context.synchronize() {
                Ok(()) => Stopped::Failed(ReplicaFailure::Device(why)),
                Err(lasting) => Stopped::Poisoned(format!("{why}; from then on {lasting}")),
            },
        }
    }

    /// All bytes, as they are.
    fn copy(&mut self, opened: Opened, image: &Image, slab: &Slab, go_on: GoOn<'_>) -> Result<(), Halt> {
        match self.copy_by {
            CopyBy::Auto | CopyBy::Ring => {
                let read = |file: usize, offset: u64, into: &mut [u8]| opened.read(file, offset, into);
                self.lanes.clear(slab, image.size().0)?;
                self.ring.copy(&self.lanes, slab, image, &read, go_on)
            }
            CopyBy::Registered => {
                let attached = Attached::of(opened).map_err(Halt::Read)?;
                copy::registered(&self.context, &self.lanes, slab, image, &attached, go_on)
            }
        }
    }

    /// All tensors, as elements of this type where they can be.
    fn convert(
        &mut self,
        opened: &Opened,
        (image, to): (&Image, Dtype),
        slab: &Slab,
        go_on: GoOn<'_>,
    ) -> Result<(), Unconverted> {
        let converter = self.converter.as_deref().map_err(|why| Unconverted::Compute(why.clone()))?;
        let spare = self.context.memory()?.free;
        let scratch = Slab::take(&self.context, convert::scratch_for(opened.length(), spare))?;
        let read = |file: usize, offset: u64, into: &mut [u8]| opened.read(file, offset, into);
        let both = (slab, &scratch);
        let (context, lanes, ring) = (&self.context, &self.lanes, &mut self.ring);
        convert::convert(context, lanes, ring, converter, opened.tensors(), (image, to), both, &read, go_on)
    }

    /// Refuses what can never be converted here.
    fn must_convert(&self, to: Dtype) -> Result<(), Stopped> {
        let why = match &self.converter {
            Err(why) => why.clone(),
            Ok(_) if CONVERTS.contains(&to) => return Ok(()),
            Ok(_) => format!("nothing is converted to {to} on {}", self.id),
        };
        Err(Stopped::Failed(ReplicaFailure::Unsupported(why)))
    }
}

fn segment(why: impl ToString) -> Stopped {
    Stopped::Failed(ReplicaFailure::Segment(why.to_string()))
}

impl Device for Cuda {
    fn facts(&self) -> DeviceFacts {
        let card = self.context.card();
        DeviceFacts {
            id: self.id,
            model: card.name.clone(),
            capacity: self.capacity,
            maps_segments: false,
            granule: card.granule,
            alignment: Bytes(ALIGNMENT),
            dtypes: if self.converter.is_ok() { CONVERTS.to_vec() } else { Vec::new() },
            libraries: self.libraries(),
        }
    }

    fn memory(&self) -> DeviceMemory {
        let used = self.used();
        let left = self.capacity.0.saturating_sub(used);
        // A driver that does not say has nothing to give either.
        let Ok(said) = self.context.memory() else {
            return DeviceMemory { used: Bytes(used), ..DeviceMemory::default() };
        };
        let others = said.total.0.saturating_sub(said.free.0).saturating_sub(used);
        DeviceMemory {
            used: Bytes(used),
            free: Bytes(said.free.0.min(left)),
            mapped: Bytes(0),
            others: Bytes(others),
        }
    }

    fn check(&mut self) -> Result<String, String> {
        self.context.synchronize().map_err(|fault| fault.to_string())?;
        Ok(self.health.as_mut().map(Health::look).unwrap_or_default())
    }

    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped> {
        load.dtype.map_or(Ok(()), |to| self.must_convert(to))?;
        let opened = Opened::open(&load.path, load.digest).map_err(segment)?;
        let image = match load.dtype {
            None => Image::of(opened.tensors()),
            Some(to) => {
                let after: Vec<_> = opened.tensors().map(|(_, placed)| convert::target(placed, to)).collect();
                Image::of(after.iter().map(|placed| (0, placed)))
            }
        };
        let image = image.ok_or_else(|| segment("it is larger than any"))?;
        let needed = size_for(image.size(), self.context.card().granule);
        let free = self.memory().free;
        if needed > free {
            return Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free }));
        }
        let total = opened.length();
        let mut go_on = |done: Bytes| pace.is_wanted(done.min(total), total);
        if !go_on(Bytes(0)) {
            return Err(Stopped::NotWanted);
        }
        let slab = Slab::take(&self.context, image.size()).map_err(|fault| self.stopped(&fault, needed))?;
        let filled = match load.dtype {
            None => self.copy(opened, &image, &slab, &mut go_on).map_err(Unconverted::Halt),
            Some(to) => self.convert(&opened, (&image, to), &slab, &mut go_on),
        };
        if let Err(why) = filled {
            drop(slab);
            return Err(self.unfilled(why, needed));
        }
        let tensors = u32::try_from(image.places.len()).unwrap_or(u32::MAX);
        let loaded = Loaded { own: slab.size(), mapped: Bytes(0), tensors };
        let places = image.places.into_iter().map(|place| (place.name.clone(), place)).collect();
        self.there.insert(load.id, Resident { slab, places });
        Ok(loaded)
    }

    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded> {
        let resident = self.there.remove(&id)?;
        let expected = resident.slab.size();
        let (taken, free) = (self.own(), self.free());
        drop(resident);
        let mut returned = self.free().saturating_sub(free);
        if returned < expected.0
            && let (Some(before), Some(after)) = (taken, self.own())
        {
            // Others may have taken it since.
            returned = returned.max(before.saturating_sub(after));
        }
        Some(Unloaded { expected, returned: Bytes(returned.min(expected.0)) })
    }

    fn read(&self, id: ReplicaId, tensor: &str, offset: u64, length: usize) -> Option<Piece> {
        let resident = self.there.get(&id)?;
        let place = resident.places.get(tensor)?;
        let left = place.length.checked_sub(offset)?;
        let mut data = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(length)];
        if !data.is_empty() {
            read_back(&resident.slab, place.at + offset, &mut data).ok()?;
        }
        Some(Piece { dtype: place.dtype, shape: place.shape.to_vec(), size: Bytes(place.length), data })
    }

    fn share(&self, id: ReplicaId) -> Result<Share, String> {
        let resident = self.there.get(&id).ok_or("it is not there")?;
        let memory = resident.slab.export().map_err(|fault| fault.to_string())?;
        let mut tensors: Vec<SharedTensor> = resident
            .places
            .values()
            .map(|place| SharedTensor {
                name: place.name.clone(),
                dtype: place.dtype,
                shape: place.shape.to_vec(),
                offset: place.at,
                size: place.length,
            })
            .collect();
        tensors.sort_by_key(|tensor| tensor.offset);
        let card = self.context.card().uuid.clone();
        Ok(Share { memory, kind: ShareKind::Cuda, card, size: resident.slab.size(), tensors })
    }

    fn tensors(&self, id: ReplicaId) -> Vec<String> {
        let resident = self.there.get(&id);
        resident.iter().flat_map(|resident| resident.places.keys()).map(ToString::to_string).collect()
    }
}
