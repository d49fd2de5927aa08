//! Who waits for an operation, and what it means when the last one goes away.
//!
//! An operation is cancelled with its last waiter only if everybody who asked for it said so. Whoever asked without
//! that flag, or asked without waiting, wants it done whether or not they look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_domain::{Lifecycle, OperationId, Principal};
use hoist_runtime::{OnError, Tasks};

use crate::control::Control;

#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<HashMap<OperationId, Interest>>>);

#[derive(Debug, Default)]
struct Interest {
    waiting: usize,
    /// Somebody wants it done even if nobody waits.
    wanted: bool,
}

impl Waiters {
    /// Somebody wants this operation done, come what may.
    pub fn want(&self, id: OperationId, control: &Control) {
        self.enter(id, control, |interest| interest.wanted = true);
    }

    /// Somebody waits, and wants it only as long as they do.
    #[must_use]
    pub fn wait(&self, id: OperationId, by: Principal, control: &Control, tasks: &Tasks) -> Waiting {
        self.enter(id, control, |interest| interest.waiting += 1);
        Waiting {
            id,
            by,
            waiters: self.clone(),
            control: control.clone(),
            tasks: tasks.clone(),
            answered: false,
        }
    }

    /// The operation has ended, and everybody can see that: who waited does not matter any more.
    pub(super) fn forget(&self, id: OperationId) {
        self.lock().remove(&id);
    }

    /// Notes an interest in an operation that has not ended. Its end is published before [`Self::forget`]: whoever
    /// comes after that sees it here, and leaves nothing behind.
    fn enter(&self, id: OperationId, control: &Control, note: impl FnOnce(&mut Interest)) {
        let mut all = self.lock();
        if control.view().state.operation(id).is_some_and(|operation| !operation.state.is_terminal()) {
            note(all.entry(id).or_default());
        }
    }

    /// One waiter less. Whether that was the last one, of an operation that nobody else wants.
    fn leave(&self, id: OperationId) -> bool {
        let mut all = self.lock();
        let Some(interest) = all.get_mut(&id) else { return false };
        interest.waiting = interest.waiting.saturating_sub(1);
        interest.waiting == 0 && !interest.wanted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, Interest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiter. Dropped before [`Self::answered`], it was a caller that went away.
#[derive(Debug)]
pub struct Waiting {
    id: OperationId,
    by: Principal,
    waiters: Waiters,
    control: Control,
    tasks: Tasks,
    answered: bool,
}

impl Waiting {
    /// The caller has got an answer, if only "not done yet": it did not go away. It may wait again.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.waiters.leave(self.id) || self.answered {
            return;
        }
        let (control, id, by) = (self.control.clone(), self.id, self.by.clone());
        self.tasks.spawn("cancel abandoned operation", OnError::Log, async move {
            control.cancel_surely(id, by).await
        });
    }
}
