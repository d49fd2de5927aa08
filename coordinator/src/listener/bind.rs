//! Taking the addresses: safe permissions, honest refusals, no other server's socket taken away.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

/// Bound sockets, not served yet.
#[derive(Debug)]
pub struct Bound {
    pub unix: UnixListener,
    pub tcp: Option<TcpListener>,
    pub socket: SocketFile,
    /// The real address, also when port 0 was asked for.
    pub listen: Option<SocketAddr>,
}

/// Which file it is. Its number alone is not enough: file systems give it out again as soon as it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Unset where the file system does not say.
    made: Option<std::time::SystemTime>,
}

impl Identity {
    fn of(facts: &std::fs::Metadata) -> Option<Self> {
        let identity = Self { device: facts.dev(), inode: facts.ino(), made: facts.created().ok() };
        facts.file_type().is_socket().then_some(identity)
    }
}

/// The socket's name in the file system. Removed when the server ends, if it is still this server's.
#[derive(Clone, Debug)]
pub struct SocketFile {
    pub path: PathBuf,
    /// Unset: another file has had the name at once, and this server has none.
    identity: Option<Identity>,
    /// It is known that the name is lost, and has been said.
    is_lost: bool,
}

impl SocketFile {
    /// Takes the name away. Another server may have put its own socket there since; that one stays.
    pub fn remove(&self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|facts| self.is(&facts)) {
            // Left behind, it is a stale socket, which the next start replaces.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn is(&self, facts: &std::fs::Metadata) -> bool {
        self.identity.is_some() && Identity::of(facts) == self.identity
    }

    /// Puts the name back if somebody took it away; then connections come in on what is returned. What somebody put
    /// in its place stays: they have their reasons, and it may be another server.
    pub fn restore(&mut self) -> Option<UnixListener> {
        let lost: &dyn std::fmt::Display = match std::fs::symlink_metadata(&self.path) {
            Ok(facts) if self.is(&facts) => {
                self.is_lost = false;
                return None;
            }
            Ok(_) => &"something else has its name",
            Err(error) if error.kind() == io::ErrorKind::NotFound => match bind_unix(&self.path) {
                Ok((listener, name)) => {
                    warn!(socket = %self.path.display(), "somebody removed the socket; it is back");
                    *self = name;
                    return Some(listener);
                }
                Err(error) => &error.to_string(),
            },
            Err(error) => &error.to_string(),
        };
        if !std::mem::replace(&mut self.is_lost, true) {
            warn!(socket = %self.path.display(), cause = %lost, "nobody can connect to the socket any more");
        }
        None
    }
}

/// Why the server cannot listen. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("another server answers on {path}: stop it, or choose another --socket")]
    SocketInUse { path: String },
    #[error("{path} exists and is not a socket: remove it, or choose another --socket")]
    NotASocket { path: String },
    #[error("cannot bind the socket {path}: {cause}; choose a --socket in a directory that you may write")]
    Socket { path: String, cause: io::Error },
    #[error("cannot use {what} {path}: {cause}; choose another with {flag}")]
    Directory { what: &'static str, flag: &'static str, path: String, cause: io::Error },
    #[error(
        "{what} {path} belongs to another user or is open to others; it must be yours with mode 0700: fix it, or choose another with {flag}"
    )]
    DirectoryNotPrivate { what: &'static str, flag: &'static str, path: String },
    #[error("{what} {path} is a link of another user's: choose another with {flag}")]
    LinkNotOurs { what: &'static str, flag: &'static str, path: String },
    #[error("`{address}` is not host:port, for instance 127.0.0.1:7070")]
    AddressInvalid { address: String },
    #[error(
        "refusing to listen on {address}: without TLS and authentication only loopback is safe; use 127.0.0.1 or [::1], and a tunnel from outside"
    )]
    AddressNotLoopback { address: String },
    #[error("{address} is taken by another program: choose another port for --listen, or 0 for any")]
    AddressInUse { address: String },
    #[error("cannot listen on {address}: {cause}")]
    Address { address: String, cause: io::Error },
}

/// Makes sure that a directory exists, is ours, and is nobody else's business. Others could otherwise put a socket or
/// a file of theirs under a name of ours. A link to such a directory will do, if it is ours too or the system's: it
/// is followed once, here, and what is returned is where it leads.
///
/// # Errors
/// When it is not so and cannot be made so.
pub fn prepare_directory(what: &'static str, flag: &'static str, path: &Path) -> Result<PathBuf, BindError> {
    let directory = |cause| BindError::Directory { what, flag, path: path.display().to_string(), cause };
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(cause) => return Err(directory(cause)),
    }
    let user = rustix::process::geteuid().as_raw();
    let link = std::fs::symlink_metadata(path).map_err(directory)?;
    if link.is_symlink() && link.uid() != user && link.uid() != 0 {
        return Err(BindError::LinkNotOurs { what, flag, path: path.display().to_string() });
    }
    let resolved =
        if link.is_symlink() { std::fs::canonicalize(path).map_err(directory)? } else { path.to_owned() };
    let facts = std::fs::symlink_metadata(&resolved).map_err(directory)?;
    if !facts.is_dir() || facts.uid() != user || facts.mode() & 0o022 != 0 {
        return Err(BindError::DirectoryNotPrivate { what, flag, path: resolved.display().to_string() });
    }
    Ok(resolved)
}

/// Binds the Unix socket, and TCP if asked for.
///
/// # Errors
/// When an address is taken, unsafe or impossible.
pub async fn bind(socket: &Path, listen: Option<&str>) -> Result<Bound, BindError> {
    // TCP first: its refusals leave nothing behind.
    let tcp = match listen {
        Some(address) => Some(bind_tcp(address).await?),
        None => None,
    };
    let listen = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let (unix, socket) = bind_unix(socket)?;
    Ok(Bound { unix, tcp, socket, listen })
}

async fn bind_tcp(address: &str) -> Result<TcpListener, BindError> {
    let resolved: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|_| BindError::AddressInvalid { address: address.to_owned() })?
        .collect();
    if resolved.iter().any(|address| !address.ip().is_loopback()) {
        return Err(BindError::AddressNotLoopback { address: address.to_owned() });
    }
    TcpListener::bind(resolved.as_slice()).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse { address: address.to_owned() },
        _ => BindError::Address { address: address.to_owned(), cause },
    })
}

fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let shown = || path.display().to_string();
    match std::fs::symlink_metadata(path) {
        Ok(facts) if !facts.file_type().is_socket() => return Err(BindError::NotASocket { path: shown() }),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(BindError::SocketInUse { path: shown() });
        }
        // A socket that nobody answers on: its server died. The rename below replaces it.
        Ok(_) | Err(_) => {}
    }
    // Under a name of its own until its mode is right: at no moment can others connect.
    let socket = |cause| BindError::Socket { path: shown(), cause };
    let fresh = path.with_file_name(format!(".{}", std::process::id()));
    let listener = UnixListener::bind(&fresh).map_err(socket)?;
    let facts = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::symlink_metadata(&fresh))
        .and_then(|facts| std::fs::rename(&fresh, path).map(|()| facts))
        .inspect_err(|_| drop(std::fs::remove_file(&fresh)))
        .map_err(socket)?;
    let identity = Identity::of(&facts);
    Ok((listener, SocketFile { path: path.to_owned(), identity, is_lost: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refused = bind(&socket, Some(address)).await;
            assert!(matches!(refused, Err(BindError::AddressNotLoopback { .. })), "{address}");
        }
        for address in ["", "7070", "localhost", "127.0.0.1:x"] {
            let refused = bind(&socket, Some(address)).await;
            assert!(matches!(refused, Err(BindError::AddressInvalid { .. })), "{address}");
        }
        assert!(!socket.exists(), "a refusal leaves nothing behind");
    }

    #[tokio::test]
    async fn a_live_socket_is_kept_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = bind(&path, None).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path, None).await, Err(BindError::SocketInUse { .. })));
        let of_the_first = first.socket.clone();
        drop(first);
        let second = bind(&path, None).await.unwrap();
        of_the_first.remove();
        assert!(path.exists(), "a server removes no socket but its own");
        second.socket.remove();
        assert!(!path.exists());
        bind(&path, None).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path, None).await, Err(BindError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_name_that_was_removed_comes_back_and_one_that_was_replaced_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut bound = bind(&path, None).await.unwrap();
        assert!(bound.socket.restore().is_none());
        std::fs::remove_file(&path).unwrap();
        let listener = bound.socket.restore().unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok() && bound.socket.restore().is_none());
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(bound.socket.restore().is_none());
        bound.socket.remove();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        prepare_directory("the runtime directory", "--runtime-dir", &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = prepare_directory("the runtime directory", "--runtime-dir", &path);
        assert!(matches!(refused, Err(BindError::DirectoryNotPrivate { .. })));
    }

    #[test]
    fn a_link_to_a_private_directory_is_followed_once() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let link = directory.path().join("link");
        prepare_directory("the state directory", "--state-dir", &real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let found = prepare_directory("the state directory", "--state-dir", &link).unwrap();
        assert_eq!(found, std::fs::canonicalize(&real).unwrap());
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = prepare_directory("the state directory", "--state-dir", &link).unwrap_err();
        let named = real.file_name().unwrap().to_str().unwrap();
        assert!(refused.to_string().contains(named), "it is the directory that is open: {refused}");
    }
}
