//! What equal components have in common.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// BLAKE3 over a component's tensors. Equal components have equal digests, wherever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Stored as it is shown, which is half of what a list of numbers takes.
impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(StoredDigest)
    }
}

struct StoredDigest;

impl serde::de::Visitor<'_> for StoredDigest {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
        text.parse().map_err(|NotADigest| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Lists show many of these: digit by digit the formatter would be most of their cost.
        let digit = |nibble: u8| char::from(nibble + if nibble < 10 { b'0' } else { b'a' - 10 });
        let text: String = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        f.pad(&text)
    }
}

/// A text is not the 64 hexadecimal digits of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: it has 64 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(NotADigest);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = digit(*high).ok_or(NotADigest)? << 4 | digit(*low).ok_or(NotADigest)?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_as_it_is_shown() {
        let digest = Digest(std::array::from_fn(|at| u8::try_from(at * 8 + 5).unwrap()));
        let stored = serde_json::to_string(&digest).unwrap();
        assert_eq!(stored, format!("\"{digest}\""));
        assert!(stored.starts_with("\"050d151d"), "{stored}");
        assert_eq!(serde_json::from_str::<Digest>(&stored).unwrap(), digest);
        for wrong in ["\"05\"".to_owned(), stored.replace('5', "g"), stored.replace("05", "0")] {
            assert!(serde_json::from_str::<Digest>(&wrong).is_err(), "{wrong}");
        }
    }
}
