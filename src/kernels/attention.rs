//! Scaled dot-product attention (Vaswani et al. 2017) over rows that hold several sentences, each of which sees itself
//! only.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::dropout::{Dropout, Mask};
use super::host::{HostBackward, HostTensor, PARENTS, host, slice, with_gradient};
use super::matrix::{Matrix, Threads, made, product};
use super::row::largest;
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
        if self.order == order { self } else { Self { order, bias_b1ss: Arc::default(), ..self } }
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
        let part = if self.is_whole() { segment.len().max(1) } else { PART };
        segment.clone().step_by(part).map(move |from| {
            let to = (from + part).min(segment.end);
            let beyond = window.map_or(segment.len(), |window| window - 1);
            let last = if is_causal { to } else { to.saturating_add(beyond).min(segment.end) };
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
    let blocks = Blocks { sight: sight.clone(), heads, sharing: 1, d, mask };
    let lines = inputs.each_ref().map(|x_nd| Lines { values: Values::Tensor(host(x_nd)), stride: d, first: 0 });
    let (out_nd, saved) = attend(lines, n, blocks, is_tracked);
    let [a, b, c] = inputs.map(|x_nd| Some(x_nd.into_dispatch()));
    with_gradient(out_nd, [n, d], [a, b, c, None], saved)
}

/// Attention on the host, `[n, d]`, of queries, keys and values, and what its backward pass needs. Only blocks of pairs
/// that see each other are worked out. A thread takes whole rows.
pub(super) fn attend(inputs: [Lines; 3], n: usize, blocks: Blocks, is_tracked: bool) -> (Vec<f32>, Attended) {
    let d = blocks.d;
    let mut out_nd = vec![0.0; n * d];
    let shares_b: Vec<Vec<f32>> = out_nd
        .par_chunks_mut((blocks.sight.length * d).max(1))
        .enumerate()
        .map(|(row, out_sd)| {
            let [query, key, value] = inputs.each_ref().map(|lines| lines.of_row(row, blocks.sight.length));
            let (mut kept, mut factors) = (Vec::new(), Vec::new());
            for block in blocks.of_row(row) {
                let (l, from) = (block.keys.len(), kept.len());
                kept.resize(from + block.queries.len() * l, 0.0);
                let shares_ql = &mut kept[from..];
                let (query, key, value) = (block.of_queries(query), block.of_keys(key), block.of_keys(value));
                product(shares_ql, l, false, block.scale(), query, key.transposed(), Threads::One);
                if !blocks.sight.is_whole() {
                    blocks.hide(&block, shares_ql);
                }
                on_vectors(|| softmax_rows(shares_ql, l));
                let out = &mut out_sd[block.first_query(d)..];
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
    (out_nd, Attended { inputs, shares_b, blocks })
}

/// Queries, keys or values: `d` numbers a position, `stride` apart, of which the first is at `first`.
#[derive(Debug)]
pub(super) struct Lines {
    pub values: Values,
    pub stride: usize,
    pub first: usize,
}

impl Lines {
    /// From a row's first position on, and how far apart positions are.
    fn of_row(&self, row: usize, length: usize) -> (&[f32], usize) {
        (&self.values.slice()[row * length * self.stride + self.first..], self.stride)
    }
}

/// Numbers on the host that a backward pass keeps.
#[derive(Debug)]
pub(super) enum Values {
    /// A tensor's own.
    Tensor(HostTensor),
    /// Made for the operation.
    Made(Arc<Vec<f32>>),
}

impl Values {
    pub fn slice(&self) -> &[f32] {
        match self {
            Values::Tensor(tensor) => slice(tensor),
            Values::Made(values) => values,
        }
    }
}

/// How attention falls into blocks: one for each segment and head, or, where a position does not see all of its
/// segment, one for each few positions of a segment.
#[derive(Debug)]
pub(super) struct Blocks {
    pub sight: Sight,
    /// Of queries.
    pub heads: usize,
    /// Heads of queries, next to each other, that share one of keys and values; 1 where none is shared.
    pub sharing: usize,
    /// Width of all heads of queries.
    pub d: usize,
    pub mask: Option<Mask>,
}

/// Positions of a segment that ask, and those that they may see, for one head.
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
    /// Where in a position's `d` values the head's begin.
    head_at: usize,
    /// Where in those of keys and values.
    key_at: usize,
    width: usize,
    /// Where in the `[b, heads, s, s]` scores its first is, and how far apart rows are there.
    first_score: usize,
    row_stride: usize,
}

impl Block {
    /// Where in a row's values its queries' begin, positions `stride` apart.
    fn first_query(&self, stride: usize) -> usize {
        self.queries.start * stride + self.head_at
    }

    fn first_key(&self, stride: usize) -> usize {
        self.keys.start * stride + self.key_at
    }

    /// The queries' part of a row's values.
    fn of_queries<'a>(&self, (x_sd, stride): (&'a [f32], usize)) -> Matrix<'a> {
        Matrix::strided(&x_sd[self.first_query(stride)..], self.queries.len(), self.width, stride)
    }

    fn of_keys<'a>(&self, (x_sd, stride): (&'a [f32], usize)) -> Matrix<'a> {
        Matrix::strided(&x_sd[self.first_key(stride)..], self.keys.len(), self.width, stride)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

impl Blocks {
    fn of_row(&self, row: usize) -> impl Iterator<Item = Block> {
        let Self { heads, sharing, d, .. } = *self;
        let (width, s) = (d / heads, self.sight.length);
        self.sight.of_row(row).flat_map(move |segment| self.sight.asked_of(segment)).flat_map(move |(queries, keys)| {
            (0..heads).map(move |head| Block {
                queries: queries.clone(),
                keys: keys.clone(),
                head_at: head * width,
                key_at: head / sharing * width,
                width,
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

/// Rows whose numbers are added up side by side: each in its own order, of which a row alone has one sum at a time.
const ABREAST: usize = 8;

/// Softmax of each row of `l` scores.
#[inline(always)]
fn softmax_rows(scores_ql: &mut [f32], l: usize) {
    for scores in scores_ql.chunks_mut(ABREAST * l) {
        for scores_l in scores.chunks_mut(l) {
            let largest = largest(scores_l);
            scores_l.iter_mut().for_each(|score| *score = exp(*score - largest));
        }
        let sums = sums_of_rows(scores, scores, l, |share, _| share);
        for (scores_l, sum) in scores.chunks_mut(l).zip(sums) {
            scores_l.iter_mut().for_each(|score| *score /= sum);
        }
    }
}

/// The sums over up to [`ABREAST`] rows of what `each` gives of two matrices' numbers.
#[inline(always)]
fn sums_of_rows(a_ql: &[f32], b_ql: &[f32], l: usize, each: impl Fn(f32, f32) -> f32) -> [f32; ABREAST] {
    let mut sums = [-0.0f32; ABREAST];
    if a_ql.len() == ABREAST * l {
        let a: [&[f32]; ABREAST] = std::array::from_fn(|i| &a_ql[i * l..][..l]);
        let b: [&[f32]; ABREAST] = std::array::from_fn(|i| &b_ql[i * l..][..l]);
        for j in 0..l {
            for i in 0..ABREAST {
                sums[i] += each(a[i][j], b[i][j]);
            }
        }
    } else {
        for ((sum, a_l), b_l) in sums.iter_mut().zip(a_ql.chunks(l)).zip(b_ql.chunks(l)) {
            a_l.iter().zip(b_l).for_each(|(&a, &b)| *sum += each(a, b));
        }
    }
    sums
}

/// What the backward pass needs.
#[derive(Debug)]
pub(super) struct Attended {
    /// Queries, keys and values.
    inputs: [Lines; 3],
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
    /// The gradients with respect to queries, `[n, d]`, and to keys and values, `[n, d / sharing]` each.
    pub fn gradients(&self, above_nd: &[f32]) -> [Vec<f32>; 3] {
        self.gradients_then(above_nd, |_, _, _| ())
    }

    /// [`gradients`](Self::gradients); `finish` has each row's number and its gradients of queries and of keys at the
    /// end.
    pub fn gradients_then(&self, above_nd: &[f32], finish: impl Fn(usize, &mut [f32], &mut [f32]) + Sync) -> [Vec<f32>; 3] {
        let Blocks { d, sharing, sight, .. } = &self.blocks;
        let (d, of_keys) = (*d, d / sharing);
        let (row_d, row_k) = ((sight.length * d).max(1), (sight.length * of_keys).max(1));
        let mut gradients = [1, *sharing, *sharing].map(|sharing| vec![0.0; above_nd.len() / sharing]);
        let [of_query, of_key, of_value] = &mut gradients;
        let rows = of_query.par_chunks_mut(row_d).zip(of_key.par_chunks_mut(row_k)).zip(of_value.par_chunks_mut(row_k));
        rows.enumerate().for_each(|(row, ((of_query, of_key), of_value))| {
            let mut parts = Gradients::Apart([&mut *of_query, &mut *of_key, &mut *of_value], [d, of_keys, of_keys]);
            self.row_backward(row, above_nd, &mut parts);
            finish(row, of_query, of_key);
        });
        gradients
    }

    /// The gradients side by side, `[n, 3 d]`; `finish` has each row's number and its `[s, 3 d]` at the end.
    pub fn joined_gradients(&self, above_nd: &[f32], finish: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
        let Blocks { d, sight, .. } = &self.blocks;
        made(3 * above_nd.len(), 3 * sight.length * d, |row, of_row| {
            self.row_backward(row, above_nd, &mut Gradients::Joined(of_row, *d));
            finish(row, of_row);
        })
    }

    fn row_backward(&self, row: usize, above_nd: &[f32], out: &mut Gradients) {
        let Blocks { d, sharing, sight, .. } = &self.blocks;
        let [query, key, value] = self.inputs.each_ref().map(|lines| lines.of_row(row, sight.length));
        let above = (&above_nd[row * sight.length * d..], *d);
        // Where not all is seen, and where heads share keys, a key is seen from several blocks.
        let is_shared = !sight.is_whole() || *sharing > 1;
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
            let (of_value, stride) = out.of(2);
            product(&mut of_value[block.first_key(stride)..], stride, is_shared, 1.0, dropped, above, Threads::One);
            on_vectors(|| softmax_rows_backward(&mut of_shares, shares_ql, l));
            let (scale, of_scores) = (block.scale(), Matrix::new(&of_shares, l));
            let (of_query, stride) = out.of(0);
            let of_query = &mut of_query[block.first_query(stride)..];
            product(of_query, stride, false, scale, of_scores, block.of_keys(key), Threads::One);
            let (of_scores, query) = (of_scores.transposed(), block.of_queries(query));
            let (of_key, stride) = out.of(1);
            product(&mut of_key[block.first_key(stride)..], stride, is_shared, scale, of_scores, query, Threads::One);
        }
    }
}

/// From the gradient with respect to shares to that with respect to scores, in place.
#[inline(always)]
fn softmax_rows_backward(gradient_ql: &mut [f32], shares_ql: &[f32], l: usize) {
    for (gradient, shares) in gradient_ql.chunks_mut(ABREAST * l).zip(shares_ql.chunks(ABREAST * l)) {
        let along = sums_of_rows(gradient, shares, l, |gradient, share| gradient * share);
        for ((gradient_l, shares_l), along) in gradient.chunks_mut(l).zip(shares.chunks(l)).zip(along) {
            gradient_l.iter_mut().zip(shares_l).for_each(|(gradient, share)| *gradient = share * (*gradient - along));
        }
    }
}

/// Where a row's gradients of queries, keys and values go.
enum Gradients<'a> {
    /// Each with its numbers a position.
    Apart([&'a mut [f32]; 3], [usize; 3]),
    /// Side by side, `[s, 3 d]`, `d` numbers a position each.
    Joined(&'a mut [f32], usize),
}

impl Gradients<'_> {
    /// Those of queries (0), keys (1) or values (2), and how far apart positions are.
    fn of(&mut self, which: usize) -> (&mut [f32], usize) {
        match self {
            Gradients::Apart(parts, widths) => (parts[which], widths[which]),
            Gradients::Joined(of_row, d) => (&mut of_row[which * *d..], 3 * *d),
        }
    }
}
