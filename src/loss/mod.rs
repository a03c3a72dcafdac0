//! The numbers that are minimised: equations 1 to 3 of Lee et al. 2023, each a small pure function, in nats a slot.
//!
//! Shapes: `n` slots (masked positions of all rows), `v` vocabulary.

mod divergence;
mod fade;
mod features;
mod gate;
mod outcomes;
mod transfer;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use crate::device::{Compute, Kernels};
pub use crate::kernels::StepLoss;
use crate::kernels::{self, DwtLoss, Logits, Targets};
pub use divergence::{divergence_loss, jensen_shannon_loss, reverse_loss, total_variation_loss};
pub use fade::faded;
pub use features::cosine_loss;
pub use gate::{entropy, lowest_share};
pub use outcomes::{outcomes_loss, soft_loss_of_outcomes};
pub use transfer::{Elements, JointWeights, confidence, largest_variance, log_odds, logit_loss, representation_loss};

/// Equation 1, the hard loss `H(q, p)`: cross-entropy of the label against the student's prediction, a slot.
///
/// With `smoothing` e > 0 the target is (1 - e) on the label plus e spread evenly over the vocabulary (Szegedy et al.
/// 2016), as PyTorch's `cross_entropy(label_smoothing = e)`; the paper has e = 0.
///
/// Shapes: `logits_nv [n, v]`, `labels_n [n]`, out `[n]`.
pub fn hard_loss(logits_nv: Tensor<2>, labels_n: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    let log_p_nv = log_softmax(logits_nv, 1);
    let picked_n = log_p_nv.clone().gather(1, labels_n.unsqueeze_dim(1)).squeeze_dim::<1>(1);
    if smoothing == 0.0 {
        return picked_n.neg();
    }
    (picked_n * (1.0 - smoothing) + log_p_nv.mean_dim(1).squeeze_dim::<1>(1) * smoothing).neg()
}

/// [`hard_loss`] without smoothing of logits that may not be multiplied out yet: minus the log-probability of each
/// slot's label, `[n]`, outside any graph. Logits exist some slots at a time.
pub fn hard_losses(logits: Logits, labels_n: Tensor<1, Int>, compute: &Compute) -> Tensor<1> {
    const BYTES: usize = 64 << 20;
    if let Some(losses_n) = kernels::hard_losses(&logits, &labels_n, compute) {
        return losses_n;
    }
    let ([n, v], logits) = (logits.dims(), logits.detached());
    let slots = (BYTES / (4 * v.max(1))).clamp(1, n.max(1));
    let part = |from: usize| {
        let count = slots.min(n - from);
        hard_loss(logits.narrow(from, count).whole(compute), labels_n.clone().narrow(0, from, count), 0.0)
    };
    Tensor::cat((0..n).step_by(slots).map(part).collect(), 0)
}

/// Equation 2, the soft loss `S(p_teacher, p_student)`: KL divergence of the teacher's distribution to the student's,
/// both at temperature `tau`, a slot. Not multiplied by tau^2, as in the paper; [`DwtLoss::soft_factor`] has it.
///
/// Shapes: both logits `[n, v]`, out `[n]`. The teacher's carry no gradient.
pub fn soft_loss(student_nv: Tensor<2>, teacher_nv: Tensor<2>, tau: f64) -> Tensor<1> {
    // A token that is ruled out has probability 0, and 0 log 0 = 0: its logarithms must be finite.
    let log_student_nv = log_softmax(student_nv / tau, 1).clamp_min(f32::MIN);
    let log_teacher_nv = log_softmax(teacher_nv / tau, 1).clamp_min(f32::MIN / 2.0);
    let teacher_p_nv = log_teacher_nv.clone().exp();
    (teacher_p_nv * (log_teacher_nv - log_student_nv)).sum_dim(1).squeeze_dim::<1>(1)
}

/// Sum of `loss_n * weights_n` over `total`: a mean in nats a masked token whatever the micro-batch, when `total`
/// counts the slots of the whole optimizer step. An empty step gives 0.
pub fn weighted_mean(loss_n: Tensor<1>, weights_n: Tensor<1>, total: usize) -> Tensor<1> {
    (loss_n * weights_n).sum() / (total.max(1) as f64)
}

/// Equations 1 to 3 over all slots. `teacher` is read when the loss has a soft part.
///
/// # Panics
/// When shapes differ, a label is outside the vocabulary, or a soft loss has no teacher.
pub fn dwt_loss(student: Logits, teacher: Option<Logits>, targets: &Targets, loss: &DwtLoss, compute: &Compute) -> StepLoss {
    match compute.kernels {
        Kernels::Composed => composed(student, teacher, targets, loss, compute),
        _ => kernels::dwt_loss(&student, teacher.as_ref(), targets, loss, compute),
    }
}

/// The loss in burn operations, on any device.
fn composed(student: Logits, teacher: Option<Logits>, targets: &Targets, loss: &DwtLoss, compute: &Compute) -> StepLoss {
    let mean = |loss_n: Tensor<1>| weighted_mean(loss_n, targets.weights_m.clone(), targets.count);
    let student_nv = student.whole(compute);
    let soft = loss.alpha_soft.map(|_| {
        let teacher_nv = teacher.expect("a soft loss has a teacher").whole(compute);
        mean(soft_loss(student_nv.clone(), teacher_nv, loss.temperature))
    });
    let hard = match loss.alpha_hard {
        Some(_) => mean(hard_loss(student_nv.clone(), targets.labels_m.clone(), loss.smoothing)),
        None => Tensor::zeros([1], &student_nv.device()),
    };
    let total = hard.clone() * loss.hard_factor();
    let total = match &soft {
        Some(soft) => total + soft.clone() * loss.soft_factor(),
        None => total,
    };
    StepLoss { total, hard, soft }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, Tolerance};

    fn logits(values: &[f32], rows: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), &Device::flex())
    }

    fn value(x: Tensor<1>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn a_uniform_prediction_costs_log_v() {
        let labels = Tensor::<1, Int>::from_ints([0, 3], &Device::flex());
        for smoothing in [0.0, 0.1] {
            let loss = hard_loss(logits(&[2.0; 8], 2), labels.clone(), smoothing);
            loss.into_data().assert_approx_eq::<f32>(&TensorData::from([4f32.ln(), 4f32.ln()]), Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn a_teacher_equal_to_the_student_gives_zero_loss_and_zero_gradient() {
        let device = Device::flex().autodiff();
        let data = TensorData::new(vec![0.3f32, -1.0, 4.0, 0.0, 9.0, -3.0], [2, 3]);
        let student = Tensor::<2>::from_data(data.clone(), &device).require_grad();
        let loss = soft_loss(student.clone(), Tensor::from_data(data, &Device::flex()), 2.0).sum();
        let gradient = student.grad(&loss.backward()).unwrap();
        assert!(value(loss.inner()).iter().all(|x| x.abs() < 1e-6));
        assert!(gradient.abs().max().into_scalar::<f32>() < 1e-6);
    }

    #[test]
    fn the_soft_loss_is_from_teacher_to_student() {
        // KL(t || s) with t = (0.9, 0.1), s = (0.5, 0.5): 0.9 ln 1.8 + 0.1 ln 0.2; the other direction is 0.5108.
        let teacher = logits(&[0.9f32.ln(), 0.1f32.ln()], 1);
        let loss = value(soft_loss(logits(&[0.0, 0.0], 1), teacher, 1.0))[0];
        assert!((loss - 0.368_06).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn the_mean_counts_used_slots_only() {
        let loss = Tensor::<1>::from_floats([1.0, 2.0, 50.0], &Device::flex());
        let weights = Tensor::<1>::from_floats([1.0, 1.0, 0.0], &Device::flex());
        assert_eq!(value(weighted_mean(loss.clone(), weights, 2)), [1.5]);
        assert_eq!(value(weighted_mean(loss.clone(), loss.zeros_like(), 0)), [0.0]);
    }
}
