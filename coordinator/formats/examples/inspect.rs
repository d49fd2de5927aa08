//! Prints what the readers find out about files: one line of JSON for each file named on the command line.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use hoist_formats::{FileSource, Inspection, inspect};

fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        let path = Path::new(&path);
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // An example measures; the daemon takes its time from its clock.
        #[expect(clippy::disallowed_methods)]
        let start = Instant::now();
        let found = inspect(&FileSource::new(&file, size), &name)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", line(path, &found, seconds));
    }
    Ok(())
}

fn line(path: &Path, found: &Inspection, seconds: f64) -> serde_json::Value {
    let mut dtypes = BTreeMap::<&str, u64>::new();
    for tensor in &found.tensors {
        *dtypes.entry(tensor.dtype.as_str()).or_default() += 1;
    }
    let verdict = found.verdict();
    let worst = found.findings.iter().find(|finding| finding.verdict == verdict);
    serde_json::json!({
        "path": path.to_string_lossy(),
        "format": found.format.as_str(),
        "tensors": found.tensors.len(),
        "params": found.tensors.iter().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.elements())),
        "dtypes": dtypes,
        "verdict": verdict.as_str(),
        "kind": worst.map(|finding| finding.kind.as_str()),
        "messages": found.findings.iter().map(|finding| &finding.message).collect::<Vec<_>>(),
        "metadata": found.metadata.len(),
        "globals": found.globals,
        "beside": hoist_formats::companions(found, &path.file_name().unwrap_or_default().to_string_lossy()),
        "header_bytes": found.header_bytes,
        "seconds": seconds,
    })
}
