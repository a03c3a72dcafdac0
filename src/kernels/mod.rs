//! Fused operations: the language-model head and the distillation loss in one, a chunk of slots at a time, so that `[m, v]`
//! logits never exist at once.
//!
//! Each operation has three forms under one name, held to each other by `tests/kernels.rs`: `reference` (in `shaders/`, the
//! definition), composed (burn operations, in [`crate::loss`]) and fused (here).
//!
//! Shapes: `m` slots, `d` width, `v` vocabulary, `c` slots of a chunk.

mod attach;
mod attention;
mod cpu;
#[cfg_attr(not(feature = "gpu"), path = "no_gpu.rs")]
mod cube;
mod dense;
mod dropout;
#[cfg(feature = "gpu")]
mod gpu_loss;
#[cfg(feature = "gpu")]
mod gpu_matmul;
mod host;
mod lstm;
mod matrix;
mod norm;
mod places;
mod row;
mod spent;
mod update;
mod vector;
#[cfg(feature = "gpu")]
mod wgsl;

/// The definition of the distillation loss, and its cases.
#[path = "../../shaders/dwt_loss.rs"]
pub mod dwt_loss;
/// The definition of a product of matrices, and its cases.
#[path = "../../shaders/matmul.rs"]
pub mod matmul;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor};

use crate::config::{Kernels, Precision};
use crate::device::{is_cpu, is_cuda};
use crate::error::{Error, Result};
pub use attention::{Segments, self_attention};
pub(crate) use cube::{GuardedAdam, guard as next_guard, squares};
pub use dense::{Dense, dense, dense_gelu, erf_gelu};
pub use dropout::Dropout;
pub use dwt_loss::DwtLoss;
pub use lstm::{Direction, bilstm, lstm_composed};
pub use norm::{Norm, dense_norm, norm_of_sum};
pub use places::{Places, look_up};
use spent::Part;
pub use spent::{Spent, spent};
pub(crate) use update::{AdamStep, adam, sum_of_squares};

/// Which form of an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// burn operations, on any device.
    Composed,
    /// One operation of our own: hand-written WGSL where the device's runtime takes it, CubeCL on other GPUs, Rust on CPUs.
    Fused,
    /// The CubeCL kernel, on any GPU.
    CubeCl,
}

impl Form {
    /// The words of `UPSTILL_KERNELS`.
    pub const WORDS: [&'static str; 3] = ["composed", "fused", "cubecl"];

    /// The form that `UPSTILL_KERNELS` asks for where the device has it, else fused: on a CPU it measured best; on a GPU it launches a
    /// fifth of burn's kernels, and burn's gradient of a table look-up goes through tokens one by one.
    pub fn of(device: &Device) -> Self {
        match Self::asked() {
            Ok(Some(form)) if Self::all_on(device).contains(&form) => form,
            Ok(Some(Form::CubeCl)) if is_cuda(device) => Form::Fused, // which is CubeCL there
            Ok(None) | Err(_) if Self::all_on(device).contains(&Form::Fused) => Form::Fused,
            _ => Form::Composed,
        }
    }

    /// The form that a run wants: `UPSTILL_KERNELS` first, then what its plan says.
    ///
    /// # Errors
    /// When the device has no such form.
    pub fn of_run(device: &Device, wanted: Kernels) -> Result<Self> {
        let form = match Self::from_word(wanted.word()) {
            Some(form) if Self::asked()?.is_none() => form,
            _ => return Ok(Self::of(device)),
        };
        form.must_be_on(device)?;
        Ok(form)
    }

    /// # Errors
    /// When the device has no such form.
    pub fn must_be_on(self, device: &Device) -> Result<()> {
        let forms = Self::all_on(device);
        if forms.contains(&self) {
            return Ok(());
        }
        let words: Vec<&str> = forms.iter().map(|form| form.word()).collect();
        Err(Error::new(format!("this device has no {} kernels", self.word()))
            .help(format!("write [runtime] kernels = \"auto\", or leave --form out; it has {}", words.join(" and "))))
    }

    /// The forms that the device has.
    pub fn all_on(device: &Device) -> &'static [Form] {
        #[cfg(feature = "gpu")]
        if is_cuda(device) {
            return &[Form::Composed, Form::Fused];
        }
        #[cfg(feature = "gpu")]
        if !is_cpu(device) && gpu_loss::is_gpu(device) {
            return &[Form::Composed, Form::Fused, Form::CubeCl];
        }
        if is_cpu(device) { &[Form::Composed, Form::Fused] } else { &[Form::Composed] }
    }

    /// Its word in `UPSTILL_KERNELS`.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// The form of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        let forms = [Form::Composed, Form::Fused, Form::CubeCl];
        forms.into_iter().find(|form| form.word() == word)
    }

    /// What `UPSTILL_KERNELS` asks for, if anything.
    ///
    /// # Errors
    /// When it asks for something else.
    pub fn asked() -> Result<Option<Self>> {
        match std::env::var("UPSTILL_KERNELS").as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok(word) => Self::from_word(word).map(Some).ok_or_else(|| {
                Error::new(format!("unknown form {word:?} in UPSTILL_KERNELS"))
                    .help(format!("one of: {}; unset it for the fastest", Self::WORDS.join(", ")))
            }),
        }
    }
}

/// How a model's operations run: in which form, and with which numbers its products.
///
/// With `bf16` or `f16`, dense layers and attention multiply numbers of 16 bits, made from f32 on the way in; sums inside a product,
/// softmax, layer norms, the residual stream, the loss and every weight stay in f32, and so do gradients of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compute {
    /// The form of operations.
    pub form: Form,
    /// The numbers of products.
    pub precision: Precision,
}

impl From<Form> for Compute {
    fn from(form: Form) -> Self {
        Self { form, precision: Precision::F32 }
    }
}

impl Compute {
    /// f32, in the device's own form.
    pub fn of(device: &Device) -> Self {
        Form::of(device).into()
    }

    /// The same form with other numbers.
    #[must_use]
    pub fn with(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The numbers of a product's factors.
    pub fn numbers(self) -> DType {
        match self.precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        }
    }

    /// A factor of a product, in the product's numbers.
    pub fn factor<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        if x.dtype() == self.numbers() { x } else { x.cast(self.numbers()) }
    }

    /// Whether a GPU's own kernels run: those that draw dropout of so many elements themselves, or draw none.
    fn is_fused_on_gpu(self, device: &Device, dropout: Option<(&Dropout, usize)>) -> bool {
        let draws = |(dropout, elements): (&Dropout, usize)| dropout.is_whole_words(elements, || cube::can_draw(device));
        self.form != Form::Composed && !is_cpu(device) && dropout.is_none_or(draws)
    }

    /// Whether the CPU's own kernels run: they know f32 alone.
    fn is_fused_on_cpu(self, device: &Device) -> bool {
        self.form == Form::Fused && self.precision == Precision::F32 && is_cpu(device)
    }
}

/// `a b` over the last two dimensions; those before them are equal. Fused, a small product on a GPU through WebGPU is one short
/// kernel for all shapes; any other is burn's.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, form: Form) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if form != Form::Composed && !is_cpu(&a.device()) {
        return gpu_matmul::differentiable(a, b, form);
    }
    #[cfg(not(feature = "gpu"))]
    let _ = form; // one form is left
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

    /// All of them at once, `[m, v]`, the product by one form.
    pub fn whole(self, form: Form) -> Tensor<2> {
        match self {
            Logits::Whole(logits_mv) => logits_mv,
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                in_f32(matmul(hidden_md, words_vd.transpose(), form)) + bias_v.unsqueeze()
            }
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

/// The hard loss slot by slot, `[m]` in nats and outside any graph, a chunk of slots at a time; none where no kernel of ours has it.
pub(crate) fn hard_losses(logits: &Logits, labels_m: &Tensor<1, Int>, form: Form) -> Option<Tensor<1>> {
    let has_kernel = form != Form::Composed && is_cpu(&logits.device());
    has_kernel.then(|| spent::on(Part::Loss, || cpu::hard_losses(&logits.clone().in_f32().detached(), labels_m)))
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
/// [`Form::all_on`].
///
/// # Panics
/// When shapes differ, a label is outside the vocabulary, a soft loss has no teacher, or the device has no such form.
pub fn dwt_loss(student: &Logits, teacher: Option<&Logits>, targets: &Targets, loss: &DwtLoss, form: Form) -> StepLoss {
    assert_ne!(form, Form::Composed, "the composed form is not a kernel");
    let tracked = student.device().is_autodiff();
    // The CPU's kernel reads f32: factors of 16 bits go on as what they were rounded to.
    let rounded = |logits: &Logits| if is_cpu(&logits.device()) { logits.clone().in_f32() } else { logits.clone() };
    let (student, teacher) = (&rounded(student), teacher.map(rounded));
    let teacher = teacher.as_ref();
    let plain = student.clone().detached();
    let device = plain.device();
    #[cfg(feature = "gpu")]
    let found = match is_cpu(&device) {
        true => spent::on(Part::Loss, || cpu::dwt_loss(&plain, teacher, targets, loss, tracked)),
        false => gpu_loss::dwt_loss(&plain, teacher, targets, loss, form, tracked),
    };
    #[cfg(not(feature = "gpu"))]
    let found = spent::on(Part::Loss, || cpu::dwt_loss(&plain, teacher, targets, loss, tracked));
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
