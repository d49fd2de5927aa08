//! The rules of the reader of checkpoints, one a test, each on the smallest file that shows it.

#![allow(clippy::cast_possible_truncation, reason = "the files are small")]

mod making;

use hoist_formats::{Format, Place, Verdict};
use making::*;

use hoist_formats::FindingKind as Kind;

const OK: (Verdict, Option<Kind>) = (Verdict::Ok, None);

fn corrupt(kind: Kind) -> (Verdict, Option<Kind>) {
    (Verdict::Corrupt, Some(kind))
}

fn suspicious(kind: Kind) -> (Verdict, Option<Kind>) {
    (Verdict::Suspicious, Some(kind))
}

const MALICIOUS: (Verdict, Option<Kind>) = (Verdict::Malicious, Some(Kind::Pickle));

#[test]
fn a_tensor_is_the_bytes_of_its_storage() {
    let file = checkpoint_of(FOUR);
    let inspection = inspect(&file);
    assert_eq!((inspection.format, worst(&file)), (Format::TorchZip, OK));
    let [tensor] = &inspection.tensors[..] else { panic!("{:?}", inspection.tensors) };
    let Place::Extent { offset, length } = tensor.place else { panic!("{tensor:?}") };
    assert_eq!((&*tensor.name, &*tensor.shape), ("w", &[4_u64][..]));
    assert_eq!(file[offset as usize..][..length as usize], FOUR_BYTES);
}

#[test]
fn a_view_keeps_its_strides_and_a_slice_its_offset() {
    let transposed = inspect(&checkpoint_of(Tensor { size: &[2, 2], stride: &[1, 2], ..FOUR }));
    assert!(
        matches!(&transposed.tensors[0].place, Place::Strided { length: 16, strides, .. } if **strides == [1, 2])
    );
    let whole = inspect(&checkpoint_of(FOUR));
    let slice = inspect(&checkpoint_of(Tensor { offset: 2, size: &[2], ..FOUR }));
    let start = |inspection: &hoist_formats::Inspection| match inspection.tensors[0].place {
        Place::Extent { offset, length } => (offset as usize, length),
        ref other => panic!("{other:?}"),
    };
    // The second pickle differs in length by nothing: only numbers changed.
    assert_eq!(start(&slice), (start(&whole).0 + 8, 8));
}

#[test]
fn no_tensor_reaches_out_of_its_storage() {
    for tensor in [
        Tensor { size: &[5], ..FOUR },
        Tensor { offset: 1, ..FOUR },
        Tensor { offset: -1, ..FOUR },
        Tensor { size: &[-4], ..FOUR },
        Tensor { size: &[2, 2], stride: &[100, 1], ..FOUR },
        Tensor { size: &[2, 2], stride: &[1], ..FOUR },
        Tensor { size: &[2], stride: &[-1], ..FOUR },
        Tensor { size: &[0, i64::MAX, i64::MAX], stride: &[0, 0, 0], ..FOUR },
        Tensor { size: &[2], stride: &[i64::MAX], ..FOUR },
        Tensor { offset: i64::MAX, ..FOUR },
        Tensor { elements: 5, ..FOUR },
        Tensor { elements: 1 << 62, ..FOUR },
        Tensor { elements: -4, ..FOUR },
    ] {
        let file = checkpoint_of(tensor);
        assert_eq!(worst(&file), corrupt(Kind::Data), "{tensor:?}");
        assert!(inspect(&file).tensors.is_empty(), "{tensor:?}");
    }
}

#[test]
fn a_storage_is_a_key_and_never_a_path() {
    assert_eq!(worst(&checkpoint_of(Tensor { key: "../../etc/passwd", ..FOUR })), corrupt(Kind::Path));
    assert_eq!(worst(&checkpoint_of(Tensor { key: "7", ..FOUR })), corrupt(Kind::Partial));
}

#[test]
fn a_view_that_repeats_its_storage_into_terabytes_is_a_trap() {
    let file = checkpoint_of(Tensor { size: &[1 << 30, 1 << 10], stride: &[0, 0], ..FOUR });
    assert_eq!(worst(&file), suspicious(Kind::Data));
}

#[test]
fn an_unknown_storage_class_has_no_tensor() {
    let file = checkpoint_of(Tensor { class: "EvilStorage", ..FOUR });
    assert_eq!((worst(&file), inspect(&file).tensors.len()), (suspicious(Kind::Pickle), 0));
}

#[test]
fn a_global_outside_the_list_is_never_called() {
    for (module, name, wanted) in [
        ("os", "system", MALICIOUS),
        ("posix", "system", MALICIOUS),
        ("__builtin__", "eval", MALICIOUS),
        ("builtins", "getattr", MALICIOUS),
        ("torch", "load", MALICIOUS),
        ("torch.hub", "load", MALICIOUS),
        ("numpy.testing._private.utils", "runstring", MALICIOUS),
        ("six.moves.builtins", "anything", MALICIOUS),
        ("some.package", "exec", MALICIOUS),
        ("functools", "partial", MALICIOUS),
        ("my_company.models", "Secret", suspicious(Kind::Pickle)),
        ("argparse", "Namespace", suspicious(Kind::Pickle)),
        ("torch.optim.adam", "Adam", suspicious(Kind::Pickle)),
        ("torch.nn.modules.linear", "Linear", (Verdict::Ok, Some(Kind::Pickle))),
        ("numpy.core.multiarray", "scalar", OK),
        ("torch", "device", OK),
    ] {
        for file in [
            checkpoint(&stream(&call(module, name)), &[]),
            stream(&call(module, name)),
            legacy(&stream(&call(module, name)), &[], &[]),
        ] {
            assert_eq!(worst(&file), wanted, "{module}.{name}");
        }
    }
}

#[test]
fn an_attribute_path_is_judged_by_all_its_parts() {
    for (module, name) in [
        ("torch.serialization", "os.system"),
        ("collections", "_sys.modules"),
        ("torch", "Tensor.__class__"),
        ("torch.nn.modules.module", "torch.hub.os"),
        ("collections", "OrderedDict.__reduce__"),
    ] {
        let file = stream(&[stack_global(module, name), b")R".to_vec()].concat());
        assert_eq!(worst(&file), MALICIOUS, "{module} {name}");
    }
}

#[test]
fn one_name_cut_in_two_ways_is_judged_twice() {
    let body = [global("x.eval", "y"), b"0".to_vec(), stack_global("x", "eval.y")].concat();
    assert_eq!(worst(&stream(&body)), MALICIOUS);
}

#[test]
fn every_opcode_that_imports_is_seen() {
    let system = global("os", "system");
    for body in [
        b"(S'x'\nios\nsystem\n".to_vec(),
        [b"(".to_vec(), system.clone(), text("x"), b"o".to_vec()].concat(),
        [system.clone(), b")\x81".to_vec()].concat(),
        [system.clone(), b")}\x92".to_vec()].concat(),
        [system, b"0N".to_vec()].concat(),
        b"S'o\\x73'\nVsys\\u0074em\n\x93".to_vec(),
        [text("os"), b"\x94".to_vec(), text("system"), b"\x9400h\0h\x01\x93".to_vec()].concat(),
    ] {
        assert_eq!(worst(&stream(&body)), MALICIOUS, "{}", body.escape_ascii());
    }
}

#[test]
fn a_computed_name_is_malice_and_a_number_is_suspicious() {
    let computed =
        [global("_codecs", "encode"), text("os"), b"\x85R".to_vec(), text("system"), vec![0x93]].concat();
    assert_eq!(worst(&stream(&computed)), MALICIOUS);
    assert_eq!(worst(&stream(b"\x82\x01")), suspicious(Kind::Pickle));
}

#[test]
fn a_payload_beyond_what_is_refused_is_seen() {
    // Another reader may not care that a list has no keys.
    let body = [b"]".to_vec(), int(1), int(2), b"s".to_vec(), call("os", "system")].concat();
    assert_eq!(worst(&checkpoint(&stream(&body), &[])), MALICIOUS);
    let nested = [&b"\x80\x04\x8e"[..], &(1_u64 << 40).to_le_bytes(), &call("os", "system"), b"."].concat();
    assert_eq!(
        worst(&checkpoint(&nested, &[])),
        corrupt(Kind::Pickle),
        "nobody reads past a length like that"
    );
}

#[test]
fn padding_hides_nothing() {
    let padding = [text(&"x".repeat(3 << 20)), b"0".to_vec()].concat();
    let payload = call("os", "system");
    let refused = b"NQ";
    for file in [
        stream(&[&padding[..], &payload].concat()),
        stream(&[&refused[..], &padding, &payload].concat()),
        [stream(b"}"), stream(&padding), stream(&payload)].concat(),
        legacy(&stream(&[&padding[..], b"0", &payload].concat()), &[], &[]),
    ] {
        assert_eq!(worst(&file), MALICIOUS);
    }
}

#[test]
fn a_pickle_within_a_pickled_tensor_is_looked_at() {
    let inner = stream(&call("os", "system"));
    let bytes = [&[b'C', inner.len() as u8], &inner[..]].concat();
    let body = [global("torch.storage", "_load_from_bytes"), bytes, b"\x85R".to_vec()].concat();
    assert_eq!(worst(&stream(&body)), MALICIOUS);
    let encoded = [global("_codecs", "encode"), b"X\x05\0\0\0cos\na\x85R".to_vec()].concat();
    let harmless = [global("torch.storage", "_load_from_bytes"), encoded, b"\x85R".to_vec()].concat();
    assert_eq!(worst(&stream(&harmless)), suspicious(Kind::Pickle));
}

#[test]
fn a_pickle_after_the_end_is_looked_at() {
    let payload = stream(&call("os", "system"));
    for file in [
        [stream(b"}"), payload.clone()].concat(),
        [legacy_of_four(), payload.clone()].concat(),
        zip(&[("a/data.pkl", &stream(b"}")), ("a/version", b"3"), ("b/data.pkl", &payload)]),
        [payload.clone(), checkpoint_of(FOUR)].concat(),
    ] {
        assert_eq!(worst(&file), MALICIOUS);
    }
    let twice = zip(&[("a/data.pkl", &stream(b"}")), ("a/version", b"3"), ("a/data.pkl", &payload)]);
    assert_eq!(worst(&twice), (Verdict::Malicious, Some(Kind::Zip)), "hidden behind a repeated name");
}

#[test]
fn a_stream_that_breaks_a_rule_is_corrupt() {
    let deep = [vec![b'('; 1000], b"N".to_vec(), vec![b'l'; 1000]].concat();
    let laughs: Vec<u8> = [b"\x94".to_vec()]
        .into_iter()
        .chain((0..12_u8).map(|at| [vec![b'('], [b'h', at].repeat(10), b"l\x94".to_vec()].concat()))
        .flatten()
        .collect();
    let laughs = [b"]".to_vec(), laughs].concat();
    let lists = vec![b']'; 1 << 20];
    for body in [
        &b"R"[..],
        b"h\x63",
        b"\xff",
        b"\x80\x63N",
        b"\x8b\xff\xff\xff\xff",
        b"K\x01K\x02R",
        b"NQ",
        b"]K\x01s",
        b"}(K\x01u",
        b"\x97",
        b"X\xff\xff\xff\xff",
        b"Nr\xff\xff\xff\x7f",
        &deep,
        &laughs,
        &lists,
    ] {
        let file = checkpoint(&stream(body), &[]);
        assert_eq!(worst(&file), corrupt(Kind::Pickle), "{}", body[..body.len().min(40)].escape_ascii());
    }
}

#[test]
fn values_left_on_the_stack_are_nobody_s_habit() {
    for body in [&b"(K\x01"[..], b"NN"] {
        assert_eq!(worst(&checkpoint(&stream(body), &[])), suspicious(Kind::Pickle));
    }
}

#[test]
fn shared_and_cyclic_values_are_walked_once() {
    let cyclic = stream(b"]q\0h\0a");
    assert_eq!(worst(&checkpoint(&cyclic, &[])), OK);
    let shared = [FOUR.pickled(), b"q\x01".to_vec()].concat();
    let file = checkpoint(&stream(&dict(&[("a", shared), ("b", b"h\x01".to_vec())])), &[&FOUR_BYTES]);
    let names: Vec<_> = inspect(&file).tensors.iter().map(|tensor| tensor.name.clone()).collect();
    assert_eq!(names, ["a".into(), "b".into()], "an alias is a tensor of its own");
}

#[test]
fn a_wrapper_is_left_out_of_names_and_what_lies_beside_it_is_metadata() {
    let weights = dict(&[("layer.weight", FOUR.pickled())]);
    let body = dict(&[("state_dict", weights), ("global_step", int(7)), ("note", text("x"))]);
    let inspection = inspect(&checkpoint(&stream(&body), &[&FOUR_BYTES]));
    assert_eq!(&*inspection.tensors[0].name, "layer.weight");
    assert_eq!(inspection.metadata["global_step"], "7");
    assert_eq!(inspection.metadata["note"], "x");
    let plain = dict(&[("other", dict(&[("w", FOUR.pickled())]))]);
    assert_eq!(&*inspect(&checkpoint(&stream(&plain), &[&FOUR_BYTES])).tensors[0].name, "other.w");
}

#[test]
fn keys_that_are_no_text_become_names() {
    let body = [b"}(K\x07".to_vec(), FOUR.pickled(), b"\x88N".to_vec(), b"u".to_vec()].concat();
    assert_eq!(&*inspect(&checkpoint(&stream(&body), &[&FOUR_BYTES])).tensors[0].name, "7");
}

#[test]
fn a_legacy_checkpoint_lists_its_storages_after_its_pickles() {
    let good = legacy_of_four();
    let inspection = inspect(&good);
    assert_eq!((inspection.format, worst(&good)), (Format::TorchLegacy, OK));
    let Place::Extent { offset, length: 16 } = inspection.tensors[0].place else { panic!("{inspection:?}") };
    assert_eq!(good[offset as usize..], FOUR_BYTES);
    assert_eq!(worst(&good[..good.len() - 6]), corrupt(Kind::Partial));
    let pickle = stream(&dict(&[("w", Tensor { legacy: true, ..FOUR }.pickled())]));
    let storage = |count: u64| [&count.to_le_bytes()[..], &FOUR_BYTES].concat();
    assert_eq!(worst(&legacy(&pickle, &["0"], &storage(1 << 40))), corrupt(Kind::Data));
    assert_eq!(worst(&legacy(&pickle, &["9"], &storage(4))), corrupt(Kind::Data));
    assert_eq!(worst(&[good, vec![0; 4]].concat()), suspicious(Kind::Data));
}

#[test]
fn torchscript_names_classes_of_its_own_and_freezes_weights_into_constants() {
    let object =
        [global("__torch__", "Net"), b")\x81".to_vec(), dict(&[("w", FOUR.pickled())]), b"b".to_vec()]
            .concat();
    let constants = stream(&[FOUR.pickled(), b"\x85".to_vec()].concat());
    let empty = [global("__torch__", "Net"), b")\x81}b".to_vec()].concat();
    let script = |object: &[u8]| {
        let object = stream(object);
        let entries: [(&str, &[u8]); 6] = [
            ("a/data.pkl", &object),
            ("a/data/0", &FOUR_BYTES),
            ("a/code/__torch__.py", b"class Net(Module):\n"),
            ("a/constants.pkl", &constants),
            ("a/constants/0", &FOUR_BYTES),
            ("a/version", b"3"),
        ];
        inspect(&zip(&entries))
    };
    let (live, frozen) = (script(&object), script(&empty));
    assert_eq!((live.format, live.verdict()), (Format::Torchscript, Verdict::Ok));
    assert_eq!(live.tensors.iter().map(|tensor| &*tensor.name).collect::<Vec<_>>(), ["w"]);
    assert_eq!(frozen.tensors.iter().map(|tensor| &*tensor.name).collect::<Vec<_>>(), ["constants.0"]);
    assert_eq!(
        worst(&checkpoint(&stream(&empty), &[])).0,
        Verdict::Suspicious,
        "elsewhere nobody has such classes"
    );
}

#[test]
fn a_checkpoint_within_an_exported_program_is_looked_at() {
    let export = |weights: &[u8]| zip(&[("p/archive_format", b"pt2"), ("p/data/weights/w.pt", weights)]);
    let good = inspect(&export(&checkpoint_of(FOUR)));
    assert_eq!((good.format, good.verdict()), (Format::TorchExport, Verdict::Ok));
    assert_eq!(worst(&export(&[0; 64])), OK, "bare bytes of a tensor");
    let payload = checkpoint(&stream(&call("os", "system")), &[]);
    assert_eq!(worst(&export(&payload)), MALICIOUS);
    assert_eq!(worst(&export(&export(&payload))), OK, "no loader looks into an export in an export");
}

#[test]
fn what_is_neither_a_zip_nor_a_pickle_says_so() {
    assert_eq!(worst(b""), corrupt(Kind::Partial));
    assert_eq!(worst(&[0; 4096]), corrupt(Kind::Header));
    assert_eq!(worst(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), corrupt(Kind::Partial));
    assert_eq!(worst(&checkpoint_of(FOUR)[..100]), corrupt(Kind::Partial));
    assert_eq!(inspect(&zip(&[("readme.txt", b"x")])).format, Format::Zip);
    assert_eq!(worst(&zip(&[("readme.txt", b"x")])), OK);
}
