//! Rotary positions (Su et al. 2021): queries and keys are turned by angles that grow with the position, so that scores
//! depend on distances alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};

use super::attention::{self, Attended, Blocks, Lines, Sight, Values};
use super::host::{HostBackward, PARENTS, host, slice, with_gradient};
use super::matrix::made;
use super::spent::{self, Part};
use super::vector::on_vectors;
use super::{Compute, Dropout, Places, in_f32};
use crate::config::RopeScaling;

/// Cosines and sines by position, for heads of one width: the angle of pair `i` at position `p` is
/// `p / theta^(2 i / width)`, or what a scaling makes of that frequency.
#[derive(Debug, Clone)]
pub struct Rotary {
    positions: Places,
    width: usize,
    angles: Arc<Angles>,
}

/// `[p, width / 2]` from position 0 to the highest that occurs, or a higher one.
#[derive(Debug)]
struct Angles {
    cosines_ph: Vec<f32>,
    sines_ph: Vec<f32>,
}

impl Angles {
    /// Frequencies and angles are rounded to f32, as `transformers` has them: models were trained so.
    fn new(count: usize, width: usize, theta: f64, scaling: Option<RopeScaling>) -> Self {
        let frequency = |i: usize| (1.0 / theta.powf((2 * i) as f64 / width as f64)) as f32;
        let scaled = |frequency: f32| scaling.map_or(frequency, |scaling| scaled(frequency, &scaling));
        let frequencies: Vec<f32> = (0..width / 2).map(|i| scaled(frequency(i))).collect();
        let angles = (0..count).flat_map(|p| frequencies.iter().map(move |frequency| f64::from(p as f32 * frequency)));
        let (cosines_ph, sines_ph) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { cosines_ph, sines_ph }
    }

    /// Those of `count` positions at least. What was made last is kept, and found again: every layer of a kind, model
    /// and step wants the same.
    fn of(count: usize, width: usize, theta: f64, scaling: Option<RopeScaling>) -> Arc<Self> {
        const KEPT: usize = 4;
        type Key = (usize, u64, Option<RopeScaling>);
        static LAST: Mutex<VecDeque<(Key, Arc<Angles>)>> = Mutex::new(VecDeque::new());
        let mut kept = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (width, theta.to_bits(), scaling);
        let is_wanted = |(own, angles): &&(Key, Arc<Self>)| *own == key && angles.cosines_ph.len() >= count * (width / 2);
        if let Some((_, angles)) = kept.iter().find(is_wanted) {
            return angles.clone();
        }
        // A text that grows does not ask for new ones at each token.
        let angles = Arc::new(Self::new(count.next_power_of_two(), width, theta, scaling));
        kept.push_front((key, angles.clone()));
        kept.truncate(KEPT);
        angles
    }
}

/// A frequency, in radians a position, as Llama 3 has it for longer texts (`transformers`'
/// `_compute_llama3_parameters`).
fn scaled(frequency: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling { factor, low_freq_factor, high_freq_factor, original_max_positions } = *scaling;
    let own = f64::from(frequency);
    let turns = original_max_positions as f64 * own / std::f64::consts::TAU;
    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
    ((1.0 - kept) * own / factor + kept * own) as f32
}

impl Rotary {
    /// For positions within their sentences, heads `width` wide (an even number) and the base `theta`.
    pub fn new(positions: &Places, width: usize, theta: f64) -> Self {
        Self::scaled(positions, width, theta, None)
    }

    /// [`new`](Self::new) with frequencies that were scaled for longer texts.
    pub fn scaled(positions: &Places, width: usize, theta: f64, scaling: Option<RopeScaling>) -> Self {
        let highest = positions.rows().iter().copied().max().unwrap_or(0).max(0);
        Self { positions: positions.clone(), width, angles: Angles::of(highest as usize + 1, width, theta, scaling) }
    }

    /// Positions of the rows whose queries and keys are turned.
    pub(super) fn positions(&self) -> &[i32] {
        self.positions.rows()
    }

    /// Numbers `i` and `i + width / 2` of each head turned by the position's angle `i`: `[n, d]` to `[n, d]`, in f32.
    pub(super) fn turn(&self, x_nd: Tensor<2>, heads: usize) -> Tensor<2> {
        let ([n, d], half) = (x_nd.dims(), self.width / 2);
        let device = x_nd.device().inner();
        let of_positions = |table: &[f32]| {
            let table_ph = Tensor::<2>::from_data(TensorData::new(table.to_vec(), [table.len() / half, half]), &device);
            table_ph.select(0, self.positions.at_n()).reshape([n, 1, half])
        };
        let (cosines_n1h, sines_n1h) = (of_positions(&self.angles.cosines_ph), of_positions(&self.angles.sines_ph));
        let x_naw = in_f32(x_nd).reshape([n, heads, self.width]);
        let (first, second) = (x_naw.clone().narrow(2, 0, half), x_naw.narrow(2, half, half));
        let turned =
            [first.clone() * cosines_n1h.clone() - second.clone() * sines_n1h.clone(), second * cosines_n1h + first * sines_n1h];
        Tensor::cat(turned.to_vec(), 2).reshape([n, d])
    }

    /// Turns one position's heads in place; with `sign` -1, by the opposite angles.
    #[inline(always)]
    pub(super) fn turn_row(&self, x_d: &mut [f32], position: i32, sign: f32) {
        let half = self.width / 2;
        let from = position as usize * half;
        let Angles { cosines_ph, sines_ph } = &*self.angles;
        let (cosines, sines) = (&cosines_ph[from..][..half], &sines_ph[from..][..half]);
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
        return spent::on(Part::Attention, || fused(qkv_ne, Blocks { sight: sight.clone(), heads, sharing: 1, d, mask }, rotary));
    }
    let [query, key, value] = [0, 1, 2].map(|part| qkv_ne.clone().narrow(1, part * d, d));
    attention::composed([rotary.turn(query, heads), rotary.turn(key, heads), value], heads, sight, dropout, compute)
}

fn fused(qkv_ne: Tensor<2>, blocks: Blocks, rotary: &Rotary) -> Tensor<2> {
    let ([n, e], d) = (qkv_ne.dims(), blocks.d);
    let is_tracked = qkv_ne.device().is_autodiff();
    let joined = host(&qkv_ne);
    // Queries and keys of a position side by side: heads are turned alike, whosoever they are.
    let turned_n2d = made(n * 2 * d, ROWS * 2 * d, |at, turned_n2d| {
        let (joined_ne, positions_n) = (&slice(&joined)[at * ROWS * e..], &rotary.positions.rows()[at * ROWS..]);
        on_vectors(|| {
            for ((turned_2d, joined_e), &position) in turned_n2d.chunks_mut(2 * d).zip(joined_ne.chunks(e)).zip(positions_n) {
                turned_2d.copy_from_slice(&joined_e[..2 * d]);
                rotary.turn_row(turned_2d, position, 1.0);
            }
        });
    });
    let turned_n2d = Arc::new(turned_n2d);
    let of_turned = |first| Lines { values: Values::Made(turned_n2d.clone()), stride: 2 * d, first };
    let values = Lines { values: Values::Tensor(joined), stride: e, first: 2 * d };
    let (out_nd, attended) = attention::attend([of_turned(0), of_turned(d), values], n, blocks, is_tracked);
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
        let d = self.d;
        let joined_ne = self.attended.joined_gradients(above_nd, |row, joined_se| {
            let length = joined_se.len() / (3 * d);
            let positions_s = &self.rotary.positions.rows()[row * length..];
            on_vectors(|| {
                for (joined_e, &position) in joined_se.chunks_mut(3 * d).zip(positions_s) {
                    self.rotary.turn_row(&mut joined_e[..2 * d], position, -1.0);
                }
            });
        });
        [joined_ne, Vec::new(), Vec::new(), Vec::new()]
    }
}
