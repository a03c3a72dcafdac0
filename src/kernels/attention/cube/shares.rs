//! What attention does between its two products of heads: scores to shares, among the positions of a sentence, with
//! dropout.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::kernels::attention::Sight;
use crate::kernels::dropout::{Drawn, DrawnLaunch, Mask, factors_of};
use crate::kernels::gpu::reduce::{Lanes, largest, largest_within, place, row, sum, within};
use crate::kernels::gpu::{ints_on_gpu, like, like_a_vector, tensor, vector_size};

/// Softmax over the keys that a query sees: of its own segment, and where that is `limited`, those that are
/// `first_seen` to `last_seen` positions after it; the others get 0. `s` counts vectors, as `first` does.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn shares_kernel<F: Float, W: Size>(
    scores: &[Vector<F, W>],
    segments_bs: &[Vector<i32, W>],
    mine_bs: &[i32],
    shares: &mut [Vector<F, W>],
    out: &mut [Vector<F, W>],
    rows: u32,
    s: u32,
    heads: u32,
    scale: f32,
    first_seen: i32,
    last_seen: i32,
    drawn: Drawn,
    #[comptime] is_limited: bool,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= rows as usize {
        terminate!();
    }
    let s = s as usize;
    let positions = s * W::value();
    let batch = row / (heads as usize * positions);
    let mine = Vector::<i32, W>::new(mine_bs[batch * positions + row % positions]);
    let (start, first) = (row * s, batch * s);
    let mut steps = Vector::<i32, W>::new(0i32);
    #[unroll]
    for lane in 0..W::value() {
        steps.insert(lane, lane as i32);
    }
    let low = Vector::<f32, W>::new(-3.0e38f32);
    let zero = Vector::<f32, W>::new(0.0f32);

    // What this lane has of the row stays with it.
    let mut held = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut highest = low;
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        held[k] = low;
        if i < s {
            let score = Vector::<f32, W>::cast_from(scores[start + i]) * Vector::new(scale);
            held[k] = select_many(segments_bs[first + i].equal(&mine), score, low);
            if is_limited {
                let away = steps + Vector::new((i * W::value()) as i32 - (row % positions) as i32);
                held[k] = select_many(away.less_than(&Vector::new(first_seen)), low, held[k]);
                held[k] = select_many(away.greater_than(&Vector::new(last_seen)), low, held[k]);
            }
            highest = max(highest, held[k]);
        }
    }
    let highest = Vector::<f32, W>::new(largest(largest_within(highest), lanes));
    let mut total = zero;
    #[unroll]
    for k in 0..lanes.each as usize {
        // Below exp's range, where those are that it does not see, a share is 0.
        let fall = held[k] - highest;
        let share = max(fall, Vector::new(-87.0f32)).exp();
        held[k] = select_many(fall.less_than(&Vector::new(-1.0e37f32)), zero, share);
        total += held[k];
    }
    let whole = Vector::<f32, W>::new(1.0f32 / sum(within(total), lanes));
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < s {
            let share = held[k] * whole;
            shares[start + i] = Vector::cast_from(share);
            if comptime!(drawn.is_any) {
                let factors = factors_of(&drawn, (start + i) * W::value());
                out[start + i] = Vector::cast_from(share * factors);
            }
        }
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn shares_backward_kernel<F: Float, W: Size>(
    above: &[Vector<F, W>],
    shares: &[Vector<F, W>],
    of_scores: &mut [Vector<F, W>],
    rows: u32,
    s: u32,
    scale: f32,
    drawn: Drawn,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= rows as usize {
        terminate!();
    }
    let s = s as usize;
    let start = row * s;
    let mut gradients = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut held = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut along = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < s {
            gradients[k] = Vector::<f32, W>::cast_from(above[start + i]);
            if comptime!(drawn.is_any) {
                gradients[k] *= factors_of(&drawn, (start + i) * W::value());
            }
            held[k] = Vector::<f32, W>::cast_from(shares[start + i]);
            along += gradients[k] * held[k];
        }
    }
    let along = Vector::<f32, W>::new(sum(within(along), lanes));
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < s {
            of_scores[start + i] = Vector::cast_from(Vector::new(scale) * held[k] * (gradients[k] - along));
        }
    }
}

/// `softmax(scale scores)` over the last dimension of `[b, heads, s, s]`, where a position sees what `sight` lets it,
/// and after dropout; in the scores' numbers.
#[derive(Debug)]
pub(super) struct Shares {
    shares_bhss: CubeTensor,
    /// The shares after dropout; where there is none, `shares_bhss` itself.
    pub dropped_bhss: CubeTensor,
    scale: f32,
    mask: Option<Mask>,
}

impl Shares {
    pub fn of(scores_bhss: CubeTensor, sight: &Sight, scale: f32, mask: Option<Mask>) -> Self {
        let segments_bs = ints_on_gpu(&sight.on(&tensor::<4>(scores_bhss.clone()).device()));
        let [first_seen, last_seen] = sight.reach();
        let shares = like(&scores_bhss);
        let dropped = if mask.is_some() { like(&scores_bhss) } else { shares.clone() };
        let [rows, heads, s] = sizes(&shares);
        let size = vector_size(s);
        let (count, dim, lanes) = Lanes::of(rows, s / size, &shares.client);
        shares_kernel::launch(
            &shares.client,
            count,
            dim,
            size,
            scores_bhss.into_buffer_arg(),
            segments_bs.clone().into_buffer_arg(),
            segments_bs.into_buffer_arg(),
            shares.clone().into_buffer_arg(),
            if mask.is_some() { dropped.clone() } else { like_a_vector(&shares) }.into_buffer_arg(),
            rows as u32,
            (s / size) as u32,
            heads as u32,
            scale,
            first_seen,
            last_seen,
            DrawnLaunch::of(mask),
            !sight.is_whole(),
            lanes,
            dtype_to_storage_type(shares.dtype),
        );
        Self { shares_bhss: shares, dropped_bhss: dropped, scale, mask }
    }

    /// The gradient of the scores from that of `dropped_bhss`.
    pub fn backward(&self, above_bhss: CubeTensor) -> CubeTensor {
        let of_scores = like(&self.shares_bhss);
        let [rows, _, s] = sizes(&of_scores);
        let size = vector_size(s);
        let (count, dim, lanes) = Lanes::of(rows, s / size, &of_scores.client);
        shares_backward_kernel::launch(
            &of_scores.client,
            count,
            dim,
            size,
            above_bhss.into_buffer_arg(),
            self.shares_bhss.clone().into_buffer_arg(),
            of_scores.clone().into_buffer_arg(),
            rows as u32,
            (s / size) as u32,
            self.scale,
            DrawnLaunch::of(self.mask),
            lanes,
            dtype_to_storage_type(of_scores.dtype),
        );
        of_scores
    }
}

/// Queries of `[b, heads, s, s]`, heads and keys.
fn sizes(shares_bhss: &CubeTensor) -> [usize; 3] {
    let shape = shares_bhss.meta.shape();
    [shape[0] * shape[1] * shape[2], shape[1], shape[3]]
}
