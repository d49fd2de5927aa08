//! A lease on a device: the model is loaded there if it is not there already, its replicas are held, and their memory is handed out by the worker.

use std::time::Duration;

use hoist_domain::{
    Bytes, DeviceId, Error, Lease, LeaseId, LeaseState, LeasedOn, LoadSpec, LoadedComponent, Model,
    ModelPart, OperationOutput, Placement, Reason, ReplicaId, ResourceName, Result, Verdict, Work,
};
use hoist_planner::cache::{LEASE_GRACE, LeaseAsk};
use hoist_planner::residency::{Holdable, holdable, must_exist};
use hoist_wire::v1::acquire_response::Event;
use hoist_wire::{cache as cached, encode, residency as wire, v1};
use tracing::info;
use uuid::Uuid;

use super::acquiring::{TRIES, has_ended};
use super::cache::components;
use super::holding::{Held, Holding};
use crate::cache::has_components;
use crate::fleet::{ShareToken, fresh_token};

/// What is handed out for each component, in their order: two that are equal have one replica, and a token each.
pub(super) type Shares = Vec<v1::DeviceShare>;

impl Holding {
    /// A new lease on what is on a device, or will be.
    pub(super) async fn grant_on(
        &self,
        device: DeviceId,
        first: &v1::AcquireRequest,
        deadline: Duration,
    ) -> Result<Held> {
        let view = self.api.control.view();
        must_exist(&view.state, Placement::On(device))?;
        let dtype = wire::read_dtype("dtype", &first.dtype)?;
        let facts = view.state.devices().get(device).and_then(|device| device.facts.as_ref());
        if facts.is_some_and(|facts| facts.maps_segments) {
            // What is there is its segment.
            return match dtype {
                None => self.grant(first, deadline).await,
                Some(_) => Err(Error::invalid_field(
                    "dtype",
                    format!("is not for {device}: what is held there is RAM"),
                )),
            };
        }
        let names = components(&first.components)?;
        let model = self.api.named(&first.name).await?;
        has_components(model.name(), &model.content.components, &names)?;
        let spec = LoadSpec {
            parts: vec![ModelPart { model: model.id, components: names.clone() }],
            placement: Placement::On(device),
            dtype,
            priority: self.api.priority_of(first.priority, &model)?,
            validate: false,
            allow: cached::read_allowed(&first.allow)?,
            force: false,
            restores: Vec::new(),
        };
        let is_allowed = model.verdict() <= Verdict::Suspicious || spec.allow.contains(&model.verdict());
        // What the disk has by now may be something else: the catalog looks only now and then.
        let may_be_there = is_allowed && self.api.catalog.is_as_recorded(&model).await;
        for _ in 0..TRIES {
            let view = self.api.control.view();
            let asked = (names.as_slice(), dtype);
            let there = holdable(&view.state, device, model.id, asked);
            let held = match there.filter(|_| may_be_there) {
                Some(there) => there,
                None => match self.loaded(spec.clone(), deadline).await? {
                    Some(loaded) => loaded,
                    None => continue,
                },
            };
            let lease = self.lease_on(&model, device, held, &first.holder);
            // Before the grant: nobody ends it unheard, and no kill loses it.
            self.api.cache.keep_lease(&lease)?;
            let mut held = Held::of(&self.api, lease.id, lease.process);
            let ask = LeaseAsk { lease: lease.clone(), priority: spec.priority, is_use: false };
            if self.api.control.grant(ask).await? {
                // If that fails, the lease ends with `held`.
                let tokens: Vec<ShareToken> = replicas_of(&lease).map(|_| fresh_token()).collect();
                held.lets_say(device, tokens.clone());
                let shares = self.shares(device, &lease, tokens).await;
                let view = self.api.control.view();
                // It may have been revoked meanwhile, and what it was on with it.
                let lease = view.state.cache().lease(held.id).ok_or_else(|| has_ended(held.id))?;
                let shares = shares?;
                info!(lease = %held.id, model = %model.id, %device, principal = %self.caller.principal, "lease granted");
                self.tell_granted_on(lease, Some(&model), &shares).await?;
                return Ok(held);
            }
        }
        let message = format!(
            "{} is unloaded from {device} again as fast as it is loaded: give it a higher priority",
            model.name()
        );
        Err(Error::new(Reason::VramExhausted, message).with("model", ResourceName::Model(model.id)))
    }

    async fn loaded(&self, spec: LoadSpec, deadline: Duration) -> Result<Option<Vec<Holdable>>> {
        match self.carried_out(Work::LoadModel(spec), deadline).await? {
            Some(OperationOutput::LoadModel(report)) => {
                let holdable = |LoadedComponent { name: component, digest, replica, .. }| Holdable {
                    component,
                    digest,
                    replica,
                };
                Ok(Some(report.components.into_iter().map(holdable).collect()))
            }
            Some(_) => Err(Error::new(Reason::Internal, "the load has another result; report this")),
            None => Ok(None),
        }
    }

    fn lease_on(&self, model: &Model, device: DeviceId, held: Vec<Holdable>, holder: &str) -> Lease {
        let replicas = held.iter().map(|one| one.replica).collect();
        Lease {
            id: LeaseId(Uuid::now_v7()),
            state: LeaseState::Held,
            model: model.id,
            components: held.into_iter().map(|one| (one.component, one.digest)).collect(),
            on: Some(LeasedOn { device, replicas }),
            bytes: Bytes(0),
            holder: self.holder(holder),
            principal: self.caller.principal.clone(),
            process: self.caller.process,
            granted_at: self.api.clock.wall(),
        }
    }

    /// Each component's token, and where it is said.
    async fn shares(&self, device: DeviceId, lease: &Lease, tokens: Vec<ShareToken>) -> Result<Shares> {
        let mut shares = Shares::new();
        for (id, token) in replicas_of(lease).zip(tokens) {
            let shared = self.api.fleet.share(device, id, token).await?;
            let share = v1::DeviceShare {
                replica: ResourceName::Replica(id).to_string(),
                socket: shared.socket,
                token: token.to_vec(),
                size_bytes: shared.size_bytes,
            };
            shares.push(share);
        }
        Ok(shares)
    }

    /// Tells of a lease on a device; of what is not among the shares only that it is held.
    pub(super) async fn tell_granted_on(
        &self,
        lease: &Lease,
        model: Option<&Model>,
        shares: &Shares,
    ) -> Result<()> {
        let view = self.api.control.view();
        let replicas = lease.on.iter().flat_map(|on| &on.replicas);
        let mut leased = Vec::new();
        for (nth, ((name, digest), id)) in lease.components.iter().zip(replicas).enumerate() {
            let replica = view.state.residency().replica(*id).ok_or_else(|| has_ended(lease.id))?;
            let known =
                model.and_then(|model| model.content.components.iter().find(|known| known.name == *name));
            leased.push(v1::LeasedComponent {
                component: Some(v1::CachedComponent {
                    component: name.to_string(),
                    segment: cached::segment_name(*digest),
                    prefix: known.map(|known| known.prefix.to_string()).unwrap_or_default(),
                    size_bytes: replica.charge().0,
                    ..v1::CachedComponent::default()
                }),
                r#type: known.map(|known| known.component_type.to_string()).unwrap_or_default(),
                share: shares.get(nth).cloned(),
                ..v1::LeasedComponent::default()
            });
        }
        let granted = v1::Granted {
            lease: Some(cached::lease(lease)),
            components: leased,
            grace: Some(encode::duration(LEASE_GRACE)),
        };
        self.tell(Event::Granted(granted)).await;
        Ok(())
    }
}

/// Of each component, in their order.
fn replicas_of(lease: &Lease) -> impl Iterator<Item = ReplicaId> {
    lease.on.iter().flat_map(|on| on.replicas.iter().copied())
}
