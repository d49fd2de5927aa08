//! From tensor names, shapes, metadata and configuration to what a model is.
//!
//! Who calls: the catalog, with what the readers found. This crate does no I/O. It never guesses: every answer carries
//! its evidence and a confidence; where the content cannot decide, it returns candidates; otherwise UNKNOWN.
//!
//! The way of an answer: `keys` sorts a table's names; `prefix` finds the components in it and asks the families
//! (`unet`, `dit`, `lora`, `adapters`, `vae`, `text`, `llm`, `upscaler`); `declared` and `folder` read what the model
//! says of itself, `hints` what its name suggests; `weigh` puts the three together.

mod adapters;
mod answer;
mod declared;
mod dit;
mod dit_refine;
mod folder;
mod found;
mod hints;
mod identify;
mod keys;
mod llm;
mod lora;
mod lora_base;
mod prefix;
mod quant;
mod subject;
mod text;
mod unet;
mod upscaler;
mod vae;
mod weigh;
mod words;

pub use answer::{Component, Evidence, Identification, PredictionType};
pub use identify::identify;
pub use subject::{Part, Subject};
