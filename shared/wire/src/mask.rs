//! Field masks on encoded messages: choosing fields, and finding which ones differ.
//!
//! Works on the wire form with the field numbers of the descriptors, so it serves every message there is and will
//! be, without code for each. A path names a field by its proto name; a path into a message keeps part of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use bytes::Buf;
use hoist_domain::Error;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

/// The most paths in one mask. A message has a few dozen fields; more than this is a mistake or an attack.
const MAX_PATHS: usize = 128;

#[derive(Debug)]
struct Field {
    number: u32,
    /// Full name of the message type, for a singular message field: only those can be masked inside.
    message: Option<String>,
}

type Fields = HashMap<String, Field>;

static MESSAGES: LazyLock<HashMap<String, Fields>> = LazyLock::new(|| {
    // The bytes are made by our own build script; were they damaged, no message would have fields and every mask
    // would be refused.
    let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut messages = HashMap::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(&mut messages, file.package(), message);
        }
    }
    messages
});

fn collect(messages: &mut HashMap<String, Fields>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    let fields = message.field.iter().map(|field| {
        let singular = field.label() != prost_types::field_descriptor_proto::Label::Repeated;
        let nested = (singular && field.r#type() == Type::Message)
            .then(|| field.type_name().trim_start_matches('.').to_owned());
        (
            field.name().to_owned(),
            Field { number: u32::try_from(field.number()).unwrap_or(0), message: nested },
        )
    });
    messages.insert(name.clone(), fields.collect());
    for nested in &message.nested_type {
        collect(messages, &name, nested);
    }
}

/// Which fields of a message to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(BTreeMap<u32, Keep>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Keep {
    Whole,
    Part(Mask),
}

impl Mask {
    /// A mask over `message` (full name), from the paths a client sent in `field`.
    ///
    /// # Errors
    /// When a path names no field.
    pub fn parse(message: &str, field: &str, paths: &[String]) -> Result<Self, Error> {
        if paths.len() > MAX_PATHS {
            return Err(Error::invalid_field(field, format!("has more than {MAX_PATHS} paths")));
        }
        let mut mask = Self::default();
        for (index, path) in paths.iter().enumerate() {
            mask.add(message, path).map_err(|unknown| {
                Error::invalid_field(
                    format!("{field}.paths[{index}]"),
                    format!("{message} has no field `{}`", unknown.escape_debug()),
                )
            })?;
        }
        Ok(mask)
    }

    fn add<'p>(&mut self, message: &str, path: &'p str) -> Result<(), &'p str> {
        let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
        let field = MESSAGES.get(message).and_then(|fields| fields.get(head)).ok_or(head)?;
        match rest {
            None => {
                self.0.insert(field.number, Keep::Whole);
            }
            Some(rest) => {
                let nested = field.message.as_deref().ok_or(rest)?;
                match self.0.entry(field.number).or_insert_with(|| Keep::Part(Self::default())) {
                    Keep::Whole => Self::default().add(nested, rest)?,
                    Keep::Part(part) => part.add(nested, rest)?,
                }
            }
        }
        Ok(())
    }

    /// The encoded message with only the kept fields. Bytes that are not a message are dropped from where they stop
    /// being one.
    #[must_use]
    pub fn apply(&self, encoded: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(encoded.len());
        for part in parts(encoded) {
            match self.0.get(&part.number) {
                None => {}
                Some(Keep::Whole) => kept.extend_from_slice(part.raw),
                Some(Keep::Part(mask)) => {
                    put_message(&mut kept, part.number, &mask.apply(part.payload().unwrap_or_default()));
                }
            }
        }
        kept
    }
}

/// One field as it stands in an encoded message.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub number: u32,
    /// Key and value.
    pub raw: &'a [u8],
}

impl<'a> Part<'a> {
    /// What a length-delimited field holds.
    #[must_use]
    pub fn payload(&self) -> Option<&'a [u8]> {
        let mut rest = self.raw;
        let (_, wire_type) = decode_key(&mut rest).ok()?;
        if wire_type != prost::encoding::WireType::LengthDelimited {
            return None;
        }
        let length = prost::encoding::decode_varint(&mut rest).ok()?;
        rest.get(..usize::try_from(length).ok()?)
    }
}

/// The top-level fields of an encoded message, in order, up to the first byte that is none.
pub fn parts(encoded: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let start = rest;
        let (number, wire_type) = (rest.has_remaining()).then(|| decode_key(&mut rest).ok())??;
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        let raw = start.get(..start.len().checked_sub(rest.len())?)?;
        Some(Part { number, raw })
    })
}

/// Appends a message field.
pub fn put_message(into: &mut Vec<u8>, number: u32, payload: &[u8]) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, into);
    prost::encoding::encode_varint(payload.len() as u64, into);
    into.extend_from_slice(payload);
}

/// What differs between two encodings of one message type.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Names of the differing top-level fields, sorted.
    pub fields: Vec<String>,
    /// Those fields as they stand in `after`, encoded.
    pub changed: Vec<u8>,
}

/// Compares two encodings of `message` (full name), top-level field by top-level field.
#[must_use]
pub fn difference(message: &str, before: &[u8], after: &[u8]) -> Difference {
    let gather = |encoded| {
        let mut fields: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for part in parts(encoded) {
            fields.entry(part.number).or_default().extend_from_slice(part.raw);
        }
        fields
    };
    let (before, after) = (gather(before), gather(after));
    let mut found = Difference::default();
    let Some(fields) = MESSAGES.get(message) else { return found };
    for (name, field) in fields {
        if before.get(&field.number) != after.get(&field.number) {
            found.fields.push(name.clone());
        }
    }
    found.fields.sort_unstable();
    for (number, raw) in &after {
        if before.get(number) != Some(raw) {
            found.changed.extend_from_slice(raw);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    const STATUS: &str = "hoist.api.v1.Status";

    fn status() -> v1::Status {
        v1::Status {
            name: "machine".into(),
            position: Some(v1::Position { epoch: 2, revision: 5 }),
            resource: None,
            machine: Some(v1::MachineStatus { watch_streams: 3, oldest_revision: 4, ..Default::default() }),
            model: None,
        }
    }

    fn masked(paths: &[&str]) -> v1::Status {
        let paths: Vec<String> = paths.iter().map(|&p| p.to_owned()).collect();
        let mask = Mask::parse(STATUS, "field_mask", &paths).unwrap();
        v1::Status::decode(mask.apply(&status().encode_to_vec()).as_slice()).unwrap()
    }

    #[test]
    fn a_mask_keeps_what_it_names_and_nothing_else() {
        assert_eq!(masked(&["name"]), v1::Status { name: "machine".into(), ..Default::default() });
        let machine = Some(v1::MachineStatus { watch_streams: 3, ..Default::default() });
        assert_eq!(masked(&["machine.watch_streams"]), v1::Status { machine, ..Default::default() });
        assert_eq!(masked(&["machine", "machine.watch_streams"]).machine, status().machine);
        assert_eq!(masked(&["machine.watch_streams", "machine"]).machine, status().machine);
    }

    #[test]
    fn a_path_that_names_nothing_is_refused_by_field() {
        for path in ["", "nope", "machine.nope", "name.x", "machine.conditions.kind", "."] {
            let error = Mask::parse(STATUS, "field_mask", &[path.to_owned()]).unwrap_err();
            assert_eq!(error.fields()[0].field, "field_mask.paths[0]", "{path}");
        }
        let many = vec!["name".to_owned(); MAX_PATHS + 1];
        assert!(Mask::parse(STATUS, "field_mask", &many).is_err());
    }

    #[test]
    fn a_difference_names_set_unset_and_changed_fields() {
        let before = v1::OperationMetadata {
            name: "a".into(),
            attempts: 1,
            cancel_requested: true,
            ..Default::default()
        };
        let after = v1::OperationMetadata { name: "a".into(), attempts: 2, state: 3, ..Default::default() };
        let found =
            difference("hoist.api.v1.OperationMetadata", &before.encode_to_vec(), &after.encode_to_vec());
        assert_eq!(found.fields, ["attempts", "cancel_requested", "state"]);
        let changed = v1::OperationMetadata::decode(found.changed.as_slice()).unwrap();
        assert_eq!(changed, v1::OperationMetadata { attempts: 2, state: 3, ..Default::default() });
    }

    #[test]
    fn damaged_bytes_end_the_walk() {
        let encoded = status().encode_to_vec();
        for cut in 0..encoded.len() {
            let walked: usize = parts(&encoded[..cut]).map(|p| p.raw.len()).sum();
            assert!(walked <= cut);
        }
        assert_eq!(parts(&[0xff; 40]).count(), 0);
    }
}
