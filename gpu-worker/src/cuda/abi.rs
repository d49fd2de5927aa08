//! What of NVIDIA's driver interface Hoist calls: names, arguments and the few structures, and nothing that calls them.
//!
//! Declared here and not taken from a binding, for two reasons. Codes are numbers: a binding's enum would be undefined for a
//! code of a driver that is newer than the binding. And all functions are found when the library is opened, or it is refused
//! with the name of what it lacks; bindings that find them one by one end the process at the first that is missing. A test
//! has the compiler compare every declaration with the vendor's own header.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libloading::Library;

/// What a call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Code(pub(super) u32);

impl Code {
    pub(super) const SUCCESS: Self = Self(0);
    pub(super) const OUT_OF_MEMORY: Self = Self(2);
    pub(super) const NO_DEVICE: Self = Self(100);
    pub(super) const NOT_READY: Self = Self(600);
}

/// An address on a device.
pub(super) type Address = u64;

/// Physical memory of a device, mapped or not.
pub(super) type Allocation = u64;

/// What the driver calls a device: not its ordinal, though it is the same number as far as anybody has seen.
pub(super) type DeviceNumber = c_int;

pub(super) type ContextHandle = *mut c_void;
pub(super) type StreamHandle = *mut c_void;
pub(super) type EventHandle = *mut c_void;

/// Where memory is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Location {
    pub(super) kind: u32,
    pub(super) id: c_int,
}

impl Location {
    pub(super) const DEVICE: u32 = 1;
}

/// What memory is to be.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct AllocationProperties {
    pub(super) kind: u32,
    pub(super) handles: u32,
    pub(super) location: Location,
    pub(super) windows: *mut c_void,
    pub(super) flags: AllocationFlags,
}

impl AllocationProperties {
    /// The only kind there is for a device.
    pub(super) const PINNED: u32 = 1;
    /// It can be handed to another process as a file descriptor.
    pub(super) const FILE_DESCRIPTOR: u32 = 1;
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct AllocationFlags {
    pub(super) compression: u8,
    pub(super) remote_access: u8,
    pub(super) usage: u16,
    pub(super) reserved: [u8; 4],
}

/// Who may do what with mapped memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Access {
    pub(super) location: Location,
    pub(super) flags: u32,
}

impl Access {
    pub(super) const READ_WRITE: u32 = 3;
}

/// A device's own name for good.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Uuid {
    pub(super) bytes: [u8; 16],
}

/// Of a device.
pub(super) mod attribute {
    pub(crate) const COMPUTE_MAJOR: u32 = 75;
    pub(crate) const COMPUTE_MINOR: u32 = 76;
    pub(crate) const MANAGES_VIRTUAL_MEMORY: u32 = 102;
    pub(crate) const EXPORTS_DESCRIPTORS: u32 = 103;
    pub(crate) const REGISTERS_READ_ONLY: u32 = 113;
    pub(crate) const HOST_NUMA_ID: u32 = 134;
}

/// The least that memory is given in.
pub(super) const GRANULARITY_MINIMUM: u32 = 0;

/// A stream that waits for nothing of the default stream.
pub(super) const STREAM_NON_BLOCKING: c_uint = 1;

/// An event that a thread sleeps for, and that measures nothing.
pub(super) const EVENT_BLOCKING_WITHOUT_TIME: c_uint = 1 | 2;

/// Pages that this process may only read.
pub(super) const REGISTER_READ_ONLY: c_uint = 8;

macro_rules! interface {
    ($($name:ident = $symbol:literal ($($type:ty),*);)*) => {
        /// Every function, found.
        #[derive(Debug)]
        pub(super) struct Interface {
            $(pub(super) $name: unsafe extern "C" fn($($type),*) -> Code,)*
        }

        /// Symbols and the types of their arguments, for the test that compares them with the header.
        #[cfg(test)]
        pub(super) const DECLARED: &[(&str, &[&str])] = &[$(($symbol, &[$(stringify!($type)),*])),*];

        impl Interface {
            /// Finds all of them, or says what is missing.
            ///
            /// # Safety
            /// The library's symbols of these names are the driver's functions, and it stays loaded as long as this lives.
            #[expect(unsafe_code, reason = "a symbol is an address: that it is this function is the caller's word")]
            pub(super) unsafe fn of(library: &Library) -> Result<Self, String> {
                $(
                    // SAFETY: the caller's word; the types are compared with the header's by a test.
                    let found = unsafe { library.get::<unsafe extern "C" fn($($type),*) -> Code>($symbol.as_bytes()) };
                    let $name = *found.map_err(|_| $symbol.to_owned())?;
                )*
                Ok(Self { $($name),* })
            }
        }
    };
}

interface! {
    init = "cuInit" (c_uint);
    driver_version = "cuDriverGetVersion" (*mut c_int);
    error_name = "cuGetErrorName" (Code, *mut *const c_char);
    error_text = "cuGetErrorString" (Code, *mut *const c_char);
    device_count = "cuDeviceGetCount" (*mut c_int);
    device = "cuDeviceGet" (*mut DeviceNumber, c_int);
    device_name = "cuDeviceGetName" (*mut c_char, c_int, DeviceNumber);
    device_uuid = "cuDeviceGetUuid_v2" (*mut Uuid, DeviceNumber);
    device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_uint, DeviceNumber);
    device_total = "cuDeviceTotalMem_v2" (*mut usize, DeviceNumber);
    device_bus = "cuDeviceGetPCIBusId" (*mut c_char, c_int, DeviceNumber);
    context_retain = "cuDevicePrimaryCtxRetain" (*mut ContextHandle, DeviceNumber);
    context_release = "cuDevicePrimaryCtxRelease_v2" (DeviceNumber);
    context_set = "cuCtxSetCurrent" (ContextHandle);
    context_synchronize = "cuCtxSynchronize" ();
    memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
    granularity = "cuMemGetAllocationGranularity" (*mut usize, *const AllocationProperties, c_uint);
    create = "cuMemCreate" (*mut Allocation, usize, *const AllocationProperties, u64);
    release = "cuMemRelease" (Allocation);
    reserve = "cuMemAddressReserve" (*mut Address, usize, usize, Address, u64);
    address_free = "cuMemAddressFree" (Address, usize);
    map = "cuMemMap" (Address, usize, usize, Allocation, u64);
    unmap = "cuMemUnmap" (Address, usize);
    set_access = "cuMemSetAccess" (Address, usize, *const Access, usize);
    export = "cuMemExportToShareableHandle" (*mut c_void, Allocation, c_uint, u64);
    host_alloc = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    host_free = "cuMemFreeHost" (*mut c_void);
    host_register = "cuMemHostRegister_v2" (*mut c_void, usize, c_uint);
    host_unregister = "cuMemHostUnregister" (*mut c_void);
    copy_in = "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, StreamHandle);
    fill = "cuMemsetD8Async" (Address, u8, usize, StreamHandle);
    copy_out = "cuMemcpyDtoH_v2" (*mut c_void, Address, usize);
    stream_create = "cuStreamCreate" (*mut StreamHandle, c_uint);
    stream_destroy = "cuStreamDestroy_v2" (StreamHandle);
    stream_synchronize = "cuStreamSynchronize" (StreamHandle);
    event_create = "cuEventCreate" (*mut EventHandle, c_uint);
    event_record = "cuEventRecord" (EventHandle, StreamHandle);
    event_query = "cuEventQuery" (EventHandle);
    event_synchronize = "cuEventSynchronize" (EventHandle);
    event_destroy = "cuEventDestroy_v2" (EventHandle);
}
