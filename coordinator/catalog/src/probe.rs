//! From a unit's files to what the catalog keeps of a model, and to what it reads again when somebody asks.

use std::collections::BTreeMap;
use std::io;

use hoist_domain::{
    BaseModel, Bytes, Dtype, ModelComponent, ModelContent, ModelFile, ModelFormat, ModelPath, ModelType,
    Verdict,
};
use hoist_identify::{Component, Evidence, Identification, Part, PredictionType, Subject};

use crate::reading::{PartReading, Reading, read};
use crate::roots::Roots;
use crate::walk::{Unit, UnitKind};

/// The version of everything here that reads and judges: formats, identification, what is kept of it. One more with each
/// change that makes it answer otherwise of the same files.
pub const READER: u32 = 2;

/// Findings kept of a model in memory; the rest is found again by a validation.
const FINDINGS: usize = 16;

/// Keys under which makers name their models.
const TITLES: [&str; 4] = ["modelspec.title", "general.name", "ss_output_name", "title"];

const TITLE_CHARS: usize = 128;

/// What the headers say beyond what the catalog keeps.
#[derive(Clone, Debug)]
pub struct Details {
    pub content: ModelContent,
    pub reading: Reading,
    pub evidence: Vec<Evidence>,
    /// For each part, for each of its tensors: which component has it.
    pub component_of: Vec<Vec<u32>>,
}

/// Reads a unit's headers and says what it is; none if it is nothing that holds a model.
///
/// # Errors
/// The file system's.
pub(crate) fn probe(roots: &Roots, unit: &Unit) -> io::Result<Option<(ModelContent, u64)>> {
    let reading = read(roots, unit)?;
    if reading.is_nothing || is_bare(unit, &reading) {
        return Ok(None);
    }
    let (content, _, _) = judge(roots, unit, &reading);
    Ok(Some((content, reading.header_bytes)))
}

/// The same with everything that led to it.
///
/// # Errors
/// The file system's.
pub fn details(roots: &Roots, unit: &Unit) -> io::Result<Details> {
    let reading = read(roots, unit)?;
    let (content, identification, component_of) = judge(roots, unit, &reading);
    Ok(Details { content, reading, evidence: identification.evidence, component_of })
}

/// A folder with a configuration that is not a model's: an application's settings.
fn is_bare(unit: &Unit, reading: &Reading) -> bool {
    let says_model = |text: &String| {
        ["\"architectures\"", "\"model_type\"", "\"_class_name\"", "\"peft_type\""]
            .iter()
            .any(|key| text.contains(key))
    };
    let has_index = unit.files.iter().any(|file| file.path.to_string_lossy().contains(".index."));
    unit.kind == UnitKind::Folder
        && reading.parts.is_empty()
        && !has_index
        && !reading.configs.values().any(says_model)
}

fn judge(roots: &Roots, unit: &Unit, reading: &Reading) -> (ModelContent, Identification, Vec<Vec<u32>>) {
    let below = roots.of(&unit.path).map_or(unit.path.as_path(), |(_, below)| below);
    let path = below.to_string_lossy();
    let names: Vec<String> = reading.parts.iter().map(|part| file_name(unit, part)).collect();
    let subject = Subject {
        path: &path,
        parts: reading
            .parts
            .iter()
            .zip(&names)
            .map(|(part, file)| Part {
                place: &part.place,
                file,
                format: part.format,
                tensors: &part.tensors,
                metadata: &part.metadata,
            })
            .collect(),
        configs: reading.configs.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect(),
    };
    let identification = hoist_identify::identify(&subject);
    let (components, component_of) = components(reading, &identification.components);
    let content = content(unit, reading, &identification, components);
    (content, identification, component_of)
}

fn file_name(unit: &Unit, part: &PartReading) -> String {
    let path = part.files.first().map_or_else(|| unit.path.clone(), |path| unit.path_of(path));
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn content(
    unit: &Unit,
    reading: &Reading,
    identification: &Identification,
    components: Box<[ModelComponent]>,
) -> ModelContent {
    let tensors = || reading.parts.iter().flat_map(|part| &part.tensors);
    let mut dtypes: BTreeMap<Dtype, u64> = BTreeMap::new();
    for tensor in tensors() {
        *dtypes.entry(tensor.dtype).or_default() += 1;
    }
    let mut dtypes: Box<[(Dtype, u64)]> = dtypes.into_iter().collect();
    dtypes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut findings = reading.findings.clone();
    // Worst first, in the order they were found; what decides the verdict is never cut off.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    findings.truncate(FINDINGS);
    let verdict = findings.first().map(|finding| finding.verdict).unwrap_or_default();
    let is_unreadable = reading.parts.iter().all(|part| part.tensors.is_empty()) && verdict != Verdict::Ok;
    ModelContent {
        format: format(unit, reading),
        model_type: if is_unreadable && identification.model_type == ModelType::Other {
            ModelType::Unknown
        } else {
            identification.model_type
        },
        base: if is_unreadable && identification.base == BaseModel::none() {
            BaseModel::unknown()
        } else {
            identification.base.clone()
        },
        variant: identification.variant.as_str().into(),
        candidates: identification.candidates.clone().into(),
        confidence_percent: percent(identification.confidence),
        prediction: prediction(identification.prediction).into(),
        resolution: identification.resolution.unwrap_or_default(),
        title: title(reading).into(),
        tensors: tensors().count() as u64,
        parameters: tensors().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.elements())),
        dtypes,
        bytes: Bytes(unit.bytes_with(reading.files.iter().map(|file| file.identity))),
        components,
        files: reading
            .files
            .iter()
            .map(|file| ModelFile {
                path: ModelPath::new(&file.path),
                identity: file.identity,
                is_weights: file.is_weights,
            })
            .collect(),
        verdict,
        findings: findings.into(),
        is_touched: false,
        reader: READER,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=100 before; a cast from a float saturates"
)]
fn percent(confidence: f32) -> u8 {
    (confidence * 100.0).round().clamp(0.0, 100.0) as u8
}

const fn prediction(prediction: Option<PredictionType>) -> &'static str {
    match prediction {
        None => "",
        Some(PredictionType::Epsilon) => "epsilon",
        Some(PredictionType::V) => "v_prediction",
        Some(PredictionType::Flow) => "flow",
        Some(PredictionType::Edm) => "edm",
    }
}

fn title(reading: &Reading) -> String {
    let named = |key: &&str| reading.parts.iter().find_map(|part| part.metadata.get(*key));
    let title = TITLES.iter().find_map(named).map(String::as_str).unwrap_or_default();
    title.chars().take(TITLE_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How the files belong together decides; a single file's own format, and that of a folder with nothing but weights.
fn format(unit: &Unit, reading: &Reading) -> ModelFormat {
    let of_parts = || reading.parts.first().map_or(ModelFormat::Unknown, |part| part.format);
    match unit.kind {
        UnitKind::File => of_parts(),
        UnitKind::Rejected => ModelFormat::Unknown,
        UnitKind::Pipeline => ModelFormat::Diffusers,
        UnitKind::Hub { .. } => ModelFormat::HfCache,
        UnitKind::Folder => {
            if reading.configs.contains_key("adapter_config.json") {
                return ModelFormat::Peft;
            }
            match reading.configs.get("config.json") {
                Some(text) if text.contains("\"_class_name\"") || text.contains("\"_diffusers_version\"") => {
                    ModelFormat::Diffusers
                }
                Some(_) => ModelFormat::Transformers,
                None => of_parts(),
            }
        }
    }
}

/// The components with their sizes, and which component each tensor belongs to: of several prefixes that fit, the
/// longest.
fn components(reading: &Reading, found: &[Component]) -> (Box<[ModelComponent]>, Vec<Vec<u32>>) {
    let mut bytes = vec![0_u64; found.len()];
    let mut component_of = Vec::with_capacity(reading.parts.len());
    for (number, part) in reading.parts.iter().enumerate() {
        let mut here: Vec<(usize, &Component)> =
            found.iter().enumerate().filter(|(_, component)| component.part == number).collect();
        here.sort_by_key(|(_, component)| std::cmp::Reverse(component.prefix.len()));
        let owner = |name: &str| here.iter().find(|(_, component)| name.starts_with(&component.prefix));
        let mut of_tensors = Vec::with_capacity(part.tensors.len());
        for tensor in &part.tensors {
            let index = owner(&tensor.name).map(|(index, _)| *index);
            of_tensors.push(index.and_then(|index| u32::try_from(index).ok()).unwrap_or(u32::MAX));
            if let Some(sum) = index.and_then(|index| bytes.get_mut(index)) {
                *sum = sum.saturating_add(tensor.dtype.bytes_of(tensor.elements()).unwrap_or_default());
            }
        }
        component_of.push(of_tensors);
    }
    let kept = found.iter().zip(bytes).map(|(component, bytes)| ModelComponent {
        name: component.name.as_str().into(),
        component_type: component.component_type,
        base: component.base.clone(),
        place: reading.parts.get(component.part).map_or("", |part| &part.place).into(),
        prefix: component.prefix.as_str().into(),
        tensors: component.tensors,
        parameters: component.parameters,
        bytes: Bytes(bytes),
        digest: None,
    });
    (kept.collect(), component_of)
}
