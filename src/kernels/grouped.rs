//! Attention in which several heads of queries share one of keys and values (Ainslie et al. 2023), with or without
//! rotary positions.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};

use super::attention::{self, Attended, Blocks, Lines, Sight, Values};
use super::host::{HostBackward, HostTensor, PARENTS, host, slice, with_gradient};
use super::matrix::made;
use super::spent::{self, Part};
use super::vector::on_vectors;
use super::{Compute, Dropout, Rotary, in_f32};

/// How many heads there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Of queries.
    pub queries: usize,
    /// Of keys and values; they divide those of queries, of which each serves as many, next to each other.
    pub keys: usize,
}

/// `dropout(softmax(q k^T / sqrt(w))) v` a head, as [`self_attention`](super::self_attention) has it, of heads `w`
/// wide: queries `[b * s, queries w]`, keys and values `[b * s, keys w]` each, to `[b * s, queries w]`. `rotary` turns
/// queries and keys, where positions count. In the product's numbers.
pub fn grouped_attention(
    inputs: [Tensor<2>; 3],
    heads: Heads,
    sight: &Sight,
    rotary: Option<&Rotary>,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let Heads { queries, keys } = heads;
    if compute.is_fused_on_cpu() {
        let mask = dropout.mask(n * queries * sight.length);
        let blocks = Blocks { sight: sight.clone(), heads: queries, sharing: queries / keys, d, mask };
        return spent::on(Part::Attention, || fused(inputs, blocks, rotary));
    }
    let [query, key, value] = inputs;
    let turned = |x: Tensor<2>, heads: usize| match rotary {
        Some(rotary) => rotary.turn(x, heads),
        None => x,
    };
    let for_each_query = |x: Tensor<2>| x.reshape([n, keys, 1, d / queries]).repeat_dim(2, queries / keys).reshape([n, d]);
    let inputs = [turned(query, queries), for_each_query(turned(key, keys)), for_each_query(value)];
    attention::composed(inputs, queries, sight, dropout, compute)
}

/// Keys and values of one layer, of all positions so far: turned, `[t, keys w]` each.
pub type PastLayer = Option<[Tensor<2>; 2]>;

/// [`grouped_attention`] of the `n` positions that follow those of `past`, each seeing itself and all before it:
/// queries `[n, queries w]`, keys and values `[n, keys w]`, to `[n, queries w]`. Keys and values join the past. In
/// burn's operations, without a gradient's graph or dropout: to write text, a token at a time.
pub fn next_attention(
    inputs: [Tensor<2>; 3],
    heads: Heads,
    rotary: Option<&Rotary>,
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
    *past = Some([key.clone(), value.clone()]);
    let t = key.dims()[0];
    // A row for each head of keys: those of queries that share it side by side.
    let sharing = queries / keys;
    let of_heads = |x: Tensor<2>, rows: usize, each: usize| {
        compute.factor(x).reshape([rows, keys, each, width]).permute([1, 2, 0, 3]).reshape([keys, each * rows, width])
    };
    let (query, key, value) = (of_heads(query, n, sharing), of_heads(key, t, 1), of_heads(value, t, 1));
    let scores = in_f32(query.matmul(key.swap_dims(1, 2))) / (width as f64).sqrt();
    let unseen = (0..n * t).map(|at| if at % t > t - n + at / t { UNSEEN } else { 0.0 }).collect::<Vec<f32>>();
    let bias = Tensor::<4>::from_data(TensorData::new(unseen, [1, 1, n, t]), &scores.device());
    let shares = softmax(scores.reshape([keys, sharing, n, t]) + bias, 3).reshape([keys, sharing * n, t]);
    let out = compute.factor(shares).matmul(value).reshape([keys, sharing, n, width]);
    out.permute([2, 0, 1, 3]).reshape([n, d])
}

/// Added to the score of a position that comes later; far below any real score.
const UNSEEN: f32 = -1e9;

fn fused(inputs: [Tensor<2>; 3], blocks: Blocks, rotary: Option<&Rotary>) -> Tensor<2> {
    let ([n, d], sharing) = (inputs[0].dims(), blocks.sharing);
    let is_tracked = inputs.iter().any(|x| x.device().is_autodiff());
    let [query, key, value] = inputs.each_ref().map(host);
    let lines = |x: HostTensor, width: usize, is_turned: bool| {
        let values = match rotary.filter(|_| is_turned) {
            Some(rotary) => Values::Made(Arc::new(turned(slice(&x), width, rotary))),
            None => Values::Tensor(x),
        };
        Lines { values, stride: width, first: 0 }
    };
    let lines = [lines(query, d, true), lines(key, d / sharing, true), lines(value, d / sharing, false)];
    let (out_nd, attended) = attention::attend(lines, n, blocks, is_tracked);
    let [query, key, value] = inputs.map(|x| Some(x.into_dispatch()));
    with_gradient(
        out_nd,
        [n, d],
        [query, key, value, None],
        Saved { attended, rotary: rotary.cloned(), widths: [d, d / sharing] },
    )
}

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// Rows of heads turned by their positions.
fn turned(x: &[f32], width: usize, rotary: &Rotary) -> Vec<f32> {
    made(x.len(), ROWS * width, |at, out| {
        out.copy_from_slice(&x[at * ROWS * width..][..out.len()]);
        turn_rows(out, width, &rotary.positions()[at * ROWS..], 1.0, rotary);
    })
}

fn turn_rows(x: &mut [f32], width: usize, positions: &[i32], sign: f32, rotary: &Rotary) {
    on_vectors(|| x.chunks_mut(width).zip(positions).for_each(|(row, &position)| rotary.turn_row(row, position, sign)));
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    rotary: Option<Rotary>,
    /// Of all heads of queries, and of keys.
    widths: [usize; 2],
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    /// What was turned is turned back.
    fn backward(&self, above_nd: &[f32], _wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let [of_query, of_key, of_value] = self.attended.gradients_then(above_nd, |row, of_query, of_key| {
            if let Some(rotary) = &self.rotary {
                for (x, width) in [of_query, of_key].into_iter().zip(self.widths) {
                    let positions = &rotary.positions()[row * (x.len() / width)..];
                    turn_rows(x, width, positions, -1.0, rotary);
                }
            }
        });
        [of_query, of_key, of_value, Vec::new()]
    }
}
