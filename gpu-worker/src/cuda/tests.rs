//! The card's code on a driver that checks its callers: what every device does, and what a card does when calls fail.

use std::path::{Path, PathBuf};

use hoist_domain::{Bytes, DeviceSpec, Dtype, ReplicaFailure, ReplicaId};
use hoist_worker::device::{Ahead, Checked, Device, Load, Pace, Stopped};
use hoist_worker::suite::{Patience, Segments, Written, bytes, digest, every_behaviour, fill, forever};
use tch::Tensor;
use uuid::Uuid;

use super::abi::attribute;
use super::convert::Converter;
use super::device::{CopyBy, Cuda, How};
use super::lanes::{Lanes, read_back};
use super::slab::Slab;
use super::standin::StandIn;
use crate::view::kind;

/// Computes here what a card computes there: brings the elements back, converts them, writes them.
#[derive(Debug)]
struct OnHost;

impl Converter for OnHost {
    fn convert(
        &self,
        (from, at, before): (&Slab, u64, Dtype),
        (to, target, after): (&Slab, u64, Dtype),
        elements: u64,
    ) -> Result<(), String> {
        let size = |dtype: Dtype| usize::try_from(elements * dtype.block_bits() / 8).unwrap();
        let mut raw = vec![0; size(before)];
        read_back(from, at, &mut raw).map_err(|fault| fault.to_string())?;
        let count = i64::try_from(elements).unwrap();
        let source = Tensor::from_data_size(&raw, &[count], kind(before).unwrap());
        let converted = source.to_kind(kind(after).unwrap()).view_dtype(tch::Kind::Uint8);
        let mut data = vec![0; size(after)];
        let length = data.len();
        converted.copy_data_u8(&mut data, length);
        Lanes::open(from.context()).unwrap().write(to, target, &data).map_err(|fault| fault.to_string())
    }

    fn sum(&self, of: (&Slab, u64), words: u64, before: u64) -> Result<u64, String> {
        let mut raw = vec![0; usize::try_from(words * 8).unwrap()];
        read_back(of.0, of.1, &mut raw).map_err(|fault| fault.to_string())?;
        let words = raw.as_chunks::<8>().0.iter().zip(before..);
        let add = |sum: u64, (word, place): (&[u8; 8], u64)| {
            sum.wrapping_add(u64::from_le_bytes(*word).wrapping_mul(2 * place + 1))
        };
        Ok(words.fold(0, add))
    }
}

fn how(copy_by: CopyBy, processors: usize) -> How {
    let converter = Err("nothing converts here".to_owned());
    How { copy_by, processors, converter, management: Path::new("no library of this name") }
}

fn spec(capacity: Option<Bytes>) -> DeviceSpec {
    DeviceSpec { id: "cuda:0".parse().unwrap(), capacity }
}

fn open(driver: &StandIn, capacity: Option<Bytes>, how: How) -> Cuda {
    let mut device = Cuda::open(driver.driver(), spec(capacity), how).unwrap();
    // Several, so that copies meet their ends.
    device.pages.window = 4 << 20;
    device
}

fn load(number: u8, path: PathBuf) -> Load {
    Load { id: ReplicaId(Uuid::from_u128(number.into())), digest: digest(number), path, dtype: None }
}

/// Of many chunks, with gaps between some tensors, one that is longer than several chunks, and many small ones.
fn large() -> Vec<Written> {
    let mut tensors: Vec<Written> = vec![
        ("a.long".into(), Dtype::U8, vec![21_000_007], bytes(21_000_007, 1)),
        ("b.odd".into(), Dtype::U8, vec![333], bytes(333, 2)),
        ("c.even".into(), Dtype::F16, vec![5 << 20], bytes(10 << 20, 3)),
    ];
    for number in 0..300 {
        let length = 1 + number * 997;
        tensors.push((format!("d.{number}"), Dtype::U8, vec![length], bytes(length, number + 9)));
    }
    tensors
}

fn assert_there(device: &Cuda, id: ReplicaId, written: &[Written]) {
    for (name, dtype, shape, data) in written {
        let mut back = Vec::new();
        while back.len() < data.len() {
            let piece = device.read(id, name, back.len() as u64, 8 << 20).unwrap();
            assert_eq!((piece.dtype, &piece.shape), (*dtype, shape), "{name}");
            back.extend(piece.data);
        }
        assert!(back == *data, "{name} is not what was written");
    }
}

#[test]
fn a_card_does_what_every_device_does() {
    let driver = StandIn::new(Bytes::gib(2));
    // Slabs are whole granules: a device of six megabytes holds one of the suite's, and not two.
    every_behaviour(&|size| Box::new(open(&driver, Some(size), how(CopyBy::Auto, 4))));
    driver.assert_left_as_it_was();
    every_behaviour(&|size| Box::new(open(&driver, Some(size), how(CopyBy::Registered, 1))));
    driver.assert_left_as_it_was();
    let converting = || How { converter: Ok(Box::new(OnHost)), ..how(CopyBy::Ring, 2) };
    every_behaviour(&|size| Box::new(open(&driver, Some(size), converting())));
    driver.assert_left_as_it_was();
}

#[test]
fn what_is_many_chunks_comes_back_bit_for_bit_however_many_fill() {
    let (driver, mut segments, written) = (StandIn::new(Bytes::gib(2)), Segments::new(), large());
    let one = load(1, segments.tensors(1, &written));
    for (copy_by, processors) in
        [(CopyBy::Ring, 1), (CopyBy::Ring, 4), (CopyBy::Ring, 64), (CopyBy::Registered, 1)]
    {
        let mut device = open(&driver, None, how(copy_by, processors));
        let loaded = device.load(&one, &mut forever()).unwrap();
        assert_eq!(loaded.own.0 % (2 << 20), 0, "whole granules");
        assert_there(&device, one.id, &written);
        if rests(&mut device) {
            device.unload(one.id).unwrap();
            let chunks = driver.calls("cuMemcpyHtoDAsync_v2");
            device.load(&one, &mut forever()).unwrap();
            assert!(
                driver.calls("cuMemcpyHtoDAsync_v2") > chunks + 300,
                "each run by itself: from its pages"
            );
            assert_there(&device, one.id, &written);
        }
        // What the buffers held before is not there between the tensors of what comes after.
        let small = load(2, segments.tensors(2, &[("w".into(), Dtype::U8, vec![3], vec![1, 2, 3])]));
        device.load(&small, &mut forever()).unwrap();
        assert!(device.image(small.id).iter().skip(3).all(|byte| *byte == 0), "{copy_by:?}");
        device.unload(small.id).unwrap();
        segments.evict_all();
        drop(device);
        driver.assert_left_as_it_was();
        return_segment(&mut segments, &written);
    }
}

/// Lets a device do what nobody waits for. Whether it had anything to do.
fn rests(device: &mut Cuda) -> bool {
    let had = device.rest();
    while device.rest() {}
    had
}

/// The first segment again, after all were evicted.
fn return_segment(segments: &mut Segments, written: &[Written]) {
    segments.tensors(1, written);
}

#[test]
fn a_conversion_of_many_parts_is_what_the_host_makes_of_it() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(2)), Segments::new());
    let values: Vec<f32> = (0..20_000_003_u32).map(|n| (n as f32).sin() * 1e3).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let written: Vec<Written> = vec![
        ("w".into(), Dtype::F32, vec![20_000_003], raw.clone()),
        ("steps".into(), Dtype::I64, vec![5], bytes(40, 2)),
        ("x".into(), Dtype::F16, vec![77], bytes(154, 3).iter().map(|byte| byte & 0x3b).collect()),
    ];
    let one = Load { dtype: Some(Dtype::Bf16), ..load(1, segments.tensors(1, &written)) };
    let mut device = open(&driver, None, How { converter: Ok(Box::new(OnHost)), ..how(CopyBy::Ring, 4) });
    let before = device.memory();
    device.load(&one, &mut forever()).unwrap();
    let expected = Tensor::from_data_size(&raw, &[20_000_003], tch::Kind::Float);
    let expected = expected.to_kind(tch::Kind::BFloat16).view_dtype(tch::Kind::Uint8);
    let mut data = vec![0; 40_000_006];
    expected.copy_data_u8(&mut data, 40_000_006);
    assert_there(&device, one.id, &[("w".into(), Dtype::Bf16, vec![20_000_003], data)]);
    assert_there(&device, one.id, &written[1..2]);
    assert_eq!(device.read(one.id, "x", 0, 4).unwrap().dtype, Dtype::Bf16);
    device.unload(one.id).unwrap();
    assert_eq!(device.memory(), before, "the scratch is given back, too");
    drop(device);
    driver.assert_left_as_it_was();
}

#[test]
fn a_load_that_is_given_up_at_any_moment_leaves_nothing() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(2)), Segments::new());
    let one = load(1, segments.tensors(1, &large()));
    for copy_by in [CopyBy::Ring, CopyBy::Registered] {
        let mut device = open(&driver, None, how(copy_by, 4));
        device.load(&one, &mut forever()).unwrap();
        device.unload(one.id).unwrap();
        rests(&mut device);
        let (before, objects) = (device.memory(), driver.objects());
        for patience in 1..9 {
            assert_eq!(device.load(&one, &mut Patience(patience)), Err(Stopped::NotWanted), "{patience}");
            assert_eq!((device.memory(), driver.objects()), (before, objects.clone()), "{patience}");
        }
        device.load(&one, &mut forever()).unwrap();
        drop(device);
        driver.assert_left_as_it_was();
    }
}

/// W7: the answer of every call, at every place of a load, once.
#[test]
fn whatever_call_of_a_load_fails_nothing_is_left_and_the_next_one_works() {
    let (driver, mut segments, written) = (StandIn::new(Bytes::gib(2)), Segments::new(), large());
    let one = load(1, segments.tensors(1, &written));
    let calls = [
        ("cuMemCreate", 2),
        ("cuMemCreate", 801),
        ("cuMemAddressReserve", 2),
        ("cuMemMap", 1),
        ("cuMemSetAccess", 1),
        ("cuMemsetD8Async", 1),
        ("cuMemcpyHtoDAsync_v2", 1),
        ("cuEventRecord", 400),
        ("cuEventSynchronize", 400),
        ("cuEventQuery", 400),
        ("cuStreamSynchronize", 400),
    ];
    let mut failed = 0;
    for copy_by in [CopyBy::Ring, CopyBy::Registered] {
        let mut device = open(&driver, None, how(copy_by, 4));
        device.load(&one, &mut forever()).unwrap();
        device.unload(one.id).unwrap();
        rests(&mut device);
        let (before, objects) = (device.memory(), driver.objects());
        for (call, code) in calls {
            for which in [1, 2, 4] {
                driver.fails(call, code, which);
                match device.load(&one, &mut forever()) {
                    Ok(_) => drop(device.unload(one.id).unwrap()),
                    Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free })) => {
                        // As it is: the driver has refused it all the same.
                        assert!(code == 2 && needed < free, "{call}: {needed} of {free}");
                        failed += 1;
                    }
                    Err(Stopped::Failed(ReplicaFailure::Device(why))) => {
                        assert!(why.contains(call.trim_end_matches("_v2")) && code != 2, "{call}: {why}");
                        failed += 1;
                    }
                    Err(other) => panic!("{call}: {other:?}"),
                }
                driver.fails(call, 0, 0);
                assert_eq!((device.memory(), driver.objects()), (before, objects.clone()), "{call} {which}");
                driver.assert_right();
            }
        }
        device.load(&one, &mut forever()).unwrap();
        assert_there(&device, one.id, &written);
        drop(device);
        driver.assert_left_as_it_was();
    }
    assert!(failed >= 20, "{failed} of them were called at all");
}

/// What the driver does not take back stays where it is: nothing is done to it that would be worse.
#[test]
fn memory_that_cannot_be_unmapped_is_left_as_it_is() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(1)), Segments::new());
    let one = load(1, segments.tensors(1, &large()));
    let mut device = open(&driver, None, how(CopyBy::Ring, 2));
    device.load(&one, &mut forever()).unwrap();
    driver.fails("cuMemUnmap", 999, 1);
    let unloaded = device.unload(one.id).unwrap();
    assert_eq!(unloaded.returned, Bytes(0), "and is told");
    driver.assert_right();
    device.load(&one, &mut forever()).unwrap();
}

/// W9: what fails for good is answered by everything from then on.
#[test]
fn a_card_that_cannot_go_on_says_so_at_a_load_and_at_a_look() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(1)), Segments::new());
    let one = load(1, segments.tensors(1, &large()));
    let mut device = open(&driver, None, how(CopyBy::Ring, 2));
    device.load(&one, &mut forever()).unwrap();
    assert_eq!(device.check(), Ok(Checked::Well));
    driver.poison(700);
    let why = device.check().unwrap_err();
    assert!(why.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{why}");
    let other = Load { id: ReplicaId(Uuid::from_u128(9)), ..one };
    let stopped = device.load(&other, &mut forever());
    assert!(matches!(stopped, Err(Stopped::Poisoned(_))), "{stopped:?}");
}

/// W7: there is room for what is loaded, and none for what passes on the way.
#[test]
fn a_conversion_without_room_for_what_passes_says_what_it_needs() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(1)), Segments::new());
    let written: Vec<Written> = vec![
        ("w".into(), Dtype::F32, vec![30 << 20], vec![0; 120 << 20]),
        ("x".into(), Dtype::U8, vec![1], vec![7]),
    ];
    let one = Load { dtype: Some(Dtype::Bf16), ..load(1, segments.tensors(1, &written)) };
    let mut device = open(&driver, None, How { converter: Ok(Box::new(OnHost)), ..how(CopyBy::Ring, 2) });
    let before = driver.objects();
    for (spare, fits) in [(10, false), (34, true), (50, true), (101, true)] {
        // The slab takes 62 MiB.
        driver.others_take(Bytes::mib(1_024 - 62 - spare));
        match device.load(&one, &mut forever()) {
            Ok(_) => assert!(fits && device.unload(one.id).is_some(), "{spare}"),
            Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free })) => {
                assert!(!fits && free == Bytes::mib(62 + spare) && needed > free, "{spare}: {needed} {free}");
            }
            other => panic!("{spare}: {other:?}"),
        }
        assert_eq!(driver.objects(), before, "{spare}");
    }
    drop(device);
    driver.assert_left_as_it_was();
}

#[test]
fn what_is_registered_is_let_go_of_with_its_segment_and_what_cannot_be_is_copied_all_the_same() {
    let (driver, mut segments, written) = (StandIn::new(Bytes::gib(1)), Segments::new(), large());
    let one = load(1, segments.tensors(1, &written));
    let mut device = open(&driver, None, how(CopyBy::Registered, 2));
    let registered = || driver.objects().iter().find(|(what, _)| *what == "registrations").unwrap().1;
    driver.fails("cuMemHostRegister_v2", 2, 3);
    device.load(&one, &mut forever()).unwrap();
    assert!(rests(&mut device) && registered() == 0, "none, or all");
    device.unload(one.id).unwrap();
    device.load(&one, &mut forever()).unwrap();
    assert_there(&device, one.id, &written);
    assert!(rests(&mut device) && registered() > 5, "{}", registered());
    assert!(!device.rest(), "once");
    device.check().unwrap();
    assert!(registered() > 5);
    // Not for ever, since what is open is not evicted; and not at all once it is.
    for look in 0..200 {
        device.check().unwrap();
        if look == 60 {
            assert!(registered() > 5);
        }
    }
    assert_eq!(registered(), 0, "a minute without a use");
    device.unload(one.id).unwrap();
    device.load(&one, &mut forever()).unwrap();
    assert!(rests(&mut device) && registered() > 5);
    segments.evict_all();
    device.check().unwrap();
    assert_eq!(registered(), 0);
    assert_there(&device, one.id, &written);
    drop(device);
    driver.assert_left_as_it_was();
}

/// Windows of a segment as they come, of every length, over the ends of chunks and tensors.
#[test]
fn what_is_copied_as_it_comes_is_bit_for_bit_what_it_comes_to_be() {
    let (driver, mut segments, written) = (StandIn::new(Bytes::gib(1)), Segments::new(), large());
    for (copy_by, processors) in [(CopyBy::Ring, 1), (CopyBy::Ring, 16), (CopyBy::Registered, 4)] {
        let mut device = open(&driver, None, how(copy_by, processors));
        let (filling, layout) = segments.begin(&written);
        fill(&filling, &layout, &written);
        let (id, path) = (ReplicaId(Uuid::from_u128(1)), filling.path().unwrap());
        let mut there = 0;
        for step in [4_097, 1, 8 << 20, 300, 13 << 20, 777_777, 0, 9 << 20] {
            there += step;
            let ahead = Ahead { id, path: path.clone(), there: Bytes(there) };
            assert!(device.ahead(&ahead, &mut forever()).unwrap().is_some());
        }
        let copied = driver.calls("cuMemcpyHtoDAsync_v2");
        let one = load(1, segments.seal(filling, 1));
        device.load(&one, &mut forever()).unwrap();
        let rest = (layout.length() - there).div_ceil(8 << 20);
        assert_eq!(
            driver.calls("cuMemcpyHtoDAsync_v2") - copied,
            rest,
            "what was there was not copied again"
        );
        assert_there(&device, one.id, &written);
        drop(device);
        segments.evict_all();
        driver.assert_left_as_it_was();
    }
}

#[test]
fn what_fails_for_good_in_the_middle_of_a_load_poisons() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(1)), Segments::new());
    let one = load(1, segments.tensors(1, &large()));
    let mut device = open(&driver, None, how(CopyBy::Ring, 2));
    struct Breaks<'a>(&'a StandIn, u32);
    impl Pace for Breaks<'_> {
        fn is_wanted(&mut self, _: Bytes, _: Bytes) -> bool {
            self.1 += 1;
            if self.1 == 3 {
                self.0.poison(719);
            }
            true
        }
    }
    match device.load(&one, &mut Breaks(&driver, 0)) {
        Err(Stopped::Poisoned(why)) => assert!(why.contains("CUDA_ERROR_LAUNCH_FAILED"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_others_take_is_seen_and_cannot_be_taken() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(1)), Segments::new());
    let one = load(1, segments.tensors(1, &large()));
    let mut device = open(&driver, Some(Bytes::mib(900)), how(CopyBy::Ring, 2));
    let before = device.memory();
    driver.others_take(Bytes::mib(1_000));
    let now = device.memory();
    assert_eq!((now.used, now.others.0 - before.others.0), (Bytes(0), 1_000 << 20));
    assert_eq!(now.free, Bytes::mib(24), "less than its capacity leaves");
    match device.load(&one, &mut forever()) {
        Err(Stopped::Failed(ReplicaFailure::NoMemory { needed, free })) => {
            assert!(needed > free && free == Bytes::mib(24), "{needed} {free}");
        }
        other => panic!("{other:?}"),
    }
    driver.others_take(Bytes(0));
    device.load(&one, &mut forever()).unwrap();
    assert_eq!(device.memory().others, before.others);
}

#[test]
fn what_a_card_lacks_is_said_in_words() {
    let refused = |prepare: &dyn Fn(&StandIn), id: &str, capacity: Option<Bytes>, copy_by| {
        let driver = StandIn::new(Bytes::gib(1));
        prepare(&driver);
        let spec = DeviceSpec { id: id.parse().unwrap(), capacity };
        let driver_library = driver.driver();
        let why = Cuda::open(driver_library, spec, how(copy_by, 2)).unwrap_err();
        driver.assert_left_as_it_was();
        why
    };
    let nothing = |_: &StandIn| {};
    let why = refused(&nothing, "cuda:1", None, CopyBy::Auto);
    assert!(why.contains("no cuda:1") && why.contains("cuda:0 alone"), "{why}");
    let why = refused(&|driver| driver.has_devices(3), "cuda:3", None, CopyBy::Auto);
    assert!(why.contains("cuda:0 to cuda:2"), "{why}");
    let why = refused(&nothing, "cuda:0", Some(Bytes::gib(2)), CopyBy::Auto);
    assert!(why.contains("more than the 1.0 GiB"), "{why}");
    let why =
        refused(&|driver| driver.says(attribute::MANAGES_VIRTUAL_MEMORY, 0), "cuda:0", None, CopyBy::Auto);
    assert!(why.contains("virtual memory"), "{why}");
    let why = refused(&|driver| driver.says(attribute::EXPORTS_DESCRIPTORS, 0), "cuda:0", None, CopyBy::Auto);
    assert!(why.contains("file descriptor"), "{why}");
    let why =
        refused(&|driver| driver.says(attribute::REGISTERS_READ_ONLY, 0), "cuda:0", None, CopyBy::Registered);
    assert!(why.contains("--copy ring"), "{why}");
    let why = refused(&|driver| driver.fails("cuMemHostAlloc", 2, 3), "cuda:0", None, CopyBy::Auto);
    assert!(why.contains("pinned") && why.contains("ulimit"), "{why}");
    let why =
        refused(&|driver| driver.fails("cuDevicePrimaryCtxRetain", 46, 1), "cuda:0", None, CopyBy::Auto);
    assert!(why.contains("cannot be used"), "{why}");
}

#[test]
fn a_small_component_takes_one_buffer_and_no_thread() {
    let (driver, mut segments) = (StandIn::new(Bytes::gib(1)), Segments::new());
    let one = load(1, segments.tensors(1, &[("w".into(), Dtype::U8, vec![100], bytes(100, 1))]));
    let mut device = open(&driver, None, how(CopyBy::Ring, 64));
    let before = driver.calls("cuMemcpyHtoDAsync_v2");
    device.load(&one, &mut forever()).unwrap();
    assert_eq!(driver.calls("cuMemcpyHtoDAsync_v2"), before + 1);
}
