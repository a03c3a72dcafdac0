//! The gate in burn's operations.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::device::Compute;
use crate::kernels::form::in_f32;

/// See [`silu_gate`](super::silu_gate).
pub(super) fn silu_gate(a_nf: Tensor<2>, b_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    compute.factor(silu(in_f32(a_nf)) * in_f32(b_nf))
}
