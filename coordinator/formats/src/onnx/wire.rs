//! Protobuf's wire format, field by field, off a cursor.
//!
//! A message may not outrun the one it lies in. One that outruns the file is a cut, if nothing else was wrong. It must
//! never hold the bytes of a field whose length the caller has not bounded.

use std::io;

use crate::Source;
use crate::cursor::Cursor;

/// Where the outermost message ends: with the file, wherever that is.
pub(super) const FILE_END: u64 = u64::MAX;

/// Protobuf's own bound of a message.
const MESSAGE_BYTES: u64 = i32::MAX as u64;

/// Why reading ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file ended where more had to come; all before was in order.
    Cut,
    Broken(String),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

/// A field: its number, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Varint(u64),
    /// 4 or 8 bytes, read over: nothing in a header is of these types.
    Fixed(u64),
    /// Everything from here to `end`, which has to be read or skipped before the next field.
    Bytes {
        start: u64,
        end: u64,
    },
}

/// Reads fields from the beginning of a file.
#[derive(Debug)]
pub(super) struct Wire<'s, S: ?Sized> {
    cursor: Cursor<'s, S>,
}

impl<'s, S: Source + ?Sized> Wire<'s, S> {
    pub(super) const fn new(source: &'s S) -> Self {
        Self { cursor: Cursor::new(source) }
    }

    pub(super) const fn at(&self) -> u64 {
        self.cursor.at()
    }

    /// Bytes that were looked at.
    pub(super) const fn read(&self) -> u64 {
        self.cursor.read()
    }

    /// The next field of the message that ends there; none at its end.
    pub(super) fn field(&mut self, end: u64) -> Result<Option<Field>> {
        if self.at() == end || (end == FILE_END && self.at() == self.cursor.size()) {
            return Ok(None);
        }
        let tag = self.varint(end)?;
        let number = tag >> 3;
        // Field numbers have 29 bits, and there is no field 0.
        if number == 0 || number >= 1 << 29 {
            return Err(Stop::Broken(format!("field {number} at {}", self.at())));
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint(end)?),
            1 => self.fixed(8, end)?,
            5 => self.fixed(4, end)?,
            2 => {
                let length = self.varint(end)?;
                let start = self.at();
                if length > MESSAGE_BYTES || length > end.saturating_sub(start) {
                    return Err(Stop::Broken(format!("field {number} of {length} bytes at {start}")));
                }
                Payload::Bytes { start, end: start + length }
            }
            other => {
                return Err(Stop::Broken(format!("field {number} of wire type {other} at {}", self.at())));
            }
        };
        Ok(Some(Field { number, payload }))
    }

    /// Goes to the end of a field.
    pub(super) fn skip(&mut self, payload: Payload) -> Result<()> {
        if let Payload::Bytes { end, .. } = payload {
            return self.advance(end.saturating_sub(self.at()));
        }
        Ok(())
    }

    /// The text of a field, if it is text and short enough.
    pub(super) fn text(&mut self, payload: Payload, most: usize) -> Result<Option<String>> {
        let Payload::Bytes { start, end } = payload else { return Ok(None) };
        let Some(length) = usize::try_from(end - start).ok().filter(|length| *length <= most) else {
            self.skip(payload)?;
            return Ok(None);
        };
        let bytes = self.cursor.bytes(length)?.ok_or(Stop::Cut)?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// A number of 7 bits a byte, lowest first.
    pub(super) fn varint(&mut self, end: u64) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            if self.at() == end {
                return Err(Stop::Broken(format!("a number outruns its message at {end}")));
            }
            let [byte] = self.cursor.array()?.ok_or(Stop::Cut)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Broken(format!("a number of more than 64 bits at {}", self.at())))
    }

    fn fixed(&mut self, bytes: u64, end: u64) -> Result<Payload> {
        if end.saturating_sub(self.at()) < bytes {
            return Err(Stop::Broken(format!("a number outruns its message at {end}")));
        }
        self.advance(bytes)?;
        Ok(Payload::Fixed(bytes))
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        if self.cursor.skip(bytes) { Ok(()) } else { Err(Stop::Cut) }
    }
}
