//! Grouped attention in burn's operations.

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};

use super::{Heads, PastLayer};
use crate::device::Compute;
use crate::kernels::attention::{Sight, composed_attention};
use crate::kernels::dropout::Dropout;
use crate::kernels::form::in_f32;
use crate::kernels::rotary::Rotary;

/// See [`grouped_attention`](super::grouped_attention).
pub(super) fn grouped_attention(
    inputs: [Tensor<2>; 3],
    heads: Heads,
    sight: &Sight,
    rotary: Option<&Rotary>,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let Heads { queries, keys } = heads;
    let [query, key, value] = inputs;
    let turned = |x: Tensor<2>, heads: usize| match rotary {
        Some(rotary) => rotary.turn(x, heads),
        None => x,
    };
    let for_each_query = |x: Tensor<2>| x.reshape([n, keys, 1, d / queries]).repeat_dim(2, queries / keys).reshape([n, d]);
    let inputs = [turned(query, queries), for_each_query(turned(key, keys)), for_each_query(value)];
    composed_attention(inputs, queries, sight, dropout, compute)
}

/// [`grouped_attention`](super::grouped_attention) of the `n` positions that follow those of `past`, each seeing itself
/// and all before it that are less than `window` away: queries `[n, queries w]`, keys and values `[n, keys w]`, to
/// `[n, queries w]`. Keys and values join the past, as far back as later ones will see. In burn's operations, without
/// a gradient's graph or dropout: to write text, a token at a time.
pub fn next_attention(
    inputs: [Tensor<2>; 3],
    heads: Heads,
    rotary: Option<&Rotary>,
    window: Option<usize>,
    past: &mut PastLayer,
    compute: &Compute,
) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let (Heads { queries, keys }, width) = (heads, d / heads.queries);
    let [query, key, value] = inputs;
    let turned = |x: Tensor<2>, heads: usize| rotary.map_or_else(|| x.clone(), |rotary| rotary.turn(x.clone(), heads));
    let (query, key) = (turned(query, queries), turned(key, keys));
    let [key, value] = match past.take() {
        Some([keys, values]) => [Tensor::cat(vec![keys, key], 0), Tensor::cat(vec![values, value], 0)],
        None => [key, value],
    };
    let t = key.dims()[0];
    let kept = window.map_or(t, |window| t.min(window - 1));
    *past = (kept > 0).then(|| [&key, &value].map(|x| x.clone().narrow(0, t - kept, kept)));
    // A row for each head of keys: those of queries that share it side by side.
    let sharing = queries / keys;
    let of_heads = |x: Tensor<2>, rows: usize, each: usize| {
        compute.factor(x).reshape([rows, keys, each, width]).permute([1, 2, 0, 3]).reshape([keys, each * rows, width])
    };
    let (query, key, value) = (of_heads(query, n, sharing), of_heads(key, t, 1), of_heads(value, t, 1));
    let scores = in_f32(query.matmul(key.swap_dims(1, 2))) / (width as f64).sqrt();
    let is_seen = |query: usize, key: usize| key <= query && window.is_none_or(|window| query - key < window);
    let unseen = (0..n * t).map(|at| if is_seen(t - n + at / t, at % t) { 0.0 } else { UNSEEN }).collect::<Vec<f32>>();
    let bias = Tensor::<4>::from_data(TensorData::new(unseen, [1, 1, n, t]), &scores.device());
    let shares = softmax(scores.reshape([keys, sharing, n, t]) + bias, 3).reshape([keys, sharing * n, t]);
    let out = compute.factor(shares).matmul(value).reshape([keys, sharing, n, width]);
    out.permute([2, 0, 1, 3]).reshape([n, d])
}

/// Added to the score of a position that comes later or is too far away; far below any real score.
const UNSEEN: f32 = -1e9;
