//! The names of a table of tensors, sorted once: what all rules look into.
//!
//! A [`Keys`] is a view of the names below one prefix, read without that prefix. Views cost nothing, so the rules for
//! a bare VAE also serve the one inside a checkpoint.

use hoist_domain::Dtype;
use hoist_formats::Tensor;

use crate::answer::Evidence;

/// What quantisers leave in place of a module's `weight`.
const WEIGHTS: [&str; 3] = [".weight", ".qweight", ".weight_packed"];

/// No published model has more blocks in one stack; a hostile table must not make the count slow.
const BLOCKS: u64 = 256;

/// The owner of the sorted names.
pub(crate) struct Index<'a> {
    entries: Vec<(&'a str, &'a Tensor)>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(tensors: &'a [Tensor]) -> Self {
        let mut entries: Vec<_> = tensors.iter().map(|tensor| (&*tensor.name, tensor)).collect();
        entries.sort_unstable_by_key(|(name, _)| *name);
        Self { entries }
    }

    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys { entries: &self.entries, strip: 0 }
    }
}

/// The names that begin with one prefix, without it.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    entries: &'a [(&'a str, &'a Tensor)],
    /// Bytes of the prefix: every name of the view begins with the same ones.
    strip: usize,
}

impl<'a> Keys<'a> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn stripped(&self, name: &'a str) -> &'a str {
        name.get(self.strip..).unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Tensor)> + use<'a> {
        let view = *self;
        self.entries.iter().map(move |(name, tensor)| (view.stripped(name), *tensor))
    }

    fn from(&self, name: &str) -> &'a [(&'a str, &'a Tensor)] {
        let start = self.entries.partition_point(|(known, _)| self.stripped(known) < name);
        self.entries.get(start..).unwrap_or_default()
    }

    /// The names that begin with `prefix`, without it.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        let tail = self.from(prefix);
        let end = tail.partition_point(|(known, _)| self.stripped(known).starts_with(prefix));
        Self { entries: tail.get(..end).unwrap_or_default(), strip: self.strip + prefix.len() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Tensor> {
        self.from(name).first().filter(|(known, _)| self.stripped(known) == name).map(|(_, tensor)| *tensor)
    }

    /// Whether any name begins so.
    pub(crate) fn any(&self, prefix: &str) -> bool {
        self.from(prefix).first().is_some_and(|(known, _)| self.stripped(known).starts_with(prefix))
    }

    /// Whether there is such a tensor, such a module with a weight, or, if it ends in a dot, anything below it.
    ///
    /// A module counts only with a weight of its own: a LoRA's `img_in.lora_A.weight` is no `img_in`.
    pub(crate) fn has(&self, name: &str) -> bool {
        if name.ends_with('.') {
            return self.any(name);
        }
        // Nearly every question is about something that is not there at all: no text is made for those.
        let Some((first, _)) = self.from(name).first() else { return false };
        let first = self.stripped(first);
        first.starts_with(name)
            && (first == name || WEIGHTS.iter().any(|end| self.get(&format!("{name}{end}")).is_some()))
    }

    /// A dimension of a tensor; none where packing makes the shape say nothing about the model.
    pub(crate) fn dim(&self, name: &str, axis: usize) -> Option<u64> {
        let tensor = self.get(name)?;
        if matches!(tensor.dtype, Dtype::U8 | Dtype::I32 | Dtype::U32 | Dtype::F4) {
            return None;
        }
        tensor.shape.get(axis).copied()
    }

    pub(crate) fn last_dim(&self, name: &str) -> Option<u64> {
        let rank = self.get(name)?.shape.len();
        self.dim(name, rank.checked_sub(1)?)
    }

    pub(crate) fn rank(&self, name: &str) -> usize {
        self.get(name).map_or(0, |tensor| tensor.shape.len())
    }

    /// How many of `{stack}0.`, `{stack}1.`, ... there are without a gap.
    pub(crate) fn blocks(&self, stack: &str) -> u64 {
        (0..BLOCKS).take_while(|at| self.any(&format!("{stack}{at}."))).count() as u64
    }

    /// A fact about a name that is there, with the name as the file spells it.
    pub(crate) fn evidence(&self, name: &str, says: impl Into<String>) -> Evidence {
        let full = self
            .from(name)
            .first()
            .filter(|(known, _)| self.stripped(known).starts_with(name))
            .map_or(name, |(known, _)| *known);
        Evidence::new("key", full, says)
    }
}
