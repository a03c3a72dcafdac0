//! The distillation loss in CubeCL, for every runtime of it: CUDA, Metal, Vulkan. Passes, shapes and numerics are those
//! of `shaders/dwt_loss.wgsl`, which has them explained; where WGSL selects by a flag this form is compiled without the
//! part. Logits are taken several at a time.

use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::definition::DwtLoss;
use crate::kernels::gpu::reduce::{largest_of_cube, largest_within, sums_of_cube, within};
use crate::kernels::gpu::vector_size;

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

/// What kernels are told of a loss and of the slots that they have.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(in crate::kernels) struct Weighing {
    pub hard_factor: f32,
    pub soft_factor: f32,
    pub cooling: f32,
    pub smoothing: f32,
    /// Vectors of a slot's logits.
    pub v: u32,
    pub m: u32,
    #[cube(comptime)]
    pub has_bias: bool,
    #[cube(comptime)]
    pub has_hard: bool,
    /// Invocations of a cube, a power of two.
    #[cube(comptime)]
    pub units: u32,
}

impl WeighingLaunch {
    /// For `m` slots of `v` logits: elements of a vector, cubes, invocations of one, and what the kernel is told.
    pub fn of(loss: &DwtLoss, [m, v]: [usize; 2], has_bias: bool, units: u32) -> (usize, CubeCount, CubeDim, Self) {
        let (size, m) = (vector_size(v), m as u32);
        let [hard_factor, soft_factor, cooling, smoothing] = factors(loss);
        let told = Self::new(
            hard_factor,
            soft_factor,
            cooling,
            smoothing,
            (v / size) as u32,
            m,
            has_bias,
            loss.alpha_hard.is_some(),
            units,
        );
        (size, CubeCount::Static(m, 1, 1), CubeDim::new_1d(units), told)
    }
}

/// What the hard and the soft gradient, the logits and the labels are multiplied by.
pub(super) fn factors(loss: &DwtLoss) -> [f32; 4] {
    [loss.hard_factor(), loss.soft_factor() / loss.temperature, 1.0 / loss.temperature, loss.smoothing].map(|x| x as f32)
}

/// An element of a vector, by a place that only the kernel knows.
#[cube]
fn element<W: Size>(x: Vector<f32, W>, at: usize) -> f32 {
    let mut found = x.extract(0usize);
    #[unroll]
    for which in 1..W::value() {
        found = select(which == at, x.extract(which), found);
    }
    found
}

/// What the label's loss adds to the gradient of the logits of vector `i`, which are `z` below the largest: `p_total`
/// is the sum of all e^z.
#[cube]
pub(in crate::kernels) fn hard_gradient<W: Size>(
    z: Vector<f32, W>,
    i: usize,
    label: usize,
    p_total: f32,
    weight: f32,
    told: &Weighing,
) -> Vector<f32, W> {
    let whole = weight * told.hard_factor;
    let spread = whole * told.smoothing / (told.v as usize * W::value()) as f32;
    let mut gradient = Vector::new(whole / p_total) * falling_exp(z) - Vector::new(spread);
    if i == label / W::value() {
        let at_label = whole * (1.0f32 - told.smoothing);
        #[unroll]
        for which in 0..W::value() {
            let own = select(which == label % W::value(), at_label, 0.0f32);
            gradient.insert(which, gradient.extract(which) - own);
        }
    }
    gradient
}

/// The label's loss, unweighted: its logit and the sum of all are relative to the largest, and `p_total` is the sum of
/// their exponentials.
#[cube]
pub(in crate::kernels) fn hard_loss<W: Size>(
    logits: Vector<f32, W>,
    label: usize,
    z_largest: f32,
    shifted: f32,
    p_total: f32,
    told: &Weighing,
) -> f32 {
    let log_sum = p_total.ln();
    let from_label = log_sum - max(element(logits, label % W::value()) - z_largest, -1e30f32);
    let from_mean = log_sum - shifted / (told.v as usize * W::value()) as f32;
    // Without smoothing the mean, which may be far away, counts nothing.
    let smoothed = select(told.smoothing == 0.0f32, 0.0f32, told.smoothing * from_mean);
    (1.0f32 - told.smoothing) * from_label + smoothed
}

/// Weighted losses `[m, 2]` and the gradient `[m, v]`, in the dtype that its products want. One cube a slot, in any
/// arrangement of cubes. `biases` has the student's, then the teacher's.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
pub(super) fn dwt_loss_kernel<F: Float, W: Size>(
    student_mv: &[Vector<f32, W>],
    teacher_mv: &[Vector<f32, W>],
    biases: &[Vector<f32, W>],
    labels_m: &[i32],
    weights_m: &[f32],
    gradient_mv: &mut [Vector<F, W>],
    losses_m2: &mut [f32],
    told: Weighing,
    #[comptime] has_soft: bool,
    #[define(F)] _dtype: ElemType,
) {
    let slot = CUBE_POS;
    // The same for a whole cube: no barrier is left waiting.
    if slot >= told.m as usize {
        terminate!();
    }
    let lane = UNIT_POS as usize;
    let v = told.v as usize;
    let start = slot * v;
    let units = comptime!(told.units);
    let has_bias = comptime!(told.has_bias);
    let has_hard = comptime!(told.has_hard);
    let zero = Vector::<f32, W>::new(0.0f32);
    let cooling = told.cooling;
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
    let z_highest = largest_of_cube(z_largest, units);
    let fall = below(z_largest, z_highest);
    let mut t_highest = t_largest;
    if has_soft {
        t_highest = largest_of_cube(t_largest, units);
    }
    let sums = sums_of_cube(
        within(p_total) * falling(fall),
        within(q_total) * falling(fall * cooling),
        within(r_total) * falling(below(t_largest, t_highest) * cooling),
        0.0f32,
        units,
    );
    let (p_total, q_total, r_total) = (sums.0, sums.1, sums.2);

    // Pass 2: the gradient, and the sums that need the first pass's.
    let weight = weights_m[slot];
    let label = labels_m[slot] as usize;
    let z_largest = Vector::<f32, W>::new(z_highest);
    let t_largest = Vector::<f32, W>::new(t_highest);
    let mut by_q = zero;
    let mut by_r = zero;
    let mut log_ratio = zero;
    if has_soft {
        by_q = Vector::new(weight * told.soft_factor / q_total);
        by_r = Vector::new(weight * told.soft_factor / r_total);
        log_ratio = Vector::new(q_total.ln() - r_total.ln());
    }
    let mut divergence = zero;
    let mut shifted = zero;
    let mut i = lane;
    while i < v {
        let z = max(biased(student_mv, start + i, biases, i, has_bias) - z_largest, Vector::new(-1e30f32));
        shifted += z;
        let mut gradient = zero;
        if has_hard {
            gradient = hard_gradient(z, i, label, p_total, weight, &told);
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
    let sums = sums_of_cube(within(divergence), within(shifted), 0.0f32, 0.0f32, units);
    let (divergence, shifted) = (sums.0, sums.1);
    if lane == 0 {
        let mut hard = f32::new(0.0);
        let mut soft = f32::new(0.0);
        if weight != 0.0f32 {
            if has_hard {
                let at = label / W::value();
                let logits = biased(student_mv, start + at, biases, at, has_bias);
                hard = weight * hard_loss(logits, label, z_highest, shifted, p_total, &told);
            }
            if has_soft {
                // Not below 0 but for rounding.
                soft = weight * max(divergence / r_total, 0.0f32);
            }
        }
        losses_m2[2 * slot] = hard;
        losses_m2[2 * slot + 1] = soft;
    }
}
