//! Rotary positions (Su et al. 2021): queries and keys are turned by angles that grow with the position, so that scores
//! depend on distances alone.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::attention::{self, Attended, Blocks, Sight, Values};
use super::host::{HostBackward, PARENTS, host, slice, with_gradient};
use super::matrix::zeros;
use super::spent::{self, Part};
use super::vector::on_vectors;
use super::{Compute, Dropout, Places, in_f32};

/// Cosines and sines by position, for heads of one width: the angle of pair `i` at position `p` is
/// `p / theta^(2 i / width)`.
#[derive(Debug, Clone)]
pub struct Rotary {
    positions: Places,
    width: usize,
    /// `[p, width / 2]` from position 0 to the highest that occurs.
    cosines_ph: Arc<[f32]>,
    sines_ph: Arc<[f32]>,
}

impl Rotary {
    /// For positions within their sentences, heads `width` wide (an even number) and the base `theta`.
    ///
    /// Frequencies and angles are rounded to f32, as `transformers` has them: models were trained so.
    pub fn new(positions: &Places, width: usize, theta: f64) -> Self {
        let frequencies: Vec<f32> = (0..width / 2).map(|i| (1.0 / theta.powf((2 * i) as f64 / width as f64)) as f32).collect();
        let highest = positions.rows().iter().copied().max().unwrap_or(0).max(0);
        let angles = (0..=highest).flat_map(|p| frequencies.iter().map(move |frequency| f64::from(p as f32 * frequency)));
        let (cosines_ph, sines_ph): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { positions: positions.clone(), width, cosines_ph: cosines_ph.into(), sines_ph: sines_ph.into() }
    }

    /// Numbers `i` and `i + width / 2` of each head turned by the position's angle `i`: `[n, d]` to `[n, d]`, in f32.
    fn turn(&self, x_nd: Tensor<2>, heads: usize) -> Tensor<2> {
        let ([n, d], half) = (x_nd.dims(), self.width / 2);
        let device = x_nd.device().inner();
        let of_positions = |table: &[f32]| {
            let table_ph = Tensor::<2>::from_data(TensorData::new(table.to_vec(), [table.len() / half, half]), &device);
            table_ph.select(0, self.positions.at_n()).reshape([n, 1, half])
        };
        let (cosines_n1h, sines_n1h) = (of_positions(&self.cosines_ph), of_positions(&self.sines_ph));
        let x_naw = in_f32(x_nd).reshape([n, heads, self.width]);
        let (first, second) = (x_naw.clone().narrow(2, 0, half), x_naw.narrow(2, half, half));
        let turned =
            [first.clone() * cosines_n1h.clone() - second.clone() * sines_n1h.clone(), second * cosines_n1h + first * sines_n1h];
        Tensor::cat(turned.to_vec(), 2).reshape([n, d])
    }

    /// Turns one position's heads in place; with `sign` -1, by the opposite angles.
    #[inline(always)]
    fn turn_row(&self, x_d: &mut [f32], position: i32, sign: f32) {
        let half = self.width / 2;
        let from = position as usize * half;
        let (cosines, sines) = (&self.cosines_ph[from..][..half], &self.sines_ph[from..][..half]);
        for x_w in x_d.chunks_mut(self.width) {
            let (first, second) = x_w.split_at_mut(half);
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                let (sine, x, y) = (sign * sine, *a, *b);
                *a = x * cosine - y * sine;
                *b = y * cosine + x * sine;
            }
        }
    }
}

/// `dropout(softmax(q k^T / sqrt(w))) v` a head, as [`self_attention`](super::self_attention) has it, of queries, keys
/// and values side by side, of which `rotary` turns the first two: `[b * s, 3 d]` to `[b * s, d]`.
pub fn rotary_attention(
    qkv_ne: Tensor<2>,
    heads: usize,
    sight: &Sight,
    rotary: &Rotary,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let [n, e] = qkv_ne.dims();
    let d = e / 3;
    if compute.is_fused_on_cpu() {
        let mask = dropout.mask(n * heads * sight.length);
        return spent::on(Part::Attention, || fused(qkv_ne, Blocks { sight: sight.clone(), heads, d, mask }, rotary));
    }
    let [query, key, value] = [0, 1, 2].map(|part| qkv_ne.clone().narrow(1, part * d, d));
    attention::composed([rotary.turn(query, heads), rotary.turn(key, heads), value], heads, sight, dropout, compute)
}

fn fused(qkv_ne: Tensor<2>, blocks: Blocks, rotary: &Rotary) -> Tensor<2> {
    let ([n, e], d) = (qkv_ne.dims(), blocks.d);
    let is_tracked = qkv_ne.device().is_autodiff();
    let joined = host(&qkv_ne);
    let mut parts = [0, 1, 2].map(|_| zeros(n * d));
    let [query_nd, key_nd, value_nd] = &mut parts;
    let rows = query_nd.par_chunks_mut(ROWS * d).zip(key_nd.par_chunks_mut(ROWS * d)).zip(value_nd.par_chunks_mut(ROWS * d));
    let rows = rows.zip(slice(&joined).par_chunks(ROWS * e)).zip(rotary.positions.rows().par_chunks(ROWS));
    rows.for_each(|((((query_nd, key_nd), value_nd), joined_ne), positions_n)| {
        on_vectors(|| {
            let parts = query_nd.chunks_mut(d).zip(key_nd.chunks_mut(d)).zip(value_nd.chunks_mut(d));
            for ((((query_d, key_d), value_d), joined_e), &position) in parts.zip(joined_ne.chunks(e)).zip(positions_n) {
                query_d.copy_from_slice(&joined_e[..d]);
                key_d.copy_from_slice(&joined_e[d..2 * d]);
                value_d.copy_from_slice(&joined_e[2 * d..]);
                rotary.turn_row(query_d, position, 1.0);
                rotary.turn_row(key_d, position, 1.0);
            }
        });
    });
    let (out_nd, attended) = attention::attend(parts.map(Values::Made), blocks, is_tracked);
    let parents = [Some(qkv_ne.into_dispatch()), None, None, None];
    with_gradient(out_nd, [n, d], parents, Saved { attended, rotary: rotary.clone(), d })
}

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    rotary: Rotary,
    d: usize,
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    /// What was turned is turned back.
    fn backward(&self, above_nd: &[f32], _wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let (d, parts) = (self.d, self.attended.gradients(above_nd));
        let mut joined_ne = zeros(3 * above_nd.len());
        let [query_nd, key_nd, value_nd] = parts.each_ref().map(|part_nd| part_nd.par_chunks(ROWS * d));
        let rows = joined_ne.par_chunks_mut(ROWS * 3 * d).zip(query_nd.zip(key_nd).zip(value_nd));
        rows.zip(self.rotary.positions.rows().par_chunks(ROWS)).for_each(
            |((joined_ne, ((query_nd, key_nd), value_nd)), positions_n)| {
                on_vectors(|| {
                    let parts = query_nd.chunks(d).zip(key_nd.chunks(d)).zip(value_nd.chunks(d));
                    for ((joined_e, ((query_d, key_d), value_d)), &position) in
                        joined_ne.chunks_mut(3 * d).zip(parts).zip(positions_n)
                    {
                        joined_e[..d].copy_from_slice(query_d);
                        joined_e[d..2 * d].copy_from_slice(key_d);
                        joined_e[2 * d..].copy_from_slice(value_d);
                        self.rotary.turn_row(&mut joined_e[..d], position, -1.0);
                        self.rotary.turn_row(&mut joined_e[d..2 * d], position, -1.0);
                    }
                });
            },
        );
        [joined_ne, Vec::new(), Vec::new(), Vec::new()]
    }
}
