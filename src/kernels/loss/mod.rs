//! The distillation loss of language modelling and its gradient, with the language-model head where logits come
//! as its factors: equations 1 to 3 of Lee et al. 2023.
//!
//! `shaders/dwt_loss.rs` is the definition. The formula is written three times, and its cases hold the three to it:
//! for the CPU (`row.rs`), in CubeCL (`cube.rs`) and in WGSL (`shaders/dwt_loss.wgsl`). The first two can't share a
//! function that says more than a line: the CPU knows a row's largest logits before its first exponential, takes its
//! own exponential once for each logit, keeps it in the row and adds up in f64; a GPU's cube reads a row twice, scales
//! down its sums when it meets a larger logit and adds up in f32. What is the same in both, the factors of the hard and
//! of the soft part, is worked out by [`DwtLoss`](definition::DwtLoss) for both. A build without GPUs has no CubeCL,
//! either, whose macro a shared function would need.
//!
//! Shapes: `m` slots, `d` width, `v` vocabulary, `c` slots of a chunk.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
pub(super) mod cube;
#[cfg(feature = "gpu")]
pub(super) mod gpu;
mod row;

#[path = "../../../shaders/dwt_loss.rs"]
pub mod definition;

use burn::tensor::{Int, Tensor};

pub use composed::{hard_loss, soft_loss, weighted_mean};
pub(super) use cpu::{Chunk, by_chunks};
pub(super) use row::RowLoss;

use super::attach::attach;
use super::logits::Logits;
use super::spent::{self, Part};
use crate::device::{Compute, Kernels};
use definition::DwtLoss;

/// What every slot is asked.
#[derive(Debug, Clone)]
pub struct Targets {
    /// The true token, `[m]`.
    pub labels_m: Tensor<1, Int>,
    /// What the slot counts for, `[m]`; 0 for an unused one, which is not read.
    pub weights_m: Tensor<1>,
    /// What the sums over slots are divided by.
    pub count: usize,
}

/// What one model minimises on one micro-batch. Equation 3: `total = alpha_h * hard + alpha_s * soft`.
#[derive(Debug, Clone)]
pub struct StepLoss {
    /// What is differentiated: the weighted sum, `[1]`.
    pub total: Tensor<1>,
    /// Equation 1, unweighted, `[1]`.
    pub hard: Tensor<1>,
    /// Equation 2, unweighted and without tau^2, `[1]`.
    pub soft: Option<Tensor<1>>,
}

/// Equations 1 to 3 over all slots: the sums over slots of `shaders/dwt_loss.rs` divided by `targets.count`. `total`
/// carries the gradient with respect to the student's logits or their factors when the student is on a device with
/// autodiff.
///
/// `teacher` is read when the loss has a soft part.
///
/// # Panics
/// When shapes differ, a label is outside the vocabulary, or a soft loss has no teacher.
pub fn dwt_loss(student: Logits, teacher: Option<Logits>, targets: &Targets, loss: &DwtLoss, compute: &Compute) -> StepLoss {
    if compute.kernels == Kernels::Composed {
        return composed::dwt_loss(student, teacher, targets, loss, compute);
    }
    let is_tracked = student.device().is_autodiff();
    #[cfg(feature = "gpu")]
    if !compute.traits.is_cpu {
        let plain = student.clone().detached();
        return gpu::dwt_loss(&plain, teacher.as_ref(), targets, loss, compute, is_tracked).attached(student, loss);
    }
    // The CPU's kernel reads f32: factors of 16 bits go on as what they were rounded to.
    let (student, teacher) = (student.in_f32(), teacher.map(Logits::in_f32));
    let plain = student.clone().detached();
    let found = spent::on(Part::Loss, || cpu::dwt_loss(&plain, teacher.as_ref(), targets, loss, compute, is_tracked));
    found.attached(student, loss)
}

/// [`hard_loss`] without smoothing of logits that may not be multiplied out yet: minus the log-probability of each
/// slot's label, `[m]` in nats and outside any graph. Logits exist some slots at a time.
pub fn hard_losses(logits: Logits, labels_m: Tensor<1, Int>, compute: &Compute) -> Tensor<1> {
    if compute.kernels == Kernels::Composed || !compute.traits.is_cpu {
        const BYTES: usize = 64 << 20;
        let ([m, v], logits) = (logits.dims(), logits.detached());
        let slots = (BYTES / (4 * v.max(1))).clamp(1, m.max(1));
        let part = |from: usize| {
            let count = slots.min(m - from);
            hard_loss(logits.narrow(from, count).whole(compute), labels_m.clone().narrow(0, from, count), 0.0)
        };
        return Tensor::cat((0..m).step_by(slots).map(part).collect(), 0);
    }
    let logits = logits.in_f32().detached();
    spent::on(Part::Loss, || cpu::hard_losses(&logits, &labels_m, compute))
}

/// What a device's kernel gives: sums over slots divided by the count, `[1]`, and the gradient of the total with
/// respect to what the student came as, when it was wanted.
pub(in crate::kernels) struct Found {
    hard: Tensor<1>,
    soft: Tensor<1>,
    gradient: Option<Logits>,
}

impl Found {
    /// The step's loss, whose total carries the gradient where the student is on a graph.
    pub(in crate::kernels) fn attached(self, student: Logits, loss: &DwtLoss) -> StepLoss {
        let Found { hard, soft, gradient } = self;
        let total = hard.clone() * loss.hard_factor();
        let total = if loss.alpha_soft.is_some() { total + soft.clone() * loss.soft_factor() } else { total };
        let nothing = || Tensor::<1>::zeros([1], &hard.device());
        let total = match (student, gradient) {
            (Logits::Whole(logits_mv), Some(Logits::Whole(gradient_mv))) => attach(total, logits_mv, gradient_mv),
            (
                Logits::Factors { hidden_md, words_vd, bias_v },
                Some(Logits::Factors { hidden_md: of_hidden, words_vd: of_words, bias_v: of_bias }),
            ) => attach(total, hidden_md, of_hidden) + attach(nothing(), words_vd, of_words) + attach(nothing(), bias_v, of_bias),
            _ => total,
        };
        StepLoss { total, hard, soft: loss.alpha_soft.map(|_| soft) }
    }
}
