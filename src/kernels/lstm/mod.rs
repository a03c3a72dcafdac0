//! Two LSTMs side by side, one for each direction of a text (Hochreiter and Schmidhuber 1997; gates in PyTorch's
//! order):
//!
//! ```text
//! (i, f, g, o) = x_t W + b + (h_{t-1} * keep) U      i, f, o through the sigmoid, g through tanh
//! c_t = f c_{t-1} + i g        h_t = o tanh(c_t)     h_0 = c_0 = 0
//! ```
//!
//! `x_t W + b` of all steps at once is the caller's one product; what is left here is a product a step. `keep` is the
//! mask of recurrent dropout, one for a row and all its steps (Gal and Ghahramani 2016), shared by the gates.
//!
//! Rows are sorted by length, the longest first, so that the rows still going on at a step are the first `active_t` of
//! them: no work is done on padding, and its states are 0.
//!
//! Shapes: `t` steps, `b` rows, `h` units of a direction, `g = 4 h` gates.

mod composed;
mod cpu;

use burn::tensor::Tensor;

pub use composed::lstm_composed;

use super::spent::{self, Part};
use crate::device::{Compute, Kernels};

/// One direction of [`bilstm`].
#[derive(Debug, Clone)]
pub struct Direction {
    /// `x W + b`, `[t b, g]`: all rows of the first step, then of the second.
    pub gates_ng: Tensor<2>,
    /// `U`, `[h, g]`.
    pub recurrent_hg: Tensor<2>,
    /// Recurrent dropout, outside any graph: 0 or the inverse of the share kept, `[b, h]`.
    pub keep_bh: Option<Tensor<2>>,
}

impl Direction {
    fn units(&self) -> usize {
        self.recurrent_hg.dims()[0]
    }
}

/// The states of both directions at every step, `[2, t, b, h]`; 0 from a row's end on. `active_t[t]` rows go on at step
/// t.
///
/// # Panics
/// When shapes differ, or `active_t` grows.
pub fn bilstm(directions: [Direction; 2], active_t: &[usize], compute: &Compute) -> Tensor<4> {
    assert!(active_t.is_sorted_by(|a, b| a >= b), "rows are sorted by length, the longest first");
    let [t, b] = [active_t.len(), directions[0].gates_ng.dims()[0] / active_t.len().max(1)];
    for direction in &directions {
        let h = direction.units();
        assert_eq!(direction.gates_ng.dims(), [t * b, 4 * h], "four gates a unit, a row and a step");
        assert_eq!(direction.recurrent_hg.dims(), [h, 4 * h], "the gates of every unit, from every unit");
    }
    // A GPU has burn's operations alone.
    match compute.kernels != Kernels::Composed && compute.traits.is_cpu {
        true => spent::on(Part::Dense, || cpu::bilstm(directions, active_t, b)),
        false => Tensor::stack(directions.map(|direction| lstm_composed(&direction, active_t)).to_vec(), 0),
    }
}
