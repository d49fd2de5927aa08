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
        Ok((status, config, cache)) => {
            looked.checks = from_status(session, &status);
            looked.checks.push(from_cache(&cache));
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

async fn ask(session: &Session) -> Result<(v1::Status, Vec<v1::ConfigEntry>, v1::GetCacheResponse)> {
    let client = Client::connect(&session.endpoint, session.timeout.unwrap_or(PATIENCE)).await?;
    let status = status::machine(&client).await?;
    let request = v1::GetConfigRequest { request_id: request_id() };
    let id = request.request_id.clone();
    let config = client.call(Some(&id), client.admin().get_config(request)).await?;
    Ok((status, config.entries, cache_state::read(&client).await?))
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
