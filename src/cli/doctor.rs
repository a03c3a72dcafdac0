//! `upstill doctor`.

use burn::tensor::{Int, Tensor, TensorData};
use serde::Serialize;

use super::{DeviceArg, print_json};
use crate::device::{Adapter, Bf16Unit, Device, adapters, cuda_devices, instructions, memory_bytes, processor_name};
use crate::error::{Error, Result};
use crate::loss::{hard_loss, soft_loss};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill doctor                           made to be pasted into a report of a fault
  upstill doctor --device wgpu --json")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArg,
    /// Print it on standard output for machines
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    upstill: &'static str,
    commit: &'static str,
    features: Vec<&'static str>,
    system: String,
    processor: String,
    instructions: Vec<&'static str>,
    /// How the CPU multiplies bf16.
    bf16: &'static str,
    threads: usize,
    memory_bytes: Option<u64>,
    cuda: Vec<String>,
    gpus: Vec<Gpu>,
    chosen: String,
    /// What of upstill's and the drivers' environment is set.
    environment: Vec<String>,
    self_test: Vec<Check>,
}

#[derive(Serialize)]
struct Gpu {
    name: String,
    api: String,
    software: bool,
    binding_bytes_max: u64,
    buffer_bytes_max: u64,
    workgroup_bytes_max: u32,
    invocations_max: u32,
}

/// One self-test: the largest difference seen, and what is allowed.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    error: f64,
    allowed: f64,
}

impl Check {
    fn passes(&self) -> bool {
        self.error <= self.allowed
    }
}

pub fn run(args: Args) -> Result<()> {
    let device = args.device.choose("auto")?;
    let report = Report {
        upstill: env!("CARGO_PKG_VERSION"),
        commit: env!("UPSTILL_COMMIT"),
        features: features(),
        system: system(),
        processor: processor_name(),
        instructions: instructions(),
        bf16: Bf16Unit::here().words(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(),
        cuda: cuda_devices().iter().map(|device| device.name()).collect(),
        gpus: adapters().into_iter().map(gpu).collect(),
        chosen: device.to_string(),
        environment: environment(),
        self_test: self_test(&device),
    };
    match args.json {
        true => print_json(&report),
        false => print!("{}", words(&report)),
    }
    match report.self_test.iter().find(|check| !check.passes()) {
        None => Ok(()),
        Some(check) => Err(Error::check(format!(
            "the self-test {:?} is off by {:.1e}, and {:.0e} is allowed",
            check.name, check.error, check.allowed
        ))
        .at(device.name)
        .help("train with --device cpu, and report this device with what is printed above")),
    }
}

fn gpu(adapter: Adapter) -> Gpu {
    Gpu {
        name: adapter.name,
        api: adapter.api,
        software: adapter.is_software,
        binding_bytes_max: adapter.binding_bytes_max,
        buffer_bytes_max: adapter.buffer_bytes_max,
        workgroup_bytes_max: adapter.workgroup_bytes_max,
        invocations_max: adapter.invocations_max,
    }
}

fn words(report: &Report) -> String {
    const MIB: u64 = 1 << 20;
    let memory =
        report.memory_bytes.map_or("unknown".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64));
    let Report { upstill, commit, system, processor, threads, .. } = report;
    let features = if report.features.is_empty() { "no features".to_owned() } else { report.features.join(", ") };
    let mut out = format!("upstill   {upstill}, commit {commit}, built with {features}\nsystem    {system}\n");
    out += &format!("cpu       {processor}\n          {threads} threads, memory {memory}\n");
    if !report.instructions.is_empty() {
        out += &format!("          {}\n", report.instructions.join(" "));
    }
    out += &format!("          bf16 is multiplied {}\n", report.bf16);
    match (cfg!(feature = "cuda"), report.cuda.is_empty()) {
        (false, _) => out += "cuda      not in this build (feature cuda)\n",
        (true, true) => out += "cuda      no NVIDIA driver, or it lists no GPU\n",
        (true, false) => report.cuda.iter().enumerate().for_each(|(index, name)| out += &format!("cuda:{index}    {name}\n")),
    }
    if report.gpus.is_empty() {
        out += "gpu       none found\n";
    }
    for (index, gpu) in report.gpus.iter().enumerate() {
        out += &format!(
            "wgpu:{index}    {}, {}{}\n          binding {} MiB, buffer {} MiB, workgroup memory {} KiB, invocations {}\n",
            gpu.name,
            gpu.api,
            if gpu.software { ", emulated by the CPU (taken only when asked for)" } else { "" },
            gpu.binding_bytes_max / MIB,
            gpu.buffer_bytes_max / MIB,
            gpu.workgroup_bytes_max / 1024,
            gpu.invocations_max,
        );
    }
    out += &format!("chosen    {}\n", report.chosen);
    report.environment.iter().for_each(|setting| out += &format!("set       {setting}\n"));
    for check in &report.self_test {
        let verdict = if check.passes() { "ok" } else { "FAILED" };
        out += &format!("self-test {:<28} {verdict}: off by {:.1e} ({:.0e} allowed)\n", check.name, check.error, check.allowed);
    }
    out
}

/// What this build has of what a build may have.
fn features() -> Vec<&'static str> {
    let all = [("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda")), ("cuda-nvrtc", cfg!(feature = "cuda-nvrtc"))];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

/// `Debian GNU/Linux 12 (bookworm), Linux 6.1.0, x86_64, glibc 2.36`.
fn system() -> String {
    // Under Wine a program of Windows sees Linux's files, which are not its system's.
    let read = |path: &str| match cfg!(target_os = "linux") {
        true => std::fs::read_to_string(path).unwrap_or_default(),
        false => String::new(),
    };
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').to_owned());
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = Some(format!("Linux {}", kernel.trim())).filter(|_| !kernel.is_empty());
    let parts =
        [pretty.or_else(|| Some(std::env::consts::OS.to_owned())), kernel, Some(std::env::consts::ARCH.to_owned()), c_library()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Which C library the process runs with, where it can be asked.
fn c_library() -> Option<String> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: glibc gives a string that lives as long as the process.
        let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
        Some(format!("glibc {}", version.to_string_lossy()))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// Variables that change what a run does.
fn environment() -> Vec<String> {
    let is_ours = |name: &str| name.starts_with("UPSTILL_") || name.starts_with("CUBECL_");
    let known = ["RAYON_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_PATH", "VK_ICD_FILENAMES", "VK_DRIVER_FILES"];
    let mut set: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| is_ours(name) || known.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect();
    set.sort();
    set
}

/// The losses and a gradient on this device, against the same sums in f64 on the host.
fn self_test(device: &Device) -> Vec<Check> {
    const N: usize = 7;
    const V: usize = 33;
    const TAU: f64 = 2.0;
    let draw =
        |salt: usize| -> Vec<f32> { (0..N * V).map(|i| ((i * 2_654_435_761 + salt * 97) % 1009) as f32 / 126.0 - 4.0).collect() };
    let (student, teacher) = (draw(1), draw(2));
    let labels: Vec<i32> = (0..N as i32).map(|i| i * 4).collect();
    let (mut hard, mut soft, mut gradient) = (0.0, 0.0, Vec::new());
    for row in 0..N {
        let (s, t) = (&student[row * V..][..V], &teacher[row * V..][..V]);
        let (p, p_tau, q_tau) = (softmax(s, 1.0), softmax(s, TAU), softmax(t, TAU));
        let label = labels[row] as usize;
        hard -= p[label].ln();
        soft += (0..V).map(|v| q_tau[v] * (q_tau[v] / p_tau[v]).ln()).sum::<f64>();
        gradient.extend((0..V).map(|v| p[v] - f64::from(u8::from(v == label)) + (p_tau[v] - q_tau[v]) / TAU));
    }
    let tracked = device.handle.clone().autodiff();
    let logits = Tensor::<2>::from_data(TensorData::new(student, [N, V]), &tracked).require_grad();
    let teacher = Tensor::<2>::from_data(TensorData::new(teacher, [N, V]), &device.handle);
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [N]), &device.handle);
    let hard_found = hard_loss(logits.clone(), labels, 0.0).sum();
    let soft_found = soft_loss(logits.clone(), teacher, TAU).sum();
    let gradients = (hard_found.clone() + soft_found.clone()).backward();
    let off = |found: Tensor<1>, wanted: f64| (f64::from(found.into_scalar::<f32>()) - wanted).abs() / wanted;
    let gradient_off = logits.grad(&gradients).map_or(f64::INFINITY, |found| {
        let found: Vec<f32> = found.into_data().try_to_vec().expect("gradients are f32");
        found.iter().zip(&gradient).map(|(&found, wanted)| (f64::from(found) - wanted).abs()).fold(0.0, f64::max)
    });
    // f32 sums of 33 terms; GPUs' exp and log are good to a few units in the last place.
    vec![
        Check { name: "hard loss", error: off(hard_found, hard), allowed: 1e-5 },
        Check { name: "soft loss", error: off(soft_found, soft), allowed: 1e-5 },
        Check { name: "gradient of both", error: gradient_off, allowed: 1e-5 },
    ]
}

fn softmax(logits: &[f32], tau: f64) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let exps: Vec<f64> = logits.iter().map(|&x| (f64::from(x - largest) / tau).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|x| x / sum).collect()
}
