//! `hoist-worker`: the process that owns one device's memory.
//!
//! Started by the coordinator, by hand, by systemd or in a container. What every worker does is in the library of that name;
//! what is here is the devices themselves. The only code that links libtorch.

#![expect(unsafe_code, reason = "a process whose device hangs is left without its libraries' last words")]

mod cpu;
mod cuda;
mod view;

use std::ffi::c_int;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hoist_domain::{DeviceKind, DeviceSpec};
use hoist_worker::Ending;
use hoist_worker::args::WorkerArgs;
use hoist_worker::device::{Device, Open};

use cpu::Cpu;
use cuda::{Converter, CopyBy, Cuda, CudaHalf, Driver, How, OnCard, open_cuda_half};

/// Owns the memory of one device, and puts there what its coordinator says.
#[derive(Debug, Parser)]
#[command(
    name = "hoist-worker",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(flatten)]
    worker: Option<WorkerArgs>,

    /// How bytes get to a card
    #[arg(long = "copy", value_name = "HOW", value_enum, default_value_t)]
    copy_by: CopyBy,

    #[command(subcommand)]
    only: Option<Only>,
}

#[derive(Debug, Subcommand)]
enum Only {
    /// Open a device, say what it is or why it cannot be driven, and end
    Check {
        /// The device: cuda:0
        #[arg(long, value_name = "DEVICE[=SIZE]")]
        device: DeviceSpec,
    },
}

fn main() -> ExitCode {
    match Arguments::parse() {
        Arguments { only: Some(Only::Check { device }), copy_by, .. } => check(device, copy_by),
        Arguments { worker: Some(worker), copy_by, .. } => {
            let device = worker.device;
            let open: Open = Box::new(move || open(device, copy_by));
            leave(&hoist_worker::process::main(&worker, open))
        }
        Arguments { worker: None, .. } => {
            eprintln!("error: name the device and the coordinator: --device cuda:0 --coordinator unix:///…");
            ExitCode::from(2)
        }
    }
}

/// Ends the process as the worker has ended.
fn leave(ending: &Ending) -> ExitCode {
    if ending.is_to_leave_at_once() {
        // SAFETY: it ends the process, and runs nothing of it: no destructor, no library's last words. All that was to be said
        // has been written by then.
        unsafe { _exit(ending.exit_code().into()) }
    }
    ending.exit_code().into()
}

// SAFETY: POSIX's, of the C library that this program is linked with anyway.
unsafe extern "C" {
    fn _exit(status: c_int) -> !;
}

/// What a device is, in one line; or why it cannot be driven.
fn check(device: DeviceSpec, copy_by: CopyBy) -> ExitCode {
    match open(device, copy_by) {
        Ok(opened) => {
            let (facts, memory) = (opened.facts(), opened.memory());
            let libraries = facts.libraries.join(", ");
            println!("{} of {}, {} free; {libraries}", facts.capacity, facts.model, memory.free);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn open(device: DeviceSpec, copy_by: CopyBy) -> Result<Box<dyn Device>, String> {
    match device.id.kind {
        DeviceKind::Cpu => Cpu::open(device.id, device.capacity).map(|cpu| Box::new(cpu) as Box<dyn Device>),
        DeviceKind::Cuda => open_card(device, copy_by),
    }
}

fn open_card(device: DeviceSpec, copy_by: CopyBy) -> Result<Box<dyn Device>, String> {
    let driver = Driver::open(Path::new(cuda::DRIVER))?;
    let converter: Result<Box<dyn Converter>, String> = match open_cuda_half()? {
        CudaHalf::There(cards) if i64::from(device.id.number) < cards => {
            Ok(Box::new(OnCard::new(device.id.number.into())))
        }
        CudaHalf::There(cards) => {
            return Err(format!("libtorch finds {cards} cards, and {} is none of them", device.id));
        }
        // Weights can be there, and be shared, without it.
        CudaHalf::Absent(folder) => {
            let why =
                format!("no libtorch_cuda.so in {}: nothing is converted on the card", folder.display());
            tracing::warn!("{why}; PyTorch's own lib folder has both halves");
            Err(why)
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Ok(Box::new(Cuda::open(
        driver,
        device,
        How { copy_by, processors, converter, management: Path::new(cuda::MANAGEMENT) },
    )?))
}
