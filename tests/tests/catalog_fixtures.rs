//! Two trees of models whose makers wrote down what each one is: what libraries write, and what is broken or hostile.
//! A real server looks at both, and every item is compared.
//!
//! They take minutes and gigabytes to make: `make test-fixtures` does it and runs these. What differs from the manifests
//! on purpose stands in [`differences`], with the reason.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

#[path = "catalog_fixtures/differences.rs"]
mod differences;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use differences::{CORPUS, CORRUPT};
use hoist_tests::library::{Library, Open};
use hoist_tests::process;
use hoist_wire::v1;
use serde_json::Value;

/// `HOIST_FIXTURES`: the folder that `make fixtures` fills.
fn folder() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is its own edge; how it is told where the fixtures are"
    )]
    let named = std::env::var_os("HOIST_FIXTURES");
    PathBuf::from(named.expect("HOIST_FIXTURES names the folder of the fixtures")).canonicalize().unwrap()
}

fn items(tree: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(tree.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    match manifest["items"].take() {
        Value::Array(items) => items,
        other => panic!("{other}"),
    }
}

fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item[field].as_str().unwrap_or_default()
}

fn words(item: &Value, field: &str) -> Vec<String> {
    item[field].as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
}

/// The server with one tree, which has been looked at, and its models by their exact paths.
async fn open(tree: &Path) -> (Library, Open, BTreeMap<PathBuf, v1::Model>) {
    let mut library = Library::new().unwrap();
    library.serve_root(tree);
    let open = library.open().await.unwrap();
    let models = open.list().await.unwrap().into_iter().map(|model| {
        let exact = if model.path_bytes.is_empty() {
            PathBuf::from(&model.path)
        } else {
            std::ffi::OsString::from_vec(model.path_bytes.clone()).into()
        };
        (exact, model)
    });
    let models = models.collect();
    (library, open, models)
}

/// What is told of an item and is not in the table, and what is in the table and is not so any more.
fn judge(found: &BTreeMap<String, String>, table: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (id, difference) in found {
        match table.iter().find(|(known, ..)| known == id) {
            Some((_, explained, _)) if explained == difference => {}
            _ => wrong.push(format!("{id}: {difference}")),
        }
    }
    for (id, explained, _) in table.iter().filter(|(id, ..)| !found.contains_key(*id)) {
        wrong.push(format!("{id}: `{explained}` is explained and is not so"));
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
#[ignore = "needs the fixtures: make test-fixtures"]
async fn what_libraries_write_is_what_its_makers_say() {
    let tree = folder().join("corpus");
    let (_library, open, models) = open(&tree).await;
    let mut found = BTreeMap::new();
    for item in items(&tree) {
        let id = text(&item, "id").to_owned();
        let Some(model) = models.get(&tree.join(text(&item, "path"))) else {
            found.insert(id, "not found".to_owned());
            continue;
        };
        let mut differs = Vec::new();
        let mut compare = |what: &str, found: String, due: String| {
            if found != due {
                differs.push(format!("{what} {found}, not {due}"));
            }
        };
        compare("format", model.format.clone(), text(&item, "format").to_owned());
        compare("type", model.r#type.clone(), text(&item, "type").to_owned());
        compare("tensors", model.tensor_count.to_string(), item["tensors"].to_string());
        compare("parameters", model.parameter_count.to_string(), item["params"].to_string());
        compare(
            "verdict",
            format!("{:?}", model.verdict()).to_lowercase(),
            text(&item, "verdict").to_owned(),
        );
        let mut due = words(&item, "ambiguous");
        let mut bases = model.candidates.clone();
        if bases.is_empty() || due.is_empty() {
            compare("base", model.base.clone(), text(&item, "base").to_owned());
        } else {
            due.sort();
            bases.sort();
            compare("candidates", bases.join("/"), due.join("/"));
        }
        if !item["prediction_type"].is_null() && model.prediction_type != text(&item, "prediction_type") {
            differs.push(format!(
                "prediction {}, not {}",
                model.prediction_type,
                text(&item, "prediction_type")
            ));
        }
        if !differs.is_empty() {
            found.insert(id, differs.join("; "));
        }
    }
    judge(&found, CORPUS);
    assert_eq!(process::children(open.server.process_id()).unwrap(), Vec::<u32>::new());
}

fn class(findings: &[v1::Finding], verdict: v1::Verdict) -> String {
    let worst = findings.iter().find(|finding| finding.verdict() == verdict);
    let kind = worst.map_or(v1::FindingKind::Unspecified, v1::Finding::kind);
    kind.as_str_name().trim_start_matches("FINDING_KIND_").to_lowercase()
}

/// Whether that is what the manifest asks for, or one of the other answers that it accepts.
fn is_due(item: &Value, verdict: &str, class: &str) -> bool {
    let (due, kind) = (text(item, "verdict"), text(item, "cls"));
    if due == "implementation-defined" {
        return true;
    }
    let is_told = matches!(verdict, "corrupt" | "incomplete" | "malicious" | "suspicious" | "rejected");
    (verdict == due && (!is_told || class == kind))
        || words(item, "alt").iter().any(|alt| alt.starts_with(verdict))
        // Not listed but told as a problem of the scan; for root, permissions do not bite.
        || (due == "error" && (verdict == "skipped" || rustix::process::geteuid().is_root()))
}

#[tokio::test]
#[ignore = "needs the fixtures: make test-fixtures"]
async fn what_is_broken_or_hostile_is_called_so_and_nothing_of_it_is_run() {
    let tree = folder().join("corrupt");
    let (_library, mut open, models) = open(&tree).await;
    let mut found = BTreeMap::new();
    let mut read = 0;
    for item in items(&tree) {
        let id = text(&item, "id").to_owned();
        let below = match item["path_bytes_hex"].as_str() {
            Some(hex) => {
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes = (0..hex.len()).step_by(2).map(byte).collect();
                PathBuf::from(std::ffi::OsString::from_vec(bytes))
            }
            None => PathBuf::from(text(&item, "path")),
        };
        let model = models.get(&tree.join(below));
        let (mut verdict, mut kind) = match model {
            None => ("skipped".to_owned(), String::new()),
            Some(model) => {
                let verdict = model.verdict();
                (format!("{verdict:?}").to_lowercase(), class(&model.findings, verdict))
            }
        };
        // Only the bytes tell, and they have to.
        if let (Some(model), "checksum") = (model, text(&item, "cls")) {
            read += 1;
            let request = v1::ValidateModelRequest {
                name: model.name.clone(),
                level: v1::ValidationLevel::Full.into(),
                sha256: given_sum(&item),
                ..Default::default()
            };
            let report = open.validate_as(request).await.unwrap();
            verdict = format!("{:?}", report.verdict()).to_lowercase();
            kind = class(&report.findings, report.verdict());
        }
        if !is_due(&item, &verdict, &kind) {
            let due = (text(&item, "verdict"), text(&item, "cls"));
            found.insert(id, format!("{verdict} {kind}, not {} {}", due.0, due.1));
        }
    }
    judge(&found, CORRUPT);
    assert!(read >= 10, "{read} read to the last byte");

    // Everything is read once more, to the last byte where that is not a tebibyte.
    for model in models.values().filter(|model| model.size_bytes < 1 << 30) {
        let request = v1::ValidateModelRequest {
            name: model.name.clone(),
            level: v1::ValidationLevel::Full.into(),
            ..Default::default()
        };
        // What cannot be read is refused with a reason; anything is better than an end of the server.
        if let Err(refused) = open.validate_as(request).await {
            assert_ne!(refused.code(), tonic::Code::Internal, "{}: {refused:?}", model.path);
            assert_ne!(refused.code(), tonic::Code::Unavailable, "{}: {refused:?}", model.path);
        }
    }
    open.look().await.unwrap();
    assert_eq!(std::fs::read_dir(tree.join("canary")).unwrap().count(), 0, "something was run");
    assert_eq!(process::children(open.server.process_id()).unwrap(), Vec::<u32>::new());
    assert!(process::peak_bytes(open.server.process_id()).unwrap() < 512 << 20);
}

/// Where nothing beside the file says what its sum should be, somebody has to.
fn given_sum(item: &Value) -> String {
    let is_derived = text(item, "path").starts_with("derived/");
    if is_derived { text(item, "expected_sha256").to_owned() } else { String::new() }
}
