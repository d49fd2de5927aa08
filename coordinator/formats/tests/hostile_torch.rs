//! The reader of checkpoints against bytes that nobody meant to be read: it always comes back, soon, with extents that
//! lie within the file, and never finds a damaged file to be more than it was.

#![allow(clippy::cast_possible_truncation, reason = "the files are small")]

mod making;

use hoist_formats::{Place, Verdict, torch};
use making::*;
use proptest::prelude::*;

/// Files with everything in them, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let tensors = dict(&[
        ("a", FOUR.pickled()),
        ("t", Tensor { size: &[2, 2], stride: &[1, 2], ..FOUR }.pickled()),
        ("empty", Tensor { size: &[0, 3], stride: &[3, 1], ..FOUR }.pickled()),
    ]);
    let wrapped = stream(&dict(&[
        ("state_dict", tensors.clone()),
        ("step", int(1 << 40)),
        ("f", b"G\x3f\xf0\0\0\0\0\0\0".to_vec()),
    ]));
    let modern =
        [&b"\x80\x04\x95\x20\0\0\0\0\0\0\0"[..], &text("x"), b"\x94\x8f(K\x01K\x02\x90\x86.", &[0; 16]]
            .concat();
    let classes = stream(
        &[
            global("torch.nn.modules.linear", "Linear"),
            b")\x81".to_vec(),
            dict(&[("w", FOUR.pickled())]),
            b"b".to_vec(),
        ]
        .concat(),
    );
    vec![
        checkpoint(&wrapped, &[&FOUR_BYTES]),
        legacy_of_four(),
        checkpoint(&classes, &[&FOUR_BYTES]),
        modern,
        b"(dp0\nS'a'\np1\nI1\nsVb\np2\n(lp3\nF1.5\naL5L\nas.".to_vec(),
        stream(&call("os", "system")),
    ]
}

/// Everything that must hold for any file.
fn check(bytes: &[u8]) {
    let inspection = torch::inspect(bytes, "x.pt").expect("memory does not fail");
    let size = bytes.len() as u64;
    for tensor in &inspection.tensors {
        assert!(
            !matches!(tensor.place, Place::Beside { .. }),
            "a checkpoint has no file beside it: {tensor:?}"
        );
        match &tensor.place {
            Place::Extent { offset, length } => {
                assert_eq!(tensor.dtype.bytes_of(tensor.elements()), Some(*length), "{tensor:?}");
                assert!(offset.checked_add(*length).is_some_and(|end| end <= size), "{tensor:?} in {size}");
            }
            Place::Strided { offset, length, first_element, strides } => {
                assert!(offset.checked_add(*length).is_some_and(|end| end <= size), "{tensor:?} in {size}");
                let last = tensor.shape.iter().zip(strides).fold(
                    u128::from(*first_element),
                    |last, (dimension, stride)| {
                        last + u128::from(dimension.saturating_sub(1)) * u128::from(*stride)
                    },
                );
                let element_bytes = u128::from(tensor.dtype.block_bits() / 8);
                assert!((last + 1) * element_bytes <= u128::from(*length), "{tensor:?}");
            }
            // Nothing to be outside of.
            Place::Beside { .. } | Place::Unmapped => {}
        }
    }
    assert!(inspection.findings.len() <= hoist_formats::limits::FINDINGS);
    torch::verify(bytes).expect("memory does not fail");
}

#[test]
fn every_truncation_of_every_seed_is_read_and_none_is_in_order() {
    for seed in seeds() {
        check(&seed);
        let whole = inspect(&seed).verdict();
        for length in 0..seed.len() {
            check(&seed[..length]);
            let verdict = inspect(&seed[..length]).verdict();
            assert!(
                whole != Verdict::Ok || verdict != Verdict::Ok || seed.ends_with(&[0; 16]),
                "{length} of {}",
                seed.len()
            );
        }
    }
}

#[test]
fn every_single_bit_flip_is_read() {
    for seed in seeds() {
        for at in 0..seed.len() * 8 {
            let mut file = seed.clone();
            file[at / 8] ^= 1 << (at % 8);
            check(&file);
        }
    }
}

#[test]
fn opcodes_by_the_million_take_no_more_than_their_share() {
    let megabyte = |unit: &[u8]| unit.repeat((1 << 20) / unit.len());
    for body in [
        megabyte(b"]"),
        megabyte(b"("),
        megabyte(b"N"),
        megabyte(b"N0"),
        megabyte(b")"),
        megabyte(b"2"),
        megabyte(b"(t"),
        megabyte(b"(l0"),
        megabyte(b"cos\nx\n0"),
        megabyte(b"}q\0"),
        megabyte(b"K\x01\x85"),
        megabyte(b"\x94"),
        [b"(".to_vec(), b"N".repeat(1000), b"lq\0".to_vec(), b"c__builtin__\nset\nh\0\x85R0".repeat(50_000)]
            .concat(),
        [b"]q\0".to_vec(), b"h\0h\0a".repeat(200_000)].concat(),
    ] {
        check(&checkpoint(&stream(&body), &[]));
        check(&stream(&body));
    }
    let aliases = [FOUR.pickled(), b"q\0(".to_vec(), b"h\0".repeat(300_000), b"t".to_vec()].concat();
    check(&checkpoint(&stream(&aliases), &[&FOUR_BYTES]));
}

#[test]
fn checkpoints_within_checkpoints_end_somewhere() {
    let mut inner = stream(&call("os", "system"));
    for _ in 0..200 {
        let bytes = [&b"B"[..], &(inner.len() as u32).to_le_bytes(), &inner].concat();
        inner = stream(&[global("torch.storage", "_load_from_bytes"), bytes, b"\x85R".to_vec()].concat());
    }
    check(&inner);
    assert!(inspect(&inner).verdict() >= Verdict::Suspicious);
}

/// A few bytes replaced, taken out or put in, as a disk, a transfer or an enemy would.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..5), 0..3_usize);
    (prop::sample::select(seeds()), prop::collection::vec(change, 1..6)).prop_map(|(mut file, changes)| {
        for (place, bytes, removed) in changes {
            let at = place.index(file.len() + 1);
            let end = (at + removed).min(file.len());
            file.splice(at..end, bytes);
        }
        file
    })
}

/// Streams of real opcodes in no order.
fn opcodes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        b"(".to_vec(),
        b"t".to_vec(),
        b"l".to_vec(),
        b"d".to_vec(),
        b"]".to_vec(),
        b"}".to_vec(),
        b")".to_vec(),
        b"N".to_vec(),
        b"K\x01".to_vec(),
        b"a".to_vec(),
        b"e".to_vec(),
        b"s".to_vec(),
        b"u".to_vec(),
        b"R".to_vec(),
        b"b".to_vec(),
        b"0".to_vec(),
        b"2".to_vec(),
        b"1".to_vec(),
        b"q\0".to_vec(),
        b"h\0".to_vec(),
        b"q\x01".to_vec(),
        b"h\x01".to_vec(),
        b"\x81".to_vec(),
        b"\x85".to_vec(),
        b"\x86".to_vec(),
        b"\x93".to_vec(),
        b"\x94".to_vec(),
        b"Q".to_vec(),
        b"o".to_vec(),
        b"\x92".to_vec(),
        b"\x8f".to_vec(),
        b"\x90".to_vec(),
        text("a"),
        global("collections", "OrderedDict"),
        global("torch", "Size"),
        global("x", "y"),
        FOUR.pickled(),
        global("torch._utils", "_rebuild_parameter"),
        global("torch._tensor", "_rebuild_from_type_v2"),
        global("builtins", "set"),
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..60).prop_map(|pieces| stream(&pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read(file in damaged()) {
        check(&file);
    }

    #[test]
    fn random_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300), head in prop::sample::select(vec![&b""[..], b"\x80\x02", b"PK\x03\x04", b"("])) {
        check(&[head, &bytes].concat());
        check(&checkpoint(&[head, &bytes].concat(), &[&FOUR_BYTES]));
    }

    #[test]
    fn opcodes_in_any_order_are_followed(pickle in opcodes()) {
        check(&pickle);
        check(&checkpoint(&pickle, &[&FOUR_BYTES]));
    }
}
