//! The cache of a real server: what is in RAM is what is on disk, once, counted to the byte, and out again as asked.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use hoist_tests::caching::{
    acquire, acquire_as, cache, cache_as, counts_are_true, evict, leases, on_tmpfs, segments, status, tensors,
};
use hoist_tests::library::{Library, Open, reason};
use hoist_tests::{Mirror, making, process, request_id};
use hoist_wire::v1;
use hoist_wire::v1::cached_component::Source;

/// A pipeline of two parts: a VAE that all have, and a body of its own.
fn pipeline(library: &Library, name: &str, own: f32) {
    let index = r#"{"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"]}"#;
    library.write(&format!("{name}/model_index.json"), index.as_bytes()).unwrap();
    let write = |part: &str, class: &str, tensor: &str, value: f32| {
        let config = format!(r#"{{"_class_name": "{class}"}}"#);
        library.write(&format!("{name}/{part}/config.json"), config.as_bytes()).unwrap();
        let weights = making::safetensors(&[(tensor, vec![value; 8_192])], &[]);
        library.write(&weights_of(name, part), &weights).unwrap();
    };
    write("vae", "AutoencoderKL", "decoder.conv_in.weight", 7.0);
    write("unet", "UNet2DConditionModel", "conv_in.weight", own);
}

fn weights_of(name: &str, part: &str) -> String {
    format!("{name}/{part}/diffusion_pytorch_model.safetensors")
}

fn sources(report: &v1::CacheModelResponse) -> BTreeMap<&str, Source> {
    report.components.iter().map(|one| (one.component.as_str(), one.source())).collect()
}

async fn digested(open: &Open) {
    let request = v1::DigestModelsRequest { wait_for: hoist_tests::library::waiting(), ..Default::default() };
    open.at.catalog().digest_models(request).await.unwrap();
}

#[tokio::test]
async fn a_component_that_models_share_is_in_ram_once_whether_its_content_is_known_or_not() {
    for is_known in [true, false] {
        let library = Library::new().unwrap();
        for name in ["one", "two", "three"] {
            pipeline(&library, name, f32::from(name.as_bytes()[1]));
        }
        let open = library.open().await.unwrap();
        if is_known {
            digested(&open).await;
        }
        let mut files = std::collections::BTreeSet::new();
        let mut first_source = Vec::new();
        for name in ["one", "two", "three"] {
            let report = cache(&open.at, name, &[]).await.unwrap();
            assert_eq!(report.components.len(), 2, "{report:?}");
            assert_eq!(report.left_out, Vec::<String>::new());
            first_source.push(sources(&report)["vae"]);
            for one in &report.components {
                files.insert(one.path.clone());
                // Every tensor, by the reference reader, with the name that it has in the file but for the prefix.
                let original = tensors(&library.path(&weights_of(name, &one.component))).unwrap();
                for (tensor, value) in tensors(one.path.as_ref()).unwrap() {
                    assert_eq!(original[&format!("{}{tensor}", one.prefix)], value, "{tensor}");
                }
            }
        }
        let later = if is_known { Source::Resident } else { Source::Shared };
        assert_eq!(first_source, [Source::Read, later, later], "{is_known}");
        assert_eq!(files.len(), 4, "one VAE and three bodies");
        counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
        let said = status(&open.at).await.unwrap().statistics.unwrap();
        assert!(said.saved_bytes >= 2 * 4 * 8_192, "{said:?}");
        assert_eq!(said.fills, 4);

        // Again: nothing is read.
        let before = process::read_bytes(open.server.process_id()).unwrap();
        let again = cache(&open.at, "two", &[]).await.unwrap();
        assert!(sources(&again).values().all(|source| *source == Source::Resident) && again.read_bytes == 0);
        // Headers, which say whether the files are what they were; less than one tensor.
        let read = process::read_bytes(open.server.process_id()).unwrap() - before;
        assert!(read < 4 * 8_192, "{read}");
    }
}

#[tokio::test]
async fn what_others_have_cached_stays_when_one_is_evicted_and_goes_with_the_last() {
    let library = Library::new().unwrap();
    pipeline(&library, "one", 1.0);
    pipeline(&library, "two", 2.0);
    let mut open = library.open().await.unwrap();
    for name in ["one", "two"] {
        cache(&open.at, name, &[]).await.unwrap();
    }
    let request = v1::EvictModelRequest { name: "one".to_owned(), dry_run: true, ..Default::default() };
    let told = open.at.cache().evict_model(request).await.unwrap().into_inner();
    assert_eq!(segments(&open.at).await.unwrap().len(), 3, "a dry run is dry");
    let done = evict(&open.at, "one").await.unwrap();
    assert_eq!(done.segments, told.segments, "and tells the truth");
    let kept: Vec<&str> =
        done.segments.iter().map(|one| one.kept_because.as_str()).filter(|why| !why.is_empty()).collect();
    assert_eq!(kept, ["two shares it, and is cached"]);
    let gone = evict(&open.at, "two").await.unwrap();
    assert!(gone.segments.iter().all(|one| one.evicted), "{gone:?}");
    open.watch.catch_up(&open.at).await.unwrap();
    open.until_no_segments().await.unwrap();
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    assert_eq!(status(&open.at).await.unwrap().used_bytes, 0);
}

#[tokio::test]
async fn without_room_it_is_refused_before_the_first_byte_and_with_what_would_help() {
    let mut library = Library::new().unwrap();
    library.sandbox.flags.extend(["--ram-budget".to_owned(), "3MiB".to_owned()]);
    library.write("large.safetensors", &making::large(4)).unwrap();
    library.write("one.safetensors", &making::large(2)).unwrap();
    let other = making::safetensors(&[("other", vec![3.0; 500_000])], &[]);
    library.write("two.safetensors", &other).unwrap();
    let open = library.open().await.unwrap();
    let refused = cache(&open.at, "large", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "RAM_EXHAUSTED", "{refused:?}");
    let told = "4.0 MiB are needed; the budget is 3.0 MiB (configured), of which 3.0 MiB are free and 0 B could be freed";
    assert_eq!(refused.message(), told);
    let refused = acquire(&open.at, "large", &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "RAM_EXHAUSTED");
    assert_eq!(on_tmpfs(&library.sandbox.runtime_dir().join("segments")).unwrap().1.len(), 0);

    // One makes room for the other; not if it is pinned, leased, or matters more.
    cache(&open.at, "one", &[]).await.unwrap();
    let report = cache(&open.at, "two", &[]).await.unwrap();
    assert_eq!(report.evicted.len(), 1, "{report:?}");
    let held = acquire(&open.at, "two", &[]).await.unwrap();
    let refused = cache(&open.at, "one", &[]).await.unwrap_err();
    let told = "of which 1.1 MiB are free and 0 B could be freed; 1.9 MiB in use";
    assert!(refused.message().ends_with(told), "{}", refused.message());
    held.release(&open.at).await.unwrap();
    let pin = v1::PinModelRequest { name: "two".to_owned(), ..Default::default() };
    let pinned = open.at.cache().pin_model(pin).await.unwrap().into_inner();
    assert_eq!((pinned.resident.len(), pinned.absent.len()), (1, 0));
    let refused = cache(&open.at, "one", &[]).await.unwrap_err();
    assert!(refused.message().contains("pinned"), "{}", refused.message());
    assert!(evict(&open.at, "two").await.unwrap().segments[0].kept_because.contains("pinned"));
    let unpin = v1::UnpinModelRequest { name: "two".to_owned(), ..Default::default() };
    assert!(open.at.cache().unpin_model(unpin).await.unwrap().into_inner().was_pinned);
    let high = v1::CacheModelRequest {
        name: "two".to_owned(),
        priority: v1::Priority::High.into(),
        ..Default::default()
    };
    cache_as(&open.at, high).await.unwrap();
    let refused = cache(&open.at, "one", &[]).await.unwrap_err();
    assert!(refused.message().contains("matters more"), "{}", refused.message());
    let critical = v1::CacheModelRequest {
        name: "one".to_owned(),
        priority: v1::Priority::Critical.into(),
        ..Default::default()
    };
    assert_eq!(cache_as(&open.at, critical).await.unwrap().evicted.len(), 1);
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    assert_eq!(status(&open.at).await.unwrap().statistics.unwrap().refusals, 5);
}

#[tokio::test]
async fn what_is_taken_away_while_somebody_has_it_open_stays_theirs_and_counts_until_they_let_go() {
    let library = Library::new().unwrap();
    pipeline(&library, "one", 1.0);
    let mut open = library.open().await.unwrap();
    let held = acquire(&open.at, "one", &["vae"]).await.unwrap();
    let path = held.path("vae");
    let whole = std::fs::read(&path).unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    let refused = evict(&open.at, "one").await.unwrap();
    assert!(refused.segments[0].kept_because.starts_with("it is leased by process "), "{refused:?}");
    let name = held.name().to_owned();
    let request = v1::RevokeLeaseRequest { name, reason: "maintenance".to_owned(), ..Default::default() };
    open.at.leases().revoke_lease(request).await.unwrap();
    let mut answers = held.answers;
    let told = answers.message().await.unwrap().unwrap().event.unwrap();
    let v1::acquire_response::Event::Revoked(revoked) = told else { panic!("{told:?}") };
    assert_eq!(revoked.reason, "maintenance");
    assert!(answers.message().await.unwrap().is_none(), "nothing follows");
    assert_eq!(leases(&open.at).await.unwrap(), []);

    // Open, without a lease: evicting it would free nothing.
    assert!(evict(&open.at, "one").await.unwrap().segments[0].kept_because.contains("open"));
    let bytes = status(&open.at).await.unwrap().used_bytes;
    assert!(bytes > 0);
    open.watch.until("the segment", |mirror| mirror.count("segments/") == 1).await.unwrap();
    // Taken away under its reader by somebody with a hand on the directory: the reader goes on, the server finds out.
    std::fs::remove_file(&path).unwrap();
    let is_left_open = |mirror: &Mirror| mirror.segments().any(|segment| segment.zombie);
    open.watch.until("a segment without a name", is_left_open).await.unwrap();
    let said = status(&open.at).await.unwrap();
    assert_eq!((said.zombie_bytes, said.used_bytes, said.held_bytes), (bytes, bytes, bytes), "{said:?}");
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
    // A copy beside it counts beside it.
    cache(&open.at, "one", &["vae"]).await.unwrap();
    let said = status(&open.at).await.unwrap();
    assert_eq!((said.zombie_bytes, said.sealed_bytes), (bytes, bytes), "{said:?}");
    evict(&open.at, "one").await.unwrap();
    assert_eq!(status(&open.at).await.unwrap().used_bytes, bytes);
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert!(read == whole, "the reader has what it had");
    open.watch.catch_up(&open.at).await.unwrap();
    drop(file);
    open.until_no_segments().await.unwrap();
    assert_eq!(status(&open.at).await.unwrap().used_bytes, 0);
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn every_format_arrives_as_the_reference_reader_knows_it() {
    let library = Library::new().unwrap();
    library.write("tensors.safetensors", &making::lora()).unwrap();
    library.write("pickle.ckpt", &making::checkpoint()).unwrap();
    for (name, bytes) in making::sharded() {
        library.write(&format!("llm/{name}"), &bytes).unwrap();
    }
    let quantised = library.write("quantised.gguf", &making::gguf()).unwrap();
    let open = library.open().await.unwrap();
    let original = |file: &str| tensors(&library.path(file)).unwrap();
    let mut shards = original("llm/model-00001-of-00002.safetensors");
    shards.extend(original("llm/model-00002-of-00002.safetensors"));
    // What `torch.save` was given, in words: there is no reference reader of its files here.
    let saved = BTreeMap::from([("w".to_owned(), ("F32".to_owned(), vec![4], vec![1; 16]))]);
    let expected = [("tensors", original("tensors.safetensors")), ("llm", shards), ("pickle", saved)];
    let mut names = Vec::new();
    for (name, expected) in expected {
        let report = cache(&open.at, name, &[]).await.unwrap();
        let mut found = BTreeMap::new();
        for one in &report.components {
            let tensors = tensors(one.path.as_ref()).unwrap().into_iter();
            found.extend(tensors.map(|(tensor, value)| (format!("{}{tensor}", one.prefix), value)));
        }
        assert_eq!(found, expected, "{name}");
        names.push((report.model, found.len()));
    }
    // What no reader of tensors knows is kept as it is.
    let report = cache(&open.at, "quantised", &[]).await.unwrap();
    let kept = Path::new(&report.components[0].path).join("model.gguf");
    assert_eq!(std::fs::read(kept).unwrap(), std::fs::read(quantised).unwrap());
    names.push((report.model, 1));
    for model in open.list().await.unwrap() {
        // What was read tells the catalog, too.
        assert!(model.components.iter().all(|one| !one.digest.is_empty()), "{model:?}");
        let (_, count) = names.iter().find(|(name, _)| *name == model.name).unwrap();
        assert_eq!(model.tensor_count, *count as u64, "{model:?}");
    }
    counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_model_is_told_and_what_is_wrong_with_a_request() {
    let library = Library::new().unwrap();
    library.write("short.safetensors", &making::lora()[..500]).unwrap();
    library.write("hostile.ckpt", &making::hostile_checkpoint(&library.path("canary"))).unwrap();
    pipeline(&library, "one", 1.0);
    let open = library.open().await.unwrap();
    let refused = |name: &str, components: &[&str]| {
        let (at, name) = (open.at.clone(), name.to_owned());
        let components: Vec<String> = components.iter().map(ToString::to_string).collect();
        async move {
            let components: Vec<&str> = components.iter().map(String::as_str).collect();
            reason(&cache(&at, &name, &components).await.unwrap_err())
        }
    };
    assert_eq!(refused("short", &[]).await, "CORRUPTED_MODEL");
    assert_eq!(refused("hostile", &[]).await, "INCOMPATIBLE_MODEL");
    assert_eq!(refused("nobody", &[]).await, "RESOURCE_NOT_FOUND");
    assert_eq!(refused("one", &["lungs"]).await, "FIELD_INVALID");
    assert_eq!(refused("one", &[""]).await, "FIELD_INVALID");
    for (request, said) in [
        (v1::AcquireRequest::default(), "NAME_INVALID"),
        (v1::AcquireRequest { lease: "leases/x".to_owned(), ..Default::default() }, "NAME_INVALID"),
        (v1::AcquireRequest { lease: "machine".to_owned(), ..Default::default() }, "NAME_INVALID"),
        (
            v1::AcquireRequest { lease: format!("leases/{}", request_id()), ..Default::default() },
            "RESOURCE_NOT_FOUND",
        ),
        (
            v1::AcquireRequest { name: "one".to_owned(), holder: "x".repeat(257), ..Default::default() },
            "FIELD_INVALID",
        ),
        (
            v1::AcquireRequest { name: "one".to_owned(), request_id: "me".to_owned(), ..Default::default() },
            "REQUEST_ID_INVALID",
        ),
    ] {
        assert_eq!(reason(&acquire_as(&open.at, request.clone()).await.unwrap_err()), said, "{request:?}");
    }
    assert_eq!(status(&open.at).await.unwrap().used_bytes, 0);
    assert!(!library.path("canary").exists());
}
