//! The lines between those who log and the one thread that writes.
//!
//! `telemetry` makes one queue; the subscriber pushes into it from every thread, and the writer's thread empties it.
//! Pushing never waits for the writer: the lock is held for the copy of one line, never for a write.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long the writer rests when stderr is non-blocking (some terminal multiplexers make it so) and full.
const FULL_REST: Duration = Duration::from_millis(5);

/// Every clone is the same queue.
#[derive(Clone, Debug)]
pub(super) struct LineQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// `pending` never grows beyond this; a line that would make it is dropped.
    capacity_bytes: usize,
    dropped: &'static AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// No line is taken any more.
    closed: bool,
    /// The writer has written all it was given, and is gone. Implies `closed`.
    drained: bool,
}

impl LineQueue {
    pub(super) fn new(capacity_bytes: usize, dropped: &'static AtomicU64) -> Self {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), capacity_bytes, dropped };
        Self { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_lines(&self, count: u64) {
        self.shared.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.closed || state.pending.len().saturating_add(line.len()) > self.shared.capacity_bytes {
            self.drop_lines(1);
            return;
        }
        let was_empty = state.pending.is_empty();
        state.pending.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.shared.changed.notify_all();
        }
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.shared.changed.notify_all();
    }

    /// Whether the writer has written everything within the given time. Only after [`close`](Self::close).
    pub(super) fn wait_drained(&self, patience: Duration) -> bool {
        let state = self.state();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| !state.drained);
        waited.unwrap_or_else(PoisonError::into_inner).0.drained
    }

    /// The writer: returns when the queue is closed and empty.
    pub(super) fn write_to(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        loop {
            let idle = |state: &mut State| state.pending.is_empty() && !state.closed;
            let mut state =
                self.shared.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.pending.is_empty() {
                state.drained = true;
                drop(state);
                self.shared.changed.notify_all();
                return;
            }
            std::mem::swap(&mut batch, &mut state.pending);
            drop(state);
            self.write_batch(&batch, out);
            batch.clear();
        }
    }

    /// Writes what it can. When the output refuses, the rest of this batch is dropped and the next one is tried
    /// again, because a refusal may pass (a full disk behind a redirection).
    fn write_batch(&self, mut rest: &[u8], out: &mut impl Write) {
        while !rest.is_empty() {
            match out.write(rest) {
                Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_REST),
                Ok(_) | Err(_) => {
                    let lines = rest.iter().filter(|byte| **byte == b'\n').count();
                    self.drop_lines(u64::try_from(lines).unwrap_or(u64::MAX));
                    return;
                }
            }
        }
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self)
    }
}

/// The subscriber hands it one whole line a call, and is told that all of it went well: it has no better answer.
#[derive(Debug)]
pub(super) struct LineWriter<'a>(&'a LineQueue);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::scope;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn queue(capacity_bytes: usize) -> (LineQueue, &'static AtomicU64) {
        let dropped: &'static AtomicU64 = Box::leak(Box::default());
        (LineQueue::new(capacity_bytes, dropped), dropped)
    }

    /// Says when a write begins, and blocks in it until it is let go on.
    struct Stuck {
        began: Sender<()>,
        go_on: Receiver<()>,
        written: Vec<u8>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.began.send(()).unwrap();
            // An error means that the test is over: go on.
            let _ = self.go_on.recv();
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_writer_drops_lines_and_delays_nobody() {
        let (queue, dropped) = queue(8);
        let (began, write_began) = channel();
        let (let_go, go_on) = channel();
        scope(|threads| {
            let writer = threads.spawn(|| {
                let mut out = Stuck { began, go_on, written: Vec::new() };
                queue.write_to(&mut out);
                out.written
            });
            queue.push(b"one\n");
            write_began.recv_timeout(PATIENCE).unwrap();

            // The writer is stuck, so 8 bytes fit and no more; were a push to wait, the test would hang here.
            for line in [b"two\n", b"tri\n", b"for\n", b"fiv\n"] {
                queue.push(line);
            }
            assert_eq!(dropped.load(Ordering::Relaxed), 2);

            queue.close();
            assert!(!queue.wait_drained(Duration::from_millis(1)), "a flush is bounded");
            drop(let_go);
            assert!(queue.wait_drained(PATIENCE));
            assert_eq!(writer.join().unwrap(), b"one\ntwo\ntri\n");

            queue.push(b"late\n");
            assert_eq!(dropped.load(Ordering::Relaxed), 3);
        });
    }

    /// Accepts a few bytes, is full once, then refuses for good.
    struct Failing {
        answers: std::vec::IntoIter<std::io::Result<usize>>,
    }

    impl Write for Failing {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            self.answers.next().unwrap_or_else(|| Err(ErrorKind::BrokenPipe.into()))
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_the_output_refuses_are_counted() {
        let (queue, dropped) = queue(100);
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(line.as_bytes());
        }
        queue.close();
        let answers =
            vec![Err(ErrorKind::Interrupted.into()), Ok(2), Err(ErrorKind::WouldBlock.into()), Ok(3)];
        queue.write_to(&mut Failing { answers: answers.into_iter() });
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "the first line was written, the second only in part");
        assert!(queue.wait_drained(Duration::ZERO));
    }
}
