//! Closed loops: each caller sends its next call when it has the answer to the last one.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tonic::Status;

use super::figures::{now, per_mille};

/// What a number of callers saw during one slice of a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Slice {
    pub(super) latencies: Vec<Duration>,
    pub(super) elapsed: Duration,
}

impl Slice {
    pub(super) fn at(&mut self, rank: usize) -> Duration {
        per_mille(&mut self.latencies, rank)
    }

    pub(super) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs so many callers side by side. `make` gives each its source of calls; a caller ends when that gives none.
pub(super) async fn closed_loop<N, F>(callers: usize, make: impl Fn(usize) -> N) -> Result<Slice>
where
    N: FnMut() -> Option<F> + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send,
{
    let begun = now();
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let mut next = make(caller);
        running.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(call) = next() {
                let sent = now();
                call.await?;
                latencies.push(now().saturating_sub(sent));
            }
            Ok::<_, Status>(latencies)
        });
    }
    let mut slice = Slice::default();
    while let Some(ended) = running.join_next().await {
        slice.latencies.extend(ended??);
    }
    slice.elapsed = now().saturating_sub(begun);
    Ok(slice)
}
