//! The distillation loss on GPUs: launches `shaders/dwt_loss.wgsl` where the runtime takes WGSL, else the CubeCL form,
//! by chunks of slots that fit a binding. Where the logits come as factors, burn's matrix products make a chunk of them
//! and take its gradient back.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;

use super::cube::{WeighingLaunch, dwt_loss_kernel, factors};
use super::definition::{DwtLoss, WGSL};
use super::{Found, Targets};
use crate::device::{Compute, Kernels};
use crate::kernels::gpu::columns::columns;
use crate::kernels::gpu::{MOST_CUBES, Wgsl, empty, empty_of, ints_on_gpu, on_gpu};
use crate::kernels::logits::Logits;
use crate::kernels::matmul::{product, transposed};
use crate::kernels::spent::{self, Part};

const SHADER: Wgsl = Wgsl { source: WGSL, workgroup: 256 };

/// See [`dwt_loss`](super::dwt_loss()); the student is outside any graph here. The kernels are ours.
pub(super) fn dwt_loss(
    student: &Logits,
    teacher: Option<&Logits>,
    targets: &Targets,
    loss: &DwtLoss,
    compute: &Compute,
    tracked: bool,
) -> Found {
    let teacher = loss.alpha_soft.map(|_| teacher.expect("a soft loss has a teacher"));
    by_chunks(student, targets, compute, tracked, |chunk| {
        let teacher = teacher.map(|teacher| teacher.narrow(chunk.from, chunk.count()));
        launch(&chunk, teacher.as_ref(), loss, compute)
    })
}

/// Some slots that are worked on together: as many as fit a binding with their logits.
pub(in crate::kernels) struct Chunk {
    /// The first of them.
    pub from: usize,
    /// The student's logits there.
    pub student: Logits,
    /// Their labels, `[c]` in i32.
    pub labels_c: CubeTensor,
    /// What their losses are multiplied by, `[c]`.
    pub weights_c: Tensor<1>,
}

impl Chunk {
    /// How many slots.
    pub fn count(&self) -> usize {
        self.student.dims()[0]
    }

    /// The numbers that the gradient is made in: those of the student's factors.
    pub fn numbers(&self) -> DType {
        match &self.student {
            Logits::Whole(_) => DType::F32,
            Logits::Factors { hidden_md, .. } => hidden_md.dtype(),
        }
    }
}

/// Has `each` turn chunk after chunk into weighted losses `[c, 2]` and the gradient `[c, v]`, and adds both up.
pub(in crate::kernels) fn by_chunks(
    student: &Logits,
    targets: &Targets,
    compute: &Compute,
    tracked: bool,
    each: impl Fn(Chunk) -> (Tensor<2>, CubeTensor),
) -> Found {
    spent::on_gpu(Part::Loss, &on_gpu(&targets.weights_m), || sums(student, targets, compute, tracked, each))
}

fn sums(
    student: &Logits,
    targets: &Targets,
    compute: &Compute,
    tracked: bool,
    each: impl Fn(Chunk) -> (Tensor<2>, CubeTensor),
) -> Found {
    let ([m, v], device) = (student.dims(), student.device());
    let chunk = (compute.traits.logits_chunk_bytes / (4 * v.max(1))).clamp(1, MOST_CUBES as usize);
    // In f16 gradients are divided by the count when they are f32 again: before, they would be too small for it.
    let (first, last) = match (student, targets.count.max(1) as f64) {
        (Logits::Factors { hidden_md, .. }, count) if hidden_md.dtype() == DType::F16 => (1.0, count),
        (_, count) => (count, 1.0),
    };
    let mut losses_2 = Tensor::<1>::zeros([2], &device);
    let mut gradients: Vec<Logits> = Vec::new();
    for from in (0..m).step_by(chunk) {
        let count = chunk.min(m - from);
        let student = student.narrow(from, count);
        let labels_c = ints_on_gpu(&targets.labels_m.clone().narrow(0, from, count));
        assert_eq!(labels_c.dtype, DType::I32, "labels are i32");
        let weights_c = targets.weights_m.clone().narrow(0, from, count) / first;
        let (losses_c2, gradient_cv) = each(Chunk { from, student: student.clone(), labels_c, weights_c });
        losses_2 = losses_2 + losses_c2.sum_dim(0).squeeze_dim::<1>(0);
        if tracked {
            gradients.push(match &student {
                Logits::Whole(_) => Logits::Whole(Tensor::from_primitive::<CubeBackend>(gradient_cv)),
                Logits::Factors { hidden_md, words_vd, .. } => {
                    // Products of 16 bits; what is summed over chunks, or divided, is f32.
                    let product = |a: &CubeTensor, b: &Tensor<2>| product(a, &on_gpu(b), DType::F32, compute.kernels);
                    let [of_bias] = columns(&gradient_cv);
                    Logits::Factors {
                        hidden_md: over(Tensor::from_primitive::<CubeBackend>(product(&gradient_cv, words_vd)), last),
                        words_vd: over(
                            Tensor::from_primitive::<CubeBackend>(product(&transposed(&gradient_cv), hidden_md)),
                            last,
                        ),
                        bias_v: over(Tensor::from_primitive::<CubeBackend>(of_bias), last),
                    }
                }
            });
        }
    }
    let losses_2 = over(losses_2, last);
    Found { hard: losses_2.clone().narrow(0, 0, 1), soft: losses_2.narrow(0, 1, 1), gradient: gradients.into_iter().reduce(join) }
}

fn over<const D: usize>(x: Tensor<D>, count: f64) -> Tensor<D> {
    if count == 1.0 { x } else { x / count }
}

/// The gradient of two chunks: that of their slots side by side, that of decoder and bias added up.
fn join(a: Logits, b: Logits) -> Logits {
    match (a, b) {
        (Logits::Whole(a), Logits::Whole(b)) => Logits::Whole(Tensor::cat(vec![a, b], 0)),
        (
            Logits::Factors { hidden_md, words_vd, bias_v },
            Logits::Factors { hidden_md: more_md, words_vd: more_vd, bias_v: more_v },
        ) => Logits::Factors {
            hidden_md: Tensor::cat(vec![hidden_md, more_md], 0),
            words_vd: words_vd + more_vd,
            bias_v: bias_v + more_v,
        },
        _ => unreachable!("chunks of one student have one kind"),
    }
}

/// Weighted losses `[m, 2]` of a chunk's slots, and their gradient `[m, v]`.
fn launch(chunk: &Chunk, teacher: Option<&Logits>, loss: &DwtLoss, compute: &Compute) -> (Tensor<2>, CubeTensor) {
    let (student, numbers) = (&chunk.student, chunk.numbers());
    let ([m, v], device) = (student.dims(), student.device());
    let (labels_m, weights_m) = (chunk.labels_c.clone(), on_gpu(&chunk.weights_c));
    let losses_m2 = empty([m, 2], &weights_m);
    let client = losses_m2.client.clone();

    let (has_hard, has_soft) = (loss.alpha_hard.is_some(), teacher.is_some());
    // As long as a vector at least.
    let nothing = || on_gpu(&Tensor::<1>::zeros([4], &device));
    let gradient_mv = if compute.kernels == Kernels::Fused && Wgsl::runs_on(&client) {
        let whole = |logits: &Logits| on_gpu(&logits.clone().whole(compute));
        let (student_mv, teacher_mv) = (whole(student), teacher.map_or_else(nothing, whole));
        let gradient_mv = empty([m, v], &weights_m);
        let flags = [v as u32, u32::from(has_hard), u32::from(has_soft)].map(u32::to_le_bytes);
        let tensors = [&student_mv, &teacher_mv, &labels_m, &weights_m, &gradient_mv, &losses_m2];
        SHADER.launch([m, 1, 1], tensors, &[&flags[..], &factors(loss).map(f32::to_le_bytes)].concat());
        cast(gradient_mv, numbers)
    } else {
        let (student_mv, student_bias) = unbiased(student, compute);
        let (teacher_mv, teacher_bias) = teacher.map_or_else(|| (nothing(), None), |teacher| unbiased(teacher, compute));
        let has_bias = student_bias.is_some() || teacher_bias.is_some();
        let biases = [Some(student_bias), has_soft.then_some(teacher_bias)].into_iter().flatten();
        let biases: Vec<Tensor<1>> = biases.map(|bias| bias.unwrap_or_else(|| Tensor::zeros([v], &device))).collect();
        let biases = if has_bias { on_gpu(&Tensor::cat(biases, 0)) } else { nothing() };
        let gradient_mv = empty_of([m, v], numbers, &weights_m);
        let (size, count, dim, told) = WeighingLaunch::of(loss, [m, v], has_bias, compute.traits.loss_units);
        dwt_loss_kernel::launch(
            &client,
            count,
            dim,
            size,
            student_mv.into_buffer_arg(),
            teacher_mv.into_buffer_arg(),
            biases.into_buffer_arg(),
            labels_m.into_buffer_arg(),
            weights_m.into_buffer_arg(),
            gradient_mv.clone().into_buffer_arg(),
            losses_m2.clone().into_buffer_arg(),
            told,
            has_soft,
            dtype_to_storage_type(numbers),
        );
        gradient_mv
    };
    (Tensor::from_primitive::<CubeBackend>(losses_m2), gradient_mv)
}

/// Logits `[m, v]` in f32, and what is still to be added to each row.
pub(in crate::kernels) fn unbiased(logits: &Logits, compute: &Compute) -> (CubeTensor, Option<Tensor<1>>) {
    match logits {
        Logits::Whole(logits_mv) => (on_gpu(logits_mv), None),
        Logits::Factors { hidden_md, words_vd, bias_v } => {
            (product(&on_gpu(hidden_md), &transposed(&on_gpu(words_vd)), DType::F32, compute.kernels), Some(bias_v.clone()))
        }
    }
}
