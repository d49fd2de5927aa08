//! How watches, waits and operations end when the server or a client does.

#![expect(clippy::disallowed_methods, reason = "a test waits for processes beside its runtime")]

use std::time::Duration;

use anyhow::{Context, Result};
use hoist_tests::{Channels, Sandbox, connect, request_id};
use hoist_wire::longrunning::{CancelOperationRequest, WaitOperationRequest};
use hoist_wire::status::Failure;
use hoist_wire::v1::watch_response::Event;
use hoist_wire::{encode, v1};
use prost::Message;

/// An operation that runs until it is stopped, on any machine.
fn endless(id: &str) -> v1::ProbeMachineRequest {
    v1::ProbeMachineRequest {
        request_id: id.to_owned(),
        kinds: vec![v1::MeasurementKind::MemoryCopy.into()],
        bytes: 16 << 30,
        ..Default::default()
    }
}

fn quick() -> v1::ProbeMachineRequest {
    v1::ProbeMachineRequest {
        bytes: 16 << 20,
        wait_for: Some(encode::duration(PATIENCE)),
        ..endless(&request_id())
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// How an operation ended, once it has.
async fn end_of(client: &Channels, name: &str) -> Result<v1::OperationMetadata> {
    let request = WaitOperationRequest { name: name.to_owned(), timeout: Some(encode::duration(PATIENCE)) };
    let operation = client.operations().wait_operation(request).await?.into_inner();
    anyhow::ensure!(operation.done, "{name} did not end");
    Ok(v1::OperationMetadata::decode(operation.metadata.context("no metadata")?.value.as_slice())?)
}

async fn cancel(client: &Channels, name: &str) -> Result<()> {
    client.operations().cancel_operation(CancelOperationRequest { name: name.to_owned() }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_watches_with_draining_and_leaves_no_operation_stuck() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    std::fs::write(sandbox.state_dir().join("hoist.toml"), "[shutdown]\ngrace = \"300ms\"\n")?;
    let config = sandbox.state_dir().join("hoist.toml").display().to_string();
    sandbox.flags.extend(["--config".to_owned(), config]);
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    let mut watches = Vec::new();
    for _ in 0..200 {
        let mut watch = client.state().watch(v1::WatchRequest::default()).await?.into_inner();
        watch.message().await?.context("no first message")?;
        watches.push(watch);
    }
    // One connection carries 256 streams at once; what follows needs another.
    let client = connect(&server.socket).await?;
    let running = client.admin().probe_machine(endless(&request_id())).await?.into_inner();
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    for mut watch in watches {
        let error = loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => anyhow::bail!("a watch ended without a reason"),
                Err(error) => break error,
            }
        };
        assert_eq!(Failure::from(&error).reason, "DRAINING", "{error}");
    }
    let (status, log) = ended.await??;
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("ERROR"), "{log}");

    let server = sandbox.start()?;
    let end = end_of(&connect(&server.socket).await?, &running.name).await?;
    assert_eq!(end.state(), v1::OperationState::Cancelled);
    let why = Failure::from(&end.error.context("no error")?);
    assert_eq!(why.reason, "DRAINING");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_cancelled_with_its_last_waiter_only_if_all_of_them_said_so() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let looker = connect(&server.socket).await?;
    let waiting = |request: v1::ProbeMachineRequest, cancels| v1::ProbeMachineRequest {
        wait_for: Some(encode::duration(Duration::from_secs(60))),
        cancel_on_disconnect: cancels,
        request_id: request_id(),
        ..request
    };
    // (other request without the flag, other waiter with the flag) -> cancelled when the first one goes away
    for (other_without, other_waits, expected) in
        [(false, false, true), (true, false, false), (false, true, false)]
    {
        let request = endless("");
        let leaver = connect(&server.socket).await?;
        // Known by name before anybody waits; the flag says that this claim ends with its caller.
        let first = v1::ProbeMachineRequest {
            cancel_on_disconnect: true,
            request_id: request_id(),
            ..request.clone()
        };
        let name = looker.admin().probe_machine(first).await?.into_inner().name;
        let leave = {
            let (mut admin, request) = (leaver.admin(), waiting(request.clone(), true));
            tokio::spawn(async move { admin.probe_machine(request).await })
        };
        let stay = {
            let (mut admin, request) = (looker.admin(), waiting(request.clone(), true));
            other_waits.then(|| tokio::spawn(async move { admin.probe_machine(request).await }))
        };
        if other_without {
            let asked = v1::ProbeMachineRequest { request_id: request_id(), ..request.clone() };
            assert_eq!(looker.admin().probe_machine(asked).await?.into_inner().name, name);
        }
        // All requests are recorded: each waiter has its claim then, or will have it before it can be dropped.
        let known = 2 + u32::from(other_without) + u32::from(other_waits);
        recorded(&looker, known).await?;
        leave.abort();
        drop(leaver);
        if expected {
            assert_eq!(end_of(&looker, &name).await?.state(), v1::OperationState::Cancelled);
        } else {
            // It goes on: it was not cancelled by the one who left, since it takes our cancel to end it.
            let request = WaitOperationRequest {
                name: name.clone(),
                timeout: Some(encode::duration(Duration::from_millis(500))),
            };
            assert!(!looker.operations().wait_operation(request).await?.into_inner().done);
            cancel(&looker, &name).await?;
            assert_eq!(end_of(&looker, &name).await?.state(), v1::OperationState::Cancelled);
        }
        if let Some(stay) = stay {
            assert!(stay.await??.into_inner().done);
        }
        looker
            .operations()
            .delete_operation(hoist_wire::longrunning::DeleteOperationRequest { name })
            .await?;
    }
    Ok(())
}

/// Returns once the server keeps this many request ids.
async fn recorded(client: &Channels, count: u32) -> Result<()> {
    loop {
        let status = client.state().get_status(v1::GetStatusRequest::default()).await?.into_inner().status;
        let kept = status.and_then(|s| s.machine).context("no machine")?.request_ids;
        if kept >= count {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_watch_goes_on_exactly_where_it_was_or_says_why_it_cannot() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    std::fs::write(sandbox.state_dir().join("hoist.toml"), "[watch]\nhistory_events = 8\n")?;
    let config = sandbox.state_dir().join("hoist.toml").display().to_string();
    sandbox.flags.extend(["--config".to_owned(), config]);
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    let at = |client: Channels| async move {
        let status = client.state().get_status(v1::GetStatusRequest::default()).await?.into_inner().status;
        status.and_then(|s| s.position).context("no position")
    };
    let start = at(client.clone()).await?;
    client.admin().probe_machine(quick()).await?;
    let now = at(client.clone()).await?;
    assert!(now.revision > start.revision + 1);

    let from = |position| v1::WatchRequest { from: Some(position), ..Default::default() };
    let mut watch = client.state().watch(from(start)).await?.into_inner();
    for revision in start.revision + 1..=now.revision {
        let Some(Event::Delta(delta)) = watch.message().await?.context("ended")?.event else {
            anyhow::bail!("not a delta at {revision}");
        };
        assert_eq!(delta.position.context("no position")?.revision, revision);
    }
    for _ in 0..4 {
        client.admin().probe_machine(quick()).await?;
    }
    let now = at(client.clone()).await?;
    let refused = |position| {
        let client = client.clone();
        async move {
            match client.state().watch(from(position)).await {
                Ok(_) => "accepted".to_owned(),
                Err(error) => Failure::from(&error).reason,
            }
        }
    };
    assert_eq!(refused(start).await, "REVISION_COMPACTED");
    assert_eq!(refused(v1::Position { revision: now.revision + 1, ..now }).await, "EPOCH_MISMATCH");
    assert_eq!(refused(v1::Position { epoch: now.epoch - 1, ..now }).await, "EPOCH_MISMATCH");
    assert_eq!(refused(v1::Position { epoch: now.epoch + 1, ..now }).await, "EPOCH_MISMATCH");
    assert_eq!(refused(now).await, "accepted");
    Ok(())
}

#[tokio::test]
async fn an_operation_that_is_not_done_in_time_fails_with_its_deadline() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    // The shortest there is: no memory copies 16 GiB in that.
    let soon = Some(encode::duration(Duration::from_millis(100)));
    let running = v1::ProbeMachineRequest { deadline: soon, ..endless(&request_id()) };
    let running = client.admin().probe_machine(running).await?.into_inner().name;
    // Queued behind the first, whose deadline is its own.
    let queued = v1::ProbeMachineRequest { deadline: soon, bytes: 1 << 30, ..endless(&request_id()) };
    let queued = client.admin().probe_machine(queued).await?.into_inner().name;
    for name in [running, queued] {
        let end = end_of(&client, &name).await?;
        assert_eq!(end.state(), v1::OperationState::Failed, "{end:?}");
        assert_eq!(Failure::from(&end.error.context("no error")?).reason, "DEADLINE_EXCEEDED");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_server_at_once() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    client.admin().probe_machine(endless(&request_id())).await?;
    let mut watch = client.state().watch(v1::WatchRequest::default()).await?.into_inner();
    server.signal(rustix::process::Signal::TERM)?;
    // The end of the watch says that the first signal has arrived.
    while watch.message().await.is_ok_and(|message| message.is_some()) {}
    let (status, log) = tokio::task::spawn_blocking(move || server.terminate()).await??;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    Ok(())
}
