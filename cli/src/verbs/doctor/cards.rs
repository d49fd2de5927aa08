//! Checks of the cards: each one that there is, or that the environment names, is opened by the worker's own program, which says
//! in one line what it is or what is missing. This process opens none.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hoist_domain::{DeviceKind, DeviceSpec};
use hoist_runtime::config::process_environment;
use hoist_runtime::machine;
use tokio::process::Command;

use super::Check;

const NAME: &str = "card";

/// A card that sleeps takes seconds to wake up; a broken one never answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wanted in this program's environment; else every card that there is.
pub(super) async fn checks() -> Vec<Check> {
    let named = process_environment().get("HOIST_WORKERS_DEVICES").cloned().unwrap_or_default();
    let named = named.split(',').filter_map(|one| one.trim().parse::<DeviceSpec>().ok());
    let mut cards: Vec<String> = named
        .filter(|spec| spec.id.kind == DeviceKind::Cuda)
        .map(|spec| {
            spec.capacity.map_or_else(|| spec.id.to_string(), |size| format!("{}={}", spec.id, size.0))
        })
        .collect();
    if cards.is_empty() {
        let count = machine::nvidia(Path::new("/")).devices.len();
        cards = (0..count).map(|number| format!("cuda:{number}")).collect();
    }
    let worker = std::env::current_exe().ok().map(|own| own.with_file_name("hoist-worker"));
    let mut checks = Vec::new();
    for card in cards {
        checks.push(check(&card, worker.as_ref()).await);
    }
    checks
}

async fn check(card: &str, worker: Option<&PathBuf>) -> Check {
    let Some(worker) = worker.filter(|path| path.is_file()) else {
        return Check::fail(
            NAME,
            format!("{card} is not looked at"),
            "put hoist-worker beside this program: it drives the cards",
        );
    };
    let mut command = Command::new(worker);
    command.args(["check", "--device", card]).stdin(Stdio::null()).kill_on_drop(true);
    let told = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => {
            return Check::fail(
                NAME,
                format!("{card}: {} cannot run: {error}", worker.display()),
                "install it anew",
            );
        }
        Err(_) => {
            let found = format!("{card} has not answered for {} s", PATIENCE.as_secs());
            return Check::fail(NAME, found, "look at it with `nvidia-smi` and in the kernel's log");
        }
    };
    let last = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing was said").to_owned()
    };
    if told.status.success() {
        return Check::ok(NAME, format!("{card}: {}", last(&told.stdout)));
    }
    let why = last(&told.stderr);
    let why = why.strip_prefix("error: ").unwrap_or(&why);
    Check::fail(NAME, format!("{card}: {why}"), "until then name other devices: --worker cpu:0=SIZE")
}
