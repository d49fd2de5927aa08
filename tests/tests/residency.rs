//! Models on the machine's memory, by the real worker: what is loaded is its segment, mapped, once; what is unloaded comes back to
//! the byte; and whatever does not get there whole leaves nothing.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;

use hoist_tests::caching::{cache, counts_are_true, evict, on_tmpfs, segments, status, tensors};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::loading::{
    device, devices_are_true, load, load_all, load_with, mapped, part, pipeline, replicas, residency, single,
    unload, unload_as, until_open, worker,
};
use hoist_tests::{loading, making};
use hoist_wire::v1;

const FLOATS: usize = 1 << 16;

/// Two pipelines that share their VAE, and a server that drives the machine's memory.
async fn two_pipelines() -> (Library, Open) {
    let library = loading::library("cpu:0=64MiB").unwrap();
    pipeline(&library, "one", 1.0, FLOATS).unwrap();
    pipeline(&library, "two", 2.0, FLOATS).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    (library, open)
}

fn by_name(report: &v1::LoadModelResponse) -> BTreeMap<&str, &v1::LoadedComponent> {
    report.components.iter().map(|one| (one.component.as_str(), one)).collect()
}

/// What a model's status says of it: its components with the devices that they can be used on, and whether it is in RAM.
async fn whereabouts(open: &Open, model: &str) -> (BTreeMap<String, Vec<String>>, bool, Vec<String>) {
    let request = v1::GetStatusRequest { name: model.to_owned(), ..Default::default() };
    let status = open.at.state().get_status(request).await.unwrap().into_inner().status.unwrap();
    let model = status.model.unwrap();
    let on = |one: &v1::ComponentStatus| {
        let replicas = one.replicas.iter().filter(|one| !one.unknown).filter_map(|one| one.replica.clone());
        let active = replicas.filter(|one| one.state() == v1::replica::State::Active);
        (one.component.clone(), active.map(|one| one.device_id).collect())
    };
    (model.components.iter().map(on).collect(), model.cached, model.loaded_on)
}

#[tokio::test]
async fn what_is_loaded_is_its_segment_mapped_and_what_models_share_is_there_once() {
    let (library, mut open) = two_pipelines().await;
    let one = load(&open.at, "one", &[]).await.unwrap();
    assert_eq!((one.device_id.as_str(), one.components.len()), ("cpu:0", 2), "{one:?}");
    assert!(one.read_bytes >= 2 * 4 * FLOATS as u64 && one.left_out.is_empty() && one.unloaded.is_empty());
    for component in &one.components {
        assert!(!component.resident && component.own_bytes == 0 && component.tensors == 1, "{component:?}");
        assert!(component.mapped_bytes >= 4 * FLOATS as u64 && component.load_time.is_some());
    }
    devices_are_true(&library, &mut open).await.unwrap();
    // The very file that clients have, with what is on the disk.
    let process = worker(&open.watch.mirror, "cpu:0").process_id;
    let files = mapped(&library, process).unwrap();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let all: Vec<usize> =
            tensors(file.as_ref()).unwrap().into_values().map(|(_, _, bytes)| bytes.len()).collect();
        assert_eq!(all, [4 * FLOATS]);
    }
    let before = replicas(&open.at).await.unwrap();

    let again = load(&open.at, "one", &[]).await.unwrap();
    assert!(again.components.iter().all(|one| one.resident) && again.read_bytes == 0, "{again:?}");
    assert_eq!(replicas(&open.at).await.unwrap(), before, "nothing has changed");

    let two = load(&open.at, "two", &[]).await.unwrap();
    let (first, second) = (by_name(&one), by_name(&two));
    assert_eq!(first["vae"].replica, second["vae"].replica);
    assert!(second["vae"].resident && !second["unet"].resident, "{two:?}");
    let there = replicas(&open.at).await.unwrap();
    assert_eq!(there.len(), 3);
    let vae = there.iter().find(|one| one.name == first["vae"].replica).unwrap();
    assert_eq!(vae.models.len(), 2, "{vae:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();

    let (components, is_cached, loaded_on) = whereabouts(&open, &first["vae"].model).await;
    let everywhere = vec!["cpu:0".to_owned()];
    let expected =
        BTreeMap::from([("unet".to_owned(), everywhere.clone()), ("vae".to_owned(), everywhere.clone())]);
    assert_eq!((components, is_cached, loaded_on), (expected, true, everywhere));
}

#[tokio::test]
async fn what_is_unloaded_comes_back_to_the_byte_and_what_another_model_has_stays() {
    let (library, mut open) = two_pipelines().await;
    load(&open.at, "one", &[]).await.unwrap();
    let two = load(&open.at, "two", &[]).await.unwrap();
    let in_ram = status(&open.at).await.unwrap().sealed_bytes;
    let full = device(&open.at, "cpu:0").await.unwrap().used_bytes;
    let gone = unload(&open.at, "one", &[]).await.unwrap();
    let (kept, left): (Vec<_>, Vec<_>) = gone.replicas.iter().partition(|one| !one.kept_because.is_empty());
    assert_eq!((kept.len(), left.len()), (1, 1), "{gone:?}");
    assert_eq!(kept[0].replica, by_name(&two)["vae"].replica);
    assert_eq!(kept[0].kept_because, "two shares it, and is loaded");
    assert!(gone.expected_bytes >= 4 * FLOATS as u64, "{gone:?}");
    assert_eq!((gone.returned_bytes, gone.retained_bytes), (gone.expected_bytes, 0));
    assert_eq!(device(&open.at, "cpu:0").await.unwrap().used_bytes, full - gone.expected_bytes);
    assert_eq!(status(&open.at).await.unwrap().sealed_bytes, in_ram, "it stays in RAM");
    devices_are_true(&library, &mut open).await.unwrap();
    let (_, is_cached, loaded_on) = whereabouts(&open, &kept_model(&open, "one").await).await;
    assert_eq!((is_cached, loaded_on), (true, Vec::new()));

    // It is not there: no error.
    let nothing = unload(&open.at, "one", &[]).await.unwrap();
    assert_eq!((nothing.replicas.len(), nothing.expected_bytes), (0, 0), "{nothing:?}");
    // Other devices are none of it.
    let elsewhere = v1::UnloadModelRequest {
        name: "two".to_owned(),
        device_id: "cpu:1".to_owned(),
        ..Default::default()
    };
    let nowhere = unload_as(&open.at, elsewhere).await.unwrap_err();
    assert_eq!(reason(&nowhere), "RESOURCE_NOT_FOUND", "{nowhere:?}");
    let rest = unload(&open.at, "two", &[]).await.unwrap();
    assert_eq!((rest.replicas.len(), rest.returned_bytes), (2, full - gone.expected_bytes), "{rest:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(device(&open.at, "cpu:0").await.unwrap().used_bytes, 0);
    // Nobody holds it any more.
    assert!(evict(&open.at, "").await.unwrap().segments.iter().all(|one| one.evicted));
    open.until_no_segments().await.unwrap();
    assert_eq!(on_tmpfs(&library.sandbox.runtime_dir().join("segments")).unwrap().0, 0);
}

async fn kept_model(open: &Open, path: &str) -> String {
    let models = open.list().await.unwrap();
    models.into_iter().find(|model| model.path.ends_with(path)).unwrap().name
}

#[tokio::test]
async fn components_come_and_go_one_by_one() {
    let (library, mut open) = two_pipelines().await;
    let vae = load(&open.at, "one", &["vae"]).await.unwrap();
    assert_eq!(by_name(&vae).into_keys().collect::<Vec<_>>(), ["vae"]);
    assert_eq!(segments(&open.at).await.unwrap().len(), 1, "nor is more of it in RAM");
    let all = load(&open.at, "one", &[]).await.unwrap();
    assert!(by_name(&all)["vae"].resident && !by_name(&all)["unet"].resident, "{all:?}");
    let gone = unload(&open.at, "one", &["vae"]).await.unwrap();
    assert_eq!((gone.replicas.len(), gone.retained_bytes), (1, 0), "{gone:?}");
    let left = replicas(&open.at).await.unwrap();
    assert_eq!(left.iter().map(|one| &one.name).collect::<Vec<_>>(), [&by_name(&all)["unet"].replica]);
    devices_are_true(&library, &mut open).await.unwrap();
    // Of several models at once, each component that any of the names means.
    let parts = vec![part("one", &["vae"]), part("two", &[]), part("one", &["unet"])];
    let both = load_all(&open.at, parts, v1::LoadOptions::default()).await.unwrap();
    assert_eq!((both.components.len(), replicas(&open.at).await.unwrap().len()), (4, 3), "{both:?}");
    let request = v1::UnloadComponentsRequest {
        parts: vec![part("one", &[]), part("two", &["vae"])],
        wait_for: hoist_tests::library::waiting(),
        ..Default::default()
    };
    let answer = residency(&open.at).unload_components(request).await.unwrap().into_inner();
    let gone: v1::UnloadModelResponse = hoist_tests::library::result(answer).unwrap();
    // Judged together: the VAE goes with the last that has it.
    assert!(gone.replicas.iter().all(|one| one.kept_because.is_empty()), "{gone:?}");
    assert_eq!((gone.replicas.len(), replicas(&open.at).await.unwrap().len()), (2, 1));
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn a_converted_replica_is_a_copy_of_half_the_size_and_holds_nothing_in_ram() {
    let (library, mut open) = two_pipelines().await;
    let options = |dtype: &str| v1::LoadOptions { dtype: dtype.to_owned(), ..Default::default() };
    let halved = load_with(&open.at, "one", &[], options("f16")).await.unwrap();
    for one in &halved.components {
        assert_eq!((one.own_bytes, one.mapped_bytes, one.dtype.as_str()), (2 * FLOATS as u64, 0, "F16"));
    }
    devices_are_true(&library, &mut open).await.unwrap();
    // What is on the device is not what is in RAM: that may go.
    let out = evict(&open.at, "one").await.unwrap();
    assert!(out.segments.iter().all(|one| one.evicted), "{out:?}");
    open.until_no_segments().await.unwrap();
    assert_eq!(device(&open.at, "cpu:0").await.unwrap().used_bytes, 2 * 2 * FLOATS as u64);
    // What is so already is no conversion, but the same as if nothing was said.
    let plain = load_with(&open.at, "two", &[], options("F32")).await.unwrap();
    assert!(plain.components.iter().all(|one| one.dtype.is_empty() && one.own_bytes == 0), "{plain:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    // Asked for as it is, it takes the place of the copy.
    let whole = load_with(&open.at, "one", &["vae"], options("")).await.unwrap();
    assert_eq!(by_name(&whole)["vae"].replica, by_name(&plain)["vae"].replica);
    open.watch.until("the copy's end", |mirror| mirror.replicas().count() == 3).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
    assert_eq!(unload(&open.at, "one", &[]).await.unwrap().retained_bytes, 0);
    assert_eq!(unload(&open.at, "two", &[]).await.unwrap().retained_bytes, 0);
    assert_eq!(device(&open.at, "cpu:0").await.unwrap().used_bytes, 0);
}

#[tokio::test]
async fn what_is_mapped_on_a_device_stays_in_ram() {
    let (library, mut open) = two_pipelines().await;
    load(&open.at, "one", &["vae"]).await.unwrap();
    cache(&open.at, "one", &["unet"]).await.unwrap();
    let kept = evict(&open.at, "one").await.unwrap();
    let why: Vec<&str> =
        kept.segments.iter().map(|one| one.kept_because.as_str()).filter(|why| !why.is_empty()).collect();
    assert_eq!(why, ["it is on cpu:0: unload it there first"], "{kept:?}");
    devices_are_true(&library, &mut open).await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    unload(&open.at, "one", &[]).await.unwrap();
    assert!(evict(&open.at, "one").await.unwrap().segments[0].evicted);
}

#[tokio::test]
async fn of_several_models_all_are_loaded_or_none() {
    let library = loading::library("cpu:0=8MiB").unwrap();
    single(&library, "small", 1.0, 2).unwrap();
    single(&library, "large", 2.0, 9).unwrap();
    let whole = single(&library, "short", 3.0, 1).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&whole, &bytes[..bytes.len() - 8]).unwrap();
    library.write("hostile.ckpt", &making::hostile_checkpoint(&library.path("canary"))).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    for (other, expected) in
        [("short", "CORRUPTED_MODEL"), ("hostile", "INCOMPATIBLE_MODEL"), ("large", "VRAM_EXHAUSTED")]
    {
        let parts = vec![part("small", &[]), part(other, &[])];
        let refused = load_all(&open.at, parts, v1::LoadOptions::default()).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{other}: {refused:?}");
        devices_are_true(&library, &mut open).await.unwrap();
        assert_eq!(replicas(&open.at).await.unwrap(), [], "{other}");
    }
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    // What stays in RAM of that is nobody's.
    assert!(evict(&open.at, "").await.unwrap().segments.iter().all(|one| one.evicted));
    load(&open.at, "small", &[]).await.unwrap();
    devices_are_true(&library, &mut open).await.unwrap();
}

/// What is read is on its way to the device while the rest is still read.
#[tokio::test]
async fn a_component_is_placed_as_soon_as_it_is_in_ram() {
    let library = loading::library("cpu:0=2GiB").unwrap();
    pipeline(&library, "one", 1.0, 1 << 16).unwrap();
    // The other one takes a thousand times as long.
    let tensor = [("conv_in.weight", vec![2.0; 64 << 20])];
    let weights = making::safetensors(&tensor, &[]);
    library.write("one/unet/diffusion_pytorch_model.safetensors", &weights).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    let request = v1::LoadModelRequest { name: "one".to_owned(), ..Default::default() };
    let operation = loading::begin(&open.at, request).await.unwrap();
    // Placed together, they would be seen together.
    open.watch.until("the first of them", |mirror| mirror.replicas().count() == 1).await.unwrap();
    let is_filling = |one: &v1::Segment| one.state() == v1::segment::State::Filling;
    assert_eq!(
        open.watch.mirror.segments().filter(|one| is_filling(one)).count(),
        1,
        "the other is still read"
    );
    let report = loading::loaded(&open.at, &operation).await.unwrap();
    assert_eq!(report.components.len(), 2);
    assert!(report.components.iter().all(|one| !one.resident), "this load has brought both: {report:?}");
    assert_eq!(replicas(&open.at).await.unwrap().len(), 2);
    devices_are_true(&library, &mut open).await.unwrap();
}

/// A load that is given up halfway is nobody's fault: its worker goes on as it was.
#[tokio::test]
async fn loads_that_are_cancelled_halfway_leave_the_worker_as_it_was() {
    let library = loading::library("cpu:0=1GiB").unwrap();
    single(&library, "large", 1.0, 192).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    cache(&open.at, "large", &[]).await.unwrap();
    let before = worker(&open.watch.mirror, "cpu:0");
    for dtype in ["F16", "BF16", "F64", "F16", "BF16", "F64"] {
        let options = Some(v1::LoadOptions { dtype: dtype.to_owned(), ..Default::default() });
        let request = v1::LoadModelRequest { name: "large".to_owned(), options, ..Default::default() };
        open.watch.catch_up(&open.at).await.unwrap();
        let operation = loading::begin(&open.at, request).await.unwrap();
        let is_loading = |one: &v1::Replica| one.state() == v1::replica::State::Loading;
        open.watch.until("it on its way", |mirror| mirror.replicas().any(is_loading)).await.unwrap();
        loading::cancel(&open.at, &operation).await.unwrap();
        open.watch.until("nothing", |mirror| mirror.replicas().count() == 0).await.unwrap();
    }
    open.watch.catch_up(&open.at).await.unwrap();
    assert_eq!(worker(&open.watch.mirror, "cpu:0"), before, "its stream was not ended");
    devices_are_true(&library, &mut open).await.unwrap();
}

#[tokio::test]
async fn the_files_of_what_is_on_a_device_are_not_deleted() {
    let library = loading::library("cpu:0=64MiB").unwrap();
    let path = single(&library, "a", 1.0, 1).unwrap();
    let mut open = library.open().await.unwrap();
    until_open(&mut open, &["cpu:0"]).await.unwrap();
    load(&open.at, "a", &[]).await.unwrap();
    let delete = || v1::DeleteModelRequest { name: "a".to_owned(), delete_files: true, ..Default::default() };
    let refused = open.at.catalog().delete_model(delete()).await.unwrap_err();
    assert_eq!(reason(&refused), "IN_USE", "{refused:?}");
    assert!(path.is_file(), "what is refused has not happened");
    unload(&open.at, "a", &[]).await.unwrap();
    open.at.catalog().delete_model(delete()).await.unwrap();
    assert!(!path.is_file());
}
