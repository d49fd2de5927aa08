//! Where tensors lie in a slab, and which bytes of a segment's files come where. Pure.
//!
//! In the order of the segment's files, each tensor on a multiple of [`ALIGNMENT`]: kernels read from there with their widest
//! loads. What lies between two is written as zeros: a slab is handed to other processes whole.

use std::io;

use hoist_domain::{Bytes, Dtype};
use hoist_segment::Placed;

/// What a tensor's place is a multiple of: what allocators of the device give, too.
pub(crate) const ALIGNMENT: u64 = 256;

/// A tensor in a slab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: Box<str>,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Box<[u64]>,
    pub(crate) at: u64,
    pub(crate) length: u64,
}

/// Bytes that lie in one row in a file and in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) at: u64,
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A component as it is to lie in a slab.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) places: Vec<Place>,
    /// In the order of their places; none is empty.
    runs: Vec<Run>,
    size: u64,
}

/// Reads all that is asked for of a file.
pub(crate) type Reader<'a> = &'a (dyn Fn(usize, u64, &mut [u8]) -> io::Result<()> + Sync);

impl Image {
    /// Of these tensors, with the numbers of their files, in this order. None: more than there are addresses.
    pub(crate) fn of<'a>(tensors: impl Iterator<Item = (usize, &'a Placed)>) -> Option<Self> {
        let mut image = Self::default();
        for (file, placed) in tensors {
            let at = image.size.checked_next_multiple_of(ALIGNMENT)?;
            image.size = at.checked_add(placed.length)?;
            image.run(Run { at, file, offset: placed.offset, length: placed.length });
            image.places.push(Place {
                name: placed.name.clone(),
                dtype: placed.dtype,
                shape: placed.shape.clone(),
                at,
                length: placed.length,
            });
        }
        Some(image)
    }

    fn run(&mut self, next: Run) {
        if next.length == 0 {
            return;
        }
        if let Some(last) = self.runs.last_mut()
            && last.file == next.file
            && (last.at + last.length, last.offset + last.length) == (next.at, next.offset)
        {
            last.length += next.length;
            return;
        }
        self.runs.push(next);
    }

    /// To the last byte of the last tensor.
    pub(crate) const fn size(&self) -> Bytes {
        Bytes(self.size)
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Up to where everything is there, of a single file of which so much is there from its beginning.
    pub(crate) fn reach(&self, there: Bytes) -> u64 {
        let mut reach = 0;
        for run in &self.runs {
            let has = there.0.saturating_sub(run.offset).min(run.length);
            if has > 0 {
                reach = run.at + has;
            }
            if has < run.length {
                break;
            }
        }
        reach
    }

    /// The bytes from a place on, as many as there is room for.
    ///
    /// # Errors
    /// The reader's.
    pub(crate) fn fill(&self, from: u64, into: &mut [u8], read: Reader<'_>) -> io::Result<()> {
        let to = from.saturating_add(into.len() as u64);
        let first = self.runs.partition_point(|run| run.at + run.length <= from);
        // Up to here the room is written to.
        let mut written = from;
        for run in self.runs.iter().skip(first).take_while(|run| run.at < to) {
            let (begin, end) = (run.at.max(from), (run.at + run.length).min(to));
            piece(into, from, written, begin).fill(0);
            read(run.file, run.offset + (begin - run.at), piece(into, from, begin, end))?;
            written = end;
        }
        piece(into, from, written, to).fill(0);
        Ok(())
    }
}

/// Of a room that begins at `base`, what is from `begin` to `end`.
fn piece(room: &mut [u8], base: u64, begin: u64, end: u64) -> &mut [u8] {
    let index = |at: u64| usize::try_from(at.saturating_sub(base)).unwrap_or(usize::MAX);
    room.get_mut(index(begin)..index(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(name: &str, offset: u64, length: u64) -> Placed {
        Placed { name: name.into(), dtype: Dtype::U8, shape: Box::new([length]), offset, length }
    }

    /// Files whose byte at `n` is `n` and the file's number, so that a byte tells where it is from.
    fn file(number: usize, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for (at, byte) in (offset..).zip(into) {
            *byte = u8::try_from((at * 7 + number as u64 * 100 + 1) % 251 + 1).unwrap();
        }
        Ok(())
    }

    #[test]
    fn each_tensor_lies_on_its_boundary_and_neighbours_are_one_run() {
        let tensors = [
            placed("a", 4_096, 512),
            placed("b", 4_608, 256),
            placed("c", 4_864, 100),
            placed("d", 4_964, 8),
        ];
        let image = Image::of(tensors.iter().map(|one| (0, one))).unwrap();
        let at: Vec<u64> = image.places.iter().map(|place| place.at).collect();
        assert_eq!(at, [0, 512, 768, 1_024]);
        assert_eq!(image.size(), Bytes(1_032));
        let run = |at, offset, length| Run { at, file: 0, offset, length };
        assert_eq!(image.runs(), [run(0, 4_096, 868), run(1_024, 4_964, 8)]);
    }

    #[test]
    fn files_are_told_apart_and_empty_tensors_have_a_place_and_no_bytes() {
        let tensors = [(0, placed("a", 0, 256)), (1, placed("b", 256, 256)), (1, placed("none", 512, 0))];
        let image = Image::of(tensors.iter().map(|(file, one)| (*file, one))).unwrap();
        assert_eq!(image.runs().len(), 2, "the same numbers, another file");
        assert_eq!(image.places[2].at, 512);
    }

    #[test]
    fn any_window_holds_what_the_whole_does() {
        let tensors = [
            (0, placed("a", 4_096, 300)),
            (0, placed("none", 4_396, 0)),
            (0, placed("b", 4_396, 1_000)),
            (1, placed("c", 0, 77)),
            (1, placed("d", 77, 513)),
        ];
        let image = Image::of(tensors.iter().map(|(file, one)| (*file, one))).unwrap();
        // The oracle: each tensor written to its place, byte by byte.
        let mut whole = vec![0_u8; usize::try_from(image.size().0).unwrap() + 200];
        for ((number, one), place) in tensors.iter().zip(&image.places) {
            for n in 0..one.length {
                let mut byte = [0];
                file(*number, one.offset + n, &mut byte).unwrap();
                whole[usize::try_from(place.at + n).unwrap()] = byte[0];
            }
        }
        for length in [1_usize, 7, 255, 256, 300, 1_024, whole.len()] {
            for from in (0..whole.len() - length + 1).step_by(13) {
                let mut window = vec![0xee; length];
                image.fill(from as u64, &mut window, &file).unwrap();
                assert!(window == whole[from..from + length], "{length} from {from}");
            }
        }
    }

    #[test]
    fn what_is_there_of_a_file_reaches_to_its_last_byte_in_the_slab() {
        let tensors = [placed("a", 4_096, 300), placed("b", 4_396, 0), placed("c", 4_396, 1_000)];
        let image = Image::of(tensors.iter().map(|one| (0, one))).unwrap();
        let reach = |there| image.reach(Bytes(there));
        assert_eq!([reach(0), reach(4_096)], [0, 0], "a header is nothing");
        assert_eq!([reach(4_097), reach(4_396)], [1, 300]);
        assert_eq!(image.places[2].at, 512);
        assert_eq!([reach(4_397), reach(5_396), reach(u64::MAX)], [513, 1_512, 1_512]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let image = Image::of([(0, &placed("a", 0, 16))].into_iter()).unwrap();
        let fails = |_, _, _: &mut [u8]| Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(image.fill(0, &mut [0; 16], &fails).is_err());
    }

    #[test]
    fn what_no_address_reaches_is_no_image() {
        let (one, other) = (placed("a", 0, u64::MAX - 10), placed("b", 0, 100));
        assert!(Image::of([(0, &one), (0, &other)].into_iter()).is_none());
    }
}
