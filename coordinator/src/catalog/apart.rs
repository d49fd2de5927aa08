//! Work that reads from storage, which may never answer: it is told to stop, and left behind if it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoist_domain::{Error, Reason, Result};
use tokio_util::sync::CancellationToken;

use super::Catalog;

/// From the wish to stop to giving up the wait. A healthy disk answers within milliseconds.
const MOMENT: Duration = Duration::from_millis(500);

/// Tells the work to stop, at the latest when nobody waits for it any more.
struct Leash(Arc<AtomicBool>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Catalog {
    /// Runs `work` where it may block. It looks at the flag now and then, and ends soon after that is set; if its thread
    /// hangs in a read instead, that thread is left to itself.
    ///
    /// # Errors
    /// SOURCE_UNRESPONSIVE when it was left behind; INTERNAL when it panicked.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        work: impl FnOnce(&Arc<AtomicBool>) -> T + Send + 'static,
    ) -> Result<T> {
        let leash = Leash(Arc::default());
        let flag = Arc::clone(&leash.0);
        let running = self.0.tasks.run_blocking(name, move || work(&flag));
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = stop.cancelled() => {
                leash.0.store(true, Ordering::Relaxed);
                tokio::time::timeout(MOMENT, &mut running).await.map_err(|_| left_behind())?
            }
        };
        ended.map_err(|panicked| {
            Error::new(
                Reason::Internal,
                format!("it ended by a defect of Hoist ({panicked}); report it with the server's log"),
            )
        })
    }
}

fn left_behind() -> Error {
    Error::new(
        Reason::SourceUnresponsive,
        "the storage does not answer: a read was left behind; check the disks of the roots",
    )
}
