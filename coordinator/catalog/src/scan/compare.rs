//! What a unit on disk is to what is known: the same, changed, or a model that was somewhere else before. Asks the disk for
//! nothing but where files are.

use std::path::Path;

use hoist_domain::{FileIdentity, ModelContent, ModelId, ModelPath};

use super::{KnownModel, Scan, Unchanged};
use crate::roots::{Target, is_still_at};
use crate::walk::{Unit, UnitFile};

/// What a unit is to what is known.
pub(super) enum Compared {
    Unchanged(Unchanged),
    Changed(Option<(ModelId, ModelPath)>),
}

pub(super) fn compare(scan: &Scan, unit: &Unit) -> Compared {
    let path = ModelPath::new(&unit.path);
    let Some(known) = scan.known.at(&path) else { return Compared::Changed(moved_from(scan, unit)) };
    let is_same = known.is_available && same_files(scan, &known.content, unit);
    if is_same && !scan.reread {
        return Compared::Unchanged(Unchanged {
            id: known.id,
            bytes: known.content.bytes.0,
            verdict: known.content.verdict,
            model_type: known.content.model_type,
        });
    }
    // Another file is at its place: perhaps one that was somewhere else before. It takes its notes along.
    let key = |identity: FileIdentity| (identity.device, identity.inode);
    let its = known.content.main_file().map(|file| key(file.identity));
    let is_other = main_file(unit).is_some_and(|file| its != Some(key(file.identity)));
    Compared::Changed(if is_other { moved_from(scan, unit) } else { None })
}

fn main_file(unit: &Unit) -> Option<&UnitFile> {
    unit.files.iter().find(|file| file.is_weights)
}

/// Whether a known model's files are as they were: those that the walk lists, and those that only a header names.
fn same_files(scan: &Scan, content: &ModelContent, unit: &Unit) -> bool {
    let Some((listed, named)) = content.files.split_at_checked(unit.files.len()) else { return false };
    let found = |path: &Path| match scan.roots.resolve(&unit.path_of(path)) {
        Ok(Target::File(identity)) => identity,
        _ => FileIdentity::default(),
    };
    let is_as_listed = listed
        .iter()
        .zip(&unit.files)
        .all(|(known, file)| known.identity == file.identity && known.path.as_path() == file.path);
    is_as_listed
        && content.bytes.0 == unit.bytes_with(content.files.iter().map(|file| file.identity))
        && named.iter().all(|known| found(known.path.as_path()) == known.identity)
}

/// The known model whose bytes these are, if its file is not at its place any more, or is there as another path's model:
/// a folder's file on its own, or the other way round. A rename changes ctime and nothing else.
fn moved_from(scan: &Scan, unit: &Unit) -> Option<(ModelId, ModelPath)> {
    let file = main_file(unit)?;
    let (main, here) = (file.identity, unit.path_of(&file.path));
    // The file itself, or the folder it lies in: not a pipeline, whose components are models of their own until it comes.
    let is_near = |path: &Path| path == here || Some(path) == here.parent();
    let same = |known: &KnownModel| {
        let bytes = |identity: FileIdentity| FileIdentity { changed_ns: 0, ..identity };
        known.content.main_file().is_some_and(|file| {
            let below = file.path.as_path();
            let own = known.path.as_path();
            let place = if below.as_os_str().is_empty() { own.to_owned() } else { own.join(below) };
            let is_same = place == here && is_near(own) && is_near(&unit.path);
            let is_elsewhere =
                || own != unit.path && (is_same || !is_still_at(&place, main.device, main.inode));
            bytes(file.identity) == bytes(main) && (known.is_displaced || is_elsewhere())
        })
    };
    scan.known.of_file(main.device, main.inode).into_iter().find(same).map(|known| (known.id, known.path))
}
