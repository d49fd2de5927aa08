//! What one family of rules concludes about one table, before metadata, configuration and names are weighed in.

use hoist_domain::{BaseModel, ModelType};

use crate::answer::{Evidence, PredictionType};

/// The structure and its real dimensions admit nothing else that is known.
pub(crate) const PROVEN: f32 = 0.97;
/// Proven, by a structure that rarer relatives share in part.
pub(crate) const STRONG: f32 = 0.92;
/// Fits, but something that could confirm it is absent or packed.
pub(crate) const LIKELY: f32 = 0.8;
/// The type is sure, the base is one of several.
pub(crate) const UNDECIDED: f32 = 0.7;
/// Fits by a coincidence of few small facts.
pub(crate) const THIN: f32 = 0.6;

#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) kind: ModelType,
    pub(crate) base: BaseModel,
    pub(crate) candidates: Vec<BaseModel>,
    /// Flavours, joined by `+`.
    pub(crate) variant: String,
    pub(crate) confidence: f32,
    pub(crate) prediction: Option<PredictionType>,
    pub(crate) resolution: Option<u32>,
    pub(crate) evidence: Vec<Evidence>,
}

impl Found {
    pub(crate) fn new(kind: ModelType, base: &str, confidence: f32) -> Self {
        Self {
            kind,
            base: BaseModel::from_text(base),
            candidates: Vec::new(),
            variant: String::new(),
            confidence,
            prediction: None,
            resolution: None,
            evidence: Vec::new(),
        }
    }

    /// The type is known, the base only as one of these, likeliest first.
    pub(crate) fn one_of(kind: ModelType, bases: &[&str]) -> Self {
        let mut found = Self::new(kind, "unknown", UNDECIDED);
        found.candidates = bases.iter().map(|base| BaseModel::from_text(base)).collect();
        found
    }

    pub(crate) fn because(mut self, evidence: Evidence) -> Self {
        self.evidence.push(evidence);
        self
    }

    pub(crate) fn variant(mut self, flavour: &str) -> Self {
        self.add_variant(flavour);
        self
    }

    pub(crate) fn add_variant(&mut self, flavour: &str) {
        if flavour.is_empty() || self.variant.split('+').any(|known| known == flavour) {
            return;
        }
        if !self.variant.is_empty() {
            self.variant.push('+');
        }
        self.variant.push_str(flavour);
    }

    pub(crate) fn predicts(mut self, prediction: PredictionType) -> Self {
        self.prediction = Some(prediction);
        self
    }

    pub(crate) fn at_resolution(mut self, pixels: u32) -> Self {
        self.resolution = Some(pixels);
        self
    }

    /// Lowers the confidence to at most this.
    pub(crate) fn at_most(mut self, confidence: f32) -> Self {
        self.confidence = self.confidence.min(confidence);
        self
    }

    /// Whether the content names one base.
    pub(crate) fn has_base(&self) -> bool {
        self.base != BaseModel::unknown() && self.base != BaseModel::none()
    }
}
