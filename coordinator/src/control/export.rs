//! Exports: when one is due, what goes into it, and how it ended.
//!
//! ```text
//! owner: due ──Effect::Export──► whoever carries out effects: rows, file, fsync ──Command::Exported──► owner
//! ```
//!
//! The owner gives away a clone of its state, which costs nothing; rows are made where they are written. How it went
//! comes by a way of its own, so that a stop can wait for it and for nothing else; the command only says that it is
//! there. Invariant: one at a time, and a later one is never of an older state.

use std::sync::mpsc;
use std::time::Duration;

use hoist_domain::{Revision, ServiceTime};
use hoist_planner::State;
use hoist_store::{ExportError, ExportHeader, Exporter};
use tokio::sync::oneshot;
use tracing::debug;

use super::{Control, rows};

/// From the start to the first one.
const FIRST: Duration = Duration::from_secs(10);

pub(super) type Written = Result<(), ExportError>;

/// Everything durable, to be written beside the store. Whoever has written it says so with [`Control::exported`].
#[derive(Debug)]
pub struct Export {
    state: State,
    header: ExportHeader,
    written: oneshot::Sender<Written>,
}

impl Export {
    /// Blocks for as long as it takes to make, write and sync a row for everything.
    pub fn write(self, exporter: &mut dyn Exporter) {
        let written = exporter.export(self.header, &mut rows::all(&self.state));
        // Nobody to hear of it: the owner is gone, and the next start takes what is there.
        let _ = self.written.send(written);
    }
}

/// Writes one export after the other until no more can come. For a thread of its own.
pub fn write_exports(exports: &mpsc::Receiver<Box<Export>>, exporter: &mut dyn Exporter, control: &Control) {
    while let Ok(export) = exports.recv() {
        export.write(exporter);
        control.exported_blocking();
    }
}

/// What the owner knows of its exports.
#[derive(Debug)]
pub(super) struct Exports {
    interval: Duration,
    /// When the next one is.
    due: Duration,
    /// What the last one of this life holds. None was made yet: what the directory has is of unknown age.
    revision: Option<Revision>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    revision: Revision,
    written: oneshot::Receiver<Written>,
}

impl Exports {
    pub(super) fn new(interval: Duration, now: Duration) -> Self {
        // The first one soon: until there is one, a damaged header means that everything is lost.
        Self { interval, due: now + FIRST, revision: None, running: None }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// Not now, and not at once when it could be: whoever waits for the disk comes first.
    pub(super) fn put_off(&mut self, now: Duration) {
        self.due = now.saturating_add(self.interval);
    }

    /// What is to be written now. Nothing: one is being written, or the last one holds it all.
    pub(super) fn begin(
        &mut self,
        state: &State,
        service_time: ServiceTime,
        now: Duration,
    ) -> Option<Export> {
        if self.running.is_some() {
            return None;
        }
        self.put_off(now);
        let revision = state.position().revision;
        if Some(revision) == self.revision {
            return None;
        }
        debug!(%revision, "exporting the store");
        let (written, end) = oneshot::channel();
        self.running = Some(Running { revision, written: end });
        Some(Export { state: state.clone(), header: ExportHeader { revision, service_time }, written })
    }

    /// How the one that was being written has ended, told once.
    pub(super) fn ended(&mut self) -> Option<Written> {
        let Running { revision, written } = self.running.as_mut()?;
        let (revision, written) = match written.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            ended => (*revision, ended.ok()),
        };
        self.running = None;
        self.note(revision, written)
    }

    /// The same, however long it takes. Nothing is told of one that nobody has written.
    pub(super) fn wait(&mut self) -> Option<Written> {
        let Running { revision, written } = self.running.take()?;
        self.note(revision, written.blocking_recv().ok())
    }

    fn note(&mut self, revision: Revision, written: Option<Written>) -> Option<Written> {
        if let Some(Ok(())) = written {
            self.revision = Some(revision);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use hoist_domain::{
        Condition, ConditionKind, Machine, MachineState, Model, Position, Severity, WallTime,
    };
    use hoist_planner::Limits;
    use hoist_runtime::{Clock, ManualClock};
    use hoist_store::simulate::{SimulatedDisk, open_simulated};
    use hoist_store::{Batch, Opened, Store, Write};
    use tokio::sync::mpsc::UnboundedReceiver;

    use super::super::rows::tests::lora;
    use super::super::{Command, Effect, HistoryLimits, Owner, Parts, Restored, durable_rows, restore};
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn machine() -> Machine {
        Machine {
            state: MachineState::Serving,
            version: String::new(),
            process_id: 1,
            started_at: WallTime(0),
            measurements: Vec::new(),
        }
    }

    /// One life of an owner, whose exports are written when the test says so.
    struct Life {
        owner: Owner,
        control: Control,
        effects: UnboundedReceiver<Effect>,
        exporter: Box<dyn Exporter>,
        left_out: Vec<String>,
        clock: ManualClock,
    }

    impl Life {
        fn start(disk: &SimulatedDisk) -> Self {
            let (store, exporter, mut opened) = open_simulated(disk).unwrap();
            let Restored { state, left_out, superseded } = restore(&mut opened, machine());
            let (clock, hands) = Clock::manual();
            let (mut owner, control, effects) = Owner::new(Parts {
                state,
                store,
                service_time: opened.service_time,
                clock,
                limits: Limits { request_ids: 8, active_operations: 8, retention: Duration::from_secs(60) },
                history: HistoryLimits { events: 8, bytes: usize::MAX, age: Duration::from_secs(60) },
                export_interval: INTERVAL,
                superseded,
            });
            owner.recover().unwrap();
            Self { owner, control, effects, exporter, left_out, clock: hands }
        }

        fn says(&mut self, told: impl Future<Output = ()>) {
            told.now_or_never().unwrap();
            assert!(self.owner.take_turn());
        }

        /// Time passes; the export that is begun then, if one is.
        fn passes(&mut self, time: Duration) -> Option<Box<Export>> {
            self.clock.advance(time);
            let control = self.control.clone();
            self.says(control.tick());
            export(self.effects.try_recv().ok()?)
        }

        fn write(&mut self, export: Box<Export>) {
            export.write(self.exporter.as_mut());
            let control = self.control.clone();
            self.says(control.exported());
        }

        fn change(&mut self, message: &str) {
            let control = self.control.clone();
            self.says(control.raise(condition(message)));
        }
    }

    fn export(effect: Effect) -> Option<Box<Export>> {
        if let Effect::Export(export) = effect { Some(export) } else { None }
    }

    fn condition(message: &str) -> Condition {
        Condition {
            kind: ConditionKind::TaskPanicked,
            severity: Severity::Info,
            message: message.to_owned(),
            advice: String::new(),
            since: WallTime(0),
            details: Vec::new(),
        }
    }

    /// What a start finds that has nothing but the export.
    fn exported(disk: &SimulatedDisk) -> Opened {
        disk.remove_store();
        open_simulated(disk).unwrap().2
    }

    fn keep(store: &mut dyn Store, at: Position, model: Model) {
        let state = State::restore(at, machine(), [], [], [(at.revision, model)]);
        let writes = durable_rows(&state).map(Write::Put).collect();
        store.commit(&Batch { revision: at.revision, service_time: ServiceTime(0), writes }).unwrap();
    }

    #[test]
    fn one_export_is_written_at_a_time_and_none_of_what_the_last_one_holds() {
        let disk = SimulatedDisk::new();
        let mut life = Life::start(&disk);
        assert!(life.passes(Duration::from_secs(9)).is_none(), "not due");
        let first = life.passes(Duration::from_secs(1)).expect("the first is due");
        life.change("meanwhile");
        assert!(life.passes(INTERVAL).is_none(), "one is being written");
        let held = first.header.revision;
        life.write(first);
        let second = life.passes(INTERVAL).expect("something has changed");
        assert!(second.header.revision > held);
        life.write(second);
        assert!(life.passes(INTERVAL).is_none(), "nothing has changed");
    }

    #[test]
    fn an_export_that_fails_is_made_again_and_costs_nothing_else() {
        let disk = SimulatedDisk::new();
        let mut life = Life::start(&disk);
        let first = life.passes(Duration::from_secs(10)).unwrap();
        disk.fail_writes(Some(std::io::ErrorKind::StorageFull));
        life.write(first);
        disk.fail_writes(None);
        assert!(life.control.view().state.conditions().next().is_none(), "the store is not affected");
        assert!(life.passes(INTERVAL).is_some(), "nothing is exported yet");
    }

    #[test]
    fn a_stop_waits_for_the_export_that_is_being_written_and_exports_what_came_after() {
        let disk = SimulatedDisk::new();
        let mut life = Life::start(&disk);
        let first = life.passes(Duration::from_secs(10)).unwrap();
        let Life { owner, control, mut effects, mut exporter, .. } = life;
        let newest = std::thread::scope(|scope| {
            let running = scope.spawn(|| owner.run());
            control.commands.blocking_send(Command::Raise(condition("at last"))).unwrap();
            control.commands.blocking_send(Command::Stop).unwrap();
            assert!(!running.is_finished(), "it waits");
            first.write(exporter.as_mut());
            let last = effects.blocking_recv().and_then(export).expect("there is more to export");
            last.write(exporter.as_mut());
            running.join().unwrap();
            control.view().state.position().revision
        });
        drop(exporter);
        assert_eq!(exported(&disk).revision, newest);
    }

    #[test]
    fn a_row_whose_place_a_newer_one_has_is_told_until_there_is_an_export_without_it() {
        let disk = SimulatedDisk::new();
        let (mut store, _, opened) = open_simulated(&disk).unwrap();
        let at = |revision| Position { epoch: opened.epoch, revision: Revision(revision) };
        keep(store.as_mut(), at(1), lora(1));
        keep(store.as_mut(), at(2), Model { id: lora(2).id, ..lora(1) });
        drop(store);

        let told = Life::start(&disk).left_out;
        assert!(told.len() == 1 && told[0].contains("an older one of the path"), "{told:?}");
        let mut life = Life::start(&disk);
        assert_eq!(life.left_out, told, "killed before it was exported");
        let export = life.passes(Duration::from_secs(10)).unwrap();
        life.write(export);
        drop(life);

        let life = Life::start(&disk);
        assert_eq!(life.left_out, Vec::<String>::new());
        let models: Vec<_> = life.control.view().state.models().iter().map(|model| model.id).collect();
        assert_eq!(models, [lora(2).id]);
        drop(life);
        let mut opened = exported(&disk);
        assert_eq!(restore(&mut opened, machine()).left_out, Vec::<String>::new(), "nor from the export");
    }
}
