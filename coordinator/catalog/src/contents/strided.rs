//! Views that jump through their storage: a transposed matrix, a slice of columns.
//!
//! Their bytes are put in the order of their elements, as a contiguous copy would have them.

use hoist_formats::{Place, Tensor};

use super::CHUNK;

/// Storages up to this size are read once and gathered in memory; larger ones are read run by run.
const IN_MEMORY: u64 = 256 << 20;

/// Runs of a larger storage that are worth a read each.
const LEAST_RUN: u64 = 4 << 10;

/// A view that repeats its storage more often than this is not gathered: `expand` makes a petabyte of four bytes.
const REPEATS: u64 = 16;

/// The least that may be gathered whatever the storage's size.
const LEAST: u64 = 1 << 20;

/// Fills memory from a place of the file.
type Fill<'a, E> = dyn FnMut(u64, &mut [u8]) -> Result<(), E> + 'a;

/// Takes the next bytes.
type Take<'a, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'a;

/// Whether a tensor is a view that can be gathered: it fits its storage, does not repeat it too often, and is not made of
/// so many short runs of a large storage that it would take a day.
#[must_use]
pub fn is_gatherable(tensor: &Tensor) -> bool {
    let Place::Strided { length, first_element, strides, .. } = &tensor.place else { return false };
    let Some(size) = element_bytes(tensor) else { return false };
    let elements = tensor.elements();
    let fits = last_element(*first_element, &tensor.shape, strides)
        .and_then(|last| last.checked_add(1)?.checked_mul(size))
        .is_some_and(|end| elements == 0 || end <= *length);
    let (run, _) = inner_run(&tensor.shape, strides);
    let is_quick = *length <= IN_MEMORY || run.saturating_mul(size) >= LEAST_RUN || elements == 0;
    fits && is_quick && elements.saturating_mul(size) <= length.saturating_mul(REPEATS).max(LEAST)
}

/// The bytes of a gatherable view, handed out in the order of its elements, a piece at a time. `fill` reads from the file.
///
/// # Errors
/// Those of the two.
pub fn gather<E>(tensor: &Tensor, fill: &mut Fill<'_, E>, take_piece: &mut Take<'_, E>) -> Result<(), E> {
    let Place::Strided { offset, length, first_element, strides } = &tensor.place else { return Ok(()) };
    let Some(size) = element_bytes(tensor) else { return Ok(()) };
    let elements = tensor.elements();
    let mut storage = Vec::new();
    if *length <= IN_MEMORY {
        storage.resize(usize::try_from(*length).unwrap_or(0), 0);
        fill(*offset, &mut storage)?;
    }
    let (run, outer) = inner_run(&tensor.shape, strides);
    let run_bytes = run.saturating_mul(size);
    let mut buffer = Vec::new();
    let mut take = |at: u64| -> Result<(), E> {
        let (mut start, mut left) = (at.saturating_mul(size), run_bytes);
        while left > 0 {
            let count = left.min(CHUNK as u64);
            let piece = if storage.is_empty() {
                buffer.resize(usize::try_from(count).unwrap_or(0), 0);
                fill(offset.saturating_add(start), &mut buffer)?;
                buffer.as_slice()
            } else {
                let from = usize::try_from(start).unwrap_or(usize::MAX);
                let to = usize::try_from(start.saturating_add(count)).unwrap_or(usize::MAX);
                storage.get(from..to).unwrap_or_default()
            };
            take_piece(piece)?;
            start = start.saturating_add(count);
            left -= count;
        }
        Ok(())
    };
    if elements > 0 { walk(*first_element, outer, &mut take) } else { Ok(()) }
}

/// Whole bytes an element takes; none for types of less than a byte or of blocks.
fn element_bytes(tensor: &Tensor) -> Option<u64> {
    let bits = tensor.dtype.block_bits();
    (tensor.dtype.block_elements() == 1 && bits.is_multiple_of(8)).then_some(bits / 8)
}

fn last_element(first: u64, shape: &[u64], strides: &[u64]) -> Option<u64> {
    shape.iter().zip(strides).try_fold(first, |last, (count, stride)| {
        last.checked_add(count.saturating_sub(1).checked_mul(*stride)?)
    })
}

/// How many elements lie together at the innermost, and the dimensions around those: count and stride, outermost first.
fn inner_run(shape: &[u64], strides: &[u64]) -> (u64, Vec<(u64, u64)>) {
    let mut outer: Vec<(u64, u64)> = shape.iter().copied().zip(strides.iter().copied()).collect();
    let mut run = 1;
    while let Some((count, stride)) = outer.last().copied() {
        if stride != run && count != 1 {
            break;
        }
        run *= count;
        outer.pop();
    }
    (run, outer)
}

/// Calls for the first element of each run, in the order of elements.
fn walk<E>(first: u64, outer: Vec<(u64, u64)>, take: &mut dyn FnMut(u64) -> Result<(), E>) -> Result<(), E> {
    let mut index = vec![0_u64; outer.len()];
    let mut at = first;
    loop {
        take(at)?;
        let mut dimension = outer.len();
        loop {
            let Some(place) = dimension.checked_sub(1) else { return Ok(()) };
            dimension = place;
            let (Some(number), Some((count, stride))) = (index.get_mut(place), outer.get(place)) else {
                return Ok(());
            };
            *number += 1;
            at = at.saturating_add(*stride);
            if *number < *count {
                break;
            }
            at = at.saturating_sub(stride.saturating_mul(*number));
            *number = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_domain::Dtype;

    fn gathered(shape: &[u64], strides: &[u64], first_element: u64, storage: &[u8]) -> Option<[u8; 32]> {
        let place = Place::Strided {
            offset: 100,
            length: storage.len() as u64,
            first_element,
            strides: strides.into(),
        };
        let tensor = Tensor { name: "w".into(), dtype: Dtype::I16, shape: shape.into(), place };
        if !is_gatherable(&tensor) {
            return None;
        }
        let mut fill = |offset: u64, into: &mut [u8]| {
            let start = usize::try_from(offset - 100).unwrap();
            into.copy_from_slice(&storage[start..start + into.len()]);
            Ok::<(), std::convert::Infallible>(())
        };
        let mut hasher = blake3::Hasher::new();
        let mut take = |piece: &[u8]| {
            hasher.update(piece);
            Ok(())
        };
        gather(&tensor, &mut fill, &mut take).unwrap();
        Some(*hasher.finalize().as_bytes())
    }

    fn hash(elements: &[u16]) -> Option<[u8; 32]> {
        let bytes: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
        Some(*blake3::hash(&bytes).as_bytes())
    }

    #[test]
    fn views_are_read_in_the_order_of_their_elements() {
        let storage: Vec<u8> = (0..12_u16).flat_map(|e| e.to_le_bytes()).collect();
        assert_eq!(gathered(&[3, 4], &[4, 1], 0, &storage), hash(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
        assert_eq!(gathered(&[4, 3], &[1, 4], 0, &storage), hash(&[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]));
        assert_eq!(gathered(&[3, 2], &[4, 1], 1, &storage), hash(&[1, 2, 5, 6, 9, 10]));
        assert_eq!(gathered(&[2, 3], &[0, 1], 0, &storage), hash(&[0, 1, 2, 0, 1, 2]));
        assert_eq!(gathered(&[], &[], 5, &storage), hash(&[5]));
        assert_eq!(gathered(&[0, 4], &[4, 1], 0, &storage), hash(&[]));
        assert_eq!(gathered(&[1, 3], &[99, 1], 0, &storage), hash(&[0, 1, 2]));
    }

    #[test]
    fn long_runs_of_a_large_storage_are_read_in_pieces_and_short_ones_not_at_all() {
        let mut largest = 0;
        let mut facts = |shape: &[u64], strides: &[u64]| {
            let place = Place::Strided {
                offset: 0,
                length: IN_MEMORY * 4,
                first_element: 0,
                strides: strides.into(),
            };
            let tensor = Tensor { name: "w".into(), dtype: Dtype::I16, shape: shape.into(), place };
            let mut fill = |_: u64, into: &mut [u8]| {
                largest = largest.max(into.len());
                Ok::<(), std::convert::Infallible>(())
            };
            let can = is_gatherable(&tensor);
            if can {
                gather(&tensor, &mut fill, &mut |_| Ok(())).unwrap();
            }
            can
        };
        let run = 5 * CHUNK as u64 / 2;
        assert!(facts(&[2, run], &[run + 1, 1]));
        assert!(!facts(&[run, 2], &[1, run]));
        assert_eq!(largest, CHUNK);
    }

    #[test]
    fn views_that_do_not_fit_or_explode_are_not_gathered() {
        let storage = [0; 16];
        assert_eq!(gathered(&[9], &[1], 0, &storage), None);
        assert_eq!(gathered(&[2], &[1], 7, &storage), None);
        assert_eq!(gathered(&[1 << 50], &[0], 0, &storage), None);
        assert_eq!(gathered(&[2, 2], &[u64::MAX, u64::MAX], 0, &storage), None);
    }
}
