//! The verbs about models, against a server with a small tree of models that is written here.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::server::{Server, command, stderr, stdout};

/// A safetensors file of F32 tensors whose elements are all `fill`.
pub(crate) fn safetensors(tensors: &[(&str, &[usize])], fill: f32) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            data.extend(fill.to_le_bytes());
        }
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

const LORA: [(&str, &[usize]); 2] = [
    ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", &[4, 768]),
    ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", &[3072, 4]),
];
pub(crate) const TABLE: [(&str, &[usize]); 1] = [("table", &[16, 16])];

/// A LoRA, two equal tables, one file that is cut short, one whose name would clear the screen, two of one name.
fn tree(models: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = models.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("loras/portrait.safetensors", &safetensors(&LORA, 0.5));
    write("tables/one.safetensors", &safetensors(&TABLE, 1.0));
    write("tables/two.safetensors", &safetensors(&TABLE, 1.0));
    let whole = safetensors(&TABLE, 2.0);
    write("cut.safetensors", &whole[..whole.len() - 100]);
    write("evil\u{1b}[2J.safetensors", &safetensors(&[("x", &[3])], 3.0));
    write("a/twin.safetensors", &safetensors(&[("x", &[4])], 4.0));
    write("b/twin.safetensors", &safetensors(&[("x", &[5])], 5.0));
}

pub(crate) fn start() -> Server {
    looked_at(Server::start_with(tree))
}

/// The same, with a worker for a part of the machine's memory: `cpu:0=SIZE`.
pub(crate) fn start_worked(device: &'static str) -> Server {
    looked_at(Server::start_worked(tree, device))
}

fn looked_at(server: Server) -> Server {
    // The server looks when it starts; this joins that look, or comes after it.
    assert_eq!(server.json(&["scan", "--wait"])["models"], 7);
    server
}

pub(crate) fn names(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect()
}

#[test]
fn flags_words_and_filters_select_models() {
    let server = start();
    let ls = |args: &[&str]| server.json(&[&["ls"], args].concat());
    assert_eq!(names(&ls(&["--type", "LoRA"])), ["portrait"]);
    assert_eq!(names(&ls(&["--verdict", "incomplete", "--verdict", "corrupt"])), ["cut"]);
    assert_eq!(names(&ls(&["TABLES", "wo"])), ["two"]);
    assert_eq!(names(&ls(&["--filter", "size_bytes > 2kB", "--format", "safetensors"])), ["portrait"]);
    assert_eq!(names(&ls(&["--sort", "-size", "--limit", "1"])), ["portrait"]);
    assert_eq!(names(&ls(&["--sort", "size"])).last(), Some(&"portrait"));
    assert_eq!(names(&ls(&["--type", "lora", "--tag", "a\" OR type:\""])), [""; 0]);
    let all = ls(&[]);
    assert_eq!(all.as_array().unwrap().len(), 7);
    for model in all.as_array().unwrap() {
        for key in [
            "name",
            "path",
            "format",
            "type",
            "base",
            "candidates",
            "confidence",
            "tensors",
            "params",
            "dtypes",
            "bytes",
            "components",
            "state",
            "verdict",
            "verdict_kind",
        ] {
            assert!(model.get(key).is_some(), "{key}: {model}");
        }
    }
    let table = server.hoist(&["ls", "--type", "lora"]);
    assert!(stdout(&table).lines().nth(1).unwrap().starts_with("portrait  lora"), "{}", stdout(&table));
    let nothing = server.hoist(&["ls", "nothing-is-called-so"]);
    assert_eq!((nothing.status.code(), stdout(&nothing).as_str()), (Some(0), ""));
}

#[test]
fn what_files_are_called_cannot_move_the_cursor() {
    let server = start();
    for args in
        [&["ls"][..], &["ls", "--long"], &["show", "evil\u{1b}[2J"], &["verdicts", "--all"], &["components"]]
    {
        let output = server.hoist(args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let shown = stdout(&output) + &stderr(&output);
        assert!(shown.contains("evil\u{fffd}[2J") && !shown.contains('\u{1b}'), "{args:?}: {shown:?}");
    }
}

#[test]
fn a_model_is_shown_by_any_of_its_names() {
    let server = start();
    let shown = server.json(&["show", "portrait"]);
    assert_eq!(shown["files"][0]["weights"], true);
    assert!(!shown["evidence"].as_array().unwrap().is_empty() && shown["metadata"].is_object());
    assert!(shown.get("tensor_table").is_none());
    let path = server.path().join("models/loras/portrait.safetensors");
    for name in [shown["id"].as_str().unwrap(), "portrait.safetensors", path.to_str().unwrap()] {
        assert_eq!(server.json(&["show", name])["id"], shown["id"], "{name}");
        assert_eq!(server.json(&["status", name])["name"], shown["id"], "{name}");
    }
    // `cafe` may be a part of an operation's id; here it is what somebody calls a model.
    server.json(&["edit", "portrait", "--alias", "cafe"]);
    assert_eq!(server.json(&["status", "cafe"])["name"], shown["id"]);
    let neither = server.hoist(&["status", "cafe0"]);
    assert_eq!(neither.status.code(), Some(3));
    assert!(stderr(&neither).contains("no operation's id"), "{}", stderr(&neither));
    let relative = command()
        .args(["show", "./loras/portrait.safetensors", "--json", "--endpoint", &server.endpoint()])
        .current_dir(server.path().join("models"))
        .output()
        .unwrap();
    assert_eq!(relative.status.code(), Some(0), "{}", stderr(&relative));
    let tensors = server.json(&["show", "portrait", "--tensors"]);
    assert_eq!(tensors["tensor_table"][0]["shape"], json!([4, 768]));

    let twins = server.hoist(&["show", "twin"]);
    assert_eq!(twins.status.code(), Some(2));
    assert!(stderr(&twins).contains("a/twin") && stderr(&twins).contains("b/twin"), "{}", stderr(&twins));
    assert_eq!(server.hoist(&["show", "nobody"]).status.code(), Some(3));
    let some = server.hoist(&["show", "one", "nobody", "--json"]);
    assert_eq!(some.status.code(), Some(3));
    let some: Value = serde_json::from_slice(&some.stdout).unwrap();
    assert_eq!((&some[0]["name"], &some[1]["error"]["code"]), (&json!("one"), &json!("not_found")));
}

#[test]
fn what_the_catalog_knows_is_shown_though_the_files_have_gone() {
    let server = start();
    let id = server.json(&["tag", "one", "kept"])["id"].clone();
    fs::remove_file(server.path().join("models/tables/one.safetensors")).unwrap();
    let scan = server.json(&["scan", "--wait"]);
    assert_eq!(scan["models"], 6);
    assert_eq!(server.json(&["ls"]).as_array().unwrap().len(), 6);
    assert_eq!(names(&server.json(&["ls", "--all", "--filter", "state = missing"])), ["one"]);
    let shown = server.json(&["show", id.as_str().unwrap()]);
    assert_eq!((&shown["state"], &shown["evidence"]), (&json!("missing"), &Value::Null));
    assert!(shown["details_error"]["message"].is_string(), "{shown}");
}

#[test]
fn a_scan_tells_its_name_or_its_result() {
    let server = start();
    let started = stdout(&server.hoist(&["scan"]));
    let name = started.trim_end();
    assert!(name.starts_with("operations/") && !name.contains('\n'), "{started}");
    let ended = server.json(&["ops", "wait", name]);
    assert_eq!((&ended["state"], &ended["response"]["models"]), (&json!("succeeded"), &json!(7)));
    let shown = stdout(&server.hoist(&["ops", "show", name]));
    assert!(shown.contains("by type") && shown.contains("1 lora"), "{shown}");
    let part = server.hoist(&["scan", "loras", "--wait", "--json"]);
    // From where this test stands there is no such path below the roots.
    assert_eq!(part.status.code(), Some(2), "{}", stderr(&part));
    let loras = server.path().join("models/loras");
    assert_eq!(server.json(&["scan", loras.to_str().unwrap(), "--wait"])["by_type"]["lora"], 1);
    assert_eq!(server.json(&["roots"])[0]["models"], 7);
}

#[test]
fn validation_fails_for_what_cannot_be_loaded() {
    let server = start();
    let sound = server.json(&["validate", "portrait"]);
    assert_eq!(
        (&sound["verdict"], &sound["level"], &sound["name"]),
        (&json!("ok"), &json!("full"), &json!("portrait"))
    );
    assert_ne!(sound["read_bytes"], 0);
    assert_eq!(
        server.json(&["validate", "one", "portrait", "--level", "header"]).as_array().unwrap().len(),
        2
    );
    for level in ["header", "full"] {
        let cut = server.hoist(&["validate", "cut", "--level", level]);
        assert_eq!(cut.status.code(), Some(1), "{level}: {}", stderr(&cut));
        assert!(stdout(&cut).contains("    do: "), "{level}: {}", stdout(&cut));
    }
    let wrong = server.hoist(&["validate", "one", "--sha256", &"0".repeat(64), "--json"]);
    assert_eq!(wrong.status.code(), Some(1));
    let wrong: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!((&wrong["verdict"], &wrong["verdict_kind"]), (&json!("corrupt"), &json!("checksum")));
    let sum = wrong["checksums"][0]["sha256"].as_str().unwrap();
    assert_eq!(server.hoist(&["validate", "one", "--sha256", sum]).status.code(), Some(0));
    // All are looked at, and the first that fails decides.
    let many = server.hoist(&["validate", "cut", "nobody", "portrait", "--json"]);
    assert_eq!(many.status.code(), Some(1));
    let many: Value = serde_json::from_slice(&many.stdout).unwrap();
    assert_eq!((&many[1]["error"]["code"], &many[2]["verdict"]), (&json!("not_found"), &json!("ok")));

    let fits = server.json(&["validate", "portrait", "--level", "compatibility"]);
    assert_eq!(fits["compatibility"]["compatible"], true);
    let nowhere = server.hoist(&["validate", "portrait", "--level", "compatibility", "--device", "cuda:9"]);
    assert_eq!(nowhere.status.code(), Some(3), "{}", stderr(&nowhere));

    let verdicts = server.json(&["verdicts"]);
    assert_eq!(names(&verdicts), ["cut"]);
    assert!(
        verdicts[0]["verdict_kind"].is_string() && verdicts[0]["validate_time"].is_string(),
        "{verdicts}"
    );
    assert_eq!(server.json(&["verdicts", "--all"]).as_array().unwrap().len(), 7);
}

#[test]
fn equal_components_are_found_once_their_bytes_are_read() {
    let server = start();
    let before = server.json(&["dupes"]);
    assert_eq!(before["groups"], json!([]));
    assert_ne!(before["undigested"], 0);
    assert_eq!(server.json(&["digest", "one", "two"])["models"], 2);
    let dupes = server.json(&["dupes"]);
    assert_eq!(dupes["saved_bytes"], 16 * 16 * 4);
    let users = dupes["groups"][0]["users"].clone();
    assert_eq!(names(&users), ["one", "two"]);
    let digest = dupes["groups"][0]["digest"].as_str().unwrap();
    // Two models have it, so it names none of them.
    assert_eq!(server.hoist(&["show", &digest[..16]]).status.code(), Some(2));
    assert!(stdout(&server.hoist(&["dupes"])).contains("saves 1.0 KiB"));
    assert_eq!(server.json(&["components", "--type", "lora"]).as_array().unwrap().len(), 1);
}

#[test]
fn tags_that_are_added_at_once_are_all_kept() {
    let server = start();
    server.json(&["tag", "portrait", "old"]);
    let adding: Vec<_> = ["a", "b", "c", "d"]
        .map(|tag| {
            command()
                .args(["tag", "portrait", &format!("+{tag}"), "--endpoint", &server.endpoint()])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .into();
    for mut process in adding {
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }
    let tagged = server.json(&["tag", "portrait", "-old", "+e"]);
    assert_eq!(tagged["notes"]["tags"], json!(["a", "b", "c", "d", "e"]));
    assert_eq!(names(&server.json(&["ls", "--tag", "a", "--tag", "e"])), ["portrait"]);
    assert_eq!(stdout(&server.hoist(&["tag", "portrait"])), "a, b, c, d, e\n");
}

#[test]
fn an_edit_changes_what_it_names_and_clears_what_it_is_told_to() {
    let server = start();
    let edited = server.json(&[
        "edit",
        "one",
        "--name",
        "Table",
        "--alias",
        "t1",
        "--type",
        "vae",
        "--trusted",
        "--description",
        "mine",
    ]);
    assert_eq!((&edited["name"], &edited["type"]), (&json!("Table"), &json!("vae")));
    assert_eq!(edited["notes"]["config"]["trusted"], true);
    let cleared = server.json(&["edit", "t1", "--clear", "name", "--clear", "type", "--no-trusted"]);
    assert_eq!((&cleared["name"], &cleared["notes"]["description"]), (&json!("one"), &json!("mine")));
    assert_ne!(cleared["type"], "vae");
    assert_eq!(cleared["notes"]["config"]["trusted"], false);
    let wrong = server.hoist(&["edit", "one", "--device", "toaster"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("error: --device: "), "{}", stderr(&wrong));
}

#[test]
fn files_are_removed_only_when_somebody_agreed() {
    let server = start();
    let file = server.path().join("models/tables/one.safetensors");
    let asks = server.hoist(&["rm", "one", "--files"]);
    assert_eq!(asks.status.code(), Some(2));
    assert!(stderr(&asks).contains("--yes") && file.exists(), "{}", stderr(&asks));
    assert_eq!(server.json(&["rm", "one"])["files_deleted"], 0);
    assert!(file.exists());
    assert_eq!(server.hoist(&["rm", "two", "nobody", "--files", "--yes"]).status.code(), Some(3));
    assert_eq!(server.json(&["ls", "two"]).as_array().unwrap().len(), 1, "nothing goes when a name is wrong");
    assert_eq!(server.json(&["rm", "two", "--files", "--yes"])["files_deleted"], 1);
    assert!(!server.path().join("models/tables/two.safetensors").exists());
    assert_eq!(server.hoist(&["show", "two"]).status.code(), Some(3));
}

#[test]
fn giving_up_a_validation_cancels_it() {
    let server = Server::start_with(|models| {
        // A hole of 256 GiB: it takes minutes to read and no room.
        let bytes = 256_u64 << 30;
        let header =
            json!({ "x": { "dtype": "U8", "shape": [bytes], "data_offsets": [0, bytes] } }).to_string();
        let path = models.join("huge.safetensors");
        fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(8 + header.len() as u64 + bytes)
            .unwrap();
    });
    server.json(&["scan", "--wait"]);
    let validating = command()
        .args(["validate", "huge", "--endpoint", &server.endpoint()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    loop {
        let running = server.json(&["ops", "--filter", "state = running AND kind = validate_model"]);
        if !running.as_array().unwrap().is_empty() {
            break;
        }
    }
    // The second call, whose loss cancels, must have begun; nothing tells when.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &validating.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let output = validating.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is cancelled"), "{}", stderr(&output));
    let ended = server.json(&["ops", "--filter", "state = cancelled AND kind = validate_model"]);
    assert_eq!(ended.as_array().unwrap().len(), 1);
}

#[test]
fn a_watch_tells_of_models() {
    let server = start();
    let snapshot = server.json(&["watch", "--once", "--kind", "model"]);
    let kinds = snapshot["resources"].as_array().unwrap();
    assert_eq!(kinds.len(), 7);
    assert!(kinds.iter().all(|resource| resource["model"]["name"].is_string()));
    let one = server.hoist(&["watch", "--once", "--name", "portrait"]);
    assert!(stdout(&one).contains("portrait: lora"), "{}", stdout(&one));
}
