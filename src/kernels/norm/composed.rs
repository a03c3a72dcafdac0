//! The norm of a sum in burn's operations.

use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;

use super::Norm;
use crate::kernels::dropout::Dropout;
use crate::kernels::form::in_f32;

/// See [`norm_of_sum`](super::norm_of_sum).
pub(super) fn norm_of_sum(x_nd: Tensor<2>, residual_nd: Option<Tensor<2>>, norm: &Norm, dropout: &mut Dropout) -> Tensor<2> {
    let x_nd = in_f32(x_nd);
    let sum_nd = match residual_nd {
        Some(residual_nd) => dropout.apply(x_nd) + residual_nd,
        None => x_nd,
    };
    layer_norm(sum_nd, norm.gamma_d.clone(), Some(norm.beta_d.clone()), norm.epsilon)
}
