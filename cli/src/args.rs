//! The command line: what can be written, and what each help text says. Nothing here acts.
//!
//! Flags that every client verb takes are global: `hoist --json status` and `hoist status --json` are the same. None
//! is bound to a variable: clap would then name it in every usage line. What reads the environment says so itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hoist_domain::{Bytes, Epoch, Position, Revision};
use hoist_wire::v1;

mod examples;
mod models;
mod parse;

pub(crate) use models::{
    ComponentsArgs, DigestArgs, DupesArgs, EditArgs, Field, Level, LsArgs, RmArgs, ScanArgs, ShowArgs,
    TagArgs, ValidateArgs, VerdictsArgs,
};
pub(crate) use parse::{parse, what_is_wrong};

/// Serves model weights to every process of this machine.
#[derive(Debug, Parser)]
#[command(name = "hoist", version, arg_required_else_help = true, after_help = examples::FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Where the server listens: unix:///path/to/socket or http://host:port [default: HOIST_ENDPOINT, else the
    /// default socket]
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) endpoint: Option<String>,

    /// Print JSON on stdout: one value, or for a stream one value a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How long the server may take to answer, for instance 500ms or 2m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, global = true)]
    pub(crate) timeout: Option<Duration>,

    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto, global = true)]
    pub(crate) color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the server in the foreground
    ///
    /// Prints one line, `ready socket=... listen=...`, on stdout once it serves. Logs go to stderr. SIGTERM or
    /// SIGINT stops it: running operations get a grace period. Another signal, a second later or
    /// more, stops it at once.
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// List the models
    #[command(visible_alias = "list", after_help = examples::LS)]
    Ls(LsArgs),
    /// Show all that is known about models
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Look for models now
    ///
    /// The server does so by itself when it starts and when files change. Without --wait, the operation's name is
    /// printed: `hoist ops wait` tells the end.
    #[command(after_help = examples::SCAN)]
    Scan(ScanArgs),
    /// Look closely into models: are they sound, can a device take them
    #[command(after_help = examples::VALIDATE)]
    Validate(ValidateArgs),
    /// List what is wrong with models, worst first
    #[command(after_help = examples::VERDICTS)]
    Verdicts(VerdictsArgs),
    /// Read models' bytes and keep the digests of their components
    ///
    /// The server does so by itself when the machine is idle. Ctrl-C gives it up, unless somebody else wants it too.
    #[command(after_help = examples::DIGEST)]
    Digest(DigestArgs),
    /// Show components that several models share, and what that saves
    #[command(after_help = examples::DUPES)]
    Dupes(DupesArgs),
    /// List the components of all models, equal ones together
    #[command(after_help = examples::COMPONENTS)]
    Components(ComponentsArgs),
    /// Show where models are looked for
    #[command(after_help = examples::ROOTS)]
    Roots,
    /// Add and take away tags of a model
    #[command(after_help = examples::TAG)]
    Tag(TagArgs),
    /// Change what people say about a model: its name, aliases, description, type ...
    #[command(after_help = examples::EDIT)]
    Edit(EditArgs),
    /// Take models out of the catalog, and with --files off the disk
    #[command(after_help = examples::RM)]
    Rm(RmArgs),
    /// Show the machine, or what is known about the named things
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Follow every change of the state
    #[command(after_help = examples::WATCH)]
    Watch(WatchArgs),
    /// List, show, wait for, cancel or forget operations
    #[command(after_help = examples::OPS, args_conflicts_with_subcommands = true)]
    Ops(OpsArgs),
    /// Show the running server's settings and where each came from
    #[command(after_help = examples::CONFIG)]
    Config(ConfigArgs),
    /// Check this machine, or measure it with --probe
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Stop the server, and wait until it has ended
    #[command(after_help = examples::SHUTDOWN)]
    Shutdown(ShutdownArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// What a server can be started with. Every setting can also stand in the file or in a HOIST_ variable.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// A folder to look for models in; may be repeated [default: the usual places that exist: the Hugging Face cache, ./models,
    /// ~/ComfyUI/models, ~/stable-diffusion-webui/models, ~/models]
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Vec<PathBuf>,

    /// What must survive a restart [default: ~/.local/state/hoist]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Where the socket is, and later the weights in RAM; on tmpfs [default: /dev/shm/hoist-UID]
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// Path of the Unix socket [default: hoist.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Also serve gRPC over TCP on this loopback host:port; port 0 takes any
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,

    /// Settings file in TOML [default: HOIST_CONFIG, else ~/.config/hoist/hoist.toml if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How log lines are written: human or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,

    /// What is logged: a level, or target=level pairs
    #[arg(long, value_name = "FILTER")]
    pub(crate) log_filter: Option<String>,

    // This version starts none, so asking for none changes nothing; scripts may already say it.
    #[arg(long, hide = true)]
    pub(crate) no_workers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Evaluate file, environment and the flags of `hoist serve` here, without a server
    #[arg(long)]
    pub(crate) offline: bool,

    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// `machine`, `operations/ID`, `conditions/KIND`, the unique start or end of an operation's id, or a model, named
    /// as for `hoist show` [default: machine]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only things of this kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_enum, ignore_case = true)]
    pub(crate) kinds: Vec<Kind>,

    /// Only the thing with this name, written as for `hoist status`; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Only operations in this state (other kinds pass); may be repeated
    #[arg(long = "state", value_name = "STATE", value_enum, ignore_case = true)]
    pub(crate) states: Vec<State>,

    /// Go on after this position, for instance 3.1042, in place of starting with a snapshot
    #[arg(long, value_name = "EPOCH.REVISION", value_parser = position)]
    pub(crate) from: Option<Position>,

    /// Also show how far running operations are, this often [without a value: 500ms]
    #[arg(long, value_name = "EVERY", value_parser = duration, num_args = 0..=1, default_missing_value = "500ms")]
    pub(crate) progress: Option<Duration>,

    /// Print the snapshot and end
    #[arg(long, conflicts_with_all = ["from", "progress"])]
    pub(crate) once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Machine,
    Operation,
    Condition,
    Model,
}

impl From<Kind> for v1::ResourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Machine => Self::Machine,
            Kind::Operation => Self::Operation,
            Kind::Condition => Self::Condition,
            Kind::Model => Self::Model,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<State> for v1::OperationState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct OpsArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<OpsVerb>,
    #[command(flatten)]
    pub(crate) list: OpsListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OpsVerb {
    /// List operations, the newest first (also without `list`)
    #[command(after_help = examples::OPS)]
    List(OpsListArgs),
    /// Show one operation, with its result
    #[command(visible_alias = "get", after_help = examples::OPS_SHOW)]
    Show(OpsIdArgs),
    /// Wait until an operation ends; the exit code says how
    ///
    /// Here --timeout says how long to wait for the end: exit code 6 when it passes. Without it, for ever.
    #[command(after_help = examples::OPS_WAIT)]
    Wait(OpsIdArgs),
    /// Ask an operation to stop
    #[command(after_help = examples::OPS_CANCEL)]
    Cancel(OpsIdArgs),
    /// Forget a finished operation
    #[command(visible_alias = "forget", after_help = examples::OPS_DELETE)]
    Delete(OpsIdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OpsListArgs {
    /// Terms joined by AND: `state = running`, `kind = scan_models`, `done = true`, in either case
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    pub(crate) filter: String,

    /// The most to show
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// Also what the server does by itself, as reading digests while the machine is idle
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OpsIdArgs {
    /// The operation: its id, `operations/ID`, or the unique start or end of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Measure disk, tmpfs and memory speed through the server, in place of the checks
    #[arg(long)]
    pub(crate) probe: bool,

    /// With --probe: bytes to move for each kind, 16MiB to 256GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "probe")]
    pub(crate) bytes: Bytes,

    /// With --probe: measure only this; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_enum, requires = "probe")]
    pub(crate) kinds: Vec<Probe>,

    /// The state directory to check [default: HOIST_STATE_DIR, else the running server's, else the default one]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// The runtime directory to check [default: HOIST_RUNTIME_DIR, else the running server's, else the default one]
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Probe {
    DiskRead,
    TmpfsWrite,
    MemoryCopy,
}

impl From<Probe> for v1::MeasurementKind {
    fn from(probe: Probe) -> Self {
        match probe {
            Probe::DiskRead => Self::DiskRead,
            Probe::TmpfsWrite => Self::TmpfsWrite,
            Probe::MemoryCopy => Self::MemoryCopy,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShutdownArgs {
    /// How long running operations may go on, at most 10s [default: the server's `shutdown.grace`]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) grace: Option<Duration>,

    /// Return as soon as the server has agreed to stop
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, String> {
    hoist_runtime::config::parse_duration(text).map_err(|error| error.to_string())
}

fn position(text: &str) -> Result<Position, String> {
    text.split_once('.')
        .and_then(|(epoch, revision)| {
            Some(Position { epoch: Epoch(epoch.parse().ok()?), revision: Revision(revision.parse().ok()?) })
        })
        .ok_or_else(|| "write epoch and revision, for instance 3.1042".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_epoch_and_revision() {
        assert_eq!(position("3.1042").unwrap(), Position { epoch: Epoch(3), revision: Revision(1042) });
        for text in ["", "3", "3.", ".4", "3.4.5", "-1.2", "a.b"] {
            assert!(position(text).is_err(), "{text}");
        }
    }
}
