//! What others on the machine see of the cache: files for the group, where that is wished, and who holds what.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hoist_tests::caching::{acquire, cache};
use hoist_tests::library::{Library, reason};
use hoist_tests::making;
use hoist_wire::v1;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_group_gets_as_far_as_the_weights_where_that_is_wished_and_nobody_else_does() {
    for (is_wished, top, folder) in [(false, 0o700, 0o700), (true, 0o710, 0o750)] {
        let mut library = Library::new().unwrap();
        library.write("one.safetensors", &making::safetensors(&[("weight", vec![1.0; 64])], &[])).unwrap();
        library.write("two.gguf", &making::gguf()).unwrap();
        library.set("CACHE_GROUP_READABLE", if is_wished { "true" } else { "false" });
        let runtime = library.sandbox.runtime_dir().to_owned();
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).unwrap();
        let open = library.open().await.unwrap();
        let mut paths = Vec::new();
        for name in ["one", "two"] {
            paths.push(cache(&open.at, name, &[]).await.unwrap().components[0].path.clone());
        }
        assert_eq!((mode(&runtime), mode(&runtime.join("segments"))), (top, folder));
        // Nobody but the server reads who holds what.
        assert_eq!(mode(&runtime.join("leases")), 0o700);
        assert_eq!(mode(Path::new(&paths[0])), 0o440);
        assert_eq!(mode(Path::new(&paths[1])), 0o750, "a folder of files as they are");
        for file in std::fs::read_dir(&paths[1]).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o440);
        }
    }
}

#[tokio::test]
async fn leases_are_listed_page_by_page_oldest_first() {
    let library = Library::new().unwrap();
    library.write("one.safetensors", &making::safetensors(&[("weight", vec![1.0; 64])], &[])).unwrap();
    let open = library.open().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(acquire(&open.at, "one", &[]).await.unwrap());
    }
    let page = |page_token: String| {
        let request = v1::ListLeasesRequest { page_size: 2, page_token, ..Default::default() };
        let mut leases = open.at.leases();
        async move { leases.list_leases(request).await.map(tonic::Response::into_inner) }
    };
    let (mut names, mut token, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let answer = page(token).await.unwrap();
        assert_eq!(answer.total_size, 5);
        sizes.push(answer.leases.len());
        names.extend(answer.leases.into_iter().map(|lease| lease.name));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(names, held.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>());
    for wrong in ["x", "1:2", ":"] {
        assert_eq!(reason(&page(wrong.to_owned()).await.unwrap_err()), "PAGE_TOKEN_INVALID");
    }
}
