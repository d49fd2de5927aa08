//! `hoist cache-policy`: how memory is used, of the whole cache or of one model.

use hoist_domain::Bytes;
use hoist_wire::{encode, v1};
use prost_types::FieldMask;
use serde_json::Value;

use crate::args::{Budget, IdleTtl, PolicyArgs, PolicyPriority};
use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::{set, time};
use crate::output::{Out, Tone, model, model_page, text, usage};
use crate::verbs::{Session, cache_state, show};

pub(crate) async fn run(session: &Session, args: &PolicyArgs) -> Result<Exit> {
    let (policy, paths) = changes(args)?;
    if args.name.is_none() && paths.is_empty() {
        return cache_state::show(session).await;
    }
    let client = session.connect().await?;
    let Some(written) = &args.name else {
        let answer = update(&client, String::new(), policy, paths).await?;
        if let Some(asked) = policy.budget_bytes {
            warn_of_less(session.out, asked, &cache_state::read(&client).await?);
        }
        return told(session.out, &answer);
    };
    let mut of_model = show::catalogued(&client, written).await?;
    if !paths.is_empty() {
        update(&client, of_model.name.clone(), policy, paths).await?;
        of_model = show::catalogued(&client, &of_model.name).await?;
    }
    print_model(session.out, &of_model)?;
    Ok(Exit::Done)
}

/// A budget beyond what there is promises nothing.
fn warn_of_less(out: Out, asked: u64, it: &v1::GetCacheResponse) {
    if it.budget_bytes < asked {
        let (asked, in_force) = (Bytes(asked), Bytes(it.budget_bytes));
        let why = usage::limit_words(&it.budget_limit);
        out.say(format_args!("warning: {asked} is more than there can be: {in_force} are in force, {why}"));
    }
}

/// The policy and the mask that the flags come to.
fn changes(args: &PolicyArgs) -> Result<(v1::CachePolicy, Vec<String>)> {
    let (mut policy, mut paths) = (v1::CachePolicy::default(), Vec::new());
    if let Some(budget) = args.budget {
        paths.push("budget_bytes".to_owned());
        policy.budget_bytes = match budget {
            Budget::Auto => None,
            Budget::Of(bytes) => Some(bytes.0),
        };
    }
    if let Some(eviction) = args.eviction {
        paths.push("eviction".to_owned());
        policy.eviction = v1::EvictionPolicy::from(eviction).into();
    }
    if let Some(ttl) = args.idle_ttl {
        paths.push("idle_ttl".to_owned());
        policy.idle_ttl = match (ttl, &args.name) {
            (IdleTtl::Of(time), _) => Some(encode::duration(time)),
            // A model that has none of its own has the cache's.
            (IdleTtl::Never, Some(name)) => {
                return Err(Error::usage(
                    "of one model, `never` is a pin",
                    Some(&format!("`hoist pin {name}`; or give a time, or `default` for the cache's own")),
                ));
            }
            (IdleTtl::Never | IdleTtl::Default, _) => None,
        };
    }
    if let Some(priority) = args.priority {
        paths.push("priority".to_owned());
        policy.priority = match priority {
            PolicyPriority::Default => v1::Priority::Unspecified.into(),
            PolicyPriority::Of(priority) => v1::Priority::from(priority).into(),
        };
    }
    Ok((policy, paths))
}

async fn update(
    client: &Client,
    name: String,
    policy: v1::CachePolicy,
    paths: Vec<String>,
) -> Result<v1::UpdateCachePolicyResponse> {
    let request = v1::UpdateCachePolicyRequest {
        request_id: request_id(),
        name,
        policy: Some(policy),
        update_mask: Some(FieldMask { paths }),
    };
    let id = request.request_id.clone();
    client.call(Some(&id), client.cache().update_cache_policy(request)).await
}

fn told(out: Out, answer: &v1::UpdateCachePolicyResponse) -> Result<Exit> {
    let policy = answer.policy.ok_or_else(|| Error::unreadable("the policy"))?;
    if out.json {
        let mut value = usage::policy_value(&policy);
        set(&mut value, "update_time", time(answer.update_time.as_ref()));
        out.value(&value)?;
    } else {
        usage::print_policy(out, &policy)?;
    }
    Ok(Exit::Done)
}

fn config_of(it: &v1::Model) -> v1::ModelConfig {
    it.notes.clone().and_then(|notes| notes.config).unwrap_or_default()
}

fn print_model(out: Out, it: &v1::Model) -> Result<()> {
    let config = config_of(it);
    if out.json {
        return out.value(&model_value(it, &config));
    }
    out.line(out.toned(Tone::Strong, &text::one_line(&it.display_name)))?;
    let own = model_page::in_ram(&config, &[], 0);
    out.row("in RAM", if own.is_empty() { "as the cache's policy says" } else { &own })
}

fn model_value(it: &v1::Model, config: &v1::ModelConfig) -> Value {
    let mut value = model::cache_config(config);
    set(&mut value, "id", it.name.as_str().into());
    set(&mut value, "name", it.display_name.as_str().into());
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Verb, parse};

    fn changed(line: &str) -> Result<(v1::CachePolicy, Vec<String>)> {
        match parse(line.split(' ').map(Into::into)).unwrap().verb {
            Verb::CachePolicy(args) => changes(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_names_only_what_it_changes_and_a_default_is_named_and_unset() {
        let (policy, paths) = changed("hoist cache-policy --budget 1GiB --priority high").unwrap();
        assert_eq!(paths, ["budget_bytes", "priority"]);
        assert_eq!((policy.budget_bytes, policy.priority()), (Some(1 << 30), v1::Priority::High));
        let line = "hoist cache-policy --budget auto --idle-ttl never --priority default --eviction lru";
        let (policy, paths) = changed(line).unwrap();
        assert_eq!(paths, ["budget_bytes", "eviction", "idle_ttl", "priority"]);
        let lru = v1::EvictionPolicy::Lru.into();
        assert_eq!(policy, v1::CachePolicy { eviction: lru, ..Default::default() });
        assert!(changed("hoist cache-policy x").unwrap().1.is_empty());
    }

    #[test]
    fn of_a_model_never_is_a_pin() {
        let error = changed("hoist cache-policy x --idle-ttl never").unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        let (policy, paths) = changed("hoist cache-policy x --idle-ttl default").unwrap();
        assert_eq!((policy.idle_ttl, paths), (None, vec!["idle_ttl".to_owned()]));
        let (policy, _) = changed("hoist cache-policy x --idle-ttl 1m").unwrap();
        assert_eq!(policy.idle_ttl.map(|it| it.seconds), Some(60));
    }
}
