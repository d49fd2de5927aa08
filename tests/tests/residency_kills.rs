//! Workers and servers killed at random moments, with loads and unloads under way: what was loaded is there again, nothing that was
//! unloaded is, and nothing is left over.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::Reason;
use hoist_tests::caching::counts_are_true;
use hoist_tests::ledger::list;
use hoist_tests::library::{Library, Open, PATIENCE};
use hoist_tests::loading::{
    devices_are_true, end, is_open, load, replicas, residency, single, unload, worker,
};
use hoist_tests::{Channels, Mirror, Random, loading, process, request_id, soak};
use hoist_wire::longrunning::Operation;
use hoist_wire::longrunning::operation::Result as Outcome;
use hoist_wire::status::Failure;
use hoist_wire::v1;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

const DEVICE: &str = "cpu:0";

/// Loaded before, and by nobody unloaded.
const KEPT: [&str; 3] = ["a", "b", "c"];

/// Loaded and unloaded while things are killed.
const CHURN: [&str; 3] = ["x", "y", "z"];

/// Kills of workers, and as many of servers, for each seed.
const KILLS: usize = 15;

/// A server gives up on a worker that fails five times in five minutes; the next server begins anew.
const MOST_IN_A_ROW: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Server,
    /// The server, and while there is none the worker.
    Both,
}

/// What an operation came to, as its caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Failed,
    /// No answer, or none that says what has become of it.
    Nothing,
}

fn kill(process: u32) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// Models below a folder of their own, which can be taken away and put back without anybody seeing it in their files.
struct Shelf {
    library: Library,
    there: PathBuf,
    aside: PathBuf,
}

impl Shelf {
    fn new() -> Self {
        let library = loading::library("cpu:0=64MiB").unwrap();
        for (number, name) in KEPT.iter().chain(&CHURN).enumerate() {
            let value = f32::from(u8::try_from(number).unwrap());
            single(&library, &format!("all/{name}"), value, 1).unwrap();
        }
        let (there, aside) = (library.path("all"), library.path(".aside"));
        Self { library, there, aside }
    }

    fn hide(&self) {
        std::fs::rename(&self.there, &self.aside).unwrap();
    }

    fn show(&self) {
        std::fs::rename(&self.aside, &self.there).unwrap();
    }
}

/// Loads or unloads, as a client that is not sure of anything but what it is told.
async fn churn(at: Channels, name: &'static str, is_load: bool) -> Told {
    let wait_for = hoist_tests::library::waiting();
    let request_id = request_id();
    let answer = if is_load {
        let request =
            v1::LoadModelRequest { request_id, name: name.to_owned(), wait_for, ..Default::default() };
        residency(&at).load_model(request).await
    } else {
        let request =
            v1::UnloadModelRequest { request_id, name: name.to_owned(), wait_for, ..Default::default() };
        residency(&at).unload_model(request).await
    };
    match answer.map(|answer| answer.into_inner().result) {
        Ok(Some(Outcome::Response(_))) => Told::Done,
        // An unload has let go before it waits for the worker.
        Ok(Some(Outcome::Error(_))) if is_load => Told::Failed,
        _ => Told::Nothing,
    }
}

async fn names(at: &Channels) -> Vec<String> {
    replicas(at).await.unwrap().into_iter().map(|one| one.name).collect()
}

/// The segments that are on the device, by the models that they are there for.
fn contents<'a>(replicas: impl Iterator<Item = &'a v1::Replica>) -> BTreeMap<String, String> {
    let pairs = |one: &'a v1::Replica| one.models.iter().map(|model| (model.clone(), one.segment.clone()));
    replicas.flat_map(pairs).collect()
}

/// Waits until everything that was under way has ended.
async fn ended(at: &Channels) -> BTreeMap<String, Operation> {
    let mut all = list(at).await.unwrap();
    for operation in all.values_mut().filter(|operation| !operation.done) {
        *operation = end(at, &operation.name).await.unwrap();
        assert!(operation.done, "it does not end: {operation:#?}");
    }
    all
}

/// What a kill may have done to an operation.
fn is_excused(operation: &Operation) -> bool {
    let Some(Outcome::Error(error)) = &operation.result else { return true };
    let failure = Failure::from(error);
    [Reason::WorkerLost, Reason::CoordinatorRestarted, Reason::OperationCancelled]
        .into_iter()
        .any(|reason| failure.is(reason))
}

fn is_settled(mirror: &Mirror) -> bool {
    is_open(mirror, DEVICE)
        && mirror.replicas().all(|one| one.state() == v1::replica::State::Active && !one.models.is_empty())
}

/// Waits until the models that are to be there are, and no others.
async fn until_there(open: &mut Open, expected: &BTreeMap<String, String>) {
    let there = |mirror: &Mirror| is_settled(mirror) && contents(mirror.replicas()) == *expected;
    let what = format!("all of {expected:?}");
    if let Err(error) = open.watch.until(&what, there).await {
        let found: Vec<&v1::Replica> = open.watch.mirror.replicas().collect();
        panic!("{error:#}: {found:#?} {:#?}", worker(&open.watch.mirror, DEVICE));
    }
}

/// What each model is on the device, and whether it is to be there.
struct Known {
    model: String,
    segment: String,
    is_wanted: bool,
}

/// One server after the other, and what its callers were told.
struct Run {
    shelf: Shelf,
    /// None while there is no server.
    open: Option<Open>,
    random: Random,
    known: BTreeMap<&'static str, Known>,
    /// Of a worker that has begun with everything.
    descriptors: usize,
    /// Killed so far.
    workers: usize,
    servers: usize,
    /// Workers of one server.
    in_a_row: usize,
}

type Word = (&'static str, bool, Told);

impl Run {
    async fn begin(seed: u64) -> Self {
        let shelf = Shelf::new();
        let mut open = shelf.library.open().await.unwrap();
        loading::until_open(&mut open, &[DEVICE]).await.unwrap();
        let mut known = BTreeMap::new();
        for name in KEPT.into_iter().chain(CHURN) {
            let report = load(&open.at, name, &[]).await.unwrap();
            let one = report.components.first().unwrap();
            let (model, segment) = (one.model.clone(), one.segment.clone());
            known.insert(name, Known { model, segment, is_wanted: true });
        }
        devices_are_true(&shelf.library, &mut open).await.unwrap();
        let descriptors = process::open_files(worker(&open.watch.mirror, DEVICE).process_id).unwrap();
        let (workers, servers, in_a_row) = (0, 0, 0);
        let random = Random::new(seed);
        Self { shelf, open: Some(open), random, known, descriptors, workers, servers, in_a_row }
    }

    const fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("there is a server between rounds")
    }

    fn victim(&mut self) -> Victim {
        match self.random.below(5) {
            _ if self.in_a_row == MOST_IN_A_ROW || self.workers >= KILLS => Victim::Server,
            0 => Victim::Both,
            1 | 2 => Victim::Server,
            _ => Victim::Worker,
        }
    }

    async fn round(&mut self) {
        let victim = self.victim();
        let is_quiet = self.random.percent(35);
        let round = format!("round {}/{}, {victim:?}, quiet: {is_quiet}", self.workers, self.servers);
        let at = self.open().at.clone();
        let before = worker(&self.open().watch.mirror, DEVICE);
        let handles = names(&at).await;
        if is_quiet && victim == Victim::Worker {
            // What is brought back is not read from here again.
            self.shelf.hide();
        }
        let mut under_way = JoinSet::new();
        for name in CHURN {
            let (takes_part, is_load) = (self.random.percent(70), self.random.percent(60));
            if takes_part && !is_quiet {
                let at = at.clone();
                under_way.spawn(async move { (name, is_load, churn(at, name, is_load).await) });
            }
        }
        // A moment of the work, not a wait for it.
        tokio::time::sleep(Duration::from_micros(self.random.below(40_000))).await;
        let told = self.kill(victim, before.process_id, under_way).await;
        let is_it = |mirror: &Mirror| {
            let is_next = worker(mirror, DEVICE).incarnation != before.incarnation;
            is_open(mirror, DEVICE) && is_next == (victim != Victim::Server)
        };
        self.open().watch.until(&format!("{round}: its worker"), is_it).await.unwrap();
        self.account(told).await;
        self.settle(&round).await;
        let after = worker(&self.open().watch.mirror, DEVICE);
        let at = self.open().at.clone();
        match victim {
            Victim::Server => {
                assert_eq!(after.process_id, before.process_id, "{round}");
                if is_quiet {
                    assert_eq!(names(&at).await, handles, "{round}: nothing was loaded again");
                }
            }
            Victim::Worker if is_quiet => self.shelf.show(),
            Victim::Worker | Victim::Both => {}
        }
        let (now, most) = (process::open_files(after.process_id).unwrap(), self.descriptors);
        assert!(now <= most, "{round}: {now} descriptors, {most} at first");
    }

    /// Kills, and brings back what nobody else does; what the callers of then were told.
    async fn kill(&mut self, victim: Victim, process: u32, under_way: JoinSet<Word>) -> Vec<Word> {
        self.workers += usize::from(victim != Victim::Server);
        self.servers += usize::from(victim != Victim::Worker);
        self.in_a_row = if victim == Victim::Worker { self.in_a_row + 1 } else { 0 };
        let told = async || tokio::time::timeout(PATIENCE, under_way.join_all()).await.unwrap();
        if victim == Victim::Worker {
            kill(process);
            return told().await;
        }
        drop(self.open.take().unwrap().server.kill().unwrap());
        if victim == Victim::Both {
            kill(process);
        }
        let told = told().await;
        self.open = Some(self.shelf.library.open().await.unwrap());
        told
    }

    /// What is to be there by now. Who is in doubt asks again.
    async fn account(&mut self, told: Vec<Word>) {
        let at = self.open().at.clone();
        for (name, is_load, told) in told {
            match told {
                Told::Done => {}
                // It is as it was before.
                Told::Failed => continue,
                Told::Nothing if is_load => drop(load(&at, name, &[]).await.unwrap()),
                Told::Nothing => drop(unload(&at, name, &[]).await.unwrap()),
            }
            self.known.get_mut(name).unwrap().is_wanted = is_load;
        }
    }

    /// Waits until all that is to be there is, and looks whether anything else is.
    async fn settle(&mut self, round: &str) {
        let wanted = self.known.values().filter(|known| known.is_wanted);
        let expected: BTreeMap<String, String> =
            wanted.map(|known| (known.model.clone(), known.segment.clone())).collect();
        let open = self.open.as_mut().unwrap();
        until_there(open, &expected).await;
        for (name, operation) in ended(&open.at).await {
            assert!(is_excused(&operation), "{round}: {name} {operation:#?}");
        }
        // What follows from the ends of operations is there as well by now.
        until_there(open, &expected).await;
        let library = &self.shelf.library;
        devices_are_true(library, open).await.unwrap_or_else(|error| panic!("{round}: {error:#}"));
        counts_are_true(&open.at, library.sandbox.runtime_dir()).await.unwrap();
        assert_eq!(contents(replicas(&open.at).await.unwrap().iter()), expected, "{round}");
    }
}

/// R2, R3, R7, C3, I3: the oracle is what each caller was told.
#[tokio::test]
async fn killed_at_any_moment_what_was_loaded_comes_back_and_nothing_else_is_there() {
    for seed in soak::seeds(2) {
        println!("seed {seed}");
        let mut run = Run::begin(seed).await;
        while run.workers < KILLS || run.servers < KILLS {
            run.round().await;
        }
        println!("{} workers and {} servers were killed", run.workers, run.servers);
        assert!(run.open.take().unwrap().server.terminate().unwrap().0.success());
    }
}
