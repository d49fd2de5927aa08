//! Whether a device can take a model: decided from what the catalog knows of the one and the machine of the other.

use hoist_domain::{
    Bytes, CheckResult, Compatibility, CompatibilityCategory as Category, CompatibilityCheck, Dtype,
    FindingKind, Model, ModelFormat, ModelState, Verdict,
};

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceFacts {
    /// `cpu:0`.
    pub(super) name: String,
    pub(super) capacity: Bytes,
    pub(super) available: Bytes,
}

fn check(category: Category, result: CheckResult, message: String, advice: &str) -> CompatibilityCheck {
    CompatibilityCheck { category, result, message, advice: advice.to_owned() }
}

fn ok(category: Category, message: impl Into<String>) -> CompatibilityCheck {
    check(category, CheckResult::Ok, message.into(), "")
}

/// Judges; `readable` is why its headers could not be read just now, if they could not.
pub(super) fn judge(model: &Model, device: DeviceFacts, readable: Result<(), String>) -> Compatibility {
    let checks = vec![
        access(model, readable),
        integrity(model),
        format(model),
        dtypes(model),
        code(model),
        memory(model, &device),
    ];
    Compatibility {
        is_compatible: checks.iter().all(|check| check.result != CheckResult::Failed),
        device: device.name,
        needed: weights(model),
        capacity: device.capacity,
        checks,
    }
}

/// What its tensors take.
fn weights(model: &Model) -> Bytes {
    let of_components = model.content.components.iter().fold(0, |sum: u64, c| sum.saturating_add(c.bytes.0));
    if of_components > 0 { Bytes(of_components) } else { model.content.bytes }
}

fn access(model: &Model, readable: Result<(), String>) -> CompatibilityCheck {
    match readable {
        Err(why) => {
            check(Category::Access, CheckResult::Failed, why, "make the files readable for the server")
        }
        Ok(()) if model.state != ModelState::Available => check(
            Category::Access,
            CheckResult::Failed,
            "its files are not there".to_owned(),
            "bring them back, then scan",
        ),
        Ok(()) => ok(Category::Access, "its files can be read"),
    }
}

fn integrity(model: &Model) -> CompatibilityCheck {
    let verdict = model.verdict();
    let findings = model.findings();
    let worst = findings.first().map_or_else(String::new, |finding| format!(": {}", finding.message));
    let advice = findings.first().map_or("validate it in full", |finding| finding.advice());
    match verdict {
        Verdict::Ok if model.validation.is_some() => ok(Category::Integrity, "every byte was found sound"),
        Verdict::Ok => ok(Category::Integrity, "its headers are sound; its data has not been looked at"),
        Verdict::Suspicious => {
            check(Category::Integrity, CheckResult::Warning, format!("suspicious{worst}"), advice)
        }
        _ => check(Category::Integrity, CheckResult::Failed, format!("{verdict}{worst}"), advice),
    }
}

fn format(model: &Model) -> CompatibilityCheck {
    let format = model.content.format;
    let unsupported = model.findings().into_iter().find(|finding| finding.kind == FindingKind::Unsupported);
    if let Some(finding) = unsupported {
        return check(
            Category::Format,
            CheckResult::Failed,
            finding.message.clone(),
            "convert it to safetensors",
        );
    }
    match format {
        ModelFormat::Unknown | ModelFormat::Zip | ModelFormat::RawPickle => check(
            Category::Format,
            CheckResult::Failed,
            format!("{format} is not a model format"),
            "get the model as safetensors",
        ),
        ModelFormat::Onnx | ModelFormat::TorchExport => check(
            Category::Format,
            CheckResult::Failed,
            format!("there is no reader for the weights of {format}"),
            "get or convert the model as safetensors",
        ),
        ModelFormat::Gguf => check(
            Category::Format,
            CheckResult::Warning,
            "gguf is held as it is on disk: only clients that read gguf can use it".to_owned(),
            "",
        ),
        _ => ok(Category::Format, format!("{format} can be read")),
    }
}

/// Types that CPUs and PyTorch hold, but do not compute with.
const fn is_stored_only(dtype: Dtype) -> bool {
    matches!(
        dtype,
        Dtype::F8E4m3
            | Dtype::F8E5m2
            | Dtype::F8E4m3Fnuz
            | Dtype::F8E5m2Fnuz
            | Dtype::F8E8m0
            | Dtype::F4
            | Dtype::U4
            | Dtype::I4
            | Dtype::F6E2m3
            | Dtype::F6E3m2
    )
}

fn dtypes(model: &Model) -> CompatibilityCheck {
    let named = |fits: &dyn Fn(Dtype) -> bool| -> Vec<&str> {
        model
            .content
            .dtypes
            .iter()
            .filter(|(dtype, _)| fits(*dtype))
            .map(|(dtype, _)| dtype.as_str())
            .collect()
    };
    let stored = named(&is_stored_only);
    let blocks = named(&|dtype| dtype.block_elements() > 4);
    if !stored.is_empty() {
        return check(
            Category::Dtype,
            CheckResult::Warning,
            format!("{} is held but not computed with: it takes a conversion at each use", stored.join(", ")),
            "for the CPU, get it as F16, BF16 or F32",
        );
    }
    if !blocks.is_empty() {
        let message =
            format!("{} is a block type: only clients that know it can compute with it", blocks.join(", "));
        return check(Category::Dtype, CheckResult::Warning, message, "");
    }
    ok(Category::Dtype, "all its element types are computed with")
}

fn code(model: &Model) -> CompatibilityCheck {
    let is_trusted = model.notes.as_ref().is_some_and(|notes| notes.config.trusted);
    let is_script = matches!(model.content.format, ModelFormat::Torchscript | ModelFormat::TorchExport);
    // What a pickle would import, and a configuration that names code of its folder.
    let asks_for_code = model.findings().into_iter().find(|finding| match finding.kind {
        FindingKind::Pickle => finding.verdict >= Verdict::Suspicious,
        FindingKind::Metadata => finding.verdict == Verdict::Suspicious,
        _ => false,
    });
    match (is_script, asks_for_code) {
        (false, None) => ok(Category::Code, "it holds no code"),
        _ if is_trusted => ok(Category::Code, "it holds code that its owner vouches for"),
        (true, _) => check(
            Category::Code,
            CheckResult::Failed,
            format!("{} is code, which runs when it is used", model.content.format),
            "set config.trusted if you know where it comes from: `hoist edit NAME --trusted`",
        ),
        (false, Some(finding)) => check(
            Category::Code,
            CheckResult::Warning,
            format!("{}; nothing here runs it", finding.message),
            "use it only as weights, or get it as safetensors",
        ),
    }
}

fn memory(model: &Model, device: &DeviceFacts) -> CompatibilityCheck {
    let (needed, Bytes(capacity), Bytes(available)) = (weights(model), device.capacity, device.available);
    if needed.0 > capacity {
        let message = format!("it takes {needed}, and {} has {}", device.name, device.capacity);
        return check(
            Category::Memory,
            CheckResult::Failed,
            message,
            "use a smaller precision, a part of it, or another device",
        );
    }
    if needed.0 > available {
        let message =
            format!("it takes {needed}, and {} of {} is free now", device.available, device.capacity);
        return check(Category::Memory, CheckResult::Warning, message, "something else has to go first");
    }
    ok(Category::Memory, format!("it takes {needed} of {}", device.capacity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::test_models::model;

    fn judged(model: &Model, gib: u64) -> Vec<(Category, CheckResult)> {
        let device =
            DeviceFacts { name: "cpu:0".into(), capacity: Bytes::gib(gib), available: Bytes::gib(gib / 2) };
        let checks = judge(model, device, Ok(())).checks;
        checks
            .iter()
            .map(|it| (it.category, it.result))
            .filter(|(_, result)| *result != CheckResult::Ok)
            .collect()
    }

    #[test]
    fn what_stands_against_a_model_is_named() {
        let sound = model("/m/a.safetensors", "lora", "sdxl", 3 << 30, &[]);
        assert_eq!(judged(&sound, 16), []);
        assert_eq!(judged(&sound, 4), [(Category::Memory, CheckResult::Warning)]);
        assert_eq!(judged(&sound, 2), [(Category::Memory, CheckResult::Failed)]);
        let with = |change: &dyn Fn(&mut hoist_domain::ModelContent)| {
            let mut changed = Model::clone(&sound);
            let mut content = hoist_domain::ModelContent::clone(&changed.content);
            change(&mut content);
            changed.content = std::sync::Arc::new(content);
            judged(&changed, 16)
        };
        assert_eq!(with(&|c| c.format = ModelFormat::Onnx), [(Category::Format, CheckResult::Failed)]);
        assert_eq!(with(&|c| c.format = ModelFormat::Torchscript), [(Category::Code, CheckResult::Failed)]);
        assert_eq!(
            with(&|c| c.dtypes = [(Dtype::F8E4m3, 3)].into()),
            [(Category::Dtype, CheckResult::Warning)]
        );
        assert_eq!(with(&|c| c.verdict = Verdict::Corrupt), [(Category::Integrity, CheckResult::Failed)]);
        let missing = Model { state: ModelState::Missing, ..Model::clone(&sound) };
        assert_eq!(judged(&missing, 16), [(Category::Access, CheckResult::Failed)]);
    }
}
