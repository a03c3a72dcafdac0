//! Two LSTMs in plain Rust, one beside the other.

use burn::tensor::Tensor;

use super::Direction;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::{Matrix, Threads, add_product_on};
use crate::kernels::spent::Part;
use crate::kernels::vector::{exp, on_vectors};

/// See [`bilstm`](super::bilstm).
pub(super) fn bilstm(directions: [Direction; 2], active_t: &[usize], b: usize) -> Tensor<4> {
    let [h, other] = [directions[0].units(), directions[1].units()];
    assert_eq!(h, other, "both directions have as many units");
    let plain = directions.each_ref().map(|direction| Plain {
        gates: host(&direction.gates_ng),
        recurrent: host(&direction.recurrent_hg),
        keep: direction.keep_bh.as_ref().map(host),
    });
    let shape = Shape { active: active_t.to_vec(), b, h };
    let (forward, backward) = rayon::join(|| run(&plain[0], &shape), || run(&plain[1], &shape));
    let mut states = Vec::with_capacity(2 * forward.states.len());
    states.extend_from_slice(&forward.states);
    states.extend_from_slice(&backward.states);
    let [first, second] = directions;
    let parents = [first.gates_ng, first.recurrent_hg, second.gates_ng, second.recurrent_hg].map(Parent::of);
    let states_shape = [2, shape.active.len(), b, h];
    with_gradient(states, states_shape, parents, Saved { shape, plain, runs: [forward, backward] })
}

/// What a direction reads, on the host's side of burn.
#[derive(Debug)]
struct Plain {
    gates: HostTensor,
    recurrent: HostTensor,
    keep: Option<HostTensor>,
}

#[derive(Debug)]
struct Shape {
    active: Vec<usize>,
    b: usize,
    h: usize,
}

impl Shape {
    /// Where step `t` begins in an array of `width` numbers a row.
    fn at(&self, t: usize, width: usize) -> usize {
        t * self.b * width
    }
}

/// What a direction computed: its states, and what its backward pass needs.
#[derive(Debug)]
struct Run {
    /// `[t, b, h]`.
    states: Vec<f32>,
    /// After their sigmoid or tanh, `[t, b, g]`.
    gates: Vec<f32>,
    /// `[t, b, h]`.
    cells: Vec<f32>,
}

#[derive(Debug)]
struct Saved {
    shape: Shape,
    plain: [Plain; 2],
    runs: [Run; 2],
}

fn run(plain: &Plain, shape: &Shape) -> Run {
    let (b, h, g, steps) = (shape.b, shape.h, 4 * shape.h, shape.active.len());
    let recurrent = Matrix::new(slice(&plain.recurrent), g);
    let mut gates = slice(&plain.gates).to_vec();
    let (mut states, mut cells) = (vec![0.0f32; steps * b * h], vec![0.0f32; steps * b * h]);
    let nothing = vec![0.0f32; h];
    let mut kept = vec![0.0f32; b * h];
    for (t, &rows) in shape.active.iter().enumerate() {
        let now = &mut gates[shape.at(t, g)..][..rows * g];
        let (cells_before, cells_from) = cells.split_at_mut(shape.at(t, h));
        let (states_before, states_from) = states.split_at_mut(shape.at(t, h));
        if t > 0 {
            let last = &states_before[shape.at(t - 1, h)..][..rows * h];
            let last = keep_some(&mut kept, last, plain.keep.as_ref());
            add_product_on(Threads::Half, now, Matrix::new(last, h), recurrent);
        }
        on_vectors(|| {
            for row in 0..rows {
                let before = if t > 0 { &cells_before[shape.at(t - 1, h) + row * h..][..h] } else { &nothing };
                step(&mut now[row * g..][..g], before, &mut cells_from[row * h..][..h], &mut states_from[row * h..][..h]);
            }
        });
    }
    Run { states, gates, cells }
}

/// The states that a step's product reads: those of the step before, times the mask where there is one.
fn keep_some<'a>(room: &'a mut [f32], states: &'a [f32], keep: Option<&HostTensor>) -> &'a [f32] {
    let Some(keep) = keep else { return states };
    let room = &mut room[..states.len()];
    room.iter_mut().zip(states).zip(slice(keep)).for_each(|((out, state), keep)| *out = state * keep);
    room
}

#[inline(always)]
fn sigmoid_of(x: f32) -> f32 {
    let e = exp(-x.abs());
    let high = 1.0 / (1.0 + e);
    if x < 0.0 { e * high } else { high }
}

#[inline(always)]
fn tanh_of(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    let size = (1.0 - e) / (1.0 + e);
    if x < 0.0 { -size } else { size }
}

/// One row of one step: gates in place, the cell and the state.
#[inline(always)]
fn step(gates_g: &mut [f32], before_h: &[f32], cell_h: &mut [f32], state_h: &mut [f32]) {
    let h = before_h.len();
    let (i, rest) = gates_g.split_at_mut(h);
    let (f, rest) = rest.split_at_mut(h);
    let (g, o) = rest.split_at_mut(h);
    let (o, cell_h, state_h) = (&mut o[..h], &mut cell_h[..h], &mut state_h[..h]);
    for u in 0..h {
        i[u] = sigmoid_of(i[u]);
        f[u] = sigmoid_of(f[u]);
        g[u] = tanh_of(g[u]);
        o[u] = sigmoid_of(o[u]);
        cell_h[u] = f[u] * before_h[u] + i[u] * g[u];
        state_h[u] = o[u] * tanh_of(cell_h[u]);
    }
}

/// One row of one step backwards: `wanted_h` is the gradient by the state, `carry_h` that by the cell (in: from the
/// step after; out: for the step before), `out_g` that by the gates before their sigmoid or tanh.
#[inline(always)]
fn step_back(gates_g: &[f32], before_h: &[f32], cell_h: &[f32], wanted_h: &[f32], carry_h: &mut [f32], out_g: &mut [f32]) {
    let h = before_h.len();
    let (i, rest) = gates_g.split_at(h);
    let (f, rest) = rest.split_at(h);
    let (g, o) = rest.split_at(h);
    let (out_i, rest) = out_g.split_at_mut(h);
    let (out_f, rest) = rest.split_at_mut(h);
    let (out_g, out_o) = rest.split_at_mut(h);
    let (o, cell_h, wanted_h, carry_h, out_o) = (&o[..h], &cell_h[..h], &wanted_h[..h], &mut carry_h[..h], &mut out_o[..h]);
    for u in 0..h {
        let squashed = tanh_of(cell_h[u]);
        let by_cell = wanted_h[u] * o[u] * (1.0 - squashed * squashed) + carry_h[u];
        out_o[u] = wanted_h[u] * squashed * o[u] * (1.0 - o[u]);
        out_i[u] = by_cell * g[u] * i[u] * (1.0 - i[u]);
        out_f[u] = by_cell * before_h[u] * f[u] * (1.0 - f[u]);
        out_g[u] = by_cell * i[u] * (1.0 - g[u] * g[u]);
        carry_h[u] = by_cell * f[u];
    }
}

/// Gradients by the gates `[t b, g]` and, when wanted, by the recurrent weights `[h, g]`.
fn run_back(plain: &Plain, run: &Run, shape: &Shape, above: &[f32], wants_weights: bool) -> (Vec<f32>, Option<Vec<f32>>) {
    let (b, h, g) = (shape.b, shape.h, 4 * shape.h);
    let recurrent = Matrix::new(slice(&plain.recurrent), g).transposed();
    let mut by_gates = vec![0.0f32; run.gates.len()];
    let (mut by_state, mut by_cell) = (vec![0.0f32; b * h], vec![0.0f32; b * h]);
    let nothing = vec![0.0f32; h];
    for (t, &rows) in shape.active.iter().enumerate().rev() {
        let out = &mut by_gates[shape.at(t, g)..][..rows * g];
        let above = &above[shape.at(t, h)..][..rows * h];
        by_state.iter_mut().zip(above).for_each(|(sum, above)| *sum += above);
        on_vectors(|| {
            for row in 0..rows {
                let at = shape.at(t, h) + row * h;
                let before = if t > 0 { &run.cells[at - b * h..][..h] } else { &nothing[..] };
                let gates = &run.gates[shape.at(t, g) + row * g..][..g];
                let wanted = &by_state[row * h..][..h];
                step_back(gates, before, &run.cells[at..][..h], wanted, &mut by_cell[row * h..][..h], &mut out[row * g..][..g]);
            }
        });
        if t > 0 {
            by_state.fill(0.0);
            add_product_on(Threads::Half, &mut by_state[..rows * h], Matrix::new(out, g), recurrent);
            if let Some(keep) = &plain.keep {
                by_state.iter_mut().zip(slice(keep)).for_each(|(sum, keep)| *sum *= keep);
            }
        }
    }
    let by_weights = wants_weights.then(|| {
        let mut sum = vec![0.0f32; h * g];
        let from_second = shape.at(1, 1).min(by_gates.len() / g);
        let before = &run.states[..run.states.len() - from_second * h];
        let kept: Option<Vec<f32>> = plain.keep.as_ref().map(|keep| {
            let keep = slice(keep);
            before.chunks(b * h).flat_map(|states| states.iter().zip(keep).map(|(state, keep)| state * keep)).collect()
        });
        let before = kept.as_deref().unwrap_or(before);
        add_product_on(
            Threads::Half,
            &mut sum,
            Matrix::new(before, h).transposed(),
            Matrix::new(&by_gates[from_second * g..], g),
        );
        sum
    });
    (by_gates, by_weights)
}

impl HostBackward<4> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above: &[f32], [_, wants_first_recurrent, _, wants_second_recurrent]: [bool; 4]) -> [Option<Vec<f32>>; 4] {
        let (first, second) = above.split_at(above.len() / 2);
        let Self { shape, plain, runs } = self;
        let ((first_gates, first_recurrent), (second_gates, second_recurrent)) = rayon::join(
            || run_back(&plain[0], &runs[0], shape, first, wants_first_recurrent),
            || run_back(&plain[1], &runs[1], shape, second, wants_second_recurrent),
        );
        [Some(first_gates), first_recurrent, Some(second_gates), second_recurrent]
    }
}
