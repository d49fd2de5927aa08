//! `hoist-worker`: the process that owns one device's memory.
//!
//! Started by the coordinator, by hand, by systemd or in a container. What every worker does is in the library of that name;
//! what is here is the devices themselves. The only code that links libtorch.

mod cpu;
mod cuda;
mod view;

use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use hoist_domain::{DeviceKind, DeviceSpec};
use hoist_worker::args::WorkerArgs;
use hoist_worker::device::{Device, Open};

use cpu::Cpu;
use cuda::{Converter, CopyBy, Cuda, CudaHalf, Driver, How, OnCard, open_cuda_half};

/// Owns the memory of one device, and puts there what its coordinator says.
#[derive(Debug, Parser)]
#[command(name = "hoist-worker", version)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerArgs,

    /// How bytes get to a card
    #[arg(long = "copy", value_name = "HOW", value_enum, default_value_t)]
    copy_by: CopyBy,
}

fn main() -> ExitCode {
    let Arguments { worker, copy_by } = Arguments::parse();
    let device = worker.device;
    let open: Open = Box::new(move || match device.id.kind {
        DeviceKind::Cpu => Cpu::open(device.id, device.capacity).map(|cpu| Box::new(cpu) as Box<dyn Device>),
        DeviceKind::Cuda => open_card(device, copy_by),
    });
    hoist_worker::process::main(&worker, open)
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
