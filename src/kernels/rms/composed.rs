//! The norm in burn's operations.

use burn::tensor::Tensor;

use crate::kernels::form::in_f32;

/// See [`rms_norm`](super::rms_norm).
pub(super) fn rms_norm(x_ne: Tensor<2>, gamma_w: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let ([n, e], [w]) = (x_ne.dims(), gamma_w.dims());
    let x_kw = in_f32(x_ne).reshape([n * (e / w), w]);
    let root_k1 = ((x_kw.clone() * x_kw.clone()).mean_dim(1) + epsilon).sqrt();
    (x_kw / root_k1 * gamma_w.unsqueeze()).reshape([n, e])
}
