//! The eight bytes that tell a damaged record from a good one.
//!
//! Called by every format of this crate. Not a defence against forgery: eight bytes of BLAKE3 catch accidents,
//! one in 2^64 of which would pass. The parts are length-prefixed, so no two different records hash alike by
//! having their boundaries moved.

pub(crate) const CHECKSUM_BYTES: usize = 8;

pub(crate) fn checksum(parts: &[&[u8]]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // usize is at most 64 bits wide on every target of Hoist.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut short);
    short
}
