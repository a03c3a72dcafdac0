//! Rotary attention in plain Rust: queries and keys are turned on the way into attention, their gradients back on the
//! way out.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Angles, Rotary};
use crate::kernels::attention::{Attended, Blocks, Lines, Values, attend};
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, host, slice, with_gradient};
use crate::kernels::matrix::made;
use crate::kernels::spent::Part;
use crate::kernels::vector::on_vectors;

/// See [`rotary_attention`](super::rotary_attention).
pub(super) fn rotary_attention(qkv_ne: Tensor<2>, blocks: Blocks, rotary: &Rotary) -> Tensor<2> {
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
    let (out_nd, attended) = attend([of_turned(0), of_turned(d), values], n, blocks, is_tracked);
    with_gradient(out_nd, [n, d], [Parent::of(qkv_ne)], Saved { attended, rotary: rotary.clone(), d })
}

impl Rotary {
    /// Turns one position's heads in place; with `sign` -1, by the opposite angles.
    #[inline(always)]
    pub(in crate::kernels) fn turn_row(&self, x_d: &mut [f32], position: i32, sign: f32) {
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

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    rotary: Rotary,
    d: usize,
}

impl HostBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    /// What was turned is turned back.
    fn backward(&self, above_nd: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
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
        [Some(joined_ne)]
    }
}
