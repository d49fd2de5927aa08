//! What can go wrong while weights are read into RAM: files that change, end early or are swapped; requests that race. Nothing
//! torn is ever served, nothing in use is ever evicted, and every byte is accounted for at the end.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hoist_tests::caching::{acquire, cache, counts_are_true, evict, status, tensors, value};
use hoist_tests::library::{Library, PATIENCE, reason};
use hoist_tests::{Random, connect, making, process, soak};
use hoist_wire::v1;

/// Whether a tensor is what the file was at one moment: a writer goes over it block by block, each round with one more, so
/// that is blocks of a new round, then blocks of the one before.
fn is_of_one_moment(path: &Path) -> bool {
    let read = tensors(path).unwrap();
    let (_, (_, _, bytes)) = read.iter().next().unwrap();
    let mut rounds = Vec::new();
    for block in bytes.chunks(1 << 20) {
        let first: [u8; 4] = block.first_chunk().copied().unwrap();
        if !block.as_chunks::<4>().0.iter().all(|chunk| *chunk == first) {
            return false;
        }
        rounds.push(f32::from_le_bytes(first));
    }
    let newest = rounds.first().copied().unwrap();
    let older = rounds.iter().position(|round| *round < newest).unwrap_or(rounds.len());
    rounds.iter().skip(older).all(|round| (newest - round - 1.0).abs() < f32::EPSILON)
}

/// M1, M2: a file that is overwritten in place again and again is cached whole or not at all.
#[tokio::test]
async fn a_file_that_is_written_to_while_it_is_read_is_cached_whole_or_not_at_all() {
    let library = Library::new().unwrap();
    let path = library.write("one.safetensors", &making::uniform(1.0, 16)).unwrap();
    let open = library.open().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (told, until) = (path.clone(), Arc::clone(&stop));
    #[expect(clippy::disallowed_methods, reason = "a writer of the test's own, joined below")]
    let writer = std::thread::spawn(move || {
        let data = std::fs::metadata(&told).unwrap().len() - (16 << 20);
        let mut file = std::fs::OpenOptions::new().write(true).open(&told).unwrap();
        let mut value = 2.0_f32;
        // Whole rounds: what is left at the end is one version.
        while !until.load(Ordering::Relaxed) {
            let block: Vec<u8> = value.to_le_bytes().repeat(1 << 18);
            for at in 0..16 {
                file.seek(SeekFrom::Start(data + (at << 20))).unwrap();
                file.write_all(&block).unwrap();
            }
            value += 1.0;
        }
        value
    });
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..soak::rounds(30) {
        match cache(&open.at, "one", &[]).await {
            Ok(report) => {
                assert!(
                    report.components.iter().all(|one| is_of_one_moment(Path::new(&one.path))),
                    "{report:?}"
                );
                whole += 1;
            }
            Err(status) => {
                assert_eq!(reason(&status), "SOURCE_CHANGED", "{status:?}");
                refused += 1;
            }
        }
        evict(&open.at, "").await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    println!("{whole} whole, {refused} refused");
    assert!(refused > 0, "{whole} were whole: nothing was tested");
    let report = cache(&open.at, "one", &[]).await.unwrap();
    assert!(value(Path::new(&report.components.first().unwrap().path)).unwrap() >= 2.0);
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

/// M1: replaced by a rename, the one or the other is cached, whole.
#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_is_cached_as_one_of_both() {
    let library = Library::new().unwrap();
    let path = library.write("one.safetensors", &making::uniform(1.0, 8)).unwrap();
    let mut open = library.open().await.unwrap();
    let mut random = Random::new(3);
    for round in 0..soak::rounds(20) {
        let next = library
            .write("next.tmp", &making::uniform(f32::from(u16::try_from(round).unwrap()) + 2.0, 8))
            .unwrap();
        let caching = cache(&open.at, "one", &[]);
        let replacing = async {
            // Somewhere in it: by what the server counts, not by a time.
            while status(&open.at).await.unwrap().filling_bytes == 0 && random.below(20) > 0 {}
            std::fs::rename(&next, &path).unwrap();
        };
        let (cached, ()) = tokio::join!(caching, replacing);
        match cached {
            Ok(report) => {
                let found = value(Path::new(&report.components.first().unwrap().path)).unwrap();
                let round = f32::from(u16::try_from(round).unwrap());
                assert!((round + 1.0..=round + 2.0).contains(&found), "{found} in round {round}");
            }
            Err(status) => assert_eq!(reason(&status), "SOURCE_CHANGED", "{status:?}"),
        }
        evict(&open.at, "").await.unwrap();
        open.look().await.unwrap();
    }
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

/// M3: cut off after it was looked at.
#[tokio::test]
async fn a_file_that_was_cut_off_since_it_was_looked_at_is_refused() {
    let library = Library::new().unwrap();
    let path = library.write("one.safetensors", &making::uniform(1.0, 8)).unwrap();
    let open = library.open().await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(4 << 20).unwrap();
    let refused = cache(&open.at, "one", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "CORRUPTED_MODEL", "{refused:?}");
    assert_eq!(status(&open.at).await.unwrap().used_bytes, 0);
}

/// What was known of a file that somebody touched is not believed: its bytes are.
#[tokio::test]
async fn a_file_that_was_given_its_old_time_back_is_read_as_what_it_is() {
    let library = Library::new().unwrap();
    let path = library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let open = library.open().await.unwrap();
    cache(&open.at, "one", &[]).await.unwrap();
    evict(&open.at, "one").await.unwrap();
    // Written to, and given its old time back: no stat but the ctime tells.
    let script = [
        "import os,sys",
        "s=os.stat(sys.argv[1])",
        "f=open(sys.argv[1],'r+b')",
        "f.seek(-5,2); b=f.read(1); f.seek(-5,2); f.write(bytes([b[0]^1])); f.close()",
        "os.utime(sys.argv[1],ns=(s.st_atime_ns,s.st_mtime_ns))",
    ];
    let script = script.join("\n");
    assert!(Command::new("python3").args(["-c", &script]).arg(&path).status().unwrap().success());
    let report = cache(&open.at, "one", &[]).await.unwrap();
    let changed = report.components.first().unwrap();
    assert!(tensors(Path::new(&changed.path)).unwrap().iter().any(|(_, (_, _, bytes))| {
        bytes.as_chunks::<4>().0.iter().any(|chunk| *chunk != 1.0_f32.to_le_bytes())
    }));
}

/// Many threads, few models, little room: what is leased is right and stays, and the books are true at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_caches_opens_and_evicts_finds_every_leased_byte_right() {
    const MODELS: u8 = 8;
    let mut library = Library::new().unwrap();
    library.sandbox.flags.extend(["--ram-budget".to_owned(), "9MiB".to_owned()]);
    for number in 0..MODELS {
        // Two of each content: equal ones are one.
        let content = f32::from(number / 2);
        library.write(&format!("m{number}.safetensors"), &making::uniform(content, 2)).unwrap();
    }
    let open = library.open().await.unwrap();
    let before = process::open_files(open.server.process_id()).unwrap();
    let (held, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut crowd = tokio::task::JoinSet::new();
    for member in 0..32_u64 {
        let (socket, held, refused) = (library.sandbox.socket(), Arc::clone(&held), Arc::clone(&refused));
        crowd.spawn(async move {
            let at = connect(&socket).await.unwrap();
            let mut random = Random::new(member);
            for _ in 0..soak::rounds(24) {
                let number = u8::try_from(random.below(u64::from(MODELS))).unwrap();
                let name = format!("m{number}");
                let outcome = match random.below(4) {
                    0 => cache(&at, &name, &[]).await.map(drop),
                    1 => evict(&at, if random.percent(50) { &name } else { "" }).await.map(drop),
                    _ => match acquire(&at, &name, &[]).await {
                        Ok(lease) => {
                            let component =
                                lease.granted.components.first().unwrap().component.clone().unwrap();
                            assert!(
                                (value(Path::new(&component.path)).unwrap() - f32::from(number / 2)).abs()
                                    < f32::EPSILON
                            );
                            held.fetch_add(1, Ordering::Relaxed);
                            Ok(())
                        }
                        Err(status) => Err(status),
                    },
                };
                if let Err(status) = outcome {
                    assert_eq!(reason(&status), "RAM_EXHAUSTED", "{status:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    crowd.join_all().await;
    let settled = async {
        while status(&open.at).await.unwrap().leases > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap();
    evict(&open.at, "").await.unwrap();
    let empty = async {
        while status(&open.at).await.unwrap().used_bytes > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    println!("{} held, {} refused", held.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    assert!(held.load(Ordering::Relaxed) > 50);
    let after = process::open_files(open.server.process_id()).unwrap();
    assert!(after <= before + 4, "{before} files were open, {after} are");
}

/// Weights belong in memory: elsewhere nothing is cached, and everything else works.
#[tokio::test]
async fn on_a_runtime_directory_that_is_no_tmpfs_there_is_no_cache_and_everything_else() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(hoist_tests::binary());
    command
        .arg("serve")
        .arg("--no-workers")
        .arg("--runtime-dir")
        .arg(disk.path())
        .arg("--socket")
        .arg(library.sandbox.socket());
    command.arg("--state-dir").arg(library.sandbox.state_dir()).arg("--models").arg(library.root());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = hoist_tests::Server::spawn(command).unwrap();
    let open = hoist_tests::library::Open::to(server).await.unwrap();
    let condition = hoist_tests::library::condition(&open.watch.mirror, "CACHE_UNAVAILABLE").unwrap();
    assert!(condition.message.contains("not on tmpfs"), "{condition:?}");
    assert_eq!(reason(&cache(&open.at, "one", &[]).await.unwrap_err()), "CACHE_UNAVAILABLE");
    assert_eq!(reason(&acquire(&open.at, "one", &[]).await.unwrap_err()), "CACHE_UNAVAILABLE");
    assert_eq!(open.list().await.unwrap().len(), 1);
    assert_eq!(status(&open.at).await.unwrap().budget_bytes, 0);
}

/// The catalog looks only now and then; whoever acquires gets what the file is now.
#[tokio::test]
async fn who_acquires_after_a_rewrite_gets_what_was_written() {
    let library = Library::new().unwrap();
    let path = library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let mut open = library.open().await.unwrap();
    cache(&open.at, "one", &[]).await.unwrap();
    let next = library.write("next.tmp", &making::uniform(2.0, 1)).unwrap();
    std::fs::rename(next, &path).unwrap();
    for _ in 0..2 {
        let held = acquire(&open.at, "one", &[]).await.unwrap();
        let component = held.granted.components.first().unwrap().component.clone().unwrap();
        assert!((value(Path::new(&component.path)).unwrap() - 2.0).abs() < f32::EPSILON);
    }
    // What is not there any more is no reason to do without what is in RAM, as far as it was looked at.
    open.look().await.unwrap();
    drop(acquire(&open.at, "one", &[]).await.unwrap());
    std::fs::remove_file(&path).unwrap();
    let held = acquire(&open.at, "one", &[]).await.unwrap();
    let component = held.granted.components.first().unwrap().component.clone().unwrap();
    assert!((value(Path::new(&component.path)).unwrap() - 2.0).abs() < f32::EPSILON);
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn equal_requests_are_one() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 64)).unwrap();
    let open = library.open().await.unwrap();
    let both = tokio::join!(cache(&open.at, "one", &[]), cache(&open.at, "one", &[]));
    let (one, other) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(one.components.first().unwrap().path, other.components.first().unwrap().path);
    let said = status(&open.at).await.unwrap().statistics.unwrap();
    assert_eq!((said.fills, said.misses), (1, 1), "{said:?}");
}

/// A repeated request is one; the reason of a revocation is that of who revoked it.
#[tokio::test]
async fn repeated_requests_about_the_cache_are_one() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::uniform(1.0, 1)).unwrap();
    let open = library.open().await.unwrap();
    cache(&open.at, "one", &[]).await.unwrap();
    let request = v1::EvictModelRequest {
        request_id: hoist_tests::request_id(),
        name: "one".to_owned(),
        ..Default::default()
    };
    let first = open.at.cache().evict_model(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.segments.len(), 1);
    cache(&open.at, "one", &[]).await.unwrap();
    let again = open.at.cache().evict_model(request).await.unwrap().into_inner();
    assert_eq!((again.segments.len(), again.freed_bytes), (0, 0));
    assert_eq!(status(&open.at).await.unwrap().segments, 1);
    let mut held = acquire(&open.at, "one", &[]).await.unwrap();
    let name = held.name().to_owned();
    let revoke = |reason: &str| {
        let request =
            v1::RevokeLeaseRequest { name: name.clone(), reason: reason.to_owned(), ..Default::default() };
        let mut leases = open.at.leases();
        async move { leases.revoke_lease(request).await }
    };
    let (one, other) = tokio::join!(revoke("the one"), revoke("the other"));
    let expected = if one.is_ok() { "the one" } else { "the other" };
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(held.revoked().await.unwrap(), expected);
}
