//! The strings of JSON: where most of a header's bytes are, so that this part decides how fast it is read.
//!
//! It must never give back a string that the text does not spell: halves of surrogate pairs and control characters are
//! faults, not replacements.

use std::borrow::Cow;

use super::{Reader, Result};

impl<'a> Reader<'a> {
    /// A string, without its escapes.
    ///
    /// # Errors
    /// When there is none, or it is broken.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"', "a string is expected")?;
        let start = self.at;
        let plain = self.plain_run(start)?;
        if self.byte(self.at) == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut decoded = plain.to_owned();
        loop {
            match self.byte(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(decoded));
                }
                Some(b'\\') => decoded.push(self.escape()?),
                Some(_) => decoded.push_str(self.plain_run(self.at)?),
                None => return Err(self.at_end),
            }
        }
    }

    /// The text from `start` up to a quote or a backslash, which is left to be read.
    fn plain_run(&mut self, start: usize) -> Result<&'a str> {
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let Some(length) = plain_length(rest) else { return Err(self.at_end) };
        self.at = start + length;
        if self.byte(self.at).is_some_and(|byte| byte < 0x20) {
            return self.fault("a control character in a string");
        }
        // Both ends are ASCII or the ends of the text, so that this is never cut within a character.
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn escape(&mut self) -> Result<char> {
        let Some(code) = self.byte(self.at + 1) else { return Err(self.at_end) };
        let plain = match code {
            b'"' | b'\\' | b'/' => char::from(code),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return self.fault("an unknown escape"),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex_unit()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).map_or_else(|| self.fault("an unknown character"), Ok);
        }
        if first >= 0xdc00 {
            return self.fault("half of a surrogate pair");
        }
        match (self.byte(self.at), self.byte(self.at + 1)) {
            (None, _) | (Some(b'\\'), None) => return Err(self.at_end),
            (Some(b'\\'), Some(b'u')) => {}
            _ => return self.fault("half of a surrogate pair"),
        }
        let second = self.hex_unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            return self.fault("half of a surrogate pair");
        }
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(code).map_or_else(|| self.fault("an unknown character"), Ok)
    }

    /// Reads `\uXXXX`, whose first two bytes were seen.
    fn hex_unit(&mut self) -> Result<u32> {
        let mut unit = 0;
        for at in self.at + 2..self.at + 6 {
            let Some(byte) = self.byte(at) else { return Err(self.at_end) };
            let Some(digit) = char::from(byte).to_digit(16) else {
                return self.fault("four hex digits are expected");
            };
            unit = unit << 4 | digit;
        }
        self.at += 6;
        Ok(unit)
    }
}

/// Bytes before the first quote, backslash or control character; none if there is no such byte. Eight at a time,
/// because names are most of a header.
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of the lowest byte that is zero in `word` is right; those above it may be wrong, and are not asked.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH
    }
    let mut before = 0;
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c)) | control;
        if found != 0 {
            return Some(before + found.trailing_zeros() as usize / 8);
        }
        before += 8;
        rest = after;
    }
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|at| before + at)
}
