//! The distillation loss against a few outcomes of a teacher, on the CPU.

use burn::tensor::TensorData;
use rayon::prelude::*;

use super::Outcomes;
use crate::device::Compute;
use crate::kernels::logits::Logits;
use crate::kernels::loss::definition::DwtLoss;
use crate::kernels::loss::{Chunk, RowLoss, StepLoss, Targets, by_chunks};
use crate::kernels::spent::{self, Part};
use crate::kernels::vector::{exp, largest, on_vectors, sweep};

/// See [`outcomes_loss`](super::outcomes_loss).
pub(super) fn outcomes_loss(
    student: Logits,
    outcomes: &Outcomes,
    targets: &Targets,
    loss: &DwtLoss,
    compute: &Compute,
) -> StepLoss {
    let tracked = student.device().is_autodiff();
    let student = student.in_f32();
    let plain = student.clone().detached();
    let host = Host::new(outcomes, plain.dims());
    let each = |chunk: Chunk| host.rows(chunk, loss);
    let found = spent::on(Part::Loss, || by_chunks(&plain, targets, compute, tracked, each));
    found.attached(student, loss)
}

/// [`Outcomes`] on the host.
struct Host {
    v: usize,
    k: usize,
    ids_mk: Vec<i32>,
    shares_mk: Vec<f32>,
    rest_m: Vec<f32>,
    constant_m: Vec<f32>,
}

impl Host {
    fn new(outcomes: &Outcomes, [m, v]: [usize; 2]) -> Self {
        let floats = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        let Outcomes { ids_mk, shares_mk, rest_m, constant_m } = outcomes.clone();
        let [slots, k] = ids_mk.dims();
        assert_eq!(slots, m, "a slot's outcomes for each slot");
        let ids_mk: Vec<i32> = ids_mk.into_data().iter::<i32>().collect();
        assert!(ids_mk.iter().all(|&id| usize::try_from(id).is_ok_and(|id| id < v)), "tokens of the student's vocabulary");
        let (shares_mk, rest_m) = (floats(shares_mk.into_data()), floats(rest_m.into_data()));
        Self { v, k, ids_mk, shares_mk, rest_m, constant_m: floats(constant_m.into_data()) }
    }

    fn rows(&self, chunk: Chunk, loss: &DwtLoss) -> Vec<RowLoss> {
        let Chunk { slots, student_cv, labels_m, weight } = chunk;
        let spare = || vec![0.0f32; if loss.alpha_hard.is_some() { self.v } else { 0 }];
        let each = |spare_v: &mut Vec<f32>, (student_v, &slot): (&mut [f32], &usize)| match weight(slot) {
            0.0 => {
                student_v.fill(0.0);
                RowLoss::default()
            }
            weight => on_vectors(|| row(student_v, spare_v, &self.slot(slot), labels_m[slot] as usize, weight, loss)),
        };
        student_cv.par_chunks_mut(self.v).zip(slots).map_init(spare, each).collect()
    }

    fn slot(&self, slot: usize) -> Slot {
        let places = slot * self.k..(slot + 1) * self.k;
        let shares = self.ids_mk[places.clone()].iter().zip(&self.shares_mk[places]).filter(|(_, share)| **share > 0.0);
        Slot {
            shares: shares.map(|(&id, &share)| (id as usize, f64::from(share))).collect(),
            rest: f64::from(self.rest_m[slot]),
            constant: f64::from(self.constant_m[slot]),
        }
    }
}

/// One slot's outcomes.
struct Slot {
    /// Tokens and their shares, none of 0.
    shares: Vec<(usize, f64)>,
    rest: f64,
    constant: f64,
}

/// The losses of a slot with student logits `student_v`, which become the gradient of `weight` times the total;
/// `spare_v` is room for a row, needed when there is a hard loss.
#[inline(always)]
fn row(student_v: &mut [f32], spare_v: &mut [f32], slot: &Slot, label: usize, weight: f64, loss: &DwtLoss) -> RowLoss {
    let v = student_v.len() as f64;
    let has_hard = loss.alpha_hard.is_some();
    let by_hard = weight * loss.hard_factor();
    let smooth = (by_hard * loss.smoothing / v) as f32;
    let (mut hard, mut by_p) = (0.0, 0.0);
    if has_hard {
        let (z_max, label_logit) = (largest(student_v), f64::from(student_v[label]));
        let [sum, shifted] = sweep([&mut *student_v, &mut *spare_v], |[z, _]| {
            let p = exp(z - z_max);
            ([z, p], [p, z - z_max])
        });
        let log_sum = f64::from(z_max) + sum.ln();
        let smoothing = if loss.smoothing == 0.0 { 0.0 } else { loss.smoothing * (log_sum - f64::from(z_max) - shifted / v) };
        hard = (1.0 - loss.smoothing) * (log_sum - label_logit) + smoothing;
        by_p = (by_hard / sum) as f32;
    }
    let soft = match loss.alpha_soft {
        Some(_) => soft_part(student_v, slot, weight * loss.soft_factor() / loss.temperature, loss.temperature),
        None => {
            student_v.fill(0.0);
            0.0
        }
    };
    if has_hard {
        let [] = sweep([&mut *student_v, spare_v], |[soft, p]| ([p * by_p - smooth + soft, p], []));
        student_v[label] -= (by_hard * (1.0 - loss.smoothing)) as f32;
    }
    RowLoss { hard, soft }
}

/// The soft loss, and in the place of the logits its gradient times `by_soft`.
#[inline(always)]
fn soft_part(student_v: &mut [f32], slot: &Slot, by_soft: f64, temperature: f64) -> f64 {
    let cooling = (1.0 / temperature) as f32;
    // The tokens that have a share of their own are put aside: what is left is OTHER, however little that is.
    let own: Vec<f64> =
        slot.shares.iter().map(|&(id, _)| f64::from(std::mem::replace(&mut student_v[id], f32::NEG_INFINITY))).collect();
    let own: Vec<f64> = own.into_iter().map(|z| z * f64::from(cooling)).collect();
    let z_max = match largest(student_v) {
        f32::NEG_INFINITY => 0.0,
        z_max => z_max,
    };
    let [other] = sweep([&mut *student_v], |[z]| {
        let q = exp((z - z_max) * cooling);
        ([q], [q])
    });
    let log_other = f64::from(z_max) * f64::from(cooling) + other.ln();
    let highest = own.iter().copied().fold(log_other, f64::max);
    let log_sum = highest + ((log_other - highest).exp() + own.iter().map(|z| (z - highest).exp()).sum::<f64>()).ln();

    let all = slot.rest + slot.shares.iter().map(|(_, share)| share).sum::<f64>();
    let mut soft = slot.constant + all * log_sum - slot.shares.iter().zip(&own).map(|((_, share), z)| share * z).sum::<f64>();
    let mut by_q = all * (f64::from(z_max) * f64::from(cooling) - log_sum).exp();
    if slot.rest > 0.0 {
        soft -= slot.rest * log_other;
        by_q -= slot.rest / other;
    }
    let by_q = (by_soft * by_q) as f32;
    let [] = sweep([&mut *student_v], |[q]| ([q * by_q], []));
    for (&(id, share), z) in slot.shares.iter().zip(own) {
        student_v[id] = (by_soft * (all * (z - log_sum).exp() - share)) as f32;
    }
    soft
}
