//! The fields of models that filters compare, under the names that the contract gives them.

use hoist_domain::{
    Error, FindingKind, Model, ModelFormat, ModelState, ModelType, Result, Verdict, WallTime, excerpt,
    nearest,
};

use super::refused;
use super::value::Unit;

macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Field { $($variant,)* }

        impl Field {
            pub(super) const NAMES: &'static [&'static str] = &[$($name,)*];

            pub(super) fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

fields! {
    Name = "name",
    DisplayName = "display_name",
    Path = "path",
    State = "state",
    Format = "format",
    Type = "type",
    Base = "base",
    Variant = "variant",
    Candidates = "candidates",
    Confidence = "confidence",
    Prediction = "prediction_type",
    Resolution = "resolution",
    Title = "title",
    Tensors = "tensor_count",
    Parameters = "parameter_count",
    Size = "size_bytes",
    Dtypes = "dtypes",
    Components = "components",
    Verdict = "verdict",
    VerdictKind = "verdict_kind",
    Tags = "tags",
    Aliases = "aliases",
    Description = "description",
    Licence = "licence",
    Source = "source",
    Notes = "notes",
    Digest = "digest",
    Discovered = "discover_time",
    Modified = "modify_time",
    Validated = "validate_time",
}

/// What people write for a field, having seen it elsewhere: in a table, in JSON, in an order.
const OTHER_WORDS: [(&str, &str); 9] = [
    ("id", "name"),
    ("size", "size_bytes"),
    ("bytes", "size_bytes"),
    ("params", "parameter_count"),
    ("tensors", "tensor_count"),
    ("license", "licence"),
    ("modified", "modify_time"),
    ("discovered", "discover_time"),
    ("validated", "validate_time"),
];

/// What a field of a model holds.
pub(super) enum Held<'a> {
    Number(f64),
    Text(std::borrow::Cow<'a, str>),
    Texts(Vec<std::borrow::Cow<'a, str>>),
    Time(Option<WallTime>),
}

/// Why a word is no field, with the one that is meant if that can be told.
pub(super) fn no_field(word: &str) -> Error {
    let lower = word.to_lowercase();
    let other = OTHER_WORDS.iter().find(|(known, _)| *known == lower).map(|(_, field)| *field);
    let shown = excerpt(word);
    match other.or_else(|| nearest(word, Field::NAMES.iter().copied())) {
        Some(field) => refused(&format!("`{shown}` is not a field; did you mean `{field}`?")),
        None => refused(&format!("`{shown}` is not a field; use one of {}", Field::NAMES.join(", "))),
    }
}

impl Field {
    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Confidence | Self::Resolution | Self::Tensors | Self::Parameters | Self::Size)
    }

    /// What a number in it counts.
    pub(super) const fn unit(self) -> Unit {
        match self {
            Self::Size => Unit::Bytes,
            Self::Tensors | Self::Parameters => Unit::Count,
            _ => Unit::Bare,
        }
    }

    pub(super) const fn is_time(self) -> bool {
        matches!(self, Self::Discovered | Self::Modified | Self::Validated)
    }

    /// Whether a value can occur in this field at all: what is misspelt would find nothing and look true.
    pub(super) fn check(self, value: &str, may_be_open: bool) -> Result<()> {
        if value.is_empty() || (may_be_open && value.contains('*')) {
            return Ok(());
        }
        let lower = value.to_lowercase();
        let one_of = |known: &[&str]| {
            let is_one = known.contains(&lower.as_str());
            let shown = excerpt(value);
            is_one.then_some(()).ok_or_else(|| match nearest(value, known.iter().copied()) {
                Some(meant) => refused(&format!("there is no `{shown}`; did you mean `{meant}`?")),
                None => refused(&format!("`{shown}` is none of {}", known.join(", "))),
            })
        };
        match self {
            // What people call a model is in another field: this would find nothing and look true.
            Self::Name if !lower.starts_with("models/") => Err(refused(&format!(
                "`name` is a model's own name, models/{{uuid}}, and `{}` is none: for what people call it, write \
                 display_name",
                excerpt(value)
            ))),
            Self::Type => one_of(&ModelType::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>()),
            Self::Format => one_of(&ModelFormat::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>()),
            Self::Verdict => one_of(&Verdict::ALL.map(Verdict::as_str)),
            Self::VerdictKind => {
                let kinds = FindingKind::ALL.map(FindingKind::as_str);
                one_of(&[&["none"], kinds.as_slice()].concat())
            }
            Self::State => one_of(&["available", "missing"]),
            _ => Ok(()),
        }
    }

    pub(super) fn of_model(self, model: &Model) -> Held<'_> {
        use std::borrow::Cow;
        let content = &model.content;
        let text = |text: &'static str| Held::Text(Cow::Borrowed(text));
        let note = |pick: fn(&hoist_domain::ModelNotes) -> &str| {
            Held::Text(model.notes.as_ref().map_or(Cow::Borrowed(""), |notes| Cow::Borrowed(pick(notes))))
        };
        match self {
            Self::Name => Held::Text(Cow::Owned(hoist_domain::ResourceName::Model(model.id).to_string())),
            Self::DisplayName => Held::Text(Cow::Borrowed(model.name())),
            Self::Path => Held::Text(model.path.text()),
            Self::State => text(match model.state {
                ModelState::Available => "available",
                ModelState::Missing | ModelState::Displaced => "missing",
            }),
            Self::Format => text(content.format.as_str()),
            Self::Type => text(model.model_type().as_str()),
            Self::Base => Held::Text(Cow::Borrowed(model.base().as_str())),
            Self::Variant => Held::Text(Cow::Borrowed(&content.variant)),
            Self::Candidates => {
                Held::Texts(model.candidates().iter().map(|base| Cow::Borrowed(base.as_str())).collect())
            }
            Self::Confidence => Held::Number(f64::from(model.confidence_percent()) / 100.0),
            Self::Prediction => Held::Text(Cow::Borrowed(&content.prediction)),
            Self::Resolution => Held::Number(f64::from(content.resolution)),
            Self::Title => Held::Text(Cow::Borrowed(&content.title)),
            Self::Tensors => Held::Number(content.tensors as f64),
            Self::Parameters => Held::Number(content.parameters as f64),
            Self::Size => Held::Number(content.bytes.0 as f64),
            Self::Dtypes => {
                Held::Texts(content.dtypes.iter().map(|(dtype, _)| Cow::Borrowed(dtype.as_str())).collect())
            }
            Self::Components => Held::Texts(
                content
                    .components
                    .iter()
                    .flat_map(|component| {
                        [Cow::Borrowed(&*component.name), Cow::Borrowed(component.component_type.as_str())]
                    })
                    .collect(),
            ),
            Self::Verdict => text(model.verdict().as_str()),
            Self::VerdictKind => text(model.verdict_kind().map_or("none", |kind| kind.as_str())),
            Self::Tags => Held::Texts(model.tags().iter().map(|tag| Cow::Borrowed(tag.as_str())).collect()),
            Self::Aliases => Held::Texts(
                model
                    .notes
                    .iter()
                    .flat_map(|notes| notes.aliases.iter().map(|alias| Cow::Borrowed(alias.as_str())))
                    .collect(),
            ),
            Self::Description => note(|notes| &notes.description),
            Self::Licence => note(|notes| &notes.licence),
            Self::Source => note(|notes| &notes.source),
            Self::Notes => note(|notes| &notes.notes),
            Self::Discovered => Held::Time(Some(model.discovered_at)),
            Self::Modified => Held::Time(model.modified_at()),
            Self::Validated => Held::Time(model.validation.as_ref().map(|validation| validation.at)),
            Self::Digest => Held::Texts(
                content
                    .components
                    .iter()
                    .filter_map(|c| c.digest)
                    .map(|digest| Cow::Owned(digest.to_string()))
                    .collect(),
            ),
        }
    }
}
