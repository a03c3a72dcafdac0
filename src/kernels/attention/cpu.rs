//! Attention in plain Rust: only blocks of pairs that see each other are worked out.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::Sight;
use crate::kernels::dropout::Mask;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::{Matrix, Threads, made, product};
use crate::kernels::spent::Part;
use crate::kernels::vector::{exp, largest, on_vectors};

/// Of queries, keys and values, `[b * s, d]` each; see [`self_attention`](super::self_attention).
pub(super) fn attention(inputs: [Tensor<2>; 3], heads: usize, sight: &Sight, mask: Option<Mask>) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let is_tracked = inputs.iter().any(|x_nd| x_nd.device().is_autodiff());
    let blocks = Blocks { sight: sight.clone(), heads, sharing: 1, d, mask };
    let lines = inputs.each_ref().map(|x_nd| Lines { values: Values::Tensor(host(x_nd)), stride: d, first: 0 });
    let (out_nd, saved) = attend(lines, n, blocks, is_tracked);
    with_gradient(out_nd, [n, d], inputs.map(Parent::of), saved)
}

/// Attention on the host, `[n, d]`, of queries, keys and values, and what its backward pass needs. Only blocks of pairs
/// that see each other are worked out. A thread takes whole rows.
pub(in crate::kernels) fn attend(inputs: [Lines; 3], n: usize, blocks: Blocks, is_tracked: bool) -> (Vec<f32>, Attended) {
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
pub(in crate::kernels) struct Lines {
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
pub(in crate::kernels) enum Values {
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
pub(in crate::kernels) struct Blocks {
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

    /// Dropout's factors of a block, as [`apply`](crate::kernels::Dropout::apply) has them on all scores; false without
    /// dropout.
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
pub(in crate::kernels) struct Attended {
    /// Queries, keys and values.
    inputs: [Lines; 3],
    /// Of each row the softmax of each block, one after another.
    shares_b: Vec<Vec<f32>>,
    blocks: Blocks,
}

impl HostBackward<3> for Attended {
    fn part(&self) -> Part {
        Part::Attention
    }

    /// With respect to queries, `[n, d]`, and to keys and values, `[n, d / sharing]` each.
    fn backward(&self, above_nd: &[f32], _: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        self.gradients_then(above_nd, |_, _, _| ()).map(Some)
    }
}

impl Attended {
    /// The gradients with respect to queries, `[n, d]`, and to keys and values, `[n, d / sharing]` each; `finish` has
    /// each row's number and its gradients of queries and of keys at the end.
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
