//! Looks at every byte of a model and says what is wrong with it.
//!
//! What is compared: an archive's own checksums; the SHA-256 that a hub's blob is named by, that a `.sha256` beside the
//! file holds, or that somebody gave; the digests that were recorded of the same bytes. What is only remarked: values
//! that are not finite, tensors of zeros, hashes in metadata, which tools copy from file to file.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_domain::{
    Digest, FileChecksum, Finding, FindingKind, ModelContent, ModelFormat, ValidationReport, Verdict,
    excerpt, plural,
};
use hoist_formats::{FileSource, Source, torch};

use crate::contents::{Contents, Pace, ReadFailure, Wanted, read_contents};
use crate::digest::digests;
use crate::probe::{Details, details};
use crate::reading::{PartReading, inner};
use crate::roots::{self, Roots};
use crate::walk::Unit;

/// A sidecar holds a checksum and a name. Larger is something else.
const SIDECAR_BYTES: u64 = 4 << 10;

/// Keys under which makers leave the SHA-256 of what follows the header.
const DATA_HASHES: [&str; 2] = ["modelspec.hash_sha256", "sshs_model_hash"];

/// What to find out.
#[derive(Clone, Debug, Default)]
pub struct Examine {
    /// The model as it is recorded: its digests are compared with those that are found.
    pub known: Option<ModelContent>,
    /// What the SHA-256 of the model's one file should be, in hexadecimal; empty: not known.
    pub sha256: String,
    /// Tell the SHA-256 of every file.
    pub checksums: bool,
}

/// What every byte of a model says.
#[derive(Clone, Debug)]
pub struct Examined {
    pub content: ModelContent,
    pub digests: Vec<(usize, Digest)>,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// The bytes are not those that whoever asked has in mind: that says nothing about the file to anybody else.
    pub mismatch: Option<Finding>,
    pub checksums: Vec<FileChecksum>,
    pub bytes: u64,
}

/// What something says about a file's SHA-256.
struct Expected {
    sha256: String,
    source: String,
}

/// Reads everything of a unit, and judges it.
///
/// # Errors
/// When a file cannot be read, or changes meanwhile.
pub fn examine(roots: &Roots, unit: &Unit, what: &Examine, pace: Pace<'_>) -> Result<Examined, ReadFailure> {
    let details = details(roots, unit).map_err(|error| ReadFailure::Io(unit.path.clone(), error))?;
    let mut findings = details.reading.findings.clone();
    let expected = expected(roots, unit, &details, &mut findings);
    let wants_sums = what.checksums
        || !what.sha256.is_empty()
        || expected.iter().flatten().any(Option::is_some)
        || details.reading.parts.iter().any(|part| data_hash(part).is_some());
    let wanted = Wanted { values: true, sha256: wants_sums };
    // Nothing is known of what lies in it, and nothing to compare it with: there is nothing to find in its bytes.
    let is_hopeless = details.content.verdict > Verdict::Suspicious
        && !wants_sums
        && details.reading.parts.iter().all(|part| part.tensors.is_empty());
    let read = if is_hopeless {
        Ok(Contents::default())
    } else {
        read_contents(roots, unit, &details.reading, wanted, pace)
    };
    let contents = match read {
        Ok(contents) => contents,
        // What the headers deny is damage, and was found; a file that shrinks under a reader is not.
        Err(ReadFailure::Truncated(_)) if details.content.verdict > Verdict::Suspicious => {
            Contents::default()
        }
        Err(failure) => return Err(failure),
    };
    archives(roots, unit, &details, &mut findings, pace)?;
    let tell_all = what.checksums || !what.sha256.is_empty();
    let mut checksums = compare_sums(unit, &details, &contents, &expected, tell_all, &mut findings);
    for checksum in checksums.iter_mut().filter(|sum| sum.expected.is_empty() && !what.sha256.is_empty()) {
        checksum.expected.clone_from(&what.sha256);
        checksum.source = "request".to_owned();
    }
    let mismatch = mismatch(&what.sha256, &contents);
    let digests = digests(&details, &contents);
    compare_digests(what.known.as_ref(), &details, &digests, &mut findings);
    values(unit, &details, &contents, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    Ok(Examined { content: details.content, digests, findings, mismatch, checksums, bytes: contents.bytes })
}

/// As many findings as a report holds, and how many more there are.
#[must_use]
pub fn first_of(mut findings: Vec<Finding>) -> (Vec<Finding>, u64) {
    let more = findings.len().saturating_sub(ValidationReport::MAX_FINDINGS);
    findings.truncate(ValidationReport::MAX_FINDINGS);
    (findings, more as u64)
}

/// A file whose reading can be ended from outside.
struct Stoppable<'a> {
    source: FileSource<'a>,
    stop: &'a AtomicBool,
}

impl Source for Stoppable<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        self.source.read_at(offset, buffer)
    }
}

/// The archives' own checksums.
fn archives(
    roots: &Roots,
    unit: &Unit,
    details: &Details,
    findings: &mut Vec<Finding>,
    pace: Pace<'_>,
) -> Result<(), ReadFailure> {
    let is_archive = |format| {
        !matches!(
            format,
            ModelFormat::Safetensors | ModelFormat::Gguf | ModelFormat::Onnx | ModelFormat::Unknown
        )
    };
    for part in details.reading.parts.iter().filter(|part| is_archive(part.format)) {
        for file in &part.files {
            let path = unit.path_of(file);
            let failed = |error| match pace.stop.load(Ordering::Relaxed) {
                true => ReadFailure::Stopped,
                false => ReadFailure::Io(path.clone(), error),
            };
            let (opened, identity) = roots.open_file(&path).map_err(failed)?;
            let source = Stoppable { source: FileSource::new(&opened, identity.size), stop: pace.stop };
            let shown = inner(unit, file);
            let found = torch::verify(&source).map_err(failed)?;
            // What was found is of the file that was described, or of nothing.
            let after = rustix::fs::fstat(&opened).map_err(|error| failed(error.into()))?;
            let known = details.reading.files.iter().find(|known| known.path == *file);
            if roots::identity(&after) != identity || known.is_some_and(|known| known.identity != identity) {
                return Err(ReadFailure::Changed(path));
            }
            for finding in found {
                let finding = if shown.is_empty() { finding } else { finding.in_file(&shown) };
                // The pickle's own checksum is compared by each look at the header.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    Ok(())
}

/// By part, by file.
fn expected(
    roots: &Roots,
    unit: &Unit,
    details: &Details,
    findings: &mut Vec<Finding>,
) -> Vec<Vec<Option<Expected>>> {
    let mut of_file = |file: &Path| {
        let path = unit.path_of(file);
        hub_name(&path).or_else(|| sidecar(roots, unit, file, &path, findings))
    };
    let parts = details.reading.parts.iter();
    parts.map(|part| part.files.iter().map(|file| of_file(file)).collect()).collect()
}

/// A hub's cache names large files by their SHA-256, and links to them.
fn hub_name(path: &Path) -> Option<Expected> {
    // Only the name that the link holds is used; nothing is opened by it.
    let target = std::fs::read_link(path).ok()?;
    let folder = target.parent()?.file_name()?;
    let name = target.file_name()?.to_str()?;
    (folder == "blobs" && is_sha256(name))
        .then(|| Expected { sha256: name.to_owned(), source: "hub".to_owned() })
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `model.safetensors.sha256` or `model.sha256`, as `sha256sum` writes them.
fn sidecar(
    roots: &Roots,
    unit: &Unit,
    file: &Path,
    path: &Path,
    findings: &mut Vec<Finding>,
) -> Option<Expected> {
    let appended = path.with_added_extension("sha256");
    for beside in [appended, path.with_extension("sha256")] {
        let Ok((opened, _)) = roots.open_file(&beside) else { continue };
        let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut text = String::new();
        let read = opened.take(SIDECAR_BYTES).read_to_string(&mut text);
        let first = text.split_whitespace().next().unwrap_or_default();
        if read.is_ok() && is_sha256(first) {
            return Some(Expected { sha256: first.to_ascii_lowercase(), source: name });
        }
        let message = format!("`{}` holds no SHA-256: the file is not compared with it", excerpt(&name));
        let finding = Finding::new(FindingKind::Metadata, Verdict::Ok, message);
        let shown = inner(unit, file);
        findings.push(if shown.is_empty() { finding } else { finding.in_file(&shown) });
    }
    None
}

/// What a maker's metadata says of the bytes after the header.
fn data_hash(part: &PartReading) -> Option<(&'static str, String)> {
    DATA_HASHES.iter().find_map(|key| {
        let said = part.metadata.get(*key)?.trim().trim_start_matches("0x").to_ascii_lowercase();
        (part.format == ModelFormat::Safetensors && is_sha256(&said)).then_some((*key, said))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compare_sums(
    unit: &Unit,
    details: &Details,
    contents: &Contents,
    expected: &[Vec<Option<Expected>>],
    tell_all: bool,
    findings: &mut Vec<Finding>,
) -> Vec<FileChecksum> {
    let mut told = Vec::new();
    for ((part, facts), expected) in details.reading.parts.iter().zip(&contents.files).zip(expected) {
        for ((file, facts), expected) in part.files.iter().zip(facts).zip(expected) {
            let Some(sha256) = facts.sha256.as_ref().map(|sum| hex(sum)) else { continue };
            let shown = inner(unit, file);
            let place = |finding: Finding| if shown.is_empty() { finding } else { finding.in_file(&shown) };
            if let Some(expected) = expected.as_ref().filter(|expected| expected.sha256 != sha256) {
                let message = format!(
                    "the SHA-256 is {sha256}, and {} says it should be {}",
                    excerpt(&expected.source),
                    expected.sha256
                );
                findings.push(place(Finding::corrupt(FindingKind::Checksum, message)));
            }
            if let (Some((key, said)), Some(data)) = (data_hash(part), facts.data_sha256)
                && part.files.len() == 1
                && said != hex(&data)
            {
                let message = format!(
                    "the data is not what `{key}` was made of: rewritten since, or by a tool that copied it"
                );
                findings.push(place(Finding::new(FindingKind::Metadata, Verdict::Ok, message)));
            }
            if tell_all || expected.is_some() {
                let (expected, source) = expected
                    .as_ref()
                    .map(|expected| (expected.sha256.clone(), expected.source.clone()))
                    .unwrap_or_default();
                told.push(FileChecksum { file: shown, sha256, expected, source });
            }
        }
    }
    told
}

/// Whether a model that is one file is the one that somebody thinks it is.
fn mismatch(wanted: &str, contents: &Contents) -> Option<Finding> {
    let [files] = contents.files.as_slice() else { return None };
    let [facts] = files.as_slice() else { return None };
    let found = facts.sha256.as_ref().map(|sum| hex(sum)).filter(|found| found != wanted)?;
    let message = format!("the SHA-256 is {found}, and the request says it should be {wanted}");
    (!wanted.is_empty()).then(|| Finding::corrupt(FindingKind::Checksum, message))
}

/// The same file by all that the file system says, with other bytes: a disk that forgets.
fn compare_digests(
    known: Option<&ModelContent>,
    details: &Details,
    found: &[(usize, Digest)],
    findings: &mut Vec<Finding>,
) {
    // Of a file that was written since, other digests are due.
    let Some(known) = known.filter(|known| known.has_bytes_of(&details.content)) else { return };
    for (number, digest) in found {
        let (Some(before), Some(now)) =
            (known.components.get(*number), details.content.components.get(*number))
        else {
            continue;
        };
        if before.name == now.name && before.digest.is_some_and(|before| before != *digest) {
            let name = &before.name;
            findings.push(if known.vouches_for(&details.content) {
                Finding::corrupt(
                    FindingKind::Checksum,
                    format!(
                        "the bytes of component `{name}` are not those that were read before, though the file was not \
                         written to"
                    ),
                )
            } else {
                // Somebody has touched the file, and may have written to it and put its time back.
                Finding::new(
                    FindingKind::Checksum,
                    Verdict::Ok,
                    format!("component `{name}` has other bytes than before its file was last touched: its digest is new"),
                )
            });
        }
    }
}

fn values(unit: &Unit, details: &Details, contents: &Contents, findings: &mut Vec<Finding>) {
    for (part, facts) in details.reading.parts.iter().zip(&contents.tensors) {
        let file = part.files.first().map(|file| inner(unit, file)).unwrap_or_default();
        let place = |finding: Finding| if file.is_empty() { finding } else { finding.in_file(&file) };
        let with = |is: &dyn Fn(&crate::contents::TensorFacts) -> bool| {
            let all = part.tensors.iter().zip(facts);
            let fitting =
                all.filter_map(|(tensor, facts)| facts.as_ref().filter(|facts| is(facts)).map(|_| tensor));
            let names: Vec<&str> = fitting.map(|tensor| &*tensor.name).collect();
            names.first().map(|first| ((*first).to_owned(), names.len()))
        };
        if let Some((first, count)) = with(&|facts| facts.non_finite > 0) {
            let values: u64 = facts.iter().flatten().map(|facts| facts.non_finite).sum();
            let message =
                format!("not finite: {} in {}", plural(values, "value"), plural(count as u64, "tensor"));
            findings.push(place(Finding::new(FindingKind::Data, Verdict::Ok, message).tensor(&first)));
        }
        if let Some((first, count)) = with(&|facts| facts.is_zero) {
            let message = format!("nothing but zeros in {}", plural(count as u64, "tensor"));
            findings.push(place(Finding::new(FindingKind::Data, Verdict::Ok, message).tensor(&first)));
        }
    }
}
