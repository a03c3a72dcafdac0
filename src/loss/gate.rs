//! Where a student listens to its teacher, slot by slot.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// Entropy of the distributions with logits `[m, v]` at temperature `tau`, `[m]`, in nats.
pub fn entropy(logits_mv: Tensor<2>, tau: f64) -> Tensor<1> {
    // A token that is ruled out has probability 0, and 0 log 0 = 0: its logarithm must be finite.
    let log_p_mv = log_softmax(logits_mv / tau, 1).clamp_min(f32::MIN);
    (log_p_mv.clone().exp() * log_p_mv).sum_dim(1).squeeze_dim::<1>(1).neg()
}

/// 1 at the `share` of the used slots whose values are lowest, rounded up to whole slots, and 0 elsewhere; the earlier
/// of two slots with equal values comes first. A slot is used where its weight is above 0. Both `[n]`, out `[n]`.
///
/// With the teacher's entropy it is the gate of He et al. 2026, "Switch Distillation": tokens whose entropy is in the
/// lowest q of the batch.
pub fn lowest_share(values_n: &[f32], weights_n: &[f32], share: f64) -> Vec<f32> {
    let mut used: Vec<usize> = (0..values_n.len()).filter(|&slot| weights_n[slot] > 0.0).collect();
    used.sort_by(|&a, &b| values_n[a].total_cmp(&values_n[b]));
    // 0.1 times 30 is a little more than 3.
    let open = (share * used.len() as f64 - 1e-9).ceil().max(0.0) as usize;
    let mut open_n = vec![0.0; values_n.len()];
    used.iter().take(open).for_each(|&slot| open_n[slot] = 1.0);
    open_n
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn the_lowest_share_is_of_used_slots_and_whole() {
        let (values, weights) = ([0.5, 0.1, 0.9, 0.1, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(lowest_share(&values, &weights, 0.25), [0.0, 1.0, 0.0, 0.0, 0.0], "the first of two equal ones");
        assert_eq!(lowest_share(&values, &weights, 0.5), [0.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(lowest_share(&values, &weights, 0.51), [1.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(lowest_share(&values, &weights, 1.0), weights);
        assert_eq!(lowest_share(&[1.0; 30], &[1.0; 30], 0.1).iter().sum::<f32>(), 3.0);
        assert_eq!(lowest_share(&[1.0; 2], &[0.0; 2], 0.5), [0.0; 2], "nothing is used");
    }

    #[test]
    fn entropy_is_log_v_of_no_idea_and_0_of_certainty() {
        let data = vec![2.0f32, 2.0, 2.0, 2.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        let logits_mv = Tensor::<2>::from_data(TensorData::new(data, [2, 4]), &Device::flex());
        let found: Vec<f32> = entropy(logits_mv, 2.0).into_data().try_to_vec().unwrap();
        assert!((found[0] - 4f32.ln()).abs() < 1e-6 && found[1].abs() < 1e-6, "{found:?}");
    }
}
