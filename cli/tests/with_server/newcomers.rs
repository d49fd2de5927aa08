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

/// What is listed before everything was looked at is told to be not all.
#[test]
fn an_answer_is_complete_or_says_that_it_is_not() {
    const MODELS: usize = 400;
    let server = Server::start_with(|models| {
        for number in 0..MODELS {
            fs::write(models.join(format!("m{number}.safetensors")), safetensors(&TABLE, number as f32))
                .unwrap();
        }
    });
    let says = "the roots are still being looked at for the first time: ";
    let missing = |verb: &[&str], output: &Output| {
        let is_told = stderr(output).contains(says);
        println!("{verb:?}: {is_told}");
        !is_told
    };
    loop {
        let shown = server.hoist(&["show", "m399"]);
        assert!(shown.status.success() || !missing(&["show"], &shown), "{}", stderr(&shown));
        let verdicts = server.hoist(&["verdicts"]);
        let is_sure = stderr(&verdicts).contains("nothing is wrong with any model");
        assert_eq!(is_sure, missing(&["verdicts"], &verdicts), "{}", stderr(&verdicts));
        let listed = server.hoist(&["ls", "--json"]);
        if missing(&["ls"], &listed) {
            let listed = serde_json::from_slice(&listed.stdout).unwrap();
            assert_eq!(names(&listed).len(), MODELS);
            break;
        }
    }
    assert_eq!(server.json(&["status"])["machine"]["first_look"], json!(null));
    told(&server.hoist(&["show", "m400"]), 3, "hint: `hoist ls` lists");
}

#[test]
fn what_people_wrote_goes_only_when_somebody_agreed() {
    let server = start();
    server.json(&["tag", "one", "kept"]);
    server.json(&["edit", "one", "--alias", "uno", "--trusted"]);
    told(
        &server.hoist(&["rm", "two", "one"]),
        2,
        "one would go with its aliases, tags, trust, which people wrote",
    );
    assert_eq!(server.json(&["ls", "tables"]).as_array().unwrap().len(), 2, "nothing went");
    let dry = server.hoist(&["rm", "two", "one", "--dry-run"]);
    told(&dry, 0, "2 models would be removed, 1 of them with what was written about them");
    assert!(stdout(&dry).contains("one.safetensors  with its aliases, tags, trust"), "{}", stdout(&dry));
    assert_eq!(server.hoist(&["rm", "two"]).status.code(), Some(0), "nobody wrote about it");
    assert_eq!(server.hoist(&["rm", "one", "--yes"]).status.code(), Some(0));
    assert_eq!(server.json(&["ls", "tables"]), json!([]));
}

#[test]
fn what_is_damaged_gets_no_digest() {
    let server = start();
    let refused = server.hoist(&["digest", "one", "cut", "--json"]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(stderr(&refused).contains("CORRUPTED_MODEL"), "{}", stderr(&refused));
    assert_eq!(server.json(&["digest", "one", "two"])["models"], 2);
    assert!(!server.json(&["components"]).to_string().contains("cut.safetensors"));
}

#[test]
fn a_look_at_nothing_fails_unless_models_were_there() {
    let server = start();
    let path = |below: &str| server.path().join("models").join(below).display().to_string();
    let scan = |below: &str| server.hoist(&["scan", &path(below), "--wait"]);
    told(&scan("lorras"), 3, "and no model is known there");
    told(&scan("loras/other.safetensors"), 3, "and no model is known there");
    assert_eq!(server.json(&["tag", "portrait", "kept"])["state"], "available");
    fs::remove_dir_all(path("loras")).unwrap();
    assert_eq!(scan("loras").status.code(), Some(0));
    assert_eq!(server.json(&["show", "portrait"])["state"], "missing");
    assert_eq!(scan("loras").status.code(), Some(0), "it is known there still");
}

#[test]
fn verdicts_are_of_models_that_are_there() {
    let server = start();
    server.json(&["tag", "cut", "kept"]);
    fs::remove_file(server.path().join("models/cut.safetensors")).unwrap();
    server.json(&["scan", "--wait"]);
    assert_eq!(server.json(&["verdicts"]), json!([]));
    told(&server.hoist(&["verdicts"]), 0, "1 model missing: --missing shows them");
    let missing = server.json(&["verdicts", "--missing"]);
    assert_eq!((names(&missing), &missing[0]["state"]), (vec!["cut"], &json!("missing")));
    assert!(stdout(&server.hoist(&["verdicts", "--missing"])).contains("  missing  "));
}

#[test]
fn all_models_are_validated_at_once() {
    let server = start();
    let all = server.json(&["validate", "--all"]);
    assert_eq!((&all["validated"], &all["damaged"]), (&json!(7), &json!(1)));
    let shown = stdout(&server.hoist(&["validate", "--all"]));
    assert!(shown.contains("validated   7 models\n") && shown.contains("damaged     1: "), "{shown}");
    for refused in [&["--level", "header"][..], &["one"], &["--strict"]] {
        assert_eq!(
            server.hoist(&[&["validate", "--all"], refused].concat()).status.code(),
            Some(2),
            "{refused:?}"
        );
    }
    assert_eq!(server.hoist(&["validate"]).status.code(), Some(2));
}

#[test]
fn a_word_names_one_model() {
    let server = start();
    let edit = |args: &[&str]| server.hoist(&[&["edit"], args].concat());
    told(&edit(&["one", "--alias", "two"]), 2, "error: --alias: `two` is what another model is called");
    assert_eq!(edit(&["one", "--alias", "uno"]).status.code(), Some(0));
    told(&edit(&["two", "--alias", "uno"]), 2, "error: --alias: `uno` is an alias of another model");
    told(&edit(&["two", "--name", "uno"]), 2, "error: --name: `uno` is an alias of another model");
    // Two that are alike already are no reason to refuse anything else.
    fs::rename(server.path().join("models/cut.safetensors"), server.path().join("models/uno.safetensors"))
        .unwrap();
    server.json(&["scan", "--wait"]);
    assert_eq!(edit(&["one", "--description", "mine"]).status.code(), Some(0));
    assert_eq!(edit(&["one.safetensors", "--alias", "uno", "--alias", "eins"]).status.code(), Some(0));
}

#[test]
fn whatever_is_shown_for_models_of_one_name_names_them() {
    let write = |path: &std::path::Path, fill: f32| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, safetensors(&TABLE, fill)).unwrap();
    };
    let server = Server::start_with(|models| {
        for (number, path) in
            ["a/twin.safetensors", "b/twin.safetensors", "c/a/twin.safetensors", "kind.safetensors"]
                .iter()
                .enumerate()
        {
            write(&models.join(path), number as f32);
        }
        for folder in ["components/vae-sd", "other/vae-sd", "vae-sd"] {
            let folder = models.join(folder);
            write(&folder.join("diffusion_pytorch_model.safetensors"), folder.as_os_str().len() as f32);
            fs::write(folder.join("config.json"), "{\"_class_name\": \"AutoencoderKL\"}").unwrap();
        }
        write(&models.join("components/vae-sd.safetensors"), 9.0);
    });
    server.json(&["scan", "--wait"]);
    let all = server.json(&["ls", "--sort", "path"]);
    let shown = stdout(&server.hoist(&["ls", "--sort", "path"]));
    let (mut apart, mut folders) = (0, 0);
    for (line, model) in shown.lines().skip(1).zip(all.as_array().unwrap()) {
        let name = model["name"].as_str().unwrap();
        let typed = match line.strip_prefix(name).and_then(|rest| rest.strip_prefix(" (")) {
            Some(rest) => {
                apart += 1;
                rest.split_once(')').unwrap().0
            }
            None => name,
        };
        folders += usize::from(!model["path"].as_str().unwrap().ends_with(".safetensors"));
        assert_eq!(server.json(&["show", typed])["path"], model["path"], "{line}");
    }
    assert_eq!((apart, folders), (7, 3), "{shown}");
    assert!(shown.contains("vae-sd (components/vae-sd)"), "{shown}");
}

#[test]
fn a_tag_that_is_a_models_name_is_told() {
    let server = start();
    told(
        &server.hoist(&["tag", "one", "two", "+new"]),
        0,
        "`two` is a tag now, and what another model is called",
    );
    assert!(!stderr(&server.hoist(&["tag", "one", "three"])).contains("is a tag now"));
    told(
        &server.hoist(&["validate", "one", "--level", "compatibility", "--device", "gpu"]),
        3,
        "a --device may also be left out",
    );
    told(&server.hoist(&["show", "0fe7a1c"]), 3, "as the start of a digest it takes 8 digits at least");
}
