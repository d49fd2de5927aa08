use hoist_domain::Dtype;

use super::*;
use crate::Verdict;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// An initializer `w` of four floats, described further by `rest`.
fn tensor(rest: &[u8]) -> Vec<u8> {
    [number(1, 2), number(1, 2), number(2, 1), bytes(8, b"w"), rest.to_vec()].concat()
}

fn model(initializers: &[Vec<u8>]) -> Vec<u8> {
    let graph: Vec<u8> = initializers.iter().flat_map(|tensor| bytes(5, tensor)).collect();
    [number(1, 8), bytes(2, b"me"), bytes(7, &graph), bytes(8, &number(2, 17))].concat()
}

fn external(location: &str, length: &str) -> Vec<u8> {
    let entry =
        |key: &str, value: &str| bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat());
    tensor(&[entry("location", location), entry("length", length), number(14, 1)].concat())
}

fn worst(file: &[u8]) -> Option<(Verdict, FindingKind)> {
    let found = inspect(file).unwrap();
    found.findings.first().map(|finding| (finding.verdict, finding.kind))
}

const BROKEN: Option<(Verdict, FindingKind)> = Some((Verdict::Corrupt, FindingKind::Header));

#[test]
fn initializers_are_read_with_their_places() {
    let file = model(&[tensor(&bytes(9, &[7; 16]))]);
    let found = inspect(file.as_slice()).unwrap();
    assert_eq!(found.findings, []);
    let [tensor] = found.tensors.as_slice() else { panic!("one tensor") };
    assert_eq!((&*tensor.name, tensor.dtype, &*tensor.shape), ("w", Dtype::F32, [2, 2].as_slice()));
    let Place::Extent { offset, length } = tensor.place else { panic!("no place") };
    let start = usize::try_from(offset).unwrap();
    assert_eq!((length, &file[start..start + 16]), (16, [7; 16].as_slice()));
    assert_eq!((&*found.metadata["opset.ai.onnx"], &*found.metadata["producer_name"]), ("17", "me"));
}

#[test]
fn packed_dimensions_and_numbers_are_read_alike() {
    let packed = [bytes(1, &[2, 2]), number(2, 1), bytes(8, b"w"), bytes(4, &[7; 16])].concat();
    let found = inspect(model(&[packed]).as_slice()).unwrap();
    assert!(matches!(found.tensors[0].place, Place::Extent { length: 16, .. }));
    assert_eq!(&*found.tensors[0].shape, [2, 2]);
}

#[test]
fn tensors_in_branches_are_found() {
    let inner = bytes(5, &tensor(&bytes(9, &[0; 16])));
    let node = bytes(1, &bytes(5, &bytes(6, &inner)));
    let file = [number(1, 8), bytes(7, &[node.clone(), node].concat()), bytes(8, &number(2, 17))].concat();
    let found = inspect(file.as_slice()).unwrap();
    assert_eq!((found.tensors.len(), found.findings.len()), (2, 0));
}

#[test]
fn a_file_cut_anywhere_is_partial_once_it_began_as_a_model() {
    let file = model(&[tensor(&bytes(9, &[7; 16])), tensor(&bytes(9, &[7; 16]))]);
    for end in 2..file.len() {
        assert_eq!(worst(&file[..end]), Some((Verdict::Corrupt, FindingKind::Partial)), "{end}");
    }
    assert_eq!(inspect(&file[..30]).unwrap().tensors[0].place, Place::Unmapped);
}

#[test]
fn external_data_stays_below_the_models_folder() {
    for location in ["../w", "/etc/passwd", "a/../../w", "a\\..\\w", "c:w", "a//b", ""] {
        let found = inspect(model(&[external(location, "16")]).as_slice()).unwrap();
        assert_eq!(found.verdict(), Verdict::Rejected, "{location}");
        assert_eq!(found.tensors[0].place, Place::Unmapped);
    }
    let found = inspect(model(&[external("data/w.bin", "16")]).as_slice()).unwrap();
    assert_eq!(found.tensors[0].place, Place::Beside { file: "data/w.bin".into(), offset: 0, length: 16 });
    assert_eq!(worst(&model(&[external("w", "17")])), BROKEN);
    assert_eq!(worst(&model(&[external("w", "-1")])), BROKEN);
    assert_eq!(worst(&model(&[tensor(&number(14, 1))])), BROKEN);
}

#[test]
fn data_is_as_long_as_its_shape_says() {
    assert_eq!(worst(&model(&[tensor(&bytes(9, &[0; 15]))])), BROKEN);
    assert_eq!(worst(&model(&[tensor(&bytes(4, &[0; 20]))])), BROKEN);
    assert_eq!(worst(&model(&[tensor(&[])])), BROKEN);
    let huge = [number(1, 1 << 62), number(1, 4), number(2, 1), bytes(8, b"w"), bytes(9, &[])].concat();
    assert_eq!(worst(&model(&[huge])), BROKEN);
    let negative = [number(1, u64::MAX), number(2, 1), bytes(8, b"w"), bytes(9, &[])].concat();
    assert_eq!(worst(&model(&[negative])), BROKEN);
}

#[test]
fn what_is_no_model_is_a_broken_header() {
    let nested = (0..5000).fold(Vec::new(), |inner, _| bytes(7, &inner));
    let deep = (0..100).fold(Vec::new(), |inner, _| bytes(1, &bytes(5, &bytes(6, &inner))));
    for file in [
        vec![0; 64],
        b"random text that is no model".to_vec(),
        [number(1, 8), varint(7 << 3 | 2), varint(1 << 62)].concat(),
        [number(1, 8), bytes(7, &[0x2a, 0x7f])].concat(),
        [number(1, 8), number(7, 1)].concat(),
        [number(1, 8), vec![0x3b]].concat(),
        [number(1, 8), vec![0xff; 11]].concat(),
        number(1, 900),
        nested,
        [number(1, 8), bytes(7, &deep)].concat(),
        model(&[tensor(&bytes(9, &[0; 16])), tensor(&bytes(9, &[0; 16]))]),
        model(&[tensor(&number(9, 1))]),
    ] {
        assert_eq!(worst(&file), BROKEN, "{file:?}");
    }
}

#[test]
fn texts_are_remarked_on_and_not_shown() {
    let text = [number(1, 1), number(2, 8), bytes(8, b"w"), bytes(6, b"hello")].concat();
    let found = inspect(model(&[text]).as_slice()).unwrap();
    assert_eq!((found.tensors.len(), found.verdict(), found.findings.len()), (0, Verdict::Ok, 1));
}
