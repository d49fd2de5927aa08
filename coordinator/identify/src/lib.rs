//! From tensor names, shapes, metadata and configuration to what a model is.
//!
//! Who calls: the catalog, with what the readers found. This crate does no I/O. It never guesses: every answer carries
//! its evidence and a confidence; where the content cannot decide, it returns candidates; otherwise UNKNOWN.

mod answer;
mod subject;

pub use answer::{Component, Evidence, Identification, PredictionType};
pub use subject::{Part, Subject};
