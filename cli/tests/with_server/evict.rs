//! What goes out of RAM and what stays there, against a server with the small models of `models`.

use serde_json::{Value, json};

use crate::cache::told;
use crate::models::start;
use crate::server::{stderr, stdout};

#[test]
fn what_is_pinned_stays_until_it_is_not() {
    let server = start();
    assert_eq!(server.json(&["pin", "one"])["absent"], json!(["rest"]));
    assert!(stdout(&server.hoist(&["pin", "one"])).starts_with("one is pinned\n"));
    assert!(stdout(&server.hoist(&["show", "one"])).contains("in RAM      pinned (not in RAM)\n"));
    let shown = server.json(&["show", "one"]);
    assert_eq!(
        (&shown["cache"]["pinned_now"], &shown["cache"]["pinned_and_absent"]),
        (&json!(["rest"]), &json!(["rest"]))
    );
    server.json(&["cache", "one", "portrait"]);
    assert!(stdout(&server.hoist(&["pin", "one:rest"])).starts_with("rest of one is pinned\n"));
    assert_eq!(server.json(&["pin", "one:rest"])["resident"], json!(["rest"]));
    assert!(stdout(&server.hoist(&["show", "one"])).contains("in RAM      pinned\n"));
    let kept = server.hoist(&["evict", "one"]);
    told(&kept, 4, "0 B freed");
    assert!(stdout(&kept).contains("pinned"), "{}", stdout(&kept));
    let all = server.json(&["evict", "--all"]);
    let kept = all["segments"].as_array().unwrap().iter().filter(|it| it["evicted"] == false);
    assert_eq!(kept.count(), 1, "{all}");
    assert_ne!(all["freed_bytes"], 0);
    // It goes with what people wrote, and that is told before.
    assert!(stdout(&server.hoist(&["rm", "one", "--dry-run"])).contains("with its pin"));
    assert_eq!(server.json(&["unpin", "one"])["was_pinned"], true);
    told(&server.hoist(&["unpin", "one"]), 0, "was not pinned");
    assert_eq!(server.json(&["evict", "one"])["segments"][0]["evicted"], true);
    told(&server.hoist(&["segments"]), 0, "nothing is in RAM");
}

#[test]
fn a_dry_run_evicts_nothing() {
    let server = start();
    server.json(&["cache", "one"]);
    let told = server.json(&["evict", "one", "--dry-run"]);
    assert_eq!((&told["segments"][0]["evicted"], &told["dry_run"]), (&json!(true), &json!(true)));
    assert_eq!(told["segments"][0]["used_by"], "one:rest");
    let shown = server.hoist(&["evict", "--all", "--dry-run"]);
    assert!(stdout(&shown).contains("would go"), "{}", stdout(&shown));
    assert_eq!(server.json(&["segments", "one"]).as_array().unwrap().len(), 1);
    let several = server.json(&["evict", "one", "portrait"]);
    assert_eq!(several["segments"].as_array().unwrap().len(), 1);
    assert_eq!(several["models"].as_array().unwrap().len(), 2);
    let nothing = server.hoist(&["evict", "one"]);
    assert_eq!((nothing.status.code(), stderr(&nothing).as_str()), (Some(0), "nothing of one is in RAM\n"));
}

#[test]
fn several_models_are_judged_together_and_a_dry_run_agrees() {
    let server = start();
    server.json(&["cache", "one", "two", "portrait"]);
    // What another cached model shares stays; what only these share goes.
    told(&server.hoist(&["evict", "one"]), 4, "one: 0 B freed, 0 segments, 1 kept");
    let dry = server.hoist(&["evict", "one", "two", "portrait", "--dry-run"]);
    told(&dry, 0, "all of them: ");
    assert!(stderr(&dry).contains(" would be freed, 2 segments\n"), "{}", stderr(&dry));
    assert_eq!(stdout(&dry).matches("would go").count(), 2, "{}", stdout(&dry));
    let gone = server.hoist(&["evict", "one", "nobody", "two"]);
    told(&gone, 3, " freed, 1 segment\n");
    assert_eq!(stdout(&gone).matches("evicted").count(), 1, "{}", stdout(&gone));
    told(&server.hoist(&["evict", "nobody", "portrait", "--json"]), 3, "nobody");
    told(&server.hoist(&["segments"]), 0, "nothing is in RAM");
    told(&server.hoist(&["evict"]), 2, "name models, or --all");
}

#[test]
fn components_of_several_models_are_judged_together_and_a_dry_run_agrees() {
    let server = start();
    server.json(&["cache", "one", "two"]);
    let judged = |more: &[&str]| {
        let told = server.json(&[&["evict", "one:rest", "two:rest"], more].concat());
        (told["segments"].clone(), told["freed_bytes"].clone())
    };
    let (dry, real) = (judged(&["--dry-run"]), judged(&[]));
    assert_eq!(dry, real);
    assert_eq!((dry.0.as_array().unwrap().len(), &dry.0[0]["evicted"]), (1, &json!(true)));
}

#[test]
fn what_is_wrong_with_one_name_is_told_of_that_and_the_others_are_judged() {
    let server = start();
    server.json(&["cache", "one", "two"]);
    let output = server.hoist(&["evict", "one:nope", "two", "one", "nobody", "--json"]);
    told(&output, 3, "one has no component `nope`; it has: rest");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["segments"][0]["evicted"], true);
    let names: Vec<&Value> = answer["errors"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["one:nope", "nobody"]);
}

#[test]
fn a_segment_is_evicted_by_its_digits_whosever_it_is() {
    let server = start();
    for prefix in ["segments/", ""] {
        server.json(&["cache", "one", "two", "portrait"]);
        let name = server.json(&["segments", "one"])[0]["name"].as_str().unwrap().to_owned();
        let digits = name.strip_prefix("segments/").unwrap();
        let gone = server.json(&["evict", &format!("{prefix}{}", &digits[..12])]);
        assert_eq!((&gone["segments"][0]["segment"], gone["id"].is_null()), (&json!(name), true));
        assert_eq!(gone["segments"].as_array().unwrap().len(), 1);
        assert_eq!(server.json(&["segments"]).as_array().unwrap().len(), 1);
        // Too few digits for a segment, and nobody's name.
        told(&server.hoist(&["evict", &digits[..7]]), 3, "");
    }
    told(&server.hoist(&["evict", "0123456789ab"]), 3, "0123456789ab");
}

#[test]
fn pins_add_up_and_are_taken_away_one_by_one() {
    let server = start();
    server.json(&["pin", "one:rest"]);
    told(&server.hoist(&["unpin", "one:nope"]), 2, "nope");
    let left = server.json(&["unpin", "one:rest"]);
    assert_eq!((&left["was_pinned"], &left["pinned"]), (&json!(true), &json!([])));
    told(&server.hoist(&["unpin", "one", "--component", "rest"]), 0, "rest of one was not pinned");
}
