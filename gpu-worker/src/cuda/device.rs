//! A card: each component in a slab of its own, copied there from its segment and given back to the last byte.
//!
//! The segment is not needed once it is there. What is free is the driver's word, whoever has the rest; what is told as returned
//! is measured, not computed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use hoist_domain::{Bytes, DeviceFacts, DeviceId, DeviceMemory, DeviceSpec, Dtype, ReplicaId};
use hoist_worker::device::{
    Ahead, Checked, Device, Load, Loaded, Pace, Piece, Share, ShareKind, SharedTensor, Stopped, Sums,
    Unloaded, sums_by_reading,
};

use super::bus;
use super::context::Context;
use super::convert::Converter;
use super::copy::Ring;
use super::driver::{Driver, Fault};
use super::health::Health;
use super::lanes::{Lanes, read_back};
use super::loading::Begun;
use super::pages::Pages;
use super::places::{ALIGNMENT, Place};
use super::slab::Slab;

/// Of the card's memory, left to contexts, libraries and everybody else where no size was said: a thirty-second, within these.
const LEAST_RESERVE: Bytes = Bytes::mib(512);
const MOST_RESERVE: Bytes = Bytes::gib(2);

/// What a process may have of a card beyond its replicas and what it began with: kernels are loaded as they are first used, some
/// hundred megabytes of them.
const MOST_RETAINED: Bytes = Bytes::gib(1);

/// Bytes that a sum is computed of at once: what is computed with takes three times as much beside them.
const SUMMED_AT_ONCE: u64 = 8 << 20;

/// What replicas can be converted to, where there is something to convert with.
pub(super) const CONVERTS: [Dtype; 4] = [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64];

/// How bytes get to the card
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CopyBy {
    /// The faster one for the size, as far as that was measured: the ring
    #[default]
    Auto,
    /// Through pinned buffers that threads fill
    Ring,
    /// Straight from the segment's pages, once they are registered: while there is nothing else to do, after the first load, and until
    /// a minute after the last one; meanwhile they stay in RAM
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
pub(super) struct Resident {
    pub(super) slab: Slab,
    pub(super) places: HashMap<Box<str>, Place>,
}

/// The device.
#[derive(Debug)]
pub(crate) struct Cuda {
    pub(super) id: DeviceId,
    capacity: Bytes,
    pub(super) copy_by: CopyBy,
    /// Or why there is none.
    pub(super) converter: Result<Box<dyn Converter>, String>,
    /// As far as the machine says.
    health: Option<Health>,
    /// What this process had of the card before anything was loaded, as far as the machine says.
    began_with: Option<u64>,
    pub(super) there: BTreeMap<ReplicaId, Resident>,
    /// Of segments that were still being filled.
    pub(super) begun: BTreeMap<ReplicaId, Begun>,
    pub(super) pages: Pages,
    pub(super) ring: Ring,
    pub(super) lanes: Lanes,
    pub(super) context: Rc<Context>,
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
        let began_with = health.as_ref().and_then(|health| health.used_by(std::process::id()));
        Ok(Self {
            id,
            capacity,
            copy_by,
            converter,
            health,
            began_with,
            there: BTreeMap::new(),
            begun: BTreeMap::new(),
            pages: Pages::new(),
            ring,
            lanes,
            context,
        })
    }

    /// Of the card and of what drives it, for people.
    fn libraries(&self) -> Vec<String> {
        let card = self.context.card();
        let mut all = vec![
            format!("CUDA driver {}", self.context.driver().version()),
            format!("compute capability {}.{}", card.compute.0, card.compute.1),
            format!("{} at {}", card.uuid, card.bus),
        ];
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

    /// What this process has of the card beyond its replicas and what it began with, as far as the machine says.
    fn retained(&self) -> Bytes {
        let Some((own, began_with)) = self.own().zip(self.began_with) else { return Bytes(0) };
        Bytes(own.saturating_sub(began_with).saturating_sub(self.used()))
    }

    /// Computed on the card: a number a tensor passes the bus.
    fn sums_there(
        &self,
        resident: &Resident,
        computes: &dyn Converter,
        pace: &mut dyn Pace,
    ) -> Result<Sums, String> {
        let (mut sums, mut done) = (Vec::new(), 0);
        for place in resident.places.values() {
            let (mut total, mut at) = (0_u64, 0);
            while at < place.length {
                if !pace.is_wanted(Bytes(done), Bytes(done)) {
                    return Err("it is not wanted there any more".to_owned());
                }
                // Whole words: what is behind the last byte of a tensor is zero to its boundary.
                let length = SUMMED_AT_ONCE.min(place.length - at);
                let sum = computes.sum((&resident.slab, place.at + at), length.div_ceil(8), at / 8);
                // A library that computes may have set a context of its own.
                self.context.make_current().map_err(|fault| fault.to_string())?;
                total = total.wrapping_add(sum?);
                (at, done) = (at + length, done + length);
            }
            sums.push((place.name.clone(), total));
        }
        Ok(sums)
    }

    /// A replica's slab, whole.
    #[cfg(test)]
    pub(super) fn image(&self, id: ReplicaId) -> Vec<u8> {
        let slab = &self.there[&id].slab;
        let mut all = vec![0xee; usize::try_from(slab.size().0).unwrap()];
        read_back(slab, 0, &mut all).unwrap();
        all
    }

    /// What it may still take of its share.
    pub(super) fn left(&self) -> Bytes {
        Bytes(self.capacity.0.saturating_sub(self.used()))
    }

    fn used(&self) -> u64 {
        let there = self.there.values().map(|resident| resident.slab.size().0);
        let begun = self.begun.values().map(|begun| begun.slab.size().0);
        there.chain(begun).sum()
    }
}

impl Device for Cuda {
    fn facts(&self) -> DeviceFacts {
        let card = self.context.card();
        let near = || bus::near(Path::new(bus::DEVICES), &card.bus);
        DeviceFacts {
            id: self.id,
            model: card.name.clone(),
            capacity: self.capacity,
            maps_segments: false,
            granule: card.granule,
            alignment: Bytes(ALIGNMENT),
            bus: bus::carries(Path::new(bus::DEVICES), &card.bus),
            node: card.numa_node.and_then(|node| u32::try_from(node).ok()).or_else(near),
            dtypes: if self.converter.is_ok() { CONVERTS.to_vec() } else { Vec::new() },
            libraries: self.libraries(),
        }
    }

    fn memory(&self) -> DeviceMemory {
        let used = self.used();
        // A driver that does not say has nothing to give either.
        let Ok(said) = self.context.memory() else {
            return DeviceMemory { used: Bytes(used), ..DeviceMemory::default() };
        };
        let others = said.total.0.saturating_sub(said.free.0).saturating_sub(used);
        DeviceMemory {
            used: Bytes(used),
            free: Bytes(said.free.0.min(self.left().0)),
            mapped: Bytes(0),
            others: Bytes(others),
            ..DeviceMemory::default()
        }
    }

    fn check(&mut self) -> Result<Checked, String> {
        self.pages.look();
        self.context.synchronize().map_err(|fault| fault.to_string())?;
        let problem = self.health.as_mut().map(Health::look).unwrap_or_default();
        if !problem.is_empty() {
            return Ok(Checked::Problem(problem));
        }
        let retained = self.retained();
        Ok(if retained > MOST_RETAINED {
            let why =
                format!("it has {retained} more of {} than its replicas take and it began with", self.id);
            Checked::Retains(why)
        } else {
            Checked::Well
        })
    }

    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped> {
        self.bring(load, pace)
    }

    fn ahead(&mut self, ahead: &Ahead, pace: &mut dyn Pace) -> Result<Option<Bytes>, Stopped> {
        self.bring_ahead(ahead, pace)
    }

    fn rest(&mut self) -> bool {
        self.copy_by == CopyBy::Registered && self.pages.go_on(&self.context)
    }

    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded> {
        let slab = match self.there.remove(&id) {
            Some(resident) => resident.slab,
            None => self.begun.remove(&id)?.slab,
        };
        let expected = slab.size();
        let (taken, free) = (self.own(), self.free());
        drop(slab);
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

    fn sums(&self, id: ReplicaId, pace: &mut dyn Pace) -> Result<Sums, String> {
        let resident = self.there.get(&id).ok_or("it is not there")?;
        match &self.converter {
            Ok(converter) => self.sums_there(resident, converter.as_ref(), pace),
            // Without something to compute with, all of it passes the bus.
            Err(_) => {
                let tensors = resident.places.values().map(|place| (place.name.clone(), place.length));
                let read = |name: &str, at, length| self.read(id, name, at, length).map(|piece| piece.data);
                sums_by_reading(tensors, read, pace)
            }
        }
    }

    fn tensors(&self, id: ReplicaId) -> Vec<String> {
        let resident = self.there.get(&id);
        resident.iter().flat_map(|resident| resident.places.keys()).map(ToString::to_string).collect()
    }
}
