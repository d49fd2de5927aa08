//! Pages of lists: how many, and no more than a client takes at once.

use hoist_domain::{Error, Result};
use prost::Message;

const DEFAULT: usize = 100;
const MOST: usize = 1_000;

/// Clients refuse messages above 4 MiB unless told otherwise; this leaves room for what stands around the list.
pub(super) const MESSAGE_BYTES: usize = 3 << 20;

/// What a request's `page_size` means.
pub(super) fn size(asked: i32) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT),
        Ok(size) => Ok(size.min(MOST)),
        Err(_) => Err(Error::invalid_field("page_size", "must not be negative")),
    }
}

/// The first of them that fit into one message; one at least.
pub(super) fn fitting<T: Message>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut bytes = 0_usize;
    let mut taken = Vec::new();
    for item in items {
        bytes = bytes.saturating_add(item.encoded_len());
        if bytes > MESSAGE_BYTES && !taken.is_empty() {
            break;
        }
        taken.push(item);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_item_and_no_more_than_fits() {
        let fits = |sizes: &[usize]| fitting(sizes.iter().map(|size| "x".repeat(*size))).len();
        assert_eq!(fits(&[]), 0);
        assert_eq!(fits(&[MESSAGE_BYTES * 2, 1]), 1);
        assert_eq!(fits(&[1, MESSAGE_BYTES * 2, 1]), 1);
        assert_eq!(fits(&[MESSAGE_BYTES / 4; 10]), 3);
        assert_eq!((size(0).unwrap(), size(7).unwrap(), size(i32::MAX).unwrap()), (100, 7, 1_000));
        assert!(size(-1).is_err());
    }
}
