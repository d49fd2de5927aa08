//! Which stretches of which files to read, and what of them goes where. Pure.
//!
//! Properties: every byte of every item is in exactly one piece; no unit is longer than [`UNIT`]; nothing is read that lies
//! further than [`GAP`] from something wanted; units come in the order in which their segments fill.

use std::collections::BTreeMap;

use hoist_formats::Tensor;

/// Bytes of a piece of a large item, but for its last: a power of two, so that it is a subtree of the item's hash, and
/// enough that a request's latency does not count (measured: disks are saturated at 16 requests of this size).
pub const PIECE: u64 = 4 << 20;

/// The longest stretch that is read at once.
pub(crate) const UNIT: u64 = PIECE;

/// What is read over rather than left out: the time that a request takes by itself is worth this many bytes.
const GAP: u64 = 64 << 10;

/// Bytes that lie together in a target, and in a source too, if it is no view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub source: usize,
    /// In the source.
    pub offset: u64,
    pub length: u64,
    pub target: usize,
    /// The target's file that it goes to.
    pub file: usize,
    /// In that file.
    pub at: u64,
    /// A view that jumps through its storage, gatherable: then `offset` means nothing.
    pub view: Option<Box<Tensor>>,
}

/// A part of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) item: usize,
    /// In the item: a multiple of [`PIECE`].
    pub(crate) at: u64,
    pub(crate) length: u64,
}

/// A stretch of a source, read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) source: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// By where they begin in the source.
    pub(crate) pieces: Vec<Piece>,
}

/// Everything that a job reads.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(crate) items: Vec<Item>,
    pub(crate) units: Vec<Unit>,
    /// Items that are views: gathered one after the other, since each takes memory for its storage.
    pub(crate) views: Vec<usize>,
}

impl Plan {
    /// How to read these items.
    #[must_use]
    pub fn of(items: Vec<Item>) -> Self {
        let mut pieces: Vec<(u64, usize, Piece)> = Vec::new();
        let mut views = Vec::new();
        for (number, item) in items.iter().enumerate() {
            if item.view.is_some() {
                views.push(number);
                continue;
            }
            let mut at = 0;
            while at < item.length {
                let length = PIECE.min(item.length - at);
                let start = item.offset.saturating_add(at);
                pieces.push((start, item.source, Piece { item: number, at, length }));
                at += length;
            }
        }
        pieces.sort_unstable_by_key(|(start, source, piece)| (*source, *start, piece.item));
        let mut units: Vec<Unit> = Vec::new();
        for (start, source, piece) in pieces {
            let end = start.saturating_add(piece.length);
            match units.last_mut() {
                Some(unit)
                    if unit.source == source
                        && start <= unit.end.saturating_add(GAP)
                        && end.max(unit.end).saturating_sub(unit.start) <= UNIT =>
                {
                    unit.end = unit.end.max(end);
                    unit.pieces.push(piece);
                }
                _ => units.push(Unit { source, start, end, pieces: vec![piece] }),
            }
        }
        let place_of = |piece: &Piece| {
            items.get(piece.item).map(|item| (item.target, item.file, item.at.saturating_add(piece.at)))
        };
        let place = |unit: &Unit| unit.pieces.iter().filter_map(place_of).min();
        units.sort_by_cached_key(place);
        Self { items, units, views }
    }

    /// What there is to do, in steps: each unit one, all views together one.
    pub(crate) fn steps(&self) -> usize {
        self.units.len() + usize::from(!self.views.is_empty())
    }

    /// The targets that a step has something for, with where the first byte of it goes.
    pub(crate) fn targets_of(&self, step: usize) -> BTreeMap<usize, u64> {
        let mut first = BTreeMap::new();
        let mut add = |item: usize, at: u64| {
            if let Some(item) = self.items.get(item) {
                let at = item.at.saturating_add(at);
                first.entry(item.target).and_modify(|known: &mut u64| *known = at.min(*known)).or_insert(at);
            }
        };
        match self.units.get(step) {
            Some(unit) => unit.pieces.iter().for_each(|piece| add(piece.item, piece.at)),
            None => self.views.iter().for_each(|view| add(*view, 0)),
        }
        first
    }

    /// Bytes that a step moves.
    pub(crate) fn step_bytes(&self, step: usize) -> u64 {
        match self.units.get(step) {
            Some(unit) => unit.end - unit.start,
            None => self.views.iter().filter_map(|view| self.items.get(*view)).map(|item| item.length).sum(),
        }
    }

    /// Bytes that will be in segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.length).fold(0, u64::saturating_add)
    }

    /// Bytes that will be read, without what alignment adds.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        (0..self.steps()).map(|step| self.step_bytes(step)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_items() -> impl Strategy<Value = Vec<Item>> {
        let length = prop_oneof![3 => 0_u64..5_000, 1 => 0..3 * PIECE];
        let item = (0_usize..3, 0_u64..20 << 20, length, 0_usize..2, 0_u64..1 << 30);
        let item = item.prop_map(|(source, offset, length, target, at)| Item {
            source,
            offset,
            length,
            target,
            file: 0,
            at,
            view: None,
        });
        prop::collection::vec(item, 0..40)
    }

    proptest! {
        #[test]
        fn every_byte_of_every_item_is_read_once(items in any_items()) {
            let plan = Plan::of(items.clone());
            let mut seen: Vec<Vec<(u64, u64)>> = vec![Vec::new(); items.len()];
            for unit in &plan.units {
                prop_assert!(unit.end - unit.start <= UNIT && !unit.pieces.is_empty());
                let mut reached = unit.start;
                for piece in &unit.pieces {
                    let item = &items[piece.item];
                    let (start, end) = (item.offset + piece.at, item.offset + piece.at + piece.length);
                    prop_assert_eq!(item.source, unit.source);
                    prop_assert!(unit.start <= start && end <= unit.end);
                    prop_assert!(start <= reached + GAP, "a gap of {}", start - reached);
                    prop_assert!(piece.at.is_multiple_of(PIECE));
                    reached = reached.max(end);
                    seen[piece.item].push((piece.at, piece.length));
                }
                prop_assert_eq!(reached, unit.end);
            }
            for (item, mut pieces) in items.iter().zip(seen) {
                pieces.sort_unstable();
                let mut at = 0;
                for (begin, length) in pieces {
                    prop_assert_eq!(begin, at);
                    at += length;
                }
                prop_assert_eq!(at, item.length);
            }
        }
    }

    #[test]
    fn neighbours_are_read_together_and_in_the_order_of_their_segments() {
        let item =
            |offset, length, target, at| Item { source: 0, offset, length, target, file: 0, at, view: None };
        let plan = Plan::of(vec![
            item(1_000, 100, 1, 5_000),
            item(1_200, 100, 1, 4_096),
            item(50 << 20, 10, 0, 4_096),
            item(1_300, 10, 1, 6_000),
        ]);
        let stretches: Vec<_> =
            plan.units.iter().map(|unit| (unit.start, unit.end, unit.pieces.len())).collect();
        assert_eq!(stretches, [(50 << 20, (50 << 20) + 10, 1), (1_000, 1_310, 3)]);
        assert_eq!((plan.bytes(), plan.bytes_read()), (220, 320));
    }
}
