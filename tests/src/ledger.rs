//! What one client was told, and so what must be true however the server ended. The oracle of the tests that kill
//! servers: it knows the contract and nothing of how it is kept.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use hoist_domain::Reason;
use hoist_wire::longrunning::operation::Result as Outcome;
use hoist_wire::longrunning::{
    DeleteOperationRequest, ListOperationsRequest, Operation, WaitOperationRequest,
};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use prost::Message;
use tonic::{Code, Response, Status};

use crate::{Channels, request_id};

/// One operation as a client sees it. Error details are decoded: two encodings of one error may differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub metadata: v1::OperationMetadata,
    pub response: Option<v1::ProbeMachineResponse>,
    pub failure: Option<Failure>,
}

impl Seen {
    /// Takes an answer apart, and checks that its parts agree.
    ///
    /// # Errors
    /// When they do not.
    pub fn of(operation: &Operation) -> Result<Self> {
        let metadata = operation.metadata.as_ref().context("an operation without metadata")?;
        let mut metadata = v1::OperationMetadata::decode(metadata.value.as_slice())?;
        let (response, failure) = match &operation.result {
            None => (None, None),
            Some(Outcome::Response(any)) => {
                (Some(v1::ProbeMachineResponse::decode(any.value.as_slice())?), None)
            }
            Some(Outcome::Error(status)) => (None, Some(Failure::from(status))),
        };
        let told_twice = metadata.error.take().as_ref().map(Failure::from);
        ensure!(failure == told_twice, "two errors: {failure:?}, {told_twice:?}");
        let seen = Self { metadata, response, failure };
        let whole = match seen.state() {
            v1::OperationState::Succeeded => seen.response.is_some(),
            v1::OperationState::Failed | v1::OperationState::Cancelled => seen.failure.is_some(),
            _ => operation.result.is_none(),
        };
        ensure!(
            whole && operation.done == seen.is_done() && operation.name == seen.metadata.name,
            "{seen:?}"
        );
        ensure!(
            seen.metadata.progress.is_none() || seen.state() == v1::OperationState::Running,
            "progress of what does not run: {seen:?}"
        );
        Ok(seen)
    }

    #[must_use]
    pub fn state(&self) -> v1::OperationState {
        self.metadata.state()
    }

    /// Whether it is in one of its three last states.
    #[must_use]
    pub fn is_done(&self) -> bool {
        rank(self.state()) == rank(v1::OperationState::Succeeded)
    }

    /// Whether it ended for this reason.
    #[must_use]
    pub fn ended_by(&self, reason: Reason) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.is(reason))
    }
}

/// States only ever go up.
const fn rank(state: v1::OperationState) -> u8 {
    match state {
        v1::OperationState::Unspecified => 0,
        v1::OperationState::Pending => 1,
        v1::OperationState::Running => 2,
        v1::OperationState::Succeeded | v1::OperationState::Failed | v1::OperationState::Cancelled => 3,
    }
}

#[derive(Debug)]
struct Asked {
    message: v1::ProbeMachineRequest,
    /// Unset: no answer came, so it may have been done or not.
    answer: Option<String>,
}

/// The later ones say more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Deletion {
    #[default]
    NotAsked,
    /// Asked for, and no answer came.
    InDoubt,
    Told,
}

#[derive(Debug)]
struct Known {
    last: Option<Seen>,
    deletion: Deletion,
}

/// What one client asked and was told.
#[derive(Debug, Default)]
pub struct Ledger {
    asked: Vec<Asked>,
    operations: BTreeMap<String, Known>,
    /// The newest that an answer named.
    position: v1::Position,
}

impl Ledger {
    /// Notes a request before it is sent, and gives it an id if it has none.
    pub fn ask(&mut self, mut message: v1::ProbeMachineRequest) -> v1::ProbeMachineRequest {
        if message.request_id.is_empty() {
            message.request_id = request_id();
        }
        self.asked.push(Asked { message: message.clone(), answer: None });
        message
    }

    /// Notes the answer to a request.
    ///
    /// # Errors
    /// When it contradicts an earlier one.
    pub fn told(&mut self, id: &str, answer: &Result<Response<Operation>, Status>) -> Result<()> {
        // A refusal leaves the request in doubt: a client may repeat it under the same id.
        let Ok(operation) = answer else { return Ok(()) };
        let operation = operation.get_ref();
        for asked in self.asked.iter_mut().filter(|asked| asked.message.request_id == id) {
            let before = asked.answer.replace(operation.name.clone());
            ensure!(
                before.as_ref().is_none_or(|before| *before == operation.name),
                "request {id} was answered with {before:?}, and now with {}",
                operation.name
            );
        }
        self.saw(operation)
    }

    /// Notes what an operation was seen to be.
    ///
    /// # Errors
    /// When it went backwards, or changed after its end.
    pub fn saw(&mut self, operation: &Operation) -> Result<()> {
        let seen = Seen::of(operation)?;
        let known = self
            .operations
            .entry(operation.name.clone())
            .or_insert(Known { last: None, deletion: Deletion::default() });
        if let Some(last) = &known.last {
            ensure!(rank(seen.state()) >= rank(last.state()), "went backwards: {last:?} to {seen:?}");
            ensure!(!last.is_done() || *last == seen, "changed after its end: {last:?} to {seen:?}");
        }
        known.last = Some(seen);
        Ok(())
    }

    /// The last that was seen of an operation.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&Seen> {
        self.operations.get(name)?.last.as_ref()
    }

    /// How many operations are known and not deleted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.values().filter(|known| known.deletion != Deletion::Told).count()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over what another client of the same server was told.
    ///
    /// # Errors
    /// When the two were told different things.
    pub fn absorb(&mut self, other: Self) -> Result<()> {
        self.asked.extend(other.asked);
        for (name, known) in other.operations {
            let Some(mine) = self.operations.get_mut(&name) else {
                self.operations.insert(name, known);
                continue;
            };
            mine.deletion = mine.deletion.max(known.deletion);
            let (Some(seen), Some(last)) = (&known.last, &mine.last) else {
                mine.last = mine.last.take().or(known.last);
                continue;
            };
            ensure!(!last.is_done() || !seen.is_done() || last == seen, "two ends: {last:?}, {seen:?}");
            if rank(seen.state()) > rank(last.state()) {
                mine.last = known.last;
            }
        }
        Ok(())
    }

    /// Submits work.
    ///
    /// # Errors
    /// As the server refuses, or the connection breaks.
    ///
    /// # Panics
    /// When the answer contradicts what was said before.
    pub async fn submit(
        &mut self,
        at: &Channels,
        message: v1::ProbeMachineRequest,
    ) -> Result<String, Status> {
        let message = self.ask(message);
        let id = message.request_id.clone();
        let answer = at.admin().probe_machine(message).await;
        self.told(&id, &answer).expect("answers agree");
        answer.map(|operation| operation.into_inner().name)
    }

    /// Waits for the end of an operation.
    ///
    /// # Errors
    /// When the connection breaks.
    ///
    /// # Panics
    /// When the answer contradicts what was said before.
    pub async fn end(&mut self, at: &Channels, name: &str) -> Result<Seen, Status> {
        let request = WaitOperationRequest { name: name.to_owned(), timeout: None };
        let operation = at.operations().wait_operation(request).await?.into_inner();
        self.saw(&operation).expect("answers agree");
        Ok(Seen::of(&operation).expect("it was looked at before"))
    }

    /// Deletes an operation.
    ///
    /// # Errors
    /// As the server refuses, or the connection breaks.
    pub async fn delete(&mut self, at: &Channels, name: &str) -> Result<(), Status> {
        let known = self.operations.get_mut(name);
        let mut unknown = Known { last: None, deletion: Deletion::NotAsked };
        let known = known.unwrap_or(&mut unknown);
        known.deletion = Deletion::InDoubt;
        at.operations().delete_operation(DeleteOperationRequest { name: name.to_owned() }).await?;
        known.deletion = Deletion::Told;
        Ok(())
    }

    /// Reads the position of the state, which from then on must not be lost. Not while the newest change is one that
    /// no restart remembers: a condition, a drain.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn look(&mut self, at: &Channels) -> Result<v1::Position, Status> {
        let answer = at.state().get_status(v1::GetStatusRequest::default()).await?.into_inner();
        self.position = answer.status.and_then(|status| status.position).unwrap_or_default();
        Ok(self.position)
    }

    /// Holds a server that has just started against all that an earlier one said, then repeats every request.
    /// Afterwards nothing is in doubt.
    ///
    /// # Errors
    /// When something that was acknowledged is not so.
    pub async fn survived(&mut self, at: &Channels) -> Result<()> {
        let before = self.position;
        let now = self.look(at).await?;
        ensure!(now.epoch > before.epoch, "the epoch did not grow: {before:?}, {now:?}");
        ensure!(now.revision >= before.revision, "the revision went back: {before:?}, {now:?}");
        let listed = list(at).await?;
        for (name, operation) in &listed {
            let seen = Seen::of(operation)?;
            ensure!(seen.is_done(), "nobody runs it any more: {seen:?}");
            if !self.operations.contains_key(name) {
                let id = &seen.metadata.request_id;
                let in_doubt = |asked: &Asked| asked.message.request_id == *id && asked.answer.is_none();
                ensure!(self.asked.iter().any(in_doubt), "nobody asked for it: {seen:?}");
            }
            self.kept(operation, &seen)?;
        }
        for (name, known) in &mut self.operations {
            match (known.deletion, listed.contains_key(name)) {
                (Deletion::NotAsked, false) => {
                    anyhow::bail!("{name} is lost; last seen as {:?}", known.last);
                }
                (Deletion::Told, true) => anyhow::bail!("{name} came back after its deletion"),
                (Deletion::InDoubt, false) => known.deletion = Deletion::Told,
                _ => {}
            }
        }
        self.repeat(at, &listed).await
    }

    /// Takes what a new coordinator says about an operation that the last one left.
    fn kept(&mut self, operation: &Operation, seen: &Seen) -> Result<()> {
        let last = self.operations.get(&operation.name).and_then(|known| known.last.as_ref());
        if !last.is_some_and(Seen::is_done) {
            let by_the_end = match seen.state() {
                v1::OperationState::Failed => seen.ended_by(Reason::CoordinatorRestarted),
                v1::OperationState::Cancelled => {
                    seen.ended_by(Reason::Draining) || seen.ended_by(Reason::OperationCancelled)
                }
                _ => true,
            };
            ensure!(by_the_end, "ended for no reason: {seen:?}");
        }
        self.saw(operation)
    }

    /// Repeats what was asked: each id has the operation it had, or, if no answer came, exactly one.
    async fn repeat(&mut self, at: &Channels, listed: &BTreeMap<String, Operation>) -> Result<()> {
        let mut expected: BTreeSet<String> = listed.keys().cloned().collect();
        let repeats: Vec<_> =
            self.asked.iter().map(|asked| (asked.message.clone(), asked.answer.clone())).collect();
        for (message, answer) in repeats {
            let is_deleted = |name: &String| {
                self.operations.get(name).is_some_and(|known| known.deletion == Deletion::Told)
            };
            if answer.as_ref().is_some_and(is_deleted) {
                continue;
            }
            let id = message.request_id.clone();
            let made = listed
                .values()
                .find(|operation| Seen::of(operation).is_ok_and(|seen| seen.metadata.request_id == id));
            let again = at.admin().probe_machine(message).await;
            self.told(&id, &again)?;
            let name = again?.into_inner().name;
            ensure!(
                made.is_none_or(|made| made.name == name),
                "request {id} made {made:?}, and is answered with {name}"
            );
            expected.insert(name);
        }
        for name in &expected {
            self.end(at, name).await?;
        }
        let after: BTreeSet<String> = list(at).await?.into_keys().collect();
        ensure!(after == expected, "repeated requests made operations: {expected:?}, {after:?}");
        let in_doubt: Vec<String> = self
            .operations
            .iter()
            .filter(|(_, known)| known.deletion == Deletion::InDoubt)
            .map(|(name, _)| name.clone())
            .collect();
        for name in in_doubt {
            self.delete(at, &name).await?;
        }
        for (name, known) in &self.operations {
            if known.deletion == Deletion::Told {
                let request = WaitOperationRequest { name: name.clone(), timeout: None };
                let gone = at.operations().wait_operation(request).await.err().map(|status| status.code());
                ensure!(gone == Some(Code::NotFound), "{name} is deleted: {gone:?}");
            }
        }
        self.look(at).await?;
        Ok(())
    }
}

/// Every operation that a server has, by name.
///
/// # Errors
/// When a page cannot be read, or a name comes twice.
pub async fn list(at: &Channels) -> Result<BTreeMap<String, Operation>> {
    let mut all = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListOperationsRequest { page_size: 100, page_token, ..Default::default() };
        let page = at.operations().list_operations(request).await?.into_inner();
        for operation in page.operations {
            let name = operation.name.clone();
            ensure!(all.insert(name.clone(), operation).is_none(), "{name} twice in a list");
        }
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}
