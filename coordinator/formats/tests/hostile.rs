//! Whatever the bytes are: no panic, no error, and no tensor that is not in the file.
//!
//! The oracle knows nothing of the formats; it looks at what comes back.

use hoist_formats::{Inspection, Place, index, inspect, limits};
use proptest::collection::vec;
use proptest::prelude::*;

const NAMES: [&str; 6] = ["m.safetensors", "m.gguf", "m.onnx", "m.tflite", "m.pt", "m"];

fn check(bytes: &[u8], name: &str) -> Inspection {
    let found = inspect(bytes, name).expect("memory gives no I/O error");
    let size = bytes.len() as u64;
    for tensor in &found.tensors {
        match &tensor.place {
            Place::Extent { offset, length } | Place::Strided { offset, length, .. } => {
                assert!(offset.checked_add(*length).is_some_and(|end| end <= size), "{tensor:?} of {size}");
            }
            Place::Beside { file, .. } => assert!(!file.contains("..") && !file.starts_with('/'), "{file}"),
            Place::Unmapped => {}
        }
    }
    assert!(found.findings.len() <= limits::FINDINGS);
    for finding in &found.findings {
        assert!(!finding.message.chars().any(char::is_control), "{}", finding.message);
    }
    assert!(found.header_bytes <= size);
    found
}

fn safetensors() -> Vec<u8> {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt","é":"\u00e9\ud83d\ude00"},"a.weight":{"dtype":"F32","shape":[2,3],"#,
        r#""data_offsets":[0,24]},"b":{"dtype":"U8","shape":[],"data_offsets":[24,25]},"c":{"dtype":"BF16","#,
        r#""shape":[0,7],"data_offsets":[25,25]},"../d":{"dtype":"F4","shape":[4],"data_offsets":[25,27]}}   "#
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend([1; 27]);
    file
}

fn gguf() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    for count in [2_u64, 3] {
        file.extend(count.to_le_bytes());
    }
    file.extend([text("general.architecture"), vec![8, 0, 0, 0], text("llama")].concat());
    file.extend(
        [text("tokens"), vec![9, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], text("a"), text("bc")]
            .concat(),
    );
    file.extend([text("n"), vec![6, 0, 0, 0, 0, 0, 128, 63]].concat());
    for (name, rows, kind, offset) in [("a", 2_u64, 2_u32, 0_u64), ("b", 1, 0, 64)] {
        file.extend([text(name), vec![2, 0, 0, 0]].concat());
        file.extend([32_u64.to_le_bytes(), rows.to_le_bytes()].concat());
        file.extend(kind.to_le_bytes());
        file.extend(offset.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(32) + 192, 0);
    file
}

fn onnx() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("short");
        assert!(length < 128, "one byte of length");
        [&[number << 3 | 2, length], content].concat()
    };
    let inline = [&[8, 2, 8, 2, 16, 1][..], &field(8, b"w"), &field(9, &[7; 16])].concat();
    let entry = [field(1, b"location"), field(2, b"w.bin")].concat();
    let beside = [&[8, 4, 16, 1][..], &field(8, b"x"), &field(13, &entry), &[14 << 3, 1]].concat();
    let graph =
        [field(1, &field(5, &field(6, &field(2, b"g")))), field(5, &inline), field(5, &beside)].concat();
    [&[8, 8][..], &field(2, b"me"), &field(7, &graph), &field(8, &[16, 17])].concat()
}

fn files() -> [(Vec<u8>, &'static str); 3] {
    [(safetensors(), "m.safetensors"), (gguf(), "m.gguf"), (onnx(), "m.onnx")]
}

#[test]
fn the_files_that_are_mutated_are_sound() {
    for (file, name) in files() {
        let found = check(&file, name);
        assert!(found.findings.is_empty() && found.tensors.len() >= 2, "{name} {:?}", found.findings);
    }
}

#[test]
fn a_cut_at_every_byte_is_survived_and_noticed() {
    for (file, name) in files() {
        for end in 0..file.len() {
            assert!(!check(&file[..end], name).findings.is_empty(), "{name} cut at {end}");
        }
    }
}

#[test]
fn every_flipped_bit_is_survived() {
    for (file, name) in files() {
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check(&damaged, name);
        }
    }
}

#[test]
fn every_length_field_may_lie() {
    for (file, name) in files() {
        for at in 0..file.len().saturating_sub(8).min(300) {
            for lie in [0, 1, file.len() as u64, 1 << 31, 100_000_000, 1 << 62, u64::MAX - 7, u64::MAX] {
                let mut damaged = file.clone();
                damaged[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                check(&damaged, name);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_survived_under_every_name(bytes in vec(any::<u8>(), 0..600), name in 0..NAMES.len()) {
        check(&bytes, NAMES[name]);
    }

    #[test]
    fn random_json_is_survived(
        json in "[\\[\\]{}\",:0-9a-z_\\\\ .\\-]{0,200}",
        data in 0_usize..64,
    ) {
        let text = format!("{{\"{json}");
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text.as_bytes());
        file.resize(file.len() + data, 0);
        check(&file, "m.safetensors");
        let _ = index::read(text.as_bytes(), "i.json").expect("memory gives no I/O error");
    }

    #[test]
    fn a_table_of_any_numbers_is_survived(
        entries in vec((0_u64..40, 0_u64..40, 0_usize..5, vec(0_u64..9, 0..4)), 0..6),
        data in 0_usize..48,
    ) {
        let dtypes = ["U8", "F16", "F32", "F4", "X"];
        let entries: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(at, (begin, end, dtype, shape))| {
                let dtype = dtypes[*dtype];
                format!("\"{at}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}")
            })
            .collect();
        let text = format!("{{{}}}", entries.join(","));
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text.as_bytes());
        file.resize(file.len() + data, 0);
        let found = check(&file, "m.safetensors");
        // The reference reader is never stricter.
        if found.findings.is_empty() {
            prop_assert!(safetensors::SafeTensors::deserialize(&file).is_ok(), "{text}");
        }
    }

    #[test]
    fn several_damages_at_once_are_survived(
        which in 0_usize..3,
        damages in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut file, name) = files()[which].clone();
        for (at, byte) in damages {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.truncate(cut.index(file.len() * 2));
        check(&file, name);
    }
}
