//! `hoist doctor`: whether this machine is fit for Hoist. Needs no server; asks one for its conditions if it answers.
//!
//! A check looks at one thing, says what it found and, where that is not well, what to do. Checks change nothing: the
//! one that writes makes a file of its own in the state directory and removes it.

mod cards;
mod memory;
mod server;
mod storage;
mod system;

use std::path::PathBuf;

use hoist_runtime::config::process_environment;
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::client::default_dirs;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone};
use crate::verbs::Session;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Hoist works, less well than it could.
    Warn,
    /// Hoist does not work until it is dealt with.
    Fail,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// What was checked; stable, for scripts.
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do. Empty where all is well.
    advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), advice: advice.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), advice: advice.into() }
    }

    /// A fact that this machine does not tell.
    fn unknown(name: &'static str, error: &dyn std::error::Error) -> Self {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self::warn(name, format!("not known: {error}{cause}"), "look at it by hand; containers often hide it")
    }
}

/// Where a server keeps its things, or would.
#[derive(Clone, Debug)]
struct Dirs {
    state: PathBuf,
    runtime: PathBuf,
}

pub(crate) async fn run(session: &Session, args: &DoctorArgs) -> Result<Exit> {
    let server = server::look(session).await;
    let dirs = choose_dirs(args, &server);
    let mut checks = system::checks();
    checks.extend(cards::checks().await);
    checks.extend(memory::checks());
    checks.extend(storage::checks(&dirs));
    checks.extend(server.checks);
    print(session.out, &checks)?;
    let any_failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if any_failed { Exit::Failed } else { Exit::Done })
}

/// What the command line or the environment names; else what the running server uses; else the default.
fn choose_dirs(args: &DoctorArgs, server: &server::Looked) -> Dirs {
    let (defaults, environment) = (default_dirs(), process_environment());
    let choose = |named: &Option<PathBuf>, name: &str, used: &Option<PathBuf>, default: PathBuf| {
        let set = || environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        named.clone().or_else(set).or_else(|| used.clone()).unwrap_or(default)
    };
    Dirs {
        state: choose(&args.state_dir, "HOIST_STATE_DIR", &server.state_dir, defaults.state_dir),
        runtime: choose(&args.runtime_dir, "HOIST_RUNTIME_DIR", &server.runtime_dir, defaults.runtime_dir),
    }
}

fn print(out: Out, checks: &[Check]) -> Result<()> {
    if out.json {
        let rows = checks.iter().map(|check| {
            json!({
                "check": check.name,
                "result": check.verdict.name(),
                "found": check.found,
                "advice": (!check.advice.is_empty()).then_some(&check.advice),
            })
        });
        return out.value(&rows.collect::<Value>());
    }
    let mut table = Table::new(["RESULT", "CHECK", "FOUND"]);
    for check in checks {
        let tone = match check.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warn => Tone::Warning,
            Verdict::Fail => Tone::Bad,
        };
        let advice = if check.advice.is_empty() { String::new() } else { format!("\ndo: {}", check.advice) };
        table.row([
            Toned(tone, check.verdict.name().to_owned()),
            check.name.replace('_', " ").into(),
            format!("{}{advice}", check.found).into(),
        ]);
    }
    table.print(out)?;
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (ok, warn, fail) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
    out.line("")?;
    out.line(format_args!("{ok} ok, {warn} to look at, {fail} to repair"))
}
