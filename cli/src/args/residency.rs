//! The verbs about what is on devices, as they are written. Nothing here acts.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use hoist_wire::v1;

use super::cache::{Allow, Priority};
use super::models::name;

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one. All of it goes to one device, or nothing
    #[arg(value_name = "NAME[:COMPONENT]", required = true, value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Only this component: vae, unet ...; may be repeated [default: all that can be loaded]
    #[arg(long = "component", value_name = "COMPONENT")]
    pub(crate) components: Vec<String>,

    #[command(flatten)]
    pub(crate) how: HowArgs,

    /// Return at once, with the operation's id on stdout, and let it go on [default: wait for the end and tell what is where; Ctrl-C gives the load up, unless somebody else wants it too]
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// What is done without it, too
    #[arg(long, hide = true, conflicts_with = "no_wait")]
    pub(crate) wait: bool,
}

/// A device's name. An empty one is a variable that is not set, and not any device.
fn device() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

/// How a load is done: what `hoist load` and `hoist plan` both take.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HowArgs {
    /// The device to load to: cpu:0, cuda:1 ... [default: the one that --place finds]
    #[arg(long, value_name = "DEVICE", conflicts_with = "place", value_parser = device())]
    pub(crate) device: Option<String>,

    /// By what rule the device is found [default: any]
    #[arg(long, value_name = "RULE", value_enum, ignore_case = true)]
    pub(crate) place: Option<Place>,

    /// Convert tensors of F64, F32, F16 and BF16 to this: BF16; others stay [default: as they are]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,

    /// How much it matters: the more urgent is loaded first [default: as `hoist cache-policy` says]
    #[arg(long, value_name = "PRIORITY", value_enum, ignore_case = true)]
    pub(crate) priority: Option<Priority>,

    /// Make room on the device: what matters no more than this is unloaded
    #[arg(long)]
    pub(crate) force: bool,

    /// Look at every byte before
    #[arg(long)]
    pub(crate) validate: bool,

    /// Take it though it is so; may be repeated. What is malicious is refused in any case
    #[arg(long = "allow", value_name = "VERDICT", value_enum, ignore_case = true)]
    pub(crate) allow: Vec<Allow>,

    /// What to try, in this order, until one fits; may be repeated. This release knows `standard` alone [default: standard]
    #[arg(long = "strategy", value_name = "STRATEGY", value_enum, ignore_case = true)]
    pub(crate) strategies: Vec<Strategy>,
}

/// How a device is found where none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// Where it is best: a card before the machine's memory, where most of it is already, where most is free
    Any,
    /// Where the least part of the memory is taken
    Spread,
    /// Where the least is left free: large places stay for large models
    Pack,
}

impl From<Place> for v1::Placement {
    fn from(place: Place) -> Self {
        match place {
            Place::Any => Self::Any,
            Place::Spread => Self::Spread,
            Place::Pack => Self::Pack,
        }
    }
}

/// How a model is brought to a device. The server refuses those that it cannot do yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// All of it, as it is
    Standard,
    Balanced,
    MemoryOptimized,
    Streaming,
    Compressed,
    ComponentSplit,
}

impl From<Strategy> for v1::LoadStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Standard => Self::Standard,
            Strategy::Balanced => Self::Balanced,
            Strategy::MemoryOptimized => Self::MemoryOptimized,
            Strategy::Streaming => Self::Streaming,
            Strategy::Compressed => Self::Compressed,
            Strategy::ComponentSplit => Self::ComponentSplit,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct UnloadArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one
    #[arg(value_name = "NAME[:COMPONENT]", required = true, value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Only this component: vae, unet ...; may be repeated [default: all]
    #[arg(long = "component", value_name = "COMPONENT")]
    pub(crate) components: Vec<String>,

    /// From this device: cpu:0, cuda:1 ... [default: from all]
    #[arg(long, value_name = "DEVICE", value_parser = device())]
    pub(crate) device: Option<String>,

    /// Also what somebody has leased, and what is being loaded: that load is cancelled. Leases on what is in RAM stay
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Which models, named as for `hoist show`; NAME:COMPONENT is one component of one
    #[arg(value_name = "NAME[:COMPONENT]", required = true, value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Only this component: vae, unet ...; may be repeated [default: all that can be loaded]
    #[arg(long = "component", value_name = "COMPONENT")]
    pub(crate) components: Vec<String>,

    #[command(flatten)]
    pub(crate) how: HowArgs,

    /// Only tell what it takes of disk, RAM and any device, wherever it would go
    #[arg(long, conflicts_with_all = ["device", "place", "priority", "force", "validate", "allow", "strategies"])]
    pub(crate) estimate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplicasArgs {
    /// Only those of this model, named as for `hoist show`
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: Option<String>,

    /// Only those on this device: cpu:0, cuda:1 ...
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The model, named as for `hoist show`
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: String,

    /// Only on this device: cpu:0, cuda:1 ...
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{Verb, parse};

    fn read(line: &str) -> Result<Verb, clap::error::ErrorKind> {
        parse(line.split(' ').map(OsString::from)).map(|cli| cli.verb).map_err(|told| told.kind())
    }

    #[test]
    fn a_device_is_named_or_found_and_an_estimate_knows_of_none() {
        for wrong in [
            "hoist load",
            "hoist load x --device cpu:0 --place pack",
            "hoist load x --place nearest",
            "hoist load x --strategy magic",
            "hoist load x --allow malicious",
            "hoist unload",
            "hoist unload x --place any",
            "hoist plan x --estimate --device cpu:0",
            "hoist plan x --estimate --force",
            "hoist plan x --estimate --strategy standard",
            "hoist replicas x y",
            "hoist verify",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for right in [
            "hoist load x y:vae --wait --force",
            "hoist unload x --device cuda:1 --force",
            "hoist plan x --place Spread --dtype bf16",
            "hoist plan x --estimate --dtype BF16",
            "hoist replicas",
            "hoist replicas x --device cpu:0",
            "hoist verify x --device cuda:0",
        ] {
            assert!(read(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn strategies_are_tried_in_the_order_in_which_they_are_written() {
        let Ok(Verb::Load(args)) = read("hoist load x --strategy memory-optimized --strategy standard")
        else {
            panic!()
        };
        assert_eq!(args.how.strategies, [Strategy::MemoryOptimized, Strategy::Standard]);
    }
}
