//! Losses between what student and teacher have inside, each a small pure function of a position.

use burn::tensor::Tensor;

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
}
