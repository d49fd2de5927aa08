//! A model's details as a message that a client takes: cut where headers say more than fits.

use hoist_catalog::Details;
use hoist_wire::{encode, v1};
use prost::Message;

use super::page::MESSAGE_BYTES;

/// One value of free-form metadata.
const VALUE_BYTES: usize = 64 << 10;
/// All of a kind together.
const METADATA_BYTES: usize = 1 << 20;
const EVIDENCE: usize = 1_000;
const FILES: usize = 2_000;
const GLOBALS: usize = 1_000;

pub(super) fn encoded(details: &Details, with_tensors: bool) -> v1::ModelDetails {
    let reading = &details.reading;
    let mut metadata = std::collections::BTreeMap::new();
    let mut bytes = 0;
    for (key, value) in reading.parts.iter().flat_map(|part| &part.metadata) {
        let (key, value) = (cut(key, VALUE_BYTES), cut(value, VALUE_BYTES));
        bytes += key.len() + value.len();
        if bytes <= METADATA_BYTES {
            metadata.insert(key, value);
        }
    }
    let mut globals: Vec<String> = reading.parts.iter().flat_map(|part| part.globals.clone()).collect();
    globals.sort();
    globals.dedup();
    globals.truncate(GLOBALS);
    let mut told = std::collections::HashSet::new();
    let mut encoded = v1::ModelDetails {
        evidence: details
            .evidence
            .iter()
            // Each of several files may say the same.
            .filter(|evidence| told.insert((evidence.source, &evidence.subject, &evidence.says)))
            .take(EVIDENCE)
            .map(|evidence| v1::Evidence {
                source: evidence.source.to_owned(),
                subject: evidence.subject.clone(),
                says: evidence.says.clone(),
            })
            .collect(),
        metadata: metadata.into_iter().collect(),
        files: reading.files.iter().take(FILES).map(file).collect(),
        tensors: Vec::new(),
        more_tensors: 0,
        globals,
    };
    if with_tensors {
        tensors(details, &mut encoded);
    }
    encoded
}

fn file(file: &hoist_catalog::UnitFile) -> v1::ModelFile {
    v1::ModelFile {
        path: file.path.to_string_lossy().into_owned(),
        size_bytes: file.identity.size,
        weights: file.is_weights,
        // One that is not there has no identity.
        modify_time: (file.identity != hoist_domain::FileIdentity::default())
            .then(|| encode::timestamp(hoist_domain::WallTime(file.identity.modified_ns / 1_000))),
    }
}

fn tensors(details: &Details, encoded: &mut v1::ModelDetails) {
    let mut bytes = encoded.encoded_len();
    for (part, owners) in details.reading.parts.iter().zip(&details.component_of) {
        for (tensor, owner) in part.tensors.iter().zip(owners) {
            let owner = usize::try_from(*owner).ok().and_then(|owner| details.content.components.get(owner));
            let tensor = v1::TensorInfo {
                name: tensor.name.to_string(),
                dtype: tensor.dtype.to_string(),
                shape: tensor.shape.to_vec(),
                component: owner.map_or_else(String::new, |component| component.name.to_string()),
            };
            bytes += tensor.encoded_len() + 4;
            if bytes <= MESSAGE_BYTES && encoded.more_tensors == 0 {
                encoded.tensors.push(tensor);
            } else {
                encoded.more_tensors += 1;
            }
        }
    }
}

/// The start of a text, in whole characters.
fn cut(text: &str, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
