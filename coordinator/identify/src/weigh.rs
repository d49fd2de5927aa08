//! Content, declarations and hints put together: content beats declared beats hints, and no step hides what it
//! overruled.

use hoist_domain::{BaseModel, ModelFormat, ModelType};

use crate::answer::Evidence;
use crate::declared::Declared;
use crate::found::{Found, LIKELY, STRONG, THIN, UNDECIDED};
use crate::hints;

/// Below this an answer may be wrong; from it on never.
pub(crate) const CERTAIN: f32 = 0.9;
/// Declared and not denied.
const DECLARED: f32 = 0.75;
/// Declared where the loader goes by it, and nothing in the content speaks against it.
const BINDING: f32 = 0.88;
/// Content and declaration disagree: neither is worth much.
const DISPUTED: f32 = 0.5;
/// Only a name or a folder.
const HINTED: f32 = 0.4;

/// Bases of one structure, or nearly: what content calls the first may well be the second.
const RELATIVES: [(&str, &str); 9] = [
    ("flux.1", "chroma"),
    ("sdxl", "kolors"),
    ("hunyuan-video", "hunyuan-video-1.5"),
    ("hunyuan-video", "hunyuan-image-2.1"),
    ("cosmos", "cosmos-predict2"),
    ("wan-2.1", "wan-2.2"),
    ("ltx-video", "ltx-2"),
    ("sd-3", "sd-3.5"),
    ("lumina-2", "z-image"),
];

/// Content that is more exact than the declaration: classes and formats that one word covers.
const COVERED: [(&str, &str); 10] = [
    ("t5", "umt5"),
    ("sdxl", "sdxl-refiner"),
    ("sdxl", "kolors"),
    ("sd-3", "sd-3.5"),
    ("flux.1", "chroma"),
    ("wan-2.1", "wan-2.2"),
    ("hunyuan-video", "hunyuan-video-1.5"),
    ("hunyuan-video", "hunyuan-image-2.1"),
    ("ltx-video", "ltx-2"),
    ("lumina-2", "z-image"),
];

/// The answer for one table or one whole model.
pub(crate) fn weigh(
    content: Option<Found>,
    mut declared: Declared,
    path: &str,
    format: ModelFormat,
    empty: bool,
) -> Found {
    if content.as_ref().is_some_and(|found| is_nobodys(&declared, found, format)) {
        (declared.kind, declared.base, declared.binding) = (None, None, false);
    }
    let mut found = match content {
        Some(found) => kind_of(found, &declared, path),
        None => without_content(&declared, path, format, empty),
    };
    if found.candidates.is_empty() {
        base_of(&mut found, &declared, path);
    } else {
        favour(&mut found, &declared, path);
    }
    found.add_variant(&declared.variant);
    // A declared prediction may be a form filled in by default; that of a scheduler is what will run.
    let scheduled = declared.prediction.filter(|_| found.kind == ModelType::Pipeline);
    found.prediction = scheduled.or(found.prediction).or(declared.prediction);
    found.resolution = declared.resolution.or(found.resolution);
    found.evidence.extend(declared.evidence);
    found
}

/// Whether a GGUF names an architecture that nobody knows, and holds no language model: some converters name themselves.
fn is_nobodys(declared: &Declared, found: &Found, format: ModelFormat) -> bool {
    use ModelType::{Asr, Llm, Lora, TextEncoder, Tts, Vlm};
    format == ModelFormat::Gguf
        && declared.kind == Some(Llm)
        && !matches!(found.kind, Llm | Vlm | TextEncoder | Asr | Tts | Lora)
}

fn kind_of(mut found: Found, declared: &Declared, path: &str) -> Found {
    match declared.kind {
        Some(kind) if kind == found.kind => {}
        Some(ModelType::Pipeline) => found.kind = ModelType::Pipeline,
        Some(kind) if found.confidence < CERTAIN => found.kind = kind,
        // GGUF says `llm` of every architecture that is none of the known others.
        Some(ModelType::Llm) => {}
        Some(kind) => {
            let says = format!("declared {kind}, but the tensors are a {}", found.kind);
            found.evidence.push(Evidence::new("metadata", kind.as_str(), says));
            found.confidence = found.confidence.min(DECLARED);
        }
        None if matches!(found.kind, ModelType::Llm | ModelType::TextEncoder)
            && found.confidence < CERTAIN =>
        {
            if let Some((kind @ (ModelType::Llm | ModelType::TextEncoder), folder)) = hints::kind(path) {
                found.evidence.push(Evidence::new("folder", folder, format!("suggests {kind}")));
                found.kind = kind;
            }
        }
        None => {}
    }
    found
}

fn without_content(declared: &Declared, path: &str, format: ModelFormat, empty: bool) -> Found {
    if let Some(kind) = declared.kind {
        return Found::new(kind, "unknown", DECLARED);
    }
    let by_format = |kind: ModelType, says: &str| {
        Found::new(kind, "none", STRONG).because(Evidence::new("format", format.as_str(), says))
    };
    match format {
        ModelFormat::Torchscript => return by_format(ModelType::Torchscript, "a program with its weights"),
        ModelFormat::Onnx => return by_format(ModelType::Onnx, "a graph with its weights"),
        _ => {}
    }
    if let (false, Some((kind, folder))) = (empty, hints::kind(path)) {
        let says = format!("suggests {kind}; no tensor is known");
        return Found::new(kind, "unknown", HINTED).because(Evidence::new("folder", folder, says));
    }
    match format {
        ModelFormat::Unknown | ModelFormat::Zip if empty => Found::new(ModelType::Unknown, "unknown", 0.0),
        _ => Found::new(ModelType::Other, "none", DISPUTED),
    }
}

/// The base where content names one, or none.
fn base_of(found: &mut Found, declared: &Declared, path: &str) {
    if found.kind == ModelType::Other || found.base == BaseModel::none() {
        return;
    }
    let Some(base) = &declared.base else {
        let asked = !found.has_base() && takes_hints(found.kind);
        if let (true, Some((base, segment))) = (asked, hints::base(path)) {
            found.evidence.push(Evidence::new("name", segment, format!("suggests {base}")));
            found.base = BaseModel::from_text(base);
            found.confidence = found.confidence.min(HINTED);
        }
        if !found.has_base() {
            found.confidence = found.confidence.min(LIKELY);
        }
        return;
    };
    if !found.has_base() {
        // Content knows the layout and the header says which of its users this is.
        found.base = base.clone();
        found.confidence =
            if declared.binding { BINDING } else { DECLARED.min(found.confidence.max(UNDECIDED)) };
        return;
    }
    if found.base == *base {
        if found.confidence < CERTAIN {
            found.confidence = if declared.binding { BINDING } else { found.confidence.max(LIKELY + 0.05) };
        }
        return;
    }
    let content = found.base.clone();
    if COVERED.contains(&(base.as_str(), content.as_str())) {
        return;
    }
    let related = RELATIVES.contains(&(content.as_str(), base.as_str()));
    let says = format!("declared {base}, but the tensors look like {content}");
    found.evidence.push(Evidence::new("metadata", base.as_str(), says));
    if found.confidence < LIKELY || (found.confidence < STRONG && (related || declared.binding)) {
        found.base = base.clone();
        found.confidence = if declared.binding { LIKELY } else { THIN };
    } else {
        found.confidence =
            found.confidence.min(if found.confidence >= CERTAIN { UNDECIDED } else { DISPUTED });
    }
}

/// Several bases fit: a declaration among them decides, a name favours.
fn favour(found: &mut Found, declared: &Declared, path: &str) {
    let language = found.candidates.first().is_some_and(|base| base.as_str() == "llama");
    let hint = if language { hints::language(path) } else { hints::base(path) };
    let hinted = hint.map(|(base, segment)| (BaseModel::from_text(base), segment));
    let favoured = match (&declared.base, &hinted) {
        (Some(base), _) if found.candidates.contains(base) => {
            found.confidence = DECLARED;
            base.clone()
        }
        (Some(base), _) if declared.binding => {
            found.base = base.clone();
            found.candidates.clear();
            found.confidence = DECLARED;
            return;
        }
        (Some(base), _) => {
            let says = format!("declared {base}, which the tensors are not");
            found.evidence.push(Evidence::new("metadata", base.as_str(), says));
            found.confidence = DISPUTED;
            return;
        }
        (None, Some((base, segment))) if found.candidates.contains(base) => {
            found.evidence.push(Evidence::new("name", segment, format!("suggests {base}")));
            base.clone()
        }
        _ => return,
    };
    found.candidates.retain(|base| *base != favoured);
    found.candidates.insert(0, favoured.clone());
    found.base = favoured;
}

/// Whether a diffusion architecture in the name says anything about such a model.
fn takes_hints(kind: ModelType) -> bool {
    !matches!(
        kind,
        ModelType::TextEncoder
            | ModelType::ImageEncoder
            | ModelType::Llm
            | ModelType::Vlm
            | ModelType::Asr
            | ModelType::Tts
            | ModelType::Upscaler
            | ModelType::Torchscript
            | ModelType::Onnx
    )
}
