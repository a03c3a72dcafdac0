//! The distillation loss against a few outcomes of a teacher: what a teacher that is not in memory has left on disk.
//! `shaders/outcomes.rs` is the definition.
//!
//! On GPUs it is CubeCL alone (`cube.rs`), which runs through WebGPU as well: there is no twin in WGSL by hand. One by
//! hand saves a browser the compiler's time, and a browser has its teacher in memory: it reads no cache of answers.
//!
//! Shapes: `m` slots, `v` vocabulary, `k` places for tokens of a slot.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

#[path = "../../../shaders/outcomes.rs"]
pub mod definition;

use burn::tensor::{Device, Int, Tensor, TensorData};

pub use composed::soft_loss_of_outcomes;

use super::logits::Logits;
use super::loss::definition as dwt_loss; // what the definition here reads
use super::loss::{StepLoss, Targets};
use crate::device::{Compute, Kernels};
use dwt_loss::DwtLoss;

/// What a teacher says of each slot in few numbers: some tokens and their shares, and the share of all others together.
///
/// Tokens of a slot that have a share are different. `m` slots, `k` places for tokens.
#[derive(Debug, Clone)]
pub struct Outcomes {
    /// Tokens, `[m, k]`.
    pub ids_mk: Tensor<2, Int>,
    /// Their shares, `[m, k]`; 0 where a place is not used.
    pub shares_mk: Tensor<2>,
    /// The share of all other tokens together, `[m]`.
    pub rest_m: Tensor<1>,
    /// What is added to each slot's soft loss, `[m]`, in nats: minus the entropy of the outcomes, or of what they were
    /// drawn from.
    pub constant_m: Tensor<1>,
}

impl Outcomes {
    /// Uploads them, row after row.
    ///
    /// # Panics
    /// When the lengths are not those of `rest_m.len()` slots of equally many places.
    pub fn new(ids_mk: Vec<i32>, shares_mk: Vec<f32>, rest_m: Vec<f32>, constant_m: Vec<f32>, device: &Device) -> Self {
        let m = rest_m.len();
        let shape = [m, ids_mk.len() / m.max(1)];
        Self {
            ids_mk: Tensor::from_data(TensorData::new(ids_mk, shape), device),
            shares_mk: Tensor::from_data(TensorData::new(shares_mk, shape), device),
            rest_m: Tensor::from_data(TensorData::new(rest_m, [m]), device),
            constant_m: Tensor::from_data(TensorData::new(constant_m, [m]), device),
        }
    }

    /// Slots, and places for tokens.
    pub fn dims(&self) -> [usize; 2] {
        self.ids_mk.dims()
    }
}

/// Equations 1 and 3 over all slots, with [`soft_loss_of_outcomes`] in the place of equation 2. Fused it is one kernel
/// with the language-model head, by chunks of slots. `total` carries the gradient as
/// [`dwt_loss`](super::loss::dwt_loss)'s does.
///
/// # Panics
/// When shapes differ, or, but on a GPU, where nobody looks, when a label or a token is outside the vocabulary.
pub fn outcomes_loss(student: Logits, outcomes: &Outcomes, targets: &Targets, loss: &DwtLoss, compute: &Compute) -> StepLoss {
    if compute.kernels == Kernels::Composed {
        return composed::outcomes_loss(student, outcomes, targets, loss, compute);
    }
    #[cfg(feature = "gpu")]
    if !compute.traits.is_cpu {
        return cube::outcomes_loss(student, outcomes, targets, loss, compute);
    }
    cpu::outcomes_loss(student, outcomes, targets, loss, compute)
}
