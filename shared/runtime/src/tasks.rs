//! Every task, named thread and blocking call of the process, each with a name and a policy for its failure.
//!
//! `main` makes one [`Tasks`] and hands clones to whoever spawns; nobody spawns past it (`clippy.toml` holds that).
//! So no part of the process can die unseen: its end is either success, an abort by its owner, or a failure that is
//! logged and, by policy, stops the process. Nothing here restarts anything.
//!
//! ```text
//!   spawned --> running --> finished*              future or function returned Ok
//!                       --> failed*                it returned Err, or panicked: the policy applies
//!                       --> aborted*               TaskHandle::abort, or the runtime went away
//! ```

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

use crate::panics::catch;
use crate::shutdown::{Gate, Shutdown};

/// What follows when a task returns an error or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The process cannot do its work without this task: stop it, with "task NAME failed: ..." as the reason.
    Shutdown,
    /// Only this task's work is lost: log it and go on.
    Log,
}

/// Spawns, counts and names the work of the process. Every clone is the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    /// Held once by everything that runs, under its name.
    live: Gate,
    panics: Arc<AtomicU64>,
}

impl Tasks {
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, live: Gate::new(), panics: Arc::default() }
    }

    /// Starts a task on the current runtime. Dropping the handle leaves it running.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn spawn<F, E>(&self, name: impl Into<Cow<'static, str>>, on_error: OnError, future: F) -> TaskHandle
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let name = name.into();
        let hold = self.live.hold(name.as_ref());
        let span = span(&name);
        let tasks = self.clone();
        let supervised = async move {
            let outcome = caught(future.instrument(span)).await;
            tasks.settle(&name, on_error, outcome);
            drop(hold);
        };
        #[expect(clippy::disallowed_methods, reason = "this is the place that the lint sends everyone to")]
        let join = tokio::spawn(supervised);
        TaskHandle { join }
    }

    /// Starts a named OS thread, for work that owns a device or blocks for the life of the process. If the caller
    /// is on a runtime, the thread can spawn on it too. The kernel shows the first 15 bytes of the name.
    ///
    /// # Errors
    /// The machine has no room for another thread, or the name holds a NUL.
    pub fn spawn_thread<F, E>(
        &self,
        name: impl Into<Cow<'static, str>>,
        on_error: OnError,
        f: F,
    ) -> std::io::Result<ThreadHandle>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Display + Send + 'static,
    {
        let name = name.into();
        if name.contains('\0') {
            // The standard library would panic.
            return Err(ErrorKind::InvalidInput.into());
        }
        let hold = self.live.hold(name.as_ref());
        let span = span(&name);
        let tasks = self.clone();
        let runtime = Handle::try_current().ok();
        let (ended, end) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.clone().into_owned()).spawn(move || {
            let _entered = runtime.as_ref().map(Handle::enter);
            let outcome = catch(|| span.in_scope(f));
            tasks.settle(&name, on_error, outcome);
            drop(hold);
            drop(ended);
        })?;
        Ok(ThreadHandle { end })
    }

    /// Runs `f` where it may block, and waits for it. It runs to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// `f` panicked, or the runtime was shut down before `f` began.
    pub async fn run_blocking<T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskPanicked>
    where
        T: Send + 'static,
    {
        let name = name.into();
        let hold = self.live.hold(name.as_ref());
        let span = span(&name);
        let tasks = self.clone();
        let blocking_name = name.clone();
        let supervised = move || {
            let outcome = catch(|| span.in_scope(f));
            if let Err(message) = &outcome {
                tasks.record_panic(&blocking_name, message);
            }
            drop(hold);
            outcome
        };
        #[expect(clippy::disallowed_methods, reason = "this is the place that the lint sends everyone to")]
        let outcome = tokio::task::spawn_blocking(supervised).await;
        // Panics are caught inside, so a join error can only be the end of the runtime.
        let outcome = outcome.unwrap_or_else(|_| Err("the runtime stopped before it began".to_owned()));
        outcome.map_err(|message| TaskPanicked { name: name.into_owned(), message })
    }

    /// Panics seen since the start, in tasks, threads, blocking calls and recorded ones.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Counts and logs a panic that was caught elsewhere, such as one in a request.
    pub fn record_panic(&self, name: &str, message: &str) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(task = name, panic = message, "task panicked");
    }

    /// The names of everything that runs now, the oldest first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.live.holders()
    }

    /// Returns when nothing runs. Never, then, if called from something that was spawned here.
    pub async fn wait_idle(&self) {
        self.live.wait_open().await;
    }

    /// Applies the policy to the end of a task or thread. A panic is an error like any other.
    fn settle<E: Display>(&self, name: &str, on_error: OnError, outcome: Result<Result<(), E>, String>) {
        let problem = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                let error = error.to_string();
                match on_error {
                    OnError::Shutdown => tracing::error!(task = name, error, "task failed"),
                    OnError::Log => tracing::warn!(task = name, error, "task failed"),
                }
                error
            }
            Err(message) => {
                self.record_panic(name, &message);
                format!("panicked: {message}")
            }
        };
        if on_error == OnError::Shutdown {
            self.shutdown.trigger(format!("task {name} failed: {problem}"));
        }
    }
}

/// A root span, because a task outlives whoever started it, and at ERROR, so that no filter hides the name.
fn span(name: &str) -> Span {
    tracing::error_span!(parent: None, "task", task = name)
}

/// The future's output, or the message of its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(move |context| match catch(|| future.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(message) => Poll::Ready(Err(message)),
    })
    .await
}

/// A spawned task. Dropping the handle leaves the task running.
#[derive(Debug)]
pub struct TaskHandle {
    join: JoinHandle<()>,
}

impl TaskHandle {
    /// Stops the task at its next await. Its owner wanted that, so no policy applies.
    pub fn abort(&self) {
        self.join.abort();
    }

    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// Returns when the task has ended, however it ended; its policy has been applied by then.
    pub async fn join(self) {
        // The error says "aborted", which is an end like any other here.
        let _ = self.join.await;
    }
}

/// A named OS thread. Dropping the handle leaves the thread running.
#[derive(Debug)]
pub struct ThreadHandle {
    end: oneshot::Receiver<()>,
}

impl ThreadHandle {
    /// Returns when the thread's function has ended, however it ended; its policy has been applied by then.
    pub async fn join(self) {
        // Nothing is ever sent: the thread drops its side, and the error is the message.
        let _ = self.end.await;
    }
}

/// A blocking call did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPanicked {
    pub name: String,
    pub message: String,
}

impl Display for TaskPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} panicked: {}", self.name, self.message)
    }
}

impl std::error::Error for TaskPanicked {}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt;

    use super::*;

    fn tasks() -> (Tasks, Shutdown) {
        let shutdown = Shutdown::new();
        (Tasks::new(shutdown.clone()), shutdown)
    }

    #[tokio::test]
    async fn an_error_stops_the_process_only_where_the_policy_says_so() {
        let (tasks, shutdown) = tasks();
        tasks.spawn("probe", OnError::Log, async { Err("no disk") }).join().await;
        assert!(!shutdown.is_triggered());

        tasks.spawn("store", OnError::Shutdown, async { Ok::<_, String>(()) }).join().await;
        assert!(!shutdown.is_triggered());

        tasks.spawn("store", OnError::Shutdown, async { Err("disk full") }).join().await;
        assert_eq!(shutdown.reason().as_deref(), Some("task store failed: disk full"));
        assert_eq!(tasks.panics(), 0);
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_is_an_error_of_its_task() {
        let (tasks, shutdown) = tasks();
        let poisoned = |text: &'static str| async move {
            tokio::task::yield_now().await;
            if !text.is_empty() {
                panic!("{text}");
            }
            Ok::<_, String>(())
        };
        tasks.spawn("probe", OnError::Log, poisoned("first")).join().await;
        assert_eq!((tasks.panics(), shutdown.reason()), (1, None));

        tasks.spawn("store", OnError::Shutdown, poisoned("second")).join().await;
        assert_eq!(tasks.panics(), 2);
        assert_eq!(shutdown.reason().as_deref(), Some("task store failed: panicked: second"));

        tasks.record_panic("request", "third");
        assert_eq!(tasks.panics(), 3);
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn a_thread_obeys_the_same_policy() {
        let (tasks, shutdown) = tasks();
        let seen = Arc::new(std::sync::Mutex::new(None));
        let name_seen = seen.clone();
        let named = move || {
            *name_seen.lock().unwrap() = std::thread::current().name().map(str::to_owned);
            // A thread may spawn as its starter could.
            assert!(Handle::try_current().is_ok());
            Ok::<_, String>(())
        };
        tasks.spawn_thread("reader-0", OnError::Shutdown, named).unwrap().join().await;
        assert_eq!(seen.lock().unwrap().as_deref(), Some("reader-0"));
        assert_eq!((tasks.panics(), shutdown.reason()), (0, None));

        let nameless = tasks.spawn_thread("a\0b", OnError::Log, || Ok::<_, String>(()));
        assert_eq!(nameless.unwrap_err().kind(), ErrorKind::InvalidInput);

        let broken = || -> Result<(), String> { panic!("short read") };
        tasks.spawn_thread("reader-1", OnError::Shutdown, broken).unwrap().join().await;
        assert_eq!(tasks.panics(), 1);
        assert_eq!(shutdown.reason().as_deref(), Some("task reader-1 failed: panicked: short read"));
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn a_blocking_call_returns_its_value_or_its_panic() {
        let (tasks, shutdown) = tasks();
        assert_eq!(tasks.run_blocking("sum", || 2 + 2).await, Ok(4));
        let broken = tasks.run_blocking("hash", || -> u8 { panic!("bad block") }).await;
        assert_eq!(broken.unwrap_err().to_string(), "task hash panicked: bad block");
        assert_eq!((tasks.panics(), shutdown.reason()), (1, None));
    }

    #[tokio::test]
    async fn live_work_is_named_until_it_ends_or_is_aborted() {
        let (tasks, shutdown) = tasks();
        let (release, released) = oneshot::channel::<()>();
        let waiting = tasks.spawn("waiting", OnError::Shutdown, released);
        let stuck = tasks.spawn(format!("stuck-{}", 1), OnError::Shutdown, pending::<Result<(), String>>());
        assert_eq!(tasks.names(), ["waiting", "stuck-1"]);

        let mut idle = Box::pin(tasks.wait_idle());
        stuck.abort();
        stuck.join().await;
        assert_eq!(tasks.names(), ["waiting"]);
        assert!(idle.as_mut().now_or_never().is_none());

        release.send(()).unwrap();
        waiting.join().await;
        idle.await;
        assert_eq!(shutdown.reason(), None, "an abort is no failure");
    }

    /// Collects what is logged on one thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_of_a_task_carry_its_name() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone());
        let _default = tracing::subscriber::set_default(subscriber.finish());
        let (tasks, _) = tasks();
        let working = async {
            tracing::info!("working");
            Err("gave up")
        };
        tasks.spawn("scan", OnError::Log, working).join().await;
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("task{task=\"scan\"}: hoist_runtime::tasks::tests: working"), "{text}");
        assert!(
            text.contains("WARN hoist_runtime::tasks: task failed task=\"scan\" error=\"gave up\""),
            "{text}"
        );
    }
}
