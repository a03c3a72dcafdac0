//! Losses between what student and teacher have inside, each a small pure function of a position.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use crate::kernels::Sight;

/// Added to squared lengths, as PyTorch's `CosineEmbeddingLoss` does, so that a vector of zeros has a cosine.
const EPSILON: f64 = 1e-12;

/// 1 minus the cosine between hidden states, `[n]`, from 0 to 2: the loss between last layers of Sanh et al. 2019,
/// "DistilBERT", section 3 (in their code `CosineEmbeddingLoss` with target 1).
///
/// Shapes: both `[n, d]`. The teacher's carry no gradient.
pub fn cosine_loss(student_nd: Tensor<2>, teacher_nd: Tensor<2>) -> Tensor<1> {
    let sum = |x_nd: Tensor<2>| x_nd.sum_dim(1).squeeze_dim::<1>(1);
    let squares_n = (sum(student_nd.clone().square()) + EPSILON) * (sum(teacher_nd.clone().square()) + EPSILON);
    (sum(student_nd * teacher_nd) / squares_n.sqrt()).neg() + 1.0
}

/// The mean over numbers of the squared difference of hidden states, `[n]`: Jiao et al. 2020, "TinyBERT", equation 8,
/// and 9 of embeddings. The student's are multiplied by a learnt matrix before.
///
/// Shapes: both `[n, d]`. The teacher's carry no gradient.
pub fn hidden_loss(student_nd: Tensor<2>, teacher_nd: Tensor<2>) -> Tensor<1> {
    (student_nd - teacher_nd).square().mean_dim(1).squeeze_dim(1)
}

/// How far a student's self-attention relations are from its teacher's, `[n]`: Wang et al. 2021, "MiniLMv2", equations
/// 3 to 5. A relation is `softmax(a a^T / sqrt(w))` of queries, keys or values `a` in `heads` heads of width `w`; the
/// divergence is KL(teacher || student), a mean over heads. The mean over positions is left to the caller.
///
/// Shapes: `[n, d]` of rows as `sight` has them, each model with a `d` of its own. `sight` hides what a position does
/// not see. The teacher's carry no gradient.
pub fn relation_loss(student_nd: Tensor<2>, teacher_nd: Tensor<2>, heads: usize, sight: &Sight) -> Tensor<1> {
    let relations = |x_nd: Tensor<2>| {
        let ([n, d], s) = (x_nd.dims(), sight.length());
        let bias_b1ss = sight.bias_b1ss(&x_nd.device().inner());
        let x_bhsw = x_nd.reshape([n / s.max(1), s, heads, d / heads]).swap_dims(1, 2);
        let scores_bhss = x_bhsw.clone().matmul(x_bhsw.swap_dims(2, 3)) / ((d / heads) as f64).sqrt();
        log_softmax(scores_bhss + bias_b1ss, 3)
    };
    let n = student_nd.dims()[0];
    let (student_bhss, teacher_bhss) = (relations(student_nd), relations(teacher_nd));
    let terms_bhss = teacher_bhss.clone().exp() * (teacher_bhss - student_bhss);
    terms_bhss.sum_dim(3).mean_dim(1).reshape([n])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_cosine_is_of_directions_alone() {
        let device = Device::flex();
        let student = Tensor::<2>::from_floats([[1.0, 2.0], [1.0, 0.0], [3.0, 4.0], [0.0, 0.0]], &device);
        let teacher = Tensor::<2>::from_floats([[10.0, 20.0], [0.0, 7.0], [-3.0, -4.0], [1.0, 1.0]], &device);
        let found: Vec<f32> = cosine_loss(student, teacher).into_data().try_to_vec().unwrap();
        assert!(found.iter().zip([0.0, 1.0, 2.0, 1.0]).all(|(found, wanted)| (found - wanted).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn a_mean_square_is_over_numbers() {
        let device = Device::flex();
        let student = Tensor::<2>::from_floats([[1.0, 2.0], [0.0, 0.0]], &device);
        let teacher = Tensor::<2>::from_floats([[1.0, 5.0], [0.0, 0.0]], &device);
        let found: Vec<f32> = hidden_loss(student, teacher).into_data().try_to_vec().unwrap();
        assert_eq!(found, [4.5, 0.0]);
    }

    #[test]
    fn relations_are_of_a_segment_alone_and_none_to_themselves() {
        let device = Device::flex();
        let sight = Sight::new(&[1, 1, 2, 0], 4);
        let rows = |scale: f32| Tensor::<2>::from_floats([[1.0, 0.5], [-1.0, 2.0], [3.0, scale], [7.0, scale]], &device);
        let other = Tensor::<2>::from_floats([[0.0, 0.0], [0.0, 0.0], [9.0, -9.0], [1.0, 1.0]], &device);
        let found = |a: Tensor<2>, b: Tensor<2>, heads| -> Vec<f32> {
            relation_loss(a, b, heads, &sight).into_data().try_to_vec().unwrap()
        };
        assert!(found(rows(1.0), rows(1.0), 1).iter().all(|loss| loss.abs() < 1e-6));
        // A position alone in its segment sees itself alone, whatever is in other segments.
        let (a, b) = (found(rows(1.0), other.clone(), 1), found(rows(50.0), other, 1));
        assert_eq!((a[2], &a[..2]), (0.0, &b[..2]));
        assert!(a[0] > 0.0);
    }
}
