//! How well what shall be on devices and what is there agree: the part of StateService that tells of it.

use std::time::Duration;

use hoist_domain::{
    DeviceId, DevicesPolicy, Error, Model, ModelId, Reason, ReplicaState, ResourceName, Result, SyncPace,
};
use hoist_planner::{Answer, State};
use hoist_wire::{decode, encode, residency as wire, v1};

use super::Api;
use super::call::Call;
use super::submit::message_hash;
use crate::control::Change;
use crate::residency::sync::{Subject, differences, subjects};

const WINDOW: Duration = Duration::from_secs(300);
const SHORTEST_WINDOW: Duration = Duration::from_secs(10);
const LONGEST_WINDOW: Duration = Duration::from_secs(3_600);
const LONGEST_VALIDATION: Duration = Duration::from_secs(60);

/// Between two looks whether both sides agree again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Models of one answer.
const MOST_MODELS: usize = 1_000;

/// What is asked about.
#[derive(Clone, Copy)]
enum About {
    All,
    Device(DeviceId),
    Model(ModelId),
}

impl About {
    fn covers(self, subject: Subject) -> bool {
        match self {
            Self::All => true,
            Self::Device(device) => subject.device() == device,
            Self::Model(model) => subject.model() == Some(model),
        }
    }
}

impl Api {
    async fn about(&self, name: &str) -> Result<About> {
        if name.is_empty() {
            return Ok(About::All);
        }
        // A model's name may look like a device's; whoever means the model says models/….
        if let Ok(Some(device)) = wire::read_device("name", name) {
            let view = self.control.view();
            return match view.state.devices().get(device) {
                Some(_) => Ok(About::Device(device)),
                None => {
                    Err(Error::new(Reason::ResourceNotFound, format!("no worker was heard of for {device}"))
                        .with("name", ResourceName::Device(device)))
                }
            };
        }
        self.named(name).await.map(|model: std::sync::Arc<Model>| About::Model(model.id))
    }

    pub(super) async fn sync_health(
        &self,
        call: &Call<v1::GetSyncHealthRequest>,
    ) -> Result<v1::GetSyncHealthResponse> {
        let bounds = SHORTEST_WINDOW..=LONGEST_WINDOW;
        let window =
            decode::bounded_duration("window", call.message.window.as_ref(), bounds)?.unwrap_or(WINDOW);
        let about = self.about(&call.message.name).await?;
        let view = self.control.view();
        let state = &view.state;
        self.sync.look(state, &self.fleet, &self.clock);
        let (mut devices, mut models) = (Vec::new(), Vec::new());
        for subject in subjects(state).into_iter().filter(|subject| about.covers(*subject)) {
            let health = self.health(state, subject, window);
            match subject {
                Subject::Device(_) => devices.push(health),
                Subject::Model(..) => models.push(health),
            }
        }
        let overall = overall(devices.iter().chain(&models));
        models.sort_by(|one, other| one.agreement.total_cmp(&other.agreement));
        models.truncate(MOST_MODELS);
        Ok(v1::GetSyncHealthResponse {
            request_id: call.id.to_string(),
            overall: Some(overall),
            devices,
            models,
            position: Some(encode::position(state.position())),
        })
    }

    fn health(&self, state: &State, subject: Subject, window: Duration) -> v1::SyncHealth {
        let standing = self.sync.ledger().standing(subject, window);
        let policy = state.devices().policy();
        let common = v1::SyncHealth {
            name: name(subject),
            device_id: subject.device().to_string(),
            agreement: standing.agreement(),
            looked_at: Some(encode::duration(standing.looked)),
            agrees: !standing.disagrees,
            differs_for: standing.difference.as_ref().map(|_| encode::duration(standing.differs_for)),
            difference: standing.difference.map(|difference| difference.message).unwrap_or_default(),
            ..Default::default()
        };
        match subject {
            Subject::Model(model, device) => {
                v1::SyncHealth { pace: pace(policy.pace_of_model(model, device)).into(), ..common }
            }
            Subject::Device(device) => {
                let (found, repaired) = state.residency().drift(device);
                let pulse = self.fleet.pulse(device);
                v1::SyncHealth {
                    pace: pace(policy.pace_of(device)).into(),
                    drift_found: found,
                    drift_repaired: repaired,
                    generation: state.residency().generation(device),
                    answered: pulse.as_ref().map_or(0, |pulse| pulse.answered),
                    staleness: pulse.map(|pulse| encode::duration(pulse.staleness)),
                    ..common
                }
            }
        }
    }

    pub(super) async fn sync_diagnosis(
        &self,
        call: &Call<v1::DiagnoseSyncRequest>,
    ) -> Result<v1::DiagnoseSyncResponse> {
        let about = self.about(&call.message.name).await?;
        let view = self.control.view();
        let devices = view.state.devices().iter().map(|device| device.id);
        let latencies = devices.filter(|device| about.covers(Subject::Device(*device)));
        let latencies = latencies.filter_map(|device| latency(device, self.fleet.pulse(device)?.latencies));
        let ledger = self.sync.ledger();
        let history = ledger.incidents().filter(|incident| about.covers(incident.subject));
        let history = history.map(|incident| v1::SyncIncident {
            name: name(incident.subject),
            device_id: incident.subject.device().to_string(),
            message: incident.message.clone(),
            start_time: Some(encode::timestamp(incident.began)),
            lasted: Some(encode::duration(incident.lasted)),
        });
        let history = history.collect();
        drop(ledger);
        Ok(v1::DiagnoseSyncResponse {
            request_id: call.id.to_string(),
            findings: self.findings(&view.state, about),
            latencies: latencies.collect(),
            history,
        })
    }

    /// What differs now, whatever the pace.
    fn findings(&self, state: &State, about: About) -> Vec<v1::SyncFinding> {
        let found = differences(state, |device| self.fleet.pulse(device));
        let found = found.into_iter().filter(|(subject, _)| about.covers(*subject));
        let mut findings: Vec<(Duration, v1::SyncFinding)> = found
            .map(|(subject, difference)| {
                let age = self.sync.ledger().standing(subject, WINDOW).differs_for;
                let finding = v1::SyncFinding {
                    name: name(subject),
                    device_id: subject.device().to_string(),
                    message: difference.message,
                    advice: difference.advice.to_owned(),
                    age: Some(encode::duration(age)),
                };
                (age, finding)
            })
            .collect();
        findings.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        let failed = state.residency().replicas().filter(|one| one.state == ReplicaState::Failed);
        let failed = failed.filter(|one| {
            about.covers(Subject::Device(one.device))
                || one.models.iter().any(|model| about.covers(Subject::Model(*model, one.device)))
        });
        let failed = failed.map(|one| v1::SyncFinding {
            name: ResourceName::Replica(one.id).to_string(),
            device_id: one.device.to_string(),
            message: one.failure.as_ref().map(ToString::to_string).unwrap_or_default(),
            advice: String::new(),
            age: None,
        });
        findings.into_iter().map(|(_, finding)| finding).chain(failed).collect()
    }

    pub(super) async fn sync_reset(
        &self,
        call: &Call<v1::ResetSyncRequest>,
    ) -> Result<v1::ResetSyncResponse> {
        let bounds = Duration::ZERO..=LONGEST_VALIDATION;
        let validate = decode::bounded_duration("validate_for", call.message.validate_for.as_ref(), bounds)?;
        let about = self.about(&call.message.name).await?;
        let reset = match about {
            About::All => self.fleet.reset(None),
            About::Device(device) => self.fleet.reset(Some(device)),
            About::Model(_) => Vec::new(),
        };
        self.loader.retry();
        let mut findings = Vec::new();
        if let Some(within) = validate {
            let until = self.clock.monotonic().saturating_add(within);
            loop {
                // What is reset answers with a new stream first.
                tokio::time::sleep(LOOK_EVERY).await;
                findings = self.findings(&self.control.view().state, about);
                let is_new = reset.iter().all(|(_, session)| !self.fleet.has_session(*session));
                if (is_new && findings.is_empty()) || self.clock.monotonic() >= until {
                    break;
                }
            }
        }
        Ok(v1::ResetSyncResponse {
            request_id: call.id.to_string(),
            device_ids: reset.iter().map(|(device, _)| device.to_string()).collect(),
            agrees: validate.is_some() && findings.is_empty(),
            findings,
        })
    }

    pub(super) async fn sync_configure(
        &self,
        call: &Call<v1::ConfigureSyncRequest>,
    ) -> Result<v1::ConfigureSyncResponse> {
        let message = &call.message;
        let content =
            message_hash(&v1::ConfigureSyncRequest { request_id: String::new(), ..message.clone() });
        let asked = decode::value("pace", message.pace, |pace| {
            Some(match pace {
                v1::SyncPace::Unspecified => None,
                v1::SyncPace::High => Some(SyncPace::High),
                v1::SyncPace::Standard => Some(SyncPace::Standard),
                v1::SyncPace::Background => Some(SyncPace::Background),
                v1::SyncPace::Idle => Some(SyncPace::Idle),
            })
        })?;
        // Also of a device that is not there, or not any more.
        let about = match wire::read_device("name", &message.name) {
            Ok(Some(device)) => About::Device(device),
            _ => self.about(&message.name).await?,
        };
        if matches!(about, About::All) && asked.is_none() {
            return Err(Error::invalid_field("pace", "is not set: HIGH, STANDARD, BACKGROUND or IDLE"));
        }
        let change = move |policy: &DevicesPolicy| {
            let mut policy = policy.clone();
            match (about, asked) {
                (About::All, pace) => policy.pace = pace.unwrap_or_default(),
                (About::Device(device), Some(pace)) => drop(policy.device_paces.insert(device, pace)),
                (About::Device(device), None) => drop(policy.device_paces.remove(&device)),
                (About::Model(model), Some(pace)) => drop(policy.model_paces.insert(model, pace)),
                (About::Model(model), None) => drop(policy.model_paces.remove(&model)),
            }
            Ok(policy)
        };
        if !matches!(self.repeated(call, content)?, Some(Answer::Done)) {
            self.control.set_devices_policy(call.key(), content, Change(Box::new(change))).await?;
        }
        let view = self.control.view();
        let policy = view.state.devices().policy();
        let now = match about {
            About::All => policy.pace,
            About::Device(device) => policy.pace_of(device),
            About::Model(model) => policy.model_paces.get(&model).copied().unwrap_or(policy.pace),
        };
        Ok(v1::ConfigureSyncResponse { request_id: call.id.to_string(), pace: pace(now).into() })
    }
}

fn name(subject: Subject) -> String {
    match subject {
        Subject::Device(device) => ResourceName::Device(device).to_string(),
        Subject::Model(model, _) => ResourceName::Model(model).to_string(),
    }
}

const fn pace(pace: SyncPace) -> v1::SyncPace {
    match pace {
        SyncPace::High => v1::SyncPace::High,
        SyncPace::Standard => v1::SyncPace::Standard,
        SyncPace::Background => v1::SyncPace::Background,
        SyncPace::Idle => v1::SyncPace::Idle,
    }
}

/// The mean of all, by the time that they were looked at.
fn overall<'a>(parts: impl Iterator<Item = &'a v1::SyncHealth> + Clone) -> v1::SyncHealth {
    let seconds = |one: &v1::SyncHealth| {
        one.looked_at.as_ref().map_or(0.0, |at| at.seconds as f64 + f64::from(at.nanos) / 1e9)
    };
    let looked: f64 = parts.clone().map(seconds).sum();
    let agreed: f64 = parts.clone().map(|one| one.agreement * seconds(one)).sum();
    let longest = parts.clone().filter_map(|one| one.looked_at).max_by_key(|at| (at.seconds, at.nanos));
    let differing: Vec<&v1::SyncHealth> = parts.clone().filter(|one| !one.difference.is_empty()).collect();
    v1::SyncHealth {
        name: ResourceName::Machine.to_string(),
        agreement: if looked > 0.0 { agreed / looked } else { 1.0 },
        looked_at: longest,
        agrees: parts.clone().all(|one| one.agrees),
        difference: match differing.as_slice() {
            [] => String::new(),
            [one] => one.difference.clone(),
            several => format!("{} of them differ", several.len()),
        },
        differs_for: differing
            .iter()
            .filter_map(|one| one.differs_for)
            .max_by_key(|at| (at.seconds, at.nanos)),
        drift_found: parts.clone().map(|one| one.drift_found).sum(),
        drift_repaired: parts.map(|one| one.drift_repaired).sum(),
        ..Default::default()
    }
}

/// None where nothing was measured.
fn latency(device: DeviceId, mut latencies: Vec<Duration>) -> Option<v1::SyncLatency> {
    let last = *latencies.last()?;
    latencies.sort_unstable();
    // So many of a hundred took no longer.
    let part = |percent: usize| latencies.get((latencies.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some(v1::SyncLatency {
        device_id: device.to_string(),
        answers: u32::try_from(latencies.len()).unwrap_or(u32::MAX),
        median: part(50).map(encode::duration),
        p99: part(99).map(encode::duration),
        last: Some(encode::duration(last)),
    })
}
