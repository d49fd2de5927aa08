//! The verbs that cordon devices and tell whether both sides agree, as they are written. Nothing here acts.

use std::time::Duration;

use clap::{Args, ValueEnum};
use hoist_wire::v1;

use super::duration;
use super::models::name;

#[derive(Debug, Args)]
pub(crate) struct CordonArgs {
    /// The device: cpu:0, cuda:1 ...; also one that no worker has come for yet
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,

    /// Why, for whoever looks at it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct UncordonArgs {
    /// The device: cpu:0, cuda:1 ...
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// A device, cpu:0, or a model, named as for `hoist show` [default: everything]
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: Option<String>,

    /// Look back so far, 10s to 1h [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["diagnose", "reset", "pace"])]
    pub(crate) window: Option<Duration>,

    /// Tell what differs now, however briefly, and what to do; how fast workers answer; and what has lately differed
    #[arg(long, conflicts_with_all = ["reset", "pace"])]
    pub(crate) diagnose: bool,

    /// Have workers tell everything again, and try at once what was put off. Nothing is unloaded
    #[arg(long, conflicts_with = "pace")]
    pub(crate) reset: bool,

    /// With --reset: wait until both sides agree, at most so long, and at most 60s; the exit code says whether they do
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "reset")]
    pub(crate) wait: Option<Duration>,

    /// Set for how long both sides may differ until that counts: high is half a second, standard 2 s, background 10 s, idle
    /// a minute; with a NAME also default: as everything else
    #[arg(long, value_name = "PACE", value_parser = pace)]
    pub(crate) pace: Option<Pace>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    High,
    Standard,
    Background,
    Idle,
    /// None of its own
    Default,
}

impl From<Pace> for v1::SyncPace {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::High => Self::High,
            Pace::Standard => Self::Standard,
            Pace::Background => Self::Background,
            Pace::Idle => Self::Idle,
            Pace::Default => Self::Unspecified,
        }
    }
}

fn pace(text: &str) -> Result<Pace, String> {
    Pace::from_str(text, true).map_err(|_| "use high, standard, background, idle or default".to_owned())
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
    fn one_thing_is_asked_of_both_sides_at_a_time() {
        for wrong in [
            "hoist cordon",
            "hoist cordon cpu:0 cuda:0",
            "hoist uncordon",
            "hoist uncordon cpu:0 --reason x",
            "hoist sync x y",
            "hoist sync --diagnose --reset",
            "hoist sync --diagnose --window 1m",
            "hoist sync --reset --pace high",
            "hoist sync --pace high --window 1m",
            "hoist sync --wait 10s",
            "hoist sync --reset --wait",
            "hoist sync --reset --wait soon",
            "hoist sync --pace fast",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for right in [
            "hoist cordon cpu:0",
            "hoist uncordon GPU_0 --json",
            "hoist sync",
            "hoist sync cpu:0 --window 5m",
            "hoist sync --diagnose sdxl",
            "hoist sync --reset --wait 10s cuda:1",
        ] {
            assert!(read(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn a_pace_is_a_word_in_either_case() {
        let Ok(Verb::Sync(args)) = read("hoist sync sdxl --pace Background") else { panic!() };
        assert_eq!(args.pace, Some(Pace::Background));
        assert_eq!(pace("DEFAULT"), Ok(Pace::Default));
        assert_eq!(v1::SyncPace::from(Pace::Default), v1::SyncPace::Unspecified);
    }
}
