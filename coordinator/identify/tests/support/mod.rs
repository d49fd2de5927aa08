//! Models from text: what the cases and the properties are made of.

use std::collections::BTreeMap;

use hoist_domain::{Dtype, ModelFormat};
use hoist_formats::{Place, Tensor};
use hoist_identify::{Identification, Part, Subject, identify};

/// One model as its text describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub path: String,
    pub format: Option<ModelFormat>,
    pub tensors: Vec<Tensor>,
    pub metadata: BTreeMap<String, String>,
    pub configs: BTreeMap<String, String>,
}

impl Model {
    pub(crate) fn identify(&self) -> Identification {
        let part = Part {
            place: "",
            file: "model.safetensors",
            format: self.format.unwrap_or(ModelFormat::Safetensors),
            tensors: &self.tensors,
            metadata: &self.metadata,
        };
        let configs = self.configs.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        identify(&Subject { path: &self.path, parts: vec![part], configs })
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[u64]) {
        let (name, dtype) = name.strip_prefix("u8:").map_or((name, Dtype::F16), |name| (name, Dtype::U8));
        self.tensors.push(Tensor { name: name.into(), dtype, shape: shape.into(), place: Place::Unmapped });
    }
}

/// The cases of both texts: name, expectation, model.
pub(crate) fn cases() -> Vec<(String, String, Model)> {
    let texts = [include_str!("../cases.txt"), include_str!("../cases-alike.txt")];
    texts.iter().flat_map(|text| text.split("\n\n")).filter_map(case).collect()
}

fn case(block: &str) -> Option<(String, String, Model)> {
    let mut model = Model::default();
    let (mut name, mut expected) = (String::new(), None);
    for line in block.lines() {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "#" => name = rest.to_owned(),
            "=" => expected = Some(rest.to_owned()),
            "@" => model.path = rest.to_owned(),
            "%" => model.format = Some(rest.parse().expect("cases are well-formed")),
            "!" => {
                let (key, value) = rest.split_once('=').expect("cases are well-formed");
                model.metadata.insert(key.into(), value.into());
            }
            "+" => {
                let (path, json) = rest.split_once(' ').expect("cases are well-formed");
                model.configs.insert(path.into(), json.into());
            }
            "" => {}
            tensor => {
                let shape: Vec<u64> = rest
                    .split_whitespace()
                    .map(|dimension| dimension.parse().expect("cases are well-formed"))
                    .collect();
                for tensor in counted(tensor) {
                    model.tensor(&tensor, &shape);
                }
            }
        }
    }
    Some((name, expected?, model))
}

fn counted(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let (range, after) = rest.split_once('}').expect("cases are well-formed");
    let (first, last) = range.split_once("..").expect("cases are well-formed");
    let numbers = first.parse::<u64>().expect("cases are well-formed")
        ..=last.parse::<u64>().expect("cases are well-formed");
    numbers.map(|number| format!("{before}{number}{after}")).collect()
}
