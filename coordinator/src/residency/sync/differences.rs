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
    for intent in residency.intents().filter(|intent| !residency.is_met(intent)) {
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
            message: format!("{} shall be on {}, and is not there", lacks.join(", "), intent.device),
            advice: "it is loaded again as soon as its device serves; `hoist ops --all` shows the tries",
        };
        found.insert(Subject::Model(intent.model, intent.device), difference);
    }
    found
}

fn of_device(state: &State, device: &hoist_domain::Device, pulse: Option<Pulse>) -> Option<Difference> {
    let worker = &device.worker;
    let differs = |message: String, advice| Some(Difference { message, advice });
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
        return differs(format!("{desired} is desired of it, and {answered} was answered"), "");
    }
    let left = residency.on(device.id).filter(|one| !residency.is_wanted(one.id)).count();
    if left > 0 {
        return differs(format!("{} there that nobody wants any more", plural(left as u64, "replica")), "");
    }
    // Of what operations load, they tell.
    let is_kept = |id| residency.wants_of(id).any(|want| matches!(want, Want::Intent(_)));
    let failed =
        residency.on(device.id).filter(|one| one.state == ReplicaState::Failed && is_kept(one.id)).count();
    (failed > 0)
        .then(|| Difference { message: format!("{} failed", plural(failed as u64, "replica")), advice: "" })
}
