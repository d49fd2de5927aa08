//! A worker with a scripted device, for tests of what is around it: no libtorch, up in milliseconds.

use std::process::ExitCode;

use clap::Parser;
use hoist_domain::Bytes;
use hoist_worker::args::WorkerArgs;
use hoist_worker::fake::{Fake, Script};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    let Arguments { worker } = Arguments::parse();
    let (id, capacity) = (worker.device.id, worker.device.capacity.unwrap_or(Bytes::gib(1)));
    let open = Box::new(move || Ok(Box::new(Fake::new(id, capacity, Script::default())) as _));
    hoist_worker::process::main(&worker, open)
}
