//! Requests about models, as strangers and hurried people make them: many at once, again, and under names that have
//! become another's.

use futures_util::future::join_all;
use hoist_tests::library::{Library, reason, result, waiting};
use hoist_tests::{making, request_id};
use hoist_wire::v1;

/// Opening a root is no reason for others to go without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_read_at_once_do_not_take_the_root_from_each_other() {
    let library = Library::new().unwrap();
    for number in 0..8 {
        library.write(&format!("m{number}.safetensors"), &making::four(number as f32)).unwrap();
    }
    let open = library.open().await.unwrap();
    let one = |number: usize| {
        let at = open.at.clone();
        async move {
            let name = format!("m{}", number % 8);
            let request = v1::GetModelRequest { name, details: true, ..Default::default() };
            at.catalog().get_model(request).await.map(|answer| answer.into_inner().details.is_some())
        }
    };
    for answer in join_all((0..64).map(one)).await {
        assert!(answer.unwrap());
    }
    let roots = open.at.catalog().list_roots(v1::ListRootsRequest::default()).await.unwrap().into_inner();
    assert!(roots.roots.iter().all(|root| root.available && root.problem.is_empty()), "{roots:?}");
}

/// A request is the same request whatever its words mean by now.
#[tokio::test]
async fn an_edit_that_is_repeated_is_not_done_to_whoever_has_the_name_since() {
    let library = Library::new().unwrap();
    library.write("first.safetensors", &making::four(1.0)).unwrap();
    library.write("second.safetensors", &making::four(2.0)).unwrap();
    let open = library.open().await.unwrap();
    let rename = |name: &str, to: &str, id: &str| v1::UpdateModelRequest {
        request_id: id.to_owned(),
        name: name.to_owned(),
        notes: Some(v1::ModelNotes { display_name: to.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let update = |request: v1::UpdateModelRequest| {
        let at = open.at.clone();
        async move { at.catalog().update_model(request).await.map(|answer| answer.into_inner().model.unwrap()) }
    };
    let id = request_id();
    let renamed = update(rename("first", "third", &id)).await.unwrap();
    // Another has its name now, and would be renamed if names were looked up first.
    update(rename("second", "first", &request_id())).await.unwrap();
    // (`first` is the stem of the one and the name of the other: alone it means nobody.)
    let again = update(rename("first", "third", &id)).await.unwrap();
    assert_eq!((&again.name, again.display_name.as_str()), (&renamed.name, "third"));
    let other = update(rename("first", "fourth", &id)).await.unwrap_err();
    assert_eq!(reason(&other), "REQUEST_ID_REUSED");

    // The same of long work.
    let validate = |name: &str, id: &str| v1::ValidateModelRequest {
        request_id: id.to_owned(),
        name: name.to_owned(),
        wait_for: waiting(),
        ..Default::default()
    };
    let id = request_id();
    let first = open.at.integrity().validate_model(validate("third", &id)).await.unwrap().into_inner();
    update(rename(&renamed.name, "fifth", &request_id())).await.unwrap();
    let again = open.at.integrity().validate_model(validate("third", &id)).await.unwrap().into_inner();
    assert_eq!(again.name, first.name);
    let other = open.at.integrity().validate_model(validate("fifth", &id)).await.unwrap_err();
    assert_eq!(reason(&other), "REQUEST_ID_REUSED");
}

/// What goes is what is known, and nothing that has come to its place.
#[tokio::test]
async fn files_are_deleted_only_if_they_are_those_that_are_known() {
    let library = Library::new().unwrap();
    let path = library.write("a.safetensors", &making::four(1.0)).unwrap();
    let mut open = library.open().await.unwrap();
    let at = open.at.clone();
    let delete = |name: &str| {
        let (at, name) = (at.clone(), name.to_owned());
        async move {
            let request = v1::DeleteModelRequest { name, delete_files: true, ..Default::default() };
            at.catalog().delete_model(request).await.map(|answer| answer.into_inner().files_deleted)
        }
    };
    let beside = library.path("b.tmp");
    std::fs::write(&beside, making::large(1)).unwrap();
    std::fs::rename(&beside, &path).unwrap();
    assert_eq!(reason(&delete("a").await.unwrap_err()), "SOURCE_CHANGED");
    assert!(path.exists());
    open.look().await.unwrap();
    assert_eq!(delete("a").await.unwrap(), 1);
    assert!(!path.exists());

    // A folder that has become a link to another model's.
    for (name, bytes) in making::sharded() {
        library.write(&format!("one/{name}"), &bytes).unwrap();
        library.write(&format!("two/{name}"), &bytes).unwrap();
    }
    open.look().await.unwrap();
    std::fs::rename(library.path("one"), library.path("away")).unwrap();
    std::os::unix::fs::symlink("two", library.path("one")).unwrap();
    let one = library.path("one").display().to_string();
    let refused = delete(&one).await;
    assert!(refused.is_err() || refused.as_ref().is_ok_and(|count| *count == 0), "{refused:?}");
    assert!(making::sharded().iter().all(|(name, _)| library.path("two").join(name).exists()));
}

/// A header may claim any size: it is read in pieces, or not one by one.
#[tokio::test]
async fn digests_of_views_that_repeat_or_span_gigabytes_are_found_out_in_little_memory() {
    let library = Library::new().unwrap();
    // A thousand tensors over the same bytes are no thousand times the work; two are told apart by name alone.
    let header: Vec<String> = (0..20_000)
        .map(|number| {
            format!(
                "\"t{number}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{number},{}]}}",
                number + 1
            )
        })
        .collect();
    let header = format!("{{{}}}", header.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(std::iter::repeat_n(7, 20_000));
    library.write("many.safetensors", &bytes).unwrap();
    let open = library.open().await.unwrap();
    let peak = || hoist_tests::process::peak_bytes(open.server.process_id()).unwrap();
    let before = peak();
    let request =
        v1::DigestModelsRequest { names: vec!["many".to_owned()], wait_for: waiting(), ..Default::default() };
    let digested = open.at.catalog().digest_models(request).await.unwrap().into_inner();
    let digested: v1::DigestModelsResponse = result(digested).unwrap();
    assert_eq!((digested.models, digested.components, digested.problems.len()), (1, 1, 0));
    let grown = peak() - before;
    println!("the server grew by {} KiB for a header of {} KiB", grown >> 10, header.len() >> 10);
    assert!(grown <= 8 * bytes.len() as u64 + (8 << 20), "{grown} bytes");
}
