//! Prints what the torch reader finds in each file, a JSON line each: `inspect_torch [--verify] FILE...`. Development only.

use std::fs::File;

use hoist_formats::{FileSource, Source, torch};

fn main() -> std::io::Result<()> {
    let mut verify = false;
    for path in std::env::args().skip(1) {
        if path == "--verify" {
            verify = true;
            continue;
        }
        let file = File::open(&path)?;
        let source = FileSource::new(&file, file.metadata()?.len());
        let mut inspection = torch::inspect(&source, &path)?;
        if verify && source.size() < 1 << 30 {
            torch::verify(&source)?.into_iter().for_each(|finding| inspection.find(finding));
        }
        let parameters: u64 = inspection.tensors.iter().map(hoist_formats::Tensor::elements).sum();
        let mut dtypes = std::collections::BTreeMap::new();
        for tensor in &inspection.tensors {
            *dtypes.entry(tensor.dtype.as_str()).or_insert(0_u64) += 1;
        }
        let findings: Vec<String> = inspection
            .findings
            .iter()
            .map(|finding| {
                format!(
                    "[{:?}, {:?}, {:?}]",
                    finding.verdict.as_str(),
                    finding.kind.as_str(),
                    finding.message
                )
            })
            .collect();
        let names: Vec<&str> = inspection.tensors.iter().take(4).map(|tensor| &*tensor.name).collect();
        println!(
            "{{\"path\": {path:?}, \"format\": {:?}, \"verdict\": {:?}, \"tensors\": {}, \"params\": {parameters}, \"dtypes\": {dtypes:?}, \"globals\": {:?}, \"names\": {names:?}, \"metadata\": {:?}, \"findings\": [{}]}}",
            inspection.format.as_str(),
            inspection.verdict().as_str(),
            inspection.tensors.len(),
            inspection.globals,
            inspection.metadata,
            findings.join(", "),
        );
    }
    Ok(())
}
