//! The one answer of a side connection: a length, JSON, and with its first byte a descriptor.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::device::{Share, ShareKind};

/// The table of a million tensors.
const MOST_BYTES: usize = 64 << 20;

/// For one who does not read.
const TELLING: Duration = Duration::from_secs(10);

/// Says why there is nothing.
pub(super) async fn refuse(stream: &UnixStream, why: &str) -> io::Result<()> {
    tell(stream, &json!({ "error": why }), None).await
}

/// Hands over memory, and what lies where in it.
pub(super) async fn hand_over(stream: &UnixStream, share: &Share) -> io::Result<()> {
    let tensors = share.tensors.iter().map(|one| {
        json!({
            "name": one.name,
            "dtype": one.dtype.to_string(),
            "shape": one.shape,
            "offset": one.offset,
            "size": one.size,
        })
    });
    let kind = match share.kind {
        ShareKind::Cuda => "cuda",
        ShareKind::Memory => "memory",
    };
    let table = json!({
        "kind": kind,
        "device": share.card,
        "size": share.size.0,
        "tensors": tensors.collect::<Vec<_>>(),
    });
    tell(stream, &table, Some(share.memory.as_fd())).await
}

async fn tell(stream: &UnixStream, what: &Value, memory: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = what.to_string();
    let Some(length) = u32::try_from(text.len()).ok().filter(|_| text.len() <= MOST_BYTES) else {
        return Err(io::Error::other("it has too many tensors to be told"));
    };
    let mut message = length.to_le_bytes().to_vec();
    message.extend(text.as_bytes());
    let told = tokio::time::timeout(TELLING, send(stream, &message, memory)).await;
    // Who does not listen has nothing: its descriptor is closed with the connection.
    told.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read the answer")))
}

async fn send(stream: &UnixStream, message: &[u8], mut memory: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut sent = 0;
    while let Some(rest) = message.get(sent..).filter(|rest| !rest.is_empty()) {
        let once = stream.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            let descriptors = memory.as_slice();
            if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("no room for a descriptor"));
            }
            Ok(sendmsg(stream, &[IoSlice::new(rest)], &mut beside, SendFlags::NOSIGNAL)?)
        });
        match once.await {
            Ok(bytes) => sent += bytes,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // It goes with the first bytes, and once.
        memory = None;
    }
    Ok(())
}
