//! The CUDA half of libtorch: found beside the half that this program is linked with, opened when a card is driven, and used for
//! computing on slabs.
//!
//! Both halves must be of one build: they are when they lie in one directory, which is where the other is looked for and nowhere
//! else. Opening it registers its kernels with the half that is there, as PyTorch itself does; so it comes before the first tensor.
#![expect(
    unsafe_code,
    reason = "a library is opened, and a tensor over foreign memory is a promise about that memory"
)]

use std::fs;
use std::path::{Path, PathBuf};

use hoist_domain::Dtype;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Device, Kind, TchError, Tensor};

use super::convert::Converter;
use super::slab::Slab;
use crate::view::kind;

/// The half that is linked.
const LINKED: &str = "libtorch_cpu.so";
/// The half that is opened.
const OPENED: &str = "libtorch_cuda.so";

/// Whether libtorch can compute on cards.
pub(crate) enum CudaHalf {
    /// It can: this many cards.
    There(i64),
    /// Nothing is wrong, it is just not installed; where it was looked for.
    Absent(PathBuf),
}

/// Opens the other half.
///
/// # Errors
/// It is there and does not fit, or cannot use the driver.
pub(crate) fn open_cuda_half() -> Result<CudaHalf, String> {
    let maps = fs::read_to_string("/proc/self/maps").map_err(|error| format!("/proc/self/maps: {error}"))?;
    let folder = folder_of(&maps, LINKED).ok_or_else(|| format!("{LINKED} is not loaded; report this"))?;
    let path = folder.join(OPENED);
    if !path.exists() {
        return Ok(CudaHalf::Absent(folder));
    }
    // SAFETY: loading runs the library's initialisers, which register kernels with the half that is loaded. It lies beside that
    // half, so it is of the same build; it is as trusted as that. No tensor has been made yet, and it is never unloaded.
    let opened = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
    let library = opened.map_err(|error| {
        format!("{} does not fit what is beside it ({error}); install PyTorch again", path.display())
    })?;
    std::mem::forget(library);
    let cards = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
    if cards == 0 {
        return Err(format!(
            "{} finds no card: NVIDIA's driver may be too old for it, see what `nvidia-smi` says its CUDA version is",
            path.display()
        ));
    }
    Ok(CudaHalf::There(cards))
}

/// Where a library was loaded from.
fn folder_of(maps: &str, library: &str) -> Option<PathBuf> {
    let mut paths = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    let path = paths.find(|path| Path::new(path).file_name().is_some_and(|name| name == library))?;
    Some(Path::new(path).parent()?.to_owned())
}

/// Converts on one card.
#[derive(Debug)]
pub(crate) struct OnCard {
    ordinal: usize,
}

impl OnCard {
    pub(crate) const fn new(ordinal: usize) -> Self {
        Self { ordinal }
    }

    /// So many elements of a slab, in one row.
    ///
    /// # Safety
    /// The tensor, and whatever is made of it, is gone and computed before the slab is; nobody else writes to this place.
    unsafe fn row(&self, slab: &Slab, at: u64, elements: u64, dtype: Dtype) -> Result<Tensor, String> {
        let kind = kind(dtype).ok_or_else(|| format!("libtorch has no {dtype}"))?;
        let bytes = elements.checked_mul(kind.elt_size_in_bytes() as u64);
        let address = bytes.and_then(|bytes| slab.at(at, bytes)).ok_or("it is not within its slab")?;
        let count = i64::try_from(elements).map_err(|error| error.to_string())?;
        let address = usize::try_from(address).map_err(|error| error.to_string())?;
        let place = std::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: the memory must hold `count` elements of `kind` on that card, aligned for them, as long as the tensor lives.
        // `slab.at` says that they are there; places are multiples of 256; the rest is the caller's word.
        let row = unsafe { Tensor::f_from_blob(place, &[count], &[], kind, Device::Cuda(self.ordinal)) };
        row.map_err(words)
    }
}

impl Converter for OnCard {
    fn convert(
        &self,
        from: (&Slab, u64, Dtype),
        to: (&Slab, u64, Dtype),
        elements: u64,
    ) -> Result<(), String> {
        // SAFETY: both tensors are gone when this returns; `convert` waits for the card before it lets go of a slab, and works on
        // one piece at a time.
        let source = unsafe { self.row(from.0, from.1, elements, from.2) }?;
        // SAFETY: as above.
        let mut target = unsafe { self.row(to.0, to.1, elements, to.2) }?;
        target.f_copy_(&source).map_err(words)
    }

    fn sum(&self, of: (&Slab, u64), count: u64, before: u64) -> Result<u64, String> {
        // SAFETY: it is read from alone, and gone when this returns; the sum is there by then, so nothing reads any more.
        let row = unsafe { self.row(of.0, of.1, count, Dtype::I64) }?;
        weighted(&row, before)
    }
}

/// The sum of words, each times twice its place and one; the first has this place. Waits for it.
fn weighted(row: &Tensor, first: u64) -> Result<u64, String> {
    let (first, count) = (i64::try_from(first), row.size1().map_err(words)?);
    let from = first.map_err(|error| error.to_string())?.wrapping_mul(2).wrapping_add(1);
    let to = from.wrapping_add(count.wrapping_mul(2));
    let weights = Tensor::f_arange_start_step(from, to, 2, (Kind::Int64, row.device())).map_err(words)?;
    let all = row.f_mul(&weights).map_err(words)?.f_sum(Kind::Int64).map_err(words)?;
    let sum = i64::try_from(&all).map_err(words)?;
    Ok(u64::from_ne_bytes(sum.to_ne_bytes()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn words(error: TchError) -> String {
    // libtorch appends its stack.
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_where_the_kernel_says() {
        let maps = "7f00-7f01 r-xp 00000000 00:00 0 \n\
                    7f02-7f03 r--p 00000000 08:01 12 /opt/a b/lib/libtorch_cpu.so\n\
                    7f04-7f05 r--p 00000000 08:01 13 /opt/a b/lib/libtorch_cpu.so.old\n";
        assert_eq!(folder_of(maps, LINKED), Some("/opt/a b/lib".into()));
        assert_eq!(folder_of(maps, OPENED), None);
    }

    #[test]
    fn a_sum_by_libtorch_is_that_of_the_bytes() {
        let bytes = hoist_worker::suite::bytes(80_000, 7);
        let words: Vec<i64> = bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect();
        let row = Tensor::from_slice(&words);
        let (head, tail) = (row.narrow(0, 0, 4_000), row.narrow(0, 4_000, 6_000));
        let both = weighted(&head, 0).unwrap().wrapping_add(weighted(&tail, 4_000).unwrap());
        assert_eq!(both, hoist_domain::Sum::of(&bytes));
        assert_eq!(weighted(&row.narrow(0, 0, 0), 0).unwrap(), 0);
    }

    #[test]
    fn the_linked_half_is_found() {
        // It is loaded for sure once a tensor is made.
        assert_eq!(Tensor::from_slice(&[1_i64]).size(), [1]);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(folder_of(&maps, LINKED).unwrap().join(LINKED).is_file());
    }
}
