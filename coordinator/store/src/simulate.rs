//! A state directory in memory, whose power can be cut and whose disk can fail.
//!
//! For tests, here and in the coordinator: everything above the file system is the real store. What was not synced
//! survives a power cut or not, in any order and torn at sectors, as the seed decides. It must never be kinder than
//! a disk: a failed sync drops what it should have made durable, and files opened before a cut stay dead after it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::disk::{Content, Disk, EPOCH, EXPORT, STORE, STORE_BUILDING, STORE_DAMAGED};
use crate::fault::{Call, Fault, OpenError};
use crate::{OpenOptions, Opening, opening};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A handle: clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Counts power cuts: who opened something in an earlier life of the machine holds a dead handle.
    life: u64,
    held: bool,
    files: BTreeMap<String, u64>,
    contents: BTreeMap<u64, SimulatedFile>,
    documents: BTreeMap<String, Vec<u8>>,
    fail_writes: Option<io::ErrorKind>,
    /// Writes that still go well although `fail_writes` is set.
    writes_left: u64,
    fail_syncs: bool,
    /// Changes left until the machine stops.
    stop_after: Option<u64>,
    changes: u64,
}

#[derive(Debug, Default)]
struct SimulatedFile {
    /// What a reader sees.
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Not synced yet, in order.
    pending: Vec<Change>,
    /// Whose sync failed: never synced again, though a cut may find them on the disk.
    dropped: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

impl SimulatedDisk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Power fails and comes back. Open stores are dead from here on; open the disk anew.
    pub fn power_cut(&self, seed: u64) {
        let mut state = self.state();
        let mut random = Random(seed);
        for file in state.contents.values_mut() {
            file.power_cut(&mut random);
        }
        state.life += 1;
        state.held = false;
        state.stop_after = None;
    }

    /// Until set to `None`, every write and every growth of a file fails like this.
    pub fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        let mut state = self.state();
        state.fail_writes = kind;
        state.writes_left = 0;
    }

    /// Like [`SimulatedDisk::fail_writes`], once this many more have gone well.
    pub fn fail_writes_after(&self, writes: u64, kind: io::ErrorKind) {
        let mut state = self.state();
        state.fail_writes = Some(kind);
        state.writes_left = writes;
    }

    /// While set, every sync fails with an input/output error.
    pub fn fail_syncs(&self, fail: bool) {
        self.state().fail_syncs = fail;
    }

    /// After this many more changes (a write, a resize, a sync, a replaced file) the machine stops: everything
    /// fails until [`SimulatedDisk::power_cut`]. For a cut in the middle of a commit.
    pub fn stop_after(&self, changes: u64) {
        self.state().stop_after = Some(changes);
    }

    /// Changes made so far: how far `stop_after` can be set apart.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Flips one bit of the database file; the number is taken modulo its length.
    pub fn flip_bit(&self, bit: u64) {
        let mut state = self.state();
        let Some(id) = state.files.get(STORE).copied() else { return };
        let Some(file) = state.contents.get_mut(&id) else { return };
        let bits = (file.durable.len() as u64).saturating_mul(8).max(1);
        let at = usize::try_from(bit % bits / 8).unwrap_or(0);
        for copy in [&mut file.durable, &mut file.seen] {
            if let Some(byte) = copy.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Deletes the database file, as an operator might.
    pub fn remove_store(&self) {
        self.state().files.remove(STORE);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`crate::open`] on a simulated disk.
pub fn open_simulated(disk: &SimulatedDisk) -> Result<Opening, OpenError> {
    let life = {
        let mut state = disk.state();
        if std::mem::replace(&mut state.held, true) {
            return Err(OpenError::Locked { pid: Some(std::process::id()) });
        }
        state.life
    };
    let directory = SimulatedDirectory { disk: disk.clone(), life };
    opening::open_on(Arc::new(directory), OpenOptions::default())
}

impl State {
    fn check_life(&self, life: u64) -> io::Result<()> {
        if life != self.life || self.stop_after == Some(0) {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(())
    }

    /// Whether a change may be made, which counts as one.
    fn check_change(&mut self, life: u64, call: Call) -> io::Result<()> {
        self.check_life(life)?;
        self.changes += 1;
        if let Some(left) = &mut self.stop_after {
            *left -= 1;
        }
        match (call, self.fail_writes) {
            (Call::Sync, _) if self.fail_syncs => Err(io::Error::other("simulated failure to sync")),
            (Call::Write | Call::Resize, Some(kind)) => match self.writes_left.checked_sub(1) {
                Some(left) => {
                    self.writes_left = left;
                    Ok(())
                }
                None => Err(kind.into()),
            },
            _ => Ok(()),
        }
    }
}

impl SimulatedFile {
    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    fn power_cut(&mut self, random: &mut Random) {
        let changes = self.dropped.drain(..).chain(self.pending.drain(..));
        for change in changes {
            match (random.below(4), change) {
                (0, _) => {}
                (1, Change::Write { offset, data }) => {
                    let mut at = offset;
                    for sector in sectors(offset, &data) {
                        if random.below(2) == 0 {
                            apply(&mut self.durable, &Change::Write { offset: at, data: sector.to_vec() });
                        }
                        at += sector.len();
                    }
                }
                (_, change) => apply(&mut self.durable, &change),
            }
        }
        self.seen = self.durable.clone();
    }
}

/// The parts of a write that lie in one sector each.
fn sectors(offset: usize, data: &[u8]) -> Vec<&[u8]> {
    let until_sector = (SECTOR_BYTES - offset % SECTOR_BYTES).min(data.len());
    let (first, rest) = data.split_at(until_sector);
    std::iter::once(first).chain(rest.chunks(SECTOR_BYTES)).collect()
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(len) => bytes.resize(*len, 0),
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(place) = bytes.get_mut(*offset..end) {
                place.copy_from_slice(data);
            }
        }
    }
}

/// `splitmix64`: enough to scatter, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Debug)]
struct SimulatedBackend {
    disk: SimulatedDisk,
    life: u64,
    id: u64,
}

impl SimulatedBackend {
    fn with<T>(&self, work: impl FnOnce(&SimulatedFile) -> io::Result<T>) -> io::Result<T> {
        let state = self.disk.state();
        state.check_life(self.life)?;
        work(state.contents.get(&self.id).ok_or(io::ErrorKind::NotFound)?)
    }

    fn change(&self, call: Call, work: impl FnOnce(&mut SimulatedFile)) -> io::Result<()> {
        let mut state = self.disk.state();
        let allowed = state.check_change(self.life, call);
        let file = state.contents.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        match allowed {
            Ok(()) => work(file),
            Err(_) if call == Call::Sync => file.dropped.append(&mut file.pending),
            Err(_) => {}
        }
        allowed
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl StorageBackend for SimulatedBackend {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = position(offset)?;
        self.with(|file| {
            let end = offset.checked_add(out.len()).ok_or(io::ErrorKind::InvalidInput)?;
            out.copy_from_slice(file.seen.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = position(len)?;
        self.change(Call::Resize, |file| file.change(Change::Resize(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Call::Sync, SimulatedFile::sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = position(offset)?;
        self.change(Call::Write, |file| file.change(Change::Write { offset, data: data.to_vec() }))
    }
}

struct SimulatedDirectory {
    disk: SimulatedDisk,
    life: u64,
}

impl Drop for SimulatedDirectory {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.held = false;
        }
    }
}

impl SimulatedDirectory {
    fn backend(&self, id: u64) -> Arc<dyn StorageBackend> {
        Arc::new(SimulatedBackend { disk: self.disk.clone(), life: self.life, id })
    }

    /// A change of the directory, which takes effect at once and for good.
    fn change<T>(
        &self,
        call: Call,
        file: &str,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> Result<T, Fault> {
        let mut state = self.disk.state();
        state
            .check_change(self.life, call)
            .and_then(|()| work(&mut state))
            .map_err(|error| Fault::new(call, file, &error))
    }
}

impl Disk for SimulatedDirectory {
    fn open_store(&self) -> Result<Option<Arc<dyn StorageBackend>>, Fault> {
        let state = self.disk.state();
        state.check_life(self.life).map_err(|error| Fault::new(Call::Open, STORE, &error))?;
        Ok(state.files.get(STORE).map(|id| self.backend(*id)))
    }

    fn create_store(&self) -> Result<Arc<dyn StorageBackend>, Fault> {
        let id = self.change(Call::Write, STORE_BUILDING, |state| {
            let id = state.contents.keys().next_back().map_or(0, |id| id + 1);
            state.contents.insert(id, SimulatedFile::default());
            state.files.insert(STORE_BUILDING.to_owned(), id);
            Ok(id)
        })?;
        Ok(self.backend(id))
    }

    fn keep_damaged(&self) -> Result<String, Fault> {
        self.change(Call::Rename, STORE, |state| {
            let id = *state.files.get(STORE).ok_or(io::ErrorKind::NotFound)?;
            let number = state.files.keys().filter(|name| name.starts_with(STORE_DAMAGED)).count() + 1;
            let name = format!("{STORE_DAMAGED}{number}");
            state.files.insert(name.clone(), id);
            Ok(name)
        })
    }

    fn promote_store(&self) -> Result<(), Fault> {
        self.change(Call::Rename, STORE_BUILDING, |state| {
            let id = state.files.remove(STORE_BUILDING).ok_or(io::ErrorKind::NotFound)?;
            state.files.insert(STORE.to_owned(), id);
            Ok(())
        })
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Fault> {
        let state = self.disk.state();
        state.check_life(self.life).map_err(|error| Fault::new(Call::Read, file, &error))?;
        Ok(state.documents.get(file).cloned())
    }

    fn replace(&self, file: &str, content: &mut Content<'_>) -> Result<(), Fault> {
        debug_assert!([EPOCH, EXPORT].contains(&file), "{file} is not a document");
        let mut bytes = Vec::new();
        // Outside the state's lock: the content is the caller's code.
        content(&mut bytes).map_err(|error| Fault::new(Call::Write, file, &error))?;
        self.change(Call::Write, file, |_| Ok(()))?;
        self.change(Call::Sync, file, |state| {
            state.documents.insert(file.to_owned(), bytes);
            Ok(())
        })
    }
    fn check_held(&self) -> Result<(), Fault> {
        Ok(())
    }
}
