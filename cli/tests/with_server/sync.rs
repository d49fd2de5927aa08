//! Devices that take nothing new, and whether what shall be on devices and what is there agree.

use serde_json::{Value, json};

use crate::cache::told;
use crate::models::start;
use crate::residency::ready;
use crate::server::{Server, stderr, stdout};

/// Until its worker is there. Nothing else tells when it is than the list.
fn until_active(server: &Server) {
    while server.json(&["devices"])[0]["worker"]["state"] != "active" {}
}

/// How well both sides agree, once they do. The server looks now and then, so a load that has just ended may not be seen.
fn agreed(server: &Server) -> Value {
    loop {
        let health = server.json(&["sync"]);
        if health["overall"]["agrees"] == true && health["overall"]["difference"].is_null() {
            return health;
        }
    }
}

#[test]
fn a_cordoned_device_keeps_what_it_has_and_takes_nothing_new() {
    let server = ready("cpu:0=1GiB");
    server.json(&["load", "one", "--wait"]);
    let output = server.hoist(&["cordon", "CPU_0", "--reason", "new driver"]);
    told(&output, 2, "no device");
    let output = server.hoist(&["cordon", "cpu:0", "--reason", "new driver"]);
    told(&output, 0, "");
    assert_eq!(stdout(&output), "cpu:0 is cordoned (new driver); its worker is active\n");
    let device = server.json(&["devices", "cpu:0"]);
    assert_eq!(
        (&device["state"], &device["cordoned"], &device["cordon_reason"]),
        (&json!("cordoned"), &json!(true), &json!("new driver"))
    );
    assert_eq!(device["models"], 1, "what it has stays");
    assert!(stdout(&server.hoist(&["devices"])).contains("cordoned: new driver"));
    assert!(stdout(&server.hoist(&["devices", "cpu:0"])).contains("cordoned    new driver\n"));
    let coloured = stdout(&server.hoist(&["devices", "cpu:0", "--color", "always"]));
    assert!(coloured.contains("\u{1b}[33mcordoned\u{1b}[0m\n"), "{coloured:?}");
    assert!(coloured.contains("\u{1b}[32mactive\u{1b}[0m, process"), "{coloured:?}");
    assert!(!coloured.contains('\u{fffd}'), "{coloured:?}");
    for named in [&["--device", "cpu:0"][..], &[]] {
        let load = [&["load", "portrait", "--wait"], named].concat();
        let refused = server.hoist(&[&load[..], &["--json"]].concat());
        told(&refused, 4, "DEVICE_CORDONED");
    }
    assert_eq!(server.hoist(&["plan", "portrait"]).status.code(), Some(4));

    let open = server.json(&["uncordon", "cpu:0"]);
    assert_eq!((&open["state"], &open["cordoned"]), (&json!("open"), &json!(false)));
    let again = server.hoist(&["uncordon", "cpu:0"]);
    assert_eq!(stdout(&again), "cpu:0 is open; its worker is active\n");
    server.json(&["load", "portrait", "--wait"]);
}

#[test]
fn a_cordon_outlasts_the_server_and_holds_before_any_worker_has_come() {
    let mut server = ready("cpu:0=1GiB");
    told(&server.hoist(&["cordon", "cpu:0"]), 0, "");
    assert_eq!(server.hoist(&["shutdown"]).status.code(), Some(0));
    let again = server.spawn_again();
    server.process.wait().unwrap();
    server.process = again;
    let page = stdout(&server.hoist(&["devices", "cpu:0"]));
    assert!(page.contains("cordoned    no reason was given\n"), "{page}");
    until_active(&server);
    told(&server.hoist(&["load", "one", "--wait", "--json"]), 4, "DEVICE_CORDONED");

    let ahead = server.hoist(&["cordon", "GPU_7", "--reason", "not yet"]);
    assert_eq!(
        (ahead.status.code(), stdout(&ahead).as_str()),
        (Some(0), "cuda:7 is cordoned (not yet); no worker was heard of for it\n"),
        "{}",
        stderr(&ahead)
    );
    assert_eq!(server.json(&["uncordon", "cuda:7"])["cordoned"], false);
}

#[test]
fn what_is_loaded_agrees_of_everything_of_a_device_and_of_a_model() {
    let server = ready("cpu:0=1GiB");
    server.json(&["load", "one", "--wait"]);
    let whole = agreed(&server);
    let (device, model) = (&whole["devices"][0], &whole["models"][0]);
    assert_eq!((&device["device_id"], &device["agrees"]), (&json!("cpu:0"), &json!(true)));
    assert!(device["staleness_seconds"].is_number(), "{device}");
    assert_eq!(device["answered"], device["generation"]);
    assert_eq!((&device["drift_found"], &device["pace"]), (&json!(0), &json!("standard")));
    assert_eq!(
        (&model["model_name"], &model["device_id"], &model["agreement"]),
        (&json!("one"), &json!("cpu:0"), &json!(1.0))
    );
    let shown = stdout(&server.hoist(&["sync", "one", "--window", "1m"]));
    assert!(shown.starts_with("agreement   100 % of "), "{shown}");
    assert!(shown.contains("both sides agree\n") && shown.contains("MODEL  DEVICE"), "{shown}");
    let shown = stdout(&server.hoist(&["sync", "cpu:0"]));
    assert!(shown.contains("DEVICE  AGREEMENT  NOW") && shown.contains("cpu:0"), "{shown}");

    told(&server.hoist(&["sync", "portrait"]), 0, "portrait shall be on no device: `hoist load portrait`");
    told(&server.hoist(&["sync", "nobody"]), 3, "nobody");
    told(&server.hoist(&["sync", "cuda:5"]), 3, "cuda:5");
    told(&server.hoist(&["sync", "--window", "1s"]), 2, "error: --window: ");
    told(&server.hoist(&["sync", "--reset", "--wait", "2m"]), 2, "error: --wait: ");
}

#[test]
fn a_diagnosis_of_what_agrees_has_no_findings_and_tells_how_fast_the_worker_is() {
    let server = ready("cpu:0=1GiB");
    server.json(&["load", "one", "--wait"]);
    server.json(&["sync", "--reset", "--wait", "30s"]);
    let told_of = server.json(&["sync", "--diagnose"]);
    assert_eq!(told_of["findings"], json!([]));
    assert_eq!(told_of["latencies"][0]["device_id"], "cpu:0");
    assert_ne!(told_of["latencies"][0]["answers"], 0);
    let shown = stdout(&server.hoist(&["sync", "--diagnose", "cpu:0"]));
    assert!(shown.starts_with("nothing differs\n"), "{shown}");
    assert!(shown.contains("DEVICE  ANSWERS  MEDIAN"), "{shown}");
    assert_eq!(server.json(&["sync", "one", "--diagnose"])["findings"], json!([]));
}

#[test]
fn a_reset_unloads_nothing_and_says_whom_it_asked() {
    let server = ready("cpu:0=1GiB");
    server.json(&["load", "one", "--wait"]);
    let before = server.json(&["replicas"]);
    let waited = server.hoist(&["sync", "--reset", "--wait", "30s", "cpu:0"]);
    told(&waited, 0, "");
    assert_eq!(stdout(&waited), "the worker of cpu:0 is asked for everything again\nboth sides agree\n");
    assert_eq!(server.json(&["replicas"]), before);
    let reset = server.json(&["sync", "--reset"]);
    assert_eq!((&reset["device_ids"], &reset["agrees"]), (&json!(["cpu:0"]), &json!(null)));
    // Of a model it is only what was put off.
    assert_eq!(server.json(&["sync", "--reset", "one"])["device_ids"], json!([]));
    told(&start().hoist(&["sync", "--reset"]), 0, "");
}

#[test]
fn a_pace_is_that_of_everything_or_of_one_thing_and_can_be_given_up() {
    let server = ready("cpu:0=1GiB");
    let set = server.hoist(&["sync", "cpu:0", "--pace", "high"]);
    told(&set, 0, "");
    assert_eq!(stdout(&set), "cpu:0 may differ for half a second (high)\n");
    assert_eq!(server.json(&["sync", "cpu:0"])["devices"][0]["pace"], "high");
    let all = server.json(&["sync", "--pace", "background"]);
    assert_eq!((&all["name"], &all["pace"]), (&json!(null), &json!("background")));
    let own = server.json(&["sync", "one", "--pace", "idle"]);
    assert_eq!(own["pace"], "idle");
    let given_up = server.json(&["sync", "cpu_0", "--pace", "default"]);
    assert_eq!((&given_up["name"], &given_up["pace"]), (&json!("devices/cpu:0"), &json!("background")));
    assert_eq!(server.json(&["sync", "cpu:0", "--pace", "default"])["pace"], "background");
    told(&server.hoist(&["sync", "--pace", "default"]), 2, "nothing is named");
}
