//! Whether a part's tensors can be read one by one, or mean something only as the files they are in. Pure: the digests of
//! the background and the segments of the cache must agree on it, so it is decided from headers alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use hoist_domain::ModelFormat;
use hoist_formats::{Place, Tensor};

use super::strided;
use crate::reading::{PartReading, Reading};

/// Tensors that lie over one byte of a file at most. Real files have one; views over one storage some.
const OVER_EACH_OTHER: usize = 1_024;

/// Tensors that repeat their file more often than this are not read one by one: a table of a million views over one
/// storage is not worth a petabyte of hashing.
const REPEATS: u64 = 16;

/// The least that may be claimed whatever the file's size.
const LEAST: u64 = 1 << 20;

/// Whether all tensors of a part can be had by themselves.
pub(crate) fn is_by_tensors(part: &PartReading, reading: &Reading) -> bool {
    // A GGUF's metadata is needed by whoever reads it, and its blocks are nobody else's types.
    if part.tensors.is_empty() || part.format == ModelFormat::Gguf {
        return false;
    }
    let can = |tensor: &Tensor| {
        tensor.dtype.is_safetensors()
            && match tensor.place {
                Place::Extent { .. } => true,
                Place::Strided { .. } => strided::is_gatherable(tensor),
                Place::Beside { .. } | Place::Unmapped => false,
            }
    };
    let is_read = |(number, path): (usize, &PathBuf)| {
        let known = reading.files.iter().find(|known| known.path == *path);
        let of_file = part.tensors.iter().zip(&part.file_of);
        let spans = of_file.filter(|(_, of)| usize::try_from(**of) == Ok(number));
        let spans = spans.filter_map(|(tensor, _)| match tensor.place {
            Place::Extent { offset, length } => Some((offset, offset.saturating_add(length))),
            _ => None,
        });
        is_plausible(spans, known.map_or(0, |known| known.identity.size))
    };
    part.tensors.iter().all(can) && part.files.iter().enumerate().all(is_read)
}

/// Whether stretches of one file, each a beginning and an end, claim no more of it than real tensors do.
pub(super) fn is_plausible(spans: impl Iterator<Item = (u64, u64)>, size: u64) -> bool {
    let mut spans: Vec<(u64, u64)> = spans.collect();
    spans.sort_unstable();
    // Tied ones are read once.
    spans.dedup();
    let claimed =
        spans.iter().fold(0_u64, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)));
    if claimed > size.saturating_mul(REPEATS).max(LEAST) {
        return false;
    }
    let mut ends = BinaryHeap::new();
    spans.iter().all(|(start, end)| {
        while ends.peek().is_some_and(|Reverse(first)| first <= start) {
            ends.pop();
        }
        ends.push(Reverse(*end));
        ends.len() <= OVER_EACH_OTHER
    })
}
