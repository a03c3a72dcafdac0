//! The distillation loss against a few outcomes of a teacher in CubeCL, for every runtime of it.
//!
//! A chunk's shares are spread over the vocabulary first, so that they come to the kernel as a teacher's logits come to
//! that of the whole distribution (`src/kernels/loss/cube.rs`): a cube a slot, one pass over its logits for the largest
//! and the sums of exponentials, and one for the gradient. A token that has a share is one whose share is above 0. The
//! others' sum of exponentials is a sum over them, relative to their own largest: as what the named ones leave of the
//! whole it would be rounding wherever they have nearly all.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{IndexingUpdateOp, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Outcomes;
use crate::device::Compute;
use crate::kernels::gpu::reduce::{largest_of_cube, largest_within, sums_of_cube, within};
use crate::kernels::gpu::{empty, empty_of, on_gpu};
use crate::kernels::graph::inner;
use crate::kernels::logits::Logits;
use crate::kernels::loss::cube::{Weighing, WeighingLaunch, below, biased, falling, falling_exp, hard_gradient, hard_loss};
use crate::kernels::loss::definition::DwtLoss;
use crate::kernels::loss::gpu::{Chunk, by_chunks, unbiased};
use crate::kernels::loss::{StepLoss, Targets, dwt_loss};

/// Weighted losses `[m, 2]` and the gradient `[m, v]`, in the dtype that its products want. One cube a slot, in any
/// arrangement of cubes. `slots_3m` has each slot's weight, then the share of all others, then the constant.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn outcomes_loss_kernel<F: Float, W: Size>(
    student_mv: &[Vector<f32, W>],
    shares_mv: &[Vector<f32, W>],
    bias_v: &[Vector<f32, W>],
    labels_m: &[i32],
    slots_3m: &[f32],
    gradient_mv: &mut [Vector<F, W>],
    losses_m2: &mut [f32],
    told: Weighing,
    #[define(F)] _dtype: ElemType,
) {
    let slot = CUBE_POS;
    let m = told.m as usize;
    // The same for a whole cube: no barrier is left waiting.
    if slot >= m {
        terminate!();
    }
    let lane = UNIT_POS as usize;
    let v = told.v as usize;
    let start = slot * v;
    let units = comptime!(told.units);
    let has_bias = comptime!(told.has_bias);
    let has_hard = comptime!(told.has_hard);
    let zero = Vector::<f32, W>::new(0.0f32);
    let low = Vector::<f32, W>::new(-3.4e38f32);
    let cooling = told.cooling;
    let cool = Vector::<f32, W>::new(cooling);

    // Pass 1: the largest logits, of all and of the others, the sums of exponentials, and the shares together.
    let mut z_largest = f32::new(-3.4e38);
    let mut o_largest = f32::new(-3.4e38);
    let mut p_total = zero;
    let mut q_total = zero;
    let mut o_total = zero;
    let mut r_total = zero;
    let mut i = lane;
    while i < v {
        let z = biased(student_mv, start + i, bias_v, i, has_bias);
        let share = shares_mv[start + i];
        let highest = largest_within(z);
        if highest > z_largest {
            let fall = below(z_largest, highest);
            p_total *= Vector::new(falling(fall));
            q_total *= Vector::new(falling(fall * cooling));
            z_largest = highest;
        }
        let fall = z - Vector::new(z_largest);
        if has_hard {
            p_total += falling_exp(fall);
        }
        q_total += falling_exp(fall * cool);
        let other = select_many(zero.less_than(&share), low, z);
        let highest = largest_within(other);
        if highest > o_largest {
            o_total *= Vector::new(falling(below(o_largest, highest) * cooling));
            o_largest = highest;
        }
        let beside = falling_exp((other - Vector::new(o_largest)) * cool);
        o_total += select_many(zero.less_than(&share), zero, beside);
        r_total += share;
        i += units as usize;
    }
    let z_highest = largest_of_cube(z_largest, units);
    let o_highest = largest_of_cube(o_largest, units);
    let fall = below(z_largest, z_highest);
    let sums = sums_of_cube(
        within(p_total) * falling(fall),
        within(q_total) * falling(fall * cooling),
        within(o_total) * falling(below(o_largest, o_highest) * cooling),
        within(r_total),
        units,
    );
    let (p_total, q_total, o_total, r_total) = (sums.0, sums.1, sums.2, sums.3);

    // Pass 2: the gradient, and the sums that need the first pass's.
    let weight = slots_3m[slot];
    let rest = slots_3m[m + slot];
    let all = rest + r_total;
    let label = labels_m[slot] as usize;
    let z_largest = Vector::<f32, W>::new(z_highest);
    let o_largest = Vector::<f32, W>::new(o_highest);
    // How far the likeliest of the others is below the likeliest of all, cooled.
    let down = below(o_highest, z_highest) * cooling;
    let of_own = weight * told.soft_factor * all / q_total;
    let mut of_others = of_own * falling(down);
    if rest > 0.0f32 {
        of_others -= weight * told.soft_factor * rest / o_total;
    }
    let by_own = Vector::<f32, W>::new(of_own);
    let by_others = Vector::<f32, W>::new(of_others);
    let by_share = Vector::<f32, W>::new(weight * told.soft_factor);
    let mut shifted = zero;
    let mut crossed = zero;
    let mut i = lane;
    while i < v {
        let logits = biased(student_mv, start + i, bias_v, i, has_bias);
        let share = shares_mv[start + i];
        let z = max(logits - z_largest, Vector::new(-1e30f32));
        shifted += z;
        crossed += share * z;
        let fall = select_many(zero.less_than(&share), z, logits - o_largest) * cool;
        let by = select_many(zero.less_than(&share), by_own, by_others);
        let mut gradient = by * falling_exp(fall) - by_share * share;
        if has_hard {
            gradient += hard_gradient(z, i, label, p_total, weight, &told);
        }
        gradient_mv[start + i] = Vector::cast_from(select(weight == 0.0f32, zero, gradient));
        i += units as usize;
    }
    let sums = sums_of_cube(within(crossed), within(shifted), 0.0f32, 0.0f32, units);
    let (crossed, shifted) = (sums.0, sums.1);
    if lane == 0 {
        let mut hard = f32::new(0.0);
        let mut soft = f32::new(0.0);
        if weight != 0.0f32 {
            if has_hard {
                let at = label / W::value();
                let logits = biased(student_mv, start + at, bias_v, at, has_bias);
                hard = weight * hard_loss(logits, label, z_highest, shifted, p_total, &told);
            }
            soft = slots_3m[2 * m + slot] + all * q_total.ln() - crossed * cooling;
            if rest > 0.0f32 {
                soft -= rest * (down + o_total.ln());
            }
            soft *= weight;
        }
        losses_m2[2 * slot] = hard;
        losses_m2[2 * slot + 1] = soft;
    }
}

/// See [`outcomes_loss`](super::outcomes_loss).
pub(super) fn outcomes_loss(
    student: Logits,
    outcomes: &Outcomes,
    targets: &Targets,
    loss: &DwtLoss,
    compute: &Compute,
) -> StepLoss {
    if loss.alpha_soft.is_none() {
        return dwt_loss(student, None, targets, loss, compute);
    }
    let (tracked, plain) = (student.device().is_autodiff(), student.clone().detached());
    assert_eq!(outcomes.dims()[0], plain.dims()[0], "a slot's outcomes for each slot");
    let each = |chunk: Chunk| launch(&chunk, outcomes, loss, compute);
    by_chunks(&plain, targets, compute, tracked, each).attached(student, loss)
}

/// Weighted losses `[m, 2]` of a chunk's slots, and their gradient `[m, v]`.
fn launch(chunk: &Chunk, outcomes: &Outcomes, loss: &DwtLoss, compute: &Compute) -> (Tensor<2>, CubeTensor) {
    let ([m, v], device) = (chunk.student.dims(), chunk.student.device());
    let Outcomes { ids_mk, shares_mk, rest_m, constant_m } = outcomes.clone();
    let (ids_mk, shares_mk) = (ids_mk.narrow(0, chunk.from, m), inner(shares_mk).narrow(0, chunk.from, m));
    let shares_mv = Tensor::<2>::zeros([m, v], &device).scatter(1, ids_mk, shares_mk, IndexingUpdateOp::Add);
    let of_chunk = |x_m: Tensor<1>| inner(x_m).narrow(0, chunk.from, m);
    let slots_3m = on_gpu(&Tensor::cat(vec![inner(chunk.weights_c.clone()), of_chunk(rest_m), of_chunk(constant_m)], 0));
    let (gradient_mv, losses_m2) = (empty_of([m, v], chunk.numbers(), &slots_3m), empty([m, 2], &slots_3m));
    let (student_mv, bias) = unbiased(&chunk.student, compute);
    let has_bias = bias.is_some();
    // As long as a vector at least.
    let bias_v = on_gpu(&bias.unwrap_or_else(|| Tensor::zeros([4], &device)));
    let (size, count, dim, told) = WeighingLaunch::of(loss, [m, v], has_bias, compute.traits.loss_units);
    outcomes_loss_kernel::launch(
        &slots_3m.client,
        count,
        dim,
        size,
        student_mv.into_buffer_arg(),
        on_gpu(&shares_mv).into_buffer_arg(),
        bias_v.into_buffer_arg(),
        chunk.labels_c.clone().into_buffer_arg(),
        slots_3m.clone().into_buffer_arg(),
        gradient_mv.clone().into_buffer_arg(),
        losses_m2.clone().into_buffer_arg(),
        told,
        dtype_to_storage_type(chunk.numbers()),
    );
    (Tensor::from_primitive::<CubeBackend>(losses_m2), gradient_mv)
}
