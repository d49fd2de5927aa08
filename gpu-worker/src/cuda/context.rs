//! A device and its primary context, current on the thread that opened it for as long as anything of it is there.
//!
//! The primary context is the one that libtorch uses: both see the same memory. Everything that belongs to a context holds it
//! by an `Rc`, which also keeps it on its thread: the calls that need a current context have one.
#![expect(unsafe_code, reason = "the driver is a C library")]

use std::ffi::{CStr, c_char};
use std::ptr;
use std::rc::Rc;

use hoist_domain::Bytes;

use super::abi::{
    self, AllocationFlags, AllocationProperties, Code, ContextHandle, DeviceNumber, Location, Uuid, attribute,
};
use super::driver::{Driver, Fault};

/// What a device says of itself. Does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) name: String,
    /// `GPU-…`, as the vendor's tools write it.
    pub(crate) uuid: String,
    /// `0000:1b:00.0`.
    pub(crate) bus: String,
    pub(crate) compute: (i32, i32),
    pub(crate) total: Bytes,
    /// Memory is given in multiples of this.
    pub(crate) granule: Bytes,
    /// Pages that may only be read can be registered.
    pub(crate) registers_read_only: bool,
    /// The node of the machine's memory that is nearest. None: it has but one, or the driver is too old to say.
    pub(crate) numa_node: Option<i32>,
}

/// The device's memory, as the driver counts it: of all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryInfo {
    pub(crate) free: Bytes,
    pub(crate) total: Bytes,
}

/// A device's context on this thread.
///
/// Invariant: while one is there, its context is current on this thread whenever a call of ours needs it. libtorch, which computes
/// on the same thread, may set another for a while: whoever has let it calls [`Context::make_current`].
pub(crate) struct Context {
    driver: Driver,
    number: DeviceNumber,
    handle: ContextHandle,
    card: Card,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("card", &self.card).finish_non_exhaustive()
    }
}

impl Context {
    /// Takes the device of this ordinal.
    ///
    /// # Errors
    /// That there is no such device, or that it cannot do what is needed.
    pub(crate) fn open(driver: Driver, ordinal: u16) -> Result<Rc<Self>, String> {
        let number = device(&driver, ordinal)?;
        let card = card(&driver, number)?;
        let fault = |fault: Fault| format!("{} cannot be used: {fault}", card.name);
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle to a place that is ours; the device's number is the driver's own.
        let code = unsafe { (driver.interface().context_retain)(&raw mut handle, number) };
        driver.check("cuDevicePrimaryCtxRetain", code).map_err(fault)?;
        // From here on `drop` gives the context back.
        let mut context = Self { driver, number, handle, card: card.clone() };
        context.make_current().map_err(fault)?;
        context.card.granule = context.granularity().map_err(fault)?;
        Ok(Rc::new(context))
    }

    pub(crate) const fn card(&self) -> &Card {
        &self.card
    }

    pub(crate) const fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(super) fn interface(&self) -> &abi::Interface {
        self.driver.interface()
    }

    pub(super) fn check(&self, call: &'static str, code: Code) -> Result<(), Fault> {
        self.driver.check(call, code)
    }

    /// What memory of this device is to be: on it, and such that another process can be given it.
    pub(super) fn properties(&self) -> AllocationProperties {
        AllocationProperties {
            kind: AllocationProperties::PINNED,
            handles: AllocationProperties::FILE_DESCRIPTOR,
            location: self.location(),
            windows: ptr::null_mut(),
            flags: AllocationFlags::default(),
        }
    }

    pub(super) const fn location(&self) -> Location {
        Location { kind: Location::DEVICE, id: self.number }
    }

    /// Makes it current on this thread.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn make_current(&self) -> Result<(), Fault> {
        // SAFETY: the handle is of a context that is retained until `drop`.
        let code = unsafe { (self.interface().context_set)(self.handle) };
        self.check("cuCtxSetCurrent", code)
    }

    /// What is free and what there is, whoever has the rest.
    pub(crate) fn memory(&self) -> Result<MemoryInfo, Fault> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two numbers to places that are ours; a context is current.
        let code = unsafe { (self.interface().memory_info)(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", code)?;
        Ok(MemoryInfo { free: Bytes(free as u64), total: Bytes(total as u64) })
    }

    /// Waits for everything that was begun. What has gone wrong for good is answered by this too, whoever did it.
    pub(crate) fn synchronize(&self) -> Result<(), Fault> {
        // SAFETY: takes nothing; a context is current.
        let code = unsafe { (self.interface().context_synchronize)() };
        self.check("cuCtxSynchronize", code)
    }

    fn granularity(&self) -> Result<Bytes, Fault> {
        let (mut granule, properties) = (0, self.properties());
        // SAFETY: reads one structure and writes one number, both ours.
        let code = unsafe {
            (self.interface().granularity)(&raw mut granule, &raw const properties, abi::GRANULARITY_MINIMUM)
        };
        self.check("cuMemGetAllocationGranularity", code)?;
        Ok(Bytes(granule.max(1) as u64))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: no context is current on this thread afterwards; whatever was of this one is gone, it held an `Rc`.
        let code = unsafe { (self.interface().context_set)(ptr::null_mut()) };
        let unset = self.check("cuCtxSetCurrent", code);
        // SAFETY: it was retained once, by `open`.
        let code = unsafe { (self.interface().context_release)(self.number) };
        if let Err(fault) = unset.and(self.check("cuDevicePrimaryCtxRelease", code)) {
            tracing::warn!(%fault, "the device's context is left as it is");
        }
    }
}

/// The driver's number of a device.
fn device(driver: &Driver, ordinal: u16) -> Result<DeviceNumber, String> {
    let mut count = 0;
    // SAFETY: writes one number to a place that is ours.
    let code = unsafe { (driver.interface().device_count)(&raw mut count) };
    driver.check("cuDeviceGetCount", code).map_err(|fault| fault.to_string())?;
    if i32::from(ordinal) >= count {
        let those = match count {
            0 => "has no device".to_owned(),
            1 => "has cuda:0 alone".to_owned(),
            more => format!("has cuda:0 to cuda:{}", more - 1),
        };
        return Err(format!(
            "there is no cuda:{ordinal}: NVIDIA's driver {those} (CUDA_VISIBLE_DEVICES counts)"
        ));
    }
    let mut number = 0;
    // SAFETY: writes one number to a place that is ours.
    let code = unsafe { (driver.interface().device)(&raw mut number, i32::from(ordinal)) };
    driver.check("cuDeviceGet", code).map_err(|fault| fault.to_string())?;
    Ok(number)
}

/// What a device says of itself; its granule is not known yet.
fn card(driver: &Driver, number: DeviceNumber) -> Result<Card, String> {
    let interface = driver.interface();
    let fault = |fault: Fault| fault.to_string();
    let name = text(|place, length| {
        // SAFETY: writes at most so many bytes, a zero at the end, to a place of that length.
        driver.check("cuDeviceGetName", unsafe { (interface.device_name)(place, length, number) })
    });
    let name = name.map_err(fault)?;
    let has = |what: u32, missing: &str| match ask(driver, number, what) {
        Ok(1..) => Ok(()),
        Ok(_) => Err(format!("{name} {missing}")),
        Err(fault) => Err(fault.to_string()),
    };
    has(attribute::MANAGES_VIRTUAL_MEMORY, "cannot manage virtual memory, which Hoist needs")?;
    has(
        attribute::EXPORTS_DESCRIPTORS,
        "cannot share memory by file descriptor, which Hoist needs: some virtual machines forbid it",
    )?;
    let bus = text(|place, length| {
        // SAFETY: as for the name.
        driver.check("cuDeviceGetPCIBusId", unsafe { (interface.device_bus)(place, length, number) })
    });
    let mut uuid = Uuid::default();
    // SAFETY: writes sixteen bytes to a place that is ours.
    let code = unsafe { (interface.device_uuid)(&raw mut uuid, number) };
    driver.check("cuDeviceGetUuid", code).map_err(fault)?;
    let mut total = 0;
    // SAFETY: writes one number to a place that is ours.
    let code = unsafe { (interface.device_total)(&raw mut total, number) };
    driver.check("cuDeviceTotalMem", code).map_err(fault)?;
    let compute = |what| ask(driver, number, what).map_err(fault);
    Ok(Card {
        uuid: format!("GPU-{}", uuid::Uuid::from_bytes(uuid.bytes)),
        bus: bus.map_err(fault)?,
        compute: (compute(attribute::COMPUTE_MAJOR)?, compute(attribute::COMPUTE_MINOR)?),
        total: Bytes(total as u64),
        granule: Bytes(1),
        registers_read_only: ask(driver, number, attribute::REGISTERS_READ_ONLY).is_ok_and(|has| has > 0),
        numa_node: ask(driver, number, attribute::HOST_NUMA_ID).ok().filter(|node| *node >= 0),
        name,
    })
}

fn ask(driver: &Driver, number: DeviceNumber, what: u32) -> Result<i32, Fault> {
    let mut answer = 0;
    // SAFETY: writes one number to a place that is ours; an attribute that the driver does not know is refused.
    let code = unsafe { (driver.interface().device_attribute)(&raw mut answer, what, number) };
    driver.check("cuDeviceGetAttribute", code)?;
    Ok(answer)
}

/// Words that the driver writes into a place of ours.
fn text(write: impl FnOnce(*mut c_char, i32) -> Result<(), Fault>) -> Result<String, Fault> {
    const LENGTH: u8 = 255;
    let mut place = [0_u8; LENGTH as usize + 1];
    write(place.as_mut_ptr().cast(), i32::from(LENGTH))?;
    // The last byte was not the driver's to write.
    let words = CStr::from_bytes_until_nul(&place).unwrap_or_default();
    Ok(words.to_string_lossy().into_owned())
}
