//! Who waits for an operation, and what it means when the last one goes away.
//!
//! An operation is cancelled with its last waiter only if everybody who asked for it said so. Whoever asked without
//! that flag, or asked without waiting, wants it done whether or not they look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_domain::{OperationId, Principal};
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
    pub fn want(&self, id: OperationId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id).or_default().wanted = true;
    }

    /// Somebody waits, and wants it only as long as they do.
    #[must_use]
    pub fn wait(&self, id: OperationId, by: Principal, control: &Control, tasks: &Tasks) -> Waiting {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().waiting += 1;
        Waiting {
            id,
            by,
            waiters: self.clone(),
            control: control.clone(),
            tasks: tasks.clone(),
            answered: false,
        }
    }

    /// The operation has ended: who waited does not matter any more.
    pub fn forget(&self, id: OperationId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// One waiter less. Whether that was the last one, of an operation that nobody else wants.
    fn leave(&self, id: OperationId) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(interest) = all.get_mut(&id) else { return false };
        interest.waiting -= 1;
        interest.waiting == 0 && !interest.wanted
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
    /// The caller has got an answer, if only "not done yet": from now on the operation goes on by itself.
    pub fn answered(mut self) {
        self.answered = true;
        self.waiters.want(self.id);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.waiters.leave(self.id) || self.answered {
            return;
        }
        let (control, id, by) = (self.control.clone(), self.id, self.by.clone());
        self.tasks.spawn(
            "cancel abandoned operation",
            OnError::Log,
            async move { control.cancel(id, by).await },
        );
    }
}
