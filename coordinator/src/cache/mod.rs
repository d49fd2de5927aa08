//! The cache: keeps what the state says about RAM true to what is there.
//!
//! ```text
//!  CacheModel ─► executor: recipes ─► reserve (owner) ─► victims gone ─► staging pool ─► seal ─► sealed (owner)
//!  owner ─Evict─► keeper thread: name away ─► out (owner); what is still open is looked at every second ─► freed
//!  pace: budget, idle time, stuck reads, each second
//! ```
//!
//! The owner decides what is evicted and for whom; all that goes unasked is what the owner does not know. The files
//! themselves are on the shelf, which alone holds their descriptors; the leases on them are in the ledger. A coordinator that
//! ends leaves both where they are: the next one takes them over.

mod caching;
mod facts;
mod filling;
mod keeping;
mod ledger;
mod refusals;
mod shelf;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak, mpsc};

use dashmap::DashMap;
use hoist_domain::{
    Bytes, Condition, ConditionKind, Digest, Error, Lease, LeaseId, Reason, Result, Segment, SegmentName,
    SegmentState, Severity,
};
use hoist_runtime::{Clock, Tasks};
use hoist_segment::{Access, Directory, DirectoryError};
use hoist_staging::{Pool, PoolSettings, Rising};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::catalog::Catalog;
use crate::control::Control;

pub use caching::{has_components, may_be_cached};
pub use keeping::{keep, withdraw};
pub use shelf::Shelf;

use ledger::Ledger;

/// Where segments are, and how much of the memory they may take.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Unset: as much as the machine has to spare.
    pub budget: Option<Bytes>,
    /// Left to everybody else; unset: a part of the machine's memory.
    pub reserve: Option<Bytes>,
    /// Whether the directory's group may read segments.
    pub is_group_readable: bool,
}

/// Whoever holds a lease.
#[derive(Debug)]
struct Stream {
    tell: oneshot::Sender<String>,
    /// Its process, where it is known: a child of it may keep the connection open.
    process: Option<Arc<OwnedFd>>,
    /// Its process has ended before this was there.
    is_late: bool,
}

/// Why there is no place for segments, and what to do about that.
#[derive(Clone, Debug)]
struct Unusable {
    why: String,
    advice: &'static str,
}

impl From<DirectoryError> for Unusable {
    fn from(error: DirectoryError) -> Self {
        let why = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let advice = match error {
            DirectoryError::InUse { .. } => "stop the other one, or give this one a --runtime-dir of its own",
            _ => "start the server with --runtime-dir on a tmpfs that belongs to its user",
        };
        Self { why, advice }
    }
}

/// The handle to the cache. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: CacheSettings,
    /// Segments, and the leases on them.
    store: std::result::Result<(Shelf, Ledger), Unusable>,
    pool: Pool,
    control: Control,
    catalog: Catalog,
    tasks: Tasks,
    clock: Clock,
    /// To the thread that takes names away.
    evictions: mpsc::Sender<Digest>,
    /// What is being filled and will have this content, as far as it is there.
    rising: DashMap<Digest, Rising>,
    /// Streams that hold leases, to be told of their end.
    streams: DashMap<LeaseId, Stream>,
    /// Processes that hold leases: one descriptor each, however many that are.
    processes: DashMap<u32, Weak<OwnedFd>>,
}

impl Cache {
    /// Opens the directory of segments; without one the cache is there and refuses. The receiver is for
    /// [`withdraw`].
    #[must_use]
    pub fn new(
        settings: CacheSettings,
        runtime_dir: &Path,
        control: Control,
        catalog: Catalog,
        tasks: Tasks,
        clock: Clock,
    ) -> (Self, mpsc::Receiver<Digest>) {
        let access = if settings.is_group_readable { Access::Group } else { Access::Owner };
        if settings.is_group_readable
            && let Err(error) = let_through(runtime_dir)
        {
            warn!(%error, "the group cannot get into the runtime directory, so it cannot read segments");
        }
        let directory = Directory::open(&runtime_dir.join("segments"), access);
        let ledger = Ledger::open(&runtime_dir.join("leases"));
        let store = directory.and_then(|directory| Ok((Shelf::new(directory), ledger?)));
        let store = store.map_err(Unusable::from);
        let (evictions, evicted) = mpsc::channel();
        let pool = Pool::new(PoolSettings::default(), tasks.clone(), clock.clone());
        let cache = Self(Arc::new(Shared {
            settings,
            store,
            pool,
            control,
            catalog,
            tasks,
            clock,
            evictions,
            rising: DashMap::new(),
            streams: DashMap::new(),
            processes: DashMap::new(),
        }));
        (cache, evicted)
    }

    /// Takes over what an earlier coordinator left, and tells the owner. Of segments only the headers are read.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING.
    pub async fn adopt(&self) -> Result<()> {
        let (shelf, ledger) = match self.0.store.clone() {
            Ok(store) => store,
            Err(why) => {
                warn!(advice = why.advice, "nothing can be cached: {}", why.why);
                self.0.control.raise(self.unavailable(&why)).await;
                return self.0.control.adopt(Vec::new(), Vec::new()).await;
            }
        };
        let kept = ledger.clone();
        let adopted = self.0.tasks.run_blocking("adopt", move || Ok((shelf.adopt()?, kept.read()?))).await;
        let ((found, leftovers), leases) = match adopted {
            Ok(Ok(adopted)) => adopted,
            Ok(Err(error)) => {
                let error: std::io::Error = error;
                warn!(%error, "the directories of segments and leases cannot be listed");
                return self.0.control.adopt(Vec::new(), Vec::new()).await;
            }
            Err(panicked) => return Err(Error::new(Reason::Internal, panicked.to_string())),
        };
        let known: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
        for leftover in leftovers {
            info!(name = leftover.name, removed = leftover.removed, "{}", leftover.what);
        }
        let view = self.0.control.view();
        let mut types = std::collections::HashMap::new();
        if !found.is_empty() {
            for component in view.state.models().iter().flat_map(|model| &model.content.components) {
                if let Some(digest) = component.digest {
                    types.entry(digest).or_insert(component.component_type);
                }
            }
        }
        let bytes: u64 = found.iter().map(|(_, bytes, _)| bytes.0).sum();
        if !found.is_empty() {
            info!(segments = found.len(), bytes = %Bytes(bytes), "segments of the last coordinator are taken over");
        }
        let segments = found.into_iter().map(|(digest, bytes, is_raw)| Segment {
            name: SegmentName::Content(digest),
            state: SegmentState::Sealed,
            bytes,
            is_raw,
            component_type: types.get(&digest).copied(),
            priority: view.state.cache().policy().priority,
            wanted_by: std::collections::BTreeSet::new(),
            sealed_at: None,
            is_zombie: false,
            eviction: None,
        });
        self.0.control.adopt(segments.collect(), leases).await?;
        let view = self.0.control.view();
        for lost in known.into_iter().filter(|id| view.state.cache().lease(*id).is_none()) {
            info!(lease = %lost, "what it held is gone: the lease has ended");
            ledger.forget(lost);
        }
        Ok(())
    }

    /// Where segments are.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE.
    pub fn shelf(&self) -> Result<&Shelf> {
        self.0.store.as_ref().map(|(shelf, _)| shelf).map_err(|Unusable { why, advice }| {
            Error::new(Reason::CacheUnavailable, format!("nothing can be cached: {why}"))
                .with("advice", *advice)
        })
    }

    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        self.shelf().ok().map(|shelf| shelf.path().to_owned())
    }

    fn unavailable(&self, Unusable { why, advice }: &Unusable) -> Condition {
        Condition {
            kind: ConditionKind::CacheUnavailable,
            severity: Severity::Warning,
            message: format!("nothing can be cached: {why}"),
            advice: (*advice).to_owned(),
            since: self.0.clock.wall(),
            details: Vec::new(),
        }
    }

    /// Takes a segment's name away, soon. Called by the runner as the owner says.
    pub fn evict(&self, digest: Digest) {
        // Its thread is gone only because the server ends.
        let _ = self.0.evictions.send(digest);
    }

    /// Writes down a lease that is about to be granted, for the next coordinator.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE; RAM_EXHAUSTED when there is no room for that either.
    pub fn keep_lease(&self, lease: &Lease) -> Result<()> {
        self.shelf()?;
        let Ok((_, ledger)) = &self.0.store else { return Ok(()) };
        ledger.keep(lease).map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => {
                Error::new(Reason::RamExhausted, "the tmpfs has no room left to write down a lease")
            }
            _ => {
                let message =
                    format!("a lease cannot be written down in the runtime directory's `leases`: {error}");
                Error::new(Reason::CacheUnavailable, message).with(
                    "advice",
                    "start the server again, with a runtime directory that nobody else touches",
                )
            }
        })
    }

    /// Whoever holds this lease wants to know of its end; with why, if somebody revoked it. It ends with their process.
    pub fn hear_of(&self, id: LeaseId, process: Option<u32>) -> oneshot::Receiver<String> {
        let (tell, told) = oneshot::channel();
        let (process, is_late) = match process.map(|process| self.process(process)) {
            Some(Ok(process)) => (Some(process), false),
            Some(Err(Errno::SRCH)) => (None, true),
            // It cannot be watched: the stream alone says when it ends.
            Some(Err(_)) | None => (None, false),
        };
        self.0.streams.insert(id, Stream { tell, process, is_late });
        told
    }

    /// The descriptor of a process. One that is gone already may have left its connection to a child.
    fn process(&self, process: u32) -> std::result::Result<Arc<OwnedFd>, Errno> {
        let mut known = self.0.processes.entry(process).or_default();
        if let Some(descriptor) = known.upgrade() {
            return Ok(descriptor);
        }
        let id = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
        let descriptor = Arc::new(pidfd_open(id, PidfdFlags::empty())?);
        *known = Arc::downgrade(&descriptor);
        Ok(descriptor)
    }

    /// Leases whose processes have ended.
    fn orphans(&self) -> Vec<LeaseId> {
        self.0.processes.retain(|_, process| process.strong_count() > 0);
        let has_ended = |process: &Arc<OwnedFd>| {
            let mut asked = [PollFd::new(&**process, PollFlags::IN)];
            poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ended| ended > 0)
        };
        let known = self.0.processes.iter().filter_map(|entry| entry.value().upgrade());
        let ended: Vec<Arc<OwnedFd>> = known.filter(has_ended).collect();
        let is_orphan = |stream: &Stream| {
            let process = stream.process.as_ref();
            stream.is_late || process.is_some_and(|process| ended.iter().any(|one| Arc::ptr_eq(one, process)))
        };
        let streams = self.0.streams.iter().filter(|entry| is_orphan(entry.value()));
        streams.map(|entry| *entry.key()).collect()
    }

    /// A lease has ended, or was not granted.
    pub fn lease_ended(&self, id: LeaseId, revoked: Option<&str>) {
        if let Ok((_, ledger)) = &self.0.store {
            ledger.forget(id);
        }
        let reason = revoked.unwrap_or_default().to_owned();
        if let Some((_, stream)) = self.0.streams.remove(&id) {
            let _ = stream.tell.send(reason);
        }
    }

    /// Ends the threads that read.
    pub fn close(&self) {
        self.0.pool.close();
    }
}

/// Lets a directory's group go through it, to what it is allowed to see below.
fn let_through(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = std::fs::metadata(directory)?.permissions();
    permissions.set_mode(permissions.mode() | 0o010);
    std::fs::set_permissions(directory, permissions)
}
