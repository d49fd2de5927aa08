//! How a component gets onto a card: all at once from a segment that is complete, or as far as there is one that is still being
//! filled, and the rest when it is.
#![expect(unsafe_code, reason = "copies from registered pages are a promise that they stay so")]

use hoist_domain::{Bytes, Dtype, ReplicaFailure};
use hoist_segment::Opened;
use hoist_worker::device::{Ahead, Load, Loaded, Pace, Stopped};

use super::convert::{self, Unconverted};
use super::copy::{self, GoOn, Halt};
use super::device::{CONVERTS, CopyBy, Cuda, Resident};
use super::driver::Fault;
use super::places::Image;
use super::slab::{Slab, size_for};

/// A component of which something is there already.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) slab: Slab,
    image: Image,
    /// What it is copied from. Kept open: no other file can have its number meanwhile.
    opened: Opened,
    /// From the beginning of the image so much is there.
    done: u64,
}

/// What of a segment is to be copied, and where: from this place of the image on.
struct Copying<'a> {
    opened: &'a Opened,
    image: &'a Image,
    slab: &'a Slab,
    from: u64,
}

impl Cuda {
    /// See `Device::load`.
    pub(super) fn bring(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped> {
        let begun = self.begun.remove(&load.id);
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
        // What was copied before is right if this is the file that it was copied from, and not another that has come in its place.
        let begun = begun.filter(|begun| {
            load.dtype.is_none() && begun.image == image && begun.opened.is(&opened).unwrap_or(false)
        });
        let total = opened.length();
        let mut go_on = |done: Bytes| pace.is_wanted(done.min(total), total);
        if !go_on(Bytes(0)) {
            return Err(Stopped::NotWanted);
        }
        let (slab, from) = match begun {
            Some(Begun { slab, done, .. }) => (slab, done),
            None => (self.room_for(&image)?, 0),
        };
        let copying = Copying { opened: &opened, image: &image, slab: &slab, from };
        let filled = match load.dtype {
            None => self.copy(load, &copying, &mut go_on).map_err(Unconverted::Halt),
            Some(to) => self.convert(&copying, to, &mut go_on),
        };
        filled.map_err(|why| self.unfilled(why))?;
        if self.copy_by == CopyBy::Registered {
            self.pages.begin(load.digest, opened);
        }
        let tensors = u32::try_from(image.places.len()).unwrap_or(u32::MAX);
        let loaded = Loaded { own: slab.size(), mapped: Bytes(0), tensors };
        let places = image.places.into_iter().map(|place| (place.name.clone(), place)).collect();
        self.there.insert(load.id, Resident { slab, places });
        Ok(loaded)
    }

    /// See `Device::ahead`.
    pub(super) fn bring_ahead(
        &mut self,
        ahead: &Ahead,
        pace: &mut dyn Pace,
    ) -> Result<Option<Bytes>, Stopped> {
        let opened = match Opened::filling(&ahead.path) {
            Ok(opened) => opened,
            // It is complete by now, or given up: what is desired says which.
            Err(_) => return Ok(self.begun.get(&ahead.id).map(|begun| begun.slab.size())),
        };
        let is_it = |begun: &Begun| begun.opened.is(&opened).unwrap_or(false);
        let known = self.begun.remove(&ahead.id).filter(is_it);
        let was_there = known.is_some();
        let begun = match known {
            Some(begun) => begun,
            None => {
                let image = Image::of(opened.tensors()).ok_or_else(|| segment("it is larger than any"))?;
                let slab = self.room_for(&image)?;
                self.lanes.clear(&slab, image.size().0).map_err(|fault| self.stopped(&fault))?;
                Begun { slab, image, opened, done: 0 }
            }
        };
        let (reach, total) = (begun.image.reach(ahead.there), begun.opened.length());
        let (from, read) =
            (begun.done, |file: usize, offset: u64, into: &mut [u8]| begun.opened.read(file, offset, into));
        let mut go_on = |done: Bytes| pace.is_wanted(Bytes(from + done.0).min(total), total);
        let window = (&begun.image, from..reach);
        let copied = self.ring.copy(&self.lanes, &begun.slab, window, &read, &mut go_on);
        let taken = begun.slab.size();
        match copied {
            Ok(()) => drop(self.begun.insert(ahead.id, Begun { done: reach.max(from), ..begun })),
            Err(Halt::NotWanted) => {
                // What was not there before is known to nobody, who could give it back.
                if was_there {
                    self.begun.insert(ahead.id, begun);
                }
                return Err(Stopped::NotWanted);
            }
            Err(halt) => return Err(self.unfilled(Unconverted::Halt(halt))),
        }
        Ok(Some(taken))
    }

    /// A slab for an image.
    fn room_for(&self, image: &Image) -> Result<Slab, Stopped> {
        let needed = size_for(image.size(), self.context.card().granule);
        let free = self.free_now()?;
        if needed > free {
            return Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free }));
        }
        Slab::take(&self.context, image.size()).map_err(|fault| self.no_room(&fault, needed, Bytes(0)))
    }

    /// What may be taken; the driver has to say so.
    fn free_now(&self) -> Result<Bytes, Stopped> {
        let said = self.context.memory().map_err(|fault| self.stopped(&fault))?;
        Ok(said.free.min(self.left()))
    }

    /// All bytes, as they are.
    fn copy(&mut self, load: &Load, copying: &Copying<'_>, go_on: GoOn<'_>) -> Result<(), Halt> {
        let Copying { opened, image, slab, from } = *copying;
        if let Some(pages) = self.pages.of(load.digest).filter(|_| from == 0) {
            // SAFETY: whatever `of` gives is registered, whole, and stays so as long as `pages` is not changed.
            return unsafe { copy::from_pages(&self.lanes, slab, image, pages, go_on) };
        }
        let read = |file: usize, offset: u64, into: &mut [u8]| opened.read(file, offset, into);
        // Between tensors the ring writes zeros by itself.
        self.lanes.clear(slab, image.size().0)?;
        let window = (image, from..image.size().0);
        self.ring.copy(&self.lanes, slab, window, &read, &mut |done| go_on(Bytes(from + done.0)))
    }

    /// All tensors, as elements of this type where they can be.
    fn convert(&mut self, copying: &Copying<'_>, to: Dtype, go_on: GoOn<'_>) -> Result<(), Unconverted> {
        let Copying { opened, image, slab, .. } = *copying;
        let converter = self.converter.as_deref().map_err(|why| Unconverted::Compute(why.clone()))?;
        let spare = self.context.memory()?.free;
        let wish = convert::scratch_for(opened.length(), spare);
        let scratch = match Slab::take(&self.context, wish) {
            Err(fault) if fault.is_memory() && wish > convert::LEAST_SCRATCH => {
                Slab::take(&self.context, convert::LEAST_SCRATCH)
            }
            taken => taken,
        };
        let scratch = scratch.map_err(|fault| Unconverted::NoScratch(fault, slab.size()))?;
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

/// What it means that something failed.
impl Cuda {
    /// A call that says nothing of memory.
    fn stopped(&self, fault: &Fault) -> Stopped {
        match self.context.synchronize() {
            Ok(()) => Stopped::Failed(ReplicaFailure::Device(fault.to_string())),
            Err(lasting) => Stopped::Poisoned(format!("{fault}; from then on {lasting}")),
        }
    }

    /// Memory could not be had for a load that needs so much, of which it holds some.
    fn no_room(&self, fault: &Fault, needed: Bytes, held: Bytes) -> Stopped {
        let free = match self.free_now() {
            Ok(free) => Bytes(free.0.saturating_add(held.0)),
            Err(stopped) => return stopped,
        };
        if fault.is_memory() {
            return Stopped::Failed(ReplicaFailure::NoMemory { needed, free });
        }
        self.stopped(fault)
    }

    fn unfilled(&self, why: Unconverted) -> Stopped {
        match why {
            Unconverted::Halt(Halt::NotWanted) => Stopped::NotWanted,
            Unconverted::Halt(Halt::Read(error)) => segment(error),
            Unconverted::Halt(Halt::Device(fault)) => self.stopped(&fault),
            Unconverted::Halt(Halt::Threads(error)) => {
                Stopped::Failed(ReplicaFailure::Device(error.to_string()))
            }
            Unconverted::NoScratch(fault, held) => {
                let needed = Bytes(held.0.saturating_add(convert::LEAST_SCRATCH.0));
                self.no_room(&fault, needed, held)
            }
            Unconverted::Compute(why) => match self.context.synchronize() {
                Ok(()) => Stopped::Failed(ReplicaFailure::Device(why)),
                Err(lasting) => Stopped::Poisoned(format!("{why}; from then on {lasting}")),
            },
        }
    }
}

fn segment(why: impl ToString) -> Stopped {
    Stopped::Failed(ReplicaFailure::Segment(why.to_string()))
}
