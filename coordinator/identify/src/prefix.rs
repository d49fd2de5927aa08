//! A file's table as the components it holds: which prefix leads to which, and what the whole then is.

use hoist_domain::{BaseModel, ModelType};

use crate::answer::PredictionType;
use crate::found::{Found, LIKELY};
use crate::keys::Keys;
use crate::{adapters, dit, llm, lora, quant, text, unet, upscaler, vae};

/// Around everything, in the order to take off. One that training leaves beside other things counts however few keys
/// it has; the others must hold most of the file.
const WRAPPERS: [(&str, bool); 6] = [
    ("state_dict.", true),
    ("model_state_dict.", true),
    ("params_ema.", true),
    ("params.", false),
    ("module.", false),
    ("ema.", false),
];

/// Where a denoiser may stand, from the special to the general.
const DENOISERS: [&str; 8] = [
    "model.diffusion_model.",
    "diffusion_model.",
    "model.model.",
    "net.",
    "transformer.",
    "unet.",
    "model.",
    "",
];

const VAES: [&str; 3] = ["first_stage_model.", "vae.", "pretransform.model."];

/// Where text encoders may stand. `*` is any one name.
const ENCODERS: [&str; 5] =
    ["cond_stage_model.", "conditioner.embedders.*.", "text_encoders.*.", "text_encoder.", "text_encoder_2."];

/// Between an encoder's place and its own names.
const INNER: [&str; 5] = ["transformer.", "model.", "open_clip.model.", "transformer.model.", ""];

/// One component of a table.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) kind: ModelType,
    pub(crate) base: BaseModel,
    pub(crate) prefix: String,
}

/// What a table is as a whole, and its components.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) found: Option<Found>,
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) fn analyse(keys: Keys<'_>) -> Whole {
    let (inner, wrapper) = unwrap(keys);
    let mut whole = match adapters::find(inner) {
        Some(found) => single(found, String::new()),
        None => container(inner).unwrap_or_else(|| bare(inner)),
    };
    for piece in &mut whole.pieces {
        piece.prefix.insert_str(0, &wrapper);
    }
    if let Some(found) = &mut whole.found {
        found.add_variant(&quant::flavour(inner).to_ascii_lowercase());
    }
    whole
}

fn unwrap(keys: Keys<'_>) -> (Keys<'_>, String) {
    let (mut inner, mut prefix) = (keys, String::new());
    for _ in 0..3 {
        let Some((wrapper, view)) = WRAPPERS.iter().find_map(|(wrapper, always)| {
            let view = inner.under(wrapper);
            let enough = *always || view.len() * 2 >= inner.len();
            (!view.is_empty() && enough).then_some((*wrapper, view))
        }) else {
            break;
        };
        prefix.push_str(wrapper);
        inner = view;
    }
    (inner, prefix)
}

fn single(found: Found, prefix: String) -> Whole {
    let piece =
        Piece { name: found.kind.as_str().to_owned(), kind: found.kind, base: found.base.clone(), prefix };
    Whole { found: Some(found), pieces: vec![piece] }
}

/// A denoiser, an autoencoder, encoders, each under a prefix; the denoiser perhaps under none.
fn container(keys: Keys<'_>) -> Option<Whole> {
    let denoiser = DENOISERS.iter().find_map(|prefix| {
        let view = keys.under(prefix);
        Some((*prefix, unet::find(view).or_else(|| dit::find(view))?))
    });
    let vae = VAES.iter().find_map(|prefix| {
        let view = keys.under(prefix);
        let found = vae::find(view);
        let known = found.is_some() || (denoiser.is_some() && !view.is_empty());
        known.then(|| (*prefix, found.unwrap_or_else(|| Found::new(ModelType::Vae, "unknown", LIKELY))))
    });
    let encoders = encoders(keys, denoiser.is_some());
    let Some((prefix, found)) = denoiser else {
        return without_denoiser(vae, encoders);
    };
    let mut pieces = Vec::new();
    let name = found.kind.as_str().to_owned();
    pieces.push(Piece { name, kind: found.kind, base: found.base.clone(), prefix: prefix.to_owned() });
    let mut found = mark_prediction(keys, found);
    if vae.is_some() || !encoders.is_empty() {
        found.kind = ModelType::Checkpoint;
    }
    if let Some((prefix, vae)) = vae {
        // Inside a checkpoint the autoencoder is the checkpoint's, whatever else has its structure.
        let ours = vae.candidates.is_empty() || vae.candidates.contains(&found.base);
        let base = if ours && !vae.has_base() { found.base.clone() } else { vae.base };
        pieces.push(Piece { name: "vae".into(), kind: ModelType::Vae, base, prefix: prefix.to_owned() });
        found.evidence.push(keys.evidence(prefix, "holds an autoencoder"));
    }
    if let Some((prefix, _)) = encoders.first() {
        found.evidence.push(keys.evidence(prefix, format!("holds {} encoders", encoders.len())));
    }
    pieces.extend(named(encoders, &found.base));
    Some(Whole { found: Some(found), pieces })
}

fn without_denoiser(vae: Option<(&str, Found)>, encoders: Vec<(String, Found)>) -> Option<Whole> {
    if let Some((prefix, found)) = vae {
        return Some(single(found, prefix.to_owned()));
    }
    let mut found = encoders.first()?.1.clone();
    if encoders.len() > 1 {
        found = found.at_most(LIKELY);
    }
    let pieces = named(encoders, &BaseModel::unknown());
    Some(Whole { found: Some(found), pieces })
}

/// Markers that trainers leave beside the weights.
fn mark_prediction(keys: Keys<'_>, found: Found) -> Found {
    let marked = |found: Found, key: &str, prediction| {
        let says = "marks what the network predicts";
        found.predicts(prediction).because(keys.evidence(key, says))
    };
    if keys.get("v_pred").is_some() {
        let mut found = marked(found, "v_pred", PredictionType::V);
        found.add_variant(if keys.get("ztsnr").is_some() { "v-pred+ztsnr" } else { "v-pred" });
        found
    } else if keys.get("edm_vpred.sigma_max").is_some() {
        marked(found, "edm_vpred.sigma_max", PredictionType::V)
    } else if keys.get("edm_mean").is_some() && keys.get("edm_std").is_some() {
        marked(found, "edm_mean", PredictionType::Edm).variant("playground-2.5")
    } else {
        found
    }
}

/// The encoders with their full prefixes. Beside a denoiser what stands in an encoder's place is one, known or not.
fn encoders(keys: Keys<'_>, beside_denoiser: bool) -> Vec<(String, Found)> {
    let mut places = Vec::new();
    for pattern in ENCODERS {
        match pattern.split_once('*') {
            None => places.push(pattern.to_owned()),
            Some((before, after)) => {
                let mut last = "";
                for (name, _) in keys.under(before).iter() {
                    let segment = name.split('.').next().unwrap_or_default();
                    if segment != last && places.len() < 16 {
                        places.push(format!("{before}{segment}{after}"));
                        last = segment;
                    }
                }
            }
        }
    }
    let mut found = Vec::new();
    for place in places {
        let here = keys.under(&place);
        let known = INNER.iter().find_map(|inner| {
            let view = here.under(inner);
            let encoder = text::find(view).or_else(|| llm::find(view))?;
            Some((format!("{place}{inner}"), as_encoder(encoder)))
        });
        match known {
            Some(known) => found.push(known),
            None if beside_denoiser && !here.is_empty() => {
                found.push((place, Found::new(ModelType::TextEncoder, "unknown", LIKELY)));
            }
            None => {}
        }
    }
    found
}

fn as_encoder(mut found: Found) -> Found {
    if found.kind != ModelType::ImageEncoder {
        found.kind = ModelType::TextEncoder;
    }
    found
}

/// Names in the order that pipelines have them: CLIP-L, CLIP-G, T5, others.
fn named(mut encoders: Vec<(String, Found)>, whole: &BaseModel) -> Vec<Piece> {
    let rank = |found: &Found| match found.base.as_str() {
        "clip-l" => 0,
        "clip-g" => 1,
        "t5" | "umt5" => 2,
        _ => 3,
    };
    encoders.sort_by_key(|(_, found)| rank(found));
    let three = matches!(whole.as_str(), "sd-3" | "sd-3.5");
    let mut number = 0;
    let mut pieces = Vec::new();
    for (prefix, found) in encoders {
        let name = if found.kind == ModelType::ImageEncoder {
            format!("image_encoder{}", if pieces.is_empty() { "" } else { "_2" })
        } else {
            // What a pipeline leaves out keeps its number: the refiner has only the second encoder.
            number = match (three, whole.as_str(), rank(&found)) {
                (true, _, 2) => 3.max(number + 1),
                (true, _, 1) | (_, "sdxl-refiner", 1) => 2.max(number + 1),
                _ => number + 1,
            };
            if number == 1 { "text_encoder".to_owned() } else { format!("text_encoder_{number}") }
        };
        pieces.push(Piece { name, kind: found.kind, base: found.base, prefix });
    }
    pieces
}

/// One component whose names stand at the root.
fn bare(keys: Keys<'_>) -> Whole {
    let finders: [fn(Keys<'_>) -> Option<Found>; 6] =
        [lora::find, vae::find, text::find, text::hypernetwork, llm::find, upscaler::find];
    for find in finders {
        if let Some(found) = find(keys) {
            return single(found, String::new());
        }
    }
    for prefix in ["transformer.", "model.", "text_model."] {
        let view = keys.under(prefix);
        if let Some(found) = text::find(view) {
            return single(found, prefix.to_owned());
        }
    }
    text::inversion(keys).map_or_else(Whole::default, |found| single(found, String::new()))
}
