//! What may be asked about loading, and what comes of it: where room is made and where it is refused, plans that come true,
//! repeated and equal requests, refusals, and a change of mind.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::path::Path;

use hoist_tests::caching::{acquire, cache, evict, leases, value};
use hoist_tests::library::{Library, Open, reason, waiting};
use hoist_tests::loading::{
    begin, cancel, device, devices_are_true, end, load, load_as, load_with, loaded, on, part, pipeline, plan,
    replicas, residency, single, staged, unload, unload_as, until_open,
};
use hoist_tests::{Mirror, loading, request_id};
use hoist_wire::longrunning::operation::Result as Outcome;
use hoist_wire::status::Failure;
use hoist_wire::v1;
use tonic::Status;

const FAKE: &str = env!("CARGO_BIN_EXE_hoist-fake-worker");

/// Models of so many mebibytes, `a`, `b` and so on, and a server with these devices.
async fn singles(devices: &str, sizes: &[usize]) -> (Library, Open) {
    let library = loading::library(devices).unwrap();
    for (number, size) in sizes.iter().enumerate() {
        let letter = char::from(b'a' + u8::try_from(number).unwrap());
        single(&library, &letter.to_string(), f32::from(u8::try_from(number).unwrap()), *size).unwrap();
    }
    let mut open = library.open().await.unwrap();
    let ids: Vec<&str> = devices.split(',').map(|one| one.split('=').next().unwrap()).collect();
    until_open(&mut open, &ids).await.unwrap();
    (library, open)
}

fn forced() -> v1::LoadOptions {
    v1::LoadOptions { force: true, ..Default::default() }
}

fn with(priority: v1::Priority) -> v1::LoadOptions {
    v1::LoadOptions { priority: priority.into(), ..Default::default() }
}

fn number(failure: &Failure, key: &str) -> u64 {
    failure.metadata.get(key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The names of models by what a report calls them.
async fn names(open: &Open, models: &[String]) -> Vec<String> {
    let listed = open.list().await.unwrap();
    let file = |id: &String| {
        let path = listed.iter().find(|model| model.name == *id).map(|model| model.path.clone()).unwrap();
        Path::new(&path).file_stem().unwrap().to_string_lossy().into_owned()
    };
    models.iter().map(file).collect()
}

/// What is on devices, by the names of models.
async fn there(open: &Open) -> Vec<String> {
    let models: Vec<String> =
        replicas(&open.at).await.unwrap().iter().flat_map(|one| one.models.clone()).collect();
    let mut names = names(open, &models).await;
    names.sort();
    names
}

async fn revision(open: &Open) -> u64 {
    let status = open.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    status.status.unwrap().position.unwrap().revision
}

async fn intended(open: &Open) -> u64 {
    let status = open.at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    status.status.unwrap().machine.unwrap().loaded_models
}

#[tokio::test]
async fn without_room_a_load_is_refused_with_numbers_and_with_force_the_least_go() {
    let (library, mut open) = singles("cpu:0=8MiB", &[3, 3, 3, 7]).await;
    load_with(&open.at, "a", &[], with(v1::Priority::High)).await.unwrap();
    load(&open.at, "b", &[]).await.unwrap();
    let free = device(&open.at, "cpu:0").await.unwrap().free_bytes;
    let refused = Failure::from(&load(&open.at, "c", &[]).await.unwrap_err());
    assert_eq!(refused.reason, "VRAM_EXHAUSTED", "{refused:?}");
    assert_eq!(number(&refused, "free_bytes"), free, "{refused:?}");
    assert!(number(&refused, "needed_bytes") >= 3 << 20, "{refused:?}");
    assert_eq!(number(&refused, "capacity_bytes"), 8 << 20);
    assert_eq!(refused.metadata.get("device").map(String::as_str), Some("cpu:0"));
    assert!(refused.metadata.get("advice").is_some_and(|advice| advice.contains("unload b")), "{refused:?}");
    assert_eq!(there(&open).await, ["a", "b"], "nothing has changed");

    // Not of what matters more.
    let low = v1::LoadOptions { force: true, ..with(v1::Priority::Low) };
    let refused = load_with(&open.at, "c", &[], low).await.unwrap_err();
    assert_eq!(reason(&refused), "VRAM_EXHAUSTED");
    let done = load_with(&open.at, "c", &[], forced()).await.unwrap();
    assert_eq!(names(&open, &done.unloaded).await, ["b"]);
    assert_eq!((there(&open).await, intended(&open).await), (vec!["a".to_owned(), "c".to_owned()], 2));
    devices_are_true(&library, &mut open).await.unwrap();
    let refused = load_with(&open.at, "d", &[], forced()).await.unwrap_err();
    assert_eq!(reason(&refused), "VRAM_EXHAUSTED", "`a` matters more");
    assert_eq!(there(&open).await, ["a", "c"]);
    let critical = v1::LoadOptions { force: true, ..with(v1::Priority::Critical) };
    let done = load_with(&open.at, "d", &[], critical).await.unwrap();
    assert_eq!(names(&open, &done.unloaded).await, ["c", "a"], "the least first");
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn what_is_leased_makes_no_room_and_goes_only_by_force_while_its_lease_stays() {
    let (library, mut open) = singles("cpu:0=8MiB", &[5, 5]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let held = acquire(&open.at, "a", &[]).await.unwrap();
    let refused = load_with(&open.at, "b", &[], forced()).await.unwrap_err();
    assert_eq!(reason(&refused), "VRAM_EXHAUSTED");
    let refused = unload(&open.at, "a", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "IN_USE", "{refused:?}");
    assert_eq!(there(&open).await, ["a"]);
    let force = v1::UnloadModelRequest { name: "a".to_owned(), force: true, ..Default::default() };
    let gone = unload_as(&open.at, force).await.unwrap();
    assert!(gone.retained_bytes == 0 && gone.returned_bytes >= 5 << 20, "{gone:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(leases(&open.at).await.unwrap().len(), 1, "it is a lease on what is in RAM");
    let component = held.granted.components[0].component.clone().unwrap().component;
    let found = value(&held.path(&component)).unwrap();
    assert!(found.abs() < f32::EPSILON, "{found}");
    load(&open.at, "b", &[]).await.unwrap();
    held.release(&open.at).await.unwrap();
}

/// The plan, then the load, which has to do the same.
async fn planned(open: &Open, name: &str, options: v1::LoadOptions) -> Result<v1::LoadModelResponse, Status> {
    let before = revision(open).await;
    let plan = plan(&open.at, vec![part(name, &[])], options.clone()).await.unwrap();
    assert_eq!(revision(open).await, before, "a plan changes nothing");
    let done = load_with(&open.at, name, &[], options).await;
    match &done {
        Ok(done) => {
            assert_eq!(
                (&plan.device_id, &plan.refusal_reason),
                (&done.device_id, &String::new()),
                "{plan:?}"
            );
            assert_eq!((&plan.unload, &plan.reasons), (&done.unloaded, &done.reasons), "{plan:?}");
            let new = done.components.iter().filter(|one| !one.resident);
            let taken: u64 = new.map(|one| one.own_bytes + one.mapped_bytes).sum();
            assert_eq!((plan.device_bytes, plan.read_bytes), (taken, done.read_bytes), "{plan:?}");
        }
        Err(refused) => assert_eq!((plan.device_id.as_str(), plan.refusal_reason), ("", reason(refused))),
    }
    done
}

#[tokio::test]
async fn a_plan_says_what_the_load_then_does_and_changes_nothing() {
    let devices = ["cpu:0", "cpu:1", "cpu:2"];
    let (library, mut open) = singles("cpu:0=8MiB,cpu:1=16MiB,cpu:2=12MiB", &[3, 3, 3, 9, 5, 15]).await;
    let placed =
        |placement: v1::Placement| v1::LoadOptions { placement: placement.into(), ..Default::default() };
    let (any, spread, pack) = (v1::Placement::Any, v1::Placement::Spread, v1::Placement::Pack);
    // Free mebibytes before each: 8, 16, 12.
    let went = async |name: &str, options| planned(&open, name, options).await.unwrap().device_id;
    assert_eq!(went("a", placed(any)).await, "cpu:1", "where most is free");
    assert_eq!(went("a", placed(any)).await, "cpu:1", "where it is already");
    // 8, 13, 12: the fullest by its part is cpu:1.
    assert_eq!(went("b", placed(spread)).await, "cpu:2", "the largest of those that nothing is on");
    // 8, 13, 9.
    assert_eq!(went("c", placed(pack)).await, "cpu:0", "where the least is left");
    // 5, 13, 9.
    assert_eq!(went("d", placed(pack)).await, "cpu:1", "the only one with so much");
    devices_are_true(&library, &mut open).await.unwrap();
    let refused = planned(&open, "e", on("GPU_0")).await.unwrap_err();
    assert_eq!(reason(&refused), "RESOURCE_NOT_FOUND");
    let refused = planned(&open, "f", placed(any)).await.unwrap_err();
    assert_eq!(reason(&refused), "VRAM_EXHAUSTED");
    let all = plan(&open.at, vec![part("e", &[])], placed(any)).await.unwrap();
    let mut told: Vec<&str> = all.devices.iter().map(|one| one.device_id.as_str()).collect();
    assert_eq!(told.first(), Some(&all.device_id.as_str()), "the best first: {all:?}");
    told.sort_unstable();
    assert_eq!(told, devices);
    let forced = planned(&open, "f", forced()).await.unwrap();
    assert_eq!(
        (forced.device_id.as_str(), names(&open, &forced.unloaded).await.concat()),
        ("cpu:1", "ad".into())
    );
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn an_estimate_is_what_is_then_taken_each_content_once() {
    let library = loading::library("cpu:0=64MiB").unwrap();
    for (name, own) in [("one", 1.0), ("two", 2.0)] {
        pipeline(&library, name, own, 1 << 16).unwrap();
    }
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    let estimate = async |dtype: &str| {
        let parts = vec![part("one", &[]), part("two", &[])];
        let request = v1::EstimateLoadRequest { parts, dtype: dtype.to_owned(), ..Default::default() };
        residency(&open.at).estimate_load(request).await.unwrap().into_inner()
    };
    let halved = estimate("BF16").await;
    assert_eq!(halved.components.len(), 4, "{halved:?}");
    for name in ["one", "two"] {
        cache(&open.at, name, &[]).await.unwrap();
    }
    let in_ram = estimate("").await;
    assert_eq!((in_ram.missing_ram_bytes, in_ram.read_bytes, in_ram.peak_ram_bytes), (0, 0, 0), "{in_ram:?}");
    let halved = estimate("BF16").await;
    let options = v1::LoadOptions { dtype: "BF16".to_owned(), ..Default::default() };
    for name in ["one", "two"] {
        load_with(&open.at, name, &[], options.clone()).await.unwrap();
    }
    let used = async || device(&open.at, "cpu:0").await.unwrap().used_bytes;
    assert_eq!((used().await, halved.peak_ram_bytes), (halved.device_bytes, halved.device_bytes));
    for name in ["one", "two"] {
        unload(&open.at, name, &[]).await.unwrap();
        load(&open.at, name, &[]).await.unwrap();
    }
    unload(&open.at, "one", &[]).await.unwrap();
    load(&open.at, "one", &[]).await.unwrap();
    assert_eq!((used().await, in_ram.ram_bytes), (in_ram.device_bytes, in_ram.device_bytes));
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_repeated_is_done_once_also_by_the_next_server() {
    let (library, open) = singles("cpu:0=8MiB", &[1, 1]).await;
    let request = v1::LoadModelRequest {
        request_id: request_id(),
        name: "a".to_owned(),
        wait_for: waiting(),
        ..Default::default()
    };
    let first = begin(&open.at, request.clone()).await.unwrap();
    let replica = replicas(&open.at).await.unwrap();
    assert_eq!(begin(&open.at, request.clone()).await.unwrap(), first);
    unload(&open.at, "a", &[]).await.unwrap();
    assert_eq!(begin(&open.at, request.clone()).await.unwrap(), first);
    assert_eq!(replicas(&open.at).await.unwrap(), [], "what was done is not done again");
    drop(open.server.kill().unwrap());
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    assert_eq!(begin(&open.at, request.clone()).await.unwrap(), first);
    let told = loaded(&open.at, &first).await.unwrap();
    assert_eq!(told.components[0].replica, replica[0].name, "with the answer that it had");
    assert_eq!(replicas(&open.at).await.unwrap(), []);
    for other in [
        v1::LoadModelRequest { name: "b".to_owned(), ..request.clone() },
        v1::LoadModelRequest { options: Some(forced()), ..request.clone() },
    ] {
        assert_eq!(reason(&load_as(&open.at, other).await.unwrap_err()), "REQUEST_ID_REUSED");
    }
}

#[tokio::test]
async fn equal_loads_at_the_same_time_are_one_and_one_that_is_cancelled_leaves_nothing() {
    let (library, stage) = staged(FAKE, "cuda:0=64MiB").unwrap();
    single(&library, "a", 1.0, 2).unwrap();
    single(&library, "b", 2.0, 2).unwrap();
    stage.next_loads("cuda:0", &["hang"]).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cuda:0"]).await.unwrap();
    let ask = |name: &str| v1::LoadModelRequest { name: name.to_owned(), ..Default::default() };
    let first = begin(&open.at, ask("a")).await.unwrap();
    let hangs = |mirror: &Mirror| mirror.replicas().any(|one| one.state() == v1::replica::State::Loading);
    open.watch.until("a load that hangs", hangs).await.unwrap();
    stage.until_taken("cuda:0").await.unwrap();
    for _ in 0..3 {
        assert_eq!(begin(&open.at, ask("a")).await.unwrap(), first);
    }
    // One that waits behind it is given up at once.
    let waits = begin(&open.at, ask("b")).await.unwrap();
    open.watch.until("two", |mirror| mirror.replicas().count() == 2).await.unwrap();
    for name in [&waits, &first] {
        let ended = cancel(&open.at, name).await.unwrap();
        let Some(Outcome::Error(error)) = ended.result else { panic!("{ended:?}") };
        assert_eq!(Failure::from(&error).reason, "OPERATION_CANCELLED");
    }
    stage.go_on().unwrap();
    open.watch.until("nothing", |mirror| mirror.count("replicas/") == 0).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!((device(&open.at, "cuda:0").await.unwrap().used_bytes, intended(&open).await), (0, 0));
    assert!(evict(&open.at, "").await.unwrap().segments.iter().all(|one| one.evicted));
    // The worker is the same, and takes the next one.
    load(&open.at, "a", &[]).await.unwrap();
    assert_eq!(open.watch.mirror.devices().next().unwrap().worker.clone().unwrap().restarts, 0);
    // In many at once, too: whoever asks has the same.
    let both = futures_util::future::join_all((0..16).map(|_| load(&open.at, "b", &[]))).await;
    let handles: std::collections::BTreeSet<String> =
        both.into_iter().map(|one| one.unwrap().components[0].replica.clone()).collect();
    assert_eq!((handles.len(), replicas(&open.at).await.unwrap().len()), (1, 2));
    let name = begin(&open.at, ask("b")).await.unwrap();
    assert!(end(&open.at, &name).await.unwrap().done);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason_and_changes_nothing() {
    let (library, mut open) = singles("cpu:0=8MiB", &[1]).await;
    let before = revision(&open).await;
    let options = v1::LoadOptions::default;
    let strategy = |strategy: v1::LoadStrategy| vec![strategy.into()];
    for (name, components, options, expected) in [
        ("nobody", vec![], options(), "RESOURCE_NOT_FOUND"),
        ("", vec![], options(), "NAME_INVALID"),
        ("a", vec!["lungs"], options(), "FIELD_INVALID"),
        ("a", vec![], v1::LoadOptions { dtype: "float17".to_owned(), ..options() }, "FIELD_INVALID"),
        ("a", vec![], on("tpu:0"), "FIELD_INVALID"),
        (
            "a",
            vec![],
            v1::LoadOptions { placement: v1::Placement::Pack.into(), ..on("cpu:0") },
            "FIELD_INVALID",
        ),
        (
            "a",
            vec![],
            v1::LoadOptions { strategies: strategy(v1::LoadStrategy::Streaming), ..options() },
            "METHOD_UNKNOWN",
        ),
        ("a", vec![], v1::LoadOptions { max_resident_components: 1, ..options() }, "METHOD_UNKNOWN"),
        ("a", vec![], v1::LoadOptions { memory_pool: 2, ..options() }, "METHOD_UNKNOWN"),
        ("a", vec![], v1::LoadOptions { optimization: 4, ..options() }, "METHOD_UNKNOWN"),
    ] {
        let refused = load_with(&open.at, name, &components, options.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{name} {components:?} {options:?}: {refused:?}");
        let refused = plan(&open.at, vec![part(name, &components)], options).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "the plan of the same: {refused:?}");
    }
    assert_eq!(revision(&open).await, before, "there was not even an operation");
    // These are found out by their operations.
    let refused = load_with(&open.at, "a", &[], on("cpu:7")).await.unwrap_err();
    assert_eq!(reason(&refused), "RESOURCE_NOT_FOUND");
    assert!(refused.message().contains("cpu:0"), "it says what there is: {}", refused.message());
    let odd = v1::LoadOptions { dtype: "I8".to_owned(), ..options() };
    let refused = load_with(&open.at, "a", &[], odd).await.unwrap_err();
    assert_eq!(reason(&refused), "INCOMPATIBLE_MODEL", "{refused:?}");
    let refused = unload(&open.at, "a", &["lungs"]).await.unwrap_err();
    assert_eq!(reason(&refused), "FIELD_INVALID");
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(replicas(&open.at).await.unwrap(), []);
}
