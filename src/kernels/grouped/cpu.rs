//! Grouped attention in plain Rust: queries and keys are turned on the way in, their gradients back on the way out.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::kernels::attention::{Attended, Blocks, Lines, Values, attend};
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::made;
use crate::kernels::rotary::Rotary;
use crate::kernels::spent::Part;
use crate::kernels::vector::on_vectors;

/// See [`grouped_attention`](super::grouped_attention).
pub(super) fn grouped_attention(inputs: [Tensor<2>; 3], blocks: Blocks, rotary: Option<&Rotary>) -> Tensor<2> {
    let ([n, d], sharing) = (inputs[0].dims(), blocks.sharing);
    let is_tracked = inputs.iter().any(|x| x.device().is_autodiff());
    let [query, key, value] = inputs.each_ref().map(host);
    let lines = |x: HostTensor, width: usize, is_turned: bool| {
        let values = match rotary.filter(|_| is_turned) {
            Some(rotary) => Values::Made(Arc::new(turned(slice(&x), width, rotary))),
            None => Values::Tensor(x),
        };
        Lines { values, stride: width, first: 0 }
    };
    let lines = [lines(query, d, true), lines(key, d / sharing, true), lines(value, d / sharing, false)];
    let (out_nd, attended) = attend(lines, n, blocks, is_tracked);
    let saved = Saved { attended, rotary: rotary.cloned(), widths: [d, d / sharing] };
    with_gradient(out_nd, [n, d], inputs.map(Parent::of), saved)
}

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// Rows of heads turned by their positions.
fn turned(x: &[f32], width: usize, rotary: &Rotary) -> Vec<f32> {
    made(x.len(), ROWS * width, |at, out| {
        out.copy_from_slice(&x[at * ROWS * width..][..out.len()]);
        turn_rows(out, width, &rotary.positions()[at * ROWS..], 1.0, rotary);
    })
}

fn turn_rows(x: &mut [f32], width: usize, positions: &[i32], sign: f32, rotary: &Rotary) {
    on_vectors(|| x.chunks_mut(width).zip(positions).for_each(|(row, &position)| rotary.turn_row(row, position, sign)));
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    rotary: Option<Rotary>,
    /// Of all heads of queries, and of keys.
    widths: [usize; 2],
}

impl HostBackward<3> for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    /// What was turned is turned back.
    fn backward(&self, above_nd: &[f32], _: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let gradients = self.attended.gradients_then(above_nd, |row, of_query, of_key| {
            if let Some(rotary) = &self.rotary {
                for (x, width) in [of_query, of_key].into_iter().zip(self.widths) {
                    let positions = &rotary.positions()[row * (x.len() / width)..];
                    turn_rows(x, width, positions, -1.0, rotary);
                }
            }
        });
        gradients.map(Some)
    }
}
