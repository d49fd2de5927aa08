//! The hash of a whole from the hashes of its pieces.
//!
//! BLAKE3 is a tree over chunks, split at the largest power of two that leaves something for the right. Pieces of
//! [`PIECE`] bytes from the beginning, but for the last, are subtrees of it whatever comes after them.

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::plan::PIECE;

/// The hash of a piece that begins `at` bytes into a whole of `length`.
pub(crate) fn of_piece(bytes: &[u8], at: u64, length: u64) -> [u8; 32] {
    if length <= PIECE {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The hash of a whole whose pieces have these, in their order.
pub(crate) fn of_whole(pieces: &[[u8; 32]]) -> [u8; 32] {
    match pieces {
        [] => *blake3::hash(b"").as_bytes(),
        [whole] => *whole,
        _ => {
            let (left, right) = split(pieces);
            *merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()
        }
    }
}

fn subtree(pieces: &[[u8; 32]]) -> [u8; 32] {
    if let [one] = pieces {
        return *one;
    }
    let (left, right) = split(pieces);
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// Of two pieces and more.
fn split(pieces: &[[u8; 32]]) -> (&[[u8; 32]], &[[u8; 32]]) {
    let left = (pieces.len() / 2 + pieces.len() % 2).next_power_of_two();
    pieces.split_at(left.min(pieces.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_combine_to_the_hash_of_the_whole() {
        let piece = usize::try_from(PIECE).unwrap();
        let lengths = [0, 1, 1023, 1024, 1025, piece - 1, piece, piece + 1, 2 * piece, 2 * piece + 1]
            .into_iter()
            .chain([3 * piece - 5, 4 * piece, 5 * piece + 77, 9 * piece + 1]);
        let bytes: Vec<u8> = (0..9 * piece + 1).map(|at| u8::try_from(at * 7 % 253).unwrap()).collect();
        for length in lengths {
            let whole = &bytes[..length];
            let pieces: Vec<[u8; 32]> = whole
                .chunks(piece)
                .enumerate()
                .map(|(number, bytes)| of_piece(bytes, number as u64 * PIECE, length as u64))
                .collect();
            assert_eq!(of_whole(&pieces), *blake3::hash(whole).as_bytes(), "{length}");
        }
    }
}
