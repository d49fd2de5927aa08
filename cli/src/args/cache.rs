//! The verbs about what is in RAM, as they are written. Nothing here acts.

use std::ffi::OsString;
use std::str::FromStr as _;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hoist_domain::Bytes;
use hoist_wire::v1;

use super::models::name;
use super::{duration, examples};

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one [default: show the cache]
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Only this component: vae, unet ...; may be repeated [default: all that can be in RAM]
    #[arg(long = "component", value_name = "COMPONENT", requires = "names")]
    pub(crate) components: Vec<String>,

    /// How much it matters: what matters less makes room for it [default: as `hoist cache-policy` says]
    #[arg(long, value_name = "PRIORITY", value_enum, ignore_case = true, requires = "names")]
    pub(crate) priority: Option<Priority>,

    /// Look at every byte before
    #[arg(long, requires = "names")]
    pub(crate) validate: bool,

    /// Take it though it is so; may be repeated. What is malicious is refused in any case
    #[arg(long = "allow", value_name = "VERDICT", value_enum, ignore_case = true, requires = "names")]
    pub(crate) allow: Vec<Allow>,

    /// Wait for the end and tell where everything is; so it is without this, too
    #[arg(long, requires = "names", conflicts_with = "no_wait")]
    pub(crate) wait: bool,

    /// Print the operations' names and return
    #[arg(long, requires = "names")]
    pub(crate) no_wait: bool,
}

/// How much something matters beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    Background,
    Low,
    Normal,
    High,
    Critical,
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Background => Self::Background,
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
            Priority::Critical => Self::Critical,
        }
    }
}

/// Verdicts that somebody may take on themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allow {
    Corrupt,
    Incomplete,
}

impl From<Allow> for v1::Verdict {
    fn from(allow: Allow) -> Self {
        match allow {
            Allow::Corrupt => Self::Corrupt,
            Allow::Incomplete => Self::Incomplete,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct EvictArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one, segments/DIGEST or the start of a
    /// digest is that segment alone
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Only this component: vae, unet ...; may be repeated
    #[arg(long = "component", value_name = "COMPONENT", conflicts_with = "all")]
    pub(crate) components: Vec<String>,

    /// Everything that nobody uses
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,

    /// Only tell what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// The model, named as for `hoist show`; NAME:COMPONENT is one component of it
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: String,

    /// Only this component; may be repeated
    #[arg(long = "component", value_name = "COMPONENT")]
    pub(crate) components: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SegmentsArgs {
    /// Only those of this model, named as for `hoist show`
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The model that it is about, named as for `hoist show` [default: the whole cache]
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: Option<String>,

    /// What segments may take of the memory at most: 40GiB; `auto` is what the server was started with, or as much as the
    /// machine has to spare
    #[arg(long, value_name = "SIZE|auto", value_parser = budget, conflicts_with = "name", allow_hyphen_values = true)]
    pub(crate) budget: Option<Budget>,

    /// By what rule room is made
    #[arg(long, value_name = "RULE", value_enum, ignore_case = true, conflicts_with = "name")]
    pub(crate) eviction: Option<Eviction>,

    /// What nobody has used for so long goes: 30m, or `never`; for a model also `default`
    #[arg(long, value_name = "TIME|never", value_parser = idle_ttl)]
    pub(crate) idle_ttl: Option<IdleTtl>,

    /// Of models that no request gives a priority: background to critical, or `default`
    #[arg(long, value_name = "PRIORITY|default", value_parser = policy_priority)]
    pub(crate) priority: Option<PolicyPriority>,
}

/// What segments may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    Auto,
    Of(Bytes),
}

/// By what rule room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Eviction {
    /// What is expected to be missed least goes first
    Cost,
    /// What was used longest ago goes first
    Lru,
}

impl From<Eviction> for v1::EvictionPolicy {
    fn from(eviction: Eviction) -> Self {
        match eviction {
            Eviction::Cost => Self::Cost,
            Eviction::Lru => Self::Lru,
        }
    }
}

/// How long something may be idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdleTtl {
    Never,
    /// Of a model: as the cache's policy says.
    Default,
    Of(Duration),
}

/// A priority, or none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyPriority {
    Default,
    Of(Priority),
}

#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one
    #[arg(value_name = "NAME[:COMPONENT]", required = true, value_parser = name())]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one
    #[arg(value_name = "NAME[:COMPONENT]", required = true, value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Who holds it, as `hoist leases` shows it [default: the command's name]
    #[arg(long, value_name = "TEXT")]
    pub(crate) holder: Option<String>,

    /// Hold it on this device, where it is loaded to first; nothing unloads it but --force. On cpu:0 that is to hold it in RAM
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,

    /// What to run, after `--`
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct LeasesArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<LeasesVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LeasesVerb {
    /// List the leases, oldest first (also without `list`)
    #[command(after_help = examples::LEASES)]
    List,
    /// End somebody's lease
    ///
    /// Its holder is told; the bytes stay theirs as long as they map them.
    #[command(after_help = examples::LEASES_REVOKE)]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The lease: its id, `leases/ID`, or the unique start or end of its id
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,

    /// What its holder is told
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

/// No component fits into less, so that less is a slip: `40` for `40GiB`.
const LEAST_BUDGET: Bytes = Bytes(1 << 20);

fn budget(text: &str) -> Result<Budget, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Budget::Auto);
    }
    match Bytes::from_str(text) {
        Ok(bytes) if bytes < LEAST_BUDGET => {
            Err(format!("must be at least {LEAST_BUDGET}; `hoist evict --all` empties the cache"))
        }
        Ok(bytes) => Ok(Budget::Of(bytes)),
        Err(error) => Err(error.to_string()),
    }
}

fn idle_ttl(text: &str) -> Result<IdleTtl, String> {
    match text.to_ascii_lowercase().as_str() {
        "never" => Ok(IdleTtl::Never),
        "default" => Ok(IdleTtl::Default),
        _ => duration(text).map(IdleTtl::Of),
    }
}

fn policy_priority(text: &str) -> Result<PolicyPriority, String> {
    if text.eq_ignore_ascii_case("default") {
        return Ok(PolicyPriority::Default);
    }
    Priority::from_str(text, true)
        .map(PolicyPriority::Of)
        .map_err(|_| "use background, low, normal, high, critical or default".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Verb, parse};

    fn read(line: &str) -> Result<Verb, clap::error::ErrorKind> {
        let words = line.split(' ').map(OsString::from);
        parse(words).map(|cli| cli.verb).map_err(|told| told.kind())
    }

    #[test]
    fn a_policy_is_a_value_or_a_word_for_the_default() {
        assert_eq!(budget("AUTO"), Ok(Budget::Auto));
        assert_eq!(budget("40GiB"), Ok(Budget::Of(Bytes::gib(40))));
        assert_eq!(budget("1MiB"), Ok(Budget::Of(LEAST_BUDGET)));
        for slip in ["40", "0", "1023KiB"] {
            assert!(budget(slip).unwrap_err().contains("at least 1.0 MiB"), "{slip}");
        }
        assert_eq!(idle_ttl("never"), Ok(IdleTtl::Never));
        assert_eq!(idle_ttl("30m"), Ok(IdleTtl::Of(Duration::from_secs(1_800))));
        assert_eq!(policy_priority("Default"), Ok(PolicyPriority::Default));
        assert_eq!(policy_priority("HIGH"), Ok(PolicyPriority::Of(Priority::High)));
        for wrong in ["", "lots", "-1"] {
            assert!(budget(wrong).is_err() && idle_ttl(wrong).is_err() && policy_priority(wrong).is_err());
        }
    }

    #[test]
    fn what_follows_two_dashes_is_the_command() {
        let Ok(Verb::Hold(args)) = read("hoist hold sdxl:vae lora -- python train.py --json") else {
            panic!()
        };
        assert_eq!(args.names, ["sdxl:vae", "lora"]);
        assert_eq!(args.command, ["python", "train.py", "--json"]);
        for wrong in ["hoist hold sdxl", "hoist hold -- true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_that_mean_nothing_without_a_name_or_with_one_are_refused() {
        for wrong in [
            "hoist cache --component vae",
            "hoist cache --priority high",
            "hoist cache x --wait --no-wait",
            "hoist cache x --allow malicious",
            "hoist evict x --all",
            "hoist evict --all --component vae",
            "hoist cache-policy x --budget 1GiB",
            "hoist cache-policy x --eviction lru",
            "hoist leases revoke",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for right in ["hoist cache", "hoist cache x --wait", "hoist evict --all --dry-run", "hoist leases"] {
            assert!(read(right).is_ok(), "{right}");
        }
    }
}
