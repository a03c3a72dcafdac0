//! What every `upstill study` is told.

use std::path::{Path, PathBuf};

use super::DeviceArg;
use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};

/// What any study is told.
#[derive(clap::Args)]
pub(super) struct Common {
    /// The study's folder; runs/study-SIZE or runs/NAME unless given
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Runs at the same time; the number of cores on a CPU, 1 on a GPU, unless given
    #[arg(long)]
    pub(super) jobs: Option<usize>,
    #[command(flatten)]
    pub(super) device: DeviceArg,
    /// Print the results on standard output for machines
    #[arg(long)]
    pub(super) json: bool,
}

/// The study's folder: plans and commands name it, so its name is text.
pub(super) fn folder(args: &Common, name: &str) -> Result<PathBuf> {
    let dir = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    match dir.to_str() {
        Some(_) => Ok(dir),
        None => Err(Error::new("the name of the study's folder is not UTF-8").at(dir.display()).help("choose another --out")),
    }
}

/// A CPU run keeps little more than one core busy, so as many run side by side as there are cores.
pub(super) fn default_jobs(device: &Device) -> usize {
    match device.kind {
        DeviceKind::Cpu => std::thread::available_parallelism().map_or(1, usize::from),
        DeviceKind::Cuda | DeviceKind::Wgpu | DeviceKind::SoftwareGpu => 1,
    }
}
