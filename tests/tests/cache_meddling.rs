//! Somebody with a hand on the runtime directory: files of segments are removed, replaced, cut or in the way of a name, and
//! the records of leases are removed. What is damaged is withdrawn, its holders are told, and everything is right again by
//! itself.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hoist_tests::caching::{acquire, cache, counts_are_true, evict, leases, status, value};
use hoist_tests::library::{Library, Open};
use hoist_tests::making;

/// Caches a model of one value, and reads that; where its segment is.
async fn cached(open: &mut Open, name: &str, expected: f32) -> PathBuf {
    let report = cache(&open.at, name, &[]).await.unwrap();
    let path = Path::new(&report.components.first().unwrap().path).to_owned();
    assert!((value(&path).unwrap() - expected).abs() < f32::EPSILON, "{name}");
    open.watch.catch_up(&open.at).await.unwrap();
    path
}

/// What has a segment's name and is none makes way.
#[tokio::test]
async fn what_is_in_the_way_of_a_segment_s_name_makes_way() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let mut open = library.open().await.unwrap();
    let path = cached(&mut open, "one", 1.0).await;
    let meddlers: [&dyn Fn(); 3] = [
        &|| std::fs::create_dir_all(path.join("deep/er")).unwrap(),
        &|| std::os::unix::fs::symlink("/etc/hostname", &path).unwrap(),
        &|| std::fs::write(&path, b"not weights").unwrap(),
    ];
    for meddle in meddlers {
        evict(&open.at, "one").await.unwrap();
        meddle();
        assert_eq!(cached(&mut open, "one", 1.0).await, path);
    }
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn a_segment_whose_file_was_removed_replaced_or_cut_is_withdrawn_and_can_be_cached_again() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let beside = library.write("beside", b"not weights").unwrap();
    let mut open = library.open().await.unwrap();
    let path = cached(&mut open, "one", 1.0).await;
    let meddlers: [(&str, &dyn Fn()); 4] = [
        ("removed", &|| std::fs::remove_file(&path).unwrap()),
        ("replaced", &|| std::fs::rename(&beside, &path).unwrap()),
        ("replaced by a folder", &|| {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir_all(path.join("deep/er")).unwrap();
        }),
        ("cut", &|| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_len(4_096).unwrap();
        }),
    ];
    for (what, meddle) in meddlers {
        meddle();
        open.watch.until(what, |mirror| mirror.count("segments/") == 0).await.unwrap();
        assert_eq!(status(&open.at).await.unwrap().used_bytes, 0, "{what}");
        assert_eq!(cached(&mut open, "one", 1.0).await, path, "{what}");
        counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    }
}

#[tokio::test]
async fn a_holder_is_told_that_its_file_was_removed_and_the_next_gets_another() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    library.write("two.safetensors", &making::uniform(2.0, 1)).unwrap();
    let mut open = library.open().await.unwrap();
    let path = cached(&mut open, "one", 1.0).await;
    let mut held = acquire(&open.at, "one", &[]).await.unwrap();
    let other = acquire(&open.at, "two", &[]).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let why = held.revoked().await.unwrap();
    assert!(why.contains("somebody has removed"), "{why}");
    open.watch.until("it withdrawn", |mirror| mirror.segments().any(|one| one.zombie)).await.unwrap();
    let left = leases(&open.at).await.unwrap();
    assert_eq!(left.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), [other.name()], "the other's");
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert!(read == whole, "the holder has what it had");
    let again = acquire(&open.at, "one", &[]).await.unwrap();
    assert!((value(&path).unwrap() - 1.0).abs() < f32::EPSILON);
    again.release(&open.at).await.unwrap();
    other.release(&open.at).await.unwrap();
    drop(file);
    for name in ["one", "two"] {
        evict(&open.at, name).await.unwrap();
    }
    open.until_no_segments().await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

/// The next server waits for those that were granted after that.
#[tokio::test]
async fn leases_are_granted_and_kept_when_their_records_were_removed() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let open = library.open().await.unwrap();
    let records = library.sandbox.runtime_dir().join("leases");
    let before = acquire(&open.at, "one", &[]).await.unwrap();
    std::fs::remove_dir_all(&records).unwrap();
    let after = acquire(&open.at, "one", &[]).await.unwrap();
    assert_eq!(std::fs::read_dir(&records).unwrap().count(), 1);
    before.release(&open.at).await.unwrap();
    let name = after.name().to_owned();
    drop(open.server.kill().unwrap());
    let open = library.open().await.unwrap();
    let awaited: Vec<String> = leases(&open.at).await.unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(awaited, [name]);
}
