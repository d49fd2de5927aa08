//! What is in RAM: cached, found by its path and held, against a server with the small models of `models`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};

use crate::models::{safetensors, start};
use crate::server::{Server, command, stderr, stdout};

pub(crate) fn told(output: &Output, exit: i32, says: &str) {
    assert_eq!(output.status.code(), Some(exit), "{}{}", stdout(output), stderr(output));
    assert!(stderr(output).contains(says), "{says}: {}", stderr(output));
}

/// The components of all models of an answer, one after the other.
fn components(answer: &Value) -> Vec<&Value> {
    answer.as_array().unwrap().iter().flat_map(|it| it["components"].as_array().unwrap()).collect()
}

/// The names in a file's header of tensors.
fn tensors(path: &str) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    header.as_object().unwrap().keys().filter(|key| *key != "__metadata__").cloned().collect()
}

#[test]
fn equal_components_are_cached_once_and_read_no_more_when_they_are_there() {
    let server = start();
    let one = server.json(&["cache", "one", "--wait"]);
    assert_eq!((&one[0]["name"], &one[0]["components"][0]["source"]), (&json!("one"), &json!("read")));
    assert_ne!(one[0]["read_bytes"], 0);
    let path = one[0]["components"][0]["path"].as_str().unwrap();
    assert_eq!(tensors(path), ["table"]);
    let both = server.json(&["cache", "two", "one"]);
    let [two, again] = components(&both)[..] else { panic!("{both}") };
    // The catalog has not read the second one, so that it is equal is seen only after reading it.
    assert_eq!((&two["source"], &again["source"]), (&json!("shared"), &json!("resident")));
    assert_eq!((&two["path"], &again["path"]), (&json!(path), &json!(path)));
    assert_eq!(both[1]["read_bytes"], 0);
    let segments = server.json(&["segments"]);
    assert_eq!(segments.as_array().unwrap().len(), 1);
    assert_eq!((&segments[0]["user_count"], &segments[0]["state"]), (&json!(2), &json!("sealed")));
    let table = server.hoist(&["cache", "portrait", "one"]);
    let lines: Vec<String> = stdout(&table).lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("MODEL     COMPONENT  SIZE"), "{lines:?}");
    assert!(lines[1].starts_with("portrait  lora  ") && lines[2].contains("resident"), "{lines:?}");
    assert!(stderr(&table).contains("2 models, 2 components, "), "{}", stderr(&table));
    let shown = stdout(&server.hoist(&["segments"]));
    assert!(shown.contains("one:rest +1") || shown.contains("two:rest +1"), "{shown}");
}

#[test]
fn one_that_fails_does_not_fail_the_others_and_the_exit_code_is_the_worst() {
    let server = start();
    let output = server.hoist(&["cache", "nobody", "cut", "one", "--json"]);
    told(&output, 4, "CORRUPTED_MODEL");
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers[0]["error"]["code"], "not_found");
    assert_eq!(answers[1]["error"]["reason"], "CORRUPTED_MODEL");
    assert_eq!(answers[2]["components"][0]["source"], "read");
    told(&server.hoist(&["cache", "one:nope"]), 2, "it has: rest");
    told(&server.hoist(&["cache", "one:rest", "--component", "rest"]), 2, "leave one of the two out");
    told(&server.hoist(&["cache", "portrat"]), 3, "did you mean `portrait`?");
}

#[test]
fn what_is_damaged_is_taken_only_when_somebody_says_so() {
    let server = start();
    told(&server.hoist(&["cache", "cut"]), 4, "--allow ");
    let taken = server.json(&["cache", "cut", "--allow", "corrupt", "--allow", "incomplete"]);
    assert_eq!(components(&taken).len(), 1);
}

#[test]
fn a_path_is_a_row_for_scripts_and_the_file_is_there() {
    let server = start();
    let output = server.hoist(&["path", "portrait:lora", "one"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows: Vec<Vec<String>> =
        stdout(&output).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    assert_eq!((rows[0][0].as_str(), rows[1][0].as_str()), ("lora", "rest"));
    assert_eq!(tensors(&rows[0][1]).len(), 2);
    let as_json = server.json(&["path", "one:rest"]);
    assert_eq!((&as_json[0]["path"], &as_json[0]["prefix"]), (&json!(rows[1][1]), &json!(rows[1][2])));
    assert_eq!(as_json[0]["source"], "resident");
    told(&server.hoist(&["path", "one:nope"]), 2, "has no component `nope`");
    told(&server.hoist(&["path", "nobody:rest"]), 3, "nobody");
    // A name with a colon in it is a name first.
    server.json(&["edit", "one", "--alias", "odd:rest"]);
    assert_eq!(server.json(&["path", "odd:rest"])[0]["name"], "one");
}

#[test]
fn who_does_not_wait_gets_the_names_of_what_goes_on() {
    let server = start();
    let output = server.hoist(&["cache", "one", "portrait", "--no-wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let names: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(names.len(), 2);
    for name in &names {
        let ended = server.json(&["ops", "wait", name]);
        assert_eq!((&ended["kind"], &ended["state"]), (&json!("cache_model"), &json!("succeeded")));
        assert!(ended["response"]["components"][0]["path"].is_string(), "{ended}");
        assert!(ended["subject"].as_str().unwrap().starts_with("models/"), "{ended}");
        let shown = stdout(&server.hoist(&["ops", "show", name]));
        assert!(shown.contains("about      one\n") || shown.contains("about      portrait\n"), "{shown}");
        assert!(
            shown.contains("COMPONENT")
                && shown.contains("nothing had to be read") != shown.contains(" read in ")
        );
    }
}

#[test]
fn operations_are_listed_by_what_they_are_about_and_the_rest_is_counted() {
    let server = start();
    server.json(&["cache", "one", "portrait"]);
    let listed = server.hoist(&["ops", "--filter", "kind = cache_model"]);
    assert!(stdout(&listed).contains("cache model  portrait"), "{}", stdout(&listed));
    let fewer = server.hoist(&["ops", "--filter", "kind = cache_model", "--limit", "1"]);
    told(&fewer, 0, "... 1 more: --all\n");
    assert_eq!(stdout(&fewer).lines().count(), 2, "{}", stdout(&fewer));
}

#[test]
fn a_policy_holds_at_once_and_goes_back_to_its_default() {
    let server = start();
    let large = server.path().join("models/large.safetensors");
    std::fs::write(large, safetensors(&[("table", &[1024, 512])], 1.0)).unwrap();
    server.json(&["scan", "--wait"]);
    let policy = server.json(&["cache-policy", "--budget", "1MiB", "--idle-ttl", "1h", "--eviction", "lru"]);
    assert_eq!(
        (&policy["budget_bytes"], &policy["idle_ttl_seconds"], &policy["eviction"]),
        (&json!(1 << 20), &json!(3600.0), &json!("lru"))
    );
    let state = server.json(&["cache"]);
    assert_eq!((&state["budget_bytes"], &state["budget_limit"]), (&json!(1 << 20), &json!("policy")));
    assert_eq!(state["policy"]["idle_ttl_seconds"], 3600.0);
    let refused = server.hoist(&["cache", "large", "--json"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(stderr(&refused).contains("RAM_EXHAUSTED"), "{}", stderr(&refused));
    assert_eq!(server.json(&["cache"])["statistics"]["read_bytes"], 0, "refused before the first byte");
    server.json(&["cache-policy", "--budget", "auto", "--idle-ttl", "never", "--eviction", "cost"]);
    assert_eq!(server.json(&["cache-policy"])["policy"]["budget_bytes"], Value::Null);
    server.json(&["cache", "portrait"]);
    let shown = stdout(&server.hoist(&["cache-policy"]));
    for part in
        ["policy      budget auto, eviction cost, idle TTL never", "directory   /dev/shm/", "64.0 KiB of "]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let own = server.json(&["cache-policy", "one", "--priority", "high", "--idle-ttl", "10m"]);
    assert_eq!((&own["cache_priority"], &own["cache_idle_ttl_seconds"]), (&json!("high"), &json!(600.0)));
    assert_eq!(server.json(&["show", "one"])["notes"]["config"]["cache_priority"], "high");
    server.json(&["cache", "one"]);
    assert_eq!(server.json(&["segments", "one"])[0]["priority"], "high");
    let own = server.json(&["cache-policy", "one", "--priority", "default", "--idle-ttl", "default"]);
    assert_eq!((&own["cache_priority"], &own["cache_idle_ttl_seconds"]), (&Value::Null, &Value::Null));
    told(&server.hoist(&["cache-policy", "one", "--idle-ttl", "never"]), 2, "hoist pin one");
    told(&server.hoist(&["cache-policy", "--idle-ttl", "1ms"]), 2, "error: --idle-ttl: ");
    told(&server.hoist(&["cache-policy", "--budget", "40"]), 2, "at least 1.0 MiB");
    told(&server.hoist(&["cache-policy", "--budget", "-5"]), 2, "invalid value '-5'");
    told(&server.hoist(&["cache-policy", "--budget", "8000TiB"]), 0, "warning: ");
}

/// A command that runs under `hoist hold` until its input ends.
pub(crate) struct Holding {
    process: Child,
    /// What the command was told.
    said: String,
}

impl Holding {
    pub(crate) fn start(server: &Server, names: &[&str]) -> Self {
        let mut process = command()
            .args([&["hold", "--holder", "trainer 3", "--endpoint", &server.endpoint()], names].concat())
            .args(["--", "sh", "-c", "env | grep HOIST_PATH_; echo; cat; exit 7"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(process.stdout.as_mut().unwrap());
        // An empty line ends what it has to say.
        while lines.read_line(&mut said).unwrap() > 1 {}
        Self { process, said }
    }

    pub(crate) fn end(mut self) -> Output {
        drop(self.process.stdin.take());
        self.process.wait_with_output().unwrap()
    }
}

#[test]
fn a_lease_lasts_as_long_as_the_command_and_is_in_its_environment() {
    let server = start();
    let holding = Holding::start(&server, &["portrait", "one:rest"]);
    let path = server.json(&["path", "portrait"])[0]["path"].as_str().unwrap().to_owned();
    assert!(holding.said.contains(&format!("HOIST_PATH_LORA={path}\n")), "{}", holding.said);
    assert!(holding.said.contains("HOIST_PATH_REST=/"), "{}", holding.said);
    let leases = server.json(&["leases"]);
    assert_eq!(leases.as_array().unwrap().len(), 2);
    assert_eq!((&leases[0]["holder"], &leases[0]["state"]), (&json!("trainer 3"), &json!("held")));
    assert_eq!(leases[0]["process_id"], holding.process.id());
    let kept = server.hoist(&["evict", "portrait"]);
    assert_eq!(kept.status.code(), Some(4), "{}", stderr(&kept));
    assert!(stdout(&kept).contains("it is leased by trainer 3"), "{}", stdout(&kept));
    let shown = stdout(&server.hoist(&["leases"]));
    assert!(shown.contains("portrait") && shown.contains("trainer 3"), "{shown}");
    let ended = holding.end();
    assert_eq!(ended.status.code(), Some(7), "{}", stderr(&ended));
    assert_eq!(server.json(&["leases"]), json!([]));
    assert_eq!(server.json(&["evict", "portrait"])["segments"][0]["evicted"], true);
}

#[test]
fn nothing_is_run_without_its_leases() {
    let server = start();
    let endpoint = server.endpoint();
    let run = |names: &[&str], command_line: &[&str]| {
        // What follows `--` is the command's.
        let hold = [&["hold", "--endpoint", &endpoint], names, &["--"], command_line].concat();
        command().args(hold).output().unwrap()
    };
    let hold = |names: &[&str]| run(names, &["echo", "it runs"]);
    for (names, exit) in [(&["nobody"][..], 3), (&["one", "portrait:nope"], 2), (&["cut"], 4)] {
        let output = hold(names);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(exit), ""), "{}", stderr(&output));
    }
    told(&run(&["one"], &["/nonexistent/command"]), 127, "cannot run /nonexistent/command");
    told(&run(&["one"], &["/"]), 126, "cannot run /");
    assert_eq!(server.json(&["leases"]), json!([]));
}

#[test]
fn components_of_one_name_are_told_apart_by_their_models() {
    let server = start();
    server.json(&["edit", "evil\u{1b}[2J", "--name", "evil"]);
    let holding = Holding::start(&server, &["one", "evil"]);
    let said = holding.said.clone();
    assert!(said.contains("HOIST_PATH_ONE_REST=/") && said.contains("HOIST_PATH_EVIL_REST=/"), "{said}");
    assert!(!said.contains("HOIST_PATH_REST="), "{said}");
    assert_eq!(holding.end().status.code(), Some(7));
}

#[test]
fn a_model_that_is_named_twice_is_one() {
    let server = start();
    let twice = server.json(&["cache", "one:rest", "one:rest", "one"]);
    assert_eq!(twice.as_array().unwrap().len(), 1, "{twice}");
    let table = server.hoist(&["cache", "one", "one:rest"]);
    told(&table, 0, "1 component, ");
    assert_eq!(stdout(&server.hoist(&["path", "one", "one:rest", "one"])).lines().count(), 1);
    let holding = Holding::start(&server, &["one", "one:rest", "one"]);
    assert_eq!(server.json(&["leases"]).as_array().unwrap().len(), 1);
    assert_eq!(holding.end().status.code(), Some(7));
    told(&server.hoist(&["evict", "one", "one:rest", "one"]), 0, "one: ");
}

#[test]
fn a_shutdown_tells_what_stays_in_ram_and_what_frees_it() {
    let server = start();
    server.json(&["cache", "one", "portrait"]);
    let directory = server.json(&["cache"])["directory"].as_str().unwrap().to_owned();
    let stopped = server.hoist(&["shutdown"]);
    told(&stopped, 0, "2 segments, ");
    told(
        &stopped,
        0,
        &format!(" stay in {directory} for the next server; `rm -r {directory}` frees the memory"),
    );
}

#[test]
fn what_should_stop_it_stops_the_command() {
    let server = start();
    let mut holding = Holding::start(&server, &["one"]);
    let id = holding.process.id().to_string();
    // Open until all is over: the end of its input would end the command, too.
    let input = holding.process.stdin.take();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    holding.process.wait().unwrap();
    drop(input);
    let ended = holding.end();
    // As a shell tells it: 128 and the signal's number.
    assert_eq!(ended.status.code(), Some(143), "{}", stderr(&ended));
    assert_eq!(server.json(&["leases"]), json!([]));
}

#[test]
fn a_revoked_lease_is_told_and_the_command_goes_on() {
    let server = start();
    let mut holding = Holding::start(&server, &["one"]);
    let lease = server.json(&["leases"])[0]["name"].as_str().unwrap().to_owned();
    let short = &lease[lease.len() - 8..];
    assert_eq!(server.json(&["status", &format!("leases/{short}")])["name"], lease);
    assert_eq!(server.json(&["leases", "revoke", short, "--reason", "out of room"])["revoked"], true);
    let mut line = String::new();
    let stderr_of = holding.process.stderr.as_mut().unwrap();
    BufReader::new(stderr_of).read_line(&mut line).unwrap();
    assert!(line.contains("is revoked: out of room; the command goes on"), "{line}");
    holding.process.stdin.as_mut().unwrap().write_all(b"still here").unwrap();
    let ended = holding.end();
    assert_eq!((ended.status.code(), stdout(&ended).as_str()), (Some(7), "still here"));
    told(&server.hoist(&["leases", "revoke", short]), 3, "no lease's id");
}

#[test]
fn leases_and_segments_outlive_the_server() {
    let mut server = start();
    let before = server.json(&["cache", "one", "portrait"]);
    let holding = Holding::start(&server, &["one"]);
    let lease = server.json(&["leases"])[0]["name"].clone();
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    server.process = server.spawn_again();
    assert_eq!(server.json(&["cache"])["statistics"]["adopted"], 2);
    // Nothing else tells when its holder has come back.
    let back = loop {
        let leases = server.json(&["leases"]);
        if leases[0]["state"] == "held" {
            break leases;
        }
        assert_eq!(leases[0]["state"], "awaited", "{leases}");
    };
    assert_eq!(back[0]["name"], lease);
    let after = server.json(&["cache", "one", "portrait"]);
    assert!(after.as_array().unwrap().iter().all(|it| it["read_bytes"] == 0), "{after}");
    let path = |it: &Value| it["components"][0]["path"].clone();
    assert_eq!(path(&before[0]), path(&after[0]));
    let ended = holding.end();
    assert_eq!(ended.status.code(), Some(7));
    assert!(stderr(&ended).contains("is taken up again"), "{}", stderr(&ended));
    assert!(stderr(&ended).contains(&format!("the server is gone: {} is asked", lease.as_str().unwrap())));
    assert_eq!(server.json(&["leases"]), json!([]));
}

#[test]
fn a_watch_and_a_status_tell_of_segments() {
    let server = start();
    server.json(&["cache", "portrait"]);
    let snapshot = server.json(&["watch", "--once", "--kind", "segment"]);
    let segment = &snapshot["resources"][0];
    assert_eq!(
        (&segment["segment"]["type"], &segment["segment"]["state"]),
        (&json!("lora"), &json!("sealed"))
    );
    let name = segment["name"].as_str().unwrap();
    let short = &name[..name.find('/').unwrap() + 9];
    assert_eq!(server.json(&["status", short])["name"], name);
    assert!(stdout(&server.hoist(&["status", short])).contains("type        lora\n"));
    let words = stdout(&server.hoist(&["watch", "--once", "--kind", "segment", "--kind", "model"]));
    assert!(words.contains("lora for portrait, 64.0 KiB, sealed"), "{words}");
    assert!(words.contains(&format!(" {}  lora", &name[..name.find('/').unwrap() + 13])), "{words}");
    let status = stdout(&server.hoist(&["status", name]));
    for part in
        ["cached for  portrait\n", "path        /", "leases      0\n", "pinned      no\n", "idle        "]
    {
        assert!(status.contains(part), "{part}: {status}");
    }
    let ended = server.hoist(&["watch", "--once"]);
    told(&ended, 0, " that had ended not shown: --history shows them");
    assert!(!stdout(&ended).contains(" operations/"), "{}", stdout(&ended));
    let ended = stdout(&server.hoist(&["watch", "--once", "--history"]));
    assert!(ended.contains("cache_model, portrait, succeeded"), "{ended}");
    told(&server.hoist(&["status", "segments/zebra"]), 2, "segments/DIGEST");
    told(&server.hoist(&["status", "segments/00000000"]), 3, "`hoist segments` lists them");
}
