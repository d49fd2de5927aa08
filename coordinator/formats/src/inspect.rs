//! Which reader a file gets: its content decides, its name says what to expect.
//!
//! Who calls: the catalog's probe, for every regular file that could be a model. It must never believe a name: a
//! pickle that is called `.safetensors` is looked at as the pickle it is, and said to be one.

use hoist_domain::excerpt;

use crate::{
    Finding, FindingKind, Format, Inspection, Result, Source, gguf, limits, onnx, read_at_most, safetensors,
    torch,
};

/// Bytes that are looked at to tell what a file is: enough for every magic and for a page's opening tag.
const SNIFFED_BYTES: u64 = 512;

/// What a file's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Safetensors,
    Zip,
    Gguf,
    Pickle,
    Tflite,
    /// What git leaves in the place of a large file that was not fetched.
    LfsPointer,
    /// A page or an error message of a server.
    Page,
    /// What Python reads from its own folders: `.pth` is its ending, too.
    PythonPaths,
    Empty,
    Unknown,
}

/// What a file's name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Safetensors,
    Gguf,
    Onnx,
    Tflite,
    /// Something that `torch.save` or pickle wrote.
    Torch,
    Anything,
}

/// Reads the header of one file, whatever it is.
///
/// # Errors
/// The file system's. Damage is a finding.
pub fn inspect<S: Source + ?Sized>(source: &S, file_name: &str) -> Result<Inspection> {
    let head = read_at_most(source, 0, SNIFFED_BYTES)?;
    let expected = expected(file_name);
    match (content(&head), expected) {
        (Content::Empty, _) if expected != Expected::Anything => {
            let finding = Finding::corrupt(FindingKind::Partial, "the file is empty");
            Ok(refused(expected, finding, &head))
        }
        (Content::LfsPointer, _) => {
            let message = "a git-lfs pointer: the file itself was not fetched";
            Ok(refused(expected, Finding::corrupt(FindingKind::Partial, message), &head))
        }
        (Content::Page, _) if expected != Expected::Anything => {
            Ok(refused(expected, mismatch("a page or an error message of a server", file_name), &head))
        }
        (Content::PythonPaths, Expected::Torch) if file_name.to_ascii_lowercase().ends_with(".pth") => {
            Ok(Inspection::new(Format::Unknown))
        }
        (Content::Zip | Content::Pickle, Expected::Torch | Expected::Anything) => {
            torch::inspect(source, file_name)
        }
        (content @ (Content::Zip | Content::Pickle), _) => {
            let what = if content == Content::Zip { "a zip archive" } else { "a pickle" };
            let mut inspection = torch::inspect(source, file_name)?;
            put_first(&mut inspection, mismatch(what, file_name));
            Ok(inspection)
        }
        (Content::Gguf, _) => {
            let found = gguf::inspect(source, file_name)?;
            Ok(renamed(found, expected, Expected::Gguf, "a GGUF file", file_name))
        }
        (Content::Tflite, _) => {
            let mut found = Inspection::new(Format::Tflite);
            found.header_bytes = 8;
            Ok(renamed(found, expected, Expected::Tflite, "a TensorFlow Lite file", file_name))
        }
        (Content::Safetensors, _) => {
            let found = safetensors::inspect(source)?;
            Ok(renamed(found, expected, Expected::Safetensors, "a safetensors file", file_name))
        }
        (_, Expected::Safetensors) => safetensors::inspect(source),
        (_, Expected::Gguf) => gguf::inspect(source, file_name),
        (_, Expected::Onnx) => onnx::inspect(source),
        // A tar, a pickle of protocol 0 or 1, a zip behind something else: torch's reader knows those too.
        (_, Expected::Torch) => torch::inspect(source, file_name),
        (_, Expected::Tflite) => {
            Ok(refused(expected, mismatch("not a TensorFlow Lite file", file_name), &head))
        }
        (_, Expected::Anything) => Ok(Inspection::new(Format::Unknown)),
    }
}

/// What these first bytes of a file are.
fn content(head: &[u8]) -> Content {
    if head.is_empty() {
        Content::Empty
    } else if is_safetensors(head) {
        // Before pickles: a header of 640 bytes begins with the bytes 80 02.
        Content::Safetensors
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        Content::Zip
    } else if head.starts_with(b"GGUF") {
        Content::Gguf
    } else if is_pickle(head) {
        Content::Pickle
    } else if head.get(4..8) == Some(b"TFL3") {
        Content::Tflite
    } else if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        Content::LfsPointer
    } else if is_page(head) {
        Content::Page
    } else if is_python_paths(head) {
        Content::PythonPaths
    } else {
        Content::Unknown
    }
}

fn is_safetensors(head: &[u8]) -> bool {
    let length = head.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    length.is_some_and(|length| length <= limits::SAFETENSORS_HEADER_BYTES) && head.get(8) == Some(&b'{')
}

/// A pickle of protocol 2 or later: PROTO, a version that exists, and an opcode. Older ones have no magic.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, opcode, _, ..] if *opcode >= b'(')
}

fn is_page(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    [b"<!doctype".as_slice(), b"<html", b"<?xml", b"<head", b"<body", b"<!--", b"{\"error"].iter().any(
        |opening| text.get(..opening.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(opening)),
    )
}

/// Lines of folders and imports. No pickle begins like that: of these only the dot is an opcode, and it ends one.
fn is_python_paths(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    [b"import ".as_slice(), b"import\t", b"/", b"./", b"../"].iter().any(|start| line.starts_with(start))
        && line.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r'))
}

/// What the extension of a file's name promises.
fn expected(file_name: &str) -> Expected {
    let Some((_, extension)) = file_name.rsplit_once('.') else { return Expected::Anything };
    match extension.to_ascii_lowercase().as_str() {
        "safetensors" | "sft" => Expected::Safetensors,
        "gguf" => Expected::Gguf,
        "onnx" => Expected::Onnx,
        "tflite" => Expected::Tflite,
        "pt" | "pth" | "ckpt" | "pkl" | "pickle" | "pt2" | "ts" | "jit" | "ptl" | "th" => Expected::Torch,
        // `.bin` is anybody's: only where the libraries write weights under such a name is it a promise.
        "bin" if is_weights_name(file_name) => Expected::Torch,
        _ => Expected::Anything,
    }
}

fn is_weights_name(file_name: &str) -> bool {
    const WEIGHTS: [&str; 5] = [
        "pytorch_model",
        "diffusion_pytorch_model",
        "adapter_model",
        "pytorch_lora_weights",
        "learned_embeds",
    ];
    WEIGHTS.iter().any(|name| {
        let rest = file_name.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['.', '-']))
    })
}

/// What is known of a file that is not even of the kind it is called.
fn refused(expected: Expected, finding: Finding, head: &[u8]) -> Inspection {
    let mut inspection = Inspection::new(format(expected));
    inspection.header_bytes = head.len() as u64;
    inspection.find(finding);
    inspection
}

/// A file in order under a name of another format. It is read for what it is; where the name makes loaders choose the
/// wrong reader, that is said.
fn renamed(
    mut inspection: Inspection,
    expected: Expected,
    found: Expected,
    what: &str,
    file_name: &str,
) -> Inspection {
    if expected == found || expected == Expected::Anything {
        return inspection;
    }
    let mut finding = mismatch(what, file_name);
    // Such files are renamed for tools that know one extension only, and those go by the content too.
    if expected == Expected::Torch {
        finding.verdict = crate::Verdict::Ok;
    }
    put_first(&mut inspection, finding);
    inspection
}

fn mismatch(what: &str, file_name: &str) -> Finding {
    Finding::corrupt(FindingKind::Header, format!("{what}, under the name `{}`", excerpt(file_name))).at(0)
}

/// The first of the worst findings names a file's trouble, and this one explains all others.
fn put_first(inspection: &mut Inspection, finding: Finding) {
    let kept = std::mem::take(&mut inspection.findings);
    for finding in std::iter::once(finding).chain(kept) {
        inspection.find(finding);
    }
}

const fn format(expected: Expected) -> Format {
    match expected {
        Expected::Safetensors => Format::Safetensors,
        Expected::Gguf => Format::Gguf,
        Expected::Onnx => Format::Onnx,
        Expected::Tflite => Format::Tflite,
        Expected::Torch | Expected::Anything => Format::Unknown,
    }
}

#[cfg(test)]
mod tests;
