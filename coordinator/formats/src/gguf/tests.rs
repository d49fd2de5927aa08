use hoist_domain::Dtype;

use super::*;

/// Writes a file piece by piece, in one byte order.
#[derive(Clone)]
struct Writer {
    bytes: Vec<u8>,
    big: bool,
    version: u32,
}

impl Writer {
    fn new(version: u32, big: bool, tensors: u64, pairs: u64) -> Self {
        let mut writer = Self { bytes: b"GGUF".to_vec(), big, version };
        writer.u32(version).count(tensors).count(pairs);
        writer
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    fn count(&mut self, value: u64) -> &mut Self {
        if self.version == 1 { self.u32(u32::try_from(value).unwrap()) } else { self.u64(value) }
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.count(text.len() as u64);
        self.bytes.extend(text);
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    fn architecture(&mut self) -> &mut Self {
        self.text(b"general.architecture").u32(8).text(b"llama")
    }

    fn tensor(&mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> &mut Self {
        self.text(name.as_bytes()).u32(u32::try_from(dimensions.len()).unwrap());
        for dimension in dimensions {
            self.count(*dimension);
        }
        self.u32(kind).u64(offset)
    }

    fn data(&mut self, bytes: usize) -> &mut Self {
        let start = self.bytes.len().next_multiple_of(32);
        self.bytes.resize(start + bytes, 0);
        self
    }

    fn read(&self) -> Inspection {
        inspect(self.bytes.as_slice(), "m.gguf").unwrap()
    }

    fn worst(&self) -> Option<(Verdict, FindingKind)> {
        let found = self.read();
        let verdict = found.verdict();
        let worst = found.findings.iter().find(|finding| finding.verdict == verdict)?;
        Some((verdict, worst.kind))
    }
}

/// A file of these tensors, with data of this length.
fn tensors(of: &[(&str, &[u64], u32, u64)], data: usize) -> Writer {
    let mut writer = Writer::new(3, false, of.len() as u64, 1);
    writer.architecture();
    for (name, dimensions, kind, offset) in of {
        writer.tensor(name, dimensions, *kind, *offset);
    }
    writer.data(data);
    writer
}

/// A file of one key with this value.
fn value(kind: u32, bytes: &[u8]) -> Writer {
    let mut writer = Writer::new(3, false, 0, 2);
    writer.architecture().text(b"k").u32(kind).raw(bytes);
    writer
}

const BROKEN: Option<(Verdict, FindingKind)> = Some((Verdict::Corrupt, FindingKind::Header));

#[test]
fn every_version_and_byte_order_is_read_alike() {
    for (version, big) in [(1, false), (2, false), (3, false), (2, true), (3, true)] {
        let mut writer = Writer::new(version, big, 2, 1);
        writer.architecture().tensor("a", &[32, 2], 2, 0).tensor("b", &[3], 0, 64).data(96);
        let found = writer.read();
        assert_eq!(found.findings, [], "{version} {big}");
        assert_eq!(found.metadata["general.architecture"], "llama");
        assert_eq!((found.tensors[0].dtype, &*found.tensors[0].shape), (Dtype::Q4_0, [2, 32].as_slice()));
        let Place::Extent { offset, length } = found.tensors[1].place else { panic!("no place") };
        assert_eq!((offset + length, found.header_bytes <= offset), (writer.bytes.len() as u64 - 20, true));
    }
}

#[test]
fn every_value_type_is_kept_or_counted() {
    for (kind, bytes, text) in [
        (0, vec![255], "255"),
        (1, vec![255], "-1"),
        (2, vec![0, 1], "256"),
        (3, vec![255, 255], "-1"),
        (4, vec![1, 0, 0, 0], "1"),
        (5, vec![255; 4], "-1"),
        (6, 0.5_f32.to_le_bytes().to_vec(), "0.5"),
        (7, vec![1], "true"),
        (8, b"\x02\0\0\0\0\0\0\0hi".to_vec(), "hi"),
        (9, [vec![4, 0, 0, 0, 2], vec![0; 7], vec![0; 8]].concat(), "[2 items]"),
        (9, [vec![8, 0, 0, 0, 1], vec![0; 7], vec![1], vec![0; 7], vec![b'x']].concat(), "[1 items]"),
        (
            9,
            [vec![9, 0, 0, 0, 1], vec![0; 7], vec![7, 0, 0, 0, 2], vec![0; 7], vec![0, 1]].concat(),
            "[1 items]",
        ),
        (10, vec![255; 8], "18446744073709551615"),
        (11, vec![255; 8], "-1"),
        (12, 0.25_f64.to_le_bytes().to_vec(), "0.25"),
    ] {
        let found = value(kind, &bytes).read();
        assert_eq!(
            (found.metadata.get("k").map(String::as_str), found.verdict()),
            (Some(text), Verdict::Ok),
            "{kind}"
        );
    }
}

#[test]
fn values_that_the_format_does_not_know_are_broken_headers() {
    let nested = [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(100_000);
    for (kind, bytes) in [
        (13, vec![0; 8]),
        (7, vec![2]),
        (8, (1_u64 << 60).to_le_bytes().to_vec()),
        (9, [vec![8, 0, 0, 0], (1_u64 << 60).to_le_bytes().to_vec()].concat()),
        (9, [vec![99, 0, 0, 0], vec![0; 8]].concat()),
        (9, [vec![7, 0, 0, 0, 1], vec![0; 7], vec![2]].concat()),
        (9, nested),
    ] {
        assert_eq!(value(kind, &bytes).worst(), BROKEN, "{kind}");
    }
}

#[test]
fn a_file_cut_anywhere_is_partial() {
    let whole = tensors(&[("a", &[32], 0, 0), ("b", &[8], 0, 128)], 160);
    assert_eq!(whole.worst(), None);
    for end in 0..whole.bytes.len() {
        let found = inspect(&whole.bytes[..end], "m.gguf").unwrap();
        let kinds: Vec<_> = found.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [FindingKind::Partial], "{end}");
    }
}

#[test]
fn counts_and_versions_beyond_reason_are_broken_headers() {
    for (version, tensors, pairs) in
        [(0, 0, 0), (4, 0, 0), (3, 1 << 62, 0), (3, u64::MAX, 0), (3, 0, 1 << 62), (3 << 16, 0, 0)]
    {
        assert_eq!(Writer::new(version, false, tensors, pairs).worst(), BROKEN, "{version}");
    }
    assert_eq!(inspect(b"ggjt____".as_slice(), "m.gguf").unwrap().findings[0].kind, FindingKind::Header);
}

#[test]
fn tensors_that_ggml_could_not_hold_are_broken_headers() {
    for (dimensions, kind) in [
        ([1; 5].as_slice(), 0),
        (&[0, 32], 0),
        (&[1 << 40, 1 << 40], 0),
        (&[u64::MAX, 2], 0),
        (&[33], 2),
        (&[16, 2], 2),
        (&[32], 4),
        (&[32], 999),
    ] {
        assert_eq!(tensors(&[("a", dimensions, kind, 0)], 64).worst(), BROKEN, "{dimensions:?} {kind}");
    }
}

#[test]
fn overlapping_misaligned_or_scattered_tensors_are_corrupt() {
    for (first, second) in [(0, 0), (0, 64), (0, 129), (0, 160), (32, 160)] {
        let file = tensors(&[("a", &[32], 0, first), ("b", &[32], 0, second)], 512);
        assert_eq!(file.worst(), BROKEN, "{first} {second}");
    }
    assert_eq!(tensors(&[("a", &[32], 0, 0), ("a", &[32], 0, 128)], 256).worst(), BROKEN);
    assert_eq!(tensors(&[("a", &[32], 0, 128), ("b", &[32], 0, 0)], 256).worst(), None);
}

#[test]
fn an_offset_beyond_the_file_is_a_cut() {
    let partial = Some((Verdict::Corrupt, FindingKind::Partial));
    let file = tensors(&[("a", &[32], 0, 1 << 40)], 128);
    assert_eq!((file.worst(), &file.read().tensors[0].place), (partial, &Place::Unmapped));
    assert_eq!(tensors(&[("a", &[32], 0, u64::MAX - 31)], 128).worst(), BROKEN);
}

#[test]
fn padding_may_follow_the_last_tensor_and_nothing_else() {
    assert_eq!(tensors(&[("a", &[1], 0, 0)], 4).worst(), None);
    assert_eq!(tensors(&[("a", &[1], 0, 0)], 32).worst(), None);
    assert_eq!(tensors(&[("a", &[1], 0, 0)], 33).worst(), Some((Verdict::Corrupt, FindingKind::Data)));
}

#[test]
fn metadata_that_contradicts_itself_is_corrupt_metadata() {
    let corrupt = Some((Verdict::Corrupt, FindingKind::Metadata));
    for alignment in [0, 7] {
        let mut writer = Writer::new(3, false, 1, 2);
        writer.architecture().text(b"general.alignment").u32(4).u32(alignment);
        writer.tensor("a", &[32], 0, 0).data(128);
        assert_eq!((writer.worst(), &writer.read().tensors[0].place), (corrupt, &Place::Unmapped));
    }
    let mut twice = Writer::new(3, false, 0, 2);
    assert_eq!(twice.architecture().architecture().worst(), corrupt);
    let mut number = Writer::new(3, false, 0, 1);
    assert_eq!(number.text(b"general.architecture").u32(4).u32(7).worst(), corrupt);
    assert_eq!(Writer::new(3, false, 0, 0).worst(), corrupt);
}

#[test]
fn a_part_of_a_split_file_must_lead_to_the_others() {
    let mut writer = Writer::new(3, false, 0, 2);
    writer.text(b"split.no").u32(2).raw(&[1, 0]).text(b"split.count").u32(2).raw(&[3, 0]);
    assert_eq!(writer.worst(), Some((Verdict::Incomplete, FindingKind::Partial)));
    let named = inspect(writer.bytes.as_slice(), "m-00002-of-00003.gguf").unwrap();
    assert_eq!(named.findings, []);
}
