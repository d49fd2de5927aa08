use super::*;
use crate::{FindingKind, Verdict};

fn first(bytes: &[u8], name: &str) -> Option<(Verdict, FindingKind)> {
    inspect(bytes, name).unwrap().findings.first().map(|finding| (finding.verdict, finding.kind))
}

const SAFETENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
const ZIP: &[u8] = b"PK\x03\x04____________________________________________";
const PICKLE: &[u8] = b"\x80\x02}q\x00.";
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 4\n";

#[test]
fn what_python_reads_from_its_folders_is_no_model() {
    for text in [&b"import os; exec('x')\n"[..], b"/opt/lib\nimport y", b"../src", b"./a b\r\n"] {
        let found = inspect(text, "site.PTH").unwrap();
        assert_eq!((found.format, found.findings.len()), (Format::Unknown, 0), "{text:?}");
    }
    // Old pickles are text as well.
    for text in [&b"cposix\nsystem\n(S'x'\ntR."[..], b"import\x00", b"imported\n"] {
        assert_ne!(inspect(text, "site.pth").unwrap().findings.len(), 0, "{text:?}");
    }
    assert_ne!(inspect(&b"import os\n"[..], "site.pt").unwrap().findings.len(), 0);
}

#[test]
fn another_content_under_a_promising_name_is_named() {
    let page: &[u8] = b"\xef\xbb\xbf \n<!DOCTYPE HTML><html></html>";
    for name in ["m.safetensors", "m.gguf", "m.onnx", "m.tflite"] {
        for content in [ZIP, PICKLE, page] {
            assert_eq!(first(content, name), Some((Verdict::Corrupt, FindingKind::Header)), "{name}");
        }
        assert_eq!(first(POINTER, name), Some((Verdict::Corrupt, FindingKind::Partial)), "{name}");
        assert_eq!(first(b"", name), Some((Verdict::Corrupt, FindingKind::Partial)), "{name}");
    }
    assert_eq!(first(page, "m.pt"), Some((Verdict::Corrupt, FindingKind::Header)));
    assert_eq!(first(POINTER, "pytorch_model.bin"), Some((Verdict::Corrupt, FindingKind::Partial)));
}

#[test]
fn content_decides_over_a_name_that_promises_nothing() {
    for name in ["m", "m.bin", "model.dat"] {
        assert_eq!(inspect(SAFETENSORS, name).unwrap().format, Format::Safetensors);
        assert_eq!(inspect(b"GGUF".as_slice(), name).unwrap().format, Format::Gguf);
        assert_eq!(inspect(b"\x1c\0\0\0TFL3".as_slice(), name).unwrap().format, Format::Tflite);
        let nothing = inspect(b"\x7fELF\0\0\0\0\0\0\0".as_slice(), name).unwrap();
        assert_eq!((nothing.format, nothing.findings.len()), (Format::Unknown, 0));
    }
}

#[test]
fn a_sound_file_under_the_name_of_a_pickle_is_remarked_on() {
    assert_eq!(first(SAFETENSORS, "m.ckpt"), Some((Verdict::Ok, FindingKind::Header)));
    assert_eq!(inspect(SAFETENSORS, "m.ckpt").unwrap().format, Format::Safetensors);
    assert_eq!(first(SAFETENSORS, "m.gguf"), Some((Verdict::Corrupt, FindingKind::Header)));
}

#[test]
fn a_header_whose_length_looks_like_a_pickle_is_a_header() {
    let mut file = 640_u64.to_le_bytes().to_vec();
    file.extend(b"{}");
    file.resize(648, b' ');
    assert_eq!(file[..2], *b"\x80\x02");
    assert_eq!(first(&file, "m.safetensors"), None);
}

#[test]
fn extensions_promise_in_any_case_and_bin_only_where_libraries_write_it() {
    assert_eq!(expected("M.SAFETENSORS"), Expected::Safetensors);
    assert_eq!(expected("pytorch_model-00001-of-00002.bin"), Expected::Torch);
    assert_eq!(expected("pytorch_fake.bin"), Expected::Anything);
    assert_eq!(expected("safetensors"), Expected::Anything);
}
