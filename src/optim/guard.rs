//! Steps that don't wait for the host: what decides about an update stays on the GPU.

use burn::tensor::{Device, Tensor};

use super::Optimizer;
use crate::device::{Compute, Kernels};
use crate::kernels::next_guard;

/// Whether every step so far was finite, and by what each model's gradient is multiplied at this one, on the GPU. Once
/// a step isn't finite, no weight and no moment moves any more: the host finds out later, and no later step has done
/// harm.
#[derive(Debug, Clone)]
pub struct Guard {
    /// 1 or 0, and a factor a model.
    values: Tensor<1>,
    /// The largest norm of each model's gradient; 0 does not clip.
    clips: Tensor<1>,
}

/// A model's place in a guard.
#[derive(Debug, Clone, Copy)]
pub struct GuardOf<'a> {
    pub(super) values: &'a Tensor<1>,
    pub(super) model: usize,
}

impl Guard {
    /// Of a run that begins, or goes on: nothing has gone wrong. `clips` are the models' largest norms, 0 for none. The
    /// device is a GPU.
    pub fn new(device: &Device, clips: &[f64]) -> Self {
        let clips: Vec<f32> = clips.iter().map(|&clip| clip as f32).collect();
        Self { values: Tensor::ones([1 + clips.len()], device), clips: Tensor::from_floats(clips.as_slice(), device) }
    }

    /// A guard where it gains something. There is none on a CPU, where reading a number costs nothing, none for
    /// optimizers that don't know guards, and none where burn's own operations run, unless in a browser, where each
    /// reading takes a turn of the event loop.
    pub fn of(compute: &Compute, optimizers: &[&Optimizer], clips: &[f64]) -> Option<Self> {
        let is_known = optimizers.iter().all(|optimizer| optimizer.knows_guards());
        let is_worth_it = cfg!(target_family = "wasm") || compute.kernels != Kernels::Composed;
        (!compute.traits.is_cpu && is_worth_it && is_known).then(|| Self::new(&compute.device, clips))
    }

    /// After the losses of a step, and the squared norms of its gradients, `[models]` each.
    #[must_use]
    pub fn after(&self, totals: &Tensor<1>, squares: &Tensor<1>) -> Self {
        Self { values: next_guard(&self.values, totals, squares, &self.clips), clips: self.clips.clone() }
    }

    /// The guard's part for the update of one model.
    pub fn model(&self, model: usize) -> GuardOf<'_> {
        GuardOf { values: &self.values, model }
    }
}
