//! How many threads looks have: one that hangs in a read outlives its look, and whoever begins looks must know of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that are at work, or left behind in a read that does not return. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<AtomicUsize>);

impl Threads {
    /// Counts one more, until what is returned is dropped.
    #[must_use]
    pub fn enter(&self) -> impl Drop + Send + use<> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Alive(Threads);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_counts_until_it_ends_however_it_does() {
        let threads = Threads::default();
        let (own, other) = (threads.enter(), threads.clone().enter());
        assert_eq!(threads.count(), 2);
        drop(other);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _own = own;
            panic!("on purpose");
        }));
        assert!(ended.is_err());
        assert_eq!(threads.count(), 0);
    }
}
