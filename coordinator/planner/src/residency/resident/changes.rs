//! What each event does to what is on devices. Called by `State::apply` alone; an event that contradicts what is there stops
//! the process.

use std::sync::Arc;

use hoist_domain::{
    DeviceId, Intent, Lifecycle, ModelId, OperationId, Position, Priority, Replica, ReplicaId, ReplicaState,
};

use super::{Account, Loading, MOST_ACCOUNTS, Residency, Want};
use crate::state::{Stamped, legal};

/// Each function is the whole of one event.
impl Residency {
    /// Nobody wants it yet.
    pub(crate) fn place(&mut self, position: Position, replica: &Arc<Replica>) {
        assert!(self.replica(replica.id).is_none(), "replica {} is placed twice", replica.id);
        assert!(replica.models.is_empty(), "replica {} is placed for somebody", replica.id);
        self.on_device.insert((replica.device, replica.id));
        self.replicas.insert(replica.id, Stamped { position, value: Arc::clone(replica) });
        self.left_at.insert((replica.device, replica.id), self.generation(replica.device));
        self.drifted.insert(replica.id);
    }

    pub(crate) fn want(&mut self, position: Position, id: ReplicaId, by: Want, priority: Priority) {
        let known = self.known(id);
        let is_first = !self.is_wanted(id);
        let may_be_wanted =
            matches!(known.state, ReplicaState::Waiting | ReplicaState::Loading | ReplicaState::Active);
        assert!(may_be_wanted, "replica {id} is wanted though it is {:?}", known.state);
        self.wants.insert((id, by));
        self.wanted_by.insert((by, id));
        let mut changed = Replica::clone(&known);
        changed.models.insert(by.model());
        changed.priority = if is_first { priority } else { changed.priority.max(priority) };
        if is_first {
            let content = (known.device, known.digest, known.dtype);
            let other = self.shared.insert(content, id);
            assert!(other.is_none(), "replicas {id} and {other:?} have one content");
            self.left_at.remove(&(known.device, id));
            self.drifted.remove(&id);
        }
        if is_first || changed.priority != known.priority {
            self.raise(known.device);
        }
        if let Want::Intent(model) = by {
            self.look_at_intent(known.device, model);
        }
        self.put(position, &known, changed);
    }

    pub(crate) fn unwant(&mut self, position: Position, id: ReplicaId, by: Want) {
        let known = self.known(id);
        self.wants.remove(&(id, by));
        self.wanted_by.remove(&(by, id));
        let mut changed = Replica::clone(&known);
        changed.models = self.wants_of(id).map(Want::model).collect();
        if changed.models.is_empty() {
            self.share_no_more(&known);
            self.raise(known.device);
            self.left_at.insert((known.device, id), self.generation(known.device));
            if known.state == ReplicaState::Active {
                changed.state = legal(known.state.to(ReplicaState::Unloading));
            }
        }
        if let Want::Intent(model) = by {
            self.look_at_intent(known.device, model);
        }
        self.put(position, &known, changed);
    }

    /// It is as it is given here in full.
    pub(crate) fn change(&mut self, position: Position, replica: &Arc<Replica>) {
        let known = self.known(replica.id);
        let is_same =
            (known.device, known.digest, known.dtype) == (replica.device, replica.digest, replica.dtype);
        assert!(is_same, "replica {} has become another one", replica.id);
        if matches!(replica.state, ReplicaState::Failed | ReplicaState::Unloading) {
            self.share_no_more(&known);
        }
        self.put(position, &known, Replica::clone(replica));
    }

    pub(crate) fn gone(&mut self, id: ReplicaId, account: Option<Account>) {
        let known = self.known(id);
        let wants: Vec<Want> = self.wants_of(id).collect();
        for want in &wants {
            self.wants.remove(&(id, *want));
            self.wanted_by.remove(&(*want, id));
        }
        self.share_no_more(&known);
        self.left_at.remove(&(known.device, id));
        if self.drifted.remove(&id).is_some() {
            *self.repaired.entry(known.device).or_default() += 1;
        }
        self.on_device.remove(&(known.device, id));
        self.replicas.remove(&id);
        if !wants.is_empty() {
            self.raise(known.device);
        }
        for want in wants {
            if let Want::Intent(model) = want {
                self.look_at_intent(known.device, model);
            }
        }
        if let Some(account) = account {
            self.remember(id, account);
        }
    }

    fn remember(&mut self, id: ReplicaId, account: Account) {
        let number = self.accounts_by_age.get_max().map_or(0, |(last, _)| last + 1);
        self.accounts.insert(id, account);
        self.accounts_by_age.insert(number, id);
        if self.accounts_by_age.len() > MOST_ACCOUNTS
            && let Some((oldest, id)) = self.accounts_by_age.get_min().copied()
        {
            self.accounts_by_age.remove(&oldest);
            self.accounts.remove(&id);
        }
    }

    pub(crate) fn record(&mut self, position: Position, intent: &Arc<Intent>) {
        let key = (intent.device, intent.model);
        self.intents.insert(key, Stamped { position, value: Arc::clone(intent) });
        self.look_at_intent(intent.device, intent.model);
    }

    pub(crate) fn retract(&mut self, device: DeviceId, model: ModelId) {
        self.intents.remove(&(device, model));
        self.unmet.remove(&(device, model));
    }

    pub(crate) fn admit(&mut self, id: OperationId, loading: &Arc<Loading>) {
        self.loads.insert(id, Arc::clone(loading));
    }

    /// An operation has ended: nothing is reserved for it any more. What it wanted was given up before.
    pub(crate) fn end_operation(&mut self, id: OperationId) {
        let left = self.wanted_by_operation(id).next();
        assert!(left.is_none(), "operation {id} has ended and wants {left:?}");
        self.loads.remove(&id);
    }

    fn known(&self, id: ReplicaId) -> Arc<Replica> {
        let known = self.replica(id).cloned();
        #[expect(clippy::expect_used, reason = "see `State::apply` on why this stops the process")]
        known.expect("an event names a replica that does not exist")
    }

    fn put(&mut self, position: Position, before: &Replica, after: Replica) {
        // Said again unchanged, it changes nothing.
        if *before != after {
            self.replicas.insert(after.id, Stamped { position, value: Arc::new(after) });
        }
    }

    fn share_no_more(&mut self, replica: &Replica) {
        let content = (replica.device, replica.digest, replica.dtype);
        if self.shared.get(&content) == Some(&replica.id) {
            self.shared.remove(&content);
        }
    }

    pub(crate) fn raise(&mut self, device: DeviceId) {
        *self.generations.entry(device).or_default() += 1;
    }

    /// Whether all that it names is wanted on its account.
    fn look_at_intent(&mut self, device: DeviceId, model: ModelId) {
        let Some(intent) = self.intent(device, model) else { return };
        let is_met = intent.parts.iter().all(|part| {
            let shared = self.shared.get(&(device, part.digest, part.dtype));
            shared.is_some_and(|id| self.wants.contains(&(*id, Want::Intent(model))))
        });
        if is_met {
            self.unmet.remove(&(device, model));
        } else {
            self.unmet.insert((device, model));
        }
    }
}
