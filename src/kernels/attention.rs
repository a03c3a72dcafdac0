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

    /// What each position of a row counts for in a mean over its real ones: `[b, s]`.
    pub(crate) fn means(&self, device: &Device) -> Tensor<2> {
        let mut shares_bs = Vec::with_capacity(self.segments_bs.len());
        for row_s in self.segments_bs.chunks(self.length.max(1)) {
            let share = 1.0 / row_s.iter().filter(|&&segment| segment > 0).count().max(1) as f32;
            shares_bs.extend(row_s.iter().map(|&segment| if segment > 0 { share } else { 0.0 }));
        }
        let shape = [self.segments_bs.len() / self.length.max(1), self.length];
        Tensor::from_data(TensorData::new(shares_bs, shape), device)
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

    /// The positions of a segment in parts that ask together, each with the positions that they may see.
    fn asked_of(&self, segment: Range<usize>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        // Larger parts see more that is hidden again, smaller ones make small products.
        const PART: usize = 64;
        let (window, is_causal) = (self.window, self.order == TokenOrder::Causal);
        let part = if window.is_some() { PART } else { segment.len().max(1) };
        segment.clone().step_by(part).map(move |from| {
            let to = (from + part).min(segment.end);
            let beyond = window.map_or(segment.len(), |window| window - 1);
            let last = if is_causal && window.is_some() { to } else { to.saturating_add(beyond).min(segment.end) };
            (from..to, from.saturating_sub(beyond).max(segment.start)..last)
        })
    }

    /// Those of some positions, next to each other and of its segment, that a query sees.
    fn seen_by(&self, query: usize, keys: &Range<usize>) -> Range<usize> {
        let beyond = self.window.map_or(self.length, |window| window - 1);
        let from = query.saturating_sub(beyond).clamp(keys.start, keys.end);
        let to = if self.order == TokenOrder::Causal { query + 1 } else { query + beyond + 1 };
        from..to.clamp(from, keys.end)
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

pub(super) fn composed(
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

fn fused(inputs: [Tensor<2>; 3], heads: usize, sight: &Sight, mask: Option<Mask>) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let is_tracked = inputs.iter().any(|x_nd| x_nd.device().is_autodiff());
    let blocks = Blocks { sight: sight.clone(), heads, d, mask };
    let (out_nd, saved) = attend(inputs.each_ref().map(|x_nd| Values::Tensor(host(x_nd))), blocks, is_tracked);
    let [a, b, c] = inputs.map(|x_nd| Some(x_nd.into_dispatch()));
    with_gradient(out_nd, [n, d], [a, b, c, None], saved)
}

/// Attention on the host, `[n, d]`, and what its backward pass needs. Only blocks of pairs that see each other are
/// worked out. A thread takes whole rows.
pub(super) fn attend(inputs_nd: [Values; 3], blocks: Blocks, is_tracked: bool) -> (Vec<f32>, Attended) {
    let d = blocks.d;
    let mut out_nd = vec![0.0; inputs_nd[0].slice().len()];
    let shares_b: Vec<Vec<f32>> = out_nd
        .par_chunks_mut((blocks.sight.length * d).max(1))
        .enumerate()
        .map(|(row, out_sd)| {
            let [query_sd, key_sd, value_sd] = inputs_nd.each_ref().map(|x| &x.slice()[row * blocks.sight.length * d..]);
            let (mut kept, mut factors) = (Vec::new(), Vec::new());
            for block in blocks.of_row(row) {
                let (l, from) = (block.keys.len(), kept.len());
                kept.resize(from + block.queries.len() * l, 0.0);
                let shares_ql = &mut kept[from..];
                let (query, key, value) = (block.of_queries(query_sd), block.of_keys(key_sd), block.of_keys(value_sd));
                product(shares_ql, l, false, block.scale(), query, key.transposed(), Threads::One);
                if !blocks.sight.is_whole() {
                    blocks.hide(&block, shares_ql);
                }
                on_vectors(|| shares_ql.chunks_mut(l).for_each(softmax_row));
                let out = &mut out_sd[block.first_query()..];
                match blocks.factors(&block, &mut factors) {
                    true => {
                        factors.iter_mut().zip(&*shares_ql).for_each(|(factor, share)| *factor *= share);
                        product(out, d, false, 1.0, Matrix::new(&factors, l), value, Threads::One);
                    }
                    false => product(out, d, false, 1.0, Matrix::new(shares_ql, l), value, Threads::One),
                }
                if !is_tracked {
                    kept.clear();
                }
            }
            kept
        })
        .collect();
    (out_nd, Attended { inputs_nd, shares_b, blocks })
}

/// Numbers on the host that a backward pass keeps.
#[derive(Debug)]
pub(super) enum Values {
    /// A tensor's own.
    Tensor(HostTensor),
    /// Made for the operation.
    Made(Vec<f32>),
}

impl Values {
    pub fn slice(&self) -> &[f32] {
        match self {
            Values::Tensor(tensor) => slice(tensor),
            Values::Made(values) => values,
        }
    }
}

/// How attention falls into blocks: one for each segment and head, or, where a window bounds what a position sees, one
/// for each few positions of a segment.
#[derive(Debug)]
pub(super) struct Blocks {
    pub sight: Sight,
    pub heads: usize,
    pub d: usize,
    pub mask: Option<Mask>,
}

/// Positions of a segment that ask, and those that they may see, for one head.
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
    /// Where in a position's `d` values the head's begin.
    head_at: usize,
    width: usize,
    d: usize,
    /// Where in the `[b, heads, s, s]` scores its first is, and how far apart rows are there.
    first_score: usize,
    row_stride: usize,
}

impl Block {
    /// Where in a row's `[s, d]` values its queries' begin.
    fn first_query(&self) -> usize {
        self.queries.start * self.d + self.head_at
    }

    fn first_key(&self) -> usize {
        self.keys.start * self.d + self.head_at
    }

    /// The queries' part of a row's `[s, d]` values.
    fn of_queries<'a>(&self, x_sd: &'a [f32]) -> Matrix<'a> {
        Matrix::strided(&x_sd[self.first_query()..], self.queries.len(), self.width, self.d)
    }

    fn of_keys<'a>(&self, x_sd: &'a [f32]) -> Matrix<'a> {
        Matrix::strided(&x_sd[self.first_key()..], self.keys.len(), self.width, self.d)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

impl Blocks {
    fn of_row(&self, row: usize) -> impl Iterator<Item = Block> {
        let Self { heads, d, .. } = *self;
        let (width, s) = (d / heads, self.sight.length);
        self.sight.of_row(row).flat_map(move |segment| self.sight.asked_of(segment)).flat_map(move |(queries, keys)| {
            (0..heads).map(move |head| Block {
                queries: queries.clone(),
                keys: keys.clone(),
                head_at: head * width,
                width,
                d,
                first_score: ((row * heads + head) * s + queries.start) * s + keys.start,
                row_stride: s,
            })
        })
    }

    /// Takes the pairs that do not see each other out of a block's scores: their shares come to 0.
    fn hide(&self, block: &Block, scores_ql: &mut [f32]) {
        for (query, scores_l) in block.queries.clone().zip(scores_ql.chunks_mut(block.keys.len())) {
            let seen = self.sight.seen_by(query, &block.keys);
            scores_l[..seen.start - block.keys.start].fill(f32::NEG_INFINITY);
            scores_l[seen.end - block.keys.start..].fill(f32::NEG_INFINITY);
        }
    }

    /// Dropout's factors of a block, as [`Dropout::apply`] has them on all scores; false without dropout.
    fn factors(&self, block: &Block, factors_ql: &mut Vec<f32>) -> bool {
        let (Some(mask), l) = (&self.mask, block.keys.len()) else { return false };
        factors_ql.resize(block.queries.len() * l, 0.0);
        for (i, factors_l) in factors_ql.chunks_mut(l).enumerate() {
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
pub(super) struct Attended {
    /// Queries, keys and values.
    inputs_nd: [Values; 3],
    /// Of each row the softmax of each block, one after another.
    shares_b: Vec<Vec<f32>>,
    blocks: Blocks,
}

impl HostBackward for Attended {
    fn part(&self) -> Part {
        Part::Attention
    }

    fn backward(&self, above_nd: &[f32], _wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let [of_query, of_key, of_value] = self.gradients(above_nd);
        [of_query, of_key, of_value, Vec::new()]
    }
}

impl Attended {
    /// The gradients with respect to queries, keys and values, `[n, d]` each.
    pub fn gradients(&self, above_nd: &[f32]) -> [Vec<f32>; 3] {
        let Blocks { d, sight, .. } = &self.blocks;
        let row_values = (sight.length * d).max(1);
        let mut gradients = self.inputs_nd.each_ref().map(|x| vec![0.0; x.slice().len()]);
        let [of_query, of_key, of_value] = &mut gradients;
        let rows =
            of_query.par_chunks_mut(row_values).zip(of_key.par_chunks_mut(row_values)).zip(of_value.par_chunks_mut(row_values));
        rows.enumerate().for_each(|(row, ((of_query, of_key), of_value))| {
            self.row_backward(row, &above_nd[row * row_values..], [of_query, of_key, of_value]);
        });
        gradients
    }

    fn row_backward(&self, row: usize, above: &[f32], [of_query, of_key, of_value]: [&mut [f32]; 3]) {
        let Blocks { d, sight, .. } = &self.blocks;
        let [query, key, value] = self.inputs_nd.each_ref().map(|x| &x.slice()[row * sight.length * d..]);
        // Where there is a window, a key is seen from several blocks.
        let (d, is_shared) = (*d, sight.window.is_some());
        let (mut rest, mut factors, mut of_shares, mut dropped) = (&self.shares_b[row][..], Vec::new(), Vec::new(), Vec::new());
        for block in self.blocks.of_row(row) {
            let (q, l) = (block.queries.len(), block.keys.len());
            let (shares_ql, more) = rest.split_at(q * l);
            rest = more;
            let above = block.of_queries(above);
            of_shares.resize(q * l, 0.0);
            product(&mut of_shares, l, false, 1.0, above, block.of_keys(value).transposed(), Threads::One);
            let dropped_ql = match self.blocks.factors(&block, &mut factors) {
                true => {
                    of_shares.iter_mut().zip(&factors).for_each(|(gradient, factor)| *gradient *= factor);
                    dropped.clear();
                    dropped.extend(shares_ql.iter().zip(&factors).map(|(share, factor)| share * factor));
                    &dropped
                }
                false => shares_ql,
            };
            let dropped = Matrix::new(dropped_ql, l).transposed();
            product(&mut of_value[block.first_key()..], d, is_shared, 1.0, dropped, above, Threads::One);
            on_vectors(|| {
                for (gradient_l, shares_l) in of_shares.chunks_mut(l).zip(shares_ql.chunks(l)) {
                    let along: f32 = gradient_l.iter().zip(shares_l).map(|(gradient, share)| gradient * share).sum();
                    gradient_l.iter_mut().zip(shares_l).for_each(|(gradient, share)| *gradient = share * (*gradient - along));
                }
            });
            let (scale, of_scores) = (block.scale(), Matrix::new(&of_shares, l));
            product(&mut of_query[block.first_query()..], d, false, scale, of_scores, block.of_keys(key), Threads::One);
            let (of_scores, query) = (of_scores.transposed(), block.of_queries(query));
            product(&mut of_key[block.first_key()..], d, is_shared, scale, of_scores, query, Threads::One);
        }
    }
}
