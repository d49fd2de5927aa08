//! A piece of the device's memory in one row: what one component lies in.
//!
//! From the driver's virtual memory management, so that it can be handed to another process by a file descriptor and comes
//! back to the last byte when it is dropped: nothing is kept for later as an allocator would.
//!
//! ```text
//!  created ─► reserved ─► mapped ─► accessible: a Slab ─► unmapped ─► address free ─► released
//! ```
//! What fails halfway is undone from there backwards.
#![expect(unsafe_code, reason = "the driver is a C library")]

use std::ffi::c_int;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::rc::Rc;

use hoist_domain::Bytes;

use super::abi::{Access, Address, Allocation, AllocationProperties};
use super::context::Context;
use super::driver::{Fault, told};

/// Memory of the device, ours alone until it is exported.
///
/// Invariant: `size` bytes from `address` are mapped and may be read and written by this device. `0 < size`, a multiple of the
/// granule.
#[derive(Debug)]
pub(crate) struct Slab {
    mapped: Mapped,
}

impl Slab {
    /// Takes at least so much, rounded up to what memory is given in.
    ///
    /// # Errors
    /// The driver's; that there is not so much is [`Fault::is_memory`]. Nothing is kept then.
    pub(crate) fn take(context: &Rc<Context>, bytes: Bytes) -> Result<Self, Fault> {
        let size = usize::try_from(size_for(bytes, context.card().granule).0).unwrap_or(usize::MAX);
        let physical = Physical::create(context, size)?;
        let reserved = Reserved::of(context, size)?;
        let mapped = Mapped::of(reserved, physical)?;
        let access = Access { location: context.location(), flags: Access::READ_WRITE };
        // SAFETY: reads one structure, ours; the range is the whole of what is mapped.
        let code = unsafe { (context.interface().set_access)(mapped.address(), size, &raw const access, 1) };
        context.check("cuMemSetAccess", code)?;
        Ok(Self { mapped })
    }

    pub(crate) fn size(&self) -> Bytes {
        Bytes(self.mapped.reserved.size as u64)
    }

    /// A descriptor by which another process can have this memory in its own. As long as one has it, the memory is not free.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn export(&self) -> Result<OwnedFd, Fault> {
        let (context, handle) = (self.context(), self.mapped.physical.handle);
        let mut descriptor: c_int = -1;
        let place = (&raw mut descriptor).cast();
        let kind = AllocationProperties::FILE_DESCRIPTOR;
        // SAFETY: for this kind of handle a descriptor, an int, is written to the place, which is one. The memory was created to
        // be exported so (`Context::properties`).
        let code = unsafe { (context.interface().export)(place, handle, kind, 0) };
        context.check("cuMemExportToShareableHandle", code)?;
        // SAFETY: it was just made for this call; nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }

    pub(crate) fn context(&self) -> &Rc<Context> {
        &self.mapped.reserved.context
    }

    /// The address of a byte, of which `length` more are in the slab. None: they are not.
    pub(super) fn at(&self, offset: u64, length: u64) -> Option<Address> {
        let end = offset.checked_add(length)?;
        (end <= self.size().0).then(|| self.mapped.address() + offset)
    }
}

/// What a slab of so many bytes takes.
pub(crate) fn size_for(bytes: Bytes, granule: Bytes) -> Bytes {
    Bytes(bytes.0.max(1).checked_next_multiple_of(granule.0.max(1)).unwrap_or(u64::MAX))
}

/// Physical memory.
#[derive(Debug)]
struct Physical {
    context: Rc<Context>,
    handle: Allocation,
}

impl Physical {
    fn create(context: &Rc<Context>, size: usize) -> Result<Self, Fault> {
        let (mut handle, properties) = (0, context.properties());
        // SAFETY: reads one structure and writes one handle, both ours. The size is a multiple of the granule, or refused.
        let code = unsafe { (context.interface().create)(&raw mut handle, size, &raw const properties, 0) };
        context.check("cuMemCreate", code)?;
        Ok(Self { context: Rc::clone(context), handle })
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        // SAFETY: the handle is released once, here. Memory that is still mapped would live on: it is unmapped before.
        let code = unsafe { (self.context.interface().release)(self.handle) };
        told(self.context.check("cuMemRelease", code));
    }
}

/// Addresses with nothing behind them.
#[derive(Debug)]
struct Reserved {
    context: Rc<Context>,
    address: Address,
    size: usize,
    /// What is mapped there could not be taken away: neither can the addresses.
    is_stuck: bool,
}

impl Reserved {
    fn of(context: &Rc<Context>, size: usize) -> Result<Self, Fault> {
        let mut address = 0;
        // SAFETY: writes one address to a place that is ours. 0: the driver chooses address and alignment.
        let code = unsafe { (context.interface().reserve)(&raw mut address, size, 0, 0, 0) };
        context.check("cuMemAddressReserve", code)?;
        Ok(Self { context: Rc::clone(context), address, size, is_stuck: false })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.is_stuck {
            return;
        }
        // SAFETY: the range is what was reserved, whole, with nothing mapped: `Mapped` unmaps before it lets go of this.
        let code = unsafe { (self.context.interface().address_free)(self.address, self.size) };
        told(self.context.check("cuMemAddressFree", code));
    }
}

/// Memory at an address. Dropped, it is unmapped; then the addresses go, and then the memory.
#[derive(Debug)]
struct Mapped {
    reserved: Reserved,
    physical: Physical,
}

impl Mapped {
    fn of(reserved: Reserved, physical: Physical) -> Result<Self, Fault> {
        let context = &reserved.context;
        // SAFETY: the range is reserved, whole, and nothing is mapped there; the memory is of that size, from its beginning.
        let code =
            unsafe { (context.interface().map)(reserved.address, reserved.size, 0, physical.handle, 0) };
        context.check("cuMemMap", code)?;
        Ok(Self { reserved, physical })
    }

    const fn address(&self) -> Address {
        self.reserved.address
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let (context, size) = (Rc::clone(&self.reserved.context), self.reserved.size);
        // Copies that a caller gave up may be under way: unmapping does not wait for them. What has failed for good is
        // told by whoever looks next.
        let _ = context.synchronize();
        // SAFETY: the range is what was mapped, whole; nothing that was begun uses it any more, and no address of it is
        // kept by anybody: they are computed from a borrowed slab for one call each.
        let code = unsafe { (context.interface().unmap)(self.reserved.address, size) };
        let unmapped = context.check("cuMemUnmap", code);
        self.reserved.is_stuck = unmapped.is_err();
        told(unmapped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_whole_granules() {
        let mib = 1 << 20;
        let size = |bytes| size_for(Bytes(bytes), Bytes::mib(2)).0;
        assert_eq!(
            [size(0), size(1), size(2 * mib), size(2 * mib + 1)],
            [2 * mib, 2 * mib, 2 * mib, 4 * mib]
        );
        assert_eq!(size(u64::MAX), u64::MAX, "more than there can be: the driver refuses it");
    }
}
