//! What devices are like, as far as anything depends on it: the one table that kernels, the loop, the benchmarks and
//! the estimate read.

use burn::tensor::Device as BurnDevice;

use super::cuda::is_cuda;
use super::is_cpu;
use crate::words::words;

words! {
    /// Which implementation of an operation runs, where there are several.
    Kernels {
        /// burn's operations, on any device.
        Composed = "composed",
        /// Operations of our own: Rust on a CPU; on a GPU WGSL by hand where its runtime takes it, else CubeCL.
        Fused = "fused",
        /// CubeCL, on any GPU.
        CubeCl = "cubecl",
    }
}

/// What a kind of device is like.
#[derive(Debug, PartialEq, Eq)]
pub struct Traits {
    /// Whether burn's CPU backend computes.
    pub is_cpu: bool,
    /// The kernels that it has.
    pub kernels: &'static [Kernels],
    /// Whether shaders written by hand in WGSL run.
    pub takes_wgsl: bool,
    /// Whether invocations come in warps of 32 that reduce a row in registers. WebGPU does not promise any.
    pub has_warps: bool,
    /// Invocations that share a slot of the loss, a power of two. On CUDA as many as leave a multiprocessor one slot at
    /// a time, whose two rows of logits are then still in the cache when they are read again.
    pub loss_units: u32,
    /// The largest share of attention's pairs, in percent of all and by tiles, at which kernels that leave out the
    /// others are worth it. By arithmetic, as no GPU of ours has measured it: through WebGPU they multiply as fast as
    /// others do, less what these gain by workgroup memory; CUDA's others go through tensor cores
    /// (`src/bench/README.md`).
    pub most_seen_percent: u32,
    /// Bytes of logits, in f32, that the loss multiplies out at once: on a CPU few enough to stay in the last cache,
    /// with WebGPU what every device can bind, with CUDA what makes large products.
    pub logits_chunk_bytes: usize,
    /// Whether the loss holds a chunk of the student's logits, of the teacher's and of the gradient, and no copies of
    /// them.
    pub reuses_logits: bool,
    /// Parameters that one launch of Adam moves: several where nothing limits buffers; one where a parameter's five,
    /// the guard and CubeCL's own must be no more than the eight that every WebGPU device grants.
    pub adams_a_launch: usize,
    /// Steps that are asked for before the host reads their losses. Reading a number from a CPU costs nothing; from a
    /// GPU it waits for all that was asked before.
    pub steps_ahead: usize,
    /// Tokens that a pass without gradients takes at once: every core is busy, and activations stay small.
    pub tokens_at_once: usize,
    /// Whether the allocator's pages take the size of the largest value so far, so that the largest is better asked for
    /// first.
    pub grows_pages: bool,
}

const CPU: Traits = Traits {
    is_cpu: true,
    kernels: &[Kernels::Composed, Kernels::Fused],
    takes_wgsl: false,
    has_warps: false,
    loss_units: 1,
    most_seen_percent: 100,
    logits_chunk_bytes: 16 << 20,
    reuses_logits: false,
    adams_a_launch: 1,
    steps_ahead: 1,
    tokens_at_once: 1 << 12,
    grows_pages: false,
};

const WEBGPU: Traits = Traits {
    is_cpu: false,
    kernels: &[Kernels::Composed, Kernels::Fused, Kernels::CubeCl],
    takes_wgsl: true,
    has_warps: false,
    loss_units: 256,
    most_seen_percent: 75,
    logits_chunk_bytes: 128 << 20,
    reuses_logits: false,
    adams_a_launch: 1,
    steps_ahead: 16,
    tokens_at_once: 1 << 15,
    grows_pages: false,
};

/// A GPU through another runtime of CubeCL's: WebGPU's promises, without WGSL.
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "no runtime is named in a build without GPUs"))]
const OTHER_GPU: Traits = Traits { takes_wgsl: false, ..WEBGPU };

const CUDA: Traits = Traits {
    // Fused is CubeCL there.
    kernels: &[Kernels::Composed, Kernels::Fused],
    takes_wgsl: false,
    has_warps: true,
    loss_units: 1024,
    most_seen_percent: 20,
    logits_chunk_bytes: 512 << 20,
    reuses_logits: true,
    adams_a_launch: 8,
    grows_pages: true,
    ..WEBGPU
};

impl Traits {
    /// What burn's device is like, with autodiff or without.
    pub fn of(device: &BurnDevice) -> &'static Self {
        match device {
            _ if is_cpu(device) => &CPU,
            // Told without opening it: the first value that a GPU is asked for may have to be the largest
            // ([`make_room`](super::make_room)).
            _ if is_cuda(device) => &CUDA,
            _ => Self::of_gpu(device),
        }
    }

    #[cfg(feature = "gpu")]
    fn of_gpu(device: &BurnDevice) -> &'static Self {
        let plain = if device.is_autodiff() { device.clone().inner() } else { device.clone() };
        let any = burn::tensor::Tensor::<1>::empty([1], &plain).try_into_primitive::<burn_cubecl::CubeBackend>();
        any.map_or(&OTHER_GPU, |any| Self::of_runtime(any.client.name()))
    }

    #[cfg(not(feature = "gpu"))]
    fn of_gpu(_: &BurnDevice) -> &'static Self {
        unreachable!("this build has no GPU")
    }

    /// What GPUs of CubeCL's runtime of this name are like.
    #[cfg(feature = "gpu")]
    pub(crate) fn of_runtime(name: &str) -> &'static Self {
        match name {
            _ if name.starts_with("cuda") => &CUDA,
            "wgpu<wgsl>" => &WEBGPU,
            _ => &OTHER_GPU,
        }
    }

    /// What the device is like that a run file names, as far as the word says: `auto`, which may be any, counts as a
    /// CPU.
    pub fn of_word(word: &str) -> &'static Self {
        match word.split(':').next() {
            Some("cuda") => &CUDA,
            Some("wgpu") => &WEBGPU,
            _ => &CPU,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_the_kind() {
        for (word, wanted) in [("cuda", &CUDA), ("cuda:1", &CUDA), ("wgpu:software", &WEBGPU), ("cpu", &CPU), ("auto", &CPU)] {
            assert_eq!(Traits::of_word(word), wanted, "{word}");
        }
        let cpu = BurnDevice::flex();
        assert_eq!((Traits::of(&cpu), Traits::of(&cpu.autodiff())), (&CPU, &CPU));
    }
}
