//! Rotary attention in burn's operations.

use burn::tensor::Tensor;

use super::Rotary;
use crate::device::Compute;
use crate::kernels::attention::{Sight, composed_attention};
use crate::kernels::dropout::Dropout;
use crate::kernels::form::in_f32;

/// See [`rotary_attention`](super::rotary_attention).
pub(super) fn rotary_attention(
    qkv_ne: Tensor<2>,
    heads: usize,
    sight: &Sight,
    rotary: &Rotary,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let d = qkv_ne.dims()[1] / 3;
    let [query, key, value] = [0, 1, 2].map(|part| qkv_ne.clone().narrow(1, part * d, d));
    composed_attention([rotary.turn(query, heads), rotary.turn(key, heads), value], heads, sight, dropout, compute)
}

impl Rotary {
    /// Numbers `i` and `i + width / 2` of each head turned by the position's angle `i`: `[n, d]` to `[n, d]`, in f32.
    pub(in crate::kernels) fn turn(&self, x_nd: Tensor<2>, heads: usize) -> Tensor<2> {
        let ([n, d], half) = (x_nd.dims(), self.width / 2);
        let angles_n1w = self.on(&x_nd.device().inner()).select(0, self.positions.at_n()).reshape([n, 1, self.width]);
        let (cosines_n1h, sines_n1h) = (angles_n1w.clone().narrow(2, 0, half), angles_n1w.narrow(2, half, half));
        let x_naw = in_f32(x_nd).reshape([n, heads, self.width]);
        let (first, second) = (x_naw.clone().narrow(2, 0, half), x_naw.narrow(2, half, half));
        let turned =
            [first.clone() * cosines_n1h.clone() - second.clone() * sines_n1h.clone(), second * cosines_n1h + first * sines_n1h];
        Tensor::cat(turned.to_vec(), 2).reshape([n, d])
    }
}
