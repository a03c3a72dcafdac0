//! Scaled dot-product attention (Vaswani et al. 2017) over rows that hold several sentences, each of which sees itself
//! only.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::dropout::{Dropout, Mask};
use super::host::{HostBackward, HostTensor, PARENTS, host, slice, with_gradient};
use super::matrix::{Matrix, Threads, product};
use super::spent::{self, Part};
use super::vector::{exp, on_vectors};
use super::{Compute, Dense, bf16, cube, dense, in_f32};
use crate::batch::TokenOrder;

/// Added to the score of a pair of positions that must not see each other; far below any real score, and finite,
/// so that a row of padding (which sees nothing) has a softmax.
const UNSEEN: f32 = -1e9;

/// Who sees whom in a batch of rows: the positions of one segment see each other, those that `order` and `window` let
/// them.
#[derive(Debug, Clone)]
pub struct Sight {
    segments_bs: Arc<[i32]>,
    /// Positions of a row.
    pub(super) length: usize,
    order: TokenOrder,
    window: Option<usize>,
    bias_b1ss: Arc<OnceLock<Tensor<4>>>,
    on_device: Arc<OnceLock<Tensor<1, Int>>>,
}

impl Sight {
    /// From the segment of each position, `[b * s]` row after row: equal numbers above 0 next to each other are a
    /// segment, 0 is padding. What padding sees is left open. Positions of a segment see all of it.
    pub fn new(segments_bs: &[i32], length: usize) -> Self {
        let (order, window) = (TokenOrder::Bidirectional, None);
        Self { segments_bs: segments_bs.into(), length, order, window, bias_b1ss: Arc::default(), on_device: Arc::default() }
    }

    /// With another order of tokens.
    #[must_use]
    pub fn in_order(self, order: TokenOrder) -> Self {
        Self { order, bias_b1ss: Arc::default(), ..self }
    }

    /// Where a position sees no other that is `window` positions away or more.
    #[must_use]
    pub fn within(self, window: usize) -> Self {
        Self { window: Some(window), bias_b1ss: Arc::default(), ..self }
    }

    /// Whether the position `query` of a row may look at the position `key` of the same segment.
    fn reaches(&self, query: usize, key: usize) -> bool {
        (self.order == TokenOrder::Bidirectional || key <= query) && self.window.is_none_or(|window| query.abs_diff(key) < window)
    }

    /// Whether every position sees all of its segment.
    fn is_whole(&self) -> bool {
        self.order == TokenOrder::Bidirectional && self.window.is_none()
    }

    /// The segments on a device, uploaded once.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "GPUs alone need them"))]
    pub(super) fn on(&self, device: &Device) -> Tensor<1, Int> {
        let upload = || Tensor::from_data(TensorData::new(self.segments_bs.to_vec(), [self.segments_bs.len()]), device);
        self.on_device.get_or_init(upload).clone()
    }

    /// 0 where the query may look at the key, a large negative number elsewhere: `[b, 1, s, s]`.
    fn bias_b1ss(&self, device: &Device) -> Tensor<4> {
        let upload = || {
            let s = self.length;
            let shape = [self.segments_bs.len() / s.max(1), s];
            let segments_bs = Tensor::<2, Int>::from_data(TensorData::new(self.segments_bs.to_vec(), shape), device);
            let same_bss = segments_bs.clone().unsqueeze_dim::<3>(2).equal(segments_bs.unsqueeze_dim::<3>(1));
            let bias_b1ss = (same_bss.bool_not().float() * UNSEEN).unsqueeze_dim(1);
            if self.is_whole() {
                return bias_b1ss;
            }
            let out_of_reach = (0..s * s).map(|at| if self.reaches(at / s, at % s) { 0.0 } else { UNSEEN }).collect();
            bias_b1ss + Tensor::<4>::from_data(TensorData::new::<f32, _>(out_of_reach, [1, 1, s, s]), device)
        };
        self.bias_b1ss.get_or_init(upload).clone()
    }

    /// The places of each segment of a row.
    fn of_row(&self, row: usize) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        self.segments_bs[row * self.length..][..self.length].chunk_by(|a, b| a == b).filter_map(move |part| {
            let range = from..from + part.len();
            from = range.end;
            (part[0] > 0).then_some(range)
        })
    }
}

/// `dropout(softmax(q k^T / sqrt(w))) v` a head, with heads of width `w = d / heads` side by side: `[b * s, d]` to
/// `[b * s, d]`, where query, key and value are three dense layers of `x`. In the product's numbers.
pub fn self_attention(
    x_nd: Tensor<2>,
    layers: &[Dense; 3],
    heads: usize,
    sight: &Sight,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let scores = x_nd.dims()[0] * heads * sight.length;
    // The GPU's kernels compare segments alone.
    if sight.is_whole() && compute.is_fused_on_gpu(Some((dropout, scores))) {
        return cube::self_attention(x_nd, layers, heads, sight, dropout.mask(scores), compute);
    }
    let x_nd = compute.factor(x_nd); // once for all three
    let inputs = match compute.is_bf16_on_cpu() {
        true => spent::on(Part::Dense, || bf16::several(&x_nd, layers)),
        false => layers.each_ref().map(|layer| dense(x_nd.clone(), layer, compute)),
    };
    match compute.is_fused_on_cpu() {
        true => spent::on(Part::Attention, || fused(inputs, heads, sight, dropout.mask(scores))),
        false => composed(inputs, heads, sight, dropout, compute),
    }
}

fn composed(inputs: [Tensor<2>; 3], heads: usize, sight: &Sight, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let (s, width) = (sight.length, d / heads);
    let split = |x_nd: Tensor<2>| compute.factor(x_nd).reshape([n / s, s, heads, width]).swap_dims(1, 2);
    let [query, key, value] = inputs.map(split);
    let bias_b1ss = sight.bias_b1ss(&query.device().inner());
    let scores_bhss = in_f32(query.matmul(key.swap_dims(2, 3))) / (width as f64).sqrt() + bias_b1ss;
    let shares_bhss = dropout.apply(softmax(scores_bhss, 3));
    compute.factor(shares_bhss).matmul(value).swap_dims(1, 2).reshape([n, d])
}

/// Only pairs that see each other are worked out. A thread takes whole rows.
fn fused(inputs: [Tensor<2>; 3], heads: usize, sight: &Sight, mask: Option<Mask>) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let is_tracked = inputs.iter().any(|x_nd| x_nd.device().is_autodiff());
    let [query_nd, key_nd, value_nd] = inputs.each_ref().map(host);
    let blocks = Blocks { sight: sight.clone(), heads, d, mask };
    let mut out_nd = vec![0.0; n * d];
    let shares_b: Vec<Vec<f32>> = out_nd
        .par_chunks_mut((sight.length * d).max(1))
        .enumerate()
        .map(|(row, out_sd)| {
            let [query_sd, key_sd, value_sd] =
                [&query_nd, &key_nd, &value_nd].map(|x| &slice(x)[row * blocks.sight.length * d..]);
            let (mut kept, mut factors) = (Vec::new(), Vec::new());
            for block in blocks.of_row(row) {
                let l = block.length;
                let from = kept.len();
                kept.resize(from + l * l, 0.0);
                let shares_ll = &mut kept[from..];
                let (query, key, value) = (block.matrix(query_sd), block.matrix(key_sd), block.matrix(value_sd));
                product(shares_ll, l, false, block.scale(), query, key.transposed(), Threads::One);
                if !blocks.sight.is_whole() {
                    blocks.hide(&block, shares_ll);
                }
                on_vectors(|| shares_ll.chunks_mut(l).for_each(softmax_row));
                match blocks.factors(&block, &mut factors) {
                    true => {
                        factors.iter_mut().zip(&*shares_ll).for_each(|(factor, share)| *factor *= share);
                        product(&mut out_sd[block.at..], d, false, 1.0, Matrix::new(&factors, l), value, Threads::One);
                    }
                    false => product(&mut out_sd[block.at..], d, false, 1.0, Matrix::new(shares_ll, l), value, Threads::One),
                }
                if !is_tracked {
                    kept.clear();
                }
            }
            kept
        })
        .collect();
    let [a, b, c] = inputs.map(|x_nd| Some(x_nd.into_dispatch()));
    with_gradient(out_nd, [n, d], [a, b, c, None], Saved { query_nd, key_nd, value_nd, shares_b, blocks })
}

/// How attention falls into blocks: one for each segment and head.
#[derive(Debug)]
struct Blocks {
    sight: Sight,
    heads: usize,
    d: usize,
    mask: Option<Mask>,
}

/// The positions of a segment, seen by one head.
struct Block {
    /// Where in a row's `[s, d]` values its first is.
    at: usize,
    length: usize,
    width: usize,
    d: usize,
    /// Where in the `[b, heads, s, s]` scores its first is, and how far apart rows are there.
    first_score: usize,
    row_stride: usize,
}

impl Block {
    /// This block's part of a row's `[s, d]` values.
    fn matrix<'a>(&self, x_sd: &'a [f32]) -> Matrix<'a> {
        Matrix::strided(&x_sd[self.at..], self.length, self.width, self.d)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

impl Blocks {
    fn of_row(&self, row: usize) -> impl Iterator<Item = Block> {
        let Self { heads, d, .. } = *self;
        let (width, s) = (d / heads, self.sight.length);
        self.sight.of_row(row).flat_map(move |range| {
            (0..heads).map(move |head| Block {
                at: range.start * d + head * width,
                length: range.len(),
                width,
                d,
                first_score: ((row * heads + head) * s + range.start) * s + range.start,
                row_stride: s,
            })
        })
    }

    /// Takes the pairs that do not see each other out of a block's scores, `[l, l]`: their shares come to 0.
    fn hide(&self, block: &Block, scores_ll: &mut [f32]) {
        for (query, scores_l) in scores_ll.chunks_mut(block.length).enumerate() {
            for (key, score) in scores_l.iter_mut().enumerate() {
                if !self.sight.reaches(query, key) {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Dropout's factors of a block, `[l, l]`, as [`Dropout::apply`] has them on all scores; false without dropout.
    fn factors(&self, block: &Block, factors_ll: &mut Vec<f32>) -> bool {
        let Some(mask) = &self.mask else { return false };
        factors_ll.resize(block.length * block.length, 0.0);
        for (i, factors_l) in factors_ll.chunks_mut(block.length).enumerate() {
            mask.factors(block.first_score + i * block.row_stride, factors_l);
        }
        true
    }
}

#[inline(always)]
fn softmax_row(scores_l: &mut [f32]) {
    let largest = scores_l.iter().copied().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
    scores_l.iter_mut().for_each(|score| *score = exp(*score - largest));
    let sum: f32 = scores_l.iter().sum();
    scores_l.iter_mut().for_each(|score| *score /= sum);
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    query_nd: HostTensor,
    key_nd: HostTensor,
    value_nd: HostTensor,
    /// Of each row the softmax of each block, one after another.
    shares_b: Vec<Vec<f32>>,
    blocks: Blocks,
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    fn backward(&self, above_nd: &[f32], _wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let Blocks { d, sight, .. } = &self.blocks;
        let row_values = (sight.length * d).max(1);
        let mut gradients = [&self.query_nd, &self.key_nd, &self.value_nd].map(|x| vec![0.0; slice(x).len()]);
        let [of_query, of_key, of_value] = &mut gradients;
        let rows =
            of_query.par_chunks_mut(row_values).zip(of_key.par_chunks_mut(row_values)).zip(of_value.par_chunks_mut(row_values));
        rows.enumerate().for_each(|(row, ((of_query, of_key), of_value))| {
            let [query, key, value] = [&self.query_nd, &self.key_nd, &self.value_nd].map(|x| &slice(x)[row * row_values..]);
            let above = &above_nd[row * row_values..];
            let (mut rest, mut factors, mut of_shares, mut dropped) =
                (&self.shares_b[row][..], Vec::new(), Vec::new(), Vec::new());
            for block in self.blocks.of_row(row) {
                let l = block.length;
                let (shares_ll, more) = rest.split_at(l * l);
                rest = more;
                of_shares.resize(l * l, 0.0);
                product(&mut of_shares, l, false, 1.0, block.matrix(above), block.matrix(value).transposed(), Threads::One);
                let dropped_ll = match self.blocks.factors(&block, &mut factors) {
                    true => {
                        of_shares.iter_mut().zip(&factors).for_each(|(gradient, factor)| *gradient *= factor);
                        dropped.clear();
                        dropped.extend(shares_ll.iter().zip(&factors).map(|(share, factor)| share * factor));
                        &dropped
                    }
                    false => shares_ll,
                };
                let dropped_ll = Matrix::new(dropped_ll, l);
                product(&mut of_value[block.at..], *d, false, 1.0, dropped_ll.transposed(), block.matrix(above), Threads::One);
                on_vectors(|| {
                    for (gradient_l, shares_l) in of_shares.chunks_mut(l).zip(shares_ll.chunks(l)) {
                        let along: f32 = gradient_l.iter().zip(shares_l).map(|(gradient, share)| gradient * share).sum();
                        gradient_l.iter_mut().zip(shares_l).for_each(|(gradient, share)| *gradient = share * (*gradient - along));
                    }
                });
                let of_scores = Matrix::new(&of_shares, l);
                product(&mut of_query[block.at..], *d, false, block.scale(), of_scores, block.matrix(key), Threads::One);
                product(
                    &mut of_key[block.at..],
                    *d,
                    false,
                    block.scale(),
                    of_scores.transposed(),
                    block.matrix(query),
                    Threads::One,
                );
            }
        });
        let [of_query, of_key, of_value] = gradients;
        [of_query, of_key, of_value, Vec::new()]
    }
}
