//! What kind of thing somebody means by what they wrote, as far as its letters tell.

use hoist_domain::{ConditionKind, DeviceId, ResourceName};

use crate::error::{Error, Result};

pub(crate) const UUID_CHARS: usize = 36;

/// A name as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Name(String),
    /// The start or the end of an operation's id. The start is its time, so for most it is the end that tells. If no
    /// operation fits, it may still be what a model is called.
    Part(String),
    /// The start or the end of a segment's digest.
    Segment(String),
    /// The start or the end of a lease's id.
    Lease(String),
    /// The start or the end of a replica's id.
    Replica(String),
    /// What a model is called: which one, only the server knows.
    Model(String),
}

impl Written {
    pub(crate) fn read(text: &str) -> Result<Self> {
        if text == "machine" {
            return Ok(Self::Name(text.to_owned()));
        }
        if let Some(kind) = text.strip_prefix("conditions/") {
            let kind = kind.to_ascii_uppercase();
            let known = ConditionKind::ALL.map(ConditionKind::as_str);
            if !known.contains(&kind.as_str()) {
                return Err(Error::usage(
                    format!("`{text}` is not a condition: there are {}", known.join(", ")),
                    Some("`hoist status` shows those that hold"),
                ));
            }
            return Ok(Self::Name(format!("conditions/{kind}")));
        }
        if let Some(device) = text.strip_prefix("devices/") {
            let id: DeviceId = device.parse().map_err(|error: hoist_domain::Error| {
                Error::usage(error.message(), Some("`hoist devices` lists those that there are"))
            })?;
            return Ok(Self::Name(format!("devices/{id}")));
        }
        for (collection, partly) in [
            ("segments/", Self::Segment as fn(String) -> Self),
            ("leases/", Self::Lease),
            ("replicas/", Self::Replica),
        ] {
            let Some(id) = text.strip_prefix(collection).map(str::to_ascii_lowercase) else { continue };
            let name = format!("{collection}{id}");
            return match name.parse::<ResourceName>() {
                Ok(_) => Ok(Self::Name(name)),
                Err(_) if is_hex(&id) => Ok(partly(id)),
                Err(_) => Err(Error::usage(
                    format!("`{text}` is not a name"),
                    Some("write segments/DIGEST, leases/ID or replicas/ID, whole or in part"),
                )),
            };
        }
        let written = text.strip_prefix("operations/");
        let id = written.unwrap_or(text).to_ascii_lowercase();
        if written.is_none() && !text.is_empty() && !is_part(&id) {
            return Ok(Self::Model(text.to_owned()));
        }
        if !is_part(&id) {
            return Err(Error::usage(
                format!("`{text}` is not a name"),
                Some(
                    "write machine, operations/ID, conditions/KIND, segments/DIGEST, leases/ID, devices/cpu:0, replicas/ID, \
                     the start or end of an operation's id, or a model's name",
                ),
            ));
        }
        Ok(if id.len() == UUID_CHARS { Self::Name(format!("operations/{id}")) } else { Self::Part(id) })
    }
}

/// Whether this can be an operation's id or a piece of one.
fn is_part(id: &str) -> bool {
    id.len() <= UUID_CHARS && is_hex(id)
}

fn is_hex(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    const ID: &str = "0198c2f4-0000-7000-8000-00000000000a";

    #[test]
    fn a_name_may_be_written_short_and_in_capitals() {
        let name = |text: &str| Written::read(text).map_err(|e| e.exit());
        assert_eq!(name("machine"), Ok(Written::Name("machine".into())));
        assert_eq!(name("conditions/store_readonly"), Ok(Written::Name("conditions/STORE_READONLY".into())));
        assert_eq!(name(&ID.to_uppercase()), Ok(Written::Name(format!("operations/{ID}"))));
        assert_eq!(name("operations/0198C2"), Ok(Written::Part("0198c2".into())));
        let digest = "ab".repeat(32);
        assert_eq!(name(&format!("segments/{digest}")), Ok(Written::Name(format!("segments/{digest}"))));
        assert_eq!(name(&format!("segments/{ID}.3")), Ok(Written::Name(format!("segments/{ID}.3"))));
        assert_eq!(name("segments/ABAB"), Ok(Written::Segment("abab".into())));
        assert_eq!(name(&format!("leases/{ID}")), Ok(Written::Name(format!("leases/{ID}"))));
        assert_eq!(name("leases/000a"), Ok(Written::Lease("000a".into())));
        assert_eq!(name(&format!("replicas/{ID}")), Ok(Written::Name(format!("replicas/{ID}"))));
        assert_eq!(name("replicas/000A"), Ok(Written::Replica("000a".into())));
        assert_eq!(name("devices/GPU_1"), Ok(Written::Name("devices/cuda:1".into())));
        assert!(Written::read("conditions/nope").unwrap_err().message().contains("STORE_READONLY"));
        for text in [
            "",
            "operations/",
            "operations/zebra",
            "conditions/NOPE",
            "segments/",
            "leases/zebra",
            "replicas/zebra",
            "devices/x",
        ] {
            assert_eq!(name(text), Err(Exit::Usage), "{text}");
        }
        for text in ["models/x", "zebra", "sd_xl_base", "0198c2f4-0000-7000-8000-00000000000abc", "/m/a.gguf"]
        {
            assert_eq!(name(text), Ok(Written::Model(text.into())), "{text}");
        }
    }
}
