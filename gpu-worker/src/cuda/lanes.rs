//! What bytes travel by: two streams, pinned buffers, and pages of others that are registered.
//!
//! Copies here are begun and not waited for. Whoever begins one keeps its bytes where they are, unwritten, until the lanes
//! were waited for: [`Lanes::begin`] says it, `copy` does it.
#![expect(unsafe_code, reason = "the driver is a C library")]

use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::slice;

use super::abi::{
    Code, EVENT_BLOCKING_WITHOUT_TIME, EventHandle, REGISTER_READ_ONLY, STREAM_NON_BLOCKING, StreamHandle,
};
use super::context::Context;
use super::driver::{Fault, told};
use super::slab::Slab;

/// Two: one copies while the other's next copy is being set up.
const LANES: usize = 2;

/// Streams of a device, for copies to it.
#[derive(Debug)]
pub(crate) struct Lanes {
    context: Rc<Context>,
    streams: [Stream; LANES],
}

#[derive(Debug)]
struct Stream {
    context: Rc<Context>,
    handle: StreamHandle,
}

impl Lanes {
    /// # Errors
    /// The driver's.
    pub(crate) fn open(context: &Rc<Context>) -> Result<Self, Fault> {
        let streams = [Stream::create(context)?, Stream::create(context)?];
        Ok(Self { context: Rc::clone(context), streams })
    }

    /// Begins to copy bytes to a place of a slab, on one of the lanes.
    ///
    /// # Errors
    /// The driver's; that the slab has no such place.
    ///
    /// # Safety
    /// The bytes stay where they are, and nobody writes to them, until [`Self::wait`], or an event that was recorded on this
    /// lane after it, has been waited for. The slab may go: it waits for its context.
    pub(super) unsafe fn begin(&self, lane: usize, slab: &Slab, at: u64, from: &[u8]) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(lane % LANES) else { return Ok(()) };
        // Beyond the slab no address is computed; the driver refuses this one.
        let to = slab.at(at, from.len() as u64).unwrap_or_default();
        // SAFETY: the target is so many bytes of a slab, or 0, which is refused; the source is a slice, and stays by the
        // caller's word; the stream is this context's, which is current.
        let code = unsafe {
            (self.context.interface().copy_in)(to, from.as_ptr().cast(), from.len(), stream.handle)
        };
        self.context.check("cuMemcpyHtoDAsync", code)
    }

    /// Writes zeros from a place to the end of a slab, and waits: what was there before is nobody's business.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn clear(&self, slab: &Slab, from: u64) -> Result<(), Fault> {
        let length = slab.size().0.saturating_sub(from);
        let (Some(at), Ok(bytes)) = (slab.at(from, length), usize::try_from(length)) else { return Ok(()) };
        let [stream, ..] = &self.streams;
        if bytes > 0 {
            // SAFETY: so many bytes of a slab; the stream is this context's, which is current.
            let code = unsafe { (self.context.interface().fill)(at, 0, bytes, stream.handle) };
            self.context.check("cuMemsetD8Async", code)?;
        }
        self.wait()
    }

    /// Copies bytes that are anybody's, and waits.
    #[cfg(test)]
    pub(super) fn write(&self, slab: &Slab, at: u64, from: &[u8]) -> Result<(), Fault> {
        let mut pinned = Pinned::take(&self.context, from.len().max(1))?;
        pinned.bytes()[..from.len()].copy_from_slice(from);
        // SAFETY: the bytes are pinned, nobody has them but this function, and it waits.
        unsafe { self.begin(0, slab, at, &pinned.bytes()[..from.len()]) }?;
        self.wait()
    }

    /// Notes in an event what was begun on a lane until now.
    pub(crate) fn record(&self, lane: usize, event: &Event) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(lane % LANES) else { return Ok(()) };
        // SAFETY: event and stream are of this context and live.
        let code = unsafe { (self.context.interface().event_record)(event.handle, stream.handle) };
        self.context.check("cuEventRecord", code)
    }

    /// Waits until everything that was begun is done.
    ///
    /// # Errors
    /// What went wrong with it.
    pub(crate) fn wait(&self) -> Result<(), Fault> {
        let mut waited = Ok(());
        for stream in &self.streams {
            // SAFETY: the stream is of this context and lives.
            let code = unsafe { (self.context.interface().stream_synchronize)(stream.handle) };
            waited = waited.and(self.context.check("cuStreamSynchronize", code));
        }
        waited
    }
}

impl Stream {
    fn create(context: &Rc<Context>) -> Result<Self, Fault> {
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle to a place that is ours; a context is current.
        let code = unsafe { (context.interface().stream_create)(&raw mut handle, STREAM_NON_BLOCKING) };
        context.check("cuStreamCreate", code)?;
        Ok(Self { context: Rc::clone(context), handle })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. What was begun on it goes on and gives its resources back when it is done.
        let code = unsafe { (self.context.interface().stream_destroy)(self.handle) };
        told(self.context.check("cuStreamDestroy", code));
    }
}

/// A mark in a stream.
#[derive(Debug)]
pub(crate) struct Event {
    context: Rc<Context>,
    handle: EventHandle,
}

impl Event {
    /// # Errors
    /// The driver's.
    pub(crate) fn create(context: &Rc<Context>) -> Result<Self, Fault> {
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle to a place that is ours; a context is current.
        let code =
            unsafe { (context.interface().event_create)(&raw mut handle, EVENT_BLOCKING_WITHOUT_TIME) };
        context.check("cuEventCreate", code)?;
        Ok(Self { context: Rc::clone(context), handle })
    }

    /// Whether everything before the mark is done.
    ///
    /// # Errors
    /// What went wrong with it.
    pub(crate) fn is_done(&self) -> Result<bool, Fault> {
        // SAFETY: the event is of this context and lives.
        let code = unsafe { (self.context.interface().event_query)(self.handle) };
        if code == Code::NOT_READY {
            return Ok(false);
        }
        self.context.check("cuEventQuery", code).map(|()| true)
    }

    /// Sleeps until it is.
    ///
    /// # Errors
    /// What went wrong with it.
    pub(crate) fn wait(&self) -> Result<(), Fault> {
        // SAFETY: the event is of this context and lives.
        let code = unsafe { (self.context.interface().event_synchronize)(self.handle) };
        self.context.check("cuEventSynchronize", code)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. Work that it marks goes on.
        let code = unsafe { (self.context.interface().event_destroy)(self.handle) };
        told(self.context.check("cuEventDestroy", code));
    }
}

/// A buffer of this machine's memory that the device reads without the kernel's help.
///
/// Invariant: `length` bytes from `place`, zeroed once, ours alone.
#[derive(Debug)]
pub(crate) struct Pinned {
    context: Rc<Context>,
    place: *mut u8,
    length: usize,
}

impl Pinned {
    /// # Errors
    /// The driver's: the machine has not so much, or limits what may be locked.
    pub(crate) fn take(context: &Rc<Context>, length: usize) -> Result<Self, Fault> {
        let mut place: *mut c_void = ptr::null_mut();
        // SAFETY: writes one pointer to a place that is ours; a context is current. No flags: cached, for this context.
        let code = unsafe { (context.interface().host_alloc)(&raw mut place, length, 0) };
        context.check("cuMemHostAlloc", code)?;
        let place: *mut u8 = place.cast();
        // SAFETY: so many bytes were just given, for writing, and nobody else has them. They must be written to before they are
        // a slice of bytes.
        unsafe { ptr::write_bytes(place, 0, length) };
        Ok(Self { context: Rc::clone(context), place, length })
    }

    pub(crate) const fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: by the invariant; borrowed as long as the slice.
        unsafe { slice::from_raw_parts_mut(self.place, self.length) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Copies from it may be under way.
        let _ = self.context.synchronize();
        // SAFETY: given once, given back once; nothing reads from it any more.
        let code = unsafe { (self.context.interface().host_free)(self.place.cast()) };
        told(self.context.check("cuMemFreeHost", code));
    }
}

/// Pages of somebody else's that the device may read as if they were pinned, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Registered {
    context: Rc<Context>,
    place: *mut c_void,
}

impl Registered {
    /// Registers pages that may only be read: of a mapped file, from the beginning of a page on.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// They stay mapped until this is dropped.
    pub(super) unsafe fn pages(context: &Rc<Context>, pages: &[u8]) -> Result<Self, Fault> {
        let place = pages.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: the range is mapped, and stays so by the caller's word. READ_ONLY: nothing writes through it, and the pointer is
        // no more than a name for the pages.
        let code = unsafe { (context.interface().host_register)(place, pages.len(), REGISTER_READ_ONLY) };
        context.check("cuMemHostRegister", code)?;
        Ok(Self { context: Rc::clone(context), place })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Copies from it may be under way.
        let _ = self.context.synchronize();
        // SAFETY: registered once, under this address; nothing reads from it any more.
        let code = unsafe { (self.context.interface().host_unregister)(self.place) };
        told(self.context.check("cuMemHostUnregister", code));
    }
}

/// Reads bytes of a slab back.
///
/// # Errors
/// The driver's; that the slab has no such place.
pub(crate) fn read_back(slab: &Slab, at: u64, into: &mut [u8]) -> Result<(), Fault> {
    let context = slab.context();
    let from = slab.at(at, into.len() as u64).unwrap_or_default();
    // SAFETY: the source is so many bytes of a slab, or 0, which is refused; the target is a slice that is ours. It returns when
    // it is done.
    let code = unsafe { (context.interface().copy_out)(into.as_mut_ptr().cast(), from, into.len()) };
    context.check("cuMemcpyDtoH", code)
}
