//! What attention does between its two products of heads: scores to shares, among the positions of a sentence, with
//! dropout.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::products::Products;
use crate::kernels::attention::ranges::TILE;
use crate::kernels::dropout::{Drawn, DrawnLaunch, Mask, factors_of};
use crate::kernels::gpu::reduce::{Lanes, largest, largest_within, place, row, sum, within};
use crate::kernels::gpu::{like, like_a_vector, vector_size};

/// Where the range of keys is that a query's tile sees, of so many `rows` of scores and `positions` of a row.
#[cube]
fn range_of(row: usize, rows: u32, positions: usize, heads: u32) -> usize {
    let tiles = positions.div_ceil(TILE);
    2 * (rows / heads) as usize + (row / (heads as usize * positions) * tiles + row % positions / TILE) * 4
}

/// Softmax over the keys that a query sees; the others get 0: all of them, or, where pairs are left out, those that its
/// tile sees. `s` counts vectors.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn shares_kernel<F: Float, W: Size>(
    scores: &[Vector<F, W>],
    ranges: &[i32],
    shares: &mut [Vector<F, W>],
    out: &mut [Vector<F, W>],
    rows: u32,
    s: u32,
    heads: u32,
    scale: f32,
    drawn: Drawn,
    #[comptime] leaves_out: bool,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= rows as usize {
        terminate!();
    }
    let s = s as usize;
    let positions = s * W::value();
    let (start, query) = (row * s, row / (heads as usize * positions) * positions + row % positions);
    let before = Vector::<i32, W>::new(ranges[2 * query]);
    let last = Vector::<i32, W>::new(ranges[2 * query + 1] - 1);
    let mut from = 0usize;
    let mut end = s;
    if leaves_out {
        let range = range_of(row, rows, positions, heads);
        from = ranges[range] as usize / W::value();
        end = ranges[range + 1] as usize / W::value();
    }
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
        if i >= from && i < end {
            let score = Vector::<f32, W>::cast_from(scores[start + i]) * Vector::new(scale);
            let places = steps + Vector::new((i * W::value()) as i32);
            let seen = select_many(places.less_than(&before), low, score);
            held[k] = select_many(places.greater_than(&last), low, seen);
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
        if i >= from && i < end {
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
    ranges: &[i32],
    of_scores: &mut [Vector<F, W>],
    rows: u32,
    s: u32,
    heads: u32,
    scale: f32,
    drawn: Drawn,
    #[comptime] leaves_out: bool,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= rows as usize {
        terminate!();
    }
    let s = s as usize;
    let start = row * s;
    let mut from = 0usize;
    let mut end = s;
    if leaves_out {
        let range = range_of(row, rows, s * W::value(), heads);
        from = ranges[range] as usize / W::value();
        end = ranges[range + 1] as usize / W::value();
    }
    let mut gradients = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut held = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut along = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i >= from && i < end {
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
        if i >= from && i < end {
            of_scores[start + i] = Vector::cast_from(Vector::new(scale) * held[k] * (gradients[k] - along));
        }
    }
}

/// `softmax(scale scores)` over the last dimension of `[b, heads, s, s]`, among the keys that a query sees, and after
/// dropout; in the scores' numbers.
#[derive(Debug)]
pub(super) struct Shares {
    shares_bhss: CubeTensor,
    /// The shares after dropout; where there is none, `shares_bhss` itself.
    pub dropped_bhss: CubeTensor,
    scale: f32,
    mask: Option<Mask>,
}

impl Shares {
    pub fn of(scores_bhss: CubeTensor, products: &Products, scale: f32, mask: Option<Mask>) -> Self {
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
            products.ranges.clone().into_buffer_arg(),
            shares.clone().into_buffer_arg(),
            if mask.is_some() { dropped.clone() } else { like_a_vector(&shares) }.into_buffer_arg(),
            rows as u32,
            (s / size) as u32,
            heads as u32,
            scale,
            DrawnLaunch::of(mask),
            products.tiles.is_some(),
            lanes,
            dtype_to_storage_type(shares.dtype),
        );
        Self { shares_bhss: shares, dropped_bhss: dropped, scale, mask }
    }

    /// The gradient of the scores from that of `dropped_bhss`; of pairs that are left out, whatever it was.
    pub fn backward(&self, above_bhss: CubeTensor, products: &Products) -> CubeTensor {
        let of_scores = like(&self.shares_bhss);
        let [rows, heads, s] = sizes(&of_scores);
        let size = vector_size(s);
        let (count, dim, lanes) = Lanes::of(rows, s / size, &of_scores.client);
        shares_backward_kernel::launch(
            &of_scores.client,
            count,
            dim,
            size,
            above_bhss.into_buffer_arg(),
            self.shares_bhss.clone().into_buffer_arg(),
            products.ranges.clone().into_buffer_arg(),
            of_scores.clone().into_buffer_arg(),
            rows as u32,
            (s / size) as u32,
            heads as u32,
            self.scale,
            DrawnLaunch::of(self.mask),
            products.tiles.is_some(),
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
