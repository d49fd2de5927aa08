//! Whether a card is to get nothing new, and what of its memory is ours: what the driver's management library says.
//!
//! Without that library a card is driven all the same, and nothing is known of its health but what its calls answer.

use std::collections::BTreeSet;
use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;

/// The library, by the name that every driver installs it under.
pub(crate) const LIBRARY: &str = "libnvidia-ml.so.1";

/// Numbers of errors that come from a program on the card and leave the card as it was: a fault of one context is that process's.
const OF_PROGRAMS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// One card's health.
pub(crate) struct Health {
    nvml: &'static Nvml,
    uuid: String,
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
        Some(Self { nvml, uuid: uuid.to_owned(), events, told: Told::default() })
    }

    /// Why the card is to get nothing new, as far as is known now. Empty: nothing is wrong.
    pub(crate) fn look(&mut self) -> String {
        self.hear();
        let card = self.nvml.device_by_uuid(self.uuid.as_str());
        let fields =
            card.and_then(|card| card.field_values_for(&[FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)]));
        self.told.is_lost = matches!(fields, Err(NvmlError::GpuLost));
        if let Ok(fields) = fields {
            let value = fields.into_iter().next().and_then(Result::ok).and_then(|sample| sample.value.ok());
            self.told.action = value.and_then(|value| match value {
                SampleValue::U32(action) => Some(action),
                SampleValue::U64(action) => u32::try_from(action).ok(),
                SampleValue::I64(action) => u32::try_from(action).ok(),
                SampleValue::F64(_) => None,
            });
        }
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
        let card = self.nvml.device_by_uuid(self.uuid.as_str()).ok()?;
        let all = card.running_compute_processes().ok()?;
        match all.into_iter().find(|one| one.pid == process)?.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
