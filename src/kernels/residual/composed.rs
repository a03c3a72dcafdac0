//! A product and a sum in burn's operations.

use burn::tensor::Tensor;

use crate::device::Compute;
use crate::kernels::dropout::Dropout;
use crate::kernels::form::in_f32;
use crate::kernels::matmul::matmul;

/// See [`dense_sum`](super::dense_sum).
pub(super) fn dense_sum(
    x_nf: Tensor<2>,
    weight_fd: Tensor<2>,
    residual_nd: Tensor<2>,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let product_nd = in_f32(matmul(compute.factor(x_nf), compute.factor(weight_fd), compute));
    dropout.apply(product_nd) + residual_nd
}
