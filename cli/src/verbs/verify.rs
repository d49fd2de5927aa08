//! `hoist verify`: whether what is on devices is what is in RAM, byte for byte.

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

/// What differs is a fault that was found; what nobody could compare is said, and is none.
pub(crate) async fn run(session: &Session, args: &VerifyArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let request = v1::VerifyReplicasRequest {
        request_id: request_id(),
        name: names::model(&args.name)?,
        device_id: args.device.clone().unwrap_or_default(),
    };
    let id = request.request_id.clone();
    let told = client.call(Some(&id), client.residency().verify_replicas(request)).await?;
    let out = session.out;
    if out.json {
        out.value(&told.replicas.iter().map(value).collect::<Value>())?;
    } else {
        let replicas = replicas::pages(&client, "", &names::model(&args.name)?).await?;
        let models = replicas.iter().flat_map(|it| &it.models).map(String::as_str);
        print(out, &told.replicas, &Parts::of(&names_of::models(&client, models).await?))?;
    }
    let is_other = |it: &v1::VerifiedReplica| it.verdict() == Verdict::Different;
    Ok(if told.replicas.iter().any(is_other) { Exit::Failed } else { Exit::Done })
}

const fn words(verdict: Verdict) -> (Tone, &'static str) {
    match verdict {
        Verdict::Equal => (Tone::Good, "equal"),
        Verdict::Different => (Tone::Bad, "different"),
        Verdict::NotCompared => (Tone::Warning, "not compared"),
        Verdict::Unspecified => (Tone::Plain, "unknown"),
    }
}

fn value(it: &v1::VerifiedReplica) -> Value {
    json!({
        "replica": it.replica,
        "device_id": it.device_id,
        "segment": it.segment,
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
            count => format!("{} differ: {}", plural(count.into(), "tensor"), it.wrong.join(", ")),
        };
        table.row([
            parts.content(&it.segment).into(),
            text::one_line(&it.device_id).into(),
            Toned(tone, verdict.to_owned()),
            it.tensors.to_string().into(),
            text::one_line(&why).into(),
        ]);
    }
    table.print(out)?;
    let others = replicas.iter().filter(|it| it.verdict() == Verdict::Different).count();
    if others > 0 {
        let differ = if others == 1 { "differs" } else { "differ" };
        out.note(format!(
            "{} {differ} from RAM: `hoist unload NAME --force`, load it again, and see the kernel's log",
            plural(others as u64, "replica")
        ));
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
        let it = v1::VerifiedReplica { reason: "so".to_owned(), ..Default::default() };
        assert_eq!(value(&it)["reason"], "so");
    }
}
