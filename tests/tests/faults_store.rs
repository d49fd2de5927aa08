//! A disk that is full, fails or lies, under the real server.

#![expect(clippy::disallowed_methods, reason = "a test waits for processes beside its runtime")]

use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};
use hoist_tests::{Channels, Random, Sandbox, Strace, connect, request_id, soak};
use hoist_wire::longrunning::{DeleteOperationRequest, GetOperationRequest, ListOperationsRequest};
use hoist_wire::status::Failure;
use hoist_wire::v1::watch_response::Event;
use hoist_wire::{encode, v1};

fn probe(id: &str) -> v1::ProbeMachineRequest {
    v1::ProbeMachineRequest {
        request_id: id.to_owned(),
        kinds: vec![v1::MeasurementKind::MemoryCopy.into()],
        bytes: 16 << 20,
        wait_for: Some(encode::duration(Duration::from_secs(30))),
        ..Default::default()
    }
}

async fn names(client: &Channels) -> Result<Vec<String>> {
    let request = ListOperationsRequest { page_size: 1_000, ..Default::default() };
    let listed = client.operations().list_operations(request).await?.into_inner().operations;
    Ok(listed.into_iter().map(|operation| operation.name).collect())
}

/// Follows conditions until STORE_READONLY holds or does not, as asked.
async fn until_readonly(watch: &mut tonic::Streaming<v1::WatchResponse>, wanted: bool) -> Result<()> {
    let name = "conditions/STORE_READONLY";
    while let Some(message) = watch.message().await? {
        match message.event.context("no event")? {
            Event::Snapshot(chunk) if wanted && chunk.resources.iter().any(|r| r.name == name) => {
                return Ok(());
            }
            Event::Delta(delta) => {
                for change in delta.changes.iter().filter(|change| change.name == name) {
                    if (change.kind() == v1::change::Kind::Removed) != wanted {
                        return Ok(());
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::bail!("the watch ended")
}

async fn conditions(client: &Channels) -> Result<tonic::Streaming<v1::WatchResponse>> {
    let filter = v1::WatchFilter { kinds: vec![v1::ResourceKind::Condition.into()], ..Default::default() };
    Ok(client
        .state()
        .watch(v1::WatchRequest { filter: Some(filter), ..Default::default() })
        .await?
        .into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_changes_keeps_reading_and_recovers_by_itself() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    let kept = client.admin().probe_machine(probe(&request_id())).await?.into_inner();
    let mut watch = conditions(&client).await?;

    let full = Strace::attach(&server, "pwrite64,ftruncate", "error=ENOSPC")?;
    let id = request_id();
    let error = client.admin().probe_machine(probe(&id)).await.expect_err("the disk is full");
    let error = Failure::from(&error);
    assert_eq!((error.code, error.reason.as_str()), (tonic::Code::ResourceExhausted, "STORE_READONLY"));
    assert!(error.retry_after.is_some());
    until_readonly(&mut watch, true).await?;
    let request = GetOperationRequest { name: kept.name.clone() };
    assert_eq!(client.operations().get_operation(request).await?.into_inner(), kept, "reads go on");
    let request = DeleteOperationRequest { name: kept.name.clone() };
    let error = client.operations().delete_operation(request).await.expect_err("still full");
    assert_eq!(Failure::from(&error).reason, "STORE_READONLY");
    assert_eq!(names(&client).await?, std::slice::from_ref(&kept.name), "what was refused is not there");

    drop(full);
    tokio::time::timeout(Duration::from_secs(20), until_readonly(&mut watch, false))
        .await
        .context("it did not recover by itself")??;
    let retried = client.admin().probe_machine(probe(&id)).await?.into_inner();
    assert!(retried.done);
    let before = names(&client).await?;
    assert_eq!(before, [retried.name.clone(), kept.name.clone()]);
    server.kill()?;
    let server = sandbox.start()?;
    assert_eq!(names(&connect(&server.socket).await?).await?, before, "nothing acknowledged was lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_fsync_nothing_is_written_until_a_restart() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    let kept = client.admin().probe_machine(probe(&request_id())).await?.into_inner();
    let mut watch = conditions(&client).await?;

    let id = request_id();
    let failing = Strace::attach(&server, "fdatasync,fsync", "error=EIO")?;
    let error = client.admin().probe_machine(probe(&id)).await.expect_err("the disk fails");
    assert_eq!(Failure::from(&error).reason, "STORE_READONLY");
    until_readonly(&mut watch, true).await?;
    drop(failing);
    // The disk works again, but what is on it is not known: no second try in this life.
    let error = client.admin().probe_machine(probe(&request_id())).await.expect_err("still refused");
    assert_eq!(Failure::from(&error).reason, "STORE_READONLY");
    assert_eq!(names(&client).await?, std::slice::from_ref(&kept.name));
    let (status, log) = tokio::task::spawn_blocking(move || server.terminate()).await??;
    assert!(status.success(), "{log}");

    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    assert!(names(&client).await?.contains(&kept.name), "nothing acknowledged was lost");
    let retried = client.admin().probe_machine(probe(&id)).await?.into_inner();
    assert_eq!(names(&client).await?.iter().filter(|name| **name == retried.name).count(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_rebuilt_or_refused_never_silently_empty() -> Result<()> {
    for seed in soak::seeds(10) {
        let sandbox = Sandbox::new()?;
        let server = sandbox.start()?;
        let client = connect(&server.socket).await?;
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(client.admin().probe_machine(probe(&request_id())).await?.into_inner().name);
        }
        // With an export beside it, then something that only the store has.
        client.admin().shutdown(v1::ShutdownRequest::default()).await?;
        tokio::task::spawn_blocking(move || server.wait()).await??;

        let path = sandbox.state_dir().join("store.redb");
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut random = Random::new(seed);
        for _ in 0..=random.below(64) {
            let at = random.below(length);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&byte.map(|byte| byte ^ (1 << random.below(8))), at)?;
        }
        drop(file);

        let server = sandbox.start().with_context(|| format!("HOIST_SEED={seed}"))?;
        let client = connect(&server.socket).await?;
        let found = names(&client).await?;
        for name in &kept {
            assert!(found.contains(name), "HOIST_SEED={seed}: {name} was in the export and is gone");
        }
        let log = server.kill()?;
        assert!(!log.contains("panicked"), "HOIST_SEED={seed}: {log}");
    }
    Ok(())
}
