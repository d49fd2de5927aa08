//! A machine for pickles that knows tensors and nothing else.
//!
//! Called by [`crate::torch`] with the bytes of one stream. It follows the opcodes of protocols 0 to 5 and builds, in
//! an arena of its own, plain values, containers, storages and tensors. Whatever a stream wants to import is recorded
//! by name; a short list of names has a meaning here, every other one makes an inert object that only remembers what
//! it was made of. It must never import, call, open, or decode anything on a stream's behalf.
//!
//! The stream is an adversary's program, so: every opcode takes constant time but for what it pops; nothing recurses;
//! values are indices into the arena; and the arena refuses to outgrow [`crate::limits::PICKLE_MEMORY_FACTOR`] times
//! the stream. A stream that breaks a rule ends there, keeping what was known, and the rest is swept for imports: what
//! is refused here another reader may well run.

mod call;
mod globals;
mod heap;
mod input;
mod known;
mod machine;
mod sweep;
mod text;
mod walk;

pub(crate) use globals::{Global, Standing};
pub(crate) use heap::{Heap, RawStorage, RawTensor, StorageClass, Value};
pub(crate) use known::dtype_named;
pub(crate) use machine::{Pickle, run};
pub(crate) use walk::walk;

/// Which archive a stream comes from decides about a few names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `torch.save` and plain pickles.
    Python,
    /// A TorchScript archive: its own classes are code beside the pickle, and part of it.
    Script,
}

/// Why a stream ended before its STOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It needs bytes that are not there.
    Ends,
    /// It breaks this rule.
    Breaks(&'static str),
}

type Step<T = ()> = std::result::Result<T, Fault>;
