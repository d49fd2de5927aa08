//! The command line against a real server, in private directories.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

mod cache;
mod evict;
mod models;
mod newcomers;
mod residency;
mod server;
mod sync;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::server::{Server, command, stderr, stdout};

#[test]
fn after_shutdown_another_server_can_start_at_once() {
    let mut server = Server::start();
    let output = server.hoist(&["shutdown"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("has stopped after"), "{}", stdout(&output));
    // Nobody has waited for the process before: that it has ended is what the verb found out.
    let again = server.spawn_again();
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    server.process = again;
    assert_eq!(server.json(&["shutdown", "--no-wait"])["state"], "draining");
}

#[test]
fn one_name_is_one_object_and_several_are_an_array() {
    let server = Server::start();
    let (alone, named) = (server.json(&["status"]), server.json(&["status", "machine"]));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&alone), keys(&named));
    assert_eq!(server.json(&["status", "machine", "machine"]).as_array().unwrap().len(), 2);
    let missing = server.hoist(&["status", "conditions/STORE_READONLY", "--json"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(missing.stdout.is_empty(), "{}", stdout(&missing));
}

#[test]
fn doctor_looks_where_the_server_is_though_it_was_started_elsewhere() {
    let server = Server::start();
    let checks = server.hoist(&["doctor", "--json"]);
    let state = server.path().join("state");
    assert!(stdout(&checks).contains(state.to_str().unwrap()), "{}", stdout(&checks));
}

#[test]
fn an_operation_is_found_by_the_end_of_its_id_and_its_failure_names_it() {
    let server = Server::start();
    assert_eq!(
        server.hoist(&["doctor", "--probe", "--bytes", "16MiB", "--kind", "memory-copy"]).status.code(),
        Some(0)
    );
    let listed = stdout(&server.hoist(&["ops", "--filter", "state = succeeded"]));
    let short = listed.lines().nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(short.len(), 8, "{listed}");
    let name = server.json(&["ops", "get", short])["name"].as_str().unwrap().to_owned();
    assert!(name.ends_with(short), "{name}");
    assert_eq!(server.json(&["ops", "forget", short])["deleted"], true);
}

#[test]
fn a_server_that_goes_away_while_an_operation_runs_says_where_to_find_it() {
    let mut server = Server::start();
    let endpoint = format!("unix://{}/run/hoist.sock", server.path().display());
    let probe = command()
        .args(["doctor", "--probe", "--bytes", "256GiB", "--kind", "memory-copy", "--endpoint", &endpoint])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It runs once the list says so; the list is asked again until then.
    let name = loop {
        let running = server.json(&["ops", "--filter", "state = running"]);
        if let Some(operation) = running.as_array().unwrap().first() {
            break operation["name"].as_str().unwrap().to_owned();
        }
    };
    // The verb holds the operation by a second call, which must have begun; then the whole stream breaks.
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.process.kill().unwrap();
    let output = probe.wait_with_output().unwrap();
    let id = name.trim_start_matches("operations/");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains(&format!("hoist ops show {id}")), "{said}");
    // Who asked for a probe has not asked for an operation: its name is no start of a sentence.
    assert!(said.starts_with("error: the connection"), "{said}");
}

#[test]
fn flags_are_named_in_place_of_fields() {
    let server = Server::start();
    for (args, said) in [
        (&["watch", "--progress", "1ms"][..], "error: --progress: must be"),
        (&["shutdown", "--grace", "1m"], "error: --grace: must be"),
        (&["status", "conditions/nope"], "there are STORE_READONLY"),
    ] {
        let output = server.hoist(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!stderr(&output).contains("named fields"), "{}", stderr(&output));
    }
}

#[test]
fn a_watch_from_a_position_that_is_gone_starts_over_in_the_words_of_people() {
    let server = Server::start();
    let endpoint = format!("unix://{}/run/hoist.sock", server.path().display());
    let mut watch = command()
        .args(["watch", "--from", "9.9", "--state", "RUNNING", "--endpoint", &endpoint])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(watch.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("machine"), "{line}");
    watch.kill().unwrap();
    let said = stderr(&watch.wait_with_output().unwrap());
    assert!(said.ends_with("since that position: starting over\n"), "{said}");
}
