//! Loads and unloads that end otherwise than they were asked to: cancelled beside another, too late, overtaken, displaced in vain,
//! cut off with their server, or with their model gone from the catalog.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use hoist_tests::Mirror;
use hoist_tests::caching::{counts_are_true, evict};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::loading::{
    Stage, begin, cancel, device, devices_are_true, end, is_open, load, load_with, loaded, pipeline,
    replicas, single, staged, unload, unload_as, until_open, worker,
};
use hoist_wire::longrunning::operation::Result as Outcome;
use hoist_wire::status::Failure;
use hoist_wire::v1;
use hoist_wire::v1::replica::State;
use hoist_wire::v1::resource::Value;
use rustix::process::{Pid, Signal, kill_process};

const FAKE: &str = env!("CARGO_BIN_EXE_hoist-fake-worker");
const CARD: &str = "cuda:0";

/// Three models of two mebibytes, and a scripted card of this size.
async fn card(size: &str, lines: &[&str]) -> (Library, Stage, Open) {
    let (library, stage) = staged(FAKE, &format!("{CARD}={size}")).unwrap();
    for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        single(&library, name, value, 2).unwrap();
    }
    stage.next_loads(CARD, lines).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    (library, stage, open)
}

fn ask(name: &str) -> v1::LoadModelRequest {
    v1::LoadModelRequest { name: name.to_owned(), ..Default::default() }
}

fn states(mirror: &Mirror) -> Vec<State> {
    mirror.replicas().map(v1::Replica::state).collect()
}

async fn hanging(open: &mut Open, stage: &Stage, request: v1::LoadModelRequest) -> String {
    open.watch.catch_up(&open.at).await.unwrap();
    let operation = begin(&open.at, request).await.unwrap();
    stage.until_taken(CARD).await.unwrap();
    operation
}

fn failure(operation: hoist_wire::longrunning::Operation) -> String {
    let Some(Outcome::Error(error)) = operation.result else { panic!("{operation:?}") };
    Failure::from(&error).reason
}

#[tokio::test]
async fn what_another_load_wants_too_goes_on_when_one_is_cancelled() {
    let (library, stage) = staged(FAKE, "cuda:0=64MiB").unwrap();
    pipeline(&library, "one", 1.0, 1 << 16).unwrap();
    pipeline(&library, "two", 2.0, 1 << 16).unwrap();
    stage.next_loads(CARD, &["hang"]).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &[CARD]).await.unwrap();
    let one = v1::LoadModelRequest { components: vec!["vae".to_owned()], ..ask("one") };
    let first = hanging(&mut open, &stage, one).await;
    let second = begin(&open.at, ask("two")).await.unwrap();
    open.watch.until("its body", |mirror| mirror.replicas().count() == 2).await.unwrap();
    assert_eq!(failure(cancel(&open.at, &first).await.unwrap()), "OPERATION_CANCELLED");
    stage.go_on().unwrap();
    let report = loaded(&open.at, &second).await.unwrap();
    assert_eq!(report.components.len(), 2, "{report:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    let models: Vec<Vec<String>> =
        replicas(&open.at).await.unwrap().into_iter().map(|one| one.models).collect();
    assert!(models.iter().all(|of| *of == [report.components.first().unwrap().model.clone()]), "{models:?}");
    assert_eq!(unload(&open.at, "one", &[]).await.unwrap().replicas.len(), 0, "it has never been there");
}

#[tokio::test]
async fn an_unload_that_ends_too_late_goes_all_the_same() {
    let (library, stage, mut open) = card("64MiB", &["well", "hang"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let operation = hanging(&mut open, &stage, ask("b")).await;
    let deadline = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    let late = v1::UnloadModelRequest { name: "a".to_owned(), deadline, ..Default::default() };
    let late = unload_as(&open.at, late).await.unwrap_err();
    assert_eq!(reason(&late), "DEADLINE_EXCEEDED", "{late:?}");
    stage.go_on().unwrap();
    loaded(&open.at, &operation).await.unwrap();
    open.watch.catch_up(&open.at).await.unwrap();
    open.watch.until("only the other", |mirror| states(mirror) == [State::Active]).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(unload(&open.at, "a", &[]).await.unwrap().replicas.len(), 0);
}

/// Neither of two who want opposite things wins in silence.
#[tokio::test]
async fn what_is_being_loaded_is_unloaded_by_force_alone() {
    let (library, stage, mut open) = card("64MiB", &["hang"]).await;
    let operation = hanging(&mut open, &stage, ask("a")).await;
    let refused = unload(&open.at, "a", &[]).await.unwrap_err();
    assert!(reason(&refused) == "IN_USE" && refused.message().contains(&operation), "{refused:?}");
    let force = v1::UnloadModelRequest { name: "a".to_owned(), force: true, ..Default::default() };
    let Open { at, watch, .. } = &mut open;
    let has_ended =
        |mirror: &Mirror| mirror.operations().any(|one| one.name == operation && one.end_time.is_some());
    let unloading = unload_as(at, force);
    let going_on = async {
        watch.until("the load is over", has_ended).await.unwrap();
        stage.go_on().unwrap();
    };
    let (gone, ()) = tokio::join!(unloading, going_on);
    assert!(gone.unwrap().replicas.iter().all(|one| one.kept_because.is_empty()));
    assert_eq!(failure(end(&open.at, &operation).await.unwrap()), "OPERATION_CANCELLED");
    assert_eq!(replicas(&open.at).await.unwrap(), [], "it is gone with the answer");
    devices_are_true(&library, &mut open).await.unwrap();
}

/// C9: the grace of a stop is of use to a load, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_a_load_come_to_its_end() {
    let (library, stage, mut open) = card("64MiB", &["hang"]).await;
    let operation = hanging(&mut open, &stage, ask("a")).await;
    open.server.signal(Signal::TERM).unwrap();
    loop {
        let request = v1::GetStatusRequest { name: "machine".to_owned(), ..Default::default() };
        let status = open.at.state().get_status(request).await.unwrap().into_inner().status.unwrap();
        let Some(Value::Machine(machine)) = status.resource.unwrap().value else { panic!("no machine") };
        if machine.state() == v1::machine::State::Draining {
            break;
        }
    }
    assert!(device(&open.at, CARD).await.unwrap().worker.unwrap().state() == v1::worker::State::Active);
    let Open { at, server, .. } = open;
    let ending = loaded(&at, &operation);
    let going_on = async { stage.go_on().unwrap() };
    let (ended, ()) = tokio::join!(ending, going_on);
    assert_eq!(ended.unwrap().components.len(), 1);
    drop(at);
    let (status, log) = server.wait().unwrap();
    assert!(status.success(), "{status}: {log}");
    let mut open = library.open().await.unwrap();
    open.watch.until("it comes back", |mirror| states(mirror) == [State::Active]).await.unwrap();
}

/// I3: what is being brought back is wanted no more than its model.
#[tokio::test]
async fn what_is_unloaded_while_it_is_being_brought_back_does_not_come_back() {
    let (library, stage, mut open) = card("64MiB", &["well", "well", "hang"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    load(&open.at, "b", &[]).await.unwrap();
    let first = worker(&open.watch.mirror, CARD).process_id;
    kill_process(Pid::from_raw(i32::try_from(first).unwrap()).unwrap(), Signal::KILL).unwrap();
    let hangs =
        |mirror: &Mirror| worker(mirror, CARD).restarts == 1 && states(mirror).contains(&State::Loading);
    open.watch.until("one of them on its way back", hangs).await.unwrap();
    stage.until_taken(CARD).await.unwrap();
    let deadline = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    for name in ["a", "b"] {
        let gone = v1::UnloadModelRequest { name: name.to_owned(), deadline, ..Default::default() };
        if let Err(refused) = unload_as(&open.at, gone).await {
            assert_eq!(reason(&refused), "DEADLINE_EXCEEDED", "{refused:?}");
        }
    }
    stage.go_on().unwrap();
    for operation in hoist_tests::ledger::list(&open.at).await.unwrap().into_keys() {
        assert!(end(&open.at, &operation).await.unwrap().done);
    }
    open.watch.catch_up(&open.at).await.unwrap();
    open.watch.until("nothing", |mirror| states(mirror).is_empty()).await.unwrap();
    // Nor later, by the next worker.
    let second = worker(&open.watch.mirror, CARD).process_id;
    kill_process(Pid::from_raw(i32::try_from(second).unwrap()).unwrap(), Signal::KILL).unwrap();
    let next = |mirror: &Mirror| worker(mirror, CARD).restarts == 2 && is_open(mirror, CARD);
    open.watch.until("the next worker", next).await.unwrap();
    load(&open.at, "c", &[]).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(replicas(&open.at).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_made_room_in_vain_is_loaded_again() {
    let (library, _stage, mut open) = card("3MiB", &["well", "device it is too hot"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let before = replicas(&open.at).await.unwrap();
    let forced = v1::LoadOptions { force: true, ..Default::default() };
    let failed = load_with(&open.at, "b", &[], forced.clone()).await.unwrap_err();
    assert_eq!(reason(&failed), "DEVICE_FAILED");
    open.watch.catch_up(&open.at).await.unwrap();
    open.watch.until("it back", |mirror| states(mirror) == [State::Active]).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    let after = replicas(&open.at).await.unwrap();
    assert_eq!(after.iter().map(|one| &one.segment).collect::<Vec<_>>(), [&before.first().unwrap().segment]);
    let done = load_with(&open.at, "b", &[], forced).await.unwrap();
    assert_eq!(done.unloaded, after.first().unwrap().models);
    devices_are_true(&library, &mut open).await.unwrap();
}

/// C3.
#[tokio::test]
async fn a_load_that_is_cut_off_with_its_server_ends_and_leaves_nothing() {
    let (library, stage, mut open) = card("64MiB", &["well", "hang"]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let before = replicas(&open.at).await.unwrap();
    let first = worker(&open.watch.mirror, CARD);
    let operation = hanging(&mut open, &stage, ask("b")).await;
    drop(open.server.kill().unwrap());
    let mut open = library.open().await.unwrap();
    assert_eq!(failure(end(&open.at, &operation).await.unwrap()), "COORDINATOR_RESTARTED");
    until_open(&mut open, &[CARD]).await.unwrap();
    stage.go_on().unwrap();
    open.watch.until("only what was there", |mirror| states(mirror) == [State::Active]).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    let after = replicas(&open.at).await.unwrap();
    assert_eq!(after.first().unwrap().name, before.first().unwrap().name, "it was never unloaded");
    assert_eq!(worker(&open.watch.mirror, CARD).process_id, first.process_id);
    assert!(evict(&open.at, "b").await.unwrap().segments.iter().all(|one| one.evicted));
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    assert!(open.server.terminate().unwrap().0.success());
}

/// I4.
#[tokio::test]
async fn a_model_that_is_loaded_is_not_deleted() {
    let (library, _stage, mut open) = card("64MiB", &[]).await;
    load(&open.at, "a", &[]).await.unwrap();
    let request = v1::DeleteModelRequest { name: "a".to_owned(), ..Default::default() };
    let refused = open.at.catalog().delete_model(request.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "IN_USE", "{refused:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    unload(&open.at, "a", &[]).await.unwrap();
    open.at.catalog().delete_model(request).await.unwrap();
}

#[tokio::test]
async fn a_model_whose_file_is_gone_is_there_until_it_is_unloaded() {
    let (library, _stage, mut open) = card("64MiB", &[]).await;
    let report = load(&open.at, "a", &[]).await.unwrap();
    let model = report.components.first().unwrap().model.clone();
    std::fs::remove_file(library.path("a.safetensors")).unwrap();
    open.look().await.unwrap();
    let first = worker(&open.watch.mirror, CARD).process_id;
    kill_process(Pid::from_raw(i32::try_from(first).unwrap()).unwrap(), Signal::KILL).unwrap();
    let is_back = |mirror: &Mirror| worker(mirror, CARD).restarts == 1 && states(mirror) == [State::Active];
    open.watch.until("it back", is_back).await.unwrap();
    let gone = unload(&open.at, &model, &[]).await.unwrap();
    assert_eq!(gone.replicas.len(), 1, "{gone:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(device(&open.at, CARD).await.unwrap().used_bytes, 0);
}

#[tokio::test]
async fn a_model_whose_file_was_overwritten_comes_back_as_it_was_loaded() {
    let (library, _stage, mut open) = card("64MiB", &[]).await;
    let report = load(&open.at, "a", &[]).await.unwrap();
    single(&library, "a", 9.0, 2).unwrap();
    open.look().await.unwrap();
    let first = worker(&open.watch.mirror, CARD).process_id;
    kill_process(Pid::from_raw(i32::try_from(first).unwrap()).unwrap(), Signal::KILL).unwrap();
    let is_back = |mirror: &Mirror| worker(mirror, CARD).restarts == 1 && states(mirror) == [State::Active];
    open.watch.until("it back", is_back).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    let there = replicas(&open.at).await.unwrap();
    assert_eq!(there.first().unwrap().segment, report.components.first().unwrap().segment);
    let gone = unload(&open.at, "a", &[]).await.unwrap();
    assert_eq!(gone.replicas.len(), 1, "{gone:?}");
    assert_eq!(device(&open.at, CARD).await.unwrap().used_bytes, 0);
}
