//! A strict pull reader of JSON text that lies in memory: the header of a safetensors file, the index of shards.
//!
//! Who calls: the readers of those formats, which know what must come next and ask for just that. Nothing is built:
//! a key or a string without escapes is a slice of the input. It must never recurse (a value that nobody wants is
//! skipped with a bit per level), accept what RFC 8259 does not (`NaN`, a trailing comma, a half of a surrogate pair),
//! or turn a number into another one. Duplicate keys are for its callers to refuse: only they know which they keep.

mod strings;

use std::borrow::Cow;

/// Levels of a value that is skipped. Nothing in a model's header goes deeper than three.
const DEPTH: u32 = 64;

/// Why reading cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text ended where more had to come; all before was in order.
    Cut,
    /// The text is not JSON, for this reason, at this byte.
    Syntax { at: usize, why: &'static str },
}

/// What a value begins as; it may still turn out to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    /// `true`, `false` or `null`.
    Word,
}

/// What a number is. Only whole ones that fit 64 bits matter to a header; the others are known by not being that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Unsigned(u64),
    /// Negative, fractional, with an exponent, or of 2^64 and more.
    Other,
}

/// The place within an object or an array: whether a comma is due.
#[derive(Debug)]
pub struct Members {
    first: bool,
}

/// Reads one JSON text from its beginning to its end.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The part of the input that is UTF-8.
    text: &'a str,
    at: usize,
    /// What it means to run out of `text`.
    at_end: Fault,
}

type Result<T> = std::result::Result<T, Fault>;

impl<'a> Reader<'a> {
    /// UTF-8 is checked here, once and fast; a fault in it is met when the reader gets there, so that what lies before
    /// it can be read.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text, at: 0, at_end: Fault::Cut },
            Err(error) => {
                let at = error.valid_up_to();
                let text =
                    bytes.get(..at).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default();
                // A character that is cut by the end of the input is a cut, not a fault.
                let at_end = match error.error_len() {
                    None => Fault::Cut,
                    Some(_) => Fault::Syntax { at, why: "not UTF-8" },
                };
                Self { text, at: 0, at_end }
            }
        }
    }

    /// Where the reader is, in bytes of the input.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// What follows the last value that was read. To be called when the outermost one is complete.
    ///
    /// # Errors
    /// When the input is not UTF-8 after it.
    pub fn rest(&self) -> Result<&'a str> {
        if let Fault::Syntax { .. } = self.at_end {
            return Err(self.at_end);
        }
        Ok(self.text.get(self.at..).unwrap_or_default())
    }

    /// What the next value is.
    ///
    /// # Errors
    /// When none begins here.
    pub fn kind(&mut self) -> Result<Kind> {
        match self.next_visible()? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::String),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' | b'f' | b'n' => Ok(Kind::Word),
            _ => self.fault("a value is expected"),
        }
    }

    /// Enters an object: `key` tells its members.
    ///
    /// # Errors
    /// When there is none.
    pub fn object(&mut self) -> Result<Members> {
        self.expect(b'{', "an object is expected")?;
        Ok(Members { first: true })
    }

    /// The next key of an object, its value to be read next; none at its end.
    ///
    /// # Errors
    /// On a fault in the text.
    pub fn key(&mut self, members: &mut Members) -> Result<Option<Cow<'a, str>>> {
        if !self.another(members, b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':', "a colon is expected")?;
        Ok(Some(key))
    }

    /// Enters an array: `item` tells whether one more value comes.
    ///
    /// # Errors
    /// When there is none.
    pub fn array(&mut self) -> Result<Members> {
        self.expect(b'[', "an array is expected")?;
        Ok(Members { first: true })
    }

    /// Whether an array goes on; the value is to be read next.
    ///
    /// # Errors
    /// On a fault in the text.
    pub fn item(&mut self, members: &mut Members) -> Result<bool> {
        self.another(members, b']')
    }

    /// A number, exactly.
    ///
    /// # Errors
    /// When there is none, or it is not one by the grammar.
    pub fn number(&mut self) -> Result<Number> {
        let first = self.next_visible()?;
        let negative = first == b'-';
        if negative {
            self.at += 1;
        }
        let start = self.at;
        let mut value = Some(0_u64);
        while let Some(digit @ b'0'..=b'9') = self.byte(self.at) {
            value = value.and_then(|v| v.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            self.at += 1;
        }
        match (self.at - start, self.byte(start)) {
            (0, None) => return Err(self.at_end),
            (0, Some(_)) => return self.fault("a number is expected"),
            (1, _) => {}
            (_, Some(b'0')) => return self.fault("a number begins with a zero"),
            _ => {}
        }
        let mut whole = !negative;
        if self.byte(self.at) == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte(self.at) {
            whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(value.filter(|_| whole).map_or(Number::Other, Number::Unsigned))
    }

    /// Reads past one value of any kind.
    ///
    /// # Errors
    /// When it is broken, or nests deeper than 64 levels.
    pub fn skip(&mut self) -> Result<()> {
        // One bit a level, the innermost lowest: whether it is an object.
        let (mut objects, mut depth) = (0_u64, 0_u32);
        let mut members = Members { first: true };
        loop {
            match self.kind()? {
                opened @ (Kind::Object | Kind::Array) => {
                    if depth == DEPTH {
                        return self.fault("nested too deep");
                    }
                    depth += 1;
                    objects = objects << 1 | u64::from(opened == Kind::Object);
                    members = if opened == Kind::Object { self.object()? } else { self.array()? };
                }
                Kind::String => drop(self.string()?),
                Kind::Number => drop(self.number()?),
                Kind::Word => drop(self.word()?),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let goes_on = if objects & 1 == 1 {
                    self.key(&mut members)?.is_some()
                } else {
                    self.item(&mut members)?
                };
                if goes_on {
                    break;
                }
                // Closed: what is around it has had a member now.
                depth -= 1;
                objects >>= 1;
                members = Members { first: false };
            }
        }
    }

    /// `true` or `false`; none for `null`.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn word(&mut self) -> Result<Option<bool>> {
        self.next_visible()?;
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        for (word, value) in [(b"true".as_slice(), Some(true)), (b"false", Some(false)), (b"null", None)] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
            if word.starts_with(rest) {
                return Err(self.at_end);
            }
        }
        self.fault("a value is expected")
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn fault<T>(&self, why: &'static str) -> Result<T> {
        Err(Fault::Syntax { at: self.at, why })
    }

    /// Skips white space and shows the byte after it.
    fn next_visible(&mut self) -> Result<u8> {
        loop {
            match self.byte(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(byte),
                None => return Err(self.at_end),
            }
        }
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<()> {
        if self.next_visible()? != byte {
            return self.fault(why);
        }
        self.at += 1;
        Ok(())
    }

    fn another(&mut self, members: &mut Members, end: u8) -> Result<bool> {
        let next = self.next_visible()?;
        if next == end {
            self.at += 1;
            return Ok(false);
        }
        if members.first {
            members.first = false;
            return Ok(true);
        }
        if next != b',' {
            return self.fault("a comma or an end is expected");
        }
        self.at += 1;
        if self.next_visible()? == end {
            return self.fault("a comma before an end");
        }
        Ok(true)
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte(self.at) {
            self.at += 1;
        }
        match self.byte(start) {
            _ if self.at > start => Ok(()),
            Some(_) => self.fault("a digit is expected"),
            None => Err(self.at_end),
        }
    }
}

#[cfg(test)]
mod tests;
