//! Attention in burn's operations: all pairs of a row, and a large negative number added to those that must not see
//! each other.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::Sight;
use crate::device::Compute;
use crate::kernels::dropout::Dropout;
use crate::kernels::form::in_f32;

/// Of queries, keys and values, `[b * s, d]` each.
pub(in crate::kernels) fn attention(
    inputs: [Tensor<2>; 3],
    heads: usize,
    sight: &Sight,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let (s, width) = (sight.length, d / heads);
    let split = |x_nd: Tensor<2>| compute.factor(x_nd).reshape([n / s, s, heads, width]).swap_dims(1, 2);
    let [query, key, value] = inputs.map(split);
    let bias_b1ss = sight.bias_b1ss(&query.device().inner());
    let scores_bhss = in_f32(query.matmul(key.swap_dims(2, 3))) / (width as f64).sqrt() + bias_b1ss;
    let shares_bhss = dropout.apply(softmax(scores_bhss, 3));
    compute.factor(shares_bhss).matmul(value).swap_dims(1, 2).reshape([n, d])
}
