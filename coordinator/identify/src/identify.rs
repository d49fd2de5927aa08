//! The one entry: from a subject to the answer.

use std::collections::BTreeSet;

use hoist_domain::{BaseModel, ModelFormat, ModelType};

use crate::answer::{Component, Identification, PredictionType};
use crate::declared::{self, Declared};
use crate::folder;
use crate::found::{Found, LIKELY};
use crate::keys::{Index, Keys};
use crate::prefix::{self, Whole};
use crate::subject::{Part, Subject};
use crate::weigh::weigh;

/// What a model is, with the evidence. Never fails: what is not known is said to be unknown.
///
/// Time is linear in the tensors, but for sorting their names once.
#[must_use]
pub fn identify(subject: &Subject<'_>) -> Identification {
    let mut components = Vec::new();
    let mut analysed = Vec::new();
    let mut names = BTreeSet::new();
    let whole = folder::whole(subject);
    let is_pipeline = whole.kind == Some(ModelType::Pipeline);
    for (at, part) in subject.parts.iter().enumerate() {
        let index = Index::new(part.tensors);
        let keys = index.keys();
        let mut content = prefix::analyse(keys);
        let place = if is_pipeline { part.place } else { "" };
        let declared = declared::of_part(part).or(folder::of_place(subject, part.place));
        if is_pipeline {
            settle_piece(&mut content, declared.clone(), subject, part);
        }
        add_components(&mut components, &mut names, (at, place), &content, keys);
        analysed.push((part, content, declared));
    }
    let main = main_part(&analysed);
    let format = main.map_or(ModelFormat::Unknown, |(part, ..)| part.format);
    let empty = subject.parts.iter().all(|part| part.tensors.is_empty());
    let (content, of_main) = match main {
        Some((_, content, declared)) => (content.found.clone(), declared.clone()),
        None => (None, Declared::default()),
    };
    let steps = main.and_then(|(part, ..)| declared::sd2_prediction(part.metadata));
    let content = content.map(|found| if is_pipeline { as_pipeline(found) } else { found });
    let declared = if is_pipeline { whole } else { of_main.or(whole) };
    let mut found = weigh(content, declared, subject.path, format, empty);
    if found.base.as_str() == "sd-2.1" {
        found.prediction = found.prediction.or(steps);
        if found.prediction == Some(PredictionType::V) {
            found.resolution = found.resolution.or(Some(768));
        }
    }
    settle_single(&mut components, &found);
    answer(found, components)
}

/// In a pipeline each part is an answer of its own, and a component.
fn settle_piece(content: &mut Whole, declared: Declared, subject: &Subject<'_>, part: &Part<'_>) {
    let found = weigh(content.found.clone(), declared, subject.path, part.format, part.tensors.is_empty());
    let [piece] = content.pieces.as_mut_slice() else { return };
    piece.kind = found.kind;
    if part.place.starts_with("text_encoder") && matches!(found.kind, ModelType::Llm | ModelType::Vlm) {
        piece.kind = ModelType::TextEncoder;
    }
    piece.base = found.base;
}

/// A pipeline is what its denoiser is. That it is whole was declared: the catalog finds what is missing.
fn as_pipeline(mut found: Found) -> Found {
    let denoiser = matches!(found.kind, ModelType::Unet | ModelType::Transformer | ModelType::Prior);
    if !denoiser {
        found.base = BaseModel::unknown();
        found.candidates.clear();
        found.confidence = found.confidence.min(LIKELY);
    }
    found.kind = ModelType::Pipeline;
    found
}

type Analysed<'s, 'a> = (&'s Part<'a>, Whole, Declared);

/// The part that says what the model is: a denoiser before all others, then the largest that is known.
fn main_part<'p, 's, 'a>(analysed: &'p [Analysed<'s, 'a>]) -> Option<&'p Analysed<'s, 'a>> {
    analysed.iter().rev().max_by_key(|(part, content, _)| {
        let kind = content.found.as_ref().map(|found| found.kind);
        let rank = match kind {
            Some(ModelType::Checkpoint) => 4,
            Some(ModelType::Unet | ModelType::Transformer) => 3,
            Some(ModelType::Prior) => 2,
            Some(_) => 1,
            None => 0,
        };
        (rank, part.format != ModelFormat::Unknown, part.tensors.len())
    })
}

/// Counts each tensor of the part in the component with the longest prefix that fits it.
fn add_components(
    components: &mut Vec<Component>,
    names: &mut BTreeSet<String>,
    (part, place): (usize, &str),
    content: &Whole,
    keys: Keys<'_>,
) {
    let first = components.len();
    let only = content.pieces.len() == 1;
    for piece in &content.pieces {
        let name = if only && !place.is_empty() { place.replace('/', ".") } else { piece.name.clone() };
        components.push(Component {
            name: unique(names, name),
            component_type: piece.kind,
            base: piece.base.clone(),
            part,
            prefix: piece.prefix.clone(),
            tensors: 0,
            parameters: 0,
        });
    }
    let mut rest = (0_u64, 0_u64);
    let Some(ours) = components.get_mut(first..) else { return };
    for (name, tensor) in keys.iter() {
        let fits = ours.iter_mut().filter(|component| name.starts_with(component.prefix.as_str()));
        let (tensors, parameters) = match fits.max_by_key(|component| component.prefix.len()) {
            Some(component) => (&mut component.tensors, &mut component.parameters),
            None => (&mut rest.0, &mut rest.1),
        };
        *tensors += 1;
        *parameters = parameters.saturating_add(tensor.elements());
    }
    if rest.0 > 0 {
        let name = if first == components.len() && !place.is_empty() {
            place.replace('/', ".")
        } else {
            "rest".into()
        };
        components.push(Component {
            name: unique(names, name),
            component_type: ModelType::Other,
            base: BaseModel::none(),
            part,
            prefix: String::new(),
            tensors: rest.0,
            parameters: rest.1,
        });
    }
}

/// A name not used before: `unet`, `unet~2`.
fn unique(names: &mut BTreeSet<String>, name: String) -> String {
    let mut free = name.clone();
    let mut number = 2_u32;
    while !names.insert(free.clone()) {
        free = format!("{name}~{number}");
        number += 1;
    }
    free
}

/// A model of one component is what the whole answer says.
fn settle_single(components: &mut [Component], found: &Found) {
    let whole = matches!(found.kind, ModelType::Checkpoint | ModelType::Pipeline);
    let mut known = components.iter_mut().filter(|component| component.component_type != ModelType::Other);
    if let (false, Some(component), None) = (whole, known.next(), known.next()) {
        // Named after what it looked like by itself.
        if component.name == component.component_type.as_str() {
            component.name = found.kind.as_str().to_owned();
        }
        component.component_type = found.kind;
        component.base = found.base.clone();
    }
}

fn answer(found: Found, components: Vec<Component>) -> Identification {
    Identification {
        model_type: found.kind,
        base: found.base,
        variant: found.variant,
        candidates: found.candidates,
        confidence: found.confidence,
        prediction: found.prediction,
        resolution: found.resolution,
        components,
        evidence: found.evidence,
    }
}
