//! The command line: what can be written, and what each help text says. Nothing here acts.
//!
//! Flags that every client verb takes are global: `hoist --json status` and `hoist status --json` are the same. None
//! is bound to a variable: clap would then name it in every usage line. What reads the environment says so itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hoist_domain::Bytes;
use hoist_wire::v1;

mod cache;
mod examples;
mod models;
mod parse;
mod residency;
mod state;
mod sync;

pub(crate) use cache::{
    Allow, Budget, CacheArgs, EvictArgs, HoldArgs, IdleTtl, LeasesArgs, LeasesVerb, PathArgs, PinArgs,
    PolicyArgs, PolicyPriority, Priority, RevokeArgs, SegmentsArgs,
};
pub(crate) use models::{
    ComponentsArgs, DigestArgs, DupesArgs, EditArgs, Field, Level, LsArgs, RmArgs, ScanArgs, ShowArgs,
    TagArgs, ValidateArgs, VerdictsArgs,
};
pub(crate) use parse::{parse, what_is_wrong};
pub(crate) use residency::{HowArgs, LoadArgs, PlanArgs, ReplicasArgs, UnloadArgs, VerifyArgs};
pub(crate) use state::{OpsArgs, OpsIdArgs, OpsListArgs, OpsVerb, StatusArgs, WatchArgs};
pub(crate) use sync::{CordonArgs, Pace, SyncArgs, UncordonArgs};

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
    /// Bring models into RAM; without a name, show the cache
    ///
    /// What is there already is not read, and what turns out to be equal to something there is kept once. Ctrl-C gives it up, unless
    /// somebody else wants it too.
    #[command(after_help = examples::CACHE)]
    Cache(CacheArgs),
    /// Take models out of RAM
    #[command(after_help = examples::EVICT)]
    Evict(EvictArgs),
    /// Keep a model in RAM once it is there: nothing evicts it
    ///
    /// Pins add up: what is pinned already stays so.
    #[command(after_help = examples::PIN)]
    Pin(PinArgs),
    /// Undo `hoist pin`, for all of a model or some of its components
    #[command(after_help = examples::UNPIN)]
    Unpin(PinArgs),
    /// List what is in RAM, largest first, and who uses it
    #[command(after_help = examples::SEGMENTS)]
    Segments(SegmentsArgs),
    /// Show how memory is used, or change it: of the whole cache, or of one model
    #[command(after_help = examples::CACHE_POLICY)]
    CachePolicy(PolicyArgs),
    /// Tell where models' files in RAM are, for any program that reads safetensors
    ///
    /// What is not in RAM is cached first.
    #[command(after_help = examples::PATH)]
    Path(PathArgs),
    /// Hold models in RAM, or on a device, while a command runs
    ///
    /// The command finds each component's file in HOIST_PATH_MODEL_COMPONENT, and its exit code is that of this one.
    #[command(after_help = examples::HOLD)]
    Hold(HoldArgs),
    /// List the leases, or revoke one
    #[command(after_help = examples::LEASES, args_conflicts_with_subcommands = true)]
    Leases(LeasesArgs),
    /// Bring models to a device, through RAM; they stay there until they are unloaded
    ///
    /// What is there already is shared, and what is in RAM is not read again. Without --wait, the operation's name is printed:
    /// `hoist ops wait` tells the end.
    #[command(after_help = examples::LOAD)]
    Load(LoadArgs),
    /// Take models off devices, and account for their bytes
    ///
    /// What other models share stays; so does what is in RAM.
    #[command(after_help = examples::UNLOAD)]
    Unload(UnloadArgs),
    /// Tell where models would be loaded to, why, and what it would take
    ///
    /// Nothing is changed by it.
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),
    /// List what is on devices, or on its way there or away
    #[command(after_help = examples::REPLICAS)]
    Replicas(ReplicasArgs),
    /// Compare what is on devices with what is in RAM, byte for byte
    ///
    /// Each device sums up its own bytes. Exit 1 when something differs, or what is in RAM is damaged; 4 when something could not be
    /// compared. Nothing is changed by it.
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyArgs),
    /// List the devices that models can be loaded to, who drives them, and what is on them
    #[command(after_help = examples::DEVICES)]
    Devices(DevicesArgs),
    /// Let a device keep what it has and take nothing new
    ///
    /// It outlasts restarts of the server, and of the device's worker.
    #[command(after_help = examples::CORDON)]
    Cordon(CordonArgs),
    /// Undo `hoist cordon`; and start a worker again that is quarantined
    #[command(after_help = examples::UNCORDON)]
    Uncordon(UncordonArgs),
    /// Show how well what shall be on devices and what is there agree; or why not, or begin anew
    #[command(after_help = examples::SYNC)]
    Sync(SyncArgs),
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

    /// Where the socket and the weights in RAM are; on tmpfs [default: /dev/shm/hoist-UID]
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// Path of the Unix socket [default: hoist.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Also serve gRPC over TCP on this loopback host:port; port 0 takes any
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,

    /// Memory for weights at most, for instance 40GiB; `hoist cache-policy --budget` can lower it while the server
    /// runs, not raise it [default: what the machine, its control groups and the tmpfs have to spare]
    #[arg(long, value_name = "SIZE")]
    pub(crate) ram_budget: Option<Bytes>,

    /// Settings file in TOML [default: HOIST_CONFIG, else ~/.config/hoist/hoist.toml if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How log lines are written: human or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,

    /// What is logged: a level, or target=level pairs
    #[arg(long, value_name = "FILTER")]
    pub(crate) log_filter: Option<String>,

    /// A device to start a worker for, and how much of it to use at most, for instance cpu:0=8GiB; may be repeated
    /// [default: each NVIDIA card, else cpu:0, if hoist-worker is beside this program]
    #[arg(long, value_name = "DEVICE[=SIZE]", conflicts_with = "no_workers")]
    pub(crate) worker: Vec<String>,

    /// Start no workers; those that come by themselves are welcome
    #[arg(long)]
    pub(crate) no_workers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// One of them, with all that is known about it: cpu:0
    #[arg(value_name = "DEVICE")]
    pub(crate) device: Option<String>,
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
