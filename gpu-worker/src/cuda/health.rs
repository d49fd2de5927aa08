//! Whether a card is to get nothing new, and what of its memory is ours: what the driver's management library says.
//!
//! Without that library a card is driven all the same, and nothing is known of its health but what its calls answer.

use std::collections::BTreeSet;
use std::path::Path;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;
use nvml_wrapper::{Device, Nvml};

/// The library, by the name that every driver installs it under.
pub(crate) const LIBRARY: &str = "libnvidia-ml.so.1";

/// Numbers of errors that come from a program on the card and leave the card as it was: a fault of one context is that process's.
const OF_PROGRAMS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// One card's health.
pub(crate) struct Health {
    uuid: String,
    /// Found once: to find it again fails when any card of the machine is lost.
    card: Device<'static>,
    /// What the driver tells of, since this process began to listen. None: it tells nothing here.
    events: Option<EventSet<'static>>,
    told: Told,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("uuid", &self.uuid).field("told", &self.told).finish_non_exhaustive()
    }
}

/// What was heard of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    /// What the driver wants done with it. None: it does not know such a thing.
    action: Option<u32>,
    /// It does not answer any more.
    is_lost: bool,
    /// Errors that were not a program's.
    errors: BTreeSet<u64>,
}

impl Told {
    /// Why it is to get nothing new. Empty: nothing is wrong.
    fn problem(&self) -> String {
        let errors = self.errors.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let errors = if errors.is_empty() { String::new() } else { format!(" (xid {errors})") };
        if self.is_lost {
            return format!("the card does not answer any more{errors}: the machine has to start again");
        }
        match self.action {
            Some(0) => String::new(),
            Some(1) => {
                format!("the driver wants the card reset{errors}: drain it, then `nvidia-smi --gpu-reset`")
            }
            Some(2) => format!("the driver wants the machine started again{errors}"),
            Some(3) => format!("the driver wants what uses other cards' memory gone from this one{errors}"),
            Some(4) => format!("the driver wants the card drained and reset{errors}"),
            Some(other) => format!("the driver wants something done with the card (action {other}){errors}"),
            // A driver that knows no such thing: each error that was no program's counts until the worker starts again.
            None if self.errors.is_empty() => String::new(),
            None => format!("the card has failed{errors}: see the kernel's log, then start its worker again"),
        }
    }

    fn error(&mut self, number: u64) {
        if !OF_PROGRAMS.contains(&number) {
            self.errors.insert(number);
        }
    }
}

impl Health {
    /// Listens for news of a card. None: the library is not there, or does not know it; why is in the log.
    pub(crate) fn of(library: &Path, uuid: &str) -> Option<Self> {
        let nvml = match Nvml::builder().lib_path(library.as_os_str()).init() {
            // Once a process: what it tells of borrows it.
            Ok(nvml) => Box::leak(Box::new(nvml)),
            Err(error) => {
                tracing::warn!(%error, "the card's health and others' use of it are not known: no {LIBRARY}");
                return None;
            }
        };
        let card = match nvml.device_by_uuid(uuid) {
            Ok(card) => card,
            Err(error) => {
                tracing::warn!(%error, uuid, "the card's health is not known");
                return None;
            }
        };
        let set = nvml.create_event_set().ok();
        let events = set.and_then(|set| card.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok());
        Some(Self { uuid: uuid.to_owned(), card, events, told: Told::default() })
    }

    /// Why the card is to get nothing new, as far as is known now. Empty: nothing is wrong.
    pub(crate) fn look(&mut self) -> String {
        self.hear();
        let fields = self.card.field_values_for(&[FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)]);
        // The call succeeds and each field has its own answer: a card that is lost says so in either.
        let field = fields.and_then(|fields| fields.into_iter().next().unwrap_or(Err(NvmlError::NoData)));
        let said = field.and_then(|field| field.value);
        self.told.is_lost = matches!(said, Err(NvmlError::GpuLost));
        self.told.action = match said {
            Ok(SampleValue::U32(action)) => Some(action),
            Ok(SampleValue::U64(action)) => u32::try_from(action).ok(),
            Ok(SampleValue::I64(action)) => u32::try_from(action).ok(),
            Ok(SampleValue::F64(_)) | Err(NvmlError::NotSupported | NvmlError::InvalidArg) => None,
            // What it said last counts until it says something else.
            Err(_) => self.told.action,
        };
        if self.told.action == Some(0) {
            // Whatever it was, the driver is content.
            self.told.errors.clear();
        }
        self.told.problem()
    }

    /// Everything that has happened since it was looked last.
    fn hear(&mut self) {
        let Some(events) = &self.events else { return };
        // A bound: a card that fails a thousand times between two looks is told of all the same.
        for _ in 0..64 {
            match events.wait(0) {
                Ok(event) => match event.event_data {
                    Some(XidError::Value(number)) => self.told.error(number),
                    Some(XidError::Unknown) => self.told.error(999),
                    None => {}
                },
                Err(_) => return,
            }
        }
    }

    /// What a process has of the card. None: the library does not say, as in some containers.
    pub(crate) fn used_by(&self, process: u32) -> Option<u64> {
        let all = self.card.running_compute_processes().ok()?;
        match all.into_iter().find(|one| one.pid == process)?.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "the stand-in is a C library")]

    use std::ffi::{CStr, CString, c_char, c_ulong};
    use std::path::PathBuf;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use libloading::Library;
    use tempfile::TempDir;

    use super::*;

    /// The stand-in's card.
    const CARD: &str = "GPU-00f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff";
    const STRANGER: &str = "GPU-11f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff";

    /// The library's state is one: one test at a time.
    static ONE: Mutex<()> = Mutex::new(());

    /// A machine whose management library is the stand-in, with a healthy card.
    struct Machine {
        library: Library,
        path: PathBuf,
        says: TempDir,
        _one: MutexGuard<'static, ()>,
    }

    impl Machine {
        fn new() -> Self {
            let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let path = hoist_worker::standin::built().with_file_name(LIBRARY);
            // SAFETY: it is a library of this test, with no initialiser.
            let library = unsafe { Library::new(&path) }.unwrap();
            let this = Self { library, path, says: tempfile::tempdir().unwrap(), _one: one };
            let file = CString::new(this.file().to_str().unwrap()).unwrap();
            // SAFETY: the function takes a string that ends with a zero, and keeps a copy.
            unsafe { this.function::<unsafe extern "C" fn(*const c_char)>("file")(file.as_ptr()) };
            this
        }

        fn file(&self) -> PathBuf {
            self.says.path().join("card")
        }

        fn function<T: Copy>(&self, name: &str) -> T {
            // SAFETY: each caller names the type that `nvml.c` declares.
            *unsafe { self.library.get::<T>(format!("hoist_standin_nvml_{name}\0").as_bytes()) }.unwrap()
        }

        /// From now on the card is like this.
        fn is(&self, words: &[&str]) {
            let next = self.file().with_extension("next");
            std::fs::write(&next, words.join("\n")).unwrap();
            std::fs::rename(next, self.file()).unwrap();
        }

        /// What a worker listens with that starts now.
        fn health(&self) -> Option<Health> {
            Health::of(&self.path, CARD)
        }
    }

    impl Drop for Machine {
        /// No rule was broken.
        fn drop(&mut self) {
            // SAFETY: the function takes nothing and returns a number.
            let broken = unsafe { self.function::<unsafe extern "C" fn() -> c_ulong>("violations")() };
            // SAFETY: the function takes nothing and returns a string of the library.
            let last =
                unsafe { self.function::<unsafe extern "C" fn() -> *const c_char>("last_violation")() };
            // SAFETY: it ends with a zero and stays until the next violation; nobody else is in the library.
            let last = unsafe { CStr::from_ptr(last) };
            assert!(broken == 0 || std::thread::panicking(), "{last:?}");
        }
    }

    fn told(action: Option<u32>, errors: &[u64]) -> String {
        let mut told = Told { action, ..Told::default() };
        for error in errors {
            told.error(*error);
        }
        told.problem()
    }

    #[test]
    fn a_content_driver_is_no_problem_and_a_program_that_faults_is_none() {
        assert_eq!(told(Some(0), &[]), "");
        assert_eq!(told(None, &[]), "");
        assert_eq!(told(None, &[31, 43]), "", "a fault of one program");
    }

    #[test]
    fn what_the_driver_wants_is_said_with_its_errors() {
        assert!(told(Some(1), &[79]).contains("reset (xid 79)"), "{}", told(Some(1), &[79]));
        assert!(told(Some(2), &[]).contains("machine"));
        assert!(told(Some(77), &[]).contains("action 77"), "one of a later driver");
        assert!(told(None, &[48, 95, 48]).contains("(xid 48, 95)"), "an old driver knows no actions");
        let lost = Told { is_lost: true, action: Some(0), ..Told::default() };
        assert!(lost.problem().contains("does not answer"), "whatever it has said before");
    }
    #[test]
    fn a_healthy_card_is_no_problem_and_its_driver_is_heard() {
        let machine = Machine::new();
        let mut health = machine.health().unwrap();
        assert!(health.events.is_some(), "it listens");
        assert_eq!((health.look().as_str(), health.told.action), ("", Some(0)));
    }

    #[test]
    fn what_the_driver_wants_is_told_until_it_is_content_and_its_errors_are_then_forgotten() {
        let machine = Machine::new();
        let mut health = machine.health().unwrap();
        machine.is(&["action 1", "xid 79"]);
        for _ in 0..2 {
            let problem = health.look();
            assert!(problem.contains("reset (xid 79)"), "{problem}");
        }
        machine.is(&["action 0", "xid 79"]);
        assert_eq!(health.look(), "");
        machine.is(&["action 2", "xid 79"]);
        let problem = health.look();
        assert!(problem.contains("machine") && !problem.contains("xid"), "that error is over: {problem}");
    }

    #[test]
    fn a_program_that_faults_on_a_card_whose_driver_knows_no_actions_is_no_problem() {
        let machine = Machine::new();
        let mut health = machine.health().unwrap();
        for driver in ["no-actions", "old"] {
            machine.is(&[driver, "xid 31"]);
            assert_eq!((health.look().as_str(), health.told.action), ("", None), "{driver}");
        }
    }

    #[test]
    fn an_error_of_the_card_stays_until_the_worker_starts_again_where_no_actions_are_known() {
        let machine = Machine::new();
        machine.is(&["no-actions"]);
        let mut health = machine.health().unwrap();
        machine.is(&["no-actions", "xid 31", "xid 48", "xid 45", "xid 95"]);
        for _ in 0..3 {
            let problem = health.look();
            assert!(problem.contains("has failed (xid 48, 95)"), "{problem}");
        }
        assert_eq!(machine.health().unwrap().look(), "", "what was before its worker is not heard");
    }

    #[test]
    fn a_card_that_is_lost_is_told_of_and_so_is_that_it_is_back() {
        let machine = Machine::new();
        let mut health = machine.health().unwrap();
        machine.is(&["lost", "xid 79"]);
        let problem = health.look();
        assert!(problem.contains("does not answer"), "{problem}");
        assert_eq!(health.used_by(std::process::id()), None);
        machine.is(&["action 1", "xid 79"]);
        let problem = health.look();
        assert!(problem.contains("reset (xid 79)"), "{problem}");
        machine.is(&[]);
        assert_eq!(health.look(), "");
    }

    #[test]
    fn without_events_it_is_still_heard_what_the_driver_wants() {
        let machine = Machine::new();
        machine.is(&["no-events"]);
        let mut health = machine.health().unwrap();
        assert!(health.events.is_none());
        machine.is(&["action 4", "xid 48"]);
        let problem = health.look();
        assert!(problem.ends_with("drained and reset"), "without numbers: {problem}");
    }

    #[test]
    fn what_a_process_has_of_the_card_is_its_own_alone_or_not_known() {
        let machine = Machine::new();
        let health = machine.health().unwrap();
        let own = || health.used_by(std::process::id());
        assert_eq!(own(), None, "the library has no number");
        machine.is(&["used 123456"]);
        assert_eq!(own(), Some(123_456));
        machine.is(&["used 123456", "hidden"]);
        assert_eq!(own(), None, "as in a container");
    }

    #[test]
    fn without_a_library_a_driver_or_that_card_nothing_is_known() {
        let machine = Machine::new();
        assert!(Health::of(Path::new("/nonexistent/libnvidia-ml.so.1"), CARD).is_none());
        assert!(Health::of(&machine.path, STRANGER).is_none());
        machine.is(&["no-driver"]);
        assert!(machine.health().is_none());
        machine.is(&["lost"]);
        assert!(machine.health().is_none());
    }

    #[test]
    fn another_card_that_is_lost_is_not_this_ones_problem() {
        let machine = Machine::new();
        let mut health = machine.health().unwrap();
        machine.is(&["other-lost", "used 123456"]);
        assert_eq!(health.look(), "");
        assert_eq!(health.used_by(std::process::id()), Some(123_456));
    }
}
