//! A component's digest: what makes two components equal, wherever they are.
//!
//! BLAKE3 over its tensors in the order of their names, each by name without the component's prefix, element type, shape
//! and the BLAKE3 of its bytes. Where tensors cannot be told apart (compressed archives, constants of scripts, data beside
//! the file), and for GGUF, whose metadata its readers need, it is over the component's files as they are, all of them.

use hoist_domain::{Digest, Dtype, ModelComponent};

use crate::contents::{Contents, is_by_tensors};
use crate::probe::Details;

const TENSORS: &[u8] = b"hoist component 1\0";
const FILES: &[u8] = b"hoist files 1\0";

/// One tensor as the digest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DigestedTensor<'a> {
    /// Without the component's prefix.
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [u64],
    pub hash: [u8; 32],
}

/// The digest of a component with these tensors.
#[must_use]
pub fn digest_of_tensors(mut tensors: Vec<DigestedTensor<'_>>) -> Digest {
    tensors.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    hasher.update(TENSORS);
    hasher.update(&(tensors.len() as u64).to_le_bytes());
    for tensor in tensors {
        for text in [tensor.name, tensor.dtype.as_str()] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&(tensor.shape.len() as u64).to_le_bytes());
        for dimension in tensor.shape {
            hasher.update(&dimension.to_le_bytes());
        }
        hasher.update(&tensor.hash);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The digest of a component that is files as they are, in their order.
#[must_use]
pub fn digest_of_files<'a>(component: &str, hashes: impl IntoIterator<Item = &'a [u8; 32]>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FILES);
    hasher.update(&(component.len() as u64).to_le_bytes());
    hasher.update(component.as_bytes());
    for hash in hashes {
        hasher.update(hash);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// What a component is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makeup {
    /// These tensors, each by its part and its place there.
    Tensors(Vec<(usize, usize)>),
    /// All files of these parts, as they are.
    Files(Vec<usize>),
}

/// What a component of a model is made of: one part that cannot be had by its tensors makes it one of files. Decided from
/// headers, and the one place where it is.
#[must_use]
pub fn makeup(details: &Details, number: usize) -> Makeup {
    let owner = u32::try_from(number).ok();
    let place = details.content.components.get(number).map_or("", |component| &*component.place);
    let (mut tensors, mut parts, mut is_by_files) = (Vec::new(), Vec::new(), false);
    for (index, (part, owners)) in details.reading.parts.iter().zip(&details.component_of).enumerate() {
        let own = owners.iter().enumerate().filter(|(_, of)| Some(**of) == owner);
        let before = tensors.len();
        tensors.extend(own.map(|(tensor, _)| (index, tensor)));
        let has_any = tensors.len() > before;
        is_by_files |= has_any && !is_by_tensors(part, &details.reading);
        if has_any || (part.tensors.is_empty() && part.place == place) {
            parts.push(index);
        }
    }
    if is_by_files || tensors.is_empty() { Makeup::Files(parts) } else { Makeup::Tensors(tensors) }
}

/// The digests of all components of a model whose bytes were read.
#[must_use]
pub fn digests(details: &Details, contents: &Contents) -> Vec<(usize, Digest)> {
    let components = details.content.components.iter().enumerate();
    components
        .filter_map(|(number, component)| Some((number, one(details, contents, number, component)?)))
        .collect()
}

fn one(details: &Details, contents: &Contents, number: usize, component: &ModelComponent) -> Option<Digest> {
    match makeup(details, number) {
        Makeup::Tensors(tensors) => {
            let digested = tensors.into_iter().map(|(part, at)| {
                let tensor = details.reading.parts.get(part)?.tensors.get(at)?;
                Some(DigestedTensor {
                    name: tensor.name.strip_prefix(&*component.prefix).unwrap_or(&tensor.name),
                    dtype: tensor.dtype,
                    shape: &tensor.shape,
                    hash: contents.tensors.get(part)?.get(at)?.as_ref()?.hash,
                })
            });
            Some(digest_of_tensors(digested.collect::<Option<_>>()?))
        }
        Makeup::Files(parts) => {
            let files = parts.iter().filter_map(|part| contents.files.get(*part)).flatten();
            // All of them or none: what is left out would not count.
            let hashes: Vec<&[u8; 32]> = files.map(|file| file.blake3.as_ref()).collect::<Option<_>>()?;
            (!hashes.is_empty()).then(|| digest_of_files(&component.name, hashes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: DigestedTensor<'_> =
        DigestedTensor { name: "a", dtype: Dtype::F16, shape: &[2, 3], hash: [1; 32] };

    #[test]
    fn everything_about_a_tensor_counts_and_their_order_does_not() {
        let other = DigestedTensor { name: "b", ..ONE };
        let both = digest_of_tensors(vec![ONE, other]);
        assert_eq!(both, digest_of_tensors(vec![other, ONE]));
        for changed in [
            DigestedTensor { name: "ab", ..ONE },
            DigestedTensor { dtype: Dtype::Bf16, ..ONE },
            DigestedTensor { shape: &[3, 2], ..ONE },
            DigestedTensor { shape: &[2, 3, 1], ..ONE },
            DigestedTensor { hash: [2; 32], ..ONE },
        ] {
            assert_ne!(both, digest_of_tensors(vec![changed, other]), "{changed:?}");
        }
        assert_ne!(digest_of_tensors(vec![ONE]), both);
        // Fixed for ever: what is on disk and in people's notes is named by it.
        assert_eq!(&digest_of_tensors(vec![ONE]).to_string()[..16], "92dda81cf547f19c");
    }
}
