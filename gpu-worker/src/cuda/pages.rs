//! Segments whose pages the card reads by itself: registered once, a window at a time, while there is nothing else to do.
//!
//! ```text
//!  loaded by the ring ─► mapped ─► window by window registered ─► whole: the next loads copy from here ─► unused, or evicted: let go
//! ```
//! To register takes ten times as long as to copy: no load waits for it. What is mapped here is open, and what is open is not evicted: so
//! it is let go of a minute after its last use.
#![expect(unsafe_code, reason = "registered pages are a promise that they stay mapped")]

use std::rc::Rc;

use hoist_domain::Digest;
use hoist_segment::{Attached, Opened};

use super::context::Context;
use super::driver::Fault;
use super::lanes::Registered;

/// Looks at the card without a use of a segment, after which it is let go of: a minute's.
const MOST_LOOKS: u32 = 120;

/// What is registered at once: some 90 ms of a thread.
const WINDOW: usize = 256 << 20;

/// All that is kept so.
#[derive(Debug)]
pub(crate) struct Pages {
    kept: Vec<Kept>,
    /// What is registered at once, in whole pages. No copy crosses from one to the next.
    pub(super) window: usize,
}

/// One segment. Fields are dropped in this order: nothing is registered that is not mapped.
#[derive(Debug)]
struct Kept {
    registered: Vec<Registered>,
    attached: Attached,
    opened: Opened,
    digest: Digest,
    /// Since its last use.
    looks: u32,
    window: usize,
    /// The file and the place in it from which on nothing is registered. None: all of it is.
    next: Option<(usize, usize)>,
}

impl Pages {
    pub(crate) const fn new() -> Self {
        Self { kept: Vec::new(), window: WINDOW }
    }

    /// Begins with a segment, unless it is kept already. One that cannot be mapped is none.
    pub(crate) fn begin(&mut self, digest: Digest, opened: Opened) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.digest == digest) {
            kept.looks = 0;
            return;
        }
        match Attached::of(&opened) {
            Ok(attached) => {
                let registered = Vec::new();
                let (window, next) = (self.window, Some((0, 0)));
                self.kept.push(Kept { registered, attached, opened, digest, looks: 0, window, next });
            }
            Err(error) => tracing::warn!(%digest, %error, "its pages are not registered"),
        }
    }

    /// Registers a window of something. Whether there is more to do.
    pub(crate) fn go_on(&mut self, context: &Rc<Context>) -> bool {
        let Some(at) = self.kept.iter().position(|kept| kept.next.is_some()) else { return false };
        if let Some(kept) = self.kept.get_mut(at)
            && let Err(fault) = kept.register(context)
        {
            // What fails for good is told by whoever looks next; what cannot be pinned is copied as before.
            tracing::warn!(digest = %kept.digest, %fault, "its pages are not registered");
            self.kept.remove(at);
        }
        self.kept.iter().any(|kept| kept.next.is_some())
    }

    /// The pages of a segment, all of them registered, and how many bytes at once.
    pub(crate) fn of(&self, digest: Digest) -> Option<(&Attached, u64)> {
        let is_whole = |kept: &&Kept| kept.digest == digest && kept.next.is_none();
        self.kept.iter().find(is_whole).map(|kept| (&kept.attached, kept.window as u64))
    }

    /// The card is looked at: lets go of what was not used for long, and of what is in RAM only for this any more.
    pub(crate) fn look(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.looks += 1);
        self.kept.retain(|kept| kept.looks < MOST_LOOKS && !kept.opened.is_evicted());
    }
}

impl Kept {
    fn register(&mut self, context: &Rc<Context>) -> Result<(), Fault> {
        let Some((file, from)) = self.next else { return Ok(()) };
        let pages = self.attached.files().nth(file);
        self.next = match pages.map(|pages| pages.get(from..).unwrap_or_default()) {
            None => {
                tracing::info!(digest = %self.digest, bytes = %self.opened.length(), "its pages are registered");
                None
            }
            // An empty file has no pages.
            Some([]) => Some((file + 1, 0)),
            Some(rest) => {
                let some = rest.get(..self.window).unwrap_or(rest);
                // SAFETY: they are of `attached`, which is read-only, not changed and dropped after what is registered of it.
                self.registered.push(unsafe { Registered::pages(context, some) }?);
                Some((file, from + some.len()))
            }
        };
        Ok(())
    }
}
