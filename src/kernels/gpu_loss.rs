//! The distillation loss on GPUs: launches `shaders/dwt_loss.wgsl` where the runtime takes WGSL, else the CubeCL form, by chunks
//! of slots that fit a binding. Where the logits come as factors, burn's matrix products make a chunk of them and take its
//! gradient back.

use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use cubecl::prelude::{CubeCount, CubeDim};

use super::dwt_loss::DwtLoss;
use super::wgsl::Wgsl;
use super::{Form, Found, Logits, Targets, cube, in_f32, matmul};
use crate::device::is_cuda;

/// What every WebGPU device can bind.
const BINDING_BYTES: usize = 128 << 20;
/// A chunk of logits where nothing limits a binding: large products, and still far less than all of a batch's.
const CUDA_BYTES: usize = 512 << 20;
const SHADER: Wgsl = Wgsl { source: super::dwt_loss::WGSL, workgroup: 256 };

/// Whether the device is a GPU of burn's.
pub(super) fn is_gpu(device: &Device) -> bool {
    Tensor::<1>::zeros([1], device).try_into_primitive::<CubeBackend>().is_ok()
}

/// See [`super::dwt_loss`]; the student is outside any graph here. `form` is not the composed one.
pub(super) fn dwt_loss(
    student: &Logits,
    teacher: Option<&Logits>,
    targets: &Targets,
    loss: &DwtLoss,
    form: Form,
    tracked: bool,
) -> Found {
    let ([m, v], device) = (student.dims(), student.device());
    let teacher = loss.alpha_soft.map(|_| teacher.expect("a soft loss has a teacher"));
    let bytes = if is_cuda(&device) { CUDA_BYTES } else { BINDING_BYTES };
    let chunk = (bytes / (4 * v.max(1))).clamp(1, cube::MOST_CUBES as usize);
    // In f16 gradients are divided by the count when they are f32 again: before, they would be too small for it.
    let (first, last) = match (student, targets.count.max(1) as f64) {
        (Logits::Factors { hidden_md, .. }, count) if hidden_md.dtype() == DType::F16 => (1.0, count),
        (_, count) => (count, 1.0),
    };
    let mut losses_2 = Tensor::<1>::zeros([2], &device);
    let mut gradients: Vec<Logits> = Vec::new();
    for from in (0..m).step_by(chunk) {
        let count = chunk.min(m - from);
        let part = |logits: &Logits| logits.narrow(from, count);
        let (student, teacher) = (part(student), teacher.map(|teacher| part(teacher).whole(form)));
        let labels_c = targets.labels_m.clone().narrow(0, from, count);
        let weights_c = targets.weights_m.clone().narrow(0, from, count) / first;
        let (losses_c2, gradient_cv) = launch(student.clone().whole(form), teacher, labels_c, weights_c, loss, form);
        losses_2 = losses_2 + losses_c2.sum_dim(0).squeeze_dim::<1>(0);
        if tracked {
            gradients.push(match student {
                Logits::Whole(_) => Logits::Whole(gradient_cv),
                Logits::Factors { hidden_md, words_vd, .. } => Logits::Factors {
                    bias_v: over(gradient_cv.clone().sum_dim(0).squeeze_dim::<1>(0), last),
                    // Products in the numbers of their factors; what is summed over chunks, or divided, is f32.
                    words_vd: over(in_f32(matmul(like(&gradient_cv, &hidden_md).transpose(), hidden_md, form)), last),
                    hidden_md: over(in_f32(matmul(like(&gradient_cv, &words_vd), words_vd, form)), last),
                },
            });
        }
    }
    let losses_2 = over(losses_2, last);
    Found { hard: losses_2.clone().narrow(0, 0, 1), soft: losses_2.narrow(0, 1, 1), gradient: gradients.into_iter().reduce(join) }
}

fn over<const D: usize>(x: Tensor<D>, count: f64) -> Tensor<D> {
    if count == 1.0 { x } else { x / count }
}

/// `x` in the numbers of `factor`.
fn like(x: &Tensor<2>, factor: &Tensor<2>) -> Tensor<2> {
    match factor.dtype() {
        DType::BF16 => x.clone().cast(FloatDType::BF16),
        DType::F16 => x.clone().cast(FloatDType::F16),
        _ => x.clone(),
    }
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
        _ => unreachable!("chunks of one student have one form"),
    }
}

/// Weighted losses `[m, 2]` and the gradient `[m, v]` of slots whose logits fit a binding.
fn launch(
    student_mv: Tensor<2>,
    teacher_mv: Option<Tensor<2>>,
    labels_m: Tensor<1, burn::tensor::Int>,
    weights_m: Tensor<1>,
    loss: &DwtLoss,
    form: Form,
) -> (Tensor<2>, Tensor<2>) {
    let ([m, v], device) = (student_mv.dims(), student_mv.device());
    let contiguous =
        |x: Tensor<2>| into_contiguous(x.try_into_primitive::<CubeBackend>().expect("a GPU's tensor, outside autodiff"));
    let gradient_mv = contiguous(Tensor::empty([m, v], &device));
    let losses_m2 = contiguous(Tensor::empty([m, 2], &device));
    let has_soft = teacher_mv.is_some();
    let teacher_mv = contiguous(teacher_mv.unwrap_or_else(|| Tensor::zeros([1, 1], &device)));
    let labels_m = labels_m.try_into_primitive::<CubeBackend>().expect("a GPU's tensor");
    assert_eq!(burn::backend::TensorMetadata::dtype(&labels_m), burn::tensor::DType::I32, "labels are i32");
    let (student_mv, labels_m, weights_m) =
        (contiguous(student_mv), into_contiguous(labels_m), contiguous(weights_m.unsqueeze::<2>()));

    let factors =
        [loss.hard_factor(), loss.soft_factor() / loss.temperature, 1.0 / loss.temperature, loss.smoothing].map(|x| x as f32);
    let client = student_mv.client.clone();
    let has_hard = loss.alpha_hard.is_some();
    if form == Form::Fused && Wgsl::runs_on(&client) {
        let flags = [v as u32, u32::from(has_hard), u32::from(has_soft)].map(u32::to_le_bytes);
        let tensors = [&student_mv, &teacher_mv, &labels_m, &weights_m, &gradient_mv, &losses_m2];
        SHADER.launch([m, 1, 1], tensors, &[&flags[..], &factors.map(f32::to_le_bytes)].concat());
    } else {
        let [hard_factor, soft_factor, cooling, smoothing] = factors;
        cube::dwt_loss_kernel::launch(
            &client,
            CubeCount::Static(m as u32, 1, 1),
            CubeDim::new_1d(cube::UNITS),
            student_mv.into_buffer_arg(),
            teacher_mv.into_buffer_arg(),
            labels_m.into_buffer_arg(),
            weights_m.into_buffer_arg(),
            gradient_mv.clone().into_buffer_arg(),
            losses_m2.clone().into_buffer_arg(),
            hard_factor,
            soft_factor,
            cooling,
            smoothing,
            v as u32,
            m as u32,
            has_hard,
            has_soft,
        );
    }
    (Tensor::from_primitive::<CubeBackend>(losses_m2), Tensor::from_primitive::<CubeBackend>(gradient_mv))
}
