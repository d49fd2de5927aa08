//! Digests and validations, from the domain to messages.

use hoist_domain::{
    CheckResult, Compatibility, CompatibilityCategory, DigestReport, FileChecksum, Model, PathProblem,
    ResourceName, ValidationLevel, ValidationReport,
};

use crate::encode::{duration, timestamp};
use crate::models::{finding, verdict};
use crate::v1;

#[must_use]
pub const fn level(level: ValidationLevel) -> v1::ValidationLevel {
    match level {
        ValidationLevel::Header => v1::ValidationLevel::Header,
        ValidationLevel::Full => v1::ValidationLevel::Full,
        ValidationLevel::Compatibility => v1::ValidationLevel::Compatibility,
    }
}

pub(crate) fn problem(problem: &PathProblem) -> v1::PathProblem {
    v1::PathProblem { path: problem.path.text().into_owned(), message: problem.message.clone() }
}

#[must_use]
pub fn digest_report(report: &DigestReport) -> v1::DigestModelsResponse {
    v1::DigestModelsResponse {
        models: report.models,
        components: report.components,
        read_bytes: report.bytes.0,
        took: Some(duration(report.took)),
        problems: report.problems.iter().map(problem).collect(),
        more_problems: report.more_problems,
    }
}

#[must_use]
pub fn validation_report(report: &ValidationReport) -> v1::ValidateModelResponse {
    v1::ValidateModelResponse {
        model: ResourceName::Model(report.model).to_string(),
        level: level(report.level).into(),
        verdict: verdict(report.verdict).into(),
        findings: report.findings.iter().map(finding).collect(),
        more_findings: report.more_findings,
        read_bytes: report.bytes.0,
        took: Some(duration(report.took)),
        checksums: report.checksums.iter().map(checksum).collect(),
        compatibility: report.compatibility.as_ref().map(compatibility),
    }
}

fn checksum(checksum: &FileChecksum) -> v1::FileChecksum {
    v1::FileChecksum {
        file: checksum.file.clone(),
        sha256: checksum.sha256.clone(),
        expected_sha256: checksum.expected.clone(),
        source: checksum.source.clone(),
    }
}

fn compatibility(found: &Compatibility) -> v1::Compatibility {
    use v1::compatibility_check::{Category, Result};
    let check = |check: &hoist_domain::CompatibilityCheck| v1::CompatibilityCheck {
        category: match check.category {
            CompatibilityCategory::Access => Category::Access,
            CompatibilityCategory::Integrity => Category::Integrity,
            CompatibilityCategory::Format => Category::Format,
            CompatibilityCategory::Dtype => Category::Dtype,
            CompatibilityCategory::Code => Category::Code,
            CompatibilityCategory::Memory => Category::Memory,
        }
        .into(),
        result: match check.result {
            CheckResult::Ok => Result::Ok,
            CheckResult::Warning => Result::Warning,
            CheckResult::Failed => Result::Failed,
        }
        .into(),
        message: check.message.clone(),
        advice: check.advice.clone(),
    };
    v1::Compatibility {
        device: found.device.clone(),
        compatible: found.is_compatible,
        needed_bytes: found.needed.0,
        capacity_bytes: found.capacity.0,
        checks: found.checks.iter().map(check).collect(),
    }
}

/// What is known of a model's soundness.
#[must_use]
pub fn model_verdict(model: &Model) -> v1::ModelVerdict {
    v1::ModelVerdict {
        model: ResourceName::Model(model.id).to_string(),
        display_name: model.name().to_owned(),
        path: model.path.text().into_owned(),
        verdict: verdict(model.verdict()).into(),
        findings: model.findings().into_iter().map(finding).collect(),
        validate_time: model.validation.as_ref().map(|validation| timestamp(validation.at)),
        state: crate::models::state(model.state).into(),
    }
}
