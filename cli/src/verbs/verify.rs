//! `hoist verify`: whether what is on devices is what is in RAM, byte for byte.

use std::time::Duration;

use hoist_wire::v1;
use hoist_wire::v1::verified_replica::Verdict;
use serde_json::{Value, json};

use crate::args::VerifyArgs;
use crate::client::request_id;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::called::Parts;
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Out, Tone, text};
use crate::verbs::{Session, names, names_of, replicas};

/// It takes as long as its bytes do, and others' before it.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// What differs, here or in RAM, is a fault that was found; of what nobody could compare nothing is known, which is no success.
pub(crate) async fn run(session: &Session, args: &VerifyArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::VerifyReplicasRequest {
        request_id: request_id(),
        name: names::model(&args.name)?,
        device_id: args.device.clone().unwrap_or_default(),
    };
    let id = request.request_id.clone();
    let told = client.call_within(PATIENCE, Some(&id), client.residency().verify_replicas(request)).await?;
    let out = session.out;
    if out.json {
        out.value(&told.replicas.iter().map(value).collect::<Value>())?;
    } else {
        let replicas = replicas::pages(&client, "", &names::model(&args.name)?).await?;
        let models = replicas.iter().flat_map(|it| &it.models).map(String::as_str);
        print(out, &told.replicas, &Parts::of(&names_of::models(&client, models).await?))?;
    }
    Ok(exit(&told.replicas))
}

fn exit(replicas: &[v1::VerifiedReplica]) -> Exit {
    let is = |it: &v1::VerifiedReplica, verdicts: &[Verdict]| verdicts.contains(&it.verdict());
    if replicas.iter().any(|it| is(it, &[Verdict::Different, Verdict::SegmentDamaged])) {
        Exit::Failed
    } else if replicas.iter().all(|it| is(it, &[Verdict::Equal])) {
        Exit::Done
    } else {
        Exit::Refused
    }
}

const fn words(verdict: Verdict) -> (Tone, &'static str) {
    match verdict {
        Verdict::Equal => (Tone::Good, "equal"),
        Verdict::Different => (Tone::Bad, "different"),
        Verdict::NotCompared => (Tone::Warning, "not_compared"),
        Verdict::SegmentDamaged => (Tone::Bad, "segment_damaged"),
        Verdict::Unspecified => (Tone::Plain, "unknown"),
    }
}

fn value(it: &v1::VerifiedReplica) -> Value {
    json!({
        "replica": it.replica,
        "device_id": it.device_id,
        "segment": it.segment,
        "models": it.models,
        "verdict": words(it.verdict()).1,
        "tensors": it.tensors,
        "wrong": it.wrong,
        "wrong_count": it.wrong_count,
        "reason": Some(&it.reason).filter(|reason| !reason.is_empty()),
    })
}

fn print(out: Out, replicas: &[v1::VerifiedReplica], parts: &Parts) -> Result<()> {
    let mut table = Table::new(["COMPONENT", "DEVICE", "VERDICT", "TENSORS", "WHY"]).with_last_whole();
    for it in replicas {
        let (tone, verdict) = words(it.verdict());
        let why = match it.wrong_count {
            0 => it.reason.clone(),
            1 => format!("1 tensor differs: {}", it.wrong.join(", ")),
            count => format!("{count} tensors differ: {}", it.wrong.join(", ")),
        };
        table.row([
            parts.content(&it.segment).into(),
            text::one_line(&it.device_id).into(),
            Toned(tone, verdict.replace('_', " ")),
            it.tensors.to_string().into(),
            text::one_line(&why).into(),
        ]);
    }
    table.print(out)?;
    let count = |verdict| replicas.iter().filter(|it| it.verdict() == verdict).count();
    let equal = count(Verdict::Equal);
    out.note(format!("{equal} of {} equal to what is in RAM", plural(replicas.len() as u64, "replica")));
    if count(Verdict::Different) > 0 {
        out.note("what differs is damaged on its device: `hoist unload` it by --force, load it again, and see the kernel's log");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_out_is_told_in_words() {
        let it = v1::VerifiedReplica {
            verdict: Verdict::Different.into(),
            wrong: vec!["w".to_owned()],
            wrong_count: 1,
            ..Default::default()
        };
        assert_eq!(
            (value(&it)["verdict"].as_str(), value(&it)["reason"].is_null()),
            (Some("different"), true)
        );
        assert_eq!(exit(std::slice::from_ref(&it)), Exit::Failed);
        let equal = v1::VerifiedReplica { verdict: Verdict::Equal.into(), ..Default::default() };
        assert_eq!(exit(std::slice::from_ref(&equal)), Exit::Done);
        let unknown = v1::VerifiedReplica { verdict: Verdict::NotCompared.into(), ..Default::default() };
        assert_eq!(exit(&[equal, unknown]), Exit::Refused, "nobody may take it for verified");
        let it = v1::VerifiedReplica { reason: "so".to_owned(), ..Default::default() };
        assert_eq!(value(&it)["reason"], "so");
    }
}
