//! What happens to files, seen through a watch of a real server: a model keeps its id and what people wrote about it
//! through renames, moves and rewrites, and nothing that people wrote is lost because a file is not there.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::path::Path;

use hoist_tests::library::{Library, Open, at, condition, reason};
use hoist_tests::{making, request_id};
use hoist_wire::v1;
use v1::model::State;

fn notes(text: &str) -> v1::ModelNotes {
    v1::ModelNotes { description: text.to_owned(), tags: vec!["kept".to_owned()], ..Default::default() }
}

fn known(open: &Open, path: &Path) -> v1::Model {
    open.watch
        .at(path)
        .unwrap_or_else(|| panic!("nothing at {}: {:#?}", path.display(), open.watch.models()))
        .clone()
}

/// The counts that say what a look changed.
fn changes(report: &v1::ScanModelsResponse) -> [u64; 6] {
    [report.models, report.added, report.changed, report.moved, report.unchanged, report.missing]
}

/// A rename within a directory of another file, so that a path has other bytes at once.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("safetensors.tmp");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn what_is_written_about_a_model_follows_its_file_wherever_it_goes() {
    let library = Library::new().unwrap();
    let first = library.write("a.safetensors", &making::four(0.5)).unwrap();
    let mut open = library.open().await.unwrap();
    let born = known(&open, &first);
    assert_eq!((born.state(), born.tensor_count, born.display_name.as_str()), (State::Available, 1, "a"));
    open.note(&born.name, notes("mine")).await.unwrap();
    open.validate(&born.name, v1::ValidationLevel::Full).await.unwrap();

    // Seen again: not a single revision.
    open.watch.catch_up(&open.at.clone()).await.unwrap();
    let before = known(&open, &first);
    assert!(before.validate_time.is_some() && !before.components[0].digest.is_empty(), "{before:?}");
    assert_eq!(changes(&open.look().await.unwrap()), [1, 0, 0, 0, 1, 0]);
    assert_eq!(known(&open, &first), before);

    // Renamed, then moved between folders: the same bytes, so all that was found out about them holds.
    let mut path = first;
    for below in ["b.safetensors", "folder/deeper/b.safetensors", "other/c.safetensors"] {
        let to = library.path(below);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(&path, &to).unwrap();
        assert_eq!(changes(&open.look().await.unwrap()), [1, 0, 0, 1, 0, 0], "{below}");
        let moved = known(&open, &to);
        assert_eq!(open.watch.models().len(), 1, "{below}");
        assert_eq!((&moved.name, &moved.notes), (&before.name, &before.notes), "{below}");
        assert_eq!(moved.components, before.components, "{below}");
        assert_eq!(moved.validate_time, before.validate_time, "{below}");
        path = to;
    }

    // Other bytes under the same name: by rename, in place, cut short.
    for (what, bytes) in [("replaced", making::lora()), ("again", making::four(9.0))] {
        replace(&path, &bytes);
        assert_eq!(changes(&open.look().await.unwrap()), [1, 0, 1, 0, 0, 0], "{what}");
        let changed = known(&open, &path);
        assert_eq!((&changed.name, &changed.notes), (&before.name, &before.notes), "{what}");
        assert_eq!(changed.validate_time, None, "{what}: nobody has looked at these bytes");
        assert!(changed.components.iter().all(|component| component.digest.is_empty()), "{what}");
        assert_eq!(changed.size_bytes, bytes.len() as u64, "{what}");
    }
    std::fs::write(&path, making::safetensors(&[("x", vec![1.0; 64])], &[])).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [1, 0, 1, 0, 0, 0], "overwritten");
    let written = known(&open, &path);
    assert_eq!((&written.name, written.verdict()), (&before.name, v1::Verdict::Ok));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    let report = open.look().await.unwrap();
    assert_eq!((changes(&report), report.damaged), ([1, 0, 1, 0, 0, 0], 1), "cut short");
    let cut = known(&open, &path);
    assert_eq!((&cut.name, cut.verdict()), (&before.name, v1::Verdict::Corrupt));
    assert_eq!(cut.findings[0].kind(), v1::FindingKind::Partial, "{:?}", cut.findings);

    // Gone and back.
    let bytes = making::four(0.5);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [0, 0, 0, 0, 0, 1]);
    let missing = known(&open, &path);
    assert_eq!(
        (&missing.name, &missing.notes, missing.state()),
        (&before.name, &before.notes, State::Missing)
    );
    assert_eq!(changes(&open.look().await.unwrap()), [0; 6], "told once");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [1, 0, 1, 0, 0, 0]);
    let back = known(&open, &path);
    assert_eq!((&back.name, &back.notes, back.state()), (&before.name, &before.notes, State::Available));
    assert_eq!(back.discover_time, born.discover_time);
}

#[tokio::test]
async fn a_model_that_nobody_wrote_about_is_gone_with_its_file() {
    let library = Library::new().unwrap();
    let path = library.write("a.safetensors", &making::four(0.5)).unwrap();
    let mut open = library.open().await.unwrap();
    let first = known(&open, &path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [0, 0, 0, 0, 0, 1]);
    assert_eq!(open.watch.models(), Vec::<&v1::Model>::new());
    std::fs::write(&path, making::four(0.5)).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [1, 1, 0, 0, 0, 0]);
    assert_ne!(known(&open, &path).name, first.name, "a model that was forgotten is a new one");
}

#[tokio::test]
async fn after_one_look_every_file_has_a_model_however_names_were_exchanged() {
    let library = Library::new().unwrap();
    let names = ["a", "b", "c", "d"].map(|name| library.path(&format!("{name}.safetensors")));
    for (number, path) in names.iter().enumerate().take(3) {
        std::fs::write(path, making::safetensors(&[("w", vec![0.5; 4 + number])], &[])).unwrap();
    }
    let mut open = library.open().await.unwrap();
    // c to d, b to c, a to b: two places have other files, one is new, one is empty.
    for (from, to) in [(2, 3), (1, 2), (0, 1)] {
        std::fs::rename(&names[from], &names[to]).unwrap();
    }
    open.look().await.unwrap();
    for (path, parameters) in names[1..].iter().zip([4, 5, 6]) {
        assert_eq!(known(&open, path).parameter_count, parameters, "{}", path.display());
    }
    assert_eq!(open.watch.models().len(), 3);
    // A second name for a file that has moved: both are there.
    std::fs::rename(&names[1], &names[0]).unwrap();
    std::fs::hard_link(&names[0], library.path("second.safetensors")).unwrap();
    open.look().await.unwrap();
    assert_eq!(open.watch.models().len(), 4);
    let report = open.look().await.unwrap();
    assert_eq!(changes(&report), [4, 0, 0, 0, 4, 0], "nothing was left for a second look");
}

#[tokio::test]
async fn a_look_at_a_path_sees_that_path_and_nothing_else() {
    let library = Library::new().unwrap();
    let mut open = library.open().await.unwrap();
    let near = library.write("near/a.safetensors", &making::four(0.5)).unwrap();
    let far = library.write("far/b.safetensors", &making::four(0.5)).unwrap();
    let of =
        |path: &Path| v1::ScanModelsRequest { paths: vec![path.display().to_string()], ..Default::default() };
    assert_eq!(changes(&open.scan(of(&library.path("near"))).await.unwrap()), [1, 1, 0, 0, 0, 0]);
    assert!(open.watch.at(&near).is_some() && open.watch.at(&far).is_none());
    assert_eq!(open.scan(of(&far)).await.unwrap().added, 1);
    assert!(open.watch.at(&far).is_some());

    // What is gone there is known to be gone; what is gone elsewhere is not looked for.
    std::fs::remove_file(&near).unwrap();
    std::fs::remove_file(&far).unwrap();
    assert_eq!(open.scan(of(&near)).await.unwrap().missing, 1);
    assert!(open.watch.at(&near).is_none() && open.watch.at(&far).is_some());
    std::fs::remove_dir(library.path("far")).unwrap();
    let report = open.scan(of(&library.path("far"))).await.unwrap();
    assert_eq!(report.missing, 1, "{report:?}");
    assert!(open.watch.at(&far).is_none());
}

#[tokio::test]
async fn a_look_outside_the_roots_is_refused() {
    let library = Library::new().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x.safetensors"), making::four(0.5)).unwrap();
    std::os::unix::fs::symlink(outside.path(), library.path("link")).unwrap();
    let mut open = library.open().await.unwrap();
    let root = library.root();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    for path in [
        outside.path().display().to_string(),
        outside.path().join("x.safetensors").display().to_string(),
        format!("{}/../{name}", root.display()),
        format!("{}/link/../../{name}/x.safetensors", root.display()),
        "/".to_owned(),
        "/etc/hostname".to_owned(),
        "/proc/self/root".to_owned(),
        format!("{}suffix", root.display()),
    ] {
        let request = v1::ScanModelsRequest { paths: vec![path.clone()], ..Default::default() };
        let refused = open.scan(request).await.unwrap_err();
        assert_eq!(reason(&refused), "PATH_OUTSIDE_ROOTS", "{path}: {refused:?}");
    }
    for path in ["", "relative/x.safetensors", "nul\0byte"] {
        let request = v1::ScanModelsRequest { paths: vec![path.to_owned()], ..Default::default() };
        let refused = open.scan(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{path}: {refused:?}");
    }
    // A link does not make it a path below the root.
    let through = library.path("link/x.safetensors").display().to_string();
    let request = v1::ScanModelsRequest { paths: vec![through], ..Default::default() };
    let refused = open.scan(request).await.unwrap_err();
    assert_eq!(reason(&refused), "PATH_OUTSIDE_ROOTS", "{refused:?}");
    let models = open.list().await.unwrap();
    assert!(models.iter().all(|model| model.tensor_count == 0), "{models:?}");
}

#[tokio::test]
async fn a_model_lacks_what_its_index_names_until_it_is_there() {
    let library = Library::new().unwrap();
    for (name, bytes) in making::sharded() {
        library.write(&format!("llm/{name}"), &bytes).unwrap();
    }
    let mut open = library.open().await.unwrap();
    let folder = library.path("llm");
    let whole = known(&open, &folder);
    assert_eq!((whole.verdict(), whole.tensor_count), (v1::Verdict::Ok, 2), "{whole:?}");

    let shard = folder.join("model-00002-of-00002.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::remove_file(&shard).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [1, 0, 1, 0, 0, 0]);
    let short = known(&open, &folder);
    assert_eq!((short.verdict(), &short.name), (v1::Verdict::Incomplete, &whole.name));
    let finding = &short.findings[0];
    assert_eq!(finding.kind(), v1::FindingKind::Partial);
    assert_eq!(finding.file, "model-00002-of-00002.safetensors", "{finding:?}");
    assert!(finding.message.contains("1 of 2 shards"), "{finding:?}");
    let judged = open.validate(&whole.name, v1::ValidationLevel::Compatibility).await.unwrap();
    assert!(!judged.compatibility.unwrap().compatible, "half a model runs nowhere");

    std::fs::write(&shard, bytes).unwrap();
    open.look().await.unwrap();
    assert_eq!(known(&open, &folder).verdict(), v1::Verdict::Ok);
}

#[tokio::test]
async fn a_root_that_is_away_costs_nothing_and_is_said_to_be_away() {
    let mut library = Library::new().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let base = elsewhere.path().canonicalize().unwrap();
    let second = base.join("second");
    std::fs::create_dir(&second).unwrap();
    let path = second.join("a.safetensors");
    std::fs::write(&path, making::four(0.5)).unwrap();
    library.write("own.safetensors", &making::four(0.5)).unwrap();
    library.serve_root(&second);
    let mut open = library.open().await.unwrap();
    let before = known(&open, &path);
    assert_eq!(condition(&open.watch.mirror, "ROOT_UNAVAILABLE"), None);

    std::fs::rename(&second, base.join("away")).unwrap();
    library.write("new.safetensors", &making::four(0.5)).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [2, 1, 0, 0, 1, 0], "the other root goes on");
    let raised = condition(&open.watch.mirror, "ROOT_UNAVAILABLE").unwrap();
    assert!(raised.details.iter().any(|line| line.contains("second")), "{raised:?}");
    assert_eq!(known(&open, &path), before, "kept as it was last seen");
    let request = v1::ListRootsRequest::default();
    let roots = open.at.catalog().list_roots(request).await.unwrap().into_inner().roots;
    let away = roots.iter().find(|root| root.path.ends_with("second")).unwrap();
    assert!(!away.available && !away.problem.is_empty() && away.models == 1, "{away:?}");

    std::fs::rename(base.join("away"), &second).unwrap();
    assert_eq!(changes(&open.look().await.unwrap()), [3, 0, 0, 0, 3, 0]);
    assert_eq!(condition(&open.watch.mirror, "ROOT_UNAVAILABLE"), None);
    assert_eq!(known(&open, &path), before);
}

#[tokio::test]
async fn the_kernel_tells_of_changes_and_nobody_has_to_ask() {
    let library = Library::followed().unwrap();
    let mut open = library.open().await.unwrap();
    let path = library.write("new/deep/a.safetensors", &making::four(0.5)).unwrap();
    open.watch.until("a new file", |mirror| at(mirror, &path).is_some()).await.unwrap();
    let name = known(&open, &path).name;
    open.note(&name, notes("mine")).await.unwrap();
    let to = library.path("moved.safetensors");
    std::fs::rename(&path, &to).unwrap();
    open.watch
        .until("a move", |mirror| at(mirror, &to).is_some_and(|model| model.name == name))
        .await
        .unwrap();
    std::fs::remove_file(&to).unwrap();
    let is_missing = |model: &v1::Model| model.state() == State::Missing;
    open.watch.until("a loss", |mirror| at(mirror, &to).is_some_and(is_missing)).await.unwrap();
    std::fs::write(&to, making::lora()).unwrap();
    let is_back = |model: &v1::Model| model.state() == State::Available && model.title == "A style";
    open.watch.until("its return", |mirror| at(mirror, &to).is_some_and(is_back)).await.unwrap();
    assert_eq!(known(&open, &to).name, name);
}

#[tokio::test]
async fn a_model_that_is_deleted_is_found_again_and_its_files_go_only_if_asked() {
    let library = Library::new().unwrap();
    let path = library.write("a.safetensors", &making::four(0.5)).unwrap();
    let mut open = library.open().await.unwrap();
    let first = known(&open, &path).name;
    let delete = |name: &str, delete_files| v1::DeleteModelRequest {
        request_id: request_id(),
        name: name.to_owned(),
        delete_files,
        ..Default::default()
    };
    let answer = open.at.catalog().delete_model(delete(&first, false)).await.unwrap().into_inner();
    assert_eq!(answer.files_deleted, 0);
    open.look().await.unwrap();
    let second = known(&open, &path).name;
    assert_ne!(first, second);
    let answer = open.at.catalog().delete_model(delete(&second, true)).await.unwrap().into_inner();
    assert_eq!(answer.files_deleted, 1);
    assert!(!path.exists());
    assert_eq!(changes(&open.look().await.unwrap()), [0; 6]);
}
