use super::*;
use crate::Verdict;

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

fn read(header: &str, data: usize) -> Inspection {
    inspect(file(header, data).as_slice()).unwrap()
}

/// The first finding, which is also the only one that matters.
fn kind(header: &str, data: usize) -> Option<FindingKind> {
    let found = read(header, data);
    let first = found.findings.first()?;
    assert_eq!(first.verdict, Verdict::Corrupt);
    Some(first.kind)
}

fn entry(fields: &str) -> String {
    format!("{{\"x\":{{{fields}}}}}")
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"F16","shape":[],"data_offsets":[16,18]}}"#;

#[test]
fn a_sound_table_is_read_as_it_is() {
    let found = read(GOOD, 18);
    assert_eq!(found.verdict(), Verdict::Ok);
    assert_eq!(found.metadata["format"], "pt");
    let start = 8 + GOOD.len() as u64;
    assert_eq!(found.header_bytes, start);
    assert_eq!(found.tensors[0].shape, [2, 2].into());
    assert_eq!(found.tensors[1].place, Place::Extent { offset: start + 16, length: 2 });
    assert_eq!(read("{}", 0).verdict(), Verdict::Ok);
}

#[test]
fn a_file_cut_anywhere_is_partial_and_keeps_what_was_read() {
    let whole = file(GOOD, 18);
    for end in 0..whole.len() {
        let found = inspect(&whole[..end]).unwrap();
        assert_eq!(found.findings[0].kind, FindingKind::Partial, "{end}");
        assert_eq!(found.findings.len(), 1);
    }
    let found = inspect(&whole[..whole.len() - 1]).unwrap();
    assert_eq!((found.tensors.len(), &found.tensors[1].place), (2, &Place::Unmapped));
    assert_eq!(inspect(&whole[..8 + GOOD.len() - 10]).unwrap().tensors.len(), 1);
}

#[test]
fn a_length_that_lies_is_a_broken_header() {
    for length in [0, 1, GOOD.len() as u64 - 1, GOOD.len() as u64 + 1, 100_000_001, 1 << 63, u64::MAX] {
        let mut file = file(GOOD, 18);
        file[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(inspect(file.as_slice()).unwrap().findings[0].kind, FindingKind::Header, "{length}");
    }
}

#[test]
fn only_spaces_may_follow_the_table_and_nothing_comes_before_it() {
    assert_eq!(kind(&format!("{GOOD}   "), 18), None);
    for header in [
        format!(" {GOOD}"),
        format!("{GOOD}\n"),
        format!("{GOOD}\0"),
        format!("{GOOD}x"),
        format!("\u{feff}{GOOD}"),
    ] {
        assert_eq!(kind(&header, 18), Some(FindingKind::Header), "{header}");
    }
}

#[test]
fn bytes_after_the_last_tensor_are_bad_data() {
    assert_eq!(kind(GOOD, 19), Some(FindingKind::Data));
    assert_eq!(kind("{}", 1), Some(FindingKind::Data));
}

fn pair(first: [u64; 2], second: [u64; 2]) -> String {
    let one = |name, [begin, end]: [u64; 2]| {
        let length = end.saturating_sub(begin);
        format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{length}],\"data_offsets\":[{begin},{end}]}}")
    };
    format!("{{{},{}}}", one("a", first), one("b", second))
}

#[test]
fn overlapping_tensors_are_corrupt() {
    assert_eq!(kind(&pair([0, 8], [4, 12]), 12), Some(FindingKind::Header));
    assert_eq!(kind(&pair([0, 8], [0, 8]), 8), Some(FindingKind::Header));
}

#[test]
fn holes_are_corrupt() {
    assert_eq!(kind(&pair([0, 4], [8, 12]), 12), Some(FindingKind::Header));
    assert_eq!(kind(&pair([4, 8], [8, 12]), 12), Some(FindingKind::Header));
}

#[test]
fn tensors_may_lie_in_another_order_than_they_are_named() {
    assert_eq!(kind(&pair([4, 12], [0, 4]), 12), None);
    assert_eq!(kind(&pair([0, 12], [12, 12]), 12), None);
    assert_eq!(kind(&pair([12, 12], [0, 12]), 12), None);
}

#[test]
fn entries_that_do_not_fit_together_are_broken_headers() {
    for fields in [
        r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#,
        r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#,
        r#""dtype":"F16","shape":[2],"data_offsets":[0,8]"#,
        r#""dtype":"F99","shape":[2],"data_offsets":[0,8]"#,
        r#""dtype":"f32","shape":[2],"data_offsets":[0,8]"#,
        r#""dtype":"Q4_0","shape":[32],"data_offsets":[0,18]"#,
        r#""dtype":null,"shape":[2],"data_offsets":[0,8]"#,
        r#""dtype":"F32","shape":"2","data_offsets":[0,8]"#,
        r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#,
        r#""dtype":"F32","shape":[2.0],"data_offsets":[0,8]"#,
        r#""dtype":"F32","shape":[[2]],"data_offsets":[0,8]"#,
        r#""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#,
        r#""dtype":"F32","shape":[2],"data_offsets":[0]"#,
        r#""dtype":"F32","shape":[2],"data_offsets":["0","8"]"#,
        r#""dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]"#,
        r#""dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]"#,
        r#""dtype":"F32","shape":[9223372036854775808,9223372036854775808,0],"data_offsets":[0,0]"#,
        r#""dtype":"F32","shape":[0,9223372036854775808,9223372036854775808],"data_offsets":[0,0]"#,
        r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#,
        r#""shape":[2],"data_offsets":[0,8]"#,
        r#""dtype":"F32","data_offsets":[0,8]"#,
        r#""dtype":"F32","shape":[2]"#,
        r#""dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]"#,
    ] {
        let header = entry(fields);
        assert_eq!(kind(&header, 8), Some(FindingKind::Header), "{fields}");
        assert!(read(&header, 8).tensors.is_empty(), "{fields}");
    }
    assert_eq!(kind("{\"x\":[1]}", 0), Some(FindingKind::Header));
}

#[test]
fn more_dimensions_or_a_longer_name_than_the_limits_are_refused() {
    let ones = vec!["1"; limits::RANK + 1].join(",");
    let header = entry(&format!("\"dtype\":\"U8\",\"shape\":[{ones}],\"data_offsets\":[0,1]"));
    assert_eq!(kind(&header, 1), Some(FindingKind::Header));
    let name = "n".repeat(limits::NAME_BYTES + 1);
    let header = format!("{{\"{name}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}}}");
    assert_eq!(kind(&header, 1), Some(FindingKind::Header));
}

#[test]
fn names_of_any_text_are_legal() {
    for name in ["", "../../etc/passwd", "a\\u0000b", "a\\n\\u001b[31m", "é\\ud83d\\ude00"] {
        let header = format!("{{\"{name}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}}}");
        assert_eq!(kind(&header, 1), None, "{name}");
    }
}

#[test]
fn names_that_differ_in_escapes_only_are_one_name() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert_eq!(kind(header, 2), Some(FindingKind::Header));
    assert_eq!(read(header, 2).tensors.len(), 1);
}

#[test]
fn metadata_maps_text_to_text() {
    let with = |metadata: &str| {
        format!(
            "{{\"__metadata__\":{metadata},{}",
            &entry(r#""dtype":"U8","shape":[1],"data_offsets":[0,1]"#)[1..]
        )
    };
    for metadata in [
        "1",
        "[]",
        "\"a\"",
        "true",
        "{\"a\":1}",
        "{\"a\":null}",
        "{\"a\":{\"b\":\"c\"}}",
        "{\"a\":\"1\",\"a\":\"2\"}",
        "{},\"__metadata__\":{}",
    ] {
        assert_eq!(kind(&with(metadata), 1), Some(FindingKind::Metadata), "{metadata}");
        assert_eq!(read(&with(metadata), 1).tensors.len(), 1, "{metadata}");
    }
    for metadata in ["null", "{}"] {
        assert_eq!(read(&with(metadata), 1).verdict(), Verdict::Ok, "{metadata}");
    }
}

#[test]
fn what_was_read_before_damage_is_given_back() {
    let broken = GOOD.replace("\"b\":{", "\"b\":[");
    let found = read(&broken, 18);
    assert_eq!((found.tensors.len(), found.metadata.len()), (1, 1));
    assert_eq!(found.findings[0].kind, FindingKind::Header);
    let found = inspect(
        file(&GOOD.replace("\"b\"", "\"\u{7f}\""), 18)
            .iter()
            .map(|byte| if *byte == 0x7f { 0xff } else { *byte })
            .collect::<Vec<_>>()
            .as_slice(),
    )
    .unwrap();
    assert_eq!((found.tensors.len(), found.findings[0].kind), (1, FindingKind::Header));
}
