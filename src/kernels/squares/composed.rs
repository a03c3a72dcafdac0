//! The sum of squares in burn's operations.

use burn::tensor::Tensor;

/// See [`squares`](super::squares).
pub(super) fn squares(tensors: &[Tensor<1>]) -> Tensor<1> {
    let each = tensors.iter().map(|tensor| tensor.clone().square().sum());
    each.reduce(|sum, squares| sum + squares).expect("a model in training has gradients")
}
