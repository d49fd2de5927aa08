//! A component's digest: what makes two components equal, wherever they are.
//!
//! BLAKE3 over its tensors in the order of their names, each by name without the component's prefix, element type, shape
//! and the BLAKE3 of its bytes. Where tensors cannot be told apart (compressed archives, constants of scripts, data beside
//! the file), and for GGUF, whose metadata its readers need, it is over the component's files as they are, all of them.

use hoist_domain::{Digest, Dtype, ModelComponent};

use crate::contents::Contents;
use crate::probe::Details;

const TENSORS: &[u8] = b"hoist component 1\0";
const FILES: &[u8] = b"hoist files 1\0";

/// One tensor as the digest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DigestedTensor<'a> {
    /// Without the component's prefix.
    pub(crate) name: &'a str,
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [u64],
    pub(crate) hash: [u8; 32],
}

/// The digest of a component with these tensors.
pub(crate) fn of_tensors(mut tensors: Vec<DigestedTensor<'_>>) -> Digest {
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

fn of_files<'a>(name: &str, hashes: impl Iterator<Item = &'a [u8; 32]>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FILES);
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    for hash in hashes {
        hasher.update(hash);
    }
    Digest(*hasher.finalize().as_bytes())
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
    let mut tensors = Vec::new();
    let mut parts = Vec::new();
    let mut is_opaque = false;
    let owner = u32::try_from(number).ok()?;
    for (index, (part, owners)) in details.reading.parts.iter().zip(&details.component_of).enumerate() {
        let facts = contents.tensors.get(index)?;
        let as_files = contents.files.get(index)?.iter().any(|file| file.blake3.is_some());
        let mut has_any = false;
        for ((tensor, of), facts) in part.tensors.iter().zip(owners).zip(facts) {
            if *of != owner {
                continue;
            }
            has_any = true;
            match facts {
                Some(facts) => tensors.push(DigestedTensor {
                    name: tensor.name.strip_prefix(&*component.prefix).unwrap_or(&tensor.name),
                    dtype: tensor.dtype,
                    shape: &tensor.shape,
                    hash: facts.hash,
                }),
                None => is_opaque = true,
            }
        }
        is_opaque |= has_any && as_files;
        if has_any || (part.tensors.is_empty() && part.place == *component.place) {
            parts.push(index);
        }
    }
    if is_opaque || tensors.is_empty() {
        let files = parts.iter().filter_map(|part| contents.files.get(*part)).flatten();
        // All of them or none: what is left out would not count.
        let hashes: Vec<&[u8; 32]> = files.map(|file| file.blake3.as_ref()).collect::<Option<_>>()?;
        return (!hashes.is_empty()).then(|| of_files(&component.name, hashes.into_iter()));
    }
    Some(of_tensors(tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: DigestedTensor<'_> =
        DigestedTensor { name: "a", dtype: Dtype::F16, shape: &[2, 3], hash: [1; 32] };

    #[test]
    fn everything_about_a_tensor_counts_and_their_order_does_not() {
        let other = DigestedTensor { name: "b", ..ONE };
        let both = of_tensors(vec![ONE, other]);
        assert_eq!(both, of_tensors(vec![other, ONE]));
        for changed in [
            DigestedTensor { name: "ab", ..ONE },
            DigestedTensor { dtype: Dtype::Bf16, ..ONE },
            DigestedTensor { shape: &[3, 2], ..ONE },
            DigestedTensor { shape: &[2, 3, 1], ..ONE },
            DigestedTensor { hash: [2; 32], ..ONE },
        ] {
            assert_ne!(both, of_tensors(vec![changed, other]), "{changed:?}");
        }
        assert_ne!(of_tensors(vec![ONE]), both);
        // Fixed for ever: what is on disk and in people's notes is named by it.
        assert_eq!(&of_tensors(vec![ONE]).to_string()[..16], "92dda81cf547f19c");
    }
}
