//! Too little memory: a tmpfs that is too small, a control group that allows less, and a machine that has less from one moment
//! to the next. Refused with a plan before the first byte, never a signal, never the kernel's killer.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::path::{Path, PathBuf};

use hoist_tests::caching::{acquire, cache, counts_are_true, evict, segments, status, tensors};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::small_disk::SmallDisk;
use hoist_tests::{Server, making, process};
use hoist_wire::v1;

/// A server in this library, run by other words.
async fn open_under(library: &Library, words: &[String]) -> Open {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Open::to(Server::spawn(library.sandbox.command_under(&words)).unwrap()).await.unwrap()
}

fn fill(library: &Library) {
    for number in 0..4_u8 {
        let values = vec![f32::from(number); 1 << 20];
        library
            .write(&format!("m{number}.safetensors"), &making::safetensors(&[("weight", values)], &[]))
            .unwrap();
    }
    library.write("large.safetensors", &making::large(40)).unwrap();
}

/// R19: a tmpfs of 14 MiB takes three of 4 MiB, and says no to what it cannot take.
#[tokio::test]
async fn a_tmpfs_that_is_too_small_is_refused_with_a_plan_and_nobody_is_killed() {
    let mut library = Library::new().unwrap();
    fill(&library);
    let segments_dir = library.sandbox.runtime_dir().join("segments");
    std::fs::create_dir(&segments_dir).unwrap();
    let disk = SmallDisk::over(14, &segments_dir).unwrap();
    library.set("CACHE_RESERVE", "1MiB");
    let open = open_under(&library, &disk.entering()).await;
    let said = status(&open.at).await.unwrap();
    // A sixteenth is kept for the records of leases.
    let budget = (14 << 20) / 16 * 15;
    assert_eq!((said.budget_limit.as_str(), said.budget_bytes), ("tmpfs", budget), "{said:?}");
    let refused = cache(&open.at, "large", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "RAM_EXHAUSTED");
    assert!(refused.message().contains("(tmpfs)"), "{}", refused.message());
    for number in 0..3 {
        cache(&open.at, &format!("m{number}"), &[]).await.unwrap();
    }
    let held = acquire(&open.at, "m0", &[]).await.unwrap();
    let report = cache(&open.at, "m3", &[]).await.unwrap();
    assert_eq!(report.evicted.len(), 1, "{report:?}");
    let said = status(&open.at).await.unwrap();
    assert_eq!((said.segments, said.held_bytes), (3, said.used_bytes));

    // Somebody else takes what was free: what was promised does not fit, which is an answer.
    held.release(&open.at).await.unwrap();
    evict(&open.at, "").await.unwrap();
    disk.fill().unwrap();
    let refused = cache(&open.at, "m1", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "RAM_EXHAUSTED", "{refused:?}");
    disk.make_room().unwrap();
    cache(&open.at, "m1", &[]).await.unwrap();
    let found = segments(&open.at).await.unwrap();
    let inside = disk.inside().join(Path::new(&found.first().unwrap().path).file_name().unwrap());
    assert_eq!(tensors(&inside).unwrap().len(), 1);
    assert!(process::open_files(open.server.process_id()).unwrap() > 0, "it lives");
}

/// A control group for one test; none where this machine does not let us make one.
struct Group(PathBuf);

impl Group {
    fn with_limit(bytes: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let v1 = own.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path.to_owned()));
        let (top, limit) = match v1 {
            Some(path) => (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes"),
            None => {
                let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
                (format!("/sys/fs/cgroup{path}"), "memory.max")
            }
        };
        let group = Path::new(&top).join(format!("hoist-test-{}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        let group = Self(group);
        std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }

    /// The words before a command that make it run in the group.
    fn entering(&self) -> Vec<String> {
        let script = format!("echo $$ > '{}' && exec \"$@\"", self.0.join("cgroup.procs").display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Pages of a tmpfs that outlive it are its parent's.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_control_group_s_limit_is_the_budget_and_the_kernel_s_killer_stays_away() {
    let Some(group) = Group::with_limit(96 << 20) else {
        println!("skipped: no control group can be made here");
        return;
    };
    let mut library = Library::new().unwrap();
    for number in 0..6_u8 {
        let values = vec![f32::from(number); 5 << 20];
        library
            .write(&format!("m{number}.safetensors"), &making::safetensors(&[("weight", values)], &[]))
            .unwrap();
    }
    library.write("large.safetensors", &making::large(120)).unwrap();
    library.set("CACHE_RESERVE", "16MiB");
    let open = open_under(&library, &group.entering()).await;
    let said = status(&open.at).await.unwrap();
    assert!(said.budget_limit.contains("hoist-test-") && said.budget_bytes < 96 << 20, "{said:?}");
    let refused = cache(&open.at, "large", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "RAM_EXHAUSTED");
    // Six of 20 MiB one after the other: each makes room, none too much. The group counts what else its server takes, which
    // is not the same from one moment to the next: now and then that is a refusal.
    let mut cached = 0;
    for round in 0..12 {
        let name = format!("m{}", round % 6);
        match cache(&open.at, &name, &[]).await {
            Ok(report) => {
                assert!(report.evicted.len() <= 1, "{report:?}");
                cached += 1;
            }
            Err(refused) => assert_eq!(reason(&refused), "RAM_EXHAUSTED", "{refused:?}"),
        }
    }
    println!("{cached} of 12 were cached");
    assert!(cached >= 6, "only {cached} of 12 were cached");
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    let said = status(&open.at).await.unwrap();
    assert!(said.segments >= 1 && said.statistics.unwrap().evictions > 0, "{said:?}");
    evict(&open.at, "").await.unwrap();
    drop(open);
}

/// The budget is changed while the server runs: what is used and not needed goes, what is needed stays and is told.
#[tokio::test]
async fn a_smaller_budget_is_in_force_at_once_and_spares_what_is_leased() {
    let library = Library::new().unwrap();
    fill(&library);
    let mut open = library.open().await.unwrap();
    for number in 0..4 {
        cache(&open.at, &format!("m{number}"), &[]).await.unwrap();
    }
    let held = acquire(&open.at, "m2", &[]).await.unwrap();
    let policy = |budget: Option<u64>| v1::UpdateCachePolicyRequest {
        policy: Some(v1::CachePolicy { budget_bytes: budget, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["budget_bytes".to_owned()] }),
        ..Default::default()
    };
    open.at.cache().update_cache_policy(policy(Some(2 << 20))).await.unwrap();
    let is_shrunk = |mirror: &hoist_tests::Mirror| {
        mirror.count("segments/") == 1 && mirror.resources.contains_key("conditions/MEMORY_TIGHT")
    };
    open.watch.until("a smaller cache that says that it is too large", is_shrunk).await.unwrap();
    let left = segments(&open.at).await.unwrap();
    assert_eq!(left.first().unwrap().leases, 1);
    let said = status(&open.at).await.unwrap();
    assert_eq!((said.budget_limit.as_str(), said.budget_bytes), ("policy", 2 << 20));
    held.release(&open.at).await.unwrap();
    let is_well = |mirror: &hoist_tests::Mirror| {
        mirror.count("segments/") == 0 && !mirror.resources.contains_key("conditions/MEMORY_TIGHT")
    };
    open.watch.until("the rest gone", is_well).await.unwrap();
    open.at.cache().update_cache_policy(policy(None)).await.unwrap();
    cache(&open.at, "m0", &[]).await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

/// What nobody has used for its time goes by itself; a pinned one stays.
#[tokio::test]
async fn what_is_idle_too_long_goes_and_what_is_pinned_stays() {
    let library = Library::new().unwrap();
    fill(&library);
    let mut open = library.open().await.unwrap();
    let pin = v1::PinModelRequest { name: "m1".to_owned(), ..Default::default() };
    open.at.cache().pin_model(pin).await.unwrap();
    for number in 0..2 {
        cache(&open.at, &format!("m{number}"), &[]).await.unwrap();
    }
    open.watch.catch_up(&open.at).await.unwrap();
    let request = v1::UpdateCachePolicyRequest {
        policy: Some(v1::CachePolicy {
            idle_ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    open.at.cache().update_cache_policy(request).await.unwrap();
    open.watch.until("the idle one gone", |mirror| mirror.count("segments/") == 1).await.unwrap();
    assert!(segments(&open.at).await.unwrap().first().unwrap().pinned);
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}
