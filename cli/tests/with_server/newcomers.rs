//! What whoever meets Hoist for the first time runs into: slips, names that collide, things that have gone.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Output, Stdio};

use serde_json::json;

use crate::models::{TABLE, names, safetensors, start};
use crate::server::{Server, command, stderr, stdout};

fn told(output: &Output, exit: i32, says: &str) {
    assert_eq!(output.status.code(), Some(exit), "{}", stderr(output));
    assert!(stderr(output).contains(says), "{says}: {}", stderr(output));
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    let server = start();
    let hoist = |args: &[&str]| server.hoist(args);
    told(&hoist(&["show", "portrat"]), 3, "did you mean `portrait`?\nhint: `hoist ls`");
    told(&hoist(&["validate", "Portrait"]), 3, "did you mean `portrait`?");
    told(&hoist(&["ls", "--type", "lorra"]), 2, "did you mean `lora`?");
    told(&hoist(&["ls", "--filter", "verdict = corupt"]), 2, "did you mean `corrupt`?");
    told(&hoist(&["ls", "--filter", "size > 3"]), 2, "did you mean `size_bytes`?");
    told(&hoist(&["ls", "--filter", "name = portrait"]), 2, "write display_name");
    told(&hoist(&["ops", "--filter", "state = runing"]), 2, "did you mean RUNNING?");
    // None of this is in the server's log, so nobody is sent there.
    assert!(!stderr(&hoist(&["show", "portrat"])).contains("request id"));
    let as_json = stderr(&hoist(&["show", "portrat", "--json"]));
    assert!(as_json.lines().last().unwrap().contains("\"request_id\":\""), "{as_json}");
}

#[test]
fn a_base_is_a_known_word_unless_somebody_means_it() {
    let server = start();
    let edit = |args: &[&str]| server.hoist(&[&["edit", "one"], args].concat());
    told(
        &edit(&["--base", "sdlx"]),
        2,
        "error: --base: no base here is called `sdlx`; --any-base takes it all the same. Did you mean `sdxl`?",
    );
    told(&edit(&["--base", "banana"]), 2, "Known are allegro, ");
    assert!(stderr(&edit(&["--base", "banana"])).contains("--any-base"));
    told(&edit(&["--any-base", "--name", "x"]), 2, "--base");
    assert_eq!(server.json(&["edit", "one", "--base", "banana", "--any-base"])["base"], "banana");
    // From now on it is the base of a model here.
    assert_eq!(server.json(&["edit", "two", "--base", "banana"])["base"], "banana");
    told(&edit(&["--base", "not a word", "--any-base"]), 2, "is not a base");
}

#[test]
fn a_tag_that_is_not_there_is_told_and_no_flag_becomes_one() {
    let server = start();
    told(&server.hoist(&["tag", "portrait", "+new", "-nosuch"]), 0, "portrait had no tag `nosuch`");
    let etag = server.json(&["show", "portrait"])["etag"].clone();
    told(&server.hoist(&["tag", "portrait", "-nosuch"]), 0, "had no tag");
    assert_eq!(server.json(&["show", "portrait"])["etag"], etag, "nothing was written");
    let tagged = command()
        .args(["--endpoint", &server.endpoint(), "tag", "portrait", "--", "-new", "other"])
        .output()
        .unwrap();
    assert_eq!(stdout(&tagged), "other\n", "{}", stderr(&tagged));
}

#[test]
fn models_of_one_name_are_told_apart_and_named_by_what_is_shown() {
    let server = start();
    let listed = stdout(&server.hoist(&["ls"]));
    for shown in ["twin (a/twin.safetensors)  ", "twin (b/twin.safetensors)  "] {
        assert!(listed.contains(shown), "{listed}");
    }
    assert!(listed.contains("\nportrait  "), "{listed}");
    assert!(listed.lines().all(|line| !line.ends_with(' ')), "{listed:?}");
    let coloured = stdout(&server.hoist(&["ls", "--color", "always"]));
    assert!(
        coloured.lines().all(|line| !line.contains(" \u{1b}[0m\n") && !line.ends_with(" \u{1b}[0m")),
        "{coloured:?}"
    );
    let path = server.path().join("models/b/twin.safetensors");
    assert_eq!(server.json(&["show", "b/twin.safetensors"])["path"], path.to_str().unwrap());
    assert!(stdout(&server.hoist(&["components"])).contains("twin (a/twin.safetensors)"));
}

#[test]
fn what_is_equal_and_what_is_wrong_is_shown_with_its_place() {
    let server = start();
    server.json(&["digest", "one", "two"]);
    let path = server.path().join("models/tables/two.safetensors");
    let path = path.to_str().unwrap();
    let dupes = server.json(&["dupes"]);
    assert_eq!(dupes["groups"][0]["users"][1]["path"], path);
    let digest = dupes["groups"][0]["digest"].as_str().unwrap();
    let (short, long) = (stdout(&server.hoist(&["dupes"])), stdout(&server.hoist(&["dupes", "--long"])));
    assert!(short.contains(path) && !short.contains(digest), "{short}");
    assert!(long.contains(path) && long.contains(digest), "{long}");
    let verdicts = stdout(&server.hoist(&["verdicts", "--long"]));
    assert!(verdicts.contains("/models/cut.safetensors\n") && verdicts.contains("    do: "), "{verdicts}");
}

#[test]
fn models_are_found_by_when_they_were_written() {
    let server = start();
    let ls = |args: &[&str]| server.json(&[&["ls"], args].concat()).as_array().unwrap().len();
    assert_eq!((ls(&["--newer", "1d"]), ls(&["--older", "1d"])), (7, 0));
    assert_eq!((ls(&["--newer", "2000-01-01"]), ls(&["--older", "2000-01-01"])), (7, 0));
    assert_eq!(ls(&["--filter", "discover_time > now-1h AND modify_time < now"]), 7);
    // Years ago.
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(50 * 365 * 86_400);
    let file = fs::File::options().write(true).open(server.path().join("models/a/twin.safetensors")).unwrap();
    file.set_modified(old).unwrap();
    server.json(&["scan", "--wait"]);
    assert_eq!(names(&server.json(&["ls", "--older", "7d"])), ["twin"]);
    assert_eq!(names(&server.json(&["ls", "--sort", "modified", "--limit", "1"])), ["twin"]);
    told(&server.hoist(&["ls", "--newer", "soon"]), 2, "for instance 7d");
}

#[test]
fn what_is_missing_is_counted_and_forgotten_at_once() {
    let server = start();
    for name in ["one", "two"] {
        server.json(&["tag", name, "kept"]);
        fs::remove_file(server.path().join(format!("models/tables/{name}.safetensors"))).unwrap();
    }
    server.json(&["scan", "--wait"]);
    told(&server.hoist(&["ls"]), 0, "2 models missing: --all shows them, `hoist rm --missing` forgets them");
    told(&server.hoist(&["ls", "one"]), 0, "1 model missing");
    assert!(!stderr(&server.hoist(&["ls", "--all"])).contains(" missing:"));
    let dry = server.json(&["rm", "--missing", "--dry-run"]);
    assert_eq!((names(&dry), &dry[0]["dry_run"]), (vec!["one", "two"], &json!(true)));
    told(&server.hoist(&["rm", "--missing"]), 2, "nobody is here to ask");
    told(&server.hoist(&["rm", "--missing", "one"]), 2, "cannot be used with");
    told(&server.hoist(&["rm", "--missing", "--files"]), 2, "cannot be used with");
    assert_eq!(names(&server.json(&["ls", "--all", "--filter", "state = missing"])), ["one", "two"]);
    assert_eq!(names(&server.json(&["rm", "--missing", "--yes"])), ["one", "two"]);
    assert_eq!(server.json(&["ls", "--all"]).as_array().unwrap().len(), 5);
    told(&server.hoist(&["rm", "--missing"]), 0, "no models are missing");
    assert_eq!(server.json(&["rm", "--missing"]), json!([]));
    // Without --missing, too, nothing goes that was only looked at.
    told(
        &server.hoist(&["rm", "portrait", "--files", "--dry-run"]),
        0,
        "1 model would be removed, with their files",
    );
    assert!(server.path().join("models/loras/portrait.safetensors").exists());
}

#[test]
fn what_the_server_does_by_itself_is_listed_when_asked_for() {
    let server = Server::start_digesting(|models| {
        fs::write(models.join("x.safetensors"), safetensors(&TABLE, 1.0)).unwrap();
    });
    loop {
        let all = server.json(&["ops", "--all", "--filter", "kind = digest_models and done = true"]);
        if !all.as_array().unwrap().is_empty() {
            break;
        }
    }
    assert_eq!(server.json(&["ops"]), json!([]));
    told(&server.hoist(&["ops"]), 0, "of the server's own not shown");
    server.json(&["scan", "--wait"]);
    let listed = server.hoist(&["ops", "--limit", "1"]);
    assert!(stdout(&listed).contains("scan models"), "{}", stdout(&listed));
    assert!(!stderr(&listed).contains("raise --limit"), "{}", stderr(&listed));
    assert!(stdout(&server.hoist(&["ops", "--all"])).contains("digest models"));
}

#[test]
fn a_name_that_is_no_text_finds_its_model() {
    let server = Server::start_with(|models| {
        fs::write(models.join(OsStr::from_bytes(b"bad\xff.safetensors")), safetensors(&TABLE, 1.0)).unwrap();
    });
    server.json(&["scan", "--wait"]);
    let folder = server.path().join("models");
    for name in [OsStr::from_bytes(b"bad\xff.safetensors"), OsStr::from_bytes(b"./bad\xff.safetensors")] {
        let shown = command()
            .arg("show")
            .arg(name)
            .args(["--json", "--endpoint", &server.endpoint()])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert_eq!(shown.status.code(), Some(0), "{name:?}: {}", stderr(&shown));
    }
}

#[test]
fn a_watch_tells_which_tag_and_which_place() {
    let server = start();
    let mut watch = command()
        .args(["watch", "--name", "portrait", "--endpoint", &server.endpoint()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut told = |says: &str| {
        let line = lines.next().unwrap().unwrap();
        assert!(line.ends_with(says), "{line}");
    };
    told("portrait: lora, unknown, available, ok");
    server.json(&["tag", "portrait", "+studio", "+new"]);
    told("portrait: tags +new +studio");
    server.json(&["tag", "portrait", "-new"]);
    told("portrait: tags -new");
    server.json(&["edit", "portrait", "--type", "vae", "--licence", "mine"]);
    told("portrait: licence \"mine\", type set by hand: vae, type lora -> vae");
    server.json(&["edit", "portrait", "--name", "Face"]);
    told("portrait: renamed to Face");
    let (from, to) =
        (server.path().join("models/loras/portrait.safetensors"), server.path().join("models/p.safetensors"));
    fs::rename(&from, &to).unwrap();
    server.json(&["scan", "--wait"]);
    told(&format!("Face: moved from {} to {}", from.display(), to.display()));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn what_speaks_for_a_model_is_told_once() {
    let server = Server::start_with(|models| {
        let folder = models.join("tiny");
        fs::create_dir(&folder).unwrap();
        fs::write(
            folder.join("config.json"),
            r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#,
        )
        .unwrap();
        let tensors: [(&str, &[usize]); 3] = [
            ("model.layers.0.self_attn.k_proj.weight", &[8, 8]),
            ("model.layers.0.mlp.gate_proj.weight", &[8, 8]),
            ("model.layers.0.post_attention_layernorm.weight", &[8]),
        ];
        fs::write(folder.join("model.safetensors"), safetensors(&tensors, 1.0)).unwrap();
    });
    server.json(&["scan", "--wait"]);
    let mut told: Vec<String> = server.json(&["show", "tiny"])["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let count = told.len();
    assert!(told.iter().any(|line| line.contains("LlamaForCausalLM")), "{told:?}");
    told.sort();
    told.dedup();
    assert_eq!(told.len(), count, "{told:?}");
}
