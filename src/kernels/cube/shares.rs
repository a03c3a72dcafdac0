//! What attention does between its two products of heads: scores to shares, among the positions of a sentence, with dropout; a cube a
//! query.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::super::dropout::Mask;
use super::dropout::factor;
use super::norm::Drawn;
use super::reduce::{largest, sum};

/// Softmax over the keys of a query's own segment; those of others get 0.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn shares_kernel<F: Float>(
    scores: &[F],
    segments_bs: &[i32],
    shares: &mut [F],
    out: &mut [F],
    rows: u32,
    s: u32,
    heads: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    #[comptime] has_dropout: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let s = s as usize;
    let start = row * s;
    let first = row / (heads as usize * s) * s;
    let mine = segments_bs[first + row % s];
    let lane = UNIT_POS as usize;
    let step = units as usize;

    let mut highest = f32::new(-3.0e38);
    let mut i = lane;
    while i < s {
        let score = f32::cast_from(scores[start + i]) * scale;
        highest = select(segments_bs[first + i] == mine, max(highest, score), highest);
        i += step;
    }
    let highest = largest(highest, units);
    let mut total = f32::new(0.0);
    let mut i = lane;
    while i < s {
        let fall = max(f32::cast_from(scores[start + i]) * scale - highest, -87.0f32);
        // Of other segments a score may be far above: nothing of it is used.
        total += select(segments_bs[first + i] == mine, min(fall, 0.0f32).exp(), 0.0f32);
        i += step;
    }
    let whole = 1.0f32 / sum(total, units);
    let mut i = lane;
    while i < s {
        let fall = max(f32::cast_from(scores[start + i]) * scale - highest, -87.0f32);
        let share = select(segments_bs[first + i] == mine, min(fall, 0.0f32).exp() * whole, 0.0f32);
        shares[start + i] = F::cast_from(share);
        if has_dropout {
            out[start + i] = F::cast_from(share * factor(key_low, key_high, start + i, dropped_below, kept));
        }
        i += step;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn shares_backward_kernel<F: Float>(
    above: &[F],
    shares: &[F],
    of_scores: &mut [F],
    rows: u32,
    s: u32,
    scale: f32,
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    #[comptime] has_dropout: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let s = s as usize;
    let start = row * s;
    let lane = UNIT_POS as usize;
    let step = units as usize;
    let mut along = f32::new(0.0);
    let mut i = lane;
    while i < s {
        let mut gradient = f32::cast_from(above[start + i]);
        if has_dropout {
            gradient *= factor(key_low, key_high, start + i, dropped_below, kept);
        }
        along += gradient * f32::cast_from(shares[start + i]);
        i += step;
    }
    let along = sum(along, units);
    let mut i = lane;
    while i < s {
        let mut gradient = f32::cast_from(above[start + i]);
        if has_dropout {
            gradient *= factor(key_low, key_high, start + i, dropped_below, kept);
        }
        of_scores[start + i] = F::cast_from(scale * f32::cast_from(shares[start + i]) * (gradient - along));
        i += step;
    }
}

/// `softmax(scale scores)` over the last dimension of `[b, heads, s, s]`, where a position sees those of its own number in
/// `segments_bs`, and after dropout; in the scores' numbers.
#[derive(Debug)]
pub(super) struct Shares {
    shares_bhss: CubeTensor,
    /// The same tensor without dropout.
    pub dropped_bhss: CubeTensor,
    scale: f32,
    mask: Option<Mask>,
}

impl Shares {
    pub fn of(scores_bhss: CubeTensor, segments_bs: CubeTensor, scale: f32, mask: Option<Mask>) -> Self {
        let shares = super::like(&scores_bhss);
        let dropped = if mask.is_some() { super::like(&scores_bhss) } else { shares.clone() };
        let ([rows, heads, s], drawn) = (sizes(&shares), Drawn::of(mask));
        shares_kernel::launch(
            &shares.client,
            super::arranged(rows),
            CubeDim::new_1d(super::units(s as usize)),
            scores_bhss.into_buffer_arg(),
            segments_bs.into_buffer_arg(),
            shares.clone().into_buffer_arg(),
            if mask.is_some() { dropped.clone() } else { super::like_one(&shares) }.into_buffer_arg(),
            rows,
            s,
            heads,
            scale,
            drawn.low,
            drawn.high,
            drawn.dropped_below,
            drawn.kept,
            mask.is_some(),
            super::units(s as usize),
            dtype_to_storage_type(shares.dtype),
        );
        Self { shares_bhss: shares, dropped_bhss: dropped, scale, mask }
    }

    /// The gradient of the scores from that of `dropped_bhss`.
    pub fn backward(&self, above_bhss: CubeTensor) -> CubeTensor {
        let of_scores = super::like(&self.shares_bhss);
        let ([rows, _, s], drawn) = (sizes(&of_scores), Drawn::of(self.mask));
        shares_backward_kernel::launch(
            &of_scores.client,
            super::arranged(rows),
            CubeDim::new_1d(super::units(s as usize)),
            above_bhss.into_buffer_arg(),
            self.shares_bhss.clone().into_buffer_arg(),
            of_scores.clone().into_buffer_arg(),
            rows,
            s,
            self.scale,
            drawn.low,
            drawn.high,
            drawn.dropped_below,
            drawn.kept,
            self.mask.is_some(),
            super::units(s as usize),
            dtype_to_storage_type(of_scores.dtype),
        );
        of_scores
    }
}

/// Queries of `[b, heads, s, s]`, heads and keys.
fn sizes(shares_bhss: &CubeTensor) -> [u32; 3] {
    let shape = shares_bhss.meta.shape();
    [shape[0] * shape[1] * shape[2], shape[1], shape[3]].map(|size| size as u32)
}
