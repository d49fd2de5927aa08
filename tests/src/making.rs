//! Builds the smallest model files that show a rule, byte by byte: nothing of Hoist's own readers or writers.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// A safetensors file of these tensors of F32, each by its name and its values, with this metadata.
#[must_use]
pub fn safetensors(tensors: &[(&str, Vec<f32>)], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let pairs = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        header.insert("__metadata__".to_owned(), serde_json::Value::Object(pairs));
    }
    let mut data = Vec::new();
    for (name, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        header.insert(
            (*name).to_owned(),
            serde_json::json!({"dtype": "F32", "shape": [values.len()], "data_offsets": [begin, data.len()]}),
        );
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// A safetensors file of these tensors of F16, each by its name and its shape; all values are zero.
#[must_use]
pub fn shaped(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<usize>() * 2;
        header.insert(
            (*name).to_owned(),
            serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}),
        );
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; end]].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap_or_default());
    bytes
}

fn number(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn message(field: usize, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

/// An ONNX graph with one initializer of four floats, whose sixteen bytes lie in another file.
#[must_use]
pub fn onnx(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        message(13, &[message(1, key.as_bytes()), message(2, value.as_bytes())].concat())
    };
    let place = [entry("location", location), entry("length", "16"), number(14, 1)].concat();
    let tensor = [number(1, 4), number(2, 1), message(8, b"w"), place].concat();
    [number(1, 8), message(7, &message(5, &tensor)), message(8, &number(2, 17))].concat()
}

/// One tensor of four values that begin with this one: files of different values have different bytes.
#[must_use]
pub fn four(first: f32) -> Vec<u8> {
    safetensors(&[("w", vec![first, 1.0, 2.0, 3.0])], &[])
}

/// One tensor of so many mebibytes.
#[must_use]
pub fn large(mebibytes: usize) -> Vec<u8> {
    safetensors(&[("w", vec![1.0; mebibytes << 18])], &[])
}

/// One tensor of so many mebibytes, whose every element is this.
#[must_use]
pub fn uniform(value: f32, mebibytes: usize) -> Vec<u8> {
    safetensors(&[("weight", vec![value; mebibytes << 18])], &[])
}

/// A GGUF file of one tensor of four floats.
#[must_use]
pub fn gguf() -> Vec<u8> {
    let counted = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut file = b"GGUF".to_vec();
    // The version; a tensor and a pair of metadata, which is a text.
    file.extend([&3_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat());
    file.extend([counted("general.architecture"), 8_u32.to_le_bytes().to_vec(), counted("llama")].concat());
    // One dimension of four, F32, at the beginning of the data.
    file.extend([counted("blk.0.attn_q.weight"), 1_u32.to_le_bytes().to_vec()].concat());
    file.extend([&4_u64.to_le_bytes()[..], &0_u32.to_le_bytes(), &0_u64.to_le_bytes()].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend([1.0_f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat());
    file
}

/// A LoRA of two layers, as a well-known trainer names its tensors.
#[must_use]
pub fn lora() -> Vec<u8> {
    let layers =
        ["down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "mid_block_attentions_0_proj_in"];
    let names: Vec<String> = layers
        .iter()
        .flat_map(|layer| {
            ["alpha", "lora_down.weight", "lora_up.weight"].map(|part| format!("lora_unet_{layer}.{part}"))
        })
        .collect();
    let tensors: Vec<(&str, Vec<f32>)> = names.iter().map(|name| (name.as_str(), vec![1.0; 8])).collect();
    safetensors(&tensors, &[("modelspec.title", "A style"), ("ss_network_dim", "8")])
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &u32::try_from(text.len()).unwrap_or_default().to_le_bytes(), text.as_bytes()].concat()
}

/// A protocol 2 pickle of `{"w": tensor of four floats in storage 0}`, after whatever else it does.
fn pickle_of_four(first: &[u8]) -> Vec<u8> {
    [
        b"\x80\x02",
        first,
        b"}",
        &text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        b"K\x04tQK\x00(K\x04t(K\x01t\x89ccollections\nOrderedDict\n)RtRs.",
    ]
    .concat()
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or_default().to_le_bytes()
}

fn long(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or_default().to_le_bytes()
}

/// The records of a stored entry: before its bytes, and in the directory.
fn records(name: &str, crc: u32, bytes: usize, offset: usize) -> [Vec<u8>; 2] {
    let shared = [
        &20_u16.to_le_bytes()[..],
        &[0; 8],
        &crc.to_le_bytes(),
        &long(bytes),
        &long(bytes),
        &short(name.len()),
        &short(0),
    ]
    .concat();
    [
        [b"PK\x03\x04", &shared[..], name.as_bytes()].concat(),
        [b"PK\x01\x02\x14\0", &shared[..], &[0; 10], &long(offset), name.as_bytes()].concat(),
    ]
}

fn directory(records: &[Vec<u8>], offset: usize) -> Vec<u8> {
    let count = short(records.len());
    let records = records.concat();
    let (bytes, offset) = (long(records.len()), long(offset));
    [&records[..], b"PK\x05\x06\0\0\0\0", &count, &count, &bytes, &offset, &[0, 0]].concat()
}

/// An archive of stored entries.
#[must_use]
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut central) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let [before, listed] = records(name, crc32fast::hash(bytes), bytes.len(), file.len());
        file.extend([&before[..], bytes].concat());
        central.push(listed);
    }
    let offset = file.len();
    file.extend(directory(&central, offset));
    file
}

/// A checkpoint of four floats and of a storage with a wrong checksum that is so large and all hole.
///
/// # Errors
/// The file system's.
pub fn write_checkpoint_with_hole(path: &Path, hole: u32) -> std::io::Result<()> {
    let pickle = pickle_of_four(b"");
    let (mut file, mut central) = (Vec::new(), Vec::new());
    for (name, bytes) in [("a/data.pkl", &pickle[..]), ("a/version", b"3\n"), ("a/data/0", &[1; 16])] {
        let [before, listed] = records(name, crc32fast::hash(bytes), bytes.len(), file.len());
        file.extend([&before[..], bytes].concat());
        central.push(listed);
    }
    let hole = hole as usize;
    let [before, listed] = records("a/data/1", 1, hole, file.len());
    file.extend(before);
    central.push(listed);
    let offset = file.len() + hole;
    std::fs::write(path, file)?;
    let mut file = std::fs::File::options().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset as u64))?;
    file.write_all(&directory(&central, offset))
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    zip(&[("a/data.pkl", pickle), ("a/version", b"3\n"), ("a/data/0", &[1; 16])])
}

/// A checkpoint of four floats, as `torch.save` writes it.
#[must_use]
pub fn checkpoint() -> Vec<u8> {
    archive(&pickle_of_four(b""))
}

/// The same, whose pickle makes a file when it is run.
#[must_use]
pub fn hostile_checkpoint(canary: &Path) -> Vec<u8> {
    let command = text(&format!("touch '{}'", canary.display()));
    archive(&pickle_of_four(&[b"cposix\nsystem\n", &command[..], b"\x85R0"].concat()))
}

/// The names and bytes of a model in two shards with an index.
#[must_use]
pub fn sharded() -> Vec<(&'static str, Vec<u8>)> {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = serde_json::json!({
        "metadata": {"total_size": 32},
        "weight_map": {"model.a.weight": names[0], "model.b.weight": names[1]},
    });
    vec![
        ("config.json", br#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#.to_vec()),
        ("model.safetensors.index.json", index.to_string().into_bytes()),
        (names[0], safetensors(&[("model.a.weight", vec![1.0; 4])], &[])),
        (names[1], safetensors(&[("model.b.weight", vec![2.0; 4])], &[])),
    ]
}
