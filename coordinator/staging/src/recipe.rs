//! What a component of a model becomes in RAM, and what of which files it is made of. Pure but for [`open`].
//!
//! Tensors become a safetensors file in the canonical layout; what is made of files keeps them, under names that are the
//! same wherever the model is: readers find the parts of a set and the data of a graph by name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use hoist_catalog::{
    Details, DigestedTensor, Makeup, PartReading, Roots, Unit, digest_of_files, digest_of_tensors, makeup,
};
use hoist_domain::{Bytes, Digest, FileIdentity, ModelFormat};
use hoist_formats::{Place, Tensor};
use hoist_segment::{Layout, LayoutError, PAGE, RawFile, TensorShape};

use crate::{Item, Source};

/// One component, before anything is read.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its place among the model's.
    pub component: usize,
    name: Box<str>,
    target: Target,
    ingredients: Vec<Ingredient>,
}

/// What it becomes.
#[derive(Clone, Debug)]
pub enum Target {
    Tensors(Layout),
    Files(Vec<RawFile>),
}

/// What goes to one place of the target: a tensor, or a file.
#[derive(Clone, Debug)]
struct Ingredient {
    /// Below the unit's path.
    source: PathBuf,
    identity: FileIdentity,
    tensor: Option<Tensor>,
    offset: u64,
    length: u64,
    file: usize,
    at: u64,
}

/// Why a component cannot be in RAM.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("the model has no such component")]
    Missing,
    #[error("none of its bytes are in the model's files")]
    Empty,
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What its files refer to cannot be put beside each other.
    #[error("`{0}` lies in another folder: such components stay on the disk")]
    Elsewhere(String),
}

impl Recipe {
    /// # Errors
    /// When the component cannot be in RAM.
    pub fn of(details: &Details, component: usize) -> Result<Self, RecipeError> {
        let found = details.content.components.get(component).ok_or(RecipeError::Missing)?;
        let (target, ingredients) = match makeup(details, component) {
            Makeup::Tensors(tensors) => by_tensors(details, &found.prefix, &tensors)?,
            Makeup::Files(parts) => by_files(details, &parts)?,
        };
        Ok(Self { component, name: found.name.clone(), target, ingredients })
    }

    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// What it will take of the memory, in whole pages.
    #[must_use]
    pub fn held_bytes(&self) -> Bytes {
        Bytes(match &self.target {
            Target::Tensors(layout) => layout.length().next_multiple_of(PAGE),
            Target::Files(files) => files.iter().map(|file| file.length.next_multiple_of(PAGE)).sum(),
        })
    }

    /// What it takes of the disk.
    #[must_use]
    pub fn read_bytes(&self) -> Bytes {
        Bytes(self.ingredients.iter().map(|one| one.length).fold(0, u64::saturating_add))
    }

    /// The digest of the content, by the hashes of the items that [`open`] gave for it, in their order.
    #[must_use]
    pub fn digest(&self, hashes: &[[u8; 32]]) -> Digest {
        match &self.target {
            Target::Files(_) => digest_of_files(&self.name, hashes),
            Target::Tensors(layout) => {
                let tensors = layout.tensors().iter().zip(hashes);
                let digested = tensors.map(|(tensor, hash)| DigestedTensor {
                    name: &tensor.name,
                    dtype: tensor.dtype,
                    shape: &tensor.shape,
                    hash: *hash,
                });
                digest_of_tensors(digested.collect())
            }
        }
    }
}

/// Opens the files of some recipes, once each, and says what of them goes where: the items of the first recipe first.
///
/// # Errors
/// The path and the file system's error; ESTALE when a file is not the one that was described.
pub fn open(
    recipes: &[Recipe],
    roots: &Roots,
    unit: &Unit,
) -> Result<(Vec<Source>, Vec<Item>), (PathBuf, io::Error)> {
    let mut numbers: BTreeMap<&Path, usize> = BTreeMap::new();
    let mut sources = Vec::new();
    let mut items = Vec::new();
    for (target, recipe) in recipes.iter().enumerate() {
        for one in &recipe.ingredients {
            let source = match numbers.get(&*one.source) {
                Some(number) => *number,
                None => {
                    let path = unit.path_of(&one.source);
                    let opened = roots.open_file(&path).map_err(|error| (path.clone(), error))?;
                    if opened.1 != one.identity {
                        return Err((path, rustix::io::Errno::STALE.into()));
                    }
                    sources.push(Source::new(path, opened.0, opened.1));
                    numbers.insert(&one.source, sources.len() - 1);
                    sources.len() - 1
                }
            };
            items.push(Item {
                source,
                offset: one.offset,
                length: one.length,
                target,
                file: one.file,
                at: one.at,
                view: one.tensor.clone().map(Box::new),
            });
        }
    }
    Ok((sources, items))
}

fn by_tensors(
    details: &Details,
    prefix: &str,
    tensors: &[(usize, usize)],
) -> Result<(Target, Vec<Ingredient>), RecipeError> {
    let stripped =
        |tensor: &Tensor| -> Box<str> { tensor.name.strip_prefix(prefix).unwrap_or(&tensor.name).into() };
    let mut found = BTreeMap::new();
    for (part, at) in tensors {
        let part = details.reading.parts.get(*part).ok_or(RecipeError::Missing)?;
        let tensor = part.tensors.get(*at).ok_or(RecipeError::Missing)?;
        let file = part.file_of.get(*at).and_then(|file| part.files.get(usize::try_from(*file).ok()?));
        let file = file.ok_or(RecipeError::Missing)?;
        if found.insert(stripped(tensor), (tensor, file)).is_some() {
            return Err(LayoutError::Twice(stripped(tensor)).into());
        }
    }
    let shapes = found.iter().map(|(name, (tensor, _))| TensorShape {
        name: name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
    });
    let layout = Layout::of(shapes)?;
    let ingredients = layout.tensors().iter().map(|placed| {
        let (tensor, file) = found.get(&placed.name).ok_or(RecipeError::Missing)?;
        let (offset, view) = match tensor.place {
            Place::Extent { offset, length } if length == placed.length => (offset, None),
            Place::Strided { .. } => (0, Some((*tensor).clone())),
            _ => return Err(RecipeError::Missing),
        };
        Ok(Ingredient {
            source: (*file).clone(),
            identity: identity_of(details, file).ok_or(RecipeError::Missing)?,
            tensor: view,
            offset,
            length: placed.length,
            file: 0,
            at: placed.offset,
        })
    });
    let ingredients = ingredients.collect::<Result<_, RecipeError>>()?;
    Ok((Target::Tensors(layout), ingredients))
}

fn by_files(details: &Details, parts: &[usize]) -> Result<(Target, Vec<Ingredient>), RecipeError> {
    let mut files = Vec::new();
    let mut ingredients = Vec::new();
    let parts: Vec<&PartReading> = parts.iter().filter_map(|part| details.reading.parts.get(*part)).collect();
    for (number, part) in parts.iter().enumerate() {
        for (source, name) in named(part, number, parts.len())? {
            let identity = identity_of(details, &source).ok_or(RecipeError::Missing)?;
            ingredients.push(Ingredient {
                source,
                identity,
                tensor: None,
                offset: 0,
                length: identity.size,
                file: files.len(),
                at: 0,
            });
            files.push(RawFile { name: name.into(), length: identity.size });
        }
    }
    if files.is_empty() { Err(RecipeError::Empty) } else { Ok((Target::Files(files), ingredients)) }
}

/// The files of a part in the order of its digest, and what they are called in RAM.
fn named(part: &PartReading, number: usize, parts: usize) -> Result<Vec<(PathBuf, String)>, RecipeError> {
    let extension = match part.format {
        ModelFormat::Gguf => "gguf",
        ModelFormat::Onnx => "onnx",
        ModelFormat::Safetensors => "safetensors",
        _ => "pt",
    };
    let stem = if parts > 1 { format!("model-{}", number + 1) } else { "model".to_owned() };
    let count = part.files.len();
    let name = |at: usize| match count {
        1 => format!("{stem}.{extension}"),
        _ => format!("{stem}-{:05}-of-{count:05}.{extension}", at + 1),
    };
    let mut named: Vec<(PathBuf, String)> =
        part.files.iter().enumerate().map(|(at, file)| (file.clone(), name(at))).collect();
    let folder = part.files.first().and_then(|file| file.parent()).unwrap_or(Path::new(""));
    for beside in part.tensors.iter().filter_map(hoist_formats::beside).collect::<BTreeSet<_>>() {
        // The graph refers to it by this name.
        if beside.contains('/') {
            return Err(RecipeError::Elsewhere(beside));
        }
        named.push((folder.join(&beside), beside));
    }
    Ok(named)
}

fn identity_of(details: &Details, file: &Path) -> Option<FileIdentity> {
    details.reading.files.iter().find(|known| known.path == *file).map(|known| known.identity)
}
