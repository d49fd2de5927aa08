//! From files to answers, and through the end of a server: scan, list, show, validate and digest of a small tree that is
//! written byte by byte; then what of it survives a kill, and what a damaged store.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hoist_tests::library::{Library, Open, condition, reason, result, waiting};
use hoist_tests::{Random, making, process, request_id, soak};
use hoist_wire::v1;

/// Writes one of everything; where the hostile one would leave its mark.
fn fill(library: &Library) -> std::path::PathBuf {
    let canary = library.path("canary");
    library.write("loras/style.safetensors", &making::lora()).unwrap();
    library.write("loras/copy of style.safetensors", &making::lora()).unwrap();
    library.write("loras/short.safetensors", &making::lora()[..200]).unwrap();
    library.write("checkpoints/four.ckpt", &making::checkpoint()).unwrap();
    library.write("checkpoints/hostile.ckpt", &making::hostile_checkpoint(&canary)).unwrap();
    let nothing = making::safetensors(&[("a", vec![0.0; 8]), ("b", vec![f32::NAN, 1.0])], &[]);
    library.write("zeros.safetensors", &nothing).unwrap();
    library.write("note.txt", b"not a model").unwrap();
    for (name, bytes) in making::sharded() {
        library.write(&format!("llm/{name}"), &bytes).unwrap();
    }
    canary
}

/// The listed models, by what their path says below the root.
async fn listed(library: &Library, open: &Open) -> BTreeMap<String, v1::Model> {
    let below = |model: &v1::Model| {
        let path = Path::new(&model.path);
        path.strip_prefix(library.root()).unwrap().to_str().unwrap().to_owned()
    };
    open.list().await.unwrap().into_iter().map(|model| (below(&model), model)).collect()
}

#[tokio::test]
async fn what_is_on_disk_is_what_is_listed_shown_and_validated() {
    let library = Library::new().unwrap();
    let canary = fill(&library);
    let mut open = library.open().await.unwrap();
    let models = listed(&library, &open).await;
    let told: Vec<_> = models
        .iter()
        .map(|(path, model)| {
            (path.as_str(), model.format.as_str(), model.r#type.as_str(), model.tensor_count, model.verdict())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("checkpoints/four.ckpt", "torch-zip", "checkpoint", 1, v1::Verdict::Ok),
            ("checkpoints/hostile.ckpt", "torch-zip", "checkpoint", 1, v1::Verdict::Malicious),
            ("llm", "transformers", "llm", 2, v1::Verdict::Ok),
            ("loras/copy of style.safetensors", "safetensors", "lora", 6, v1::Verdict::Ok),
            ("loras/short.safetensors", "safetensors", "unknown", 0, v1::Verdict::Corrupt),
            ("loras/style.safetensors", "safetensors", "lora", 6, v1::Verdict::Ok),
            ("zeros.safetensors", "safetensors", "other", 2, v1::Verdict::Ok),
        ]
    );
    let report = open.look().await.unwrap();
    assert_eq!((report.models, report.unchanged, report.damaged), (7, 7, 2));
    assert_eq!(report.by_type.values().sum::<u64>(), 7);
    let on_disk: u64 = models.values().map(|model| model.size_bytes).sum();
    assert_eq!(report.size_bytes, on_disk);

    let details = |name: &str| v1::GetModelRequest {
        name: name.to_owned(),
        details: true,
        tensors: true,
        ..Default::default()
    };
    let shown = open.at.catalog().get_model(details("style")).await.unwrap().into_inner();
    assert_eq!(shown.model.as_ref(), models.get("loras/style.safetensors"));
    let shown = shown.details.unwrap();
    assert_eq!((shown.tensors.len(), shown.metadata["modelspec.title"].as_str()), (6, "A style"));
    assert_eq!((shown.tensors[0].dtype.as_str(), &shown.tensors[0].shape[..]), ("F32", &[8][..]));
    let hostile = open.at.catalog().get_model(details("hostile")).await.unwrap().into_inner();
    let globals = hostile.details.unwrap().globals;
    assert!(globals.iter().any(|global| global.contains("system")), "{globals:?}");

    for (path, model) in &models {
        for level in
            [v1::ValidationLevel::Header, v1::ValidationLevel::Full, v1::ValidationLevel::Compatibility]
        {
            let judged = open.validate(&model.name, level).await.unwrap();
            assert_eq!(judged.verdict(), model.verdict(), "{path} {level:?}: {judged:?}");
            if let Some(compatibility) = judged.compatibility {
                assert_eq!(compatibility.compatible, model.verdict() == v1::Verdict::Ok, "{compatibility:?}");
            }
        }
    }
    open.watch.catch_up(&open.at.clone()).await.unwrap();
    let remarks = &open.watch.at(&library.path("zeros.safetensors")).unwrap().findings;
    let said: String = remarks.iter().map(|finding| finding.message.as_str()).collect();
    assert!(said.contains("not finite") && said.contains("zeros"), "{remarks:?}");
    let verdicts = open.at.integrity().list_verdicts(v1::ListVerdictsRequest::default()).await.unwrap();
    let worst = &verdicts.get_ref().verdicts;
    assert_eq!((worst[0].display_name.as_str(), worst[0].verdict()), ("hostile", v1::Verdict::Malicious));

    let request = v1::DigestModelsRequest {
        request_id: request_id(),
        names: vec!["hostile".to_owned()],
        ..Default::default()
    };
    let refused = open.at.catalog().digest_models(request).await.unwrap_err();
    assert_eq!(reason(&refused), "CORRUPTED_MODEL");
    let is_usable = |model: &&v1::Model| model.verdict() <= v1::Verdict::Suspicious;
    let request = v1::DigestModelsRequest {
        request_id: request_id(),
        names: models.values().filter(is_usable).map(|model| model.name.clone()).collect(),
        wait_for: waiting(),
        ..Default::default()
    };
    let digested: v1::DigestModelsResponse =
        result(open.at.catalog().digest_models(request).await.unwrap().into_inner()).unwrap();
    assert_eq!((digested.models, digested.components, digested.problems.len()), (5, 5, 0), "{digested:?}");
    let request = v1::ListComponentsRequest { shared_only: true, ..Default::default() };
    let shared = open.at.catalog().list_components(request).await.unwrap().into_inner();
    let users: Vec<Vec<&str>> = shared
        .groups
        .iter()
        .map(|group| group.users.iter().map(|user| user.display_name.as_str()).collect())
        .collect();
    assert_eq!(users, [["copy of style", "style"]], "equal bytes are one: {shared:?}");

    assert!(!canary.exists(), "something was run");
    assert_eq!(process::children(open.server.process_id()).unwrap(), Vec::<u32>::new());
}

/// Notes on one, a validation of another, a third that is missing: one of everything that is kept.
async fn live(library: &Library, open: &mut Open) {
    let notes = v1::ModelNotes {
        description: "words".to_owned(),
        aliases: vec!["the style".to_owned()],
        tags: vec!["a".to_owned(), "b".to_owned()],
        config: Some(v1::ModelConfig {
            default_device: "cuda:1".to_owned(),
            trusted: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    open.note("style", notes).await.unwrap();
    open.note("four", v1::ModelNotes { notes: "gone soon".to_owned(), ..Default::default() }).await.unwrap();
    open.validate("zeros", v1::ValidationLevel::Full).await.unwrap();
    std::fs::rename(library.path("checkpoints/four.ckpt"), library.path("four.away")).unwrap();
    open.look().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_with_exactly_the_models_it_had() {
    let library = Library::new().unwrap();
    fill(&library);
    let mut open = library.open().await.unwrap();
    live(&library, &mut open).await;
    let before = listed(&library, &open).await;
    assert_eq!(before["checkpoints/four.ckpt"].state(), v1::model::State::Missing);
    drop(open.server.kill().unwrap());

    let mut open = library.open().await.unwrap();
    assert_eq!(listed(&library, &open).await, before, "after a kill and a look");
    let resources: BTreeMap<_, _> =
        open.watch.models().into_iter().map(|model| (model.path.clone(), model.clone())).collect();
    let due: BTreeMap<_, _> = before.values().map(|model| (model.path.clone(), model.clone())).collect();
    assert_eq!(resources, due, "a watch says the same");
    let report = open.look().await.unwrap();
    assert_eq!((report.unchanged, report.header_bytes), (6, 0), "nothing was read again");

    // What changes while nobody looks is seen at the start.
    drop(open.server.kill().unwrap());
    std::fs::rename(library.path("four.away"), library.path("back.ckpt")).unwrap();
    let open = library.open().await.unwrap();
    let back = open.watch.at(&library.path("back.ckpt")).unwrap();
    assert_eq!(back.name, before["checkpoints/four.ckpt"].name, "found again where it was moved to");
    assert_eq!(back.notes, before["checkpoints/four.ckpt"].notes);
}

#[tokio::test]
async fn a_store_that_is_lost_is_said_to_be_lost_and_the_models_are_found_again() {
    let library = Library::new().unwrap();
    fill(&library);
    let mut open = library.open().await.unwrap();
    live(&library, &mut open).await;
    let before = listed(&library, &open).await;
    drop(open.server.kill().unwrap());
    // Nothing of it can be read, and it was never exported.
    let store = library.sandbox.state_dir().join("store.redb");
    let length = std::fs::metadata(&store).unwrap().len();
    std::fs::write(&store, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
    let _ = std::fs::remove_file(library.sandbox.state_dir().join("store.export"));

    let mut open = library.open().await.unwrap();
    let rebuilt = condition(&open.watch.mirror, "STORE_REBUILT").unwrap();
    assert!(rebuilt.message.contains("lost"), "{rebuilt:?}");
    assert!(!rebuilt.details.is_empty(), "{rebuilt:?}");
    let after = listed(&library, &open).await;
    let there: Vec<&String> = before.keys().filter(|path| *path != "checkpoints/four.ckpt").collect();
    assert_eq!(after.keys().collect::<Vec<_>>(), there, "what is on disk is found again");
    assert!(after.values().all(|model| model.notes.is_none()));
    open.note("style", v1::ModelNotes { description: "again".to_owned(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(open.look().await.unwrap().unchanged, 6);
}

/// One model after another at one path, the first of them in an export, all of them in pages that are not used any more.
async fn successors(library: &Library, path: &Path) {
    let mut open = library.open().await.unwrap();
    for round in 0..12 {
        let name = open.watch.at(path).unwrap().name.clone();
        let notes = v1::ModelNotes { description: format!("round {round}"), ..Default::default() };
        open.note(&name, notes).await.unwrap();
        if round == 6 {
            assert!(open.server.terminate().unwrap().0.success());
            open = library.open().await.unwrap();
        }
        let request = v1::DeleteModelRequest { request_id: request_id(), name, ..Default::default() };
        open.at.catalog().delete_model(request).await.unwrap();
        open.look().await.unwrap();
    }
    drop(open.server.kill().unwrap());
}

#[tokio::test]
async fn rows_that_damage_brings_back_do_not_keep_a_server_from_its_models() {
    const PAGE: u64 = 4_096;
    let library = Library::new().unwrap();
    let path = library.write("a.safetensors", &making::four(0.5)).unwrap();
    successors(&library, &path).await;
    let state = library.sandbox.state_dir().to_owned();
    let past: Vec<_> = std::fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .collect();
    let mut told_again = 0;
    for seed in soak::seeds(16) {
        println!("HOIST_SEED={seed}");
        let mut random = Random::new(seed);
        for entry in std::fs::read_dir(&state).unwrap() {
            let _ = std::fs::remove_file(entry.unwrap().path());
        }
        past.iter().for_each(|(bytes, path)| std::fs::write(path, bytes).unwrap());
        let file = std::fs::File::options().write(true).open(state.join("store.redb")).unwrap();
        let pages = file.metadata().unwrap().len() / PAGE;
        file.write_all_at(&[0x5a; 64], 16).unwrap();
        for _ in 0..random.below(pages / 2) {
            file.write_all_at(&[0x5a; 64], random.below(pages) * PAGE).unwrap();
        }
        drop(file);

        let mut open = library.open().await.unwrap();
        assert!(condition(&open.watch.mirror, "STORE_REBUILT").is_some());
        assert_eq!(open.watch.models().len(), 1, "a path has one model");
        let kept = open.watch.at(&path).cloned().unwrap();
        assert_eq!(open.look().await.unwrap().unchanged, 1);
        drop(open.server.kill().unwrap());
        let open = library.open().await.unwrap();
        assert_eq!(open.watch.at(&path), Some(&kept), "the next start agrees");
        told_again += u32::from(condition(&open.watch.mirror, "STORE_REBUILT").is_some());
        assert!(open.server.terminate().unwrap().0.success());
        let open = library.open().await.unwrap();
        let told = condition(&open.watch.mirror, "STORE_REBUILT");
        assert!(told.is_none(), "told, and exported without what was left out: {told:?}");
        drop(open.server.kill().unwrap());
    }
    println!("{told_again} told again after a kill");
    if soak::seeds(16).count() >= 16 {
        assert!(told_again > 0, "damage brought nothing back: the test shows nothing");
    }
}
