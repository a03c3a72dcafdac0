//! No CUDA in this build.

use burn::tensor::Device as BurnDevice;

use super::{CHOICES, CudaDevice, Device};
use crate::error::{Error, Result};

/// None: this build has no CUDA.
pub fn found() -> Vec<CudaDevice> {
    Vec::new()
}

pub(super) fn choose(which: &str) -> Result<Device> {
    match which.is_empty() || which.parse::<usize>().is_ok() {
        true => Err(Error::new("this build has no CUDA")
            .help("build with --features cuda (tests/cuda/README.md); or an NVIDIA GPU works through Vulkan: --device wgpu")),
        false => Err(Error::new(format!("unknown device \"cuda:{which}\"")).help(format!("one of: {CHOICES}"))),
    }
}

pub(super) fn name(_index: usize) -> String {
    unreachable!("no device of this kind is made")
}

pub(super) fn is_cuda(_device: &BurnDevice) -> bool {
    false
}

pub(super) fn memory_bytes(_device: &BurnDevice) -> Option<u64> {
    None
}

/// None: there is no such GPU.
pub fn kernels_to_come() -> Option<std::path::PathBuf> {
    None
}
