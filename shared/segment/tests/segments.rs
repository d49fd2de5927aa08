//! Segments through their whole life, beside the reference reader of the format.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hoist_domain::{Bytes, Digest, Dtype};
use hoist_segment::{Access, Directory, Layout, Opened, RawFile, SealError, Sealed, Segment, TensorShape};
use safetensors::SafeTensors;

const DIGEST: Digest = Digest([7; 32]);

fn place() -> (tempfile::TempDir, Directory) {
    let above = tempfile::tempdir_in("/dev/shm").unwrap();
    let directory = Directory::open(&above.path().join("segments"), Access::Owner).unwrap();
    (above, directory)
}

fn layout(elements: u64) -> Layout {
    let tensor =
        |name: &str, dtype, shape: &[u64]| TensorShape { name: name.into(), dtype, shape: shape.into() };
    Layout::of([tensor("b.weight", Dtype::F16, &[2, elements]), tensor("a", Dtype::F32, &[elements])])
        .unwrap()
}

fn bytes(length: u64, seed: u64) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at.wrapping_mul(31) ^ (at >> 8) ^ seed) % 251).unwrap()).collect()
}

fn filled(directory: &Directory, layout: &Layout) -> hoist_segment::Filling {
    let filling = directory.create(layout).unwrap();
    for tensor in layout.tensors() {
        filling.write_at(0, tensor.offset, &bytes(tensor.length, tensor.length)).unwrap();
    }
    filling
}

fn sealed(directory: &Directory, digest: Digest) -> Segment {
    let Sealed::New(segment) = filled(directory, &layout(5_000)).seal(digest).unwrap() else {
        panic!("it is new")
    };
    segment
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_sealed_segment_is_a_safetensors_file_that_nobody_can_write_to() {
    let (_above, directory) = place();
    let segment = sealed(&directory, DIGEST);
    let file = std::fs::read(segment.path()).unwrap();
    let read = SafeTensors::deserialize(&file).unwrap();
    for tensor in layout(5_000).tensors() {
        assert_eq!(read.tensor(&tensor.name).unwrap().data(), bytes(tensor.length, tensor.length));
    }
    assert_eq!(segment.length(), Bytes(file.len() as u64));
    assert_eq!(std::fs::metadata(segment.path()).unwrap().permissions().mode() & 0o777, 0o440);
    assert_eq!(segment.layout().map(|layout| &**layout), Some(&layout(5_000)));
    let map = segment.map().unwrap().unwrap();
    assert_eq!(map.file(), file);
    for tensor in map.tensors() {
        assert_eq!(map.bytes(tensor), bytes(tensor.length, tensor.length));
        assert!(map.bytes(tensor).as_ptr().is_aligned_to_element(tensor.dtype));
    }
}

trait AlignedTo {
    fn is_aligned_to_element(&self, dtype: Dtype) -> bool;
}

impl AlignedTo for *const u8 {
    fn is_aligned_to_element(&self, dtype: Dtype) -> bool {
        self.addr().is_multiple_of(usize::try_from(dtype.block_bits() / 8).unwrap())
    }
}

#[test]
fn what_is_held_is_what_the_file_system_counts() {
    let (_above, directory) = place();
    let free = || directory.room().unwrap().unwrap().free.0;
    let before = free();
    let segment = sealed(&directory, DIGEST);
    assert_eq!(segment.held_bytes().unwrap().0, segment.length().0.next_multiple_of(4096));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(segment.path()).unwrap());
    assert_eq!(segment.held_bytes().unwrap(), Bytes(blocks * 512));
    // Others use the same tmpfs: what is ours is taken, whatever they do.
    assert!(before > 0 && free() > 0);
}

#[test]
fn a_segment_that_was_not_written_to_its_end_is_never_sealed() {
    let (above, directory) = place();
    let layout = layout(50_000);
    let filling = directory.create(&layout).unwrap();
    let last = layout.tensors().last().unwrap();
    filling.write_at(0, last.offset, &bytes(last.length, 1)).unwrap();
    let refused = filling.seal(DIGEST).unwrap_err();
    assert!(matches!(refused, SealError::Incomplete { .. }), "{refused}");
    assert_eq!(names(&above.path().join("segments")), Vec::<String>::new());
}

#[test]
fn nothing_is_written_beyond_the_end() {
    let (_above, directory) = place();
    let layout = layout(10);
    let filling = directory.create(&layout).unwrap();
    for (offset, count) in [(layout.length(), 1), (layout.length() - 1, 2), (u64::MAX, 1)] {
        let refused = filling.write_at(0, offset, &vec![1; count]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{offset}");
    }
    assert!(filling.write_at(1, 0, b"x").is_err());
}

#[test]
fn who_comes_second_is_counted_until_its_readers_let_go() {
    let (above, directory) = place();
    let first = sealed(&directory, DIGEST);
    let second = filled(&directory, &layout(5_000));
    let temporary =
        names(&above.path().join("segments")).into_iter().find(|name| name.starts_with('.')).unwrap();
    let reader = std::fs::File::open(above.path().join("segments").join(temporary)).unwrap();
    let Sealed::Duplicate(evicted) = second.seal(DIGEST).unwrap() else { panic!("the name is taken") };
    assert_eq!(names(&above.path().join("segments")), [format!("{DIGEST}.safetensors")]);
    assert!(evicted.is_open_elsewhere().unwrap());
    assert_eq!(evicted.held_bytes().unwrap(), first.held_bytes().unwrap());
    drop(reader);
    assert!(!evicted.is_open_elsewhere().unwrap());
    assert!(!first.is_open_elsewhere().unwrap());
}

#[test]
fn an_evicted_segment_lives_on_for_who_has_it_open_and_for_nobody_else() {
    let (above, directory) = place();
    let segment = sealed(&directory, DIGEST);
    assert!(!segment.is_open_elsewhere().unwrap());
    let map = segment.map().unwrap().unwrap();
    assert!(segment.is_open_elsewhere().unwrap());
    let evicted = segment.evict().unwrap();
    assert_eq!(names(&above.path().join("segments")), Vec::<String>::new());
    assert!(evicted.is_open_elsewhere().unwrap());
    let tensor = &map.tensors()[0];
    assert_eq!(map.bytes(tensor), bytes(tensor.length, tensor.length));
    drop(map);
    assert!(!evicted.is_open_elsewhere().unwrap());
}

#[test]
fn what_somebody_has_removed_or_replaced_is_not_sound_and_can_be_evicted_with_its_readers_told() {
    let (above, directory) = place();
    let raw = || {
        let filling = directory.create_raw(&[RawFile { name: "model.gguf".into(), length: 4 }]).unwrap();
        filling.write_at(0, 0, b"GGUF").unwrap();
        let Sealed::New(segment) = filling.seal(DIGEST).unwrap() else { panic!("it is new") };
        segment
    };
    let tensors = || sealed(&directory, DIGEST);
    let remove = |path: &Path| match path.is_dir() {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    };
    let makers: [&dyn Fn() -> Segment; 2] = [&tensors, &raw];
    let meddlers: [&dyn Fn(&Path); 4] = [
        &remove,
        &|path| {
            remove(path);
            std::os::unix::fs::symlink(above.path(), path).unwrap();
        },
        &|path| {
            remove(path);
            std::fs::write(path, b"not weights").unwrap();
        },
        &|path| {
            remove(path);
            std::fs::create_dir_all(path.join("deep/er")).unwrap();
        },
    ];
    for (make, meddle) in makers.iter().flat_map(|make| meddlers.iter().map(move |meddle| (make, meddle))) {
        let segment = make();
        assert!(segment.is_sound());
        let file = if segment.is_raw() { segment.path().join("model.gguf") } else { segment.path() };
        let reader = std::fs::File::open(file).unwrap();
        meddle(&segment.path());
        assert!(!segment.is_sound());
        let evicted = segment.evict().unwrap();
        assert_eq!(names(directory.path()), Vec::<String>::new());
        assert!(evicted.is_open_elsewhere().unwrap());
        assert!(evicted.held_bytes().unwrap().0 > 0);
        drop(reader);
        assert!(!evicted.is_open_elsewhere().unwrap());
    }
}

#[test]
fn what_somebody_has_cut_or_given_another_name_is_not_sound() {
    let (above, directory) = place();
    let segment = sealed(&directory, DIGEST);
    let other = above.path().join("other");
    std::fs::hard_link(segment.path(), &other).unwrap();
    assert!(!segment.is_sound());
    std::fs::remove_file(&other).unwrap();
    assert!(segment.is_sound());
    std::fs::rename(segment.path(), &other).unwrap();
    assert!(!segment.is_sound());
    std::fs::rename(&other, segment.path()).unwrap();
    assert!(segment.is_sound());
    std::fs::set_permissions(segment.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = std::fs::File::options().write(true).open(segment.path()).unwrap();
    file.set_len(segment.length().0 - 1).unwrap();
    assert!(!segment.is_sound());
}

#[test]
fn a_dropped_filling_leaves_nothing() {
    let (above, directory) = place();
    drop(filled(&directory, &layout(100)));
    drop(directory.create_raw(&[RawFile { name: "model.gguf".into(), length: 10 }]).unwrap());
    assert_eq!(names(&above.path().join("segments")), Vec::<String>::new());
}

#[test]
fn files_are_kept_as_they_are() {
    let (above, directory) = place();
    let files = [("model.onnx", 10_000), ("weights.bin", 3), ("empty", 0)]
        .map(|(name, length)| RawFile { name: name.into(), length });
    let filling = directory.create_raw(&files).unwrap();
    for (number, file) in files.iter().enumerate() {
        filling.write_at(number, 0, &bytes(file.length, 9)).unwrap();
    }
    let Sealed::New(segment) = filling.seal(DIGEST).unwrap() else { panic!("it is new") };
    assert!(segment.is_raw());
    assert_eq!(segment.length(), Bytes(10_003));
    assert_eq!(std::fs::read(segment.path().join("model.onnx")).unwrap(), bytes(10_000, 9));
    assert!(segment.map().unwrap().is_none());
    assert!(!segment.is_open_elsewhere().unwrap());
    segment.evict().unwrap();
    assert_eq!(names(&above.path().join("segments")), Vec::<String>::new());
    for name in ["", ".hidden", "a/b", ".."] {
        assert!(directory.create_raw(&[RawFile { name: name.into(), length: 1 }]).is_err(), "{name}");
    }
    assert!(directory.create_raw(&[]).is_err());
}

#[test]
fn after_a_restart_what_is_complete_is_taken_over_and_the_rest_is_swept() {
    let (above, directory) = place();
    let path = above.path().join("segments");
    drop(sealed(&directory, DIGEST));
    let raw = directory.create_raw(&[RawFile { name: "model.gguf".into(), length: 4 }]).unwrap();
    raw.write_at(0, 0, b"GGUF").unwrap();
    drop(raw.seal(Digest([8; 32])).unwrap());
    // What a killed coordinator leaves: its destructors do not run.
    std::mem::forget(filled(&directory, &layout(100)));
    std::mem::forget(directory.create_raw(&[RawFile { name: "x".into(), length: 1 }]).unwrap());
    std::fs::create_dir(path.join(".evicting-1")).unwrap();
    std::fs::write(path.join(".evicting-1/model.gguf"), b"x").unwrap();
    // What no coordinator leaves.
    let named = |number: u8| path.join(format!("{}.safetensors", Digest([number; 32])));
    let file = std::fs::read(named(7)).unwrap();
    std::fs::write(named(1), &file[..file.len() - 1]).unwrap();
    std::fs::write(named(2), b"").unwrap();
    std::fs::File::create(named(3)).unwrap().set_len(file.len() as u64).unwrap();
    std::fs::write(named(4), &file).unwrap();
    std::fs::create_dir(named(5)).unwrap();
    std::os::unix::fs::symlink(named(7), named(6)).unwrap();
    std::fs::write(path.join("notes.txt"), b"mine").unwrap();
    for number in 1..=3 {
        std::fs::set_permissions(named(number), std::fs::Permissions::from_mode(0o440)).unwrap();
    }

    let adopted = directory.adopt().unwrap();
    let digests: Vec<_> = adopted.segments.iter().map(Segment::digest).collect();
    assert_eq!(digests, [DIGEST, Digest([8; 32])]);
    assert_eq!(std::fs::read(adopted.segments[0].path()).unwrap(), file);
    assert!(adopted.segments.iter().all(|segment| !segment.is_open_elsewhere().unwrap()));
    let left: Vec<_> = adopted.leftovers.iter().filter(|l| !l.removed).map(|l| l.name.clone()).collect();
    assert_eq!(left, [format!("{}.safetensors", Digest([6; 32])), "notes.txt".to_owned()]);
    let kept = names(&path);
    assert_eq!(kept.len(), 4, "{kept:?}");
    assert!(directory.adopt().unwrap().leftovers.iter().all(|leftover| !leftover.removed));
}

#[test]
fn many_threads_fill_one_segment() {
    let (_above, directory) = place();
    let layout = layout(300_000);
    let filling = directory.create(&layout).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (filling, layout) = (&filling, &layout);
            scope.spawn(move || {
                for tensor in layout.tensors() {
                    let data = bytes(tensor.length, tensor.length);
                    for (number, piece) in data.chunks(10_000).enumerate() {
                        if number as u64 % 4 == thread {
                            filling.write_at(0, tensor.offset + number as u64 * 10_000, piece).unwrap();
                        }
                    }
                }
            });
        }
    });
    let Sealed::New(segment) = filling.seal(DIGEST).unwrap() else { panic!("it is new") };
    let map = segment.map().unwrap().unwrap();
    for tensor in map.tensors() {
        assert_eq!(map.bytes(tensor), bytes(tensor.length, tensor.length));
    }
}

#[test]
fn a_tmpfs_without_room_refuses_before_anything_is_written() {
    let (above, directory) = place();
    let free = directory.room().unwrap().unwrap().free.0;
    let tensor = TensorShape { name: "w".into(), dtype: Dtype::U8, shape: [free + (1 << 30)].into() };
    let refused = directory.create(&Layout::of([tensor]).unwrap()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(names(&above.path().join("segments")), Vec::<String>::new());
}

/// The coordinator asks the kernel who has a segment open, at any moment: whoever opens it then gets it.
#[test]
fn who_opens_a_segment_while_its_users_are_asked_for_gets_it() {
    let (_above, directory) = place();
    let segment = sealed(&directory, Digest([1; 32]));
    let path = segment.path();
    let (stop, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                segment.is_open_elsewhere().unwrap();
            }
        });
        let tries: Vec<_> = (0..50_000)
            .map(|_| Opened::open(&path, Digest([1; 32])).map(|_| opened.fetch_add(1, Ordering::Relaxed)))
            .collect();
        stop.store(true, Ordering::Relaxed);
        let refused = tries.into_iter().find_map(Result::err);
        assert!(refused.is_none(), "{refused:?} after {opened:?}");
    });
}

/// Several ask at once, of one descriptor: nobody is taken for somebody else.
#[test]
fn who_asks_for_a_segments_users_beside_others_is_told_the_truth() {
    let (_above, directory) = place();
    let segment = sealed(&directory, DIGEST);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..20_000).for_each(|_| assert!(!segment.is_open_elsewhere().unwrap())));
        }
    });
}
