//! The rules of the zip reader, one a test, each on the smallest archive that shows it.

#![allow(clippy::cast_possible_truncation, reason = "the files are small")]

mod making;

use hoist_formats::FindingKind as Kind;
use hoist_formats::{Place, Verdict, torch};
use making::*;

const OK: (Verdict, Option<Kind>) = (Verdict::Ok, None);

fn corrupt(kind: Kind) -> (Verdict, Option<Kind>) {
    (Verdict::Corrupt, Some(kind))
}

fn suspicious(kind: Kind) -> (Verdict, Option<Kind>) {
    (Verdict::Suspicious, Some(kind))
}

#[test]
fn an_entry_s_name_never_leads_out() {
    for name in ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:x", "a\0b"] {
        let file = zip(&[("a/data.pkl", &stream(b"}")), ("a/version", b"3"), (name, b"")]);
        assert_eq!(worst(&file), (Verdict::Rejected, Some(Kind::Path)), "{name:?}");
    }
    let mut link = zip(&[("a/link", b"/etc/passwd")]);
    let record = find(&link, b"PK\x01\x02");
    link[record + 38..record + 42].copy_from_slice(&(0o120_777_u32 << 16).to_le_bytes());
    assert_eq!(worst(&link), (Verdict::Rejected, Some(Kind::Path)));
}

fn find(file: &[u8], wanted: &[u8]) -> usize {
    file.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}

/// A checkpoint with bytes of its directory's first record, or of its end record, replaced.
fn patched(magic: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = checkpoint_of(FOUR);
    let start = find(&file, magic) + at;
    file.splice(start..start + bytes.len(), bytes.iter().copied());
    file
}

#[test]
fn the_directory_and_the_entries_must_agree() {
    let (record, end) = (&b"PK\x01\x02"[..], &b"PK\x05\x06"[..]);
    for (file, wanted) in [
        (patched(record, 8, &[1]), corrupt(Kind::Zip)),
        (patched(record, 10, &[99]), corrupt(Kind::Zip)),
        (patched(record, 24, &u32::MAX.to_le_bytes()), corrupt(Kind::Zip)),
        (patched(record, 42, &[1]), corrupt(Kind::Zip)),
        (patched(record, 16, &[1, 2, 3, 4]), corrupt(Kind::Zip)),
        (patched(b"PK\x03\x04", 30, b"b"), suspicious(Kind::Zip)),
        (patched(end, 4, &[1]), corrupt(Kind::Zip)),
        (patched(end, 8, &[0xff; 4]), corrupt(Kind::Zip)),
        (patched(end, 12, &[0xff; 3]), corrupt(Kind::Zip)),
        (patched(end, 16, &[0xf0, 0xff, 0xff, 0xff]), corrupt(Kind::Zip)),
        (patched(end, 20, &[1]), corrupt(Kind::Partial)),
        (patched(b"PK\x03\x04", 0, &[0; 4]), corrupt(Kind::Header)),
    ] {
        assert_eq!(worst(&file).0, wanted.0, "{:?}", inspect(&file).findings);
        assert!(
            inspect(&file).findings.iter().any(|finding| (finding.verdict, Some(finding.kind)) == wanted)
        );
    }
}

#[test]
fn an_archive_that_says_things_twice_is_suspicious() {
    let good = checkpoint_of(FOUR);
    let end = find(&good, b"PK\x05\x06");
    let mut in_comment = [&good[..], &good[end..]].concat();
    in_comment[end + 20] = 22;
    let repeated = zip(&[("a/data.pkl", &stream(b"}")), ("a/version", b"3"), ("a/x", b"1"), ("a/x", b"2")]);
    for file in [in_comment, [b"MZ\0\0", &good[..]].concat(), [&good[..], b"junk"].concat(), repeated] {
        assert_eq!(worst(&file), suspicious(Kind::Zip));
    }
    let mut overlapping = zip(&[("a/x", b"12345678"), ("a/y", b"12345678")]);
    let second = find(&overlapping, b"a/y") - 30;
    let directory = find(&overlapping, b"PK\x01\x02");
    overlapping[directory + 20..directory + 28]
        .copy_from_slice(&[&40_u32.to_le_bytes()[..], &40_u32.to_le_bytes()].concat());
    assert!(
        second < 60
            && inspect(&overlapping).findings.iter().any(|finding| finding.message.contains("overlap"))
    );
}

#[test]
fn a_flipped_pickle_is_seen_at_once_and_flipped_data_by_a_check_of_all() {
    let mut pickle = checkpoint_of(FOUR);
    let name = find(&pickle, b"_rebuild");
    pickle[name + 1] ^= 1;
    assert_eq!(worst(&pickle), corrupt(Kind::Checksum));
    let mut data = checkpoint_of(FOUR);
    let at = find(&data, &FOUR_BYTES);
    data[at] ^= 1;
    assert_eq!(worst(&data), OK, "data is not read");
    let found = torch::verify(&data[..]).expect("memory does not fail");
    assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::Checksum]);
    assert!(torch::verify(&checkpoint_of(FOUR)[..]).expect("memory does not fail").is_empty());
}

#[test]
fn the_records_beside_the_pickle_are_checked() {
    let pickle = stream(&dict(&[("w", FOUR.pickled())]));
    let with = |records: &[(&str, &[u8])]| {
        zip(&[&[("a/data.pkl", &pickle[..]), ("a/data/0", &FOUR_BYTES)], records].concat())
    };
    assert_eq!(worst(&with(&[("a/version", b"999")])), corrupt(Kind::Metadata));
    assert_eq!(worst(&with(&[])), corrupt(Kind::Metadata));
    assert_eq!(worst(&with(&[("a/version", b"3"), ("a/byteorder", b"middle")])), corrupt(Kind::Metadata));
    let big = inspect(&with(&[("a/version", b"3"), ("a/byteorder", b"big")]));
    assert_eq!((big.verdict(), &big.tensors[0].place), (Verdict::Ok, &Place::Unmapped));
}
