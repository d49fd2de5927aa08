//! The verbs about the state: `status`, `watch` and `ops`, as they are written. Nothing here acts.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hoist_domain::{Epoch, Position, Revision};
use hoist_wire::v1;

use super::{duration, examples};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// `machine`, `operations/ID`, `conditions/KIND`, `segments/DIGEST`, `leases/ID`, `devices/DEVICE`, `replicas/ID`, the
    /// unique start or end of an operation's id, or a model, named as for `hoist show` [default: machine]
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

    /// Also show operations that had ended before
    #[arg(long)]
    pub(crate) history: bool,

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
    Segment,
    Lease,
    Device,
    Replica,
}

impl From<Kind> for v1::ResourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Machine => Self::Machine,
            Kind::Operation => Self::Operation,
            Kind::Condition => Self::Condition,
            Kind::Model => Self::Model,
            Kind::Segment => Self::Segment,
            Kind::Lease => Self::Lease,
            Kind::Device => Self::Device,
            Kind::Replica => Self::Replica,
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

    /// The most to show [default: the newest 50; with --json all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// However many there are, and also what the server does by itself, as reading digests while the machine is idle
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OpsIdArgs {
    /// The operation: its id, `operations/ID`, or the unique start or end of its id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
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
