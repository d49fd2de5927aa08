//! The stream: bytes taken from the front, every length checked before it is believed.

use crate::limits;

use super::heap::Span;
use super::{Fault, Step};

#[derive(Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or(Fault::Ends)?;
        let taken = self.bytes.get(self.at..end).ok_or(Fault::Ends)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.first_chunk().copied().ok_or(Fault::Ends)
    }

    pub(super) fn byte(&mut self) -> Step<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Step<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Step<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Step<i32> {
        self.array().map(i32::from_le_bytes)
    }

    /// A line without its end.
    pub(super) fn line(&mut self) -> Step<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(Fault::Ends)?;
        let line = self.take(length)?;
        self.at += 1;
        Ok(line)
    }

    /// A length, then so many bytes: where they are.
    pub(super) fn span8(&mut self) -> Step<Span> {
        let length = self.byte()?;
        self.span(length.into())
    }

    pub(super) fn span32(&mut self) -> Step<Span> {
        let length = self.u32()?;
        self.span(length.into())
    }

    pub(super) fn span64(&mut self) -> Step<Span> {
        let length = self.array().map(u64::from_le_bytes)?;
        self.span(length)
    }

    pub(super) fn signed_span32(&mut self) -> Step<Span> {
        let length = u64::try_from(self.i32()?).map_err(|_| Fault::Breaks("a length is negative"))?;
        self.span(length)
    }

    /// Steps over `length` bytes. A length that no stream can have is a rule broken, not a stream cut.
    pub(super) fn span(&mut self, length: u64) -> Step<Span> {
        if length > limits::PICKLE_BYTES {
            return Err(Fault::Breaks("a length is beyond what a pickle may have"));
        }
        let start = self.at;
        let length = usize::try_from(length).map_err(|_| Fault::Ends)?;
        self.take(length)?;
        Span::new(start, length)
    }

    /// The frame's opcodes follow as if it were not there; only its length is checked.
    pub(super) fn frame(&mut self) -> Step {
        let length = self.array().map(u64::from_le_bytes)?;
        if length > limits::PICKLE_BYTES {
            return Err(Fault::Breaks("a frame is longer than a pickle may be"));
        }
        let rest = self.bytes.len() - self.at;
        if length > rest as u64 { Err(Fault::Ends) } else { Ok(()) }
    }
}
