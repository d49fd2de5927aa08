//! `hoist serve`: the coordinator, in this process; and `hoist config --offline`, which evaluates its settings.

use std::path::PathBuf;

use hoist_coordinator::{Loaded, Process, Ready, ServeError, Settings};
use hoist_runtime::config::{
    ConfigErrors, FlagValue, Sources, current_uid, default_dirs, process_environment,
};
use hoist_runtime::{Clock, Shutdown, Tasks, stop_signal, telemetry};

use crate::args::ServeArgs;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::verbs::config::Setting;

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
    tasks.spawn("signals", hoist_runtime::OnError::Log, async move {
        let signal = stop_signal().await;
        signalled.trigger(signal);
        let _ = first.send(());
        Ok::<(), std::convert::Infallible>(())
    });
    let process = Process { clock: Clock::system(), tasks, shutdown: shutdown.clone() };
    let serving = hoist_coordinator::serve(loaded, process, announce);
    let impatient = async {
        shutdown.triggered().await;
        // Asked to stop by a call, the task above still waits: the first signal is its own, only the next is one too many.
        let _ = first_signal.await;
        stop_signal().await
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
        Err(error @ ServeError::Bind(_)) => Err(Error::refused(error.to_string())),
        Err(error @ ServeError::Store(_)) => Err(Error::refused(error.to_string())),
        Err(error) => Err(Error::failed(error.to_string())),
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

/// The file that was named, or the one in the usual place if there is one.
fn config_file(args: &ServeArgs) -> Option<PathBuf> {
    args.config.clone().or_else(|| {
        let usual = default_dirs(&process_environment(), current_uid()).config_file;
        usual.is_file().then_some(usual)
    })
}

fn flags(args: &ServeArgs) -> Vec<FlagValue> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    [
        ("state_dir", "--state-dir", path(&args.state_dir)),
        ("runtime_dir", "--runtime-dir", path(&args.runtime_dir)),
        ("socket", "--socket", path(&args.socket)),
        ("listen", "--listen", args.listen.clone()),
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
            origin: format!("{:?}", entry.origin).to_lowercase(),
            origin_detail: if entry.origin == hoist_runtime::config::Origin::Default {
                String::new()
            } else {
                entry.origin_detail
            },
            description: entry.description.to_owned(),
        })
        .collect())
}
