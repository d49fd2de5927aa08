//! `hoist-worker`: the process that owns one device's memory.
//!
//! Started by the coordinator, by hand, by systemd or in a container. What every worker does is in the library of that name;
//! what is here is the devices themselves. The only code that links libtorch.

mod cpu;
mod view;

use std::process::ExitCode;

use clap::Parser;
use hoist_domain::DeviceKind;
use hoist_worker::args::WorkerArgs;
use hoist_worker::device::{Device, Open};

use cpu::Cpu;

/// Owns the memory of one device, and puts there what its coordinator says.
#[derive(Debug, Parser)]
#[command(name = "hoist-worker", version)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    let Arguments { worker } = Arguments::parse();
    let device = worker.device;
    let open: Open = Box::new(move || match device.id.kind {
        DeviceKind::Cpu => Cpu::open(device.id, device.capacity).map(|cpu| Box::new(cpu) as Box<dyn Device>),
        DeviceKind::Cuda => Err("this release drives cpu devices alone".to_owned()),
    });
    hoist_worker::process::main(&worker, open)
}
