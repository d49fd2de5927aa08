//! `hoist plan`: where models would go, and what a load of them would take. Changes nothing.

use hoist_wire::v1;

use crate::args::PlanArgs;
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::called::Called;
use crate::output::plan;
use crate::verbs::wanted::{self, Wanted};
use crate::verbs::{Session, load, names_of};

/// What would be refused is told in full, and is a refusal.
pub(crate) async fn run(session: &Session, args: &PlanArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let wanted = wanted::all(&client, &args.names, &args.components).await?;
    if args.estimate {
        return estimate(session, &client, &wanted, args).await;
    }
    let request = v1::PlanLoadRequest {
        request_id: request_id(),
        parts: wanted::parts(&wanted),
        options: Some(load::options(&args.how)),
    };
    let id = request.request_id.clone();
    let plan = client.call(Some(&id), client.residency().plan_load(request)).await?;
    let out = session.out;
    if out.json {
        out.value(&plan::plan_value(&plan, &Called::of(wanted.iter().map(|it| &it.model))))?;
    } else {
        // Also those that would have to go, which nobody has named.
        let others = plan.unload.iter().chain(plan.devices.iter().flat_map(|it| &it.unload));
        let others = names_of::models(&client, others.map(String::as_str)).await?;
        let called = Called::apart(wanted.iter().map(|it| &it.model).chain(&others));
        plan::print_plan(out, &plan, &wanted::words(&wanted), &called)?;
    }
    Ok(if plan.refusal.is_empty() && plan.refusal_reason.is_empty() { Exit::Done } else { Exit::Refused })
}

async fn estimate(session: &Session, client: &Client, wanted: &[Wanted], args: &PlanArgs) -> Result<Exit> {
    let request = v1::EstimateLoadRequest {
        request_id: request_id(),
        parts: wanted::parts(wanted),
        dtype: args.how.dtype.clone().unwrap_or_default(),
    };
    let id = request.request_id.clone();
    let estimate = client.call(Some(&id), client.residency().estimate_load(request)).await?;
    let (out, models) = (session.out, wanted.iter().map(|it| &it.model));
    if out.json {
        out.value(&plan::estimate_value(&estimate, &Called::of(models)))?;
    } else {
        plan::print_estimate(out, &estimate, &wanted::words(wanted), &Called::apart(models))?;
    }
    Ok(Exit::Done)
}
