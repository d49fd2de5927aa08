//! A model of each format, written byte by byte beside what every tensor of it is: no library is needed to know.

use std::path::PathBuf;

use hoist_tests::library::Library;
use hoist_tests::making;

use crate::reference::Tables;
use crate::rounding::numbers;
use crate::worker::Tensor;

/// Every type of elements, and what one of its elements takes.
const TYPES: [(&str, usize); 16] = [
    ("C64", 8),
    ("F64", 8),
    ("I64", 8),
    ("U64", 8),
    ("F32", 4),
    ("I32", 4),
    ("U32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("I16", 2),
    ("U16", 2),
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
    ("I8", 1),
    ("U8", 1),
    ("BOOL", 1),
];

/// A model, and its tensors; none where its files are kept as they are.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) tables: Option<Tables>,
}

type Named = Vec<(String, Tensor)>;

/// A safetensors file of these.
pub(crate) fn safetensors(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let begin = data.len();
        data.extend(&tensor.bytes);
        let entry = serde_json::json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// So many bytes that differ from those of any other seed. For BOOL those that a truth may be.
fn bytes(dtype: &str, length: usize, seed: u64) -> Vec<u8> {
    let mut random = hoist_tests::Random::new(seed);
    let most = if dtype == "BOOL" { 2 } else { 256 };
    (0..length).map(|_| u8::try_from(random.below(most)).unwrap()).collect()
}

fn tensor(dtype: &str, width: usize, shape: &[u64], seed: u64) -> Tensor {
    let elements = usize::try_from(shape.iter().product::<u64>()).unwrap();
    Tensor { dtype: dtype.to_owned(), shape: shape.to_vec(), bytes: bytes(dtype, elements * width, seed) }
}

/// Every type in every shape that is odd: none, one, a number that no register divides; and one that is read in pieces.
fn variety() -> Named {
    let mut made: Named = Vec::new();
    for ((dtype, width), seed) in TYPES.into_iter().zip(0..) {
        for (name, shape) in [("scalar", &[][..]), ("empty", &[0, 5]), ("odd", &[3, 5, 7])] {
            made.push((format!("{dtype}.{name}"), tensor(dtype, width, shape, seed)));
        }
    }
    made.push(("слой/🙂".to_owned(), tensor("F16", 2, &[3, 437_777], 99)));
    made
}

fn tables(of: impl IntoIterator<Item = (&'static str, Named)>) -> Option<Tables> {
    Some(of.into_iter().map(|(place, named)| (place.to_owned(), named.into_iter().collect())).collect())
}

fn floats(values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dtype: "F32".to_owned(), shape: vec![values.len() as u64], bytes }
}

/// The four floats of [`making::checkpoint`], whose sixteen bytes are ones.
fn ones() -> Named {
    vec![("w".to_owned(), Tensor { dtype: "F32".to_owned(), shape: vec![4], bytes: vec![1; 16] })]
}

/// A pickle of `{"w": a tensor of the four floats of storage 0}`.
fn pickle() -> Vec<u8> {
    let text =
        |text: &str| [b"X", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
    [
        &b"\x80\x02}"[..],
        &text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        b"K\x04NtQK\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.",
    ]
    .concat()
}

/// What `torch.save` wrote before it wrote archives: a number that says so, a version, the machine; the pickle; the names of
/// the storages, and they themselves, each after the number of its elements.
fn legacy() -> Vec<u8> {
    [
        &b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."[..],
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}X\x0d\0\0\0little_endian\x88s.",
        &pickle(),
        b"\x80\x02]X\x01\0\0\x000a.",
        &4_u64.to_le_bytes(),
        &[1; 16],
    ]
    .concat()
}

/// A program of one tensor and no code.
fn script() -> Vec<u8> {
    making::zip(&[
        ("s/data.pkl", &pickle()),
        ("s/data/0", &[1; 16]),
        ("s/code/__torch__.py", b"class M(Module):\n  training : bool\n"),
        ("s/constants.pkl", b"\x80\x02)."),
        ("s/version", b"3\n"),
    ])
}

/// Writes them all.
pub(crate) fn every_format(library: &Library) -> Vec<Made> {
    let write = |below: &str, file: &[u8]| library.write(below, file).unwrap();
    let mut made = Vec::new();
    let mut add = |below: &str, tables| made.push(Made { path: library.path(below), tables });
    write("plain.safetensors", &safetensors(&variety()));
    add("plain.safetensors", tables([("", variety())]));
    let numbers: Named = numbers().into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    write("numbers.safetensors", &safetensors(&numbers));
    add("numbers.safetensors", tables([("", numbers)]));
    write("archive.ckpt", &making::checkpoint());
    add("archive.ckpt", tables([("", ones())]));
    write("legacy.pt", &legacy());
    add("legacy.pt", tables([("", ones())]));
    for (name, file) in making::sharded() {
        write(&format!("shards/{name}"), &file);
    }
    let shard = |part: &str, value| (format!("model.{part}.weight"), floats(&[value; 4]));
    add("shards", tables([("", vec![shard("a", 1.0), shard("b", 2.0)])]));
    let index = br#"{"_class_name":"StableDiffusionPipeline","vae":["diffusers","AutoencoderKL"],
        "unet":["diffusers","UNet2DConditionModel"]}"#;
    write("pipeline/model_index.json", index);
    let part = |place: &'static str, class: &str, seed| {
        let named = vec![("conv_in.weight".to_owned(), tensor("BF16", 2, &[17, 31], seed))];
        write(&format!("pipeline/{place}/config.json"), format!(r#"{{"_class_name":"{class}"}}"#).as_bytes());
        write(&format!("pipeline/{place}/diffusion_pytorch_model.safetensors"), &safetensors(&named));
        (place, named)
    };
    add("pipeline", tables([part("unet", "UNet2DConditionModel", 50), part("vae", "AutoencoderKL", 51)]));
    write("small.gguf", &making::gguf());
    add("small.gguf", None);
    write("script.pt", &script());
    add("script.pt", tables([("", ones())]));
    write("graph/model.onnx", &making::onnx("weights.data"));
    write("graph/weights.data", &bytes("U8", 16, 60));
    add("graph/model.onnx", None);
    made
}
