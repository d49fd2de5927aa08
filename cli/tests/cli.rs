//! The command line where no server is: what is wrong with it, what it says when nobody answers, and its help.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// The binary, deaf to the variables of whoever runs the tests.
fn hoist(args: &[&str]) -> Output {
    let mut command = Command::cargo_bin("hoist").unwrap();
    for name in ["HOIST_ENDPOINT", "HOIST_STATE_DIR", "HOIST_RUNTIME_DIR", "HOIST_CONFIG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An endpoint in a directory of our own, at which nobody listens.
fn nobody(dir: &Path) -> String {
    format!("unix://{}/hoist.sock", dir.display())
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for args in [
        &[][..],
        &["fly"],
        &["status", "--fly"],
        &["status", "--timeout", "soon"],
        &["status", "--endpoint", "hoist.sock"],
        &["status", "--endpoint", "http://localhost"],
        &["watch", "--from", "3"],
        &["watch", "--once", "--from", "3.4"],
        &["watch", "--kind", "weights"],
        &["ls", "--type", "lorra"],
        &["ls", "--sort", "colour"],
        &["ls", "--limit", "0"],
        &["ls", "--verdict", "bad"],
        &["show"],
        &["validate"],
        &["validate", "x", "--level", "half"],
        &["validate", "x", "--level", "header", "--checksums"],
        &["validate", "x", "--device", "cpu:0"],
        &["validate", "x", "y", "--sha256", "00"],
        &["components", "--type", "*"],
        &["tag"],
        &["tag", "x", "a", "-a"],
        &["edit", "x"],
        &["edit", "x", "--trusted", "--no-trusted"],
        &["edit", "x", "--type", "lora", "--clear", "type"],
        &["rm"],
        &["roots", "x"],
        &["watch", "--state", "done"],
        &["cache", "--priority", "high"],
        &["cache", "x", "--priority", "urgent"],
        &["cache", "x", "--allow", "malicious"],
        &["cache", "x", "--wait", "--no-wait"],
        &["evict"],
        &["evict", "x", "--all"],
        &["pin"],
        &["cache-policy", "--budget", "lots"],
        &["cache-policy", "x", "--budget", "1GiB"],
        &["cache-policy", "x", "--idle-ttl", "never"],
        &["path"],
        &["hold", "x"],
        &["hold", "--", "true"],
        &["load"],
        &["load", "x", "--device", "cpu:0", "--place", "any"],
        &["load", "x", "--place", "nearest"],
        &["load", "x", "--strategy", "magic"],
        &["load", "x", "--priority", "urgent"],
        &["load", "x", "--allow", "malicious"],
        &["unload"],
        &["unload", "x", "--place", "any"],
        &["plan"],
        &["plan", "x", "--estimate", "--device", "cpu:0"],
        &["replicas", "x", "y"],
        &["cordon"],
        &["cordon", "cpu:0", "cuda:0"],
        &["uncordon", "cpu:0", "--reason", "x"],
        &["sync", "--wait", "10s"],
        &["sync", "--reset", "--wait"],
        &["sync", "--diagnose", "--window", "1m"],
        &["sync", "--pace", "fast"],
        &["sync", "--pace", "default"],
        &["sync", "devices/tpu:0"],
        &["leases", "revoke"],
        &["serve", "--ram-budget", "lots"],
        &["ops", "show"],
        &["ops", "fly"],
        &["ops", "--limit", "0"],
        &["doctor", "--bytes", "1GiB"],
        &["doctor", "--probe", "--bytes", "lots"],
        &["shutdown", "--grace", "5"],
        &["completions", "sh"],
        &["serve", "--json"],
        &["serve", "--endpoint", "unix:///x"],
        &["config", "--state-dir", "x"],
        &["config", "--offline", "--timeout", "1s"],
        &["status", "--endpoint", &format!("unix:///{}", "x".repeat(108))],
    ] {
        let output = hoist(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}: {}", stdout(&output));
    }
}

#[test]
fn nobody_answering_is_exit_5_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = nobody(dir.path());
    for verb in [
        &["status"][..],
        &["status", "machine", "0198"],
        &["watch"],
        &["watch", "--once"],
        &["ops"],
        &["ops", "list"],
        &["ls"],
        &["show", "x"],
        &["scan"],
        &["scan", "--wait"],
        &["validate", "x"],
        &["verdicts"],
        &["digest"],
        &["dupes"],
        &["components"],
        &["roots"],
        &["tag", "x", "a"],
        &["edit", "x", "--name", "y"],
        &["rm", "x"],
        &["cache"],
        &["cache", "x"],
        &["cache", "x", "--no-wait"],
        &["evict", "x"],
        &["evict", "--all"],
        &["pin", "x"],
        &["unpin", "x"],
        &["segments"],
        &["cache-policy"],
        &["cache-policy", "--budget", "auto"],
        &["path", "x:vae"],
        &["hold", "x", "--endpoint", &endpoint, "--", "true"],
        &["leases"],
        &["leases", "revoke", "0198"],
        &["load", "x"],
        &["load", "x", "y:vae", "--wait"],
        &["unload", "x"],
        &["plan", "x"],
        &["plan", "x", "--estimate"],
        &["replicas"],
        &["devices"],
        &["devices", "cpu:0"],
        &["cordon", "cpu:0", "--reason", "x"],
        &["uncordon", "cpu:0"],
        &["sync"],
        &["sync", "x", "--window", "1m"],
        &["sync", "--diagnose"],
        &["sync", "--reset", "--wait", "1s"],
        &["sync", "cpu:0", "--pace", "default"],
        &["ops", "show", "0198"],
        &["ops", "wait", "0198", "--timeout", "1s"],
        &["ops", "cancel", "0198"],
        &["ops", "delete", "0198"],
        &["config"],
        &["doctor", "--probe"],
        &["shutdown"],
    ] {
        // What follows `--` is somebody else's.
        let is_named = verb.contains(&"--");
        let named: &[&str] = if is_named { &[] } else { &["--endpoint", &endpoint] };
        let output = hoist(&[verb, named].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(5), "{verb:?}: {said}");
        assert!(output.stdout.is_empty(), "{verb:?}");
        assert!(said.starts_with("error: no server: there is no socket "), "{verb:?}: {said}");
        assert!(said.contains("\nhint: start one with `hoist serve`"), "{verb:?}: {said}");
    }
}

#[test]
fn a_socket_at_which_nobody_listens_is_unreachable_too() {
    let dir = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("hoist.sock")).unwrap());
    let output = hoist(&["status", "--endpoint", &nobody(dir.path())]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("nobody listens"), "{}", stderr(&output));

    // Bound for its number only: once it is dropped, nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = hoist(&["status", "--endpoint", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("nobody listens"), "{}", stderr(&output));
}

#[test]
fn a_server_that_hangs_is_exit_6() {
    let dir = tempfile::tempdir().unwrap();
    // It takes connections, for the kernel does, and never says a word.
    let _mute = std::os::unix::net::UnixListener::bind(dir.path().join("hoist.sock")).unwrap();
    let output = hoist(&["status", "--endpoint", &nobody(dir.path()), "--timeout", "200ms"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
}

#[test]
fn the_endpoint_may_come_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::cargo_bin("hoist")
        .unwrap()
        .env("HOIST_ENDPOINT", nobody(dir.path()))
        .arg("status")
        .output()
        .unwrap();
    assert!(stderr(&output).contains(dir.path().to_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn with_json_the_last_line_of_stderr_is_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = nobody(dir.path());
    // A flag that every verb takes may stand on either side of the verb.
    for args in [["--json", "status"], ["status", "--json"]] {
        let output = hoist(&[&args[..], &["--endpoint", &endpoint]].concat());
        let said = stderr(&output);
        let error: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "unavailable");
        assert!(error["error"]["message"].as_str().unwrap().contains("no server"));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_wrong_command_line_is_json_too_where_json_was_asked_for() {
    for args in [&["status", "--json", "--fly"][..], &["--json"], &["serve", "--json"]] {
        let said = stderr(&hoist(args));
        let error: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "invalid_argument", "{args:?}");
        assert!(!error["error"]["message"].as_str().unwrap().contains('\n'), "{args:?}");
    }
}

#[test]
fn a_usage_line_does_not_name_what_only_the_environment_sets() {
    let mut command = Command::cargo_bin("hoist").unwrap();
    command.env("HOIST_ENDPOINT", "unix:///x").env("HOIST_STATE_DIR", "/x").env("NO_COLOR", "1");
    let said = stderr(&command.args(["doctor", "--bytes", "1GiB"]).output().unwrap());
    assert!(said.contains("Usage: hoist doctor") && !said.contains("--endpoint"), "{said}");
    assert!(!said.contains("--state-dir"), "{said}");
}

#[test]
fn the_meaning_of_every_setting_is_shown_without_a_server() {
    let output = hoist(&["config", "--offline"]);
    assert!(stdout(&output).contains("request ids kept at the same time"), "{}", stdout(&output));
    let output = hoist(&["config", "--offline", "--json", "--state-dir", "x"]);
    let settings: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let value = |key: &str| settings.iter().find(|it| it["key"] == key).unwrap()["value"].clone();
    // As it is, neither quoted twice nor a number in a string.
    assert!(value("state_dir").as_str().unwrap().starts_with('/'));
    assert_eq!(value("limits.request_ids"), 100_000);
    let output = hoist(&["config", "--offline", "--json", "--ram-budget", "1.5GiB"]);
    let settings: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let budget = settings.iter().find(|it| it["key"] == "ram_budget").unwrap();
    assert_eq!((&budget["origin"], &budget["value"]), (&"flag".into(), &"1536MiB".into()));
}

#[test]
fn what_is_no_socket_is_said_to_be_none() {
    let output = hoist(&["status", "--endpoint", "unix:///etc/passwd"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("/etc/passwd is not a socket"), "{}", stderr(&output));
}

#[test]
fn doctor_json_is_one_array_of_checks() {
    let (state, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = hoist(&[
        "doctor",
        "--json",
        "--endpoint",
        &nobody(runtime.path()),
        "--state-dir",
        state.path().to_str().unwrap(),
        "--runtime-dir",
        runtime.path().to_str().unwrap(),
    ]);
    let checks: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    for name in [
        "kernel",
        "open_files",
        "gpu",
        "memory",
        "cgroup_memory",
        "memory_lock",
        "memory_pressure",
        "shmem_huge_pages",
        "runtime_dir",
        "state_dir",
        "state_dir_writable",
        "state_dir_direct_io",
        "server",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    let mut any_failed = false;
    for check in &checks {
        let result = check["result"].as_str().unwrap();
        assert!(["ok", "warn", "fail"].contains(&result), "{check}");
        assert!(!check["found"].as_str().unwrap().is_empty(), "{check}");
        assert!(result == "ok" || check["advice"].is_string(), "{check}");
        any_failed |= result == "fail";
    }
    assert_eq!(output.status.code(), Some(i32::from(any_failed)));
}

#[test]
fn doctor_fails_where_weights_would_lie_on_a_disk_or_nothing_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = hoist(&[
        "doctor",
        "--json",
        "--endpoint",
        &nobody(dir.path()),
        "--state-dir",
        dir.path().to_str().unwrap(),
        "--runtime-dir",
        file.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let checks: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(checks.iter().any(|c| c["check"] == "runtime_dir_owner" && c["result"] == "fail"), "{checks:#?}");
}

#[test]
fn the_help_of_every_verb_shows_its_flags_and_an_example() {
    let of_clients = ["--endpoint", "--json", "--timeout", "--color"];
    for (verb, flags) in [
        (&["status"][..], &["[NAME]..."][..]),
        (&["watch"], &["--kind", "--name", "--state", "--from", "--progress", "--once"]),
        (&["ops"], &["--filter", "--limit", "show", "wait", "cancel", "delete", "list"]),
        (&["ops", "list"], &["--filter", "--limit"]),
        (&["ops", "show"], &["<ID>"]),
        (&["ops", "wait"], &["<ID>", "--timeout says how long to wait", "[default: for ever]"]),
        (&["ops", "cancel"], &["<ID>"]),
        (&["ops", "delete"], &["<ID>"]),
        (&["config"], &[]),
        (&["doctor"], &["--probe", "--bytes", "--kind", "--state-dir", "--runtime-dir"]),
        (&["shutdown"], &["--grace", "--no-wait"]),
        (
            &["cache"],
            &["[NAME]...", "--component", "--priority", "--validate", "--allow", "--wait", "--no-wait"],
        ),
        (&["evict"], &["[NAME]...", "--component", "--all", "--dry-run"]),
        (&["pin"], &["<NAME>", "--component"]),
        (&["unpin"], &["<NAME>"]),
        (&["segments"], &["[NAME]"]),
        (&["cache-policy"], &["[NAME]", "--budget", "--eviction", "--idle-ttl", "--priority"]),
        (&["path"], &["<NAME[:COMPONENT]>..."]),
        (&["hold"], &["<NAME[:COMPONENT]>...", "<COMMAND>...", "--holder"]),
        (
            &["load"],
            &[
                "<NAME[:COMPONENT]>...",
                "--component",
                "--device",
                "--place",
                "--dtype",
                "--priority",
                "--force",
                "--validate",
                "--allow",
                "--strategy",
                "--wait",
            ],
        ),
        (&["unload"], &["<NAME[:COMPONENT]>...", "--component", "--device", "--force"]),
        (&["plan"], &["<NAME[:COMPONENT]>...", "--device", "--place", "--dtype", "--force", "--estimate"]),
        (&["replicas"], &["[NAME]", "--device"]),
        (&["devices"], &["[DEVICE]"]),
        (&["cordon"], &["<DEVICE>", "--reason"]),
        (&["uncordon"], &["<DEVICE>"]),
        (&["sync"], &["[NAME]", "--window", "--diagnose", "--reset", "--wait", "--pace"]),
        (&["leases"], &["list", "revoke"]),
        (&["leases", "revoke"], &["<LEASE>", "--reason"]),
        (&["completions"], &["<SHELL>"]),
        (&["serve"], &["--state-dir", "--ram-budget", "HOIST_LIMITS_REQUEST_IDS"]),
    ] {
        let output = hoist(&[verb, &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{verb:?}");
        let help = stdout(&output);
        // What talks to no server has no use for them.
        let is_client = !["serve", "completions"].contains(&verb[0]);
        for flag in of_clients {
            assert_eq!(
                help.contains(flag),
                is_client,
                "`hoist {} --help` and {flag}:\n{help}",
                verb.join(" ")
            );
        }
        for flag in flags {
            assert!(help.contains(flag), "`hoist {} --help` lacks {flag}:\n{help}", verb.join(" "));
        }
        assert!(help.contains("Example"), "`hoist {} --help` lacks an example:\n{help}", verb.join(" "));
        assert!(!help.contains("no-color"), "{help}");
    }
}

#[test]
fn version_and_help_are_answers() {
    let version = hoist(&["--version"]);
    assert_eq!(stdout(&version), format!("hoist {}\n", env!("CARGO_PKG_VERSION")));
    let help = hoist(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Exit codes:"));
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let output = hoist(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        for verb in ["shutdown", "unload", "replicas"] {
            assert!(stdout(&output).contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("hoist"))
        .args(["completions", "bash"])
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(said, "");
}
