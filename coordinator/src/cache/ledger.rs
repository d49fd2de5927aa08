//! Leases beside the segments that they hold: on the same tmpfs, a file for each, by the lease's id.
//!
//! A lease must outlive the coordinator that grants it, but not the memory that it is about: power that takes the one
//! takes the other. So its record is in that memory too, and granting one waits for no disk.
//!
//! A file is written before the lease is granted and removed after it has ended. What a kill leaves in between is a lease
//! that nobody comes back for, which ends with the grace period.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_domain::{Lease, LeaseId, ResourceName};
use hoist_segment::{Access, Directory, DirectoryError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tracing::warn;

/// Of one record: a model may have hundreds of components. What is larger is none of ours.
const MOST_BYTES: u64 = 256 << 10;

/// Before a name: it is being written.
const WRITING: &str = ".writing-";

/// The directory of leases. Cloning is a reference count.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    /// Another one after somebody has removed it.
    directory: Arc<Mutex<Directory>>,
}

impl Ledger {
    /// Opens the directory, and makes it if nothing is there.
    ///
    /// # Errors
    /// When it cannot be, or is not on tmpfs and ours alone.
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let directory = Arc::new(Mutex::new(Directory::open(path, Access::Owner)?));
        Ok(Self { path: path.to_owned(), directory })
    }

    fn path_of(&self, id: LeaseId) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Writes a lease down; it is there whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn keep(&self, lease: &Lease) -> io::Result<()> {
        let text = serde_json::to_vec(lease)?;
        match self.write(lease.id, &text) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_again().map_err(io::Error::other)?;
                self.write(lease.id, &text)
            }
            written => written,
        }
    }

    fn write(&self, id: LeaseId, text: &[u8]) -> io::Result<()> {
        let writing = self.path.join(format!("{WRITING}{id}"));
        let written = fs::write(&writing, text).and_then(|()| fs::rename(&writing, self.path_of(id)));
        if written.is_err() {
            let _ = fs::remove_file(&writing);
        }
        written
    }

    /// Somebody has removed the directory, and the records in it.
    fn make_again(&self) -> Result<(), DirectoryError> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited for the lock finds what the first has made.
        if !self.path.is_dir() {
            *directory = Directory::open(&self.path, Access::Owner)?;
            warn!(
                path = %self.path.display(),
                "somebody has removed the records of leases: those that are held now end with this server"
            );
        }
        Ok(())
    }

    /// It has ended, or was never granted.
    pub(super) fn forget(&self, id: LeaseId) {
        match fs::remove_file(self.path_of(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let lease = ResourceName::Lease(id);
                warn!(%lease, %error, "the record of a lease cannot be removed: the next start waits for its holder");
            }
            _ => {}
        }
    }

    /// The leases that the last coordinator left. What is no record is told and removed; what cannot be read is told and stays.
    pub(super) fn read(&self) -> io::Result<Vec<Lease>> {
        let mut leases = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let text = match read(&path) {
                Ok(text) => text,
                // It may be one. Its holder has lost it, and what comes next may read it.
                Err(error) => {
                    warn!(path = %path.display(), %error, "the record of a lease cannot be read");
                    continue;
                }
            };
            let lease = text.and_then(|text| serde_json::from_slice::<Lease>(&text).ok());
            match lease.filter(is_sound) {
                Some(lease) if self.path_of(lease.id) == path => leases.push(lease),
                _ => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    match fs::remove_file(&path) {
                        Ok(()) if name.starts_with(WRITING) => {}
                        Ok(()) => warn!(path = %path.display(), "this is no record of a lease: removed"),
                        Err(error) => {
                            warn!(path = %path.display(), %error, "this is no record of a lease: remove it");
                        }
                    }
                }
            }
        }
        Ok(leases)
    }
}

/// A file of the size that a record may have; none of anything else, which is neither followed nor waited for.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: fs::File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file.into(),
        // A link; a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > MOST_BYTES {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Whether it is what might have been granted.
fn is_sound(lease: &Lease) -> bool {
    let is_text = |text: &str| !text.contains(char::is_control);
    let names = lease.components.iter().map(|(name, _)| &**name);
    !lease.components.is_empty()
        && lease.holder.len() <= Lease::MAX_HOLDER_BYTES
        && is_text(&lease.holder)
        && names.into_iter().all(is_text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use hoist_domain::{Bytes, Digest, LeaseState, ModelId, Principal, WallTime};
    use uuid::Uuid;

    fn lease(number: u128) -> Lease {
        Lease {
            id: LeaseId(Uuid::from_u128(number)),
            state: LeaseState::Awaited,
            model: ModelId(Uuid::from_u128(1)),
            components: vec![("vae".into(), Digest([7; 32]))],
            on: None,
            bytes: Bytes(4_096),
            holder: "somebody".to_owned(),
            principal: Principal::Hoist,
            process: Some(12),
            granted_at: WallTime(1_760_000_000_000_000),
        }
    }

    /// A ledger on tmpfs, and what removes it.
    fn ledger() -> (Ledger, tempfile::TempDir) {
        let parent = tempfile::Builder::new().prefix("hoist-test-").tempdir_in("/dev/shm").unwrap();
        (Ledger::open(&parent.path().join("leases")).unwrap(), parent)
    }

    #[test]
    fn what_was_kept_and_not_forgotten_is_read_by_the_next() {
        let (ledger, parent) = ledger();
        for number in 1..4 {
            ledger.keep(&lease(number)).unwrap();
        }
        ledger.forget(lease(2).id);
        ledger.forget(lease(9).id);
        drop(ledger);
        let next = Ledger::open(&parent.path().join("leases")).unwrap();
        let mut read = next.read().unwrap();
        read.sort_by_key(|lease| lease.id);
        assert_eq!(read, [lease(1), lease(3)]);
        let mode = fs::metadata(parent.path().join("leases")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let (ledger, parent) = ledger();
        ledger.keep(&lease(1)).unwrap();
        fs::remove_dir_all(parent.path().join("leases")).unwrap();
        ledger.forget(lease(1).id);
        ledger.keep(&lease(2)).unwrap();
        ledger.keep(&lease(3)).unwrap();
        assert_eq!(ledger.read().unwrap().len(), 2);
        let another = Ledger::open(&parent.path().join("leases"));
        assert!(matches!(another, Err(DirectoryError::InUse { .. })), "{another:?}");
    }

    #[test]
    fn what_is_no_lease_is_removed_and_the_others_are_read() {
        let (ledger, parent) = ledger();
        ledger.keep(&lease(1)).unwrap();
        let leases = parent.path().join("leases");
        let whole = fs::read(ledger.path_of(lease(1).id)).unwrap();
        fs::write(leases.join(format!("{WRITING}{}", lease(2).id)), &whole[..whole.len() / 2]).unwrap();
        fs::write(leases.join(lease(3).id.to_string()), b"{}").unwrap();
        // Never followed, waited for, or read to its end.
        let name = |number| leases.join(lease(number).id.to_string());
        std::os::unix::fs::symlink(ledger.path_of(lease(1).id), name(5)).unwrap();
        std::os::unix::fs::symlink("/nowhere", name(6)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, name(7), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::File::create(name(8)).unwrap().set_len(1 << 40).unwrap();
        let forged = |number, change: fn(&mut Lease)| {
            let mut lease = lease(number);
            change(&mut lease);
            fs::write(name(number), serde_json::to_vec(&lease).unwrap()).unwrap();
        };
        forged(9, |lease| lease.holder = "x".repeat(100_000));
        forged(10, |lease| lease.holder = "\u{1b}[2J".to_owned());
        forged(11, |lease| lease.components.clear());
        // Under a name that is another's.
        fs::write(leases.join(lease(4).id.to_string()), &whole).unwrap();
        assert_eq!(ledger.read().unwrap(), [lease(1)]);
        assert_eq!(fs::read_dir(&leases).unwrap().count(), 1);
    }
}
