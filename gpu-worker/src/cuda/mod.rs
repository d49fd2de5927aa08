//! CUDA: a card's memory behind the same trait as the machine's own.
//!
//! ```text
//!  device ── what a worker asks of a card: unload, read, share, account
//!    ├─ loading ── how a component gets there                         unsafe: what is registered stays so
//!    ├─ convert ── as another type, on the card, by torch ── libtorch's other half      unsafe: tensors over slabs
//!    ├─ bus ── the way there, as the kernel knows it
//!    ├─ health ── what the driver's management library says of it
//!    ├─ pages ── segments that are registered                         unsafe: pages stay mapped
//!    ├─ copy ── segment to slab: pinned ring, or registered pages     unsafe: bytes stay until they have arrived
//!    │    ├─ places ── where tensors lie; pure
//!    │    └─ lanes ── streams, events, pinned and registered memory   unsafe: the driver's
//!    ├─ slab ── a component's memory, whole and exportable            unsafe: the driver's
//!    └─ context ── one card on one thread                             unsafe: the driver's
//!         └─ driver ── the library, found at run time; answers in words
//!              └─ abi ── what of it is called, compared with the vendor's header by a test
//! ```
//! Nothing here is linked: a machine without a card runs the same program, and is told what is missing.

mod abi;
mod bus;
mod context;
mod convert;
mod copy;
mod device;
mod driver;
#[cfg(test)]
mod header;
mod health;
mod lanes;
mod loading;
mod pages;
mod places;
mod slab;
#[cfg(test)]
mod standin;
#[cfg(test)]
mod tests;
mod torch;

pub(crate) use convert::Converter;
pub(crate) use device::{CopyBy, Cuda, How};
pub(crate) use driver::Driver;
pub(crate) use driver::LIBRARY as DRIVER;
pub(crate) use health::LIBRARY as MANAGEMENT;
pub(crate) use torch::{CudaHalf, OnCard, open_cuda_half};
