//! Prints what a scan of folders finds, a JSON line a model: `scan DIR...`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for developers"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hoist_catalog::{Known, KnownModel, Links, Root, Roots, Scan, Seen, run};
use hoist_domain::{ModelId, ModelPath};
use serde_json::json;

struct Nothing;

impl Known for Nothing {
    fn at(&self, _: &ModelPath) -> Option<KnownModel> {
        None
    }
    fn of_file(&self, _: u64, _: u64) -> Vec<KnownModel> {
        Vec::new()
    }
    fn below(&self, _: &ModelPath) -> Vec<(ModelId, ModelPath, bool)> {
        Vec::new()
    }
}

fn main() {
    let roots =
        std::env::args().skip(1).map(|path| Root::open(path.as_ref()).expect("a readable folder")).collect();
    let scan = Scan {
        roots: Arc::new(Roots::new(roots, Links::Roots)),
        paths: Vec::new(),
        reread: false,
        known: Arc::new(Nothing),
        progress: Arc::default(),
        stop: Arc::default(),
        stuck_after: Duration::from_secs(30),
    };
    let started = Instant::now();
    let report = run(scan, &|| started.elapsed(), &mut |seen| {
        let Seen::Model { path, path_name, content, .. } = seen else { return };
        let findings: Vec<_> = content
            .findings
            .iter()
            .map(|finding| json!({"kind": finding.kind, "verdict": finding.verdict, "message": finding.message, "file": finding.file}))
            .collect();
        let components: Vec<_> = content
            .components
            .iter()
            .map(|c| json!({"name": &*c.name, "type": c.component_type, "prefix": &*c.prefix, "tensors": c.tensors, "bytes": c.bytes}))
            .collect();
        println!(
            "{}",
            json!({
                "path": path.text(), "name": &*path_name, "format": content.format, "type": content.model_type,
                "base": content.base, "variant": &*content.variant, "candidates": content.candidates,
                "confidence": content.confidence_percent, "tensors": content.tensors, "params": content.parameters,
                "dtypes": content.dtypes, "bytes": content.bytes, "verdict": content.verdict,
                "verdict_kind": content.verdict_kind(), "findings": findings, "components": components,
            })
        );
    });
    eprintln!("{report:#?}");
}
