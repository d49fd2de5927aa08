//! Builds the smallest files that show a rule: pickles opcode by opcode, zips record by record.

#![allow(dead_code, reason = "each test binary uses its part")]

use hoist_formats::{FindingKind, Inspection, Verdict, torch};

/// One tensor as `torch.save` writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensor<'a> {
    pub(crate) class: &'a str,
    pub(crate) key: &'a str,
    pub(crate) elements: i64,
    pub(crate) offset: i64,
    pub(crate) size: &'a [i64],
    pub(crate) stride: &'a [i64],
    /// Legacy persistent ids end with what the storage is a view of: nothing.
    pub(crate) legacy: bool,
}

/// Four floats in storage 0.
pub(crate) const FOUR: Tensor<'_> = Tensor {
    class: "FloatStorage",
    key: "0",
    elements: 4,
    offset: 0,
    size: &[4],
    stride: &[1],
    legacy: false,
};

pub(crate) const FOUR_BYTES: [u8; 16] = [1; 16];

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(crate) fn stack_global(module: &str, name: &str) -> Vec<u8> {
    [text(module), text(name), vec![0x93]].concat()
}

pub(crate) fn int(value: i64) -> Vec<u8> {
    match u8::try_from(value) {
        Ok(small) => vec![b'K', small],
        Err(_) => [&[0x8a, 8], &value.to_le_bytes()[..]].concat(),
    }
}

fn tuple(values: &[i64]) -> Vec<u8> {
    let inner: Vec<u8> = values.iter().flat_map(|value| int(*value)).collect();
    [b"(".to_vec(), inner, b"t".to_vec()].concat()
}

impl Tensor<'_> {
    pub(crate) fn pickled(&self) -> Vec<u8> {
        [
            global("torch._utils", "_rebuild_tensor_v2"),
            b"((".to_vec(),
            text("storage"),
            global("torch", self.class),
            text(self.key),
            text("cpu"),
            int(self.elements),
            if self.legacy { b"N".to_vec() } else { Vec::new() },
            b"tQ".to_vec(),
            int(self.offset),
            tuple(self.size),
            tuple(self.stride),
            b"\x89".to_vec(),
            global("collections", "OrderedDict"),
            b")RtR".to_vec(),
        ]
        .concat()
    }
}

/// A protocol 2 stream of this body.
pub(crate) fn stream(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// A dict of these keys and pickled values, without its stream.
pub(crate) fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inner: Vec<u8> = items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(".to_vec(), inner, b"u".to_vec()].concat()
}

/// `module.name('x')`, without its stream.
pub(crate) fn call(module: &str, name: &str) -> Vec<u8> {
    [global(module, name), text("x"), b"\x85R".to_vec()].concat()
}

/// An archive of stored entries.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in entries {
        let offset = file.len() as u32;
        let shared = [
            &20_u16.to_le_bytes()[..],
            &[0; 8],
            &crc32fast::hash(bytes).to_le_bytes(),
            &(bytes.len() as u32).to_le_bytes(),
            &(bytes.len() as u32).to_le_bytes(),
            &(name.len() as u16).to_le_bytes(),
            &0_u16.to_le_bytes(),
        ]
        .concat();
        file.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), bytes].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0", &shared[..], &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let count = (entries.len() as u16).to_le_bytes();
    let [bytes, offset] = [directory.len(), file.len()].map(|number| (number as u32).to_le_bytes());
    file.extend([&directory[..], b"PK\x05\x06\0\0\0\0", &count, &count, &bytes, &offset, &[0, 0]].concat());
    file
}

/// A checkpoint of this pickle and storages.
pub(crate) fn checkpoint(pickle: &[u8], storages: &[&[u8]]) -> Vec<u8> {
    let names: Vec<String> = (0..storages.len()).map(|key| format!("a/data/{key}")).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("a/data.pkl", pickle), ("a/version", b"3\n")];
    entries.extend(names.iter().map(String::as_str).zip(storages.iter().copied()));
    zip(&entries)
}

/// A checkpoint of one tensor.
pub(crate) fn checkpoint_of(tensor: Tensor<'_>) -> Vec<u8> {
    checkpoint(&stream(&dict(&[("w", tensor.pickled())])), &[&FOUR_BYTES])
}

/// A legacy checkpoint of this pickle, whose storages follow.
pub(crate) fn legacy(pickle: &[u8], keys: &[&str], storages: &[u8]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
    [
        stream(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
        stream(b"M\xe9\x03"),
        stream(&dict(&[("little_endian", b"\x88".to_vec())])),
        pickle.to_vec(),
        stream(&[b"](", &keys[..], b"e"].concat()),
        storages.to_vec(),
    ]
    .concat()
}

/// A legacy checkpoint of one tensor of four floats.
pub(crate) fn legacy_of_four() -> Vec<u8> {
    let pickle = stream(&dict(&[("w", Tensor { legacy: true, ..FOUR }.pickled())]));
    legacy(&pickle, &["0"], &[&4_u64.to_le_bytes()[..], &FOUR_BYTES].concat())
}

pub(crate) fn inspect(bytes: &[u8]) -> Inspection {
    torch::inspect(bytes, "model.pt").expect("memory does not fail")
}

/// The worst verdict, and the kind of the first finding that bears it.
pub(crate) fn worst(bytes: &[u8]) -> (Verdict, Option<FindingKind>) {
    let inspection = inspect(bytes);
    let verdict = inspection.verdict();
    (
        verdict,
        inspection.findings.iter().find(|finding| finding.verdict == verdict).map(|finding| finding.kind),
    )
}
