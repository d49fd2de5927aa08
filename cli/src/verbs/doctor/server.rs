//! Whether a server answers, and what it says is wrong. No server is no fault of the machine.

use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::Bytes;
use hoist_wire::v1;

use super::{Check, Verdict};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::output::{text, usage};
use crate::verbs::{Session, cache_state, status};

/// A server that is there answers at once; a doctor must not hang on one that is ill.
const PATIENCE: Duration = Duration::from_secs(3);

/// Less than this holds no model worth sharing.
const LITTLE: Bytes = Bytes::gib(1);

/// What was learnt from the server, if there is one.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) checks: Vec<Check>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) runtime_dir: Option<PathBuf>,
}

pub(super) async fn look(session: &Session) -> Looked {
    let mut looked = Looked { checks: Vec::new(), state_dir: None, runtime_dir: None };
    match Box::pin(ask(session)).await {
        Ok(Answers { status, config, cache, devices }) => {
            looked.checks = from_status(session, &status);
            looked.checks.push(from_cache(&cache));
            looked.checks.extend(devices.iter().map(from_device));
            looked.state_dir = path_setting(&config, "state_dir");
            looked.runtime_dir = path_setting(&config, "runtime_dir");
        }
        Err(error) => {
            let hint = match &error {
                Error::Told(told) => told.hint.clone().unwrap_or_default(),
                Error::Stdout(_) => String::new(),
            };
            looked.checks.push(Check::warn("server", error.message(), hint));
        }
    }
    looked
}

/// What it is asked for.
struct Answers {
    status: v1::Status,
    config: Vec<v1::ConfigEntry>,
    cache: v1::GetCacheResponse,
    devices: Vec<v1::Device>,
}

async fn ask(session: &Session) -> Result<Answers> {
    let client = Client::connect(&session.endpoint, session.timeout.unwrap_or(PATIENCE)).await?;
    let status = status::machine(&client).await?;
    let request = v1::GetConfigRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let config = client.call(Some(&id), client.admin().get_config(request)).await?;
    let request = v1::ListDevicesRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let devices = client.call(Some(&id), client.devices().list_devices(request)).await?.devices;
    Ok(Answers { status, config: config.entries, cache: cache_state::read(&client).await?, devices })
}

/// A device that the server drives, or should.
fn from_device(device: &v1::Device) -> Check {
    use v1::worker::State;
    const NAME: &str = "device";
    let (id, worker) = (text::one_line(&device.device_id), device.worker.clone().unwrap_or_default());
    let why = |words: &str| {
        let words = text::one_line(words);
        if words.is_empty() { String::new() } else { format!(": {words}") }
    };
    match worker.state() {
        State::Quarantined => Check::fail(
            NAME,
            format!("{id} is given up{}", why(&worker.problem)),
            format!("mend what it names, then `hoist uncordon {id}` starts its worker once more"),
        ),
        State::Lost => Check::warn(
            NAME,
            format!("the worker of {id} is not there{}", why(&worker.problem)),
            format!("`hoist devices {id}` tells whether it comes back"),
        ),
        _ if !device.problem.is_empty() => Check::fail(
            NAME,
            format!("{id}{}", why(&device.problem)),
            "it takes nothing new until that is over",
        ),
        state => {
            let state = text::worker_state(state.into());
            Check::ok(
                NAME,
                format!(
                    "{id}: {} of {}, {state}",
                    Bytes(device.capacity_bytes),
                    text::one_line(&device.model)
                ),
            )
        }
    }
}

/// How much room there is for weights. That there is none at all is a condition of the server's, which says why.
fn from_cache(cache: &v1::GetCacheResponse) -> Check {
    const NAME: &str = "cache";
    if cache.directory.is_empty() {
        return Check::warn(NAME, "there is no place for weights in RAM", "see the server's conditions");
    }
    let (used, budget) = (Bytes(cache.used_bytes), Bytes(cache.budget_bytes));
    let limit = usage::limit_words(&cache.budget_limit);
    let found = format!("{used} of {budget} used ({limit}), in {}", cache.directory);
    if budget < LITTLE {
        let advice = "give it more: `hoist cache-policy --budget`, more memory, or a larger tmpfs";
        return Check::warn(NAME, found, advice);
    }
    Check::ok(NAME, found)
}

fn from_status(session: &Session, status: &v1::Status) -> Vec<Check> {
    use v1::resource::Value as Kind;
    const NAME: &str = "server";
    let mut checks = vec![match status.resource.as_ref().and_then(|resource| resource.value.as_ref()) {
        Some(Kind::Machine(machine)) => {
            let state = text::machine_state(machine.state);
            let found = format!("{state} at {}, version {}", session.endpoint, machine.version);
            if machine.version == env!("CARGO_PKG_VERSION") {
                Check::ok(NAME, found)
            } else {
                let advice =
                    format!("this hoist is {}: install the same release of both", env!("CARGO_PKG_VERSION"));
                Check::warn(NAME, found, advice)
            }
        }
        _ => Check::warn(NAME, format!("something answers at {}", session.endpoint), "see what it is"),
    }];
    checks.extend(status.machine.iter().flat_map(|machine| &machine.conditions).map(condition));
    checks
}

fn condition(condition: &v1::Condition) -> Check {
    let verdict = match v1::condition::Severity::try_from(condition.severity) {
        Ok(v1::condition::Severity::Info) => Verdict::Ok,
        Ok(v1::condition::Severity::Error) => Verdict::Fail,
        // A severity that this client does not know is worth a look.
        Ok(v1::condition::Severity::Warning | v1::condition::Severity::Unspecified) | Err(_) => Verdict::Warn,
    };
    Check {
        name: "server_condition",
        verdict,
        found: format!("{}: {}", condition.kind, condition.message),
        advice: condition.advice.clone(),
    }
}

/// A setting as it would be written in the file, where a path stands in quotes.
fn path_setting(config: &[v1::ConfigEntry], key: &str) -> Option<PathBuf> {
    let value = config.iter().find(|entry| entry.key == key)?.value.trim_matches(['"', '\'']);
    value.starts_with('/').then(|| PathBuf::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_given_up_or_unwell_is_a_fault_with_what_to_do() {
        let device = |state: v1::worker::State, problem: &str| v1::Device {
            device_id: "cuda:1".to_owned(),
            problem: problem.to_owned(),
            worker: Some(v1::Worker {
                state: state.into(),
                problem: "no card".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let given_up = from_device(&device(v1::worker::State::Quarantined, ""));
        assert_eq!(given_up.verdict, Verdict::Fail);
        assert!(
            given_up.found.contains("no card") && given_up.advice.contains("hoist uncordon cuda:1"),
            "{given_up:?}"
        );
        assert_eq!(from_device(&device(v1::worker::State::Lost, "")).verdict, Verdict::Warn);
        let unwell = from_device(&device(v1::worker::State::Active, "reset it"));
        assert!(unwell.verdict == Verdict::Fail && unwell.found.contains("reset it"), "{unwell:?}");
        assert_eq!(from_device(&device(v1::worker::State::Active, "")).verdict, Verdict::Ok);
    }
}
