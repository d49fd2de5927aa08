//! A lease on a device: the model is loaded there if it is not, its replicas are held, and their memory is handed out by the worker.

use std::collections::BTreeMap;
use std::time::Duration;

use hoist_domain::{
    Bytes, DeviceId, Error, Lease, LeaseId, LeaseState, LeasedOn, LoadReport, LoadSpec, Model, ModelPart,
    OperationOutput, Placement, Reason, ReplicaId, ResourceName, Result, Work,
};
use hoist_planner::cache::{LEASE_GRACE, LeaseAsk};
use hoist_planner::residency::must_exist;
use hoist_wire::v1::acquire_response::Event;
use hoist_wire::{cache as cached, encode, residency as wire, v1};
use tracing::info;
use uuid::Uuid;

use super::acquiring::{TRIES, has_ended};
use super::cache::components;
use super::holding::{Held, Holding};
use crate::cache::has_components;
use crate::fleet::fresh_token;

/// What is handed out of each replica.
pub(super) type Shares = BTreeMap<ReplicaId, v1::DeviceShare>;

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
            parts: vec![ModelPart { model: model.id, components: names }],
            placement: Placement::On(device),
            dtype,
            priority: self.api.priority_of(first.priority, &model)?,
            validate: false,
            allow: cached::read_allowed(&first.allow)?,
            force: false,
            restores: Vec::new(),
        };
        for _ in 0..TRIES {
            let Some(report) = self.loaded(spec.clone(), deadline).await? else { continue };
            let lease = self.lease_on(&model, &report, &first.holder);
            // Before the grant: nobody ends it unheard, and no kill loses it.
            self.api.cache.keep_lease(&lease)?;
            let held = Held::of(&self.api, lease.id, lease.process);
            let ask = LeaseAsk { lease: lease.clone(), priority: spec.priority, is_use: false };
            if self.api.control.grant(ask).await? {
                // If that fails, the lease ends with `held`.
                let shares = self.shares(device, &lease).await?;
                info!(lease = %held.id, model = %model.id, %device, principal = %self.caller.principal, "lease granted");
                let view = self.api.control.view();
                let lease = view.state.cache().lease(held.id).ok_or_else(|| has_ended(held.id))?;
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

    async fn loaded(&self, spec: LoadSpec, deadline: Duration) -> Result<Option<LoadReport>> {
        match self.carried_out(Work::LoadModel(spec), deadline).await? {
            Some(OperationOutput::LoadModel(report)) => Ok(Some(*report)),
            Some(_) => Err(Error::new(Reason::Internal, "the load has another result; report this")),
            None => Ok(None),
        }
    }

    fn lease_on(&self, model: &Model, report: &LoadReport, holder: &str) -> Lease {
        let components = &report.components;
        Lease {
            id: LeaseId(Uuid::now_v7()),
            state: LeaseState::Held,
            model: model.id,
            components: components.iter().map(|one| (one.name.clone(), one.digest)).collect(),
            on: Some(LeasedOn {
                device: report.device,
                replicas: components.iter().map(|one| one.replica).collect(),
            }),
            bytes: Bytes(0),
            holder: self.holder(holder),
            principal: self.caller.principal.clone(),
            process: self.caller.process,
            granted_at: self.api.clock.wall(),
        }
    }

    /// A token for each replica, and where it is said.
    async fn shares(&self, device: DeviceId, lease: &Lease) -> Result<Shares> {
        let mut shares = Shares::new();
        for id in lease.replicas() {
            let token = fresh_token();
            let shared = self.api.fleet.share(device, id, token).await?;
            let share = v1::DeviceShare {
                replica: ResourceName::Replica(id).to_string(),
                socket: shared.socket,
                token: token.to_vec(),
                size_bytes: shared.size_bytes,
            };
            shares.insert(id, share);
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
        for ((name, digest), id) in lease.components.iter().zip(replicas) {
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
                share: shares.get(id).cloned(),
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
