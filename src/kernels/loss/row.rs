//! One slot of the distillation loss on the CPU: loss and gradient in place, in two sweeps over a row that stays in the
//! cache.
//!
//! The first sweep finds the largest logits; the second takes every exponential once and adds them up; a third, short
//! one writes the gradient. Sums run in 16 lanes of f32 over blocks, and in f64 over blocks: vector instructions, and
//! the same result on every CPU. `shaders/dwt_loss.rs` is the definition.

use super::definition::DwtLoss;
use crate::kernels::vector::{LOWEST, exp, largest, on_vectors, sweep};

/// A slot's losses in nats, not weighted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::kernels) struct RowLoss {
    pub hard: f64,
    pub soft: f64,
}

/// The losses of the slot with student logits `student_v` and teacher logits `teacher_v`, which are spent: `student_v`
/// then has the gradient of `weight` times the total, `teacher_v` nothing of use. Without a soft loss `teacher_v` may
/// be empty; `spare_v` is room for a row, needed when there are both losses.
pub(super) fn row(
    student_v: &mut [f32],
    teacher_v: &mut [f32],
    spare_v: &mut [f32],
    label: usize,
    weight: f64,
    loss: &DwtLoss,
) -> RowLoss {
    on_vectors(|| row_anywhere(student_v, teacher_v, spare_v, label, weight, loss))
}

#[inline(always)]
fn row_anywhere(
    student_v: &mut [f32],
    teacher_v: &mut [f32],
    spare_v: &mut [f32],
    label: usize,
    weight: f64,
    loss: &DwtLoss,
) -> RowLoss {
    let v = student_v.len() as f64;
    let label_logit = f64::from(student_v[label]);
    let z_max = largest(student_v);
    let cooling = (1.0 / loss.temperature) as f32;
    // Weights of p, q and r in the gradient, before they are divided by their sums.
    let by_hard = weight * loss.hard_factor();
    let by_soft = weight * loss.soft_factor() / loss.temperature;
    let smooth = (by_hard * loss.smoothing / v) as f32;

    let hard_of = |sum: f64, shifted: f64| {
        let (mean, log_sum) = (f64::from(z_max) + shifted / v, f64::from(z_max) + sum.ln());
        let smoothing = if loss.smoothing == 0.0 { 0.0 } else { loss.smoothing * (log_sum - mean) };
        (1.0 - loss.smoothing) * (log_sum - label_logit) + smoothing
    };
    // Not below 0 but for rounding; a NaN stays one.
    let soft_of = |z_sum: f64, t_sum: f64, product: f64| match product / t_sum - t_sum.ln() + z_sum.ln() {
        soft if soft < 0.0 => 0.0,
        soft => soft,
    };
    // e^(t - max), and what the divergence adds up: e^(t - max) (log r - log q) without the sums' logarithms.
    let soft_terms = |z: f32, t: f32, t_max: f32| {
        let (z, t) = ((z - z_max) * cooling, (t - t_max) * cooling);
        let (q, r) = (exp(z), exp(t));
        (q, r, if t < LOWEST { 0.0 } else { r * (t - z) })
    };

    let losses = match (loss.alpha_hard.is_some(), loss.alpha_soft.is_some()) {
        (true, false) => {
            let [sum, shifted] = sweep([&mut *student_v], |[z]| {
                let p = exp(z - z_max);
                ([p], [p, z - z_max])
            });
            let by_p = (by_hard / sum) as f32;
            let [] = sweep([&mut *student_v], |[p]| ([p * by_p - smooth], []));
            RowLoss { hard: hard_of(sum, shifted), soft: 0.0 }
        }
        (false, true) => {
            let t_max = largest(teacher_v);
            let [q_sum, r_sum, product] = sweep([&mut *student_v, &mut *teacher_v], |[z, t]| {
                let (q, r, product) = soft_terms(z, t, t_max);
                ([q, r], [q, r, product])
            });
            let (by_q, by_r) = ((by_soft / q_sum) as f32, (by_soft / r_sum) as f32);
            let [] = sweep([&mut *student_v, teacher_v], |[q, r]| ([q * by_q - r * by_r, r], []));
            RowLoss { hard: 0.0, soft: soft_of(q_sum, r_sum, product) }
        }
        (true, true) => {
            let t_max = largest(teacher_v);
            let [p_sum, shifted, q_sum, r_sum, product] =
                sweep([&mut *student_v, &mut *teacher_v, &mut *spare_v], |[z, t, _]| {
                    let p = exp(z - z_max);
                    let (q, r, product) = soft_terms(z, t, t_max);
                    ([p, r, q], [p, z - z_max, q, r, product])
                });
            let (by_p, by_q, by_r) = ((by_hard / p_sum) as f32, (by_soft / q_sum) as f32, (by_soft / r_sum) as f32);
            let [] =
                sweep([&mut *student_v, teacher_v, spare_v], |[p, r, q]| ([p * by_p - smooth + (q * by_q - r * by_r), r, q], []));
            RowLoss { hard: hard_of(p_sum, shifted), soft: soft_of(q_sum, r_sum, product) }
        }
        (false, false) => {
            student_v.fill(0.0);
            RowLoss::default()
        }
    };
    student_v[label] -= (by_hard * (1.0 - loss.smoothing)) as f32;
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logit_that_is_not_finite_is_seen_in_the_loss() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = [0.0, bad, 1.0];
            assert!(!row(&mut logits, &mut [], &mut [], 0, 1.0, &DwtLoss::hard(1.0, 0.0)).hard.is_finite());
        }
    }
}
