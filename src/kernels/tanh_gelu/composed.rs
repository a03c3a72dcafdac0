//! GELU by the hyperbolic tangent in burn's operations.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::{CUBE, TWICE_SCALE};
use crate::device::Compute;
use crate::kernels::form::in_f32;

/// See [`tanh_gelu`](super::tanh_gelu).
pub(super) fn tanh_gelu(x_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    let x_nf = in_f32(x_nf);
    let twice_nf = (x_nf.clone() * x_nf.clone() * CUBE + 1.0) * x_nf.clone() * TWICE_SCALE;
    compute.factor(x_nf * sigmoid(twice_nf))
}
