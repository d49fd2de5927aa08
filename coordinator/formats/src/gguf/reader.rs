//! GGUF's numbers, strings and values, off a cursor.
//!
//! It must never recurse into arrays of arrays, or hold more of the file than one string.

use std::fmt;
use std::io;

use crate::cursor::Cursor;
use crate::{Finding, FindingKind, Source, limits};

/// Levels of arrays within arrays. ggml's reader takes one; the format does not say.
const ARRAY_DEPTH: usize = 4;

/// Why reading ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file ended where more had to come; all before was in order.
    Cut,
    Broken(Finding),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Result<T> = std::result::Result<T, Stop>;

/// The value of a key, as far as it is kept.
#[derive(Debug)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// Some languages' names are cut by tools that count bytes: a fault, but not of the file's structure.
    NotUtf8,
    /// So many items; they are read over.
    Array(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
            Self::NotUtf8 => f.write_str("[not UTF-8]"),
            Self::Array(items) => write!(f, "[{items} items]"),
        }
    }
}

/// Reads a header from its beginning.
#[derive(Debug)]
pub(super) struct Reader<'s, S: ?Sized> {
    cursor: Cursor<'s, S>,
    big_endian: bool,
    /// Version 1 counts in 32 bits.
    short: bool,
}

impl<'s, S: Source + ?Sized> Reader<'s, S> {
    pub(super) const fn new(source: &'s S) -> Self {
        Self { cursor: Cursor::new(source), big_endian: false, short: false }
    }

    pub(super) const fn at(&self) -> u64 {
        self.cursor.at()
    }

    pub(super) fn broken(&self, message: String) -> Stop {
        Stop::Broken(Finding::corrupt(FindingKind::Header, message).at(self.at()))
    }

    /// Magic and version. The version tells the byte order: there are not 65536 of them.
    pub(super) fn preamble(&mut self) -> Result<()> {
        let magic = self.array::<4>()?;
        match &magic {
            b"GGUF" => {}
            b"ggml" | b"lmgg" | b"fmgg" | b"ggmf" | b"tjgg" | b"ggjt" | b"algg" | b"ggla" => {
                return Err(self.broken("a container older than GGUF: convert it".to_owned()));
            }
            other => return Err(self.broken(format!("not GGUF: it begins with {:02x?}", other))),
        }
        let version = self.u32()?;
        self.big_endian = version & 0xffff == 0;
        let version = if self.big_endian { version.swap_bytes() } else { version };
        self.short = version == 1;
        match version {
            1..=3 => Ok(()),
            _ => Err(self.broken(format!("version {version}: 1 to 3 are known"))),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        let bytes = self.array()?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        let bytes = self.array()?;
        Ok(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// A length, a count or a dimension.
    pub(super) fn count(&mut self) -> Result<u64> {
        if self.short { self.u32().map(u64::from) } else { self.u64() }
    }

    /// A string that has to be UTF-8 and of a bounded length.
    pub(super) fn text(&mut self, most: usize, what: &str) -> Result<String> {
        let length = self.count()?;
        let length = match usize::try_from(length) {
            Ok(length) if length <= most => length,
            _ => return Err(self.broken(format!("{what} of {length} bytes: at most {most}"))),
        };
        let bytes = self.cursor.bytes(length)?.ok_or(Stop::Cut)?;
        String::from_utf8(bytes).map_err(|_| self.broken(format!("{what} is not UTF-8")))
    }

    /// A value with its type before it.
    pub(super) fn value(&mut self) -> Result<Value> {
        Ok(match self.u32()? {
            0 => Value::Unsigned(u64::from(self.array::<1>().map(u8::from_le_bytes)?)),
            1 => Value::Signed(i64::from(self.array::<1>().map(i8::from_le_bytes)?)),
            2 => Value::Unsigned(u64::from(self.u16()?)),
            3 => Value::Signed(i64::from(self.u16()?.cast_signed())),
            4 => Value::Unsigned(u64::from(self.u32()?)),
            5 => Value::Signed(i64::from(self.u32()?.cast_signed())),
            6 => Value::Float(f64::from(f32::from_bits(self.u32()?))),
            7 => Value::Bool(self.boolean()?),
            8 => self.string()?,
            9 => Value::Array(self.items()?),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(self.u64()?.cast_signed()),
            12 => Value::Float(f64::from_bits(self.u64()?)),
            other => return Err(self.broken(format!("a value of type {other}: 0 to 12 are known"))),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.at() > limits::GGUF_HEADER_BYTES {
            return Err(self.broken(format!("a header of more than {} bytes", limits::GGUF_HEADER_BYTES)));
        }
        self.cursor.array()?.ok_or(Stop::Cut)
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.array()?;
        Ok(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn boolean(&mut self) -> Result<bool> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.broken(format!("a truth value of {other}: 0 or 1 are known"))),
        }
    }

    /// A string value: its beginning is kept, the rest is skipped.
    fn string(&mut self) -> Result<Value> {
        let length = self.count()?;
        let kept = usize::try_from(length).unwrap_or(usize::MAX).min(limits::METADATA_VALUE_BYTES);
        let start = self.at();
        self.skip(length)?;
        let end = self.at();
        self.cursor.rewind(start);
        let bytes = self.cursor.bytes(kept)?.ok_or(Stop::Cut)?;
        self.skip(end - self.at())?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text),
            Err(error) => {
                let fault = error.utf8_error();
                let valid = fault.valid_up_to();
                // A character may have been cut by the bound, not by the file.
                if fault.error_len().is_some() || kept as u64 == length {
                    return Ok(Value::NotUtf8);
                }
                let mut bytes = error.into_bytes();
                bytes.truncate(valid);
                String::from_utf8(bytes).map_or(Value::NotUtf8, Value::Text)
            }
        })
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        if bytes > limits::GGUF_HEADER_BYTES {
            return Err(
                self.broken(format!("{bytes} bytes in a header: at most {}", limits::GGUF_HEADER_BYTES))
            );
        }
        if self.cursor.skip(bytes) { Ok(()) } else { Err(Stop::Cut) }
    }

    /// Reads over an array; the number of its items is given back.
    fn items(&mut self) -> Result<u64> {
        let mut outermost = None;
        // What is left of the arrays around the one being read.
        let mut around: Vec<u64> = Vec::new();
        loop {
            let kind = self.u32()?;
            let count = self.count()?;
            outermost.get_or_insert(count);
            match kind {
                0 | 1 => self.fixed(count, 1)?,
                2 | 3 => self.fixed(count, 2)?,
                4..=6 => self.fixed(count, 4)?,
                10..=12 => self.fixed(count, 8)?,
                7 => self.each(count, |reader| reader.boolean().map(drop))?,
                8 => self.each(count, |reader| {
                    let length = reader.count()?;
                    reader.skip(length)
                })?,
                9 if around.len() + 1 < ARRAY_DEPTH => around.push(count),
                9 => return Err(self.broken(format!("arrays nested deeper than {ARRAY_DEPTH}"))),
                other => return Err(self.broken(format!("an array of type {other}: 0 to 12 are known"))),
            }
            while around.last() == Some(&0) {
                around.pop();
            }
            match around.last_mut() {
                Some(left) => *left -= 1,
                None => return Ok(outermost.unwrap_or_default()),
            }
        }
    }

    fn fixed(&mut self, count: u64, bytes: u64) -> Result<()> {
        self.skip(count.saturating_mul(bytes))
    }

    /// Reads items that have to be looked at, each of them at least a byte.
    fn each(&mut self, count: u64, mut read: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if count > limits::GGUF_HEADER_BYTES {
            return Err(self.broken(format!("an array of {count} items")));
        }
        for _ in 0..count {
            read(self)?;
        }
        Ok(())
    }
}
