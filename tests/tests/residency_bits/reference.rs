//! The reference libraries, in a process of their own: `reference.py`, beside this file.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hoist_wire::v1;
use serde::Deserialize;

use crate::worker::Tensor;

/// Tensors of a model: by the folder that their file is in, and by their name there.
pub(crate) type Tables = BTreeMap<String, BTreeMap<String, Tensor>>;

/// A process that has loaded them once.
pub(crate) struct Libraries {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    bytes: tempfile::NamedTempFile,
}

impl Drop for Libraries {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A tensor of an answer.
#[derive(Deserialize)]
struct Known {
    place: String,
    name: String,
    dtype: String,
    shape: Vec<u64>,
    offset: usize,
    length: usize,
}

impl Libraries {
    /// Those of the environment that made the fixtures.
    pub(crate) fn start(fixtures: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/residency_bits/reference.py");
        let mut process = Command::new(fixtures.join("venv/bin/python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make fixtures` makes the environment of the reference libraries");
        let asks = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, asks, answers, bytes: tempfile::NamedTempFile::new().unwrap() }
    }

    /// Everything that they read of a model; converted by torch, if that is asked for.
    pub(crate) fn read(&mut self, model: &Path, dtype: &str) -> Tables {
        let mut ask = serde_json::json!({"path": model, "into": self.bytes.path()});
        if !dtype.is_empty() {
            ask["dtype"] = dtype.into();
        }
        writeln!(self.asks, "{ask}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let known: Vec<Known> =
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("nothing of {}", model.display()));
        let bytes = std::fs::read(self.bytes.path()).unwrap();
        let mut tables = Tables::new();
        for Known { place, name, dtype, shape, offset, length } in known {
            let tensor = Tensor { dtype, shape, bytes: bytes[offset..offset + length].to_vec() };
            let table = tables.entry(place).or_default();
            assert!(table.insert(name, tensor).is_none(), "a name occurs twice in {}", model.display());
        }
        tables
    }
}

/// What of a model's tensors is one component, under the names that they have in RAM: by what the catalog says of its
/// components, the place and the prefix of each. What nobody's prefix claims is that of the one without.
pub(crate) fn of_component(
    tables: &Tables,
    components: &[v1::ModelComponent],
    number: usize,
) -> BTreeMap<String, Tensor> {
    let component = &components[number];
    let claims = |name: &str| {
        let here = components.iter().filter(|other| other.place == component.place);
        let longest =
            here.filter(|other| name.starts_with(&other.prefix)).max_by_key(|other| other.prefix.len());
        longest.is_some_and(|longest| longest.name == component.name)
    };
    let table = tables.get(&component.place).into_iter().flatten();
    let mine = table.filter(|(name, _)| claims(name));
    mine.map(|(name, tensor)| (name[component.prefix.len()..].to_owned(), tensor.clone())).collect()
}
