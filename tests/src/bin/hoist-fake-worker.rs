//! A worker with a scripted device, for tests of what is around it: no libtorch, up in milliseconds.
//!
//! What goes wrong is written to files by the test, as `hoist_tests::loading::Stage` says: a test has no other word with a
//! process that its server has started.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hoist_domain::{Bytes, DeviceFacts, DeviceMemory, ReplicaFailure, ReplicaId};
use hoist_worker::args::WorkerArgs;
use hoist_worker::device::{Checked, Device, Load, Loaded, Pace, Piece, Share, Stopped, Sums, Unloaded};
use hoist_worker::fake::{Fake, Mishap, Script};

/// How often a load that hangs looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerArgs,

    /// The folder with what goes wrong
    #[arg(long, env = "FAKE_WORKER_STAGE")]
    stage: Option<PathBuf>,
}

/// A device whose mishaps are in a file: a line for each load, taken off it when that load begins.
#[derive(Debug)]
struct Staged {
    fake: Fake,
    script: Script,
    stage: PathBuf,
}

impl Staged {
    fn next(&self) -> Option<Mishap> {
        let lines = self.stage.join(self.fake.facts().id.to_string());
        let text = std::fs::read_to_string(&lines).ok()?;
        let (first, rest) = text.split_once('\n')?;
        std::fs::write(&lines, rest).expect("the stage can be written");
        mishap(first)
    }
}

#[expect(clippy::panic, reason = "a test has written what nobody understands: its worker is to end")]
fn mishap(line: &str) -> Option<Mishap> {
    let words: Vec<&str> = line.split(' ').collect();
    let bytes = |word: &str| Bytes(word.parse().expect("a number of bytes"));
    match words.as_slice() {
        ["well"] => None,
        ["hang"] => Some(Mishap::Hang),
        ["poison"] => Some(Mishap::Poison),
        ["retain", retained] => Some(Mishap::Retain(bytes(retained))),
        ["no-memory", needed, free] => {
            let failure = ReplicaFailure::NoMemory { needed: bytes(needed), free: bytes(free) };
            Some(Mishap::Fail(failure))
        }
        ["device", why @ ..] => Some(Mishap::Fail(ReplicaFailure::Device(why.join(" ")))),
        _ => panic!("no mishap: {line}"),
    }
}

impl Device for Staged {
    fn facts(&self) -> DeviceFacts {
        self.fake.facts()
    }

    fn memory(&self) -> DeviceMemory {
        self.fake.memory()
    }

    fn check(&mut self) -> Result<Checked, String> {
        self.fake.check()
    }

    fn load(&mut self, load: &Load, pace: &mut dyn Pace) -> Result<Loaded, Stopped> {
        let next = self.next();
        if next == Some(Mishap::Hang) {
            // Before it begins, so that its script never says that nothing hangs.
            wait_for(self.stage.join("go-on"), self.script.clone());
        }
        self.script.next_loads([next]);
        self.fake.load(load, pace)
    }

    fn unload(&mut self, id: ReplicaId) -> Option<Unloaded> {
        self.fake.unload(id)
    }

    fn read(&self, id: ReplicaId, tensor: &str, offset: u64, length: usize) -> Option<Piece> {
        self.fake.read(id, tensor, offset, length)
    }

    fn share(&self, id: ReplicaId) -> Result<Share, String> {
        self.fake.share(id)
    }

    fn sums(&self, id: ReplicaId, pace: &mut dyn Pace) -> Result<Sums, String> {
        self.fake.sums(id, pace)
    }

    fn tensors(&self, id: ReplicaId) -> Vec<String> {
        self.fake.tensors(id)
    }
}

/// What hangs goes on once there is such a file.
#[expect(clippy::disallowed_methods, reason = "it ends with this process, which has no tasks of its own")]
fn wait_for(file: PathBuf, script: Script) {
    std::thread::spawn(move || {
        while !(script.is_hanging() && Path::exists(&file)) {
            std::thread::sleep(LOOK_EVERY);
        }
        script.go_on();
    });
}

fn main() -> ExitCode {
    let Arguments { worker, stage } = Arguments::parse();
    let (id, capacity) = (worker.device.id, worker.device.capacity.unwrap_or(Bytes::gib(1)));
    let open = Box::new(move || {
        let script = Script::default();
        let fake = Fake::new(id, capacity, script.clone());
        Ok(match stage {
            Some(stage) => Box::new(Staged { fake, script, stage }) as Box<dyn Device>,
            None => Box::new(fake),
        })
    });
    hoist_worker::process::main(&worker, open).exit_code().into()
}
