//! The devices: detect, choose, say why.
//!
//! **flex is the CPU backend**: pure Rust, eager, the same bits on every run with as many threads, and it runs in a
//! browser. burn's `cpu` (CubeCL through LLVM, with fusion) needs LLVM to build and had not finished its first tiny
//! step after 4 minutes in the one try; ndarray is deprecated. With operations of our own where the time goes, little
//! is left to flex.
//!
//! **Fusion is off, and autotune is on with `cuda` only.** burn's fusion is another backend type, through which kernels
//! of our own would have to be wired; it is known for wrong results, and what it would fuse in an encoder layer is
//! written out in `src/kernels/` (each operation's `cube.rs`).

use burn::tensor::{Device as BurnDevice, FloatDType, Tensor, TensorData, Transaction};

mod bf16;
mod compute;
#[cfg_attr(not(feature = "cuda"), path = "device/no_cuda.rs")]
mod cuda;
mod memory;
mod precision;
mod processor;
mod traits;

use crate::error::{Error, Result};

pub use bf16::Bf16Unit;
pub use compute::Compute;
pub use cuda::{found as cuda_devices, kernels_to_come};
pub use memory::memory_bytes;
pub use precision::{Precision, PrecisionChoice};
pub use processor::{instructions, processor, processor_name};
pub use traits::{Kernels, Traits};

/// A device to train on, and why it was chosen.
#[derive(Debug, Clone)]
pub struct Device {
    /// burn's handle.
    pub handle: BurnDevice,
    /// What it is.
    pub kind: DeviceKind,
    /// The part's own name: an adapter's, or the number of CPU threads.
    pub name: String,
    /// Why this one: a clause for the first line of a run.
    pub why: String,
}

/// What kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// burn's CPU backend, flex.
    Cpu,
    /// An NVIDIA GPU through CUDA.
    Cuda,
    /// A GPU through WebGPU (Vulkan, Metal, DirectX 12).
    Wgpu,
    /// A GPU emulated by the CPU, through WebGPU. Never chosen unless asked for.
    SoftwareGpu,
}

impl DeviceKind {
    /// The word in run files and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Wgpu => "wgpu",
            DeviceKind::SoftwareGpu => "wgpu:software",
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.kind.word(), self.name, self.why)
    }
}

/// What may be asked for.
pub const CHOICES: &str = "auto, cpu, cuda, cuda:N, wgpu, wgpu:N, wgpu:software";

impl Device {
    /// The CPU.
    pub fn cpu(why: &str) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { handle: BurnDevice::flex(), kind: DeviceKind::Cpu, name: format!("{threads} threads"), why: why.to_owned() }
    }

    /// Chooses what `request` names ([`CHOICES`]); `auto` takes the first NVIDIA GPU where this build has CUDA, else
    /// the first real GPU, else the CPU.
    ///
    /// # Errors
    /// When the request is unknown, or names what this machine or this build does not have.
    pub fn choose(request: &str) -> Result<Self> {
        match request.split_once(':').unwrap_or((request, "")) {
            ("auto", "") => Ok(auto()),
            ("cpu", "") => Ok(Self::cpu("asked for")),
            ("wgpu", which) => gpu(which),
            ("cuda", which) => cuda::choose(which),
            _ => Err(Error::new(format!("unknown device {request:?}")).help(format!("one of: {CHOICES}"))),
        }
    }
}

impl Device {
    /// The number by which the CUDA driver knows it.
    pub fn cuda_index(&self) -> Option<usize> {
        let is_cuda = self.kind == DeviceKind::Cuda;
        is_cuda.then(cuda::found)?.iter().find(|one| one.handle == self.handle).map(|one| one.index)
    }

    /// The devices of so many workers: of GPUs this one and those after it, in the order of `cuda:N` and `wgpu:N`; a
    /// CPU, and a GPU that it imitates, has room for all.
    ///
    /// # Errors
    /// When there are fewer GPUs.
    pub fn several(&self, workers: usize) -> Result<Vec<Self>> {
        if workers < 2 || matches!(self.kind, DeviceKind::Cpu | DeviceKind::SoftwareGpu) {
            return Ok(vec![self.clone(); workers.max(1)]);
        }
        let all: Vec<Self> = match self.kind {
            DeviceKind::Cuda => cuda::found().iter().map(|device| device.chosen("a worker's")).collect(),
            _ => adapters().iter().filter(|gpu| !gpu.is_software).map(|gpu| of_adapter(gpu, "a worker's")).collect(),
        };
        let from_here: Vec<Self> = all.into_iter().skip_while(|device| device.handle != self.handle).take(workers).collect();
        match from_here.len() {
            found if found == workers => Ok(from_here),
            found => {
                Err(Error::new(format!("{workers} workers need a GPU each; from {self} on there are {found}")).help(format!(
                    "write [runtime] workers = {}, or begin with an earlier GPU: device = \"{}\"",
                    found.max(1),
                    self.kind.word()
                )))
            }
        }
    }

    /// Refuses a precision that the device doesn't have.
    ///
    /// # Errors
    /// When it has no such numbers.
    pub fn must_have(&self, precision: Precision) -> Result<()> {
        let wanted = match precision {
            Precision::F32 => return Ok(()),
            Precision::Bf16 => FloatDType::BF16,
            Precision::F16 => FloatDType::F16,
        };
        match self.handle.supports_dtype(wanted) {
            true => Ok(()),
            false => Err(Error::new(format!("{} ({}) does not compute in {precision}", self.kind.word(), self.name)).help(
                "write [runtime] precision = \"f32\"; bf16 needs CUDA (an Ampere GPU or later), f16 CUDA or a GPU with WebGPU's shader-f16; the CPU has both, f16 slowly",
            )),
        }
    }
}

/// Waits for what a device was asked. A browser may not wait: only what is there at once, as all is on the CPU, can be
/// had so.
pub fn wait<T>(asked: impl Future<Output = T>) -> T {
    pollster::block_on(asked)
}

/// Reads some numbers, `[1]` each, in one go and without blocking.
///
/// # Errors
/// When the device is lost or out of memory.
pub(crate) async fn read_scalars(scalars: Vec<Tensor<1>>) -> Result<Vec<f64>> {
    if scalars.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = scalars.into_iter().fold(Transaction::default(), Transaction::register);
    let found = wanted.execute_async().await.map_err(|error| failed("an evaluation", &error))?;
    let number = |data: TensorData| data.convert::<f32>().try_to_vec::<f32>().expect("just converted to f32")[0];
    Ok(found.into_iter().map(|data| f64::from(number(data))).collect())
}

/// The error for what a device answers in place of the numbers of `what`.
pub(crate) fn failed(what: &str, answer: &impl std::fmt::Debug) -> Error {
    let text = format!("{answer:?}");
    let lines: Vec<&str> =
        text.lines().take_while(|line| !line.starts_with("Backtrace")).filter(|line| *line != "Caused by:").collect();
    let text = lines.join(": ");
    match is_about_memory(&text) {
        true => out_of_memory(&text),
        false => Error::new(format!("{what}: the device failed: {text}"))
            .help("go on from the last checkpoint with --resume; `upstill doctor` tests the device"),
    }
}

/// Whether a device's words say that memory ran out, in the words of cubecl, CUDA and Vulkan.
pub(crate) fn is_about_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    ["out of memory", "out of device memory", "outofmemory", "out_of_memory", "not enough memory", "buffertoobig"]
        .iter()
        .any(|words| text.contains(words))
}

/// The error for a device's words.
pub(crate) fn out_of_memory(text: &str) -> Error {
    Error::out_of_memory(format!("the device's memory ran out: {}", text.lines().next().unwrap_or("no more is known")))
}

/// Whether tensors of this device are computed by burn's CPU backend.
pub fn is_cpu(device: &BurnDevice) -> bool {
    *device == BurnDevice::flex()
}

/// Memory in bytes of what a run file's `runtime.device` names, where it is known: of a CUDA GPU its own, else the
/// machine's.
pub(crate) fn memory_of(request: &str) -> Option<u64> {
    let (word, which) = request.split_once(':').unwrap_or((request, "0"));
    let of_gpu = || cuda::memory_bytes(&cuda::found().get(which.parse::<usize>().ok()?)?.handle);
    if matches!(word, "auto" | "cuda") { of_gpu().or_else(memory_bytes) } else { memory_bytes() }
}

/// What the device `auto` is here, where that can be said without opening any.
pub(crate) fn auto_is() -> Option<&'static str> {
    (!cuda::found().is_empty()).then_some("cuda")
}

/// Asks for memory for a value of so many bytes, and gives it back, before anything else is on the device. Through
/// CUDA, CubeCL's pages are as large as the largest value so far, and when a larger one comes, those that are there are
/// hardly used again: 9.3 GiB were held where 5.4 were enough.
pub(crate) fn make_room(device: &BurnDevice, bytes: usize) {
    if Traits::of(device).grows_pages {
        drop(Tensor::<1>::empty([bytes / size_of::<f32>()], device));
    }
}

/// An NVIDIA GPU that the CUDA driver lists.
#[derive(Debug, Clone)]
pub struct CudaDevice {
    /// Its number: `cuda:N`.
    pub index: usize,
    handle: BurnDevice,
}

impl CudaDevice {
    /// The part's name.
    pub fn name(&self) -> String {
        cuda::name(self.index)
    }

    fn chosen(&self, why: &str) -> Device {
        Device { handle: self.handle.clone(), kind: DeviceKind::Cuda, name: self.name(), why: why.to_owned() }
    }
}

/// A GPU as the graphics API reports it.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The part's name.
    pub name: String,
    /// Vulkan, Metal, ...
    pub api: String,
    /// Whether the CPU emulates it.
    pub is_software: bool,
    /// Largest buffer that a kernel can bind, in bytes.
    pub binding_bytes_max: u64,
    /// Largest buffer, in bytes.
    pub buffer_bytes_max: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes_max: u32,
    /// Invocations in a workgroup.
    pub invocations_max: u32,
    handle: BurnDevice,
}

fn auto() -> Device {
    if let Some(first) = cuda::found().into_iter().next() {
        return first.chosen("the first NVIDIA GPU found; --device overrides");
    }
    let adapters = adapters();
    match adapters.iter().find(|adapter| !adapter.is_software) {
        Some(adapter) => of_adapter(adapter, "the first GPU found; --device cpu overrides"),
        None if !cfg!(feature = "wgpu") => Device::cpu("this build has no GPU backend (feature wgpu)"),
        None if adapters.is_empty() => Device::cpu("no GPU found"),
        None => Device::cpu("the only GPU found is imitated by the CPU (--device wgpu:software takes it)"),
    }
}

fn gpu(which: &str) -> Result<Device> {
    if !cfg!(feature = "wgpu") {
        return Err(Error::new("this build has no GPU backend").help("build with the feature wgpu, or --device cpu"));
    }
    let adapters = adapters();
    let wanted = match which {
        "" => adapters.iter().find(|adapter| !adapter.is_software),
        "software" => adapters.iter().find(|adapter| adapter.is_software),
        index => match index.parse::<usize>() {
            Ok(index) => adapters.get(index),
            Err(_) => return Err(Error::new(format!("unknown device \"wgpu:{which}\"")).help(format!("one of: {CHOICES}"))),
        },
    };
    let found = || match adapters.is_empty() {
        true => "no GPU found; install its Vulkan driver, or --device cpu".to_owned(),
        false => format!("found: {}", adapters.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ")),
    };
    let colon = if which.is_empty() { "" } else { ":" };
    wanted
        .map(|adapter| of_adapter(adapter, "asked for"))
        .ok_or_else(|| Error::new(format!("there is no device wgpu{colon}{which} here")).help(found()))
}

fn of_adapter(adapter: &Adapter, why: &str) -> Device {
    let kind = if adapter.is_software { DeviceKind::SoftwareGpu } else { DeviceKind::Wgpu };
    Device { handle: adapter.handle.clone(), kind, name: format!("{}, {}", adapter.name, adapter.api), why: why.to_owned() }
}

/// The GPU that a browser offers; to be asked for once, before any tensor is made on it.
///
/// # Errors
/// When the browser has no WebGPU or refuses an adapter.
#[cfg(all(feature = "wgpu", target_family = "wasm"))]
pub async fn web_gpu() -> Result<BurnDevice> {
    BurnDevice::wgpu_options().init_async().await.map_err(|error| {
        Error::new(format!("the browser gives no GPU: {error}")).help("train on the CPU, or use a browser that has WebGPU")
    })
}

/// The GPUs of this machine, in the order of `wgpu:N`.
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
pub fn adapters() -> Vec<Adapter> {
    use burn::tensor::DeviceKind as Kind;
    // Vulkan, Metal and DirectX 12 alone: asking for OpenGL makes its libraries complain on machines without a display.
    let backends = wgpu::Backends::PRIMARY;
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() });
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    let mut counts = [0usize; 3];
    let mut number = |slot: usize| {
        counts[slot] += 1;
        counts[slot] - 1
    };
    let mut out = Vec::new();
    for adapter in found {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::DiscreteGpu(number(0)),
            wgpu::DeviceType::IntegratedGpu => Kind::IntegratedGpu(number(1)),
            wgpu::DeviceType::VirtualGpu => Kind::VirtualGpu(number(2)),
            wgpu::DeviceType::Cpu => Kind::Cpu,
            wgpu::DeviceType::Other => continue,
        };
        out.push(Adapter {
            name: info.name,
            api: format!("{:?}", info.backend),
            is_software: info.device_type == wgpu::DeviceType::Cpu,
            binding_bytes_max: limits.max_storage_buffer_binding_size,
            buffer_bytes_max: limits.max_buffer_size,
            workgroup_bytes_max: limits.max_compute_workgroup_storage_size,
            invocations_max: limits.max_compute_invocations_per_workgroup,
            handle: BurnDevice::wgpu(kind),
        });
    }
    out
}

/// None that can be listed: this build has no GPU backend, or a browser, which offers one GPU at most.
#[cfg(not(all(feature = "wgpu", not(target_family = "wasm"))))]
pub fn adapters() -> Vec<Adapter> {
    Vec::new()
}

/// The model that the driver's account of a GPU tells, in letters, digits and hyphens.
#[cfg(any(test, feature = "cuda"))]
fn model_in(information: &str) -> Option<String> {
    let model = information.lines().find_map(|line| line.strip_prefix("Model:"))?.trim();
    Some(model.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_lists_the_known_ones() {
        let error = Device::choose("tpu").unwrap_err();
        insta::assert_snapshot!(error, @r#"
        unknown device "tpu"
        help: one of: auto, cpu, cuda, cuda:N, wgpu, wgpu:N, wgpu:software
        "#);
        assert!(Device::choose("wgpu:x").is_err());
        assert!(Device::choose("cuda:x").unwrap_err().to_string().contains("unknown device"));
        assert!(Device::choose("cuda:99").is_err());
        let error = Device::choose("wgpu:99").unwrap_err().to_string();
        let words = if cfg!(feature = "wgpu") { "there is no device wgpu:99 here" } else { "this build has no GPU backend" };
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn workers_have_a_gpu_each_and_one_cpu_for_all() {
        assert_eq!(Device::cpu("test").several(3).unwrap().len(), 3);
        // A GPU that is not among those found.
        for kind in [DeviceKind::Cuda, DeviceKind::Wgpu] {
            let gpu = Device { kind, ..Device::cpu("test") };
            assert_eq!(gpu.several(1).unwrap().len(), 1);
            let error = gpu.several(2).unwrap_err().to_string();
            assert!(error.contains("2 workers need a GPU each") && error.contains("write [runtime] workers = 1"), "{error}");
        }
    }

    #[test]
    fn auto_never_takes_a_software_gpu() {
        assert_ne!(Device::choose("auto").unwrap().kind, DeviceKind::SoftwareGpu);
    }

    #[test]
    fn running_out_of_memory_is_told_in_every_runtimes_words() {
        let cuda = "An IO error happened: out of device memory allocating 314572800 bytes: No backtrace available";
        assert!(is_about_memory(cuda) && is_about_memory("Not enough memory left") && is_about_memory("BufferTooBig(4096)"));
        assert!(!is_about_memory("the device was lost"));
    }

    #[test]
    fn the_cpu_is_told_from_others_with_and_without_autodiff() {
        let cpu = Device::cpu("").handle;
        assert!(is_cpu(&cpu) && is_cpu(&cpu.autodiff()));
    }

    #[test]
    fn what_was_tuned_is_kept_by_the_gpus_model() {
        let information = "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 72\n";
        assert_eq!(model_in(information).as_deref(), Some("nvidia-a100-sxm4-80gb"));
        assert_eq!(model_in("IRQ: 72"), None);
    }
}
