//! Lets plain gRPC clients in over the Unix socket.
//!
//! Clients built on gRPC's C core (Python, C++, Ruby, PHP and others) name the socket's path, percent-encoded, as the
//! `:authority` of each request. That is not an authority, so the HTTP/2 library resets the stream before anybody
//! can be lenient. Nothing here routes by authority, so this reader overwrites such a value, in place, with one of
//! the same length that parses. Same length: frames and the header compression's table keep their sizes.
//!
//! It reads frame headers and the outline of header blocks, nothing else; what it does not understand passes
//! unchanged, for the HTTP/2 library to judge.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's connection preface, which comes before its first frame.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Larger header frames pass as they are: the default frame size, beyond which the HTTP/2 library refuses them.
const LARGEST_FRAME: usize = 16 << 10;

/// Read from the socket at once.
const READ_BYTES: usize = 16 << 10;

/// A stream whose reader sees authorities that parse.
#[derive(Debug)]
pub(super) struct LenientAuthority<S> {
    stream: S,
    rewriter: Rewriter,
    /// Read and rewritten, not taken yet.
    ready: Vec<u8>,
    taken: usize,
}

impl<S> LenientAuthority<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, rewriter: Rewriter::default(), ready: Vec::new(), taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            let mut room = [0_u8; READ_BYTES];
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // The end. A frame that was cut off is passed on as far as it came.
                this.rewriter.finish(&mut this.ready);
                if this.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.rewriter.push(read.filled(), &mut this.ready);
            }
        }
        let rest = this.ready.get(this.taken..).unwrap_or_default();
        let count = rest.len().min(into.remaining());
        into.put_slice(rest.get(..count).unwrap_or_default());
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// ```text
/// Preface ─► Header ─► Skip (any other frame) ─► Header
///               └────► Block (HEADERS, held until whole) ─► Header
/// ```
#[derive(Debug)]
struct Rewriter {
    state: State,
    /// The frame header or the HEADERS frame that is being gathered.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// This many bytes pass as they are.
    Skip(usize),
    Header,
    /// A HEADERS frame of this many bytes, its header included.
    Block(usize),
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { state: State::Skip(PREFACE_BYTES), held: Vec::new() }
    }
}

impl Rewriter {
    /// Takes bytes off the wire; what can be passed on is appended to `out`.
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            match self.state {
                State::Skip(0) => self.state = State::Header,
                State::Skip(left) => {
                    let passed = take(&mut bytes, left);
                    out.extend_from_slice(passed);
                    self.state = State::Skip(left - passed.len());
                }
                State::Header => {
                    self.held.extend_from_slice(take(&mut bytes, FRAME_HEADER_BYTES - self.held.len()));
                    let &[a, b, c, kind, ..] = self.held.as_slice() else { return };
                    if self.held.len() == FRAME_HEADER_BYTES {
                        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                        if kind == HEADERS && length <= LARGEST_FRAME {
                            self.state = State::Block(FRAME_HEADER_BYTES + length);
                        } else {
                            out.append(&mut self.held);
                            self.state = State::Skip(length);
                        }
                    }
                }
                State::Block(whole) => {
                    self.held.extend_from_slice(take(&mut bytes, whole - self.held.len()));
                    if self.held.len() == whole {
                        mend(&mut self.held);
                        out.append(&mut self.held);
                        self.state = State::Header;
                    }
                }
            }
            if bytes.is_empty() {
                return;
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

/// Makes the authority of a HEADERS frame parse, if it is written plainly and does not.
fn mend(frame: &mut [u8]) {
    let Some(&flags) = frame.get(4) else { return };
    let Some(block) = frame.get_mut(FRAME_HEADER_BYTES..) else { return };
    let skipped = if flags & PADDED != 0 { 1 } else { 0 } + if flags & PRIORITY != 0 { 5 } else { 0 };
    let Some(block) = block.get_mut(skipped..) else { return };
    if let Some(value) = authority(block)
        && let Some(text) = block.get_mut(value)
        && Authority::try_from(&*text).is_err()
    {
        // Any host name will do; a label has at most 63 letters, but nobody looks this one up.
        text.fill(b'x');
    }
}

/// Where the value of the first `:authority` stands in a header block, if it is there and not Huffman-coded.
fn authority(block: &[u8]) -> Option<std::ops::Range<usize>> {
    // `:authority` in HPACK's static table.
    const AUTHORITY: usize = 1;
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        let (prefix, is_literal) = match first {
            0x80.. => (7, false),
            0x40..0x80 => (6, true),
            0x20..0x40 => (5, false),
            _ => (4, true),
        };
        let index = integer(block, &mut at, prefix)?;
        if !is_literal {
            continue;
        }
        let by_name = index == 0 && {
            let (name, is_plain) = string(block, &mut at)?;
            is_plain && block.get(name)? == b":authority"
        };
        let (value, is_plain) = string(block, &mut at)?;
        if by_name || index == AUTHORITY {
            return is_plain.then_some(value);
        }
    }
}

/// An HPACK integer with this many bits of its first byte.
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    // Four bytes go far beyond any frame that is looked at.
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Where an HPACK string's bytes stand, and whether they are plain text.
fn string(block: &[u8], at: &mut usize) -> Option<(std::ops::Range<usize>, bool)> {
    let is_plain = block.get(*at)? & 0x80 == 0;
    let length = integer(block, at, 7)?;
    let start = *at;
    *at = start.checked_add(length).filter(|end| *end <= block.len())?;
    Some((start..*at, is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A HEADERS frame: `:method POST` by index, then `:authority` as gRPC's C core writes it.
    fn frame(flags: u8, authority: &[u8], by_index: bool) -> Vec<u8> {
        let mut block = Vec::new();
        if flags & PADDED != 0 {
            block.push(0);
        }
        if flags & PRIORITY != 0 {
            block.extend([0, 0, 0, 0, 16]);
        }
        block.push(0x83);
        if by_index {
            block.push(0x41);
        } else {
            block.extend([0x40, 10]);
            block.extend(b":authority");
        }
        assert!(authority.len() < 127);
        block.push(u8::try_from(authority.len()).unwrap());
        block.extend(authority);
        let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), HEADERS, flags | 4, 0, 0, 0, 1];
        frame.extend(block);
        frame
    }

    fn passed(wire: &[u8], step: usize) -> Vec<u8> {
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        for piece in wire.chunks(step) {
            rewriter.push(piece, &mut out);
        }
        rewriter.finish(&mut out);
        out
    }

    fn wire(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for frame in frames {
            wire.extend(frame);
        }
        wire
    }

    #[test]
    fn a_path_as_authority_is_overwritten_in_place() {
        let bad = b"%2Fdev%2Fshm%2Fhoist.sock";
        let ping = vec![0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        for flags in [0, PADDED, PRIORITY, PADDED | PRIORITY] {
            for by_index in [false, true] {
                let sent = wire(&[ping.clone(), frame(flags, bad, by_index), ping.clone()]);
                let expected = wire(&[ping.clone(), frame(flags, &[b'x'; 25], by_index), ping.clone()]);
                for step in [1, 2, 7, 10_000] {
                    assert_eq!(
                        passed(&sent, step),
                        expected,
                        "flags {flags} by index {by_index} step {step}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_right_or_not_understood_passes_unchanged() {
        let good = wire(&[frame(0, b"localhost", false), frame(0, b"127.0.0.1:7070", true)]);
        let mut huffman = frame(0, b"%2Fx", true);
        huffman[11] |= 0x80;
        let other = vec![0, 0, 3, 0, 0, 0, 0, 0, 1, 0x41, 1, b'%'];
        for sent in [good, wire(&[huffman]), wire(&[other]), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()] {
            for step in [1, 5, 10_000] {
                assert_eq!(passed(&sent, step), sent);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_keep_their_length_however_they_arrive(
            wire in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            step in 1_usize..50,
        ) {
            let whole = passed(&wire, 10_000);
            proptest::prop_assert_eq!(whole.len(), wire.len());
            proptest::prop_assert_eq!(passed(&wire, step), whole);
        }
    }
}
