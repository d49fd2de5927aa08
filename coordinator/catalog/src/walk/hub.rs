//! A repository in the hub's cache: blobs, and snapshots that link to them. One model, whatever its snapshots.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hoist_domain::{Finding, FindingKind, Verdict};
use rustix::fs::{Dir, FileType};

use super::{Collected, Unit, UnitKind, Walk};
use crate::roots::stat_entry;

impl Walk<'_> {
    /// The snapshot of a hub repository that `main` names, or the only one, or the newest.
    pub(super) fn hub(&mut self, path: &Path) -> Option<Unit> {
        let mut findings = Vec::new();
        let snapshot = match self.commit(path) {
            Ok(snapshot) => snapshot,
            Err(finding) => {
                findings.push(finding);
                None
            }
        };
        let snapshots = match self.roots.open_directory(&path.join("snapshots")) {
            Ok(snapshots) => snapshots,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.unreadable(path, &error.to_string());
                }
                return None;
            }
        };
        let newest = || {
            let entries = Dir::read_from(&snapshots).ok()?.flatten();
            let named = entries
                .map(|entry| OsString::from(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes())));
            let commits = named.filter(|name| name != "." && name != "..").filter_map(|name| {
                let (kind, identity) = stat_entry(&snapshots, &name).ok()?;
                (kind == FileType::Directory)
                    .then(|| Some((identity.modified_ns, name.into_string().ok()?)))?
            });
            commits.max()
        };
        let known = snapshot.filter(|commit| stat_entry(&snapshots, commit).is_ok());
        let snapshot = known.or_else(|| newest().map(|(_, name)| name))?;
        let top = path.join("snapshots").join(&snapshot);
        let dangling_before = self.report.skipped.get("link to nothing").copied().unwrap_or_default();
        let outside_before = self.outside;
        let Collected { mut files, findings: more, other_bytes, is_partial } = self.collect(&top, 3);
        if is_partial {
            self.unlisted.push(path.to_owned());
            return None;
        }
        findings.extend(more);
        let dangling =
            self.report.skipped.get("link to nothing").copied().unwrap_or_default() - dangling_before;
        if dangling > 0 {
            findings.push(Finding::new(
                FindingKind::Partial,
                Verdict::Incomplete,
                format!("{dangling} files of the snapshot are not there: the download is not finished"),
            ));
        }
        if self.outside > outside_before {
            findings.push(Finding::new(FindingKind::Path, Verdict::Rejected, "a link leads out of the root"));
        }
        if files.is_empty() && findings.is_empty() {
            findings.push(Finding::new(FindingKind::Partial, Verdict::Incomplete, "the snapshot is empty"));
        }
        for file in &mut files {
            file.path = Path::new("snapshots").join(&snapshot).join(&file.path);
        }
        Some(Unit { path: path.to_owned(), kind: UnitKind::Hub { snapshot }, files, findings, other_bytes })
    }

    /// The commit that `refs/main` names.
    fn commit(&self, path: &Path) -> Result<Option<String>, Finding> {
        let Ok((file, identity)) = self.roots.open_file(&path.join("refs/main")) else { return Ok(None) };
        let source = hoist_formats::FileSource::new(&file, identity.size);
        let Ok(bytes) = hoist_formats::read_at_most(&source, 0, 256) else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        if !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Some(text));
        }
        Err(Finding::new(FindingKind::Path, Verdict::Rejected, "refs/main is not the name of a commit"))
    }
}
