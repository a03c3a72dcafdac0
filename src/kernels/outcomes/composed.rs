//! The loss against a few outcomes of a teacher in burn's operations, with whole logits.

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Tensor};

use super::Outcomes;
use crate::device::Compute;
use crate::kernels::logits::Logits;
use crate::kernels::loss::definition::DwtLoss;
use crate::kernels::loss::{StepLoss, Targets, hard_loss, weighted_mean};

/// Soft loss a slot, `[m]`, in nats, of student logits `[m, v]` at temperature `tau`: `c - sum r_i log q_i - o log
/// q_o`, the shares r_i and o being the teacher's (`shaders/outcomes.rs`). Of a teacher's k likeliest tokens and the
/// rest it is the KL divergence over k + 1 outcomes; of draws (Anshumann et al. 2025, section 3) it is that over the
/// vocabulary, in expectation.
pub fn soft_loss_of_outcomes(student_mv: Tensor<2>, outcomes: &Outcomes, tau: f64) -> Tensor<1> {
    let Outcomes { ids_mk, shares_mk, rest_m, constant_m } = outcomes.clone();
    let log_q_mv = log_softmax(student_mv / tau, 1);
    // A token that is ruled out has probability 0, and 0 log 0 = 0: its logarithm must be finite.
    let log_q_mk = log_q_mv.clone().gather(1, ids_mk.clone()).clamp_min(f32::MIN);
    let own_m = (shares_mk.clone() * log_q_mk).sum_dim(1).squeeze_dim::<1>(1);
    // The rest is added up from its own tokens: as 1 minus the others' it would be lost in rounding.
    let is_own_mk = shares_mk.greater_elem(0.0).float();
    let none_mv = Tensor::<2>::zeros(log_q_mv.dims(), &rest_m.device());
    let is_own_mv = none_mv.scatter(1, ids_mk, is_own_mk, IndexingUpdateOp::Add);
    let rest_mv = log_q_mv + is_own_mv * RULED_OUT;
    let highest_m1 = rest_mv.clone().detach().max_dim(1);
    let log_rest_m1 = (rest_mv - highest_m1.clone()).exp().sum_dim(1).log() + highest_m1;
    constant_m - own_m - rest_m * log_rest_m1.squeeze_dim::<1>(1)
}

/// A logarithm so low that its exponential is 0, and that sums stay finite.
const RULED_OUT: f32 = -1e30;

/// See [`outcomes_loss`](super::outcomes_loss).
pub(super) fn outcomes_loss(
    student: Logits,
    outcomes: &Outcomes,
    targets: &Targets,
    loss: &DwtLoss,
    compute: &Compute,
) -> StepLoss {
    let mean = |loss_m: Tensor<1>| weighted_mean(loss_m, targets.weights_m.clone(), targets.count);
    let student_mv = student.whole(compute);
    let hard = match loss.alpha_hard {
        Some(_) => mean(hard_loss(student_mv.clone(), targets.labels_m.clone(), loss.smoothing)),
        None => Tensor::zeros([1], &student_mv.device()),
    };
    let soft = loss.alpha_soft.map(|_| mean(soft_loss_of_outcomes(student_mv, outcomes, loss.temperature)));
    let total = hard.clone() * loss.hard_factor();
    let total = match &soft {
        Some(soft) => total + soft.clone() * loss.soft_factor(),
        None => total,
    };
    StepLoss { total, hard, soft }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, TensorData};

    use super::*;
    use crate::device::Kernels;
    use crate::kernels::loss::definition::{BOTH, spread};
    use crate::kernels::loss::dwt_loss;
    use crate::kernels::outcomes::outcomes_loss;

    /// A generator for draws; the shape of its randomness is of no interest here.
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The loss of draws is the dense loss within the standard error of a mean over many of them, its gradient too.
    #[test]
    fn draws_are_the_dense_loss_in_expectation() {
        let (m, v, n, rounds, tau) = (6, 40, 12, 400, 1.5);
        let device = Device::flex();
        let matrix = |seed| Tensor::<2>::from_data(TensorData::new(spread(m * v, seed), [m, v]), &device);
        let (student_mv, teacher_mv) = (matrix(1), matrix(2));
        let log_r_mv = log_softmax(teacher_mv.clone() / tau, 1);
        let r_mv: Vec<f32> = log_r_mv.clone().exp().into_data().try_to_vec().unwrap();
        let minus_entropy: Vec<f32> = (log_r_mv.clone().exp() * log_r_mv).sum_dim(1).into_data().try_to_vec().unwrap();
        let targets =
            Targets { labels_m: Tensor::<1, Int>::zeros([m], &device), weights_m: Tensor::ones([m], &device), count: m };
        let loss = DwtLoss { alpha_hard: None, alpha_soft: Some(1.0), temperature: tau, ..BOTH };
        let compute = Compute::of(&device).by(Kernels::Fused);
        let of = |of: &dyn Fn(Logits) -> StepLoss| -> Vec<f64> {
            let tracked = student_mv.clone().autodiff().require_grad();
            let total = of(tracked.clone().into()).total;
            let gradient_mv: Vec<f32> = tracked.grad(&total.backward()).unwrap().into_data().try_to_vec().unwrap();
            [total.into_scalar::<f32>()].into_iter().chain(gradient_mv).map(f64::from).collect()
        };
        let wanted = of(&|student| dwt_loss(student, Some(teacher_mv.clone().into()), &targets, &loss, &compute));
        let (mut sums, mut squares, mut state) = (vec![0.0; wanted.len()], vec![0.0; wanted.len()], 7);
        for _ in 0..rounds {
            let (mut ids, mut shares) = (Vec::new(), Vec::new());
            for r_v in r_mv.chunks(v) {
                let mut counts = vec![0u32; v];
                for _ in 0..n {
                    let (mut left, mut id) = (uniform(&mut state), 0);
                    while id + 1 < v && left >= f64::from(r_v[id]) {
                        left -= f64::from(r_v[id]);
                        id += 1;
                    }
                    counts[id] += 1;
                }
                ids.extend(0..v as i32);
                shares.extend(counts.iter().map(|&count| count as f32 / n as f32));
            }
            let outcomes = Outcomes::new(ids, shares, vec![0.0; m], minus_entropy.clone(), &device);
            for (at, x) in of(&|student| outcomes_loss(student, &outcomes, &targets, &loss, &compute)).into_iter().enumerate() {
                (sums[at], squares[at]) = (sums[at] + x, squares[at] + x * x);
            }
        }
        let count = f64::from(rounds);
        for (at, wanted) in wanted.into_iter().enumerate() {
            let mean = sums[at] / count;
            let error = ((squares[at] / count - mean * mean).max(0.0) / (count - 1.0)).sqrt();
            // 241 numbers: four and a half standard errors are not reached by chance, once in 600 times.
            assert!((mean - wanted).abs() < 4.5 * error + 1e-6, "{at}: {mean} {wanted} {error}");
        }
    }
}
