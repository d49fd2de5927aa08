//! Models: the vocabulary that says what a file is, and what is wrong with it.

mod digest;
mod dtype;
mod examination;
mod observation;
mod record;
mod verdict;
mod vocabulary;

pub use digest::{Digest, NotADigest};
pub use dtype::Dtype;
pub use examination::{
    CheckResult, Compatibility, CompatibilityCategory, CompatibilityCheck, DigestReport, DigestSpec,
    FileChecksum, ValidateSpec, Validation, ValidationLevel, ValidationReport,
};
pub use observation::{FoundModel, Observation};
pub use record::{
    FileIdentity, Model, ModelComponent, ModelConfig, ModelContent, ModelFile, ModelId, ModelNotes, ModelPath,
};
pub use verdict::{Finding, FindingKind, Verdict};
pub use vocabulary::{BaseModel, ModelFormat, ModelType};
