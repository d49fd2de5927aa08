//! NVIDIA's driver, opened when a process asks for a CUDA device, and its answers in words.
//!
//! The library belongs to the installed driver: nothing links it, a machine without one runs the same program.
#![expect(unsafe_code, reason = "the driver is a C library")]

use std::ffi::{CStr, c_char};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::abi::{Code, Interface};

/// The driver's library, by the name that every driver installs it under.
pub(crate) const LIBRARY: &str = "libcuda.so.1";

/// The first one that has every function that is called here: CUDA 11.4's, for `cuDeviceGetUuid_v2`.
const LEAST_VERSION: i32 = 11_040;

/// The driver, loaded and initialised. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Loaded>);

struct Loaded {
    interface: Interface,
    version: i32,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// A call that the driver refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {name} ({text})")]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    code: u32,
    name: String,
    text: String,
}

impl Fault {
    /// The device has not so much memory.
    pub(crate) const fn is_memory(&self) -> bool {
        self.code == Code::OUT_OF_MEMORY.0
    }
}

/// What cannot be given back shows in the account of what was returned; whoever drops it can only tell.
pub(super) fn told(given_back: Result<(), Fault>) {
    if let Err(fault) = given_back {
        tracing::warn!(%fault, "something of the device is not given back");
    }
}

impl Driver {
    /// Loads and initialises it.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(crate) fn open(library: &Path) -> Result<Self, String> {
        // SAFETY: loading runs the library's initialisers. It is the installed driver, found where the system's loader looks, or
        // what a test names: as trusted as this program. It is loaded for good: see below.
        let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) };
        let library = libloading::Library::from(opened.map_err(|error| {
            let why = detail(&error);
            format!("NVIDIA's driver cannot be opened ({why}); install it, or give the container its GPUs (--gpus all)")
        })?);
        // SAFETY: it is the driver's library, which has functions of these names, and is never unloaded.
        let interface = unsafe { Interface::of(&library) }.map_err(|missing| {
            format!("NVIDIA's driver is too old: it has no {missing}; install one of CUDA 11.4 or later")
        })?;
        // A driver has threads of its own, and does not count on being taken away beneath them.
        std::mem::forget(library);
        let mut loaded = Loaded { interface, version: 0 };
        // SAFETY: takes flags, which must be 0. Any thread may call it, any number of times.
        let code = unsafe { (loaded.interface.init)(0) };
        loaded.check("cuInit", code).map_err(|fault| without_device(code, &fault))?;
        // SAFETY: writes one number to a place that is ours.
        let code = unsafe { (loaded.interface.driver_version)(&raw mut loaded.version) };
        loaded.check("cuDriverGetVersion", code).map_err(|fault| fault.to_string())?;
        let driver = Self(Arc::new(loaded));
        if driver.0.version < LEAST_VERSION {
            return Err(format!("NVIDIA's driver speaks CUDA {}; 11.4 or later is needed", driver.version()));
        }
        Ok(driver)
    }

    /// `13.0`.
    pub(crate) fn version(&self) -> String {
        format!("{}.{}", self.0.version / 1_000, self.0.version % 1_000 / 10)
    }

    pub(super) fn interface(&self) -> &Interface {
        &self.0.interface
    }

    /// What a call has answered.
    pub(super) fn check(&self, call: &'static str, code: Code) -> Result<(), Fault> {
        self.0.check(call, code)
    }
}

impl Loaded {
    fn check(&self, call: &'static str, code: Code) -> Result<(), Fault> {
        if code == Code::SUCCESS {
            return Ok(());
        }
        let name = self.words(code, self.interface.error_name).unwrap_or_else(|| format!("code {}", code.0));
        let text = self.words(code, self.interface.error_text).unwrap_or_else(|| "no description".to_owned());
        Err(Fault { call, code: code.0, name, text })
    }

    fn words(
        &self,
        code: Code,
        ask: unsafe extern "C" fn(Code, *mut *const c_char) -> Code,
    ) -> Option<String> {
        let mut words: *const c_char = std::ptr::null();
        // SAFETY: takes any code, known or not, and writes one pointer to a place that is ours.
        let answer = unsafe { ask(code, &raw mut words) };
        if answer != Code::SUCCESS || words.is_null() {
            return None;
        }
        // SAFETY: it points at a constant string of the library, which ends with a zero and is there as long as the library.
        Some(unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned())
    }
}

/// The loader's own words.
fn detail(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { desc } => format!("{desc:?}").trim_matches('"').to_owned(),
        other => other.to_string(),
    }
}

fn without_device(code: Code, fault: &Fault) -> String {
    if code == Code::NO_DEVICE {
        return "NVIDIA's driver finds no device: none is there, CUDA_VISIBLE_DEVICES hides all, or this user may not open \
                /dev/nvidia*"
            .to_owned();
    }
    format!("NVIDIA's driver cannot start: {fault}; `nvidia-smi` may say more")
}
