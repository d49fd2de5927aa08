//! Rules that tables of tensors share, whatever the format: names are unique, sizes are exact.
//!
//! It must never take more than n log n steps, or let a file choose the buckets its names fall into.

use std::hash::{BuildHasher, RandomState};

use crate::{Finding, FindingKind, Inspection};

/// Finds names that are there twice, and drops all but the first of each. False if there were any.
pub(crate) fn drop_duplicates(inspection: &mut Inspection) -> bool {
    let mut repeated = repeated(&inspection.tensors, |tensor| &tensor.name);
    if repeated.is_empty() {
        return true;
    }
    for at in &repeated {
        if let Some(tensor) = inspection.tensors.get(*at) {
            let name = tensor.name.clone();
            inspection.find(Finding::corrupt(FindingKind::Header, "two tensors of one name").tensor(&name));
        }
    }
    repeated.reverse();
    let mut at = 0;
    inspection.tensors.retain(|_| {
        let dropped = repeated.last() == Some(&at);
        if dropped {
            repeated.pop();
        }
        at += 1;
        !dropped
    });
    false
}

/// Elements of a shape; none beyond 64 bits. Dimensions of 0 are left out of that, for they would hide an overflow.
pub(crate) fn elements(shape: &[u64]) -> Option<u64> {
    let full = shape.iter().filter(|dimension| **dimension != 0).try_fold(1_u64, |n, d| n.checked_mul(*d))?;
    Some(if shape.contains(&0) { 0 } else { full })
}

/// Where names are that were there before, ascending. Sorted by keyed hashes, which is faster than by the names, and
/// than a hash table; equal hashes are settled by the names themselves.
pub(crate) fn repeated<T>(items: &[T], name: impl Fn(&T) -> &str) -> Vec<usize> {
    let state = RandomState::new();
    let mut hashes: Vec<(u64, usize)> =
        items.iter().enumerate().map(|(at, item)| (state.hash_one(name(item)), at)).collect();
    hashes.sort_unstable();
    let mut repeated = Vec::new();
    for run in hashes.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        let mut named: Vec<(&str, usize)> =
            run.iter().filter_map(|(_, at)| Some((name(items.get(*at)?), *at))).collect();
        named.sort_unstable();
        for same in named.chunk_by(|a, b| a.0 == b.0) {
            repeated.extend(same.iter().skip(1).map(|(_, at)| *at));
        }
    }
    repeated.sort_unstable();
    repeated
}

#[cfg(test)]
mod tests {
    use hoist_domain::Dtype;

    use super::*;
    use crate::{Format, Place, Tensor};

    #[test]
    fn the_first_of_two_tensors_of_one_name_stays() {
        let mut inspection = Inspection::new(Format::Unknown);
        inspection.tensors = ["a", "b", "a", "c", "b", "a"]
            .iter()
            .zip(0..)
            .map(|(name, at)| Tensor {
                name: (*name).into(),
                dtype: Dtype::U8,
                shape: [at].into(),
                place: Place::Unmapped,
            })
            .collect();
        assert!(!drop_duplicates(&mut inspection));
        let left: Vec<_> = inspection.tensors.iter().map(|tensor| (&*tensor.name, tensor.shape[0])).collect();
        assert_eq!(left, [("a", 0), ("b", 1), ("c", 3)]);
        assert_eq!(inspection.findings.len(), 3);
        assert!(drop_duplicates(&mut inspection));
    }
}
