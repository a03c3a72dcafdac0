//! Fused operations: the language-model head and the distillation loss in one, a chunk of slots at a time, so that
//! `[m, v]` logits never exist at once.
//!
//! An operation has a composed form of burn's operations and fused ones: plain Rust on the CPU, CubeCL on any GPU, and,
//! of the loss and of small products, WGSL by hand. `tests/kernels.rs` and `tests/layers.rs` hold them to each other,
//! and those that have a definition in plain loops (`reference` in `shaders/`) to that. With a vocabulary of 30,522 the
//! loss is most of a step; so its gradient is made in the forward pass. `[runtime] kernels` or
//! `UPSTILL_KERNELS=composed` chooses burn's operations. No GPU of ours has measured the fused forms; they are the
//! default there because they launch a fifth of burn's kernels, and because burn adds up the gradient of a look-up
//! token by token.
//!
//! Shapes: `m` slots, `d` width, `v` vocabulary, `c` slots of a chunk.

mod attach;
mod attention;
mod bf16;
mod cpu;
#[cfg_attr(not(feature = "gpu"), path = "no_gpu.rs")]
mod cube;
mod dense;
mod dropout;
mod gated;
#[cfg(feature = "gpu")]
mod gpu_loss;
#[cfg(feature = "gpu")]
mod gpu_matmul;
mod grouped;
mod host;
mod lstm;
mod matrix;
mod norm;
mod outcomes;
mod places;
mod residual;
mod rms;
mod rotary;
mod row;
mod spent;
mod swiglu;
mod update;
mod vector;
#[cfg(feature = "gpu")]
mod wgsl;

/// The definition of the distillation loss, and its cases.
#[path = "../../shaders/dwt_loss.rs"]
pub mod dwt_loss;
/// The definition of the loss against a few outcomes of a teacher, and its cases.
#[path = "../../shaders/outcomes.rs"]
pub mod few_outcomes;
/// The definition of a product of matrices, and its cases.
#[path = "../../shaders/matmul.rs"]
pub mod matmul;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor};

use crate::device::{Compute, Kernels, Precision};
pub use attention::{Sight, self_attention};
pub(crate) use cube::{GuardedAdam, guard as next_guard, squares};
pub use dense::{Dense, dense, dense_gelu, erf_gelu, linear};
pub use dropout::Dropout;
pub use dwt_loss::DwtLoss;
pub use gated::gelu_gate;
pub use grouped::{Heads, PastLayer, grouped_attention, next_attention};
pub use lstm::{Direction, bilstm, lstm_composed};
pub use norm::{Norm, dense_norm, norm_of_sum};
pub use outcomes::{Outcomes, outcomes_loss};
pub use places::{Places, look_up};
pub use residual::dense_sum;
pub use rms::rms_norm;
pub use rotary::{Rotary, rotary_attention};
use spent::Part;
pub use spent::{Spent, spent};
pub use swiglu::silu_gate;
pub(crate) use update::{AdamStep, adam, sum_of_squares};

impl Compute {
    /// A factor of a product, in the product's dtype; where the product itself rounds it, as it is.
    pub fn factor<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if x.dtype() == self.dtype() || self.is_bf16_on_cpu() { x } else { x.cast(self.dtype()) }
    }

    /// Whether a GPU's own kernels run: those that draw dropout of so many elements themselves, or draw none.
    fn is_fused_on_gpu(&self, dropout: Option<(&Dropout, usize)>) -> bool {
        let draws = |(dropout, elements): (&Dropout, usize)| dropout.is_whole_words(elements, || cube::can_draw(&self.device));
        self.kernels != Kernels::Composed && !self.traits.is_cpu && dropout.is_none_or(draws)
    }

    /// Whether the CPU's own kernels run: they know f32, and bf16 inside products.
    fn is_fused_on_cpu(&self) -> bool {
        self.kernels == Kernels::Fused && self.traits.is_cpu && (self.precision == Precision::F32 || self.is_bf16_on_cpu())
    }

    /// Whether the CPU's own products of bf16 run, between values in f32. A browser has burn's.
    fn is_bf16_on_cpu(&self) -> bool {
        cfg!(not(target_family = "wasm"))
            && self.kernels == Kernels::Fused
            && self.traits.is_cpu
            && self.precision == Precision::Bf16
    }
}

/// `a b` over the last two dimensions; those before them are equal. Fused, a small product on a GPU through WebGPU is
/// one short kernel for all shapes; any other is burn's.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, compute: &Compute) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if compute.kernels != Kernels::Composed && !compute.traits.is_cpu {
        return gpu_matmul::differentiable(a, b, compute.kernels);
    }
    #[cfg(not(feature = "gpu"))]
    let _ = compute; // burn's is the only one left
    a.matmul(b)
}

/// In f32, whatever it comes as.
pub(crate) fn in_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(FloatDType::F32) }
}

/// Logits `[m, v]`, multiplied out or not yet.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few of them a step: handles of tensors, not numbers")]
pub enum Logits {
    /// As they are.
    Whole(Tensor<2>),
    /// `hidden_md words_vd^T + bias_v`: a kernel multiplies them out a chunk of slots at a time.
    Factors {
        /// What the decoder reads, `[m, d]`, in the product's numbers.
        hidden_md: Tensor<2>,
        /// The decoder, `[v, d]`, likewise.
        words_vd: Tensor<2>,
        /// Its bias, `[v]`, in f32.
        bias_v: Tensor<1>,
    },
}

impl From<Tensor<2>> for Logits {
    fn from(logits_mv: Tensor<2>) -> Self {
        Logits::Whole(logits_mv)
    }
}

impl Logits {
    /// The logits of `count` slots from `from` on.
    #[must_use]
    pub fn narrow(&self, from: usize, count: usize) -> Self {
        match self.clone() {
            Logits::Whole(logits_mv) => Logits::Whole(logits_mv.narrow(0, from, count)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: hidden_md.narrow(0, from, count), words_vd, bias_v }
            }
        }
    }

    /// All of them at once, `[m, v]`.
    pub fn whole(self, compute: &Compute) -> Tensor<2> {
        match self {
            Logits::Whole(logits_mv) => logits_mv,
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                in_f32(matmul(hidden_md, words_vd.transpose(), compute)) + bias_v.unsqueeze()
            }
        }
    }

    /// These numbers outside any autodiff graph.
    #[must_use]
    pub fn detached(self) -> Self {
        match self {
            Logits::Whole(logits_mv) => Logits::Whole(inner(logits_mv)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: inner(hidden_md), words_vd: inner(words_vd), bias_v: inner(bias_v) }
            }
        }
    }

    fn in_f32(self) -> Self {
        match self {
            Logits::Whole(logits_mv) => Logits::Whole(in_f32(logits_mv)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: in_f32(hidden_md), words_vd: in_f32(words_vd), bias_v }
            }
        }
    }

    /// Slots and vocabulary.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Logits::Whole(logits_mv) => logits_mv.dims(),
            Logits::Factors { hidden_md, words_vd, .. } => [hidden_md.dims()[0], words_vd.dims()[0]],
        }
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        match self {
            Logits::Whole(logits_mv) => logits_mv.device(),
            Logits::Factors { hidden_md, .. } => hidden_md.device(),
        }
    }
}

fn inner<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.device().is_autodiff() { x.inner() } else { x }
}

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

/// The hard loss slot by slot, `[m]` in nats and outside any graph, a chunk of slots at a time; none where no kernel of
/// ours has it.
pub(crate) fn hard_losses(logits: &Logits, labels_m: &Tensor<1, Int>, compute: &Compute) -> Option<Tensor<1>> {
    let has_kernel = compute.kernels != Kernels::Composed && compute.traits.is_cpu;
    has_kernel.then(|| spent::on(Part::Loss, || cpu::hard_losses(&logits.clone().in_f32().detached(), labels_m, compute)))
}

/// What a device's kernel gives: sums over slots divided by the count, `[1]`, and the gradient of the total with
/// respect to what the student came as, when it was wanted.
struct Found {
    hard: Tensor<1>,
    soft: Tensor<1>,
    gradient: Option<Logits>,
}

/// The distillation loss, fused: the sums over slots of `shaders/dwt_loss.rs` divided by `targets.count`. `total`
/// carries the gradient with respect to the student's logits or their factors when the student is on a device with
/// autodiff.
///
/// `teacher` is read when the loss has a soft part, and must be there then.
///
/// # Panics
/// When shapes differ, a label is outside the vocabulary, a soft loss has no teacher, or the kernels are burn's
/// operations.
pub fn dwt_loss(student: &Logits, teacher: Option<&Logits>, targets: &Targets, loss: &DwtLoss, compute: &Compute) -> StepLoss {
    assert_ne!(compute.kernels, Kernels::Composed, "the composed loss is not a kernel");
    let tracked = student.device().is_autodiff();
    // The CPU's kernel reads f32: factors of 16 bits go on as what they were rounded to.
    let rounded = |logits: &Logits| if compute.traits.is_cpu { logits.clone().in_f32() } else { logits.clone() };
    let (student, teacher) = (&rounded(student), teacher.map(rounded));
    let teacher = teacher.as_ref();
    let plain = student.clone().detached();
    #[cfg(feature = "gpu")]
    let found = match compute.traits.is_cpu {
        true => spent::on(Part::Loss, || cpu::dwt_loss(&plain, teacher, targets, loss, compute, tracked)),
        false => gpu_loss::dwt_loss(&plain, teacher, targets, loss, compute, tracked),
    };
    #[cfg(not(feature = "gpu"))]
    let found = spent::on(Part::Loss, || cpu::dwt_loss(&plain, teacher, targets, loss, compute, tracked));
    found.attached(student, loss)
}

impl Found {
    /// The step's loss, whose total carries the gradient where the student is on a graph.
    fn attached(self, student: &Logits, loss: &DwtLoss) -> StepLoss {
        let Found { hard, soft, gradient } = self;
        let total = hard.clone() * loss.hard_factor();
        let total = if loss.alpha_soft.is_some() { total + soft.clone() * loss.soft_factor() } else { total };
        let nothing = || Tensor::<1>::zeros([1], &hard.device());
        let total = match (student.clone(), gradient) {
            (Logits::Whole(logits_mv), Some(Logits::Whole(gradient_mv))) => attach::attach(total, logits_mv, gradient_mv),
            (
                Logits::Factors { hidden_md, words_vd, bias_v },
                Some(Logits::Factors { hidden_md: of_hidden, words_vd: of_words, bias_v: of_bias }),
            ) => {
                attach::attach(total, hidden_md, of_hidden)
                    + attach::attach(nothing(), words_vd, of_words)
                    + attach::attach(nothing(), bias_v, of_bias)
            }
            _ => total,
        };
        StepLoss { total, hard, soft: loss.alpha_soft.map(|_| soft) }
    }
}
