//! Models on devices: loaded, planned, shown and unloaded, against a server with a worker for the machine's own memory.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cache::{Holding, told};
use crate::models::{safetensors, start, start_worked};
use crate::server::{Server, command, stderr, stdout};

/// A server whose worker is there. Nothing else tells when it is than the list.
pub(crate) fn ready(device: &'static str) -> Server {
    let server = start_worked(device);
    loop {
        let devices = server.json(&["devices"]);
        match devices[0]["worker"]["state"].as_str() {
            Some("active") => return server,
            Some("quarantined" | "lost") => panic!("{devices}"),
            _ => {}
        }
    }
}

fn list(answer: &Value) -> &[Value] {
    answer.as_array().unwrap()
}

#[test]
fn a_model_is_loaded_shown_and_unloaded() {
    let server = ready("cpu:0=1GiB");
    let first = server.json(&["load", "one", "--wait"]);
    let one = &first["components"][0];
    assert_eq!((&first["device_id"], &first["strategy"]), (&json!("cpu:0"), &json!("standard")));
    assert_eq!(
        (&one["model_name"], &one["component"], &one["resident"], &one["dtype"]),
        (&json!("one"), &json!("rest"), &json!(false), &Value::Null)
    );
    assert_eq!(one["tensors"], 1);
    // Once more: nothing is done.
    let again = server.json(&["load", "one", "--device", "cpu:0", "--wait"]);
    assert_eq!((&again["components"][0]["resident"], &again["read_bytes"]), (&json!(true), &json!(0)));
    assert_eq!(again["components"][0]["replica"], one["replica"]);
    let table = server.hoist(&["load", "one", "--device", "cpu:0", "--wait"]);
    assert!(stdout(&table).starts_with("COMPONENT  DEVICE  SIZE"), "{}", stdout(&table));
    assert!(stdout(&table).contains("resident"), "{}", stdout(&table));
    told(&table, 0, "1 there already");
    // Why it went there is told to those who name a rule, and by a plan.
    let plain = server.hoist(&["load", "one", "--wait"]);
    assert_eq!(stderr(&plain).lines().count(), 1, "{}", stderr(&plain));
    let by_rule = server.hoist(&["load", "one", "--place", "pack", "--wait"]);
    told(&by_rule, 0, "cpu:0 is the only device\n");

    let status = server.json(&["status", "one"]);
    let joined = &status["model_status"];
    assert_eq!((&joined["cached"], &joined["loaded_on"]), (&json!(true), &json!(["cpu:0"])));
    let replica = &joined["components"][0]["replicas"][0];
    assert_eq!((&replica["name"], &replica["state"]), (&one["replica"], &json!("active")));
    assert_eq!((&replica["unknown"], &status["model"]["name"]), (&json!(false), &json!("one")));
    let page = stdout(&server.hoist(&["status", "one"]));
    for part in ["cached      yes\n", "loaded on   cpu:0\n", "sealed", "active"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(server.json(&["status", "portrait"])["model_status"]["loaded_on"], json!([]));

    let gone = server.json(&["unload", "one"]);
    assert_eq!((list(&gone["replicas"]).len(), &gone["models"][0]["name"]), (1, &json!("one")));
    assert_eq!(gone["replicas"][0]["kept_because"], Value::Null);
    assert_eq!((&gone["replicas"][0]["used_by"], &gone["retained_bytes"]), (&json!("one:rest"), &json!(0)));
    assert_eq!(server.json(&["replicas"]), json!([]));
    let nothing = server.hoist(&["unload", "one"]);
    assert_eq!((nothing.status.code(), stderr(&nothing).as_str()), (Some(0), "one is not on any device\n"));
    told(&server.hoist(&["unload", "one", "portrait", "--device", "cpu:0"]), 0, "none of these is on cpu:0");
    // What is in RAM stays there.
    assert_eq!(server.json(&["status", "one"])["model_status"]["cached"], true);
}

#[test]
fn several_models_are_one_operation_and_what_they_share_is_there_once() {
    let server = ready("cpu:0=1GiB");
    let all = server.json(&["load", "one", "two", "portrait", "one:rest", "--place", "pack", "--wait"]);
    let names: Vec<&Value> = list(&all["components"]).iter().map(|it| &it["model_name"]).collect();
    assert_eq!(names.len(), 3, "{all}");
    let replicas = server.json(&["replicas"]);
    assert_eq!(list(&replicas).len(), 2, "one and two have the same content");
    assert_eq!(list(&server.json(&["replicas", "portrait", "--device", "cpu:0"])).len(), 1);
    let shown = stdout(&server.hoist(&["replicas"]));
    assert!(shown.contains("one:rest +1") || shown.contains("two:rest +1"), "{shown}");
    assert!(shown.contains("portrait:lora"), "{shown}");

    let device = &server.json(&["devices"])[0];
    assert_eq!((&device["models"], &device["replicas"]), (&json!(3), &json!(2)));
    assert!(stdout(&server.hoist(&["devices"])).contains("MODELS"));
    let device = stdout(&server.hoist(&["devices", "cpu:0"]));
    assert!(device.contains("models      one, portrait, two\n"), "{device}");
    let machine = server.json(&["status"])["machine"].clone();
    assert_eq!((&machine["active_replicas"], &machine["loaded_models"]), (&json!(2), &json!(3)));
    assert_eq!((&machine["missing_models"], &machine["segments"]), (&json!(0), &json!(2)));
    assert_eq!(machine["devices"][0]["device_id"], "cpu:0");
    let machine = stdout(&server.hoist(&["status"]));
    assert!(machine.contains("loaded     3 models, 2 replicas active\n"), "{machine}");
    assert!(machine.contains("in RAM     2 segments, "), "{machine}");

    // What another model shares stays, and that is no failure.
    let kept = server.hoist(&["unload", "one"]);
    told(&kept, 0, "1 kept");
    assert!(stdout(&kept).contains("kept"), "{}", stdout(&kept));
    let gone = server.json(&["unload", "two", "portrait"]);
    assert!(list(&gone["replicas"]).iter().all(|it| it["kept_because"].is_null()), "{gone}");
    assert_eq!(server.json(&["replicas"]), json!([]));
}

#[test]
fn a_plan_tells_where_and_what_and_changes_nothing() {
    let server = ready("cpu:0=1GiB");
    let plan = server.json(&["plan", "one", "portrait"]);
    assert_eq!((&plan["device_id"], &plan["refusal"]), (&json!("cpu:0"), &Value::Null));
    assert_eq!((list(&plan["components"]).len(), &plan["devices"][0]["fits"]), (2, &json!(true)));
    assert!(!list(&plan["reasons"]).is_empty(), "{plan}");
    assert_ne!(plan["read_bytes"], 0);
    let shown = stdout(&server.hoist(&["plan", "one"]));
    for part in ["one would go to cpu:0\n", "why         ", "DEVICE  FITS  NEEDED", "COMPONENT  RAM"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let estimate = server.json(&["plan", "one", "--estimate", "--dtype", "BF16"]);
    assert_eq!((&estimate["missing_ram_bytes"], &estimate["left_out"]), (&estimate["ram_bytes"], &json!([])));
    let shown = stdout(&server.hoist(&["plan", "one", "--estimate"]));
    assert!(shown.starts_with("one\ndevice      ") && shown.contains("RAM at most "), "{shown}");
    assert_eq!(server.json(&["replicas"]), json!([]));
    assert_eq!(server.json(&["segments"]), json!([]));
    server.json(&["load", "one", "--wait"]);
    let there = server.json(&["plan", "one"]);
    assert_eq!(
        (&there["device_bytes"], &there["ram_bytes"], &there["read_bytes"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(there["components"][0]["on_devices"], json!(["cpu:0"]));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_read_and_the_plan_says_so() {
    let server = ready("cpu:0=1MiB");
    let large = server.path().join("models/large.safetensors");
    std::fs::write(large, safetensors(&[("table", &[1024, 512])], 1.0)).unwrap();
    server.json(&["scan", "--wait"]);
    let plan = server.hoist(&["plan", "large", "--json"]);
    assert_eq!(plan.status.code(), Some(4), "{}", stderr(&plan));
    let answer: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!((&answer["refusal_reason"], &answer["device_id"]), (&json!("VRAM_EXHAUSTED"), &Value::Null));
    assert_eq!(answer["devices"][0]["fits"], false);
    let shown = server.hoist(&["plan", "large"]);
    assert_eq!(shown.status.code(), Some(4), "{}", stderr(&shown));
    assert!(
        stdout(&shown).starts_with("large would be refused: VRAM_EXHAUSTED\nbecause     "),
        "{}",
        stdout(&shown)
    );
    told(&server.hoist(&["load", "large", "--wait", "--json"]), 4, "VRAM_EXHAUSTED");
    // All of it or nothing.
    told(&server.hoist(&["load", "one", "large", "--wait"]), 4, "error: ");
    assert_eq!(server.json(&["replicas"]), json!([]));
    assert_eq!(server.json(&["cache"])["statistics"]["read_bytes"], 0);
}

#[test]
fn a_name_that_stands_for_nothing_ends_as_it_does_elsewhere() {
    let server = ready("cpu:0=1GiB");
    for verb in [&["load", "--wait"][..], &["load"], &["unload"], &["plan"], &["plan", "--estimate"]] {
        told(&server.hoist(&[verb, &["nobody"]].concat()), 3, "nobody");
        told(&server.hoist(&[verb, &["one:nope"]].concat()), 2, "it has: rest");
        told(
            &server.hoist(&[verb, &["one:rest", "--component", "rest"]].concat()),
            2,
            "leave one of the two out",
        );
    }
    told(&server.hoist(&["replicas", "nobody"]), 3, "nobody");
    told(&server.hoist(&["load", "one", "--device", "tpu:0", "--wait"]), 2, "error: --device: ");
    told(&server.hoist(&["load", "one", "--dtype", "float17", "--wait"]), 2, "error: --dtype: ");
    told(&server.hoist(&["plan", "one", "--estimate", "--dtype", "float17"]), 2, "error: --dtype: ");
    told(&server.hoist(&["load", "one", "--device", "cuda:5", "--wait"]), 3, "there are: cpu:0");
    told(&server.hoist(&["load", "one", "--strategy", "streaming", "--wait"]), 1, "not built yet");
    server.json(&["load", "one", "--strategy", "streaming", "--strategy", "standard", "--wait"]);
    told(&server.hoist(&["load", "cut", "--wait"]), 4, "--allow ");
}

#[test]
fn what_somebody_has_leased_is_unloaded_only_by_force() {
    let server = ready("cpu:0=1GiB");
    server.json(&["load", "one", "--wait"]);
    let holding = Holding::start(&server, &["one"]);
    told(&server.hoist(&["unload", "one", "--json"]), 4, "IN_USE");
    assert_eq!(list(&server.json(&["replicas"])).len(), 1);
    assert_eq!(server.json(&["status", "one"])["model_status"]["leases"], 1);
    let gone = server.json(&["unload", "one", "--force"]);
    assert_eq!(list(&gone["replicas"]).len(), 1);
    assert_eq!(server.json(&["leases"])[0]["state"], "held", "what is in RAM is another thing");
    assert_eq!(holding.end().status.code(), Some(7));
}

#[test]
fn what_is_held_on_a_device_that_is_ram_is_held_in_ram() {
    let server = ready("cpu:0=1GiB");
    let hold = |device: &str, line: &str| {
        let endpoint = server.endpoint();
        let before = ["hold", "one", "--device", device, "--endpoint", &endpoint, "--", "sh", "-c", line];
        command().args(before).output().unwrap()
    };
    assert_eq!(hold("cpu:0", "test -f \"$HOIST_PATH_REST\" && exit 7").status.code(), Some(7));
    told(&hold("cuda:7", "true"), 3, "there are: cpu:0");
    told(&hold("tpu:0", "true"), 2, "error: --device: ");
}

#[test]
fn who_does_not_wait_gets_the_name_of_what_goes_on() {
    let server = ready("cpu:0=1GiB");
    let output = server.hoist(&["load", "one", "portrait", "--no-wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let name = stdout(&output).trim().to_owned();
    let ended = server.json(&["ops", "wait", &name]);
    assert_eq!((&ended["kind"], &ended["state"]), (&json!("load_model"), &json!("succeeded")));
    assert_eq!(list(&ended["response"]["components"]).len(), 2);
    let shown = stdout(&server.hoist(&["ops", "show", &name]));
    assert!(shown.contains("MODEL") && shown.contains("portrait  lora "), "{shown}");
    assert!(shown.contains(" on cpu:0 in "), "{shown}");
    server.json(&["unload", "one"]);
    let unloads = server.json(&["ops", "--filter", "kind = unload_model"]);
    assert_eq!(unloads[0]["response"]["replicas"][0]["device_id"], "cpu:0");
    let shown = stdout(&server.hoist(&["ops", "show", unloads[0]["name"].as_str().unwrap()]));
    assert!(shown.contains("EXPECTED  RETURNED") && shown.contains(" returned in "), "{shown}");
}

#[test]
fn a_watch_tells_of_replicas_in_the_words_of_people() {
    let server = ready("cpu:0=1GiB");
    let mut watch = command()
        .args(["watch", "--kind", "replica", "--kind", "model", "--endpoint", &server.endpoint()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = |says: &str| {
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains(" replicas/")).unwrap();
        assert!(line.contains(says), "{says}: {line}");
    };
    // Once all that there was is told: what comes then is a change.
    server.json(&["cache", "one"]);
    server.json(&["load", "one", "--wait"]);
    next("added, cpu:0, one:rest, waiting");
    next("cpu:0, one:rest: waiting -> ");
    let snapshot = server.json(&["watch", "--once", "--kind", "replica"]);
    let replica = &snapshot["resources"][0];
    assert_eq!(
        (&replica["replica"]["state"], &replica["replica"]["device_id"]),
        (&json!("active"), &json!("cpu:0"))
    );
    let device = server.json(&["watch", "--once", "--kind", "device"]);
    assert_eq!(device["resources"][0]["device"]["device_id"], "cpu:0");

    let name = replica["name"].as_str().unwrap();
    let short = &name[name.len() - 8..];
    assert_eq!(server.json(&["status", &format!("replicas/{short}")])["name"], *name);
    let page = stdout(&server.hoist(&["status", name]));
    for part in ["state       active\n", "device      cpu:0\n", "of          one:rest\n"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    told(&server.hoist(&["status", "replicas/zebra"]), 2, "replicas/ID");
    told(&server.hoist(&["status", "replicas/00000000"]), 3, "`hoist replicas` lists them");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn what_was_loaded_comes_back_with_the_server() {
    let mut server = ready("cpu:0=1GiB");
    server.json(&["load", "one", "--wait"]);
    assert_eq!(server.hoist(&["shutdown"]).status.code(), Some(0));
    let again = server.spawn_again();
    server.process.wait().unwrap();
    server.process = again;
    // Nothing else tells when it is there again.
    loop {
        let status = server.json(&["status", "one"]);
        if status["model_status"]["loaded_on"] == json!(["cpu:0"]) {
            break;
        }
    }
}

#[test]
fn without_a_device_there_is_nowhere_to_go() {
    let server = start();
    told(&server.hoist(&["replicas"]), 0, "nothing is on any device");
    told(&server.hoist(&["replicas", "one"]), 0, "`hoist load one` brings it there");
    let plan = server.hoist(&["plan", "one", "--json"]);
    assert_eq!(plan.status.code(), Some(4), "{}", stderr(&plan));
    let answer: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert!(answer["refusal"].is_string() && answer["devices"] == json!([]), "{answer}");
    told(&server.hoist(&["load", "one", "--wait"]), 3, "no device is known");
    told(&server.hoist(&["unload", "one"]), 0, "one is not on any device");
}
