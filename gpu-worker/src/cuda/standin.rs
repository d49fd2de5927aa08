//! For tests: a driver that runs without a card and checks its callers, built from `tests/driver` by the C compiler.
//!
//! It says nothing about a card. It says that every call is one that the documentation allows: with a current context, on whole
//! granules, on memory that is mapped, with bytes that nobody writes to until they have arrived; and that everything is given back.
#![expect(unsafe_code, reason = "the stand-in is a C library, too")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong, c_ulonglong};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hoist_domain::Bytes;
use libloading::Library;

use super::driver::Driver;

/// What a driver gives and wants back.
const OBJECTS: [&str; 9] = [
    "allocations",
    "handles",
    "reservations",
    "mappings",
    "streams",
    "events",
    "host_allocations",
    "registrations",
    "context_references",
];

/// Its state is the library's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The driver as it is to be, and what it has seen.
pub(super) struct StandIn {
    library: Library,
    path: PathBuf,
    _one: MutexGuard<'static, ()>,
}

impl StandIn {
    /// A card of this size, and nothing on it.
    pub(super) fn new(total: Bytes) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = hoist_worker::standin::built();
        // SAFETY: it is a library of this test, with no initialiser that needs anything.
        let library = unsafe { Library::new(&path) }.unwrap();
        let this = Self { library, path, _one: one };
        // SAFETY: the function takes nothing; nothing of the driver is in use.
        unsafe { this.function::<unsafe extern "C" fn()>("reset")() };
        // SAFETY: the function takes a number.
        unsafe { this.function::<unsafe extern "C" fn(c_ulonglong)>("set_total")(total.0) };
        this
    }

    pub(super) fn driver(&self) -> Driver {
        Driver::open(&self.path).unwrap()
    }

    fn function<T: Copy>(&self, name: &str) -> T {
        // SAFETY: each caller names the type that `driver.c` declares.
        *unsafe { self.library.get::<T>(format!("hoist_standin_{name}\0").as_bytes()) }.unwrap()
    }

    fn count(&self, name: &str) -> u64 {
        // SAFETY: the function takes nothing and returns a number.
        let count: c_ulong = unsafe { self.function::<unsafe extern "C" fn() -> c_ulong>(name)() };
        count
    }

    /// How often something was called.
    pub(super) fn calls(&self, call: &str) -> u64 {
        let call = CString::new(call).unwrap();
        // SAFETY: the function takes a string that ends with a zero, and returns a number.
        unsafe { self.function::<unsafe extern "C" fn(*const c_char) -> c_ulong>("calls")(call.as_ptr()) }
    }

    /// Memory that other processes have.
    pub(super) fn others_take(&self, bytes: Bytes) {
        // SAFETY: the function takes a number.
        unsafe { self.function::<unsafe extern "C" fn(c_ulonglong)>("use")(bytes.0) };
    }

    /// One of the next calls, the first (1) or a later one, answers this.
    pub(super) fn fails(&self, call: &str, code: c_int, which: c_uint) {
        let call = CString::new(call).unwrap();
        // SAFETY: the function takes a string that ends with a zero, and numbers.
        unsafe {
            self.function::<unsafe extern "C" fn(*const c_char, c_int, c_uint)>("fail")(
                call.as_ptr(),
                code,
                which,
            );
        }
    }

    /// From now on every call answers this.
    pub(super) fn poison(&self, code: c_int) {
        // SAFETY: the function takes a number.
        unsafe { self.function::<unsafe extern "C" fn(c_int)>("poison")(code) };
    }

    /// So many of each kind of object are there.
    pub(super) fn objects(&self) -> Vec<(&'static str, u64)> {
        OBJECTS.iter().map(|what| (*what, self.count(what))).collect()
    }

    /// Every device answers an attribute so.
    pub(super) fn says(&self, attribute: u32, value: c_int) {
        let attribute = c_int::try_from(attribute).unwrap();
        // SAFETY: the function takes two numbers.
        unsafe { self.function::<unsafe extern "C" fn(c_int, c_int)>("attribute")(attribute, value) };
    }

    /// So many devices are there.
    pub(super) fn has_devices(&self, count: c_int) {
        // SAFETY: the function takes a number.
        unsafe { self.function::<unsafe extern "C" fn(c_int)>("set_devices")(count) };
    }

    /// No rule was broken.
    pub(super) fn assert_right(&self) {
        // SAFETY: the function takes nothing and returns a string of the library, which ends with a zero.
        let last = unsafe { self.function::<unsafe extern "C" fn() -> *const c_char>("last_violation")() };
        // SAFETY: as above.
        let last = if last.is_null() { "" } else { unsafe { CStr::from_ptr(last) }.to_str().unwrap() };
        assert_eq!(self.count("violations"), 0, "{last}");
        assert_eq!(
            self.count("pageable_async_copies"),
            0,
            "a copy from memory that is not pinned is a slow one"
        );
    }

    /// No rule was broken, and nothing is left.
    pub(super) fn assert_left_as_it_was(&self) {
        self.assert_right();
        for what in OBJECTS {
            assert_eq!(self.count(what), 0, "{what} are left");
        }
    }
}
