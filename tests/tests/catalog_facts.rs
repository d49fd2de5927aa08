//! What the catalog says of models is so: which files are theirs, which bytes their digests are of, which of two is which
//! after a move. A real server with a private root, changed between looks.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::fs::FileTimes;
use std::path::Path;

use hoist_tests::library::{Library, Open};
use hoist_tests::{making, request_id};
use hoist_wire::v1;
use v1::model::State;

fn known(open: &Open, path: &Path) -> v1::Model {
    open.watch
        .at(path)
        .unwrap_or_else(|| panic!("nothing at {}: {:#?}", path.display(), open.watch.models()))
        .clone()
}

fn notes(text: &str) -> v1::ModelNotes {
    v1::ModelNotes { description: text.to_owned(), tags: vec![text.to_owned()], ..Default::default() }
}

fn said(model: &v1::Model) -> &str {
    model.notes.as_ref().map_or("", |notes| &notes.description)
}

fn by_name<'a>(open: &'a Open, name: &str) -> Option<&'a v1::Model> {
    open.watch.models().into_iter().find(|model| model.name == name)
}

async fn look_at(open: &mut Open, path: &Path) -> v1::ScanModelsResponse {
    let paths = vec![path.display().to_string()];
    open.scan(v1::ScanModelsRequest { paths, ..Default::default() }).await.unwrap()
}

async fn details(open: &Open, path: &Path) -> v1::ModelDetails {
    let name = path.display().to_string();
    let request = v1::GetModelRequest { name, details: true, ..Default::default() };
    open.at.catalog().get_model(request).await.unwrap().into_inner().details.unwrap()
}

/// Other bytes in the same file, which then has its old time again.
fn rewrite_with_old_time(path: &Path, bytes: &[u8]) {
    let before = path.metadata().unwrap();
    assert_eq!(before.len(), bytes.len() as u64);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
}

#[tokio::test]
async fn what_a_pipeline_predicts_is_what_its_scheduler_says() {
    let library = Library::new().unwrap();
    let unet = making::shaped(&[
        ("conv_in.weight", &[320, 4, 3, 3]),
        ("time_embedding.linear_1.weight", &[1280, 320]),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", &[320, 1024]),
        ("up_blocks.0.resnets.0.conv1.weight", &[320, 4]),
    ]);
    for (folder, scheduler) in [("v", "v_prediction"), ("eps", "epsilon"), ("none", "")] {
        let index =
            br#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
            "scheduler": ["diffusers", "DDIMScheduler"]}"#;
        library.write(&format!("{folder}/model_index.json"), index).unwrap();
        let config = br#"{"_class_name": "UNet2DConditionModel", "cross_attention_dim": 1024}"#;
        library.write(&format!("{folder}/unet/config.json"), config).unwrap();
        library.write(&format!("{folder}/unet/diffusion_pytorch_model.safetensors"), &unet).unwrap();
        let says = if scheduler.is_empty() {
            r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#.to_owned()
        } else {
            format!(r#"{{"_class_name": "DDIMScheduler", "prediction_type": "{scheduler}"}}"#)
        };
        let below = format!("{folder}/scheduler/scheduler_config.json");
        library.write(&below, says.as_bytes()).unwrap();
    }
    let open = library.open().await.unwrap();
    for (folder, due) in [("v", "v_prediction"), ("eps", "epsilon"), ("none", "")] {
        let path = library.path(folder);
        let model = known(&open, &path);
        assert_eq!((model.base.as_str(), model.prediction_type.as_str()), ("sd-2.1", due), "{folder}");
        assert_eq!(model.verdict(), v1::Verdict::Ok, "{folder}: {:?}", model.findings);
        let said = details(&open, &path).await.evidence.into_iter().any(|evidence| {
            evidence.subject == "scheduler/scheduler_config.json" && evidence.says.contains(due)
        });
        assert_eq!(said, !due.is_empty(), "{folder}: it is shown why");
    }
}

#[tokio::test]
async fn data_outside_a_graph_belongs_to_its_model() {
    let library = Library::new().unwrap();
    // Two graphs in one folder, so that each is a model of its own; and names that only the graphs know.
    let graph = library.write("two/a.onnx", &making::onnx("a.onnx_data")).unwrap();
    let data = library.write("two/a.onnx_data", &[1; 16]).unwrap();
    library.write("two/b.onnx", &making::onnx("deep/weights of b")).unwrap();
    let deep = library.write("two/deep/weights of b", &[1; 16]).unwrap();
    library.write("one/model.onnx", &making::onnx("a.bin")).unwrap();
    let bin = library.write("one/a.bin", &[1; 16]).unwrap();
    let mut open = library.open().await.unwrap();
    let paths = [graph.clone(), library.path("two/b.onnx"), library.path("one")];
    let data = [data, deep, bin];
    assert_eq!(open.watch.models().len(), 3, "{:#?}", open.watch.models());
    let seen_again = open.look().await.unwrap();
    assert_eq!(seen_again.unchanged, 3, "{seen_again:?}");
    for (path, data) in paths.iter().zip(&data) {
        let whole = known(&open, path);
        assert_eq!(whole.verdict(), v1::Verdict::Ok, "{whole:?}");
        let size = path.metadata().unwrap().len() + 16;
        let folder = path.join("model.onnx").metadata().map_or(size, |graph| graph.len() + 16);
        assert_eq!(whole.size_bytes, folder, "{whole:?}");
        let files = details(&open, path).await.files;
        assert_eq!(files.iter().filter(|file| file.weights).count(), 2, "{files:?}");
        let found = open.validate(&whole.name, v1::ValidationLevel::Full).await.unwrap();
        assert_eq!(found.verdict(), v1::Verdict::Ok, "{found:?}");
        open.watch.catch_up(&open.at.clone()).await.unwrap();
        let digest = known(&open, path).components[0].digest.clone();
        assert!(!digest.is_empty());

        std::fs::write(data, [2; 16]).unwrap();
        assert_eq!(
            open.look().await.unwrap().changed,
            1,
            "other data is another content: {}",
            data.display()
        );
        let changed = known(&open, path);
        assert_eq!((&changed.name, changed.components[0].digest.as_str()), (&whole.name, ""));

        std::fs::remove_file(data).unwrap();
        open.look().await.unwrap();
        // A folder with one graph and nothing else is that graph; it is the same model all the same.
        let short = by_name(&open, &whole.name).unwrap().clone();
        assert_eq!(short.verdict(), v1::Verdict::Incomplete, "{}: {short:?}", data.display());
        assert_eq!(short.findings[0].kind(), v1::FindingKind::Partial, "{:?}", short.findings);
        assert_eq!(open.look().await.unwrap().unchanged, 3, "what is missing is told once");

        std::fs::write(data, [1; 16]).unwrap();
        open.look().await.unwrap();
        let back = known(&open, path);
        assert_eq!((&back.name, back.verdict()), (&whole.name, v1::Verdict::Ok), "{}", data.display());
    }
    for (path, data) in paths.iter().zip(&data) {
        let request = v1::DeleteModelRequest {
            request_id: request_id(),
            name: path.display().to_string(),
            delete_files: true,
            ..Default::default()
        };
        let answer = open.at.catalog().delete_model(request).await.unwrap().into_inner();
        assert_eq!(answer.files_deleted, 2, "{}", path.display());
        assert!(!path.exists() && !data.exists(), "{}", path.display());
    }
}

#[tokio::test]
async fn data_outside_a_graph_moves_with_it_and_stays_where_another_needs_it() {
    let library = Library::new().unwrap();
    let mut paths = Vec::new();
    for name in ["a", "b"] {
        paths.push(library.write(&format!("x/{name}.onnx"), &making::onnx("shared.onnx_data")).unwrap());
    }
    let data = library.write("x/shared.onnx_data", &[1; 16]).unwrap();
    let mut open = library.open().await.unwrap();
    let first = known(&open, &paths[0]);
    open.note(&first.name, notes("mine")).await.unwrap();
    std::fs::rename(library.path("x"), library.path("y")).unwrap();
    assert_eq!(open.look().await.unwrap().moved, 2);
    let moved = known(&open, &library.path("y/a.onnx"));
    assert_eq!((&moved.name, moved.verdict(), said(&moved)), (&first.name, v1::Verdict::Ok, "mine"));
    let request = v1::DeleteModelRequest {
        request_id: request_id(),
        name: moved.name,
        delete_files: true,
        ..Default::default()
    };
    let answer = open.at.catalog().delete_model(request).await.unwrap().into_inner();
    assert_eq!(answer.files_deleted, 1);
    let data = library.path("y").join(data.file_name().unwrap());
    assert!(data.exists(), "the other model needs it");
    open.look().await.unwrap();
    assert_eq!(known(&open, &library.path("y/b.onnx")).verdict(), v1::Verdict::Ok);
}

#[tokio::test]
async fn data_that_leads_out_of_its_folder_is_told_and_never_opened() {
    let library = Library::new().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, [1; 16]).unwrap();
    let paths = [secret.display().to_string(), "../b.onnx".to_owned(), "x/../../b.onnx".to_owned()];
    let mut models = Vec::new();
    for (number, location) in paths.iter().enumerate() {
        models.push(library.write(&format!("f/{number}.onnx"), &making::onnx(location)).unwrap());
    }
    library.write("b.onnx", &making::onnx("b.onnx_data")).unwrap();
    std::os::unix::fs::symlink(&secret, library.path("f/link.onnx_data")).unwrap();
    models.push(library.write("f/link.onnx", &making::onnx("link.onnx_data")).unwrap());
    let open = library.open().await.unwrap();
    for path in &models {
        let model = known(&open, path);
        let worst = &model.findings[0];
        let told = (model.verdict(), worst.kind());
        assert_eq!(told, (v1::Verdict::Rejected, v1::FindingKind::Path), "{}: {worst:?}", path.display());
        let files = details(&open, path).await.files;
        assert!(
            files.iter().all(|file| !file.path.contains("..") && !file.path.contains("secret")),
            "{files:?}"
        );
    }
}

#[tokio::test]
async fn a_digest_of_a_file_that_was_touched_gives_way_to_its_bytes() {
    let library = Library::new().unwrap();
    let path = library.write("a.safetensors", &making::four(0.5)).unwrap();
    let still = library.write("still.safetensors", &making::four(0.5)).unwrap();
    let mut open = library.open().await.unwrap();
    let first = known(&open, &path);
    for path in [&path, &still] {
        open.validate(&path.display().to_string(), v1::ValidationLevel::Full).await.unwrap();
    }
    open.watch.catch_up(&open.at.clone()).await.unwrap();
    let before = known(&open, &path).components[0].digest.clone();
    assert!(!before.is_empty());

    // A touch alone hashes nothing again, and what is shown stays.
    rewrite_with_old_time(&path, &making::four(0.5));
    open.look().await.unwrap();
    assert_eq!(known(&open, &path).components[0].digest, before);
    let same = open.validate(&first.name, v1::ValidationLevel::Full).await.unwrap();
    assert_eq!(same.verdict(), v1::Verdict::Ok, "{same:?}");

    rewrite_with_old_time(&path, &making::four(7.0));
    open.look().await.unwrap();
    assert_eq!(known(&open, &path).components[0].digest, before, "nothing was read: it is as it was shown");
    let other = open.validate(&first.name, v1::ValidationLevel::Full).await.unwrap();
    assert_eq!(other.verdict(), v1::Verdict::Ok, "somebody wrote to it: that is no damage: {other:?}");
    open.watch.catch_up(&open.at.clone()).await.unwrap();
    let after = known(&open, &path).components[0].digest.clone();
    assert!(after != before && !after.is_empty(), "{after}");
    let again = open.validate(&first.name, v1::ValidationLevel::Full).await.unwrap();
    assert!(again.findings.is_empty(), "{again:?}");

    // Before a look has come by, too.
    rewrite_with_old_time(&path, &making::four(9.0));
    let unseen = open.validate(&first.name, v1::ValidationLevel::Full).await.unwrap();
    assert_eq!(unseen.verdict(), v1::Verdict::Ok, "{unseen:?}");
    open.look().await.unwrap();
    assert_ne!(known(&open, &path).components[0].digest, after);

    // And on demand, without a validation.
    rewrite_with_old_time(&path, &making::four(0.5));
    open.look().await.unwrap();
    let request = v1::DigestModelsRequest {
        request_id: request_id(),
        names: vec![first.name.clone()],
        wait_for: hoist_tests::library::waiting(),
        ..Default::default()
    };
    let operation = open.at.catalog().digest_models(request).await.unwrap().into_inner();
    let report: v1::DigestModelsResponse = hoist_tests::library::result(operation).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    open.watch.catch_up(&open.at.clone()).await.unwrap();
    assert_eq!(known(&open, &path).components[0].digest, known(&open, &still).components[0].digest);
}

#[tokio::test]
async fn two_files_that_change_places_take_their_notes_along() {
    let library = Library::new().unwrap();
    let [a, b, t] = ["a", "b", "t"].map(|name| library.path(&format!("{name}.safetensors")));
    std::fs::write(&a, making::four(1.0)).unwrap();
    std::fs::write(&b, making::safetensors(&[("w", vec![0.5; 9])], &[])).unwrap();
    let mut open = library.open().await.unwrap();
    let (first, second) = (known(&open, &a), known(&open, &b));
    open.note(&first.name, notes("about a")).await.unwrap();
    std::fs::rename(&a, &t).unwrap();
    std::fs::rename(&b, &a).unwrap();
    std::fs::rename(&t, &b).unwrap();
    let report = open.look().await.unwrap();
    assert_eq!((report.models, report.added, report.missing), (2, 0, 0), "{report:?}");
    for (path, was, text) in [(&b, &first, "about a"), (&a, &second, "")] {
        let is = known(&open, path);
        assert_eq!((&is.name, said(&is), is.state()), (&was.name, text, State::Available));
        assert_eq!(is.parameter_count, was.parameter_count);
    }
    assert_eq!(open.watch.models().len(), 2);
    let again = open.look().await.unwrap();
    assert_eq!(again.unchanged, 2, "{again:?}");
}

#[tokio::test]
async fn a_file_moved_over_another_keeps_its_own_notes_and_takes_none() {
    for noted in [true, false] {
        let library = Library::new().unwrap();
        let [a, b] = ["a", "b"].map(|name| library.path(&format!("{name}.safetensors")));
        std::fs::write(&a, making::four(1.0)).unwrap();
        std::fs::write(&b, making::safetensors(&[("w", vec![0.5; 9])], &[])).unwrap();
        let mut open = library.open().await.unwrap();
        let (over, under) = (known(&open, &a).name, known(&open, &b).name);
        open.note(&over, notes("mover")).await.unwrap();
        if noted {
            open.note(&under, notes("overwritten")).await.unwrap();
        }
        std::fs::rename(&a, &b).unwrap();
        open.look().await.unwrap();
        let moved = by_name(&open, &over).unwrap().clone();
        assert_eq!((Path::new(&moved.path), said(&moved)), (b.as_path(), "mover"));
        assert_eq!((moved.state(), moved.parameter_count), (State::Available, 4));
        match by_name(&open, &under) {
            Some(lost) if noted => {
                assert_eq!((lost.state(), said(lost)), (State::Missing, "overwritten"));
            }
            None if !noted => {}
            other => panic!("{other:?}"),
        }
        let again = open.look().await.unwrap();
        assert_eq!((again.unchanged, again.missing), (1, 0), "{again:?}");

        // What is written to the place anew is that of who has it, and what was lost is found wherever it comes back.
        let server = open.server;
        drop(server);
        let mut open = library.open().await.unwrap();
        assert_eq!(by_name(&open, &over).unwrap().state(), State::Available);
        assert_eq!(by_name(&open, &under).map(v1::Model::state), noted.then_some(State::Missing));
        std::fs::remove_file(&b).unwrap();
        open.look().await.unwrap();
        std::fs::write(&b, making::four(3.0)).unwrap();
        open.look().await.unwrap();
        assert_eq!(by_name(&open, &over).unwrap().state(), State::Available);
        assert_eq!(by_name(&open, &under).map(v1::Model::state), noted.then_some(State::Missing));
    }
}

#[tokio::test]
async fn names_of_one_file_keep_their_notes_when_their_folder_is_renamed() {
    let library = Library::new().unwrap();
    let file = library.write("d/a.safetensors", &making::four(0.5)).unwrap();
    std::fs::hard_link(&file, library.path("d/b.safetensors")).unwrap();
    let real = library.write("d/real.safetensors", &making::four(1.5)).unwrap();
    std::os::unix::fs::symlink(&real, library.path("d/link.safetensors")).unwrap();
    let mut open = library.open().await.unwrap();
    let names = ["a", "b", "real", "link"];
    for name in names {
        let at = library.path(&format!("d/{name}.safetensors"));
        open.note(&known(&open, &at).name, notes(name)).await.unwrap();
    }
    std::fs::rename(library.path("d"), library.path("e")).unwrap();
    std::fs::remove_file(library.path("e/link.safetensors")).unwrap();
    std::os::unix::fs::symlink(library.path("e/real.safetensors"), library.path("e/link.safetensors"))
        .unwrap();
    open.look().await.unwrap();
    for name in names {
        let at = library.path(&format!("e/{name}.safetensors"));
        assert_eq!(said(&known(&open, &at)), name, "{:#?}", open.watch.models());
    }
    assert_eq!(open.watch.models().len(), names.len(), "none is left at its old place");
}

#[tokio::test]
async fn a_file_takes_its_own_notes_along_and_not_those_of_a_link_to_it() {
    let library = Library::new().unwrap();
    let mut open = library.open().await.unwrap();
    let file = library.write("file.safetensors", &making::four(0.5)).unwrap();
    let link = library.path("links/link.safetensors");
    std::fs::create_dir(library.path("links")).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    // The link is known first, and comes first among the models of the file.
    look_at(&mut open, &library.path("links")).await;
    open.look().await.unwrap();
    assert!(known(&open, &link).name < known(&open, &file).name);
    for (path, text) in [(&link, "the link"), (&file, "the file")] {
        open.note(&known(&open, path).name, notes(text)).await.unwrap();
    }
    let moved = library.path("moved.safetensors");
    std::fs::rename(&file, &moved).unwrap();
    open.look().await.unwrap();
    assert_eq!(said(&known(&open, &moved)), "the file", "{:#?}", open.watch.models());
}

#[tokio::test]
async fn a_file_that_is_there_is_never_missing_however_often_it_was_written_over() {
    let library = Library::new().unwrap();
    let paths = ["a", "b", "c"].map(|name| library.path(&format!("{name}.safetensors")));
    for (number, path) in paths.iter().enumerate() {
        std::fs::write(path, making::safetensors(&[("w", vec![0.5; 4 + number])], &[])).unwrap();
    }
    let mut open = library.open().await.unwrap();
    let by_path = paths.clone().map(|path| known(&open, &path).name);
    for (name, text) in by_path.iter().zip(["a", "b", "c"]) {
        open.note(name, notes(text)).await.unwrap();
    }
    for over in &paths[1..] {
        std::fs::remove_file(over).unwrap();
        std::fs::hard_link(&paths[0], over).unwrap();
    }
    std::fs::remove_file(&paths[0]).unwrap();
    for look in 0..2 {
        open.look().await.unwrap();
        for path in &paths[1..] {
            // What was there before may be kept as missing for its notes; the file has a model all the same.
            let is_there =
                |model: &&v1::Model| Path::new(&model.path) == path && model.state() == State::Available;
            let models = open.watch.models();
            assert_eq!(models.iter().filter(|model| is_there(model)).count(), 1, "look {look}: {models:#?}");
        }
    }
}

#[tokio::test]
async fn a_model_that_became_something_else_under_another_name_is_gone() {
    let library = Library::new().unwrap();
    let path = library.write("junk.safetensors", &[7; 3_000]).unwrap();
    let mut open = library.open().await.unwrap();
    assert_eq!(known(&open, &path).verdict(), v1::Verdict::Corrupt);
    // A `.bin` of no known format is somebody else's file.
    std::fs::rename(&path, library.path("junk.bin")).unwrap();
    let report = open.look().await.unwrap();
    assert_eq!((report.missing, report.models), (1, 0), "{report:?}");
    assert!(open.watch.models().is_empty(), "{:#?}", open.watch.models());
}

#[tokio::test]
async fn what_was_written_over_shows_and_checks_nothing_of_what_has_its_place() {
    let library = Library::new().unwrap();
    let over = library.write("over.safetensors", &making::four(0.5)).unwrap();
    let other =
        library.write("other.safetensors", &making::safetensors(&[("w", vec![0.5; 40])], &[])).unwrap();
    let mut open = library.open().await.unwrap();
    let name = known(&open, &over).name;
    open.note(&name, notes("written over")).await.unwrap();
    std::fs::rename(&other, &over).unwrap();
    open.look().await.unwrap();
    let request = v1::GetModelRequest { name: name.clone(), details: true, ..Default::default() };
    let refused = open.at.catalog().get_model(request).await.unwrap_err();
    assert_eq!(hoist_tests::library::reason(&refused), "SOURCE_CHANGED", "{refused:?}");
    let plain = v1::GetModelRequest { name, ..Default::default() };
    let model = open.at.catalog().get_model(plain).await.unwrap().into_inner().model.unwrap();
    assert_eq!((model.state(), said(&model)), (State::Missing, "written over"));
    let listed = open.at.catalog().list_models(v1::ListModelsRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.models.len(), listed.missing_size), (1, 1));
}

/// Files whose names are exchanged all the time, by the kernel at once or by three renames, while looks go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_follow_files_that_change_places_while_looks_go_on() {
    let library = Library::new().unwrap();
    let paths: Vec<_> =
        (0..24).map(|number| library.path(&format!("d{}/f{number}.safetensors", number % 4))).collect();
    for (number, path) in paths.iter().enumerate() {
        let content = making::safetensors(&[("w", vec![0.5; 10 + number])], &[]);
        library.write(path.strip_prefix(library.root()).unwrap().to_str().unwrap(), &content).unwrap();
    }
    let mut open = library.open().await.unwrap();
    for path in &paths {
        let model = known(&open, path);
        open.note(&model.name, notes(&model.parameter_count.to_string())).await.unwrap();
    }
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stop, places) = (std::sync::Arc::clone(&over), paths.clone());
    let exchanging = std::thread::Builder::new().spawn(move || {
        let mut number = 1_usize;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (one, other) =
                (&places[(number >> 33) % places.len()], &places[(number >> 45) % places.len()]);
            if number & 1 << 60 == 0 {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags);
            } else if one != other {
                let aside = one.with_extension("tmp");
                std::fs::rename(one, &aside).unwrap();
                std::fs::rename(other, one).unwrap();
                std::fs::rename(&aside, other).unwrap();
            }
            // Several in each look: one that is nothing but exchanges shows no file at any place for long.
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
    });
    for _ in 0..40 {
        open.look().await.unwrap();
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    exchanging.unwrap().join().unwrap();
    // The first look after it may still find some in flux, and is followed by others; those end.
    open.look().await.unwrap();
    open.look().await.unwrap();
    let wrong: Vec<_> = paths
        .iter()
        .map(|path| known(&open, path))
        .filter(|model| said(model) != model.parameter_count.to_string())
        .map(|model| format!("{}: {} says {}", model.path, model.parameter_count, said(&model)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(open.watch.models().len(), paths.len());
}

#[tokio::test]
async fn a_graph_takes_no_other_models_files_along_whatever_it_names() {
    let library = Library::new().unwrap();
    let victim = library.write("v/victim.safetensors", &making::four(0.5)).unwrap();
    let graph = library.write("v/graph.onnx", &making::onnx("victim.safetensors")).unwrap();
    let other = library.write("v/other.onnx", &making::onnx("graph.onnx")).unwrap();
    let open = library.open().await.unwrap();
    for (path, gone) in [(&graph, true), (&other, true)] {
        let name = known(&open, path).name;
        let request = v1::DeleteModelRequest { name, delete_files: true, ..Default::default() };
        open.at.catalog().delete_model(request).await.unwrap();
        assert_eq!(!path.exists(), gone, "{}", path.display());
    }
    assert!(victim.exists(), "it is a model of its own");
}

#[tokio::test]
async fn a_look_at_a_shard_that_is_gone_is_a_look_at_its_model() {
    let library = Library::new().unwrap();
    for (name, bytes) in making::sharded() {
        library.write(&format!("indexed/{name}"), &bytes).unwrap();
    }
    for number in 1..=3 {
        let bytes = making::safetensors(&[(&format!("w{number}"), vec![1.0; 4])], &[]);
        library.write(&format!("plain/m-0000{number}-of-00003.safetensors"), &bytes).unwrap();
        library.write(&format!("mixed/m-0000{number}-of-00003.safetensors"), &bytes).unwrap();
    }
    library.write("mixed/other.safetensors", &making::four(0.5)).unwrap();
    let mut open = library.open().await.unwrap();
    for (folder, shard) in [
        ("indexed", "model-00002-of-00002.safetensors"),
        ("indexed", "model-00001-of-00002.safetensors"),
        ("plain", "m-00001-of-00003.safetensors"),
        ("plain", "m-00003-of-00003.safetensors"),
        ("mixed", "m-00002-of-00003.safetensors"),
        ("mixed", "m-00003-of-00003.safetensors"),
    ] {
        let path = match folder {
            "mixed" => library.path("mixed/m-00001-of-00003.safetensors"),
            _ => library.path(folder),
        };
        let whole = known(&open, &path);
        assert_eq!(whole.verdict(), v1::Verdict::Ok, "{whole:?}");
        let shard = library.path(&format!("{folder}/{shard}"));
        let bytes = std::fs::read(&shard).unwrap();
        std::fs::remove_file(&shard).unwrap();
        look_at(&mut open, &shard).await;
        let short = known(&open, &path);
        assert_eq!(
            (&short.name, short.verdict()),
            (&whole.name, v1::Verdict::Incomplete),
            "{}",
            shard.display()
        );
        std::fs::write(&shard, bytes).unwrap();
        look_at(&mut open, &shard).await;
        let back = known(&open, &path);
        assert_eq!((&back.name, back.verdict()), (&whole.name, v1::Verdict::Ok), "{}", shard.display());
    }
    let shown: Vec<_> = open.watch.models().into_iter().map(|model| &model.display_name).collect();
    assert_eq!(shown.len(), 4, "a set of shards is one model: {shown:?}");
}
