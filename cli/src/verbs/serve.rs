//! `hoist serve`: the coordinator, in this process; and `hoist config --offline`, which evaluates its settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_coordinator::listener::BindError;
use hoist_coordinator::{Loaded, Process, Ready, ServeError, Settings};
use hoist_runtime::config::{
    ConfigErrors, FlagValue, Sources, current_uid, default_dirs, list_text, process_environment,
};
use hoist_runtime::{Clock, Shutdown, Tasks, stop_signal, telemetry};

use crate::args::ServeArgs;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::verbs::config::Setting;

/// A terminal signals its whole process group, and what started the server may pass the signal on as well. Signals
/// this close to the first are one wish to stop; any shorter, and a busy machine would tell them apart.
const ONE_WISH: Duration = Duration::from_secs(1);

/// Runs a coordinator until it is told to stop.
pub(crate) fn run(args: &ServeArgs) -> Result<Exit> {
    let loaded = load(args)?;
    let logs = telemetry::init(loaded.settings.log_format, &loaded.settings.log_filter)
        .map_err(|cause| Error::usage(format!("log.filter: {cause}"), None))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("hoist")
        .build()
        .map_err(|cause| Error::failed(format!("cannot start threads: {cause}")))?;
    let ended = runtime.block_on(Box::pin(serve(loaded)));
    // Whatever still runs had its time; a blocking call that hangs must not keep the process.
    runtime.shutdown_background();
    drop(logs);
    ended
}

async fn serve(loaded: Loaded) -> Result<Exit> {
    let shutdown = Shutdown::new();
    let tasks = Tasks::new(shutdown.clone());
    let signalled = shutdown.clone();
    let (first, first_signal) = tokio::sync::oneshot::channel();
    let clock = Clock::system();
    let at = clock.clone();
    tasks.spawn("signals", hoist_runtime::OnError::Log, async move {
        let signal = stop_signal().await;
        let _ = first.send(at.monotonic());
        signalled.trigger(signal);
        Ok::<(), std::convert::Infallible>(())
    });
    let made = absent([&loaded.settings.state_dir, &loaded.settings.runtime_dir]);
    let process = Process { clock: clock.clone(), tasks, shutdown: shutdown.clone() };
    let serving = hoist_coordinator::serve(loaded, process, announce);
    let impatient = async {
        shutdown.triggered().await;
        // Asked to stop by a call, the task above still waits: the first signal is its own, only the next is one too many.
        let first = first_signal.await.unwrap_or_default();
        loop {
            let signal = stop_signal().await;
            if clock.monotonic().saturating_sub(first) >= ONE_WISH {
                break signal;
            }
        }
    };
    let ended = tokio::select! {
        ended = serving => ended,
        signal = impatient => {
            return Err(Error::interrupted(format!("stopped at once by a second signal ({signal})")));
        }
    };
    match ended {
        Ok(()) => match shutdown.reason() {
            Some(reason) if reason.starts_with("task ") => Err(Error::failed(reason)),
            _ => Ok(Exit::Done),
        },
        Err(error) => {
            remove_empty(&made);
            Err(refusal(&error))
        }
    }
}

/// Why it did not start, in the words of the command line.
fn refusal(error: &ServeError) -> Error {
    use std::io::ErrorKind::{AlreadyExists, NotADirectory, ReadOnlyFilesystem};
    let said = error.to_string();
    match error {
        ServeError::Bind(BindError::Directory { what, flag, path, cause }) => {
            let why = match cause.kind() {
                AlreadyExists => "it is not a directory;",
                NotADirectory => "a part of the path is not a directory;",
                ReadOnlyFilesystem => {
                    "its file system is mounted read-only; mount it writable (mount -o remount,rw), or"
                }
                _ => return Error::refused(said),
            };
            Error::refused(format!("cannot use {what} {path}: {why} choose another with {flag}"))
        }
        // The store keeps no more of the cause than its text.
        ServeError::Store(_) if said.contains("Read-only file system") => Error::refused(format!(
            "{said}; mount it writable (mount -o remount,rw), or choose another with --state-dir"
        )),
        ServeError::Bind(_) | ServeError::Store(_) => Error::refused(said),
        _ => Error::failed(said),
    }
}

/// What of these paths is not there yet, the deepest first.
fn absent(paths: [&Path; 2]) -> Vec<PathBuf> {
    let missing =
        |path: &&Path| path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    paths.into_iter().flat_map(|path| path.ancestors().take_while(missing)).map(Path::to_owned).collect()
}

/// Takes away the directories that a failed start made. One with something in it stays: the kernel sees to that.
fn remove_empty(made: &[PathBuf]) {
    for directory in made {
        let _ = std::fs::remove_dir(directory);
    }
}

/// The one line that scripts wait for.
fn announce(ready: &Ready) {
    use std::io::Write as _;
    let listen = ready.listen.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let mut stdout = std::io::stdout().lock();
    // Nobody may be listening; the server serves all the same.
    let _ = writeln!(stdout, "ready socket={} listen={listen}", ready.socket.display());
    let _ = stdout.flush();
}

/// The settings as this command line, environment and file make them.
fn load(args: &ServeArgs) -> Result<Loaded> {
    let errors = |errors: ConfigErrors| Error::usage(errors.to_string(), None);
    let sources = Sources::from_process(config_file(args), flags(args)).map_err(errors)?;
    Settings::load(sources).map_err(errors)
}

/// The file that was named, here or in HOIST_CONFIG, or the one in the usual place if there is one.
fn config_file(args: &ServeArgs) -> Option<PathBuf> {
    let environment = process_environment();
    let named = || environment.get("HOIST_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    args.config.clone().or_else(named).or_else(|| {
        let usual = default_dirs(&environment, current_uid()).config_file;
        usual.is_file().then_some(usual)
    })
}

fn flags(args: &ServeArgs) -> Vec<FlagValue> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let models: Vec<String> = args.models.iter().map(|path| path.display().to_string()).collect();
    let models = (!models.is_empty()).then(|| list_text(models.iter().map(String::as_str)));
    let workers = (!args.worker.is_empty()).then(|| list_text(args.worker.iter().map(String::as_str)));
    [
        ("models", "--models", models),
        ("state_dir", "--state-dir", path(&args.state_dir)),
        ("runtime_dir", "--runtime-dir", path(&args.runtime_dir)),
        ("socket", "--socket", path(&args.socket)),
        ("listen", "--listen", args.listen.clone()),
        // To the byte: in words it would be rounded.
        ("ram_budget", "--ram-budget", args.ram_budget.map(|budget| budget.0.to_string())),
        ("workers.devices", "--worker", workers),
        ("workers.start", "--no-workers", args.no_workers.then(|| "false".to_owned())),
        ("log.format", "--log-format", args.log_format.clone()),
        ("log.filter", "--log-filter", args.log_filter.clone()),
    ]
    .into_iter()
    .filter_map(|(key, flag, value)| value.map(|value| FlagValue { key, value, flag }))
    .collect()
}

/// What a server started with these flags here would run with.
pub(crate) fn offline(args: &ServeArgs) -> Result<Vec<Setting>> {
    let loaded = load(args)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded
        .entries
        .into_iter()
        .map(|entry| Setting {
            key: entry.key.to_owned(),
            value: entry.value,
            origin: entry.origin.to_string(),
            origin_detail: if entry.origin == hoist_runtime::config::Origin::Default {
                String::new()
            } else {
                entry.origin_detail
            },
            description: entry.description.to_owned(),
        })
        .collect())
}
