//! The published state as a scan sees it, and a known model as the unit it was found as.

use std::path::Path;
use std::sync::Arc;

use hoist_catalog::{Known, Roots, Unit, UnitFile, UnitKind};
use hoist_domain::{FileIdentity, Model, ModelFormat, ModelPath, Verdict};

/// The state as of one moment: a scan compares against that and lets the owner sort out what has happened since.
pub(super) struct View(pub(super) Arc<crate::control::View>);

impl Known for View {
    fn count(&self) -> usize {
        self.0.state.models().len()
    }

    fn at(&self, path: &ModelPath) -> Option<&Arc<Model>> {
        self.0.state.models().at(path)
    }

    fn from<'a>(&'a self, path: &ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a> {
        Box::new(self.0.state.models().from(path))
    }

    fn of_file(&self, device: u64, inode: u64) -> Vec<&Arc<Model>> {
        self.0.state.models().of_file(device, inode).collect()
    }

    fn below<'a>(&'a self, path: &'a ModelPath) -> Box<dyn Iterator<Item = &'a Arc<Model>> + 'a> {
        Box::new(self.0.state.models().below(path))
    }
}

/// The unit that a model is now: a single file as it was found, anything else as it is put together anew.
pub(super) fn unit_of(roots: &Roots, model: &Model) -> Unit {
    let mut found = recorded(model);
    if found.kind == UnitKind::File {
        if found.files.len() == 1 {
            return found;
        }
        // What only a header names is not the walk's.
        found.files.truncate(1);
    }
    // Gone, or not to be listed: whoever reads it will find out.
    hoist_catalog::unit_at(roots, model.path.as_path()).ok().flatten().unwrap_or(found)
}

fn recorded(model: &Model) -> Unit {
    let files = model.content.files.iter().map(|file| UnitFile {
        path: file.path.as_path().to_owned(),
        identity: file.identity,
        is_weights: file.is_weights,
    });
    let files: Vec<UnitFile> = files.collect();
    let is_file = model.content.is_file();
    let has = |name: &str| files.iter().any(|file| file.path == Path::new(name));
    // A link that leads out of the roots was not opened, and is not now.
    let is_rejected = is_file
        && model.content.verdict == Verdict::Rejected
        && files.iter().all(|file| file.identity == FileIdentity::default());
    let kind = if is_rejected {
        UnitKind::Rejected
    } else if is_file {
        UnitKind::File
    } else if model.content.format == ModelFormat::HfCache {
        let snapshot = files.first().and_then(|file| file.path.iter().nth(1));
        UnitKind::Hub { snapshot: snapshot.unwrap_or_default().to_string_lossy().into_owned() }
    } else if has("model_index.json") {
        UnitKind::Pipeline
    } else {
        UnitKind::Folder
    };
    // Of all others the readers find again what was found.
    let findings = if is_rejected { model.content.findings.to_vec() } else { Vec::new() };
    Unit { path: model.path.as_path().to_owned(), kind, files, findings, other_bytes: 0 }
}
