//! What every device does, whatever it is made of: run on the fake one here, on the real ones where they are.
//!
//! Each behaviour gets a device of its own from `open`, with as much memory as it is told.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a suite of tests, which other crates call"
)]

mod ahead;

use std::path::PathBuf;

use hoist_domain::{Bytes, Digest, Dtype, ReplicaFailure, ReplicaId, Sum};
use hoist_segment::{Access, Directory, Filling, Layout, RawFile, Sealed, Segment, TensorShape};
use uuid::Uuid;

use crate::device::{Device, Load, Pace, Stopped};

/// Makes a device of this size.
pub type Opener<'a> = &'a dyn Fn(Bytes) -> Box<dyn Device>;

/// More than any behaviour needs.
const PLENTY: Bytes = Bytes::gib(1);

/// Runs all of it.
pub fn every_behaviour(open: Opener<'_>) {
    every_tensor_comes_back_bit_for_bit(open);
    files_as_they_are_come_back_byte_for_byte(open);
    what_is_unloaded_is_given_back_to_the_byte(open);
    what_is_too_large_is_refused_and_leaves_nothing(open);
    what_is_not_wanted_any_more_stops_and_leaves_nothing(open);
    what_is_no_segment_of_the_content_is_refused(open);
    what_is_not_there_is_neither_read_nor_unloaded(open);
    what_is_evicted_from_ram_while_it_is_there_stays_right(open);
    what_is_converted_is_rounded_as_it_should_be(open);
    ahead::every_behaviour(open);
}

/// Says yes, so many times.
#[derive(Debug)]
pub struct Patience(pub u64);

impl Pace for Patience {
    fn is_wanted(&mut self, done: Bytes, total: Bytes) -> bool {
        assert!(done <= total, "{done} of {total}");
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// For ever.
#[must_use]
pub fn forever() -> Patience {
    Patience(u64::MAX)
}

/// Segments in memory, as the coordinator makes them.
#[derive(Debug)]
pub struct Segments {
    _above: tempfile::TempDir,
    directory: Directory,
    kept: Vec<Segment>,
}

/// A tensor that was written: name, type, shape, bytes.
pub type Written = (String, Dtype, Vec<u64>, Vec<u8>);

impl Segments {
    #[must_use]
    pub fn new() -> Self {
        let above = tempfile::Builder::new().prefix("hoist-test-").tempdir_in("/dev/shm").unwrap();
        let directory = Directory::open(&above.path().join("segments"), Access::Owner).unwrap();
        Self { _above: above, directory, kept: Vec::new() }
    }

    /// A segment of these tensors, under a digest that is made up; its path.
    pub fn tensors(&mut self, number: u8, tensors: &[Written]) -> PathBuf {
        let (filling, layout) = self.begin(tensors);
        fill(&filling, &layout, tensors);
        self.seal(filling, number)
    }

    /// A segment of these tensors of which nothing is there.
    #[must_use]
    pub fn begin(&self, tensors: &[Written]) -> (Filling, Layout) {
        let shape = |(name, dtype, shape, _): &Written| TensorShape {
            name: name.as_str().into(),
            dtype: *dtype,
            shape: shape.as_slice().into(),
        };
        let layout = Layout::of(tensors.iter().map(shape)).unwrap();
        (self.directory.create(&layout).unwrap(), layout)
    }

    /// A segment of files as they are; its path.
    pub fn files(&mut self, number: u8, files: &[(&str, Vec<u8>)]) -> PathBuf {
        let file =
            |(name, bytes): &(&str, Vec<u8>)| RawFile { name: (*name).into(), length: bytes.len() as u64 };
        let filling = self.directory.create_raw(&files.iter().map(file).collect::<Vec<_>>()).unwrap();
        for (at, (_, bytes)) in files.iter().enumerate() {
            filling.write_at(at, 0, bytes).unwrap();
        }
        self.keep(filling.seal(digest(number)).unwrap())
    }

    /// Gives what was begun its name; its path.
    pub fn seal(&mut self, filling: Filling, number: u8) -> PathBuf {
        self.keep(filling.seal(digest(number)).unwrap())
    }

    fn keep(&mut self, sealed: Sealed) -> PathBuf {
        let Sealed::New(segment) = sealed else { panic!("a digest is used once") };
        let path = segment.path();
        self.kept.push(segment);
        path
    }

    /// Takes all names away, as an eviction does.
    pub fn evict_all(&mut self) {
        for segment in self.kept.drain(..) {
            drop(segment.evict().unwrap());
        }
    }
}

impl Default for Segments {
    fn default() -> Self {
        Self::new()
    }
}

#[must_use]
pub fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

/// Writes all of it.
pub fn fill(filling: &Filling, layout: &Layout, tensors: &[Written]) {
    for placed in layout.tensors() {
        let (.., bytes) = tensors.iter().find(|(name, ..)| *name == *placed.name).unwrap();
        filling.write_at(0, placed.offset, bytes).unwrap();
    }
}

fn load_of(number: u8, path: PathBuf) -> Load {
    Load { id: ReplicaId(Uuid::from_u128(number.into())), digest: digest(number), path, dtype: None }
}

/// Bytes that repeat nowhere near.
#[must_use]
pub fn bytes(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// One of each type of elements that a segment can have, an empty one, one without dimensions, and one of some megabytes.
fn variety() -> Vec<Written> {
    let mut tensors = vec![
        ("empty".to_owned(), Dtype::F32, vec![0, 4], Vec::new()),
        ("scalar".to_owned(), Dtype::F32, Vec::new(), bytes(4, 1)),
        ("large.weight".to_owned(), Dtype::F16, vec![1_024, 2_000], bytes(4_096_000, 2)),
    ];
    for (number, dtype) in Dtype::ALL.iter().filter(|dtype| dtype.is_safetensors()).enumerate() {
        let length = dtype.bytes_of(48).unwrap();
        // A truth is 0 or 1; other bytes are none.
        let data = if *dtype == Dtype::Bool { vec![1; 48] } else { bytes(length, number as u64 + 9) };
        tensors.push((format!("of.{dtype}"), *dtype, vec![6, 8], data));
    }
    tensors
}

/// All of a tensor, in pieces.
fn read(device: &dyn Device, id: ReplicaId, name: &str) -> (Dtype, Vec<u64>, Vec<u8>) {
    let (mut all, mut facts) = (Vec::new(), None);
    loop {
        let piece = device.read(id, name, all.len() as u64, 1 << 20).unwrap_or_else(|| panic!("no {name}"));
        assert!(piece.data.len() <= 1 << 20);
        all.extend(&piece.data);
        facts.get_or_insert((piece.dtype, piece.shape));
        if all.len() as u64 >= piece.size.0 {
            let (dtype, shape) = facts.unwrap();
            return (dtype, shape, all);
        }
        assert!(!piece.data.is_empty(), "{name} ends at {} of {}", all.len(), piece.size);
    }
}

fn every_tensor_comes_back_bit_for_bit(open: Opener<'_>) {
    let (mut segments, mut device, written) = (Segments::new(), open(PLENTY), variety());
    let load = load_of(1, segments.tensors(1, &written));
    let loaded = device.load(&load, &mut forever()).unwrap();
    assert_eq!(loaded.tensors as usize, written.len());
    let mut names = device.tensors(load.id);
    names.sort();
    let mut expected: Vec<String> = written.iter().map(|(name, ..)| name.clone()).collect();
    expected.sort();
    assert_eq!(names, expected);
    is_all_there(&*device, load.id, &written);
    let mut sums = device.sums(load.id, &mut forever()).unwrap();
    sums.sort_unstable();
    let mut right: Vec<(Box<str>, u64)> =
        written.iter().map(|(name, .., data)| (name.as_str().into(), Sum::of(data))).collect();
    right.sort_unstable();
    assert_eq!(sums, right);
    assert!(device.sums(load.id, &mut Patience(1)).is_err(), "not wanted");
    assert!(device.sums(ReplicaId(Uuid::from_u128(99)), &mut forever()).is_err(), "not there");
    assert_eq!(device.read(load.id, "scalar", 5, 1), None, "beyond its end");
}

fn files_as_they_are_come_back_byte_for_byte(open: Opener<'_>) {
    let (mut segments, mut device) = (Segments::new(), open(PLENTY));
    let files =
        [("config.json", b"{}".to_vec()), ("model.gguf", bytes(3_000_000, 5)), ("nothing", Vec::new())];
    let load = load_of(1, segments.files(1, &files));
    assert_eq!(device.load(&load, &mut forever()).unwrap().tensors, 3);
    for (name, data) in files {
        let (dtype, shape, back) = read(&*device, load.id, name);
        assert_eq!((dtype, shape), (Dtype::U8, vec![data.len() as u64]), "{name}");
        assert!(back == data, "{name}");
    }
}

fn what_is_unloaded_is_given_back_to_the_byte(open: Opener<'_>) {
    let (mut segments, mut device) = (Segments::new(), open(PLENTY));
    let baseline = device.memory();
    assert_eq!((baseline.used, baseline.mapped), (Bytes(0), Bytes(0)));
    let one = load_of(1, segments.tensors(1, &variety()));
    let other = Load { id: ReplicaId(Uuid::from_u128(2)), ..one.clone() };
    let mut used = baseline.used;
    for load in [&one, &other] {
        let loaded = device.load(load, &mut forever()).unwrap();
        assert!(loaded.own.0 + loaded.mapped.0 > 4_000_000, "{loaded:?}");
        let now = device.memory();
        assert!(now.used > used && now.free < baseline.free, "{now:?}");
        used = now.used;
    }
    for load in [&one, &other] {
        let before = device.memory();
        let unloaded = device.unload(load.id).unwrap();
        assert_eq!(unloaded.expected, unloaded.returned);
        assert_eq!(device.memory().used.0, before.used.0 - unloaded.returned.0);
    }
    assert_eq!(device.memory(), baseline);
}

fn what_is_too_large_is_refused_and_leaves_nothing(open: Opener<'_>) {
    let (mut segments, mut device) = (Segments::new(), open(Bytes::mib(6)));
    let first = load_of(1, segments.tensors(1, &variety()));
    let second = load_of(2, segments.tensors(2, &variety()));
    device.load(&first, &mut forever()).unwrap();
    let before = device.memory();
    let refused = device.load(&second, &mut forever()).unwrap_err();
    let Stopped::Failed(ReplicaFailure::NoMemory { needed, free }) = refused else { panic!("{refused:?}") };
    assert!(needed > free && free == before.free, "{needed} {free} {before:?}");
    assert_eq!(device.memory(), before);
    assert_eq!(device.read(second.id, "scalar", 0, 4), None);
    device.unload(first.id).unwrap();
    device.load(&second, &mut forever()).unwrap();
}

fn what_is_not_wanted_any_more_stops_and_leaves_nothing(open: Opener<'_>) {
    let (mut segments, mut device) = (Segments::new(), open(PLENTY));
    let before = device.memory();
    let load = load_of(1, segments.tensors(1, &variety()));
    assert_eq!(device.load(&load, &mut Patience(1)), Err(Stopped::NotWanted));
    assert_eq!((device.memory(), device.unload(load.id)), (before, None));
    device.load(&load, &mut forever()).unwrap();
}

fn what_is_no_segment_of_the_content_is_refused(open: Opener<'_>) {
    let (mut segments, mut device) = (Segments::new(), open(PLENTY));
    let before = device.memory();
    let good = segments.tensors(1, &variety());
    let disk = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let on_disk = disk.path().join(good.file_name().unwrap());
    std::fs::copy(&good, &on_disk).unwrap();
    let link = good.with_file_name(format!("{}.safetensors", digest(7)));
    std::os::unix::fs::symlink(&good, &link).unwrap();
    let damaged = good.with_file_name(format!("{}.safetensors", digest(8)));
    std::fs::write(&damaged, vec![0xff; 8_192]).unwrap();
    let mut closed = std::fs::metadata(&damaged).unwrap().permissions();
    closed.set_readonly(true);
    std::fs::set_permissions(&damaged, closed).unwrap();
    let writable = good.with_file_name(format!("{}.safetensors", digest(9)));
    std::fs::write(&writable, std::fs::read(&good).unwrap()).unwrap();
    for (what, load) in [
        ("of another content", load_of(2, good.clone())),
        ("that is missing", load_of(3, good.with_file_name(format!("{}.safetensors", digest(3))))),
        ("on a disk", load_of(1, on_disk)),
        ("behind a link", load_of(7, link)),
        ("that is damaged", load_of(8, damaged)),
        ("that can be written to", load_of(9, writable)),
    ] {
        let refused = device.load(&load, &mut forever()).unwrap_err();
        assert!(matches!(refused, Stopped::Failed(ReplicaFailure::Segment(_))), "{what}: {refused:?}");
        assert_eq!(device.memory(), before, "{what}");
    }
}

fn what_is_not_there_is_neither_read_nor_unloaded(open: Opener<'_>) {
    let (mut segments, mut device) = (Segments::new(), open(PLENTY));
    let load = load_of(1, segments.tensors(1, &variety()));
    assert_eq!((device.read(load.id, "scalar", 0, 4), device.unload(load.id)), (None, None));
    device.load(&load, &mut forever()).unwrap();
    assert_eq!(device.read(load.id, "no such tensor", 0, 4), None);
    assert!(device.unload(load.id).is_some());
    assert_eq!((device.unload(load.id), device.tensors(load.id)), (None, Vec::new()));
}

fn what_is_evicted_from_ram_while_it_is_there_stays_right(open: Opener<'_>) {
    let (mut segments, mut device, written) = (Segments::new(), open(PLENTY), variety());
    let load = load_of(1, segments.tensors(1, &written));
    device.load(&load, &mut forever()).unwrap();
    segments.evict_all();
    let (.., data) = &written[2];
    assert!(read(&*device, load.id, "large.weight").2 == *data);
}

fn what_is_converted_is_rounded_as_it_should_be(open: Opener<'_>) {
    let mut device = open(PLENTY);
    let converts = device.facts().dtypes;
    let mut segments = Segments::new();
    // Exact in all; halfway between two neighbours, to the even one; infinite, and none.
    let values = [0.0_f32, -0.0, 1.0, -2.5, 65_504.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::INFINITY];
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let written = [
        ("w".to_owned(), Dtype::F32, vec![2, 4], data),
        ("steps".to_owned(), Dtype::I64, vec![1], 7_i64.to_le_bytes().to_vec()),
    ];
    let load = Load { dtype: Some(Dtype::Bf16), ..load_of(1, segments.tensors(1, &written)) };
    if !converts.contains(&Dtype::Bf16) {
        let refused = device.load(&load, &mut forever()).unwrap_err();
        assert!(matches!(refused, Stopped::Failed(ReplicaFailure::Unsupported(_))), "{refused:?}");
        return;
    }
    device.load(&load, &mut forever()).unwrap();
    let (dtype, shape, back) = read(&*device, load.id, "w");
    assert_eq!((dtype, shape), (Dtype::Bf16, vec![2, 4]));
    let expected: Vec<u8> = values.iter().flat_map(|value| nearest_bf16(*value).to_le_bytes()).collect();
    assert_eq!(back, expected);
    let (dtype, _, steps) = read(&*device, load.id, "steps");
    assert_eq!((dtype, steps), (Dtype::I64, 7_i64.to_le_bytes().to_vec()), "no floating point");
}

fn is_all_there(device: &dyn Device, id: ReplicaId, written: &[Written]) {
    for (name, dtype, shape, data) in written {
        let (found, at, back) = read(device, id, name);
        assert_eq!((found, &at), (*dtype, shape), "{name}");
        assert!(back == *data, "{name} is not what was written");
    }
}

/// To the nearest, halves to even. For what is no NaN.
fn nearest_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    u16::try_from(rounded >> 16).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Script};

    #[test]
    fn the_scripted_device_does_what_every_device_does() {
        let id = "cuda:0".parse().unwrap();
        every_behaviour(&|size| Box::new(Fake::new(id, size, Script::default())));
    }
}
