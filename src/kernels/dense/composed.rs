//! A dense layer in burn's operations.

use burn::tensor::Tensor;

use super::Dense;
use crate::device::Compute;
use crate::kernels::form::in_f32;
use crate::kernels::gelu::erf_gelu;
use crate::kernels::matmul::matmul;

/// See [`dense`](super::dense()) and [`dense_gelu`](super::dense_gelu).
pub(super) fn dense(x_nd: Tensor<2>, layer: &Dense, has_gelu: bool, compute: &Compute) -> Tensor<2> {
    let Dense { weight_df, bias_f } = layer.clone();
    let sum_nf = matmul(compute.factor(x_nd), compute.factor(weight_df), compute) + compute.factor(bias_f).unsqueeze();
    if has_gelu { compute.factor(erf_gelu(in_f32(sum_nf))) } else { sum_nf }
}
