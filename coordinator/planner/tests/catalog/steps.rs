//! What happens in a history, and the contents that a look may find.

use std::path::Path;

use hoist_domain::{
    BaseModel, Bytes, FileIdentity, ModelComponent, ModelContent, ModelFile, ModelFormat, ModelPath,
    ModelType, Verdict,
};
use proptest::prelude::*;

/// Folders and files whose order by bytes is not their order by components.
pub(crate) const PATHS: [&str; 7] = ["/m", "/m/a", "/m/a/b", "/m/a.b", "/m/a/b/c", "/m/a b", "/n"];

/// What a look finds in a file. Small numbers: two of them are often the same file, or the same bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) path: usize,
    inode: u64,
    /// Changes size and time of writing: other bytes.
    written: i64,
    /// Of the entry only, as a rename or a chmod does.
    touched: i64,
    /// Another configuration beside the same weights.
    is_split: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Sight {
    Seen {
        look: Look,
        moved_from: Option<(u8, bool)>,
    },
    SeenAgain(u8),
    /// A model's file, where it was not before.
    Moved {
        id: u8,
        path: usize,
    },
    Gone {
        id: u8,
        path: Option<usize>,
    },
    Overwritten(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Observe(Vec<Sight>),
    Edit { id: u8, etag: Option<u64>, alias: Option<u8>, text: u8 },
    Delete { id: u8, etag: Option<u64> },
    Examine { id: u8, of: Option<Look>, digests: Vec<(usize, u8)>, verdict: Option<bool> },
}

fn look() -> impl Strategy<Value = Look> {
    (0..PATHS.len(), 0..4_u64, 0..2_i64, 0..2_i64, prop::bool::weighted(0.2)).prop_map(
        |(path, inode, written, touched, is_split)| Look { path, inode, written, touched, is_split },
    )
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![
        6 => (look(), prop::option::of((any::<u8>(), prop::bool::weighted(0.8))))
            .prop_map(|(look, moved_from)| Sight::Seen { look, moved_from }),
        2 => any::<u8>().prop_map(Sight::SeenAgain),
        2 => (any::<u8>(), 0..PATHS.len()).prop_map(|(id, path)| Sight::Moved { id, path }),
        3 => (any::<u8>(), prop::option::weighted(0.2, 0..PATHS.len()))
            .prop_map(|(id, path)| Sight::Gone { id, path }),
        1 => any::<u8>().prop_map(Sight::Overwritten),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(sight(), 1..4).prop_map(Step::Observe),
        3 => (any::<u8>(), prop::option::of(0..3_u64), prop::option::of(0..3_u8), 0..3_u8)
            .prop_map(|(id, etag, alias, text)| Step::Edit { id, etag, alias, text }),
        1 => (any::<u8>(), prop::option::of(0..3_u64)).prop_map(|(id, etag)| Step::Delete { id, etag }),
        3 => (
            any::<u8>(),
            prop::option::weighted(0.3, look()),
            prop::collection::vec((0..3_usize, 0..3_u8), 0..3),
            prop::option::of(any::<bool>()),
        )
            .prop_map(|(id, of, digests, verdict)| Step::Examine { id, of, digests, verdict }),
    ]
}

fn component(name: &str, bytes: u64) -> ModelComponent {
    ModelComponent {
        name: name.into(),
        component_type: ModelType::Unet,
        base: BaseModel::unknown(),
        place: "".into(),
        prefix: "".into(),
        tensors: 1,
        parameters: bytes,
        bytes: Bytes(bytes),
        digest: None,
    }
}

pub(crate) fn content(look: Look) -> ModelContent {
    let Look { inode, written, touched, is_split, .. } = look;
    let size = 100 + written.unsigned_abs();
    let names: &[&str] = if is_split { &["vae", "unet"] } else { &["unet"] };
    ModelContent {
        format: ModelFormat::Safetensors,
        model_type: ModelType::Unet,
        base: BaseModel::unknown(),
        variant: "".into(),
        candidates: Box::default(),
        confidence_percent: 90,
        prediction: "".into(),
        resolution: 0,
        title: "".into(),
        tensors: 1,
        parameters: size,
        dtypes: Box::default(),
        bytes: Bytes(size),
        components: names.iter().map(|name| component(name, size)).collect(),
        files: [ModelFile {
            path: ModelPath::new(Path::new("")),
            identity: FileIdentity { device: 1, inode, size, modified_ns: written, changed_ns: touched },
            is_weights: true,
        }]
        .into(),
        verdict: Verdict::Ok,
        findings: Box::default(),
        is_touched: false,
        reader: 1,
    }
}
