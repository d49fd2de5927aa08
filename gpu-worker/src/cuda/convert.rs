//! Elements as another type on the way: copied to the card as they are, a part at a time, and converted there.
//!
//! ```text
//!  files ──ring──► scratch (some parts) ──converter──► slab
//!             ▲                               │
//!             └───────── the next parts ──────┘
//! ```
//! A host converts at a quarter of what the bus carries; a card as fast as it reads.

use std::rc::Rc;

use hoist_domain::{Bytes, Dtype};
use hoist_segment::Placed;

use super::context::Context;
use super::copy::{GoOn, Halt, Ring};
use super::driver::Fault;
use super::lanes::Lanes;
use super::places::{ALIGNMENT, Image, Reader};
use super::slab::Slab;

/// Computes on slabs.
pub(crate) trait Converter: std::fmt::Debug {
    /// Elements from one place as another type to another place. May return before it is done: who calls waits for the card.
    ///
    /// # Errors
    /// Why not.
    fn convert(
        &self,
        from: (&Slab, u64, Dtype),
        to: (&Slab, u64, Dtype),
        elements: u64,
    ) -> Result<(), String>;

    /// What so many words from a place on add to a `hoist_domain::Sum`, of which as many come before them. Computed when it returns.
    ///
    /// # Errors
    /// Why not.
    fn sum(&self, of: (&Slab, u64), words: u64, before: u64) -> Result<u64, String>;
}

/// Of a tensor, at once. A multiple of [`ALIGNMENT`] in every type, so that each piece of the target begins on one as well.
const PIECE: u64 = 32 << 20;

/// What is copied before it is converted, at most: the more, the less often the bus waits for the card.
const SCRATCH: u64 = 256 << 20;

/// What is copied before it is converted, at least.
pub(crate) const LEAST_SCRATCH: Bytes = Bytes(PIECE + ALIGNMENT);

/// Bytes of a tensor: where they come from, where they pass and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// In the scratch.
    from: u64,
    /// In the slab.
    to: u64,
    elements: u64,
    before: Dtype,
    after: Dtype,
}

/// What passes the scratch together.
#[derive(Debug)]
struct Group {
    image: Image,
    parts: Vec<Part>,
}

/// Why a conversion came to nothing.
#[derive(Debug)]
pub(crate) enum Unconverted {
    Halt(Halt),
    /// There is no room for what passes; so much is held already.
    NoScratch(Fault, Bytes),
    /// The converter's words.
    Compute(String),
}

impl<T: Into<Halt>> From<T> for Unconverted {
    fn from(halt: T) -> Self {
        Self::Halt(halt.into())
    }
}

/// A tensor as it is to lie in the slab: what can be converted is.
pub(crate) fn target(placed: &Placed, to: Dtype) -> Placed {
    let dtype = if placed.dtype.is_convertible() { to } else { placed.dtype };
    Placed { dtype, offset: 0, length: placed.dtype.converted(placed.length, to), ..placed.clone() }
}

/// What is needed beside the slab while it is filled: as much as is of use, but no more than half of what is free, since kernels are
/// loaded as they are first used; and a piece at least.
pub(crate) fn scratch_for(raw: Bytes, spare: Bytes) -> Bytes {
    Bytes(raw.0.min(SCRATCH).min((spare.0 / 2).max(LEAST_SCRATCH.0)))
}

/// All tensors in groups that pass so much scratch. `targets` are their places in the slab, in the same order.
fn groups<'a>(
    tensors: impl Iterator<Item = (usize, &'a Placed)>,
    targets: &Image,
    to: Dtype,
    scratch: Bytes,
) -> Option<Vec<Group>> {
    let (mut groups, mut pieces, mut parts, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
    let whole = |pieces: &mut Vec<(usize, Placed)>, parts: &mut Vec<Part>| {
        let pieces = std::mem::take(pieces);
        let image = Image::of(pieces.iter().map(|(file, piece)| (*file, piece)))?;
        Some(Group { image, parts: std::mem::take(parts) })
    };
    for ((file, placed), place) in tensors.zip(&targets.places) {
        // What is not converted is moved as bytes: not everything has a kind of its own.
        let (before, after) =
            if placed.dtype.is_convertible() { (placed.dtype, to) } else { (Dtype::U8, Dtype::U8) };
        let (width, wide) = (before.block_bits() / 8, after.block_bits() / 8);
        let mut done = 0;
        while done < placed.length {
            let length = PIECE.min(placed.length - done);
            let mut from = end.next_multiple_of(ALIGNMENT);
            if from + length > scratch.0 && !parts.is_empty() {
                groups.push(whole(&mut pieces, &mut parts)?);
                from = 0;
            }
            let elements = length / width;
            parts.push(Part { from, to: place.at + done / width * wide, elements, before, after });
            pieces.push((file, Placed { offset: placed.offset + done, length, ..placed.clone() }));
            (end, done) = (from + length, done + length);
        }
    }
    if !parts.is_empty() {
        groups.push(whole(&mut pieces, &mut parts)?);
    }
    Some(groups)
}

/// Fills a slab with an image's tensors, converted.
#[expect(clippy::too_many_arguments, reason = "each is another's")]
pub(crate) fn convert<'a>(
    context: &Rc<Context>,
    lanes: &Lanes,
    ring: &mut Ring,
    converter: &dyn Converter,
    tensors: impl Iterator<Item = (usize, &'a Placed)>,
    (targets, to): (&Image, Dtype),
    (slab, scratch): (&Slab, &Slab),
    read: Reader<'_>,
    go_on: GoOn<'_>,
) -> Result<(), Unconverted> {
    let too_large = || Unconverted::Compute("it is larger than any".to_owned());
    let groups = groups(tensors, targets, to, scratch.size()).ok_or_else(too_large)?;
    lanes.clear(slab, 0)?;
    let mut done = 0;
    for group in groups {
        ring.copy(lanes, scratch, (&group.image, 0..group.image.size().0), read, &mut |copied| {
            go_on(Bytes(done + copied.0))
        })?;
        let computed = group.parts.iter().try_for_each(|part| {
            let from = (scratch, part.from, part.before);
            converter.convert(from, (slab, part.to, part.after), part.elements)
        });
        // Whatever was begun is done before the scratch is written to again, or goes. A library that computes may have set a
        // context of its own.
        let waited: Result<(), Fault> = context.make_current().and_then(|()| context.synchronize());
        computed.map_err(Unconverted::Compute)?;
        waited?;
        done += group.image.size().0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(name: &str, dtype: Dtype, offset: u64, length: u64) -> Placed {
        Placed { name: name.into(), dtype, shape: Box::new([length]), offset, length }
    }

    #[test]
    fn every_element_passes_once_and_comes_where_it_belongs() {
        let tensors = [
            placed("large", Dtype::F32, 4_096, 3 * PIECE + 400),
            placed("none", Dtype::F32, 4_096 + 3 * PIECE + 400, 0),
            placed("truths", Dtype::Bool, 4_496 + 3 * PIECE, 77),
            placed("half", Dtype::F16, 4_573 + 3 * PIECE, 1_000),
        ];
        let after: Vec<Placed> = tensors.iter().map(|one| target(one, Dtype::Bf16)).collect();
        let targets = Image::of(after.iter().map(|one| (0, one))).unwrap();
        for scratch in [PIECE + ALIGNMENT, 2 * PIECE + 10_000, SCRATCH] {
            let groups =
                groups(tensors.iter().map(|one| (0, one)), &targets, Dtype::Bf16, Bytes(scratch)).unwrap();
            let mut elements = vec![0; tensors.len()];
            for group in &groups {
                assert!(group.image.size().0 <= scratch, "{} of {scratch}", group.image.size());
                for (part, passing) in group.parts.iter().zip(&group.image.places) {
                    assert_eq!((part.from, part.from % ALIGNMENT, part.to % ALIGNMENT), (passing.at, 0, 0));
                    let at = targets
                        .places
                        .iter()
                        .rposition(|place| place.at <= part.to && place.length > 0)
                        .unwrap();
                    let wide = part.after.block_bits() / 8;
                    assert_eq!(
                        part.to,
                        targets.places[at].at + elements[at] * wide,
                        "in order, without a gap"
                    );
                    assert_eq!(part.elements * (part.before.block_bits() / 8), passing.length);
                    elements[at] += part.elements;
                }
            }
            assert_eq!(elements, [(3 * PIECE + 400) / 4, 0, 77, 500], "{scratch}");
        }
    }

    #[test]
    fn the_scratch_is_what_there_is_room_for_but_a_piece_at_least() {
        let of = |raw, spare| scratch_for(Bytes(raw), Bytes(spare)).0;
        assert_eq!(of(1_000, u64::MAX), 1_000);
        assert_eq!(of(10 * SCRATCH, u64::MAX), SCRATCH);
        assert_eq!(of(10 * SCRATCH, 100 << 20), 50 << 20, "something is left to others");
        assert_eq!(of(10 * SCRATCH, 0), PIECE + ALIGNMENT);
    }
}
