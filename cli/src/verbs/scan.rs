//! `hoist scan` and `hoist digest`: has the server look for models, and read their bytes.

use std::time::Duration;

use hoist_wire::v1;

use crate::args::{DigestArgs, ScanArgs};
use crate::client::request_id;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::{self, Operation, Response};
use crate::output::progress::Bar;
use crate::output::results;
use crate::verbs::{Session, awaited, names};

/// The server gives a scan up after an hour, and reading bytes after a day; each a little longer here.
const HOLD_SCAN: Duration = Duration::from_secs(61 * 60);
const HOLD_DIGEST: Duration = Duration::from_secs((24 * 60 + 1) * 60);

/// Looks at every byte of all models: a scan that validates, as nobody else knows all of them.
pub(crate) async fn validate_all(session: &Session) -> Result<Exit> {
    scan(session, &ScanArgs { wait: true, validate: true, ..ScanArgs::default() }).await
}

pub(crate) async fn scan(session: &Session, args: &ScanArgs) -> Result<Exit> {
    let request = v1::ScanModelsRequest {
        request_id: request_id(),
        paths: args.paths.iter().map(|path| names::absolute(path)).collect::<Result<_>>()?,
        reread: args.reread,
        max_depth: args.depth.unwrap_or_default(),
        validation_level: if args.validate {
            v1::ValidationLevel::Full.into()
        } else {
            v1::ValidationLevel::Unspecified.into()
        },
        cancel_on_disconnect: args.wait,
        ..Default::default()
    };
    let id = request.request_id.clone();
    let client = session.connect().await?;
    if !args.wait {
        return started(session, &client.call(Some(&id), client.catalog().scan_models(request)).await?);
    }
    let ask = |wait_for| {
        let (mut catalog, request) =
            (client.catalog(), v1::ScanModelsRequest { wait_for: Some(wait_for), ..request.clone() });
        async move { catalog.scan_models(request).await }
    };
    let operation =
        awaited::to_the_end(session, &client, &id, HOLD_SCAN, &Bar::new(session.out), ask).await?;
    match (operation.failure(), &operation.response) {
        (Some(error), _) => Err(error),
        (None, Some(Response::ScanModels(scan))) if session.out.json => {
            session.out.value(&results::scan_value(scan)).map(|()| Exit::Done)
        }
        (None, Some(Response::ScanModels(scan))) => {
            results::print_scan(session.out, scan).map(|()| Exit::Done)
        }
        (None, _) => Err(Error::unreadable("what the scan found")),
    }
}

/// Fails when some of the bytes that were asked for cannot be read.
pub(crate) async fn digest(session: &Session, args: &DigestArgs) -> Result<Exit> {
    let request = v1::DigestModelsRequest {
        request_id: request_id(),
        names: args.names.iter().map(|name| names::model(name)).collect::<Result<_>>()?,
        cancel_on_disconnect: !args.no_wait,
        ..Default::default()
    };
    let id = request.request_id.clone();
    let client = session.connect().await?;
    if args.no_wait {
        return started(session, &client.call(Some(&id), client.catalog().digest_models(request)).await?);
    }
    let ask = |wait_for| {
        let (mut catalog, request) =
            (client.catalog(), v1::DigestModelsRequest { wait_for: Some(wait_for), ..request.clone() });
        async move { catalog.digest_models(request).await }
    };
    let operation =
        awaited::to_the_end(session, &client, &id, HOLD_DIGEST, &Bar::new(session.out), ask).await?;
    let digests = match (operation.failure(), &operation.response) {
        (Some(error), _) => return Err(error),
        (None, Some(Response::DigestModels(digests))) => digests,
        (None, _) => return Err(Error::unreadable("what was read")),
    };
    if session.out.json {
        session.out.value(&results::digest_value(digests))?;
    } else {
        results::print_digest(session.out, digests)?;
    }
    Ok(if digests.problems.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Prints an operation that goes on without us: its name alone, for a script to wait for.
pub(crate) fn started(session: &Session, accepted: &hoist_wire::longrunning::Operation) -> Result<Exit> {
    let operation = Operation::read(accepted)?;
    if session.out.json {
        session.out.value(&json::operation(&operation))?;
    } else {
        session.out.line(&operation.metadata.name)?;
    }
    Ok(Exit::Done)
}
