//! Whether anything may still be written: one answer for all who write.
//!
//! Shared by the engine and the exporter of one open store, which work on threads of their own. Whoever meets what
//! ends the store says so here, and from then on nobody writes. It must never be taken back: what is on disk is not
//! known any more, or is not ours.

use std::sync::OnceLock;

use crate::fault::Fault;

#[derive(Debug, Default)]
pub(crate) struct Standing(OnceLock<Fault>);

impl Standing {
    /// Why nothing may be written, if that is so.
    pub(crate) fn ended(&self) -> Option<Fault> {
        self.0.get().cloned()
    }

    /// Nothing may be written from here on. The first cause is the one that is told: later ones mostly follow from it.
    pub(crate) fn end(&self, fault: Fault) -> Fault {
        self.0.get_or_init(|| fault).clone()
    }
}
