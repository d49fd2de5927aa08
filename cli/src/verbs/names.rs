//! What people write for the name of a thing, and the name that it stands for.
//!
//! A part of an id or a digest and what a model is called need the server: everything else is a name already, and
//! whether the thing exists is for the server to say.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use hoist_domain::DeviceId;
use hoist_wire::longrunning::ListOperationsRequest;
use hoist_wire::v1;
use prost_types::FieldMask;

use crate::client::{Client, request_id};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::json::Operation;
use crate::output::replicas as shown;
use crate::verbs::written::{UUID_CHARS, Written};
use crate::verbs::{leases, replicas, segments};

/// The most operations in one answer; the server's own bound.
pub(crate) const PAGE: i32 = 1_000;
/// Candidates that an ambiguous start is answered with.
const CANDIDATES: usize = 8;
/// Digits of a digest that stand for a segment also where nothing says that they do.
const LEAST_DIGITS: usize = 8;
const LAST_GROUP: usize = 12;

/// The names for what was written; one that stands for nothing does not fail the others.
pub(crate) async fn resolve_each(client: &Client, written: &[String]) -> Result<Vec<Result<String>>> {
    let written: Vec<_> = written.iter().map(|text| Written::read(text)).collect();
    // Each list is read once, and only if something is looked for in it.
    let is_any = |is_it: fn(&Written) -> bool| written.iter().flatten().any(is_it);
    let (mut operations, mut known, mut leases) = (Vec::new(), segments::Listed::default(), Vec::new());
    let mut replicas = Vec::new();
    if is_any(|it| matches!(it, Written::Part(_))) {
        operations = list(client, "", |_| true).await?.operations;
    }
    if is_any(|it| matches!(it, Written::Segment(_))) {
        known = segments::pages(client, "").await?;
    }
    if is_any(|it| matches!(it, Written::Lease(_))) {
        leases = leases::read(client).await?;
    }
    if is_any(|it| matches!(it, Written::Replica(_))) {
        replicas = replicas::pages(client, "", "").await?;
    }
    let mut resolved = Vec::with_capacity(written.len());
    for it in written {
        resolved.push(match it {
            Ok(Written::Name(name)) => Ok(name),
            Ok(Written::Model(name)) => resolve_model(client, &name).await,
            Ok(Written::Segment(part)) => the_segment(&known, &part),
            Ok(Written::Lease(part)) => the_lease(&leases, &part),
            Ok(Written::Replica(part)) => REPLICAS.the_one(&part, replicas.iter().map(shown::id_of)),
            Ok(Written::Part(part)) => {
                match OPERATIONS.the_one(&part, operations.iter().map(Operation::id)) {
                    // `cafe` is hexadecimal, and what somebody calls a model.
                    Err(error) if error.exit() == Exit::NotFound => {
                        match resolve_model(client, &part).await {
                            Err(other) if other.exit() == Exit::NotFound => Err(error),
                            model => model,
                        }
                    }
                    one => one,
                }
            }
            Err(error) => Err(error),
        });
    }
    Ok(resolved)
}

/// The resource name of the model that is called so.
pub(crate) async fn resolve_model(client: &Client, written: &str) -> Result<String> {
    let request = v1::GetModelRequest {
        request_id: request_id(),
        name: model(written)?,
        field_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        ..Default::default()
    };
    let id = request.request_id.clone();
    let answer = client.call(Some(&id), client.catalog().get_model(request)).await?;
    Ok(answer.model.unwrap_or_default().name)
}

/// What a model is called, as the server can look it up: it does not know where this process stands, so a path that
/// begins there is made absolute.
pub(crate) fn model(written: &str) -> Result<String> {
    let is_relative = written.starts_with("./") || written.starts_with("../");
    let exists = || !written.starts_with("models/") && written.contains('/') && Path::new(written).exists();
    if is_relative || !written.starts_with('/') && exists() {
        return absolute(Path::new(written));
    }
    Ok(written.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(written).to_owned())
}

/// The name of a device, or what a model is called: what reads as a device is one.
pub(crate) fn device_or_model(written: &str) -> Result<String> {
    if let Ok(id) = written.parse::<DeviceId>() {
        return Ok(format!("devices/{id}"));
    }
    match Written::read(written) {
        Ok(Written::Name(name)) if name.starts_with("devices/") => Ok(name),
        // It said that it is a device, and is none.
        Err(error) if written.starts_with("devices/") => Err(error),
        _ => model(written),
    }
}

/// A path from the root, without `.` and `..`, for the server.
pub(crate) fn absolute(path: &Path) -> Result<String> {
    let wrong = |why: &str| Error::usage(format!("{}: {why}", path.display()), None);
    let from_root = std::path::absolute(path).map_err(|cause| wrong(&cause.to_string()))?;
    let mut clean = PathBuf::new();
    for part in from_root.components() {
        if part == Component::ParentDir {
            clean.pop();
        } else {
            clean.push(part);
        }
    }
    clean.into_os_string().into_string().map_err(|_| wrong("is not UTF-8, which a request cannot say"))
}

/// The names for what was written.
pub(crate) async fn resolve_all(client: &Client, written: &[String]) -> Result<Vec<String>> {
    resolve_each(client, written).await?.into_iter().collect()
}

/// The name of the one operation that is meant.
pub(crate) async fn resolve_operation(client: &Client, written: &str) -> Result<String> {
    match Written::read(written)? {
        Written::Name(name) if name.starts_with("operations/") => return Ok(name),
        Written::Part(part) => {
            let known = list(client, "", |_| true).await?.operations;
            return OPERATIONS.the_one(&part, known.iter().map(Operation::id));
        }
        Written::Name(_)
        | Written::Segment(_)
        | Written::Lease(_)
        | Written::Replica(_)
        | Written::Model(_) => {}
    }
    Err(Error::usage(format!("`{written}` is not an operation"), Some("`hoist ops` lists them")))
}

/// The name of the one lease that is meant.
pub(crate) async fn resolve_lease(client: &Client, written: &str) -> Result<String> {
    let id = written.strip_prefix("leases/").unwrap_or(written);
    match Written::read(&format!("leases/{id}")) {
        Ok(Written::Name(name)) => Ok(name),
        Ok(Written::Lease(part)) => the_lease(&leases::read(client).await?, &part),
        _ => Err(Error::usage(format!("`{written}` is not a lease"), Some("`hoist leases` lists them"))),
    }
}

/// The name of the one segment that is meant, among those that are known.
pub(crate) fn resolve_segment(known: &segments::Listed, written: &str) -> Result<String> {
    match Written::read(written) {
        Ok(Written::Name(name)) if name.starts_with("segments/") => Ok(name),
        Ok(Written::Segment(part)) => the_segment(known, &part),
        _ => Err(Error::usage(format!("`{written}` is not a segment"), Some("`hoist segments` lists them"))),
    }
}

fn the_lease(known: &[v1::Lease], part: &str) -> Result<String> {
    LEASES.the_one(part, known.iter().map(leases::id_of))
}

fn the_segment(known: &segments::Listed, part: &str) -> Result<String> {
    let names = known.segments.iter().filter_map(|it| it.segment.as_ref()).map(|it| it.name.as_str());
    SEGMENTS.the_one(part, names.filter_map(|name| name.strip_prefix("segments/")))
}

/// The one segment whose digest begins or ends with these digits; none where they are too few to mean one, or no digits.
pub(crate) fn segment_by_digits(known: &segments::Listed, written: &str) -> Result<Option<String>> {
    let digits = written.to_ascii_lowercase();
    if digits.len() < LEAST_DIGITS || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    match the_segment(known, &digits) {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.exit() == Exit::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a part of an id is looked for among.
struct Among {
    /// With the slash.
    collection: &'static str,
    /// What it is a part of, of one and of several.
    ids: [&'static str; 2],
    listed_by: &'static str,
}

const OPERATIONS: Among = Among {
    collection: "operations/",
    ids: ["operation's id", "ids of {} operations"],
    listed_by: "`hoist ops` lists them",
};

const LEASES: Among = Among {
    collection: "leases/",
    ids: ["lease's id", "ids of {} leases"],
    listed_by: "`hoist leases` lists them",
};

const SEGMENTS: Among = Among {
    collection: "segments/",
    ids: ["segment's digest", "digests of {} segments"],
    listed_by: "`hoist segments` lists them",
};

const REPLICAS: Among = Among {
    collection: "replicas/",
    ids: ["replica's id", "ids of {} replicas"],
    listed_by: "`hoist replicas` lists them",
};

impl Among {
    fn the_one<'a>(&self, part: &str, ids: impl Iterator<Item = &'a str>) -> Result<String> {
        let [one_id, many_ids] = self.ids;
        let mut found: Vec<&str> = ids.filter(|id| id.starts_with(part) || id.ends_with(part)).collect();
        match found.as_slice() {
            [] => Err(Error::not_found(format!("no {one_id} begins or ends with `{part}`"), self.listed_by)),
            [one] => Ok(format!("{}{one}", self.collection)),
            many => {
                let count = many.len();
                found.truncate(CANDIDATES);
                let more = if count > CANDIDATES { ", ..." } else { "" };
                let many_ids = many_ids.replace("{}", &count.to_string());
                Err(Error::usage(
                    format!("`{part}` is part of the {many_ids}: {}{more}", found.join(", ")),
                    Some("write more of it"),
                ))
            }
        }
    }
}

/// The ends of ids that tell these operations apart, each as long as the others.
pub(crate) fn short(ids: &[&str]) -> Vec<String> {
    // Hexadecimal digits. With 8 random ones, two of a thousand operations are alike once in ten thousand lists.
    const LEAST: usize = 8;
    let end = |id: &str, chars: usize| id.get(id.len().saturating_sub(chars)..).unwrap_or(id).to_owned();
    let alone = |chars: &usize| {
        let ends: BTreeSet<String> = ids.iter().map(|id| end(id, *chars)).collect();
        ends.len() == ids.len()
    };
    // Beyond the last group an end would hold a dash.
    let chars = (LEAST..=LAST_GROUP).find(alone).unwrap_or(UUID_CHARS);
    ids.iter().map(|id| end(id, chars)).collect()
}

/// Operations, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) operations: Vec<Operation>,
    /// Those that were met on the way and not wanted.
    pub(crate) hidden: Vec<Operation>,
}

/// Lists the operations that are `wanted`, page by page.
pub(crate) async fn list(
    client: &Client,
    filter: &str,
    wanted: impl Fn(&Operation) -> bool,
) -> Result<Listed> {
    let mut listed = Listed::default();
    let mut page_token = String::new();
    loop {
        let request = ListOperationsRequest {
            filter: filter.to_owned(),
            page_size: PAGE,
            page_token,
            name: String::new(),
        };
        let page = client.call(None, client.operations().list_operations(request)).await?;
        for operation in &page.operations {
            let operation = Operation::read(operation)?;
            if wanted(&operation) {
                listed.operations.push(operation);
            } else {
                listed.hidden.push(operation);
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(listed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c2f4-0000-7000-8000-00000000000a";

    #[test]
    fn a_path_to_a_model_is_made_absolute_and_a_name_is_left_alone() {
        let here = absolute(Path::new(".")).unwrap();
        assert!(here.starts_with('/') && here.len() > 1);
        assert_eq!(model("./a//b.gguf").unwrap(), format!("{here}/a/b.gguf"));
        assert_eq!(model("./x/../b.gguf").unwrap(), format!("{here}/b.gguf"));
        // This file is there; the others are not, and what is not there is a name.
        assert_eq!(model("src/main.rs").unwrap(), format!("{here}/src/main.rs"));
        for name in ["author/model", "models/x", "sdxl", "/m/a.gguf"] {
            assert_eq!(model(name).unwrap(), name);
        }
        assert_eq!(model("/m/folder/").unwrap(), "/m/folder");
    }

    #[test]
    fn what_reads_as_a_device_is_one_and_anything_else_is_a_model() {
        for (written, name) in [
            ("cpu:0", "devices/cpu:0"),
            ("GPU_0", "devices/cuda:0"),
            ("devices/cuda:1", "devices/cuda:1"),
            ("sdxl", "sdxl"),
            ("cpu:00", "cpu:00"),
            ("models/x", "models/x"),
            ("cafe", "cafe"),
        ] {
            assert_eq!(device_or_model(written).unwrap(), name);
        }
        assert_eq!(device_or_model("devices/tpu:0").unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_start_must_mean_exactly_one() {
        let other = "0198c2f4-0000-7000-8000-00000000000b";
        let one = |start: &str| OPERATIONS.the_one(start, [ID, other].into_iter());
        assert_eq!(one("0198c2f4-0000-7000-8000-00000000000a").unwrap(), format!("operations/{ID}"));
        assert_eq!(one("00b").unwrap(), format!("operations/{other}"));
        let ambiguous = one("0198").unwrap_err();
        assert!(ambiguous.message().contains(ID) && ambiguous.message().contains(other));
        assert_eq!(ambiguous.exit(), Exit::Usage);
        assert_eq!(one("ff").unwrap_err().exit(), Exit::NotFound);
        let digests = ["ab".repeat(32), "ac".repeat(32)];
        let segment = |start: &str| SEGMENTS.the_one(start, digests.iter().map(String::as_str));
        assert_eq!(segment("ac").unwrap(), format!("segments/{}", digests[1]));
        assert!(
            segment("a").unwrap_err().message().starts_with("`a` is part of the digests of 2 segments: ")
        );
    }

    #[test]
    fn short_ids_tell_operations_apart() {
        assert_eq!(short(&[ID]), ["0000000a"]);
        let twin = "0198c2f4-0000-7000-8000-00010000000a";
        assert_eq!(short(&[ID, twin]), ["00000000a", "10000000a"]);
        assert_eq!(short(&[ID, ID]), [ID, ID]);
    }
}
