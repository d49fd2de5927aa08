//! The threads that read headers: each may be written off when its storage does not answer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hoist_domain::{FileIdentity, ModelContent, ModelId, ModelPath, Verdict};

use super::{DEFECT, Event, Scan, Work, spawn};
use crate::probe::probe;
use crate::walk::Unit;

/// Threads that read headers. They wait for the disk most of the time; SSDs like some depth.
pub(super) const READERS: usize = 8;

/// Threads that may be written off in one scan before it gives up.
pub(super) const SPARE_READERS: usize = 8;

/// A damaged file that was written to this recently may not be finished: it is looked at again when it is this old.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How often a reader that waits for that looks whether it is still wanted.
const BLINK: Duration = Duration::from_millis(50);

/// What a reader is at: the unit's path, and a number that changes with each.
#[derive(Debug, Default)]
pub(super) struct Desk {
    at: Mutex<Option<PathBuf>>,
    turns: AtomicU64,
}

/// A thread that reads: what it was last seen at, and since when.
pub(super) struct Watched {
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
    turn: u64,
    since: Duration,
}

/// The threads that read, and what each is at.
pub(super) struct Readers {
    pub(super) scan: Arc<Scan>,
    pub(super) taken: Arc<Mutex<Receiver<Work>>>,
    pub(super) events: Sender<Event>,
    pub(super) desks: Vec<Watched>,
    pub(super) spares: usize,
}

impl Readers {
    /// One more; false if there is no room for its thread.
    pub(super) fn add(&mut self) -> bool {
        let desk = Arc::new(Desk::default());
        let own = Arc::clone(&desk);
        let (scan, taken, events) = (Arc::clone(&self.scan), Arc::clone(&self.taken), self.events.clone());
        let thread = spawn(&self.scan, "catalog read", move || {
            loop {
                let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Work { unit, moved_from }) = next else { return };
                if scan.stop.load(Ordering::Relaxed) {
                    return;
                }
                *own.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(unit.path.clone());
                own.turns.fetch_add(1, Ordering::Relaxed);
                let event = read_settled(&scan, unit, moved_from);
                *own.at.lock().unwrap_or_else(PoisonError::into_inner) = None;
                if events.send(event).is_err() {
                    return;
                }
            }
        });
        let Some(thread) = thread else { return false };
        self.desks.push(Watched { desk, thread, turn: 0, since: Duration::ZERO });
        true
    }

    /// Writes off readers that have been at one unit for too long, or ended at it; what they were at, and why.
    pub(super) fn write_off(&mut self, now: Duration) -> Vec<(PathBuf, &'static str)> {
        let mut stuck = Vec::new();
        self.desks.retain_mut(|Watched { desk, thread, turn, since }| {
            let has_ended = thread.is_finished();
            let at = desk.at.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let turns = desk.turns.load(Ordering::Relaxed);
            if has_ended {
                stuck.extend(at.map(|path| (path, DEFECT)));
                return false;
            }
            if at.is_none() || turns != *turn {
                (*turn, *since) = (turns, now);
                return true;
            }
            if now.saturating_sub(*since) < self.scan.stuck_after {
                return true;
            }
            stuck.extend(at.map(|path| (path, "its storage does not answer")));
            false
        });
        for _ in &stuck {
            if self.spares > 0 {
                self.spares -= 1;
                self.add();
            }
        }
        stuck
    }
}

/// Reads a unit. One that is damaged and fresh is read again when whoever writes it has had the time to finish.
fn read_settled(scan: &Scan, unit: Unit, moved_from: Option<(ModelId, ModelPath)>) -> Event {
    let mut result = probe(&scan.roots, &unit);
    if let Some(stamp) = unsettled(scan, &result) {
        let span = i64::try_from(SETTLED_AFTER.as_nanos()).unwrap_or(i64::MAX);
        // However many are being written: the look waits for all of them once.
        let latest = *scan.settled_by.get_or_init(|| (scan.now_ns)().saturating_add(span));
        let settled = stamp.saturating_add(span).min(latest);
        while (scan.now_ns)() < settled && !scan.stop.load(Ordering::Relaxed) {
            std::thread::sleep(BLINK);
        }
        result = probe(&scan.roots, &unit);
        if unsettled(scan, &result).is_some_and(|now| now > stamp || settled == latest) {
            return Event::Unsettled { path: unit.path, moved_from };
        }
    }
    if is_another(&unit, &result) {
        return Event::Unsettled { path: unit.path, moved_from };
    }
    Event::Read { unit: Box::new(unit), result, moved_from }
}

/// Whether what was read is another file than the one that was compared: it took its place in between, and what the
/// comparison said is not of it.
fn is_another(unit: &Unit, result: &std::io::Result<Option<(ModelContent, u64)>>) -> bool {
    let Ok(Some((content, _))) = result else { return false };
    let Some(main) = unit.files.iter().find(|file| file.is_weights) else { return false };
    let read = content.files.iter().find(|file| file.path.as_path() == main.path);
    let key = |identity: FileIdentity| (identity.device, identity.inode);
    read.is_some_and(|read| key(read.identity) != key(main.identity))
}

/// When a damaged unit was last written to, if that was just now.
fn unsettled(scan: &Scan, result: &std::io::Result<Option<(ModelContent, u64)>>) -> Option<i64> {
    let Ok(Some((content, _))) = result else { return None };
    let stamps = content.files.iter().map(|file| file.identity.modified_ns.max(file.identity.changed_ns));
    let newest = stamps.max().filter(|_| content.verdict != Verdict::Ok)?;
    let age = (scan.now_ns)().checked_sub(newest)?;
    // A stamp from the future is a clock that was wrong, not a file that is being written.
    u64::try_from(age).is_ok_and(|age| Duration::from_nanos(age) < SETTLED_AFTER).then_some(newest)
}
