//! NVIDIA GPUs through the CUDA driver, which is looked for when asked: a build with CUDA starts anywhere.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use burn::tensor::{Device as BurnDevice, DeviceType};
use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cudarc::driver::result as driver;

use super::{CHOICES, CudaDevice, Device, model_in};
use crate::error::{Error, Result};
use crate::files::write_whole;

/// The GPUs that the driver lists, in its order; none without a driver, or where kernels can't be compiled.
pub fn found() -> Vec<CudaDevice> {
    if lacks_headers() {
        return Vec::new();
    }
    provide_math();
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
            0 if lacks_headers() => {
                return Err(Error::new("this build compiles CUDA kernels by NVRTC, and CUDA's headers are not there")
                    .help("install the CUDA toolkit, or name its folder in CUDA_PATH; a build with --features cuda needs the driver alone"));
            }
            0 => "no CUDA device: the NVIDIA driver (libcuda) is not there, or lists no GPU".to_owned(),
            count => format!("there is no device cuda:{index} here; the driver lists {count}, from cuda:0"),
        };
        return Err(Error::new(what).help("`nvidia-smi` shows what the driver sees; --device cpu works without one"));
    };
    keep_kernels();
    Ok(device.chosen("asked for"))
}

/// The part's name, from the driver: a device that is only named is not opened, which would take memory of it for
/// every process that looks.
pub(super) fn name(index: usize) -> String {
    keep_kernels();
    let found = driver::init().and_then(|()| driver::device::get(index as i32)).and_then(driver::device::get_name);
    found.unwrap_or_else(|_| "NVIDIA GPU".to_owned())
}

/// Says where tuned choices and compiled kernels are kept, before a device is opened: in the user's cache, not under
/// `target/`.
fn keep_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A cubecl.toml of the user's and cubecl's own variables hold besides.
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        if let Some(folder) = kernels() {
            config.environment.path = CacheConfig::Directory(folder);
        }
        // Where something has set it before, that holds.
        CubeClRuntimeConfig::try_set(config);
    });
}

/// Where tuned choices and compiled kernels are kept.
fn kernels() -> Option<PathBuf> {
    named("UPSTILL_KERNEL_CACHE").or_else(|| Some(cache()?.join("kernels").join(models())))
}

/// The folder where a GPU's kernels will be kept, while none are, asked before the device is opened: then the first
/// steps take minutes.
pub fn kernels_to_come() -> Option<PathBuf> {
    kernels().filter(|folder| std::fs::read_dir(folder).map_or(true, |mut held| held.next().is_none()))
}

/// The machine's GPUs as a folder's name, each model once: cubecl keeps what it tuned by a device's number alone, and
/// one home may serve machines with different ones.
fn models() -> String {
    let information =
        |gpu: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(gpu.ok()?.path().join("information")).ok();
    let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten();
    let models: BTreeSet<String> = gpus.filter_map(information).filter_map(|text| model_in(&text)).collect();
    if models.is_empty() { "any".to_owned() } else { Vec::from_iter(models).join("+") }
}

/// A path that the environment gives.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Our folder in the user's cache.
fn cache() -> Option<PathBuf> {
    Some(named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?.join("upstill"))
}

/// Where cubecl looks for a toolkit.
const TOOLKITS: [&str; 4] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"];

/// Whether kernels are CUDA C++ and what they include is missing: cubecl would find that out in the middle of a launch.
fn lacks_headers() -> bool {
    let has_headers = |root: PathBuf| root.join("include/mma.h").exists();
    let found = || named("CUDA_PATH").map_or_else(|| TOOLKITS.iter().any(|root| has_headers(root.into())), has_headers);
    cfg!(feature = "cuda-nvrtc") && !found()
}

/// Kernels call exp, log, erf and the like from the CUDA toolkit's libdevice. Where there is no toolkit, puts
/// `shaders/cuda_math.rs` in its place, so that the driver is all that a machine needs.
fn provide_math() {
    const MATH: &[u8] = include_bytes!("../../shaders/cuda_math.bc");
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let has_toolkit = TOOLKITS.iter().any(|root| Path::new(root).join("nvvm/libdevice").is_dir());
        // NVRTC needs the toolkit itself.
        if cfg!(feature = "cuda-nvrtc") || has_toolkit || named("CUDA_PATH").is_some() {
            return;
        }
        let root = cache().unwrap_or_else(std::env::temp_dir).join(concat!("cuda-math-", env!("CARGO_PKG_VERSION")));
        let folder = root.join("nvvm/libdevice");
        let written = std::fs::create_dir_all(&folder).is_ok()
            && write_whole(&folder.join("libdevice.10.bc"), |file| file.write_all(MATH)).is_ok();
        if written {
            // SAFETY: the driver is not loaded yet, and everything of ours reads the environment under Rust's lock.
            unsafe { std::env::set_var("CUDA_PATH", root) };
        }
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
