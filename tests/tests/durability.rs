//! SIGKILL of the real server at every step that touches the disk, judged by what its client was told.
//!
//! `strace` stops the process at the N-th such system call, before it happens; N counts up until a whole script of
//! mutations runs through. After each kill the server starts again on what is left, and everything that was
//! acknowledged must be there, nothing half, nothing stuck.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_tests::{Channels, Sandbox, Server, Strace, connect, request_id, soak};
use hoist_wire::longrunning::{
    DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, Operation,
};
use hoist_wire::status::Failure;
use hoist_wire::{encode, longrunning, v1};
use prost::Message;

/// Everything by which the store changes what is on disk.
const DURABLE: &str =
    "pwrite64,fdatasync,fsync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,link,linkat";

/// How an answer leaves: HTTP/2 frames are gathered. Logs and wake-ups use plain writes.
const REPLY: &str = "writev";

/// What the client was told, and so may rely on.
#[derive(Default)]
struct Told {
    /// Request id and name of every operation that was acknowledged.
    accepted: BTreeMap<String, String>,
    /// Operations whose end was seen, with it.
    ended: BTreeMap<String, Operation>,
    /// Acknowledged as gone.
    deleted: Vec<String>,
    /// Asked for, answer unknown.
    doubtful_delete: Option<String>,
    position: Option<v1::Position>,
}

fn probe(id: &str, wait: Duration) -> v1::ProbeMachineRequest {
    v1::ProbeMachineRequest {
        request_id: id.to_owned(),
        kinds: vec![v1::MeasurementKind::MemoryCopy.into()],
        bytes: 16 << 20,
        wait_for: Some(encode::duration(wait)),
        ..Default::default()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Told {
    /// Some of everything that is durable: accepted, begun, ended, measured, deleted, stopped.
    async fn script(&mut self, client: &Channels) -> Result<(), tonic::Status> {
        for _ in 0..2 {
            let id = request_id();
            let mut operation = client.admin().probe_machine(probe(&id, Duration::ZERO)).await?.into_inner();
            self.accepted.insert(id.clone(), operation.name.clone());
            if !operation.done {
                operation = client.admin().probe_machine(probe(&id, PATIENCE)).await?.into_inner();
            }
            if operation.done {
                self.ended.insert(operation.name.clone(), operation);
            }
        }
        let status = client.state().get_status(v1::GetStatusRequest::default()).await?.into_inner();
        self.position = status.status.and_then(|s| s.position);
        if let Some(name) = self.ended.keys().next().cloned() {
            self.doubtful_delete = Some(name.clone());
            client.operations().delete_operation(DeleteOperationRequest { name: name.clone() }).await?;
            self.doubtful_delete = None;
            self.ended.remove(&name);
            self.accepted.retain(|_, known| *known != name);
            self.deleted.push(name);
        }
        client.admin().shutdown(v1::ShutdownRequest::default()).await?;
        Ok(())
    }

    /// Everything that was told still holds.
    async fn verify(&mut self, client: &Channels) -> Result<()> {
        let status = client.state().get_status(v1::GetStatusRequest::default()).await?.into_inner();
        let now = status.status.and_then(|s| s.position).context("no position")?;
        if let Some(then) = self.position {
            ensure!(now.epoch > then.epoch, "the epoch did not grow: {then:?} -> {now:?}");
            ensure!(now.revision >= then.revision, "revisions were lost: {then:?} -> {now:?}");
        }
        self.position = Some(now);
        let listed = client
            .operations()
            .list_operations(ListOperationsRequest { page_size: 1_000, ..Default::default() })
            .await?
            .into_inner()
            .operations;
        for operation in &listed {
            ensure!(operation.done, "{} is stuck after a restart", operation.name);
        }
        let found: BTreeMap<&str, &Operation> = listed.iter().map(|o| (o.name.as_str(), o)).collect();
        if let Some(name) = self.doubtful_delete.take()
            && !found.contains_key(name.as_str())
        {
            self.ended.remove(&name);
            self.accepted.retain(|_, known| *known != name);
        }
        for name in &self.deleted {
            ensure!(!found.contains_key(name.as_str()), "{name} was deleted and is back");
        }
        for (name, end) in &self.ended {
            let now = found.get(name.as_str()).with_context(|| format!("{name} had ended and is gone"))?;
            ensure!(now.result == end.result, "{name} ended in another way than it was told");
        }
        for (id, name) in &self.accepted {
            ensure!(found.contains_key(name.as_str()), "{name} was accepted and is gone");
            let again = client.admin().probe_machine(probe(id, PATIENCE)).await?.into_inner();
            ensure!(again.name == *name, "request {id} made {name}, and after a restart {}", again.name);
            ensure!(again.done, "{name} is stuck");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill_at_every_durable_step() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let mut told = Told::default();
    let mut kills = 0;
    for step in 1.. {
        let server = sandbox.start().with_context(|| format!("start after step {}", step - 1))?;
        let client = connect(&server.socket).await?;
        told.verify(&client).await.with_context(|| format!("after a kill at step {}", step - 1))?;
        let killer = Strace::attach(&server, DURABLE, &format!("signal=KILL:when={step}"))?;
        let through = told.script(&client).await.is_ok();
        let (status, log) = server.wait()?;
        drop(killer);
        if status.success() {
            ensure!(through, "the server ended well, but its client was told otherwise: {log}");
            break;
        }
        ensure!(!log.contains("panic"), "step {step}: {log}");
        kills += 1;
    }
    let server = sandbox.start()?;
    told.verify(&connect(&server.socket).await?).await?;
    assert!(kills >= 40, "only {kills} steps: strace missed the store");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_killed_at_any_durable_step_is_as_if_it_had_not_been() -> Result<()> {
    for with_history in [false, true] {
        let sandbox = Sandbox::new()?;
        let mut told = Told::default();
        if with_history {
            let server = sandbox.start()?;
            told.script(&connect(&server.socket).await?).await?;
            server.wait()?;
        }
        for step in 1.. {
            let inject = format!("inject={DURABLE}:signal=KILL:when={step}");
            let trace = format!("trace={DURABLE}");
            let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            match Server::spawn(sandbox.command_under(&wrapper)) {
                Ok(server) => {
                    // Further steps are those of its end.
                    let client = connect(&server.socket).await?;
                    let _ = client.admin().shutdown(v1::ShutdownRequest::default()).await;
                    server.wait()?;
                    assert!(step > 3, "only {step} steps to a start: strace missed the store");
                    break;
                }
                Err(killed) => assert!(!format!("{killed:#}").contains("panic"), "{killed:#}"),
            }
            let server = sandbox.start().with_context(|| format!("start after a kill at step {step}"))?;
            let client = connect(&server.socket).await?;
            told.verify(&client)
                .await
                .with_context(|| format!("after a kill at step {step} of the start"))?;
            server.kill()?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_answer_was_lost_is_one_operation_when_it_is_repeated() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let mut committed = 0;
    for round in 0..soak::rounds(10) {
        let server = sandbox.start()?;
        let client = connect(&server.socket).await?;
        client.state().get_status(v1::GetStatusRequest::default()).await?;
        let killer = Strace::attach(&server, REPLY, "signal=KILL:when=1")?;
        let id = request_id();
        let answer = client.admin().probe_machine(probe(&id, Duration::ZERO)).await;
        assert!(answer.is_err(), "round {round}: the answer was not lost: strace missed the socket");
        server.wait()?;
        drop(killer);

        let server = sandbox.start()?;
        let client = connect(&server.socket).await?;
        let before = made_by(&client, &id).await?;
        let repeated = client.admin().probe_machine(probe(&id, PATIENCE)).await?.into_inner();
        assert_eq!(
            made_by(&client, &id).await?,
            std::slice::from_ref(&repeated.name),
            "round {round}: one id, one operation"
        );
        // The kill may have hit an earlier frame than the answer; then nothing was committed, and all is well too.
        if !before.is_empty() {
            assert_eq!(before, [repeated.name], "round {round}");
            committed += 1;
        }
        server.kill()?;
    }
    assert!(committed > 0, "no kill came between a commit and its answer");
    Ok(())
}

/// Names of the operations that a request id made.
async fn made_by(client: &Channels, id: &str) -> Result<Vec<String>> {
    let request = ListOperationsRequest { page_size: 1_000, ..Default::default() };
    let listed = client.operations().list_operations(request).await?.into_inner().operations;
    let mut made = Vec::new();
    for operation in listed {
        let metadata = operation.metadata.context("no metadata")?;
        if v1::OperationMetadata::decode(metadata.value.as_slice())?.request_id == id {
            made.push(operation.name);
        }
    }
    Ok(made)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_duplicates_of_one_request_make_one_operation_before_and_after_a_restart() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let id = request_id();
    let server = sandbox.start()?;
    let name = duplicates(&server, &id, 1_000).await?;
    server.kill()?;
    let server = sandbox.start()?;
    assert_eq!(duplicates(&server, &id, 1_000).await?, name);
    let client = connect(&server.socket).await?;
    assert_eq!(made_by(&client, &id).await?, [name]);

    let other = v1::ProbeMachineRequest { bytes: 32 << 20, ..probe(&id, Duration::ZERO) };
    let refused = client.admin().probe_machine(other).await.expect_err("other content under a used id");
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    assert_eq!(Failure::from(&refused).reason, "REQUEST_ID_REUSED");
    Ok(())
}

/// Sends the same request so many times at once; the one name that all answers carry.
async fn duplicates(server: &Server, id: &str, count: usize) -> Result<String> {
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(connect(&server.socket).await?);
    }
    let channel = |channels: &[Channels], index: usize| channels.get(index % 8).cloned();
    let calls = (0..count).filter_map(|index| channel(&channels, index)).map(|client| {
        let mut admin = client.admin();
        async move { admin.probe_machine(probe(id, Duration::ZERO)).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    let mut names: Vec<String> = Vec::new();
    for answer in answers {
        names.push(answer?.into_inner().name);
    }
    names.dedup();
    ensure!(names.len() == 1, "one id made {names:?}");
    Ok(names.remove(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_races_the_end_leaves_exactly_one_end() -> Result<()> {
    use v1::watch_response::Event;
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    let filter = v1::WatchFilter { kinds: vec![v1::ResourceKind::Operation.into()], ..Default::default() };
    let request = v1::WatchRequest { filter: Some(filter), ..Default::default() };
    let mut watch = client.state().watch(request).await?.into_inner();
    let mut cancelled = 0;
    for round in 0..soak::rounds(50) {
        let operation =
            client.admin().probe_machine(probe(&request_id(), Duration::ZERO)).await?.into_inner();
        let name = operation.name;
        let mut operations = client.operations();
        let cancel = longrunning::CancelOperationRequest { name: name.clone() };
        // Sooner or later within the operation's short life.
        for _ in 0..round % 7 {
            operations.get_operation(GetOperationRequest { name: name.clone() }).await?;
        }
        operations.cancel_operation(cancel).await?;
        let mut ends = Vec::new();
        while ends.is_empty() {
            let Some(Event::Delta(delta)) = watch.message().await?.context("the watch ended")?.event else {
                continue;
            };
            for change in delta.changes.into_iter().filter(|change| change.name == name) {
                let Some(v1::resource::Value::Operation(now)) = change.resource.and_then(|r| r.value) else {
                    continue;
                };
                if now.state() as i32 >= v1::OperationState::Succeeded as i32 {
                    ends.push(now.state());
                }
            }
        }
        assert_eq!(ends.len(), 1);
        let end =
            operations.wait_operation(longrunning::WaitOperationRequest { name, timeout: None }).await?;
        let metadata = end.into_inner().metadata.context("no metadata")?;
        let kept = v1::OperationMetadata::decode(metadata.value.as_slice())?;
        assert_eq!(kept.state(), ends[0], "round {round}");
        cancelled += usize::from(kept.state() == v1::OperationState::Cancelled);
    }
    assert!(cancelled > 0, "no cancel ever won: the race was not run");
    Ok(())
}
