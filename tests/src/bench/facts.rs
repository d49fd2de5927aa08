//! Where and of what the figures were taken.

use std::path::Path;
use std::process::Command;

use hoist_runtime::Clock;
use hoist_runtime::machine;
use hoist_wire::encode;

/// What a reader needs to judge the figures, or to take them again.
pub(super) fn facts(state_dir: &Path) -> Vec<(&'static str, String)> {
    let root = Path::new("/");
    let cpus = machine::cpus(root);
    let filesystem = machine::filesystem(root, state_dir)
        .map_or_else(|error| error.to_string(), |found| format!("{:?}", found.kind));
    let memory =
        machine::memory(root).map_or_else(|error| error.to_string(), |memory| memory.total.to_string());
    let release = machine::kernel_release(root).unwrap_or_else(|error| error.to_string());
    let now = encode::timestamp(Clock::system().wall());
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    vec![
        ("when", now.to_string()),
        ("commit", commit()),
        ("command", command),
        (
            "build",
            if cfg!(debug_assertions) { "DEBUG: these figures mean nothing" } else { "release" }.into(),
        ),
        ("server", crate::binary().file_name().unwrap_or_default().display().to_string()),
        ("processor", format!("{} x {}", cpus.usable, processor())),
        ("memory", memory),
        ("kernel", release),
        ("state directory", format!("on {filesystem}")),
        ("load before", load()),
    ]
}

/// Runnable tasks over the last minutes: figures taken beside other work say so.
pub(super) fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("model name"));
    named.map_or_else(|| "unknown".to_owned(), |name| name.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "--short=12", "HEAD"]), git(&["status", "--porcelain"])) {
        (Some(hash), Some(changes)) if changes.is_empty() => hash,
        (Some(hash), _) => format!("{hash} with uncommitted changes"),
        _ => "unknown".to_owned(),
    }
}
