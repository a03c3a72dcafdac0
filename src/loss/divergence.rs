//! Other ways to be far from a teacher than the KL divergence of equation 2, each a small pure function, in nats a
//! slot.
//!
//! With p the teacher's distribution and q the student's, both at temperature tau. Shapes: both logits `[m, v]`, out
//! `[m]`; the teacher's carry no gradient.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::{hard_loss, soft_loss, weighted_mean};
use crate::config::{Divergence, DivergenceKind};
use crate::device::Compute;
use crate::kernels::{DwtLoss, Logits, StepLoss, Targets};

/// KL divergence of the student's distribution to the teacher's, `sum q log (q/p)`: it goes where the teacher is
/// likeliest, and not everywhere that the teacher goes (Gu et al. 2024, "MiniLLM", section 2.1; He et al. 2026, "Switch
/// Distillation").
pub fn reverse_loss(student_mv: Tensor<2>, teacher_mv: Tensor<2>, tau: f64) -> Tensor<1> {
    let (log_q_mv, log_p_mv) = logarithms(student_mv, teacher_mv, tau);
    sum(log_q_mv.clone().exp() * (log_q_mv - log_p_mv))
}

/// Generalised Jensen-Shannon divergence, `beta KL(p || m) + (1 - beta) KL(q || m)` with `m = beta p + (1 - beta) q`
/// and `beta` between 0 and 1, both excluded (Agarwal et al. 2024, "On-Policy Distillation", section 2). At 1/2 it is
/// the symmetric one.
pub fn jensen_shannon_loss(student_mv: Tensor<2>, teacher_mv: Tensor<2>, beta: f64, tau: f64) -> Tensor<1> {
    let (log_q_mv, log_p_mv) = logarithms(student_mv, teacher_mv, tau);
    let (p_mv, q_mv) = (log_p_mv.clone().exp(), log_q_mv.clone().exp());
    // Never below either part, so that its logarithm is finite wherever it counts.
    let log_m_mv = (p_mv.clone() * beta + q_mv.clone() * (1.0 - beta)).clamp_min(f32::MIN_POSITIVE).log();
    sum(p_mv * (log_p_mv - log_m_mv.clone())) * beta + sum(q_mv * (log_q_mv - log_m_mv)) * (1.0 - beta)
}

/// Total variation distance, `1/2 sum |p - q|`, from 0 to 1 (Wen et al. 2023, "f-Divergence Minimization", section 3).
pub fn total_variation_loss(student_mv: Tensor<2>, teacher_mv: Tensor<2>, tau: f64) -> Tensor<1> {
    let (log_q_mv, log_p_mv) = logarithms(student_mv, teacher_mv, tau);
    sum((log_p_mv.exp() - log_q_mv.exp()).abs()) * 0.5
}

/// Equation 3 with another divergence in the place of equation 2, in burn's operations and with whole logits, on any
/// device.
///
/// # Panics
/// When shapes differ, or a label is outside the vocabulary.
pub fn divergence_loss(
    student: Logits,
    teacher: Logits,
    targets: &Targets,
    loss: &DwtLoss,
    divergence: Divergence,
    compute: &Compute,
) -> StepLoss {
    let mean = |loss_m: Tensor<1>| weighted_mean(loss_m, targets.weights_m.clone(), targets.count);
    let (student_mv, teacher_mv, tau) = (student.whole(compute), teacher.whole(compute), loss.temperature);
    let hard = match loss.alpha_hard {
        Some(_) => mean(hard_loss(student_mv.clone(), targets.labels_m.clone(), loss.smoothing)),
        None => Tensor::zeros([1], &student_mv.device()),
    };
    let soft = mean(match divergence.kind {
        DivergenceKind::Kl => soft_loss(student_mv, teacher_mv, tau),
        DivergenceKind::ReverseKl => reverse_loss(student_mv, teacher_mv, tau),
        DivergenceKind::JensenShannon => jensen_shannon_loss(student_mv, teacher_mv, divergence.beta, tau),
        DivergenceKind::TotalVariation => total_variation_loss(student_mv, teacher_mv, tau),
    });
    StepLoss { total: hard.clone() * loss.hard_factor() + soft.clone() * loss.soft_factor(), hard, soft: Some(soft) }
}

/// Log-probabilities of student and teacher. A token that is ruled out has probability 0, and 0 log 0 = 0: they must be
/// finite, and the student's, whose probability there counts, must not be far below the teacher's.
fn logarithms(student_mv: Tensor<2>, teacher_mv: Tensor<2>, tau: f64) -> (Tensor<2>, Tensor<2>) {
    let finite = |logits_mv: Tensor<2>| log_softmax(logits_mv / tau, 1).clamp_min(LOWEST);
    (finite(student_mv), finite(teacher_mv))
}

/// The logarithm of what f32 takes for 0, and more: times a probability it is still a number.
const LOWEST: f32 = -1e4;

fn sum(x_mv: Tensor<2>) -> Tensor<1> {
    x_mv.sum_dim(1).squeeze_dim::<1>(1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::kernels::dwt_loss::spread;

    fn logits(seed: u64) -> Tensor<2> {
        Tensor::from_data(TensorData::new(spread(60, seed), [6, 10]), &Device::flex())
    }

    fn host(x: Tensor<1>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn nothing_is_lost_on_oneself_and_something_on_others() {
        let all: [&dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<1>; 3] =
            [&|q, p| reverse_loss(q, p, 2.0), &|q, p| jensen_shannon_loss(q, p, 0.3, 2.0), &|q, p| {
                total_variation_loss(q, p, 2.0)
            }];
        for of in all {
            assert!(host(of(logits(1), logits(1))).iter().all(|loss| loss.abs() < 1e-6));
            assert!(host(of(logits(1), logits(2))).iter().all(|loss| *loss > 1e-3));
        }
    }

    #[test]
    fn they_are_what_they_are_to_each_other() {
        let (q, p) = (logits(1), logits(2));
        // The other direction is the same divergence with the roles changed.
        let (reverse, forward) = (host(reverse_loss(q.clone(), p.clone(), 1.5)), host(soft_loss(p.clone(), q.clone(), 1.5)));
        assert!(reverse.iter().zip(&forward).all(|(a, b)| (a - b).abs() < 1e-5), "{reverse:?} {forward:?}");
        // Symmetric at one half, and JSD(beta) / beta tends to KL(p || q) as beta tends to 0.
        let both = |beta| host(jensen_shannon_loss(q.clone(), p.clone(), beta, 1.5));
        let turned = host(jensen_shannon_loss(p.clone(), q.clone(), 0.5, 1.5));
        assert!(both(0.5).iter().zip(&turned).all(|(a, b)| (a - b).abs() < 1e-6));
        let kl = host(soft_loss(q.clone(), p.clone(), 1.5));
        assert!(both(1e-3).iter().zip(&kl).all(|(a, b)| (a / 1e-3 - b).abs() < 0.02 * b.max(0.1)), "{kl:?}");
        // Pinsker: TV^2 <= KL / 2.
        let distance = host(total_variation_loss(q.clone(), p.clone(), 1.5));
        assert!(distance.iter().zip(&kl).all(|(tv, kl)| tv * tv <= kl / 2.0 + 1e-6 && *tv <= 1.0));
    }

    #[test]
    fn a_token_that_is_ruled_out_leaves_losses_and_gradients_finite() {
        let device = Device::flex().autodiff();
        let ruled = |seed: u64, at: usize| {
            let mut values = spread(10, seed);
            values[at] = f32::NEG_INFINITY;
            TensorData::new(values, [1, 10])
        };
        for (own, theirs) in [(3, 3), (3, 5)] {
            let teacher = || Tensor::<2>::from_data(ruled(2, theirs), &Device::flex());
            for kind in 0..3 {
                let student = Tensor::<2>::from_data(ruled(1, own), &device).require_grad();
                let loss = match kind {
                    0 => reverse_loss(student.clone(), teacher(), 1.0),
                    1 => jensen_shannon_loss(student.clone(), teacher(), 0.5, 1.0),
                    _ => total_variation_loss(student.clone(), teacher(), 1.0),
                };
                assert!(loss.clone().inner().into_scalar::<f32>().is_finite(), "{kind} {own} {theirs}");
                let gradient: Vec<f32> = student.grad(&loss.sum().backward()).unwrap().into_data().try_to_vec().unwrap();
                assert!(gradient.iter().all(|x| x.is_finite()), "{kind} {own} {theirs}: {gradient:?}");
            }
        }
    }
}
