//! What differs between what shall be on devices and what is there, as of one state. Pure.

use std::collections::BTreeMap;

use hoist_domain::{DeviceId, ReplicaState, WorkerState, plural};
use hoist_planner::State;
use hoist_planner::residency::Want;

use super::Subject;
use crate::fleet::Pulse;

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of what exactly it is: another one is another difference, however it looks.
    pub of: u128,
    pub message: String,
    /// What to do about it; empty: nothing, it is being mended.
    pub advice: &'static str,
}

/// Everything that has two sides now.
#[must_use]
pub fn subjects(state: &State) -> Vec<Subject> {
    let devices = state.devices().iter().map(|device| Subject::Device(device.id));
    let models = state.residency().intents().map(|intent| Subject::Model(intent.model, intent.device));
    devices.chain(models).collect()
}

/// What differs, by subject.
#[must_use]
pub fn differences(
    state: &State,
    pulse: impl Fn(DeviceId) -> Option<Pulse>,
) -> BTreeMap<Subject, Difference> {
    let mut found = BTreeMap::new();
    for device in state.devices().iter() {
        if let Some(difference) = of_device(state, device, pulse(device.id)) {
            found.insert(Subject::Device(device.id), difference);
        }
    }
    let residency = state.residency();
    let is_open = |intent: &hoist_domain::Intent| residency.is_displaced(intent.device, intent.model);
    for intent in residency.intents().filter(|intent| !residency.is_met(intent) && !is_open(intent)) {
        let lacks: Vec<&str> = intent
            .parts
            .iter()
            .filter(|part| {
                let replica = residency.sharing(intent.device, part.digest, part.dtype);
                replica.is_none_or(|replica| replica.state != ReplicaState::Active)
            })
            .map(|part| &*part.component)
            .collect();
        let difference = Difference {
            of: 0,
            message: format!("{} shall be on {}, and is not there", lacks.join(", "), intent.device),
            advice: "it is loaded again as soon as its device serves; `hoist ops --all` shows the tries",
        };
        found.insert(Subject::Model(intent.model, intent.device), difference);
    }
    found
}

fn of_device(state: &State, device: &hoist_domain::Device, pulse: Option<Pulse>) -> Option<Difference> {
    let worker = &device.worker;
    let differs = |message: String, advice| Some(Difference { of: 0, message, advice });
    let problem = if worker.problem.is_empty() { String::new() } else { format!(": {}", worker.problem) };
    match worker.state {
        WorkerState::Active if !worker.problem.is_empty() => {
            return differs(worker.problem.clone(), "if it stays so, cancel what is loaded there");
        }
        WorkerState::Active => {}
        WorkerState::Suspect => {
            return differs(format!("its worker does not answer{problem}"), "");
        }
        WorkerState::Quarantined => {
            let advice = "mend what its last words name, and `hoist uncordon` it";
            return differs(format!("its worker has failed too often{problem}"), advice);
        }
        _ => return differs(format!("it has no worker that serves{problem}"), ""),
    }
    let residency = state.residency();
    let desired = residency.generation(device.id);
    let answered = pulse.map_or(0, |pulse| pulse.answered);
    if answered < desired {
        let message = format!("{desired} is desired of it, and {answered} was answered");
        // As long as it answers it is not behind, however fast things change.
        return Some(Difference { of: answered.into(), message, advice: "" });
    }
    let left: Vec<_> = residency.on(device.id).filter(|one| !residency.is_wanted(one.id)).collect();
    if let Some(first) = left.first() {
        let message = format!("{} there that nobody wants any more", plural(left.len() as u64, "replica"));
        return Some(Difference { of: first.id.0.as_u128(), message, advice: "" });
    }
    // Of what operations load, they tell.
    let is_kept = |id| residency.wants_of(id).any(|want| matches!(want, Want::Intent(_)));
    let failed =
        residency.on(device.id).filter(|one| one.state == ReplicaState::Failed && is_kept(one.id)).count();
    (failed > 0).then(|| Difference {
        of: 0,
        message: format!("{} failed", plural(failed as u64, "replica")),
        advice: "",
    })
}
