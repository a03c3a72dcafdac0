//! The distillation loss in CubeCL, for every runtime of it: CUDA, Metal, Vulkan. Passes, shapes and numerics are those
//! of `shaders/dwt_loss.wgsl`, which has them explained; where WGSL selects by a flag this form is compiled without the
//! part. Logits are taken several at a time.

use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::kernels::gpu::reduce::{largest_within, within};

/// e^x for x <= 0; what is too small for f32 is 1e-38, which no sum notices.
#[cube]
pub(in crate::kernels) fn falling_exp<W: Size>(x: Vector<f32, W>) -> Vector<f32, W> {
    max(x, Vector::new(-87.0f32)).exp()
}

/// [`falling_exp`] of one number.
#[cube]
pub(in crate::kernels) fn falling(x: f32) -> f32 {
    max(x, -87.0f32).exp()
}

/// A difference of logits, at least -1e30: differences of such can still be multiplied.
#[cube]
pub(in crate::kernels) fn below(x: f32, largest: f32) -> f32 {
    max(x - largest, -1e30f32)
}

/// Logits with their biases, which may be added already.
#[cube]
pub(in crate::kernels) fn biased<W: Size>(
    logits_mv: &[Vector<f32, W>],
    at: usize,
    biases: &[Vector<f32, W>],
    bias_at: usize,
    #[comptime] has_bias: bool,
) -> Vector<f32, W> {
    let mut logits = logits_mv[at];
    if has_bias {
        logits += biases[bias_at];
    }
    logits
}

/// Weighted losses `[m, 2]` and the gradient `[m, v]`, in the dtype that its products want. One cube of `units` a slot,
/// in any arrangement of cubes. `biases` has the student's, then the teacher's; `v` counts vectors.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
pub(super) fn dwt_loss_kernel<F: Float, W: Size>(
    student_mv: &[Vector<f32, W>],
    teacher_mv: &[Vector<f32, W>],
    biases: &[Vector<f32, W>],
    labels_m: &[i32],
    weights_m: &[f32],
    gradient_mv: &mut [Vector<F, W>],
    losses_m2: &mut [f32],
    hard_factor: f32,
    soft_factor: f32,
    cooling: f32,
    smoothing: f32,
    v: u32,
    m: u32,
    #[comptime] has_bias: bool,
    #[comptime] has_hard: bool,
    #[comptime] has_soft: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let slot = CUBE_POS;
    // The same for a whole cube: no barrier is left waiting.
    if slot >= m as usize {
        terminate!();
    }
    let lane = UNIT_POS as usize;
    let v = v as usize;
    let start = slot * v;
    let mut z_max = Shared::<[f32]>::new_slice(units as usize);
    let mut p_sum = Shared::<[f32]>::new_slice(units as usize);
    let mut q_sum = Shared::<[f32]>::new_slice(units as usize);
    let mut t_max = Shared::<[f32]>::new_slice(units as usize);
    let mut r_sum = Shared::<[f32]>::new_slice(units as usize);
    let levels = comptime!(units.ilog2());
    let zero = Vector::<f32, W>::new(0.0f32);
    let cool = Vector::<f32, W>::new(cooling);

    // Pass 1: the largest logits, and the sums of exponentials.
    let mut z_largest = f32::new(-3.4e38);
    let mut t_largest = f32::new(-3.4e38);
    let mut p_total = zero;
    let mut q_total = zero;
    let mut r_total = zero;
    let mut i = lane;
    while i < v {
        let z = biased(student_mv, start + i, biases, i, has_bias);
        let highest = largest_within(z);
        if highest > z_largest {
            let fall = below(z_largest, highest);
            p_total *= Vector::new(falling(fall));
            q_total *= Vector::new(falling(fall * cooling));
            z_largest = highest;
        }
        let fall = z - Vector::new(z_largest);
        p_total += falling_exp(fall);
        if has_soft {
            q_total += falling_exp(fall * cool);
            let t = biased(teacher_mv, start + i, biases, v + i, has_bias);
            let highest = largest_within(t);
            if highest > t_largest {
                r_total *= Vector::new(falling(below(t_largest, highest) * cooling));
                t_largest = highest;
            }
            r_total += falling_exp((t - Vector::new(t_largest)) * cool);
        }
        i += units as usize;
    }
    z_max[lane] = z_largest;
    p_sum[lane] = within(p_total);
    q_sum[lane] = within(q_total);
    t_max[lane] = t_largest;
    r_sum[lane] = within(r_total);
    #[unroll]
    for level in 0..levels {
        sync_cube();
        let half = comptime!((units >> (level + 1)) as usize);
        if lane < half {
            let other = lane + half;
            let z_both = max(z_max[lane], z_max[other]);
            let mine = below(z_max[lane], z_both);
            let theirs = below(z_max[other], z_both);
            p_sum[lane] = p_sum[lane] * falling(mine) + p_sum[other] * falling(theirs);
            z_max[lane] = z_both;
            if has_soft {
                q_sum[lane] = q_sum[lane] * falling(mine * cooling) + q_sum[other] * falling(theirs * cooling);
                let t_both = max(t_max[lane], t_max[other]);
                r_sum[lane] = r_sum[lane] * falling(below(t_max[lane], t_both) * cooling)
                    + r_sum[other] * falling(below(t_max[other], t_both) * cooling);
                t_max[lane] = t_both;
            }
        }
    }
    sync_cube();
    let z_largest = Vector::<f32, W>::new(z_max[0]);
    let t_largest = Vector::<f32, W>::new(t_max[0]);
    let p_total = p_sum[0];
    let q_total = q_sum[0];
    let r_total = r_sum[0];
    // Every invocation has read them before pass 2's sums take their place.
    sync_cube();

    // Pass 2: the gradient, and the sums that need the first pass's.
    let weight = weights_m[slot];
    let label = labels_m[slot] as usize;
    let (label_at, label_lane) = (label / W::value(), label % W::value());
    let by_p = Vector::<f32, W>::new(weight * hard_factor / p_total);
    let spread = Vector::<f32, W>::new(weight * hard_factor * smoothing / (v * W::value()) as f32);
    let at_label = weight * hard_factor * (1.0f32 - smoothing);
    let mut by_q = zero;
    let mut by_r = zero;
    let mut log_ratio = zero;
    if has_soft {
        by_q = Vector::new(weight * soft_factor / q_total);
        by_r = Vector::new(weight * soft_factor / r_total);
        log_ratio = Vector::new(q_total.ln() - r_total.ln());
    }
    let mut divergence = zero;
    let mut shifted = zero;
    let mut of_label = f32::new(0.0);
    let mut i = lane;
    while i < v {
        let z = max(biased(student_mv, start + i, biases, i, has_bias) - z_largest, Vector::new(-1e30f32));
        shifted += z;
        let mut gradient = zero;
        if has_hard {
            gradient = by_p * falling_exp(z) - spread;
            if i == label_at {
                #[unroll]
                for which in 0..W::value() {
                    if which == label_lane {
                        of_label = z.extract(which);
                        gradient.insert(which, gradient.extract(which) - at_label);
                    }
                }
            }
        }
        if has_soft {
            let t = max((biased(teacher_mv, start + i, biases, v + i, has_bias) - t_largest) * cool, Vector::new(-87.0f32));
            let cooled = z * cool;
            let r = t.exp();
            gradient += by_q * falling_exp(cooled) - by_r * r;
            divergence += r * (t - cooled + log_ratio);
        }
        gradient_mv[start + i] = Vector::cast_from(select(weight == 0.0f32, zero, gradient));
        i += units as usize;
    }
    p_sum[lane] = within(divergence);
    q_sum[lane] = within(shifted);
    z_max[lane] = of_label;
    #[unroll]
    for level in 0..levels {
        sync_cube();
        let half = comptime!((units >> (level + 1)) as usize);
        if lane < half {
            p_sum[lane] += p_sum[lane + half];
            q_sum[lane] += q_sum[lane + half];
            // All but one are 0.
            z_max[lane] += z_max[lane + half];
        }
    }
    sync_cube();
    if lane == 0 {
        let mut hard = f32::new(0.0);
        let mut soft = f32::new(0.0);
        if weight != 0.0f32 {
            if has_hard {
                let log_sum = p_total.ln();
                let from_label = log_sum - z_max[0];
                let from_mean = log_sum - q_sum[0] / (v * W::value()) as f32;
                // Without smoothing the mean, which may be far away, counts nothing.
                let smoothed = select(smoothing == 0.0f32, 0.0f32, smoothing * from_mean);
                hard = weight * ((1.0f32 - smoothing) * from_label + smoothed);
            }
            if has_soft {
                // Not below 0 but for rounding.
                soft = weight * max(p_sum[0] / r_total, 0.0f32);
            }
        }
        losses_m2[2 * slot] = hard;
        losses_m2[2 * slot + 1] = soft;
    }
}
