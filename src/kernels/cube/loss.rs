//! The distillation loss in CubeCL, for every runtime of it: CUDA, Metal, Vulkan. Passes, shapes and numerics are those of
//! `shaders/dwt_loss.wgsl`, which has them explained; where WGSL selects by a flag this form is compiled without the part.

use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Invocations a slot.
pub(in super::super) const UNITS: u32 = 256;
/// Halvings from [`UNITS`] to 1.
const LEVELS: u32 = 8;

/// e^x for x <= 0, and 0 for what is too small for f32.
#[cube]
fn falling_exp(x: f32) -> f32 {
    select(x < -87.0f32, 0.0f32, max(x, -87.0f32).exp())
}

/// A difference of logits, at least -1e30: differences of such can still be multiplied.
#[cube]
fn below(x: f32, largest: f32) -> f32 {
    max(x - largest, -1e30f32)
}

/// A logit with its bias, which may be added already.
#[cube]
fn biased(logits_mv: &[f32], at: usize, biases: &[f32], bias_at: usize, #[comptime] has_bias: bool) -> f32 {
    let mut logit = logits_mv[at];
    if has_bias {
        logit += biases[bias_at];
    }
    logit
}

/// Weighted losses `[m, 2]` and the gradient `[m, v]`, in the numbers that its products want. One cube a slot, in any arrangement of
/// cubes. `biases` has the student's, then the teacher's.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
pub(in super::super) fn dwt_loss_kernel<F: Float>(
    student_mv: &[f32],
    teacher_mv: &[f32],
    biases: &[f32],
    labels_m: &[i32],
    weights_m: &[f32],
    gradient_mv: &mut [F],
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
    #[define(F)] _dtype: ElemType,
) {
    let slot = CUBE_POS;
    // The same for a whole cube: no barrier is left waiting.
    if slot >= m as usize {
        terminate!();
    }
    let lane = UNIT_POS as usize;
    let v = v as usize;
    let units = CUBE_DIM as usize;
    let start = slot * v;
    let mut z_max = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut p_sum = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut q_sum = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut t_max = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut r_sum = Shared::<[f32]>::new_slice(UNITS as usize);

    // Pass 1: the largest logits, and the sums of exponentials.
    let mut z_largest = f32::new(-3.4e38);
    let mut p_total = f32::new(0.0);
    let mut q_total = f32::new(0.0);
    let mut t_largest = f32::new(-3.4e38);
    let mut r_total = f32::new(0.0);
    let mut i = lane;
    while i < v {
        let z = biased(student_mv, start + i, biases, i, has_bias);
        if z > z_largest {
            let fall = below(z_largest, z);
            p_total *= falling_exp(fall);
            q_total *= falling_exp(fall * cooling);
            z_largest = z;
        }
        p_total += falling_exp(below(z, z_largest));
        if has_soft {
            q_total += falling_exp(below(z, z_largest) * cooling);
            let t = biased(teacher_mv, start + i, biases, v + i, has_bias);
            if t > t_largest {
                r_total *= falling_exp(below(t_largest, t) * cooling);
                t_largest = t;
            }
            r_total += falling_exp(below(t, t_largest) * cooling);
        }
        i += units;
    }
    z_max[lane] = z_largest;
    p_sum[lane] = p_total;
    q_sum[lane] = q_total;
    t_max[lane] = t_largest;
    r_sum[lane] = r_total;
    #[unroll]
    for level in 0..LEVELS {
        sync_cube();
        let half = comptime!((UNITS >> (level + 1)) as usize);
        if lane < half {
            let other = lane + half;
            let z_both = max(z_max[lane], z_max[other]);
            let mine = below(z_max[lane], z_both);
            let theirs = below(z_max[other], z_both);
            p_sum[lane] = p_sum[lane] * falling_exp(mine) + p_sum[other] * falling_exp(theirs);
            z_max[lane] = z_both;
            if has_soft {
                q_sum[lane] = q_sum[lane] * falling_exp(mine * cooling) + q_sum[other] * falling_exp(theirs * cooling);
                let t_both = max(t_max[lane], t_max[other]);
                r_sum[lane] = r_sum[lane] * falling_exp(below(t_max[lane], t_both) * cooling)
                    + r_sum[other] * falling_exp(below(t_max[other], t_both) * cooling);
                t_max[lane] = t_both;
            }
        }
    }
    sync_cube();
    z_largest = z_max[0];
    t_largest = t_max[0];
    p_total = p_sum[0];
    q_total = q_sum[0];
    r_total = r_sum[0];
    // Every invocation has read them before pass 2's sums take their place.
    sync_cube();

    // Pass 2: the gradient, and the sums that need the first pass's.
    let weight = weights_m[slot];
    let label = labels_m[slot] as usize;
    let by_p = weight * hard_factor / p_total;
    let spread = weight * hard_factor * smoothing / v as f32;
    let at_label = weight * hard_factor * (1.0f32 - smoothing);
    let mut by_q = f32::new(0.0);
    let mut by_r = f32::new(0.0);
    let mut log_ratio = f32::new(0.0);
    if has_soft {
        by_q = weight * soft_factor / q_total;
        by_r = weight * soft_factor / r_total;
        log_ratio = q_total.ln() - r_total.ln();
    }
    let mut divergence = f32::new(0.0);
    let mut shifted = f32::new(0.0);
    let mut i = lane;
    while i < v {
        let z = below(biased(student_mv, start + i, biases, i, has_bias), z_largest);
        shifted += z;
        let mut gradient = f32::new(0.0);
        if has_hard {
            gradient = by_p * falling_exp(z) - spread - select(i == label, at_label, 0.0f32);
        }
        if has_soft {
            let t = below(biased(teacher_mv, start + i, biases, v + i, has_bias), t_largest) * cooling;
            let q = falling_exp(z * cooling);
            let r = falling_exp(t);
            gradient += by_q * q - by_r * r;
            divergence += select(r > 0.0f32, r * (t - z * cooling + log_ratio), 0.0f32);
        }
        gradient_mv[start + i] = F::cast_from(select(weight == 0.0f32, 0.0f32, gradient));
        i += units;
    }
    p_sum[lane] = divergence;
    q_sum[lane] = shifted;
    #[unroll]
    for level in 0..LEVELS {
        sync_cube();
        let half = comptime!((UNITS >> (level + 1)) as usize);
        if lane < half {
            p_sum[lane] += p_sum[lane + half];
            q_sum[lane] += q_sum[lane + half];
        }
    }
    sync_cube();
    if lane == 0 {
        let mut hard = f32::new(0.0);
        let mut soft = f32::new(0.0);
        if weight != 0.0f32 {
            if has_hard {
                let log_sum = p_total.ln();
                let from_label = log_sum - below(biased(student_mv, start + label, biases, label, has_bias), z_largest);
                let from_mean = log_sum - q_sum[0] / v as f32;
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
