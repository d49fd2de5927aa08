//! For tests: another process at a worker's own socket.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests, which other crates call"
)]

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

/// Whoever has the memory, or was told why not.
#[derive(Debug)]
pub struct Peer {
    pub stream: UnixStream,
    pub answer: Value,
    pub memory: Option<OwnedFd>,
}

impl Peer {
    /// Says a token, and hears what comes of it.
    ///
    /// # Panics
    /// When the worker breaks the rules.
    pub async fn says(socket: &str, token: [u8; 32]) -> Self {
        let socket = socket.to_owned();
        blocking(move || Self::hears(&socket, token)).await
    }

    fn hears(socket: &str, token: [u8; 32]) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&token).unwrap();
        let (mut first, mut memory) = ([0; 1], None);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut first)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        assert_eq!(got.unwrap().bytes, 1);
        for message in beside.drain() {
            let RecvAncillaryMessage::ScmRights(descriptors) = message else { panic!("something else") };
            for descriptor in descriptors {
                assert!(memory.replace(descriptor).is_none(), "two descriptors");
            }
        }
        let mut rest = [0; 3];
        stream.read_exact(&mut rest).unwrap();
        let length = u32::from_le_bytes([first[0], rest[0], rest[1], rest[2]]);
        let mut text = vec![0; length as usize];
        stream.read_exact(&mut text).unwrap();
        Self { stream, answer: serde_json::from_slice(&text).unwrap(), memory }
    }

    /// Why there is none.
    ///
    /// # Panics
    /// When there is some.
    #[must_use]
    pub fn error(&self) -> &str {
        assert!(self.memory.is_none(), "a descriptor beside {}", self.answer);
        self.answer["error"].as_str().unwrap()
    }

    /// The bytes of a tensor.
    ///
    /// # Panics
    /// When it has none of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Vec<u8> {
        let all = self.answer["tensors"].as_array().unwrap();
        let one = all.iter().find(|one| one["name"] == name).unwrap();
        let (offset, size) = (one["offset"].as_u64().unwrap(), one["size"].as_u64().unwrap());
        assert!(offset % 256 == 0 && offset + size <= self.answer["size"].as_u64().unwrap(), "{one}");
        let file = File::from(self.memory.as_ref().unwrap().try_clone().unwrap());
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Until the worker hangs up.
    ///
    /// # Panics
    /// When it does not within some seconds.
    pub async fn hears_hanging_up(mut self) {
        let read = blocking(move || self.stream.read(&mut [0])).await;
        // Reset: the worker has not read all that was said.
        let is_left =
            read.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |read| *read == 0);
        assert!(is_left, "{read:?}");
    }
}

/// Waits for what waits, on a thread that may.
#[expect(clippy::disallowed_methods, reason = "a test's thread needs no policy")]
async fn blocking<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(wait).await.unwrap()
}
