//! NVIDIA GPUs through the CUDA driver, which is looked for when asked: a build with CUDA starts anywhere.

use std::path::PathBuf;

use burn::tensor::{Device as BurnDevice, DeviceType};
use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

use super::{CHOICES, CudaDevice, Device};
use crate::error::{Error, Result};

/// The GPUs that the driver lists, in its order; none without a driver.
pub fn found() -> Vec<CudaDevice> {
    let devices = BurnDevice::enumerate(DeviceType::Cuda).into_iter().enumerate();
    devices.map(|(index, handle)| CudaDevice { index, handle }).collect()
}

/// `cuda` or, with `which`, `cuda:N`.
pub(super) fn choose(which: &str) -> Result<Device> {
    let index = match which {
        "" => 0,
        index => index
            .parse::<usize>()
            .map_err(|_| Error::new(format!("unknown device \"cuda:{which}\"")).help(format!("one of: {CHOICES}")))?,
    };
    let found = found();
    let Some(device) = found.get(index) else {
        let what = match found.len() {
            0 => "no CUDA device: the NVIDIA driver (libcuda) is not there, or lists no GPU".to_owned(),
            count => format!("there is no device cuda:{index} here; the driver lists {count}, from cuda:0"),
        };
        return Err(Error::new(what).help("`nvidia-smi` shows what the driver sees; --device cpu works without one"));
    };
    keep_kernels();
    Ok(device.chosen("asked for"))
}

/// The part's name, by opening it.
pub(super) fn name(device: &BurnDevice) -> String {
    keep_kernels();
    device.identity().map_or_else(|| "NVIDIA GPU".to_owned(), |identity| identity.name)
}

/// Says where tuned choices and compiled kernels are kept, before a device is opened: in the user's cache, not under `target/`.
fn keep_kernels() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
        // A cubecl.toml of the user's and cubecl's own variables hold besides.
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        if let Some(folder) = named("UPSTILL_KERNEL_CACHE").or_else(|| Some(cache?.join("upstill/kernels"))) {
            config.environment.path = CacheConfig::Directory(folder);
        }
        // Where something has set it before, that holds.
        CubeClRuntimeConfig::try_set(config);
    });
}

/// Whether it is one of the driver's, with autodiff or without.
pub(super) fn is_cuda(device: &BurnDevice) -> bool {
    static ALL: std::sync::OnceLock<Vec<CudaDevice>> = std::sync::OnceLock::new();
    ALL.get_or_init(found).iter().any(|one| one.handle == *device)
}

/// All of the GPU's memory, in bytes. Opens the device.
pub(super) fn memory_bytes(device: &BurnDevice) -> Option<u64> {
    keep_kernels();
    let any = burn::tensor::Tensor::<1>::empty([1], device).try_into_primitive::<burn_cubecl::CubeBackend>().ok()?;
    any.client.properties().memory.max_memory()
}
