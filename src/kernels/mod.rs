//! Fused operations: the language-model head and the distillation loss in one, a chunk of slots at a time, so that `[m, v]`
//! logits never exist at once.
//!
//! Each operation has three forms under one name, held to each other by `tests/kernels.rs`: `reference` (in `shaders/`, the
//! definition), composed (burn operations, in [`crate::loss`]) and fused (here).
//!
//! Shapes: `m` slots, `d` width, `v` vocabulary, `c` slots of a chunk.

mod attach;
mod cpu;
#[cfg(feature = "wgpu")]
mod gpu;
mod row;

/// The definition of the distillation loss, and its cases.
#[path = "../../shaders/dwt_loss.rs"]
pub mod dwt_loss;

use burn::tensor::{Device, Int, Tensor};

use crate::device::is_cpu;
use crate::error::{Error, Result};
pub use dwt_loss::DwtLoss;

/// Which form of an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// burn operations, on any device.
    Composed,
    /// One kernel, where the device has one.
    Fused,
}

impl Form {
    /// The words of `UPSTILL_KERNELS`.
    pub const WORDS: [&'static str; 2] = ["composed", "fused"];

    /// The form that `UPSTILL_KERNELS` asks for where the device has it, else the one that measured best: fused on a CPU,
    /// composed elsewhere until a real GPU has been measured.
    pub fn of(device: &Device) -> Self {
        match Self::asked() {
            Ok(Some(Form::Fused)) if Self::is_fused_on(device) => Form::Fused,
            Ok(None) | Err(_) if is_cpu(device) => Form::Fused,
            _ => Form::Composed,
        }
    }

    /// Whether the device has fused forms: a CPU, or a GPU whose runtime takes WGSL.
    pub fn is_fused_on(device: &Device) -> bool {
        #[cfg(feature = "wgpu")]
        if !is_cpu(device) {
            return gpu::takes_wgsl(device);
        }
        is_cpu(device)
    }

    /// What `UPSTILL_KERNELS` asks for, if anything.
    ///
    /// # Errors
    /// When it asks for something else.
    pub fn asked() -> Result<Option<Self>> {
        match std::env::var("UPSTILL_KERNELS").as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok("composed") => Ok(Some(Form::Composed)),
            Ok("fused") => Ok(Some(Form::Fused)),
            Ok(other) => Err(Error::new(format!("unknown form {other:?} in UPSTILL_KERNELS"))
                .help(format!("one of: {}; unset it for the fastest", Self::WORDS.join(", ")))),
        }
    }
}

/// Logits `[m, v]`, multiplied out or not yet.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few of them a step: handles of tensors, not numbers")]
pub enum Logits {
    /// As they are.
    Whole(Tensor<2>),
    /// `hidden_md words_vd^T + bias_v`: a kernel multiplies them out a chunk of slots at a time.
    Factors {
        /// What the decoder reads, `[m, d]`.
        hidden_md: Tensor<2>,
        /// The decoder, `[v, d]`.
        words_vd: Tensor<2>,
        /// Its bias, `[v]`.
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
    pub fn whole(self) -> Tensor<2> {
        match self {
            Logits::Whole(logits_mv) => logits_mv,
            Logits::Factors { hidden_md, words_vd, bias_v } => hidden_md.matmul(words_vd.transpose()) + bias_v.unsqueeze(),
        }
    }

    /// The same numbers outside any autodiff graph.
    #[must_use]
    pub fn detached(self) -> Self {
        match self {
            Logits::Whole(logits_mv) => Logits::Whole(inner(logits_mv)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: inner(hidden_md), words_vd: inner(words_vd), bias_v: inner(bias_v) }
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

/// What a device's kernel gives: sums over slots divided by the count, `[1]`, and the gradient of the total with respect to
/// what the student came as, when it was wanted.
struct Found {
    hard: Tensor<1>,
    soft: Tensor<1>,
    gradient: Option<Logits>,
}

/// The distillation loss, fused: the sums over slots of `shaders/dwt_loss.rs` divided by `targets.count`. `total` carries the
/// gradient with respect to the student's logits or their factors when the student is on a device with autodiff.
///
/// `teacher` is read when the loss has a soft part, and must be there then. The device has fused forms: see
/// [`Form::is_fused_on`].
///
/// # Panics
/// When shapes differ, a label is outside the vocabulary, a soft loss has no teacher, or the device has no fused form.
pub fn dwt_loss(student: &Logits, teacher: Option<&Logits>, targets: &Targets, loss: &DwtLoss) -> StepLoss {
    let tracked = student.device().is_autodiff();
    let plain = student.clone().detached();
    let device = plain.device();
    #[cfg(feature = "wgpu")]
    let found = match is_cpu(&device) {
        true => cpu::dwt_loss(&plain, teacher, targets, loss, tracked),
        false => gpu::dwt_loss(&plain, teacher, targets, loss, tracked),
    };
    #[cfg(not(feature = "wgpu"))]
    let found = cpu::dwt_loss(&plain, teacher, targets, loss, tracked);
    let Found { hard, soft, gradient } = found;
    let total = hard.clone() * loss.hard_factor();
    let total = if loss.alpha_soft.is_some() { total + soft.clone() * loss.soft_factor() } else { total };
    let nothing = || Tensor::<1>::zeros([1], &device);
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
