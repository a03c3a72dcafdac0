//! A gate in burn's operations.

use burn::tensor::Tensor;

use crate::device::Compute;
use crate::kernels::form::in_f32;
use crate::kernels::gelu::erf_gelu;

/// See [`gelu_gate`](super::gelu_gate).
pub(super) fn gelu_gate(x_ng: Tensor<2>, compute: &Compute) -> Tensor<2> {
    let f = x_ng.dims()[1] / 2;
    let x_ng = in_f32(x_ng);
    compute.factor(erf_gelu(x_ng.clone().narrow(1, 0, f)) * x_ng.narrow(1, f, f))
}
