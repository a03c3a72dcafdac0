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

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Tensor, TensorData};

use super::matrix::{Matrix, Threads, add_product_on};
use super::vector::exp;
use super::{Compute, Kernels};

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
    if compute.kernels == Kernels::Composed || !compute.traits.is_cpu {
        return Tensor::stack(directions.map(|direction| lstm_composed(&direction, active_t)).to_vec(), 0);
    }
    fused(directions, active_t, b)
}

/// One direction in burn operations, on any device: `[t, b, h]`.
pub fn lstm_composed(direction: &Direction, active_t: &[usize]) -> Tensor<3> {
    let (h, t) = (direction.units(), active_t.len());
    let b = direction.gates_ng.dims()[0] / t;
    let device = direction.gates_ng.device();
    let (mut state_bh, mut cell_bh) = (Tensor::<2>::zeros([b, h], &device), Tensor::<2>::zeros([b, h], &device));
    let mut states = Vec::with_capacity(t);
    for step in 0..t {
        let kept_bh = match &direction.keep_bh {
            Some(keep_bh) => state_bh * keep_bh.clone(),
            None => state_bh,
        };
        let gates_bg = direction.gates_ng.clone().narrow(0, step * b, b) + kept_bh.matmul(direction.recurrent_hg.clone());
        let gate = |at: usize| gates_bg.clone().narrow(1, at * h, h);
        cell_bh = sigmoid(gate(1)) * cell_bh + sigmoid(gate(0)) * tanh(gate(2));
        state_bh = sigmoid(gate(3)) * tanh(cell_bh.clone());
        states.push(state_bh.clone());
    }
    let real: Vec<f32> =
        active_t.iter().flat_map(|&active| (0..b).map(move |row| if row < active { 1.0 } else { 0.0 })).collect();
    let real_tb1 = Tensor::<3>::from_data(TensorData::new(real, [t, b, 1]), &device.inner());
    Tensor::stack::<3>(states, 0) * real_tb1
}

/// Both directions on the CPU backend, with a backward pass of their own.
fn fused(directions: [Direction; 2], active_t: &[usize], b: usize) -> Tensor<4> {
    let [h, other] = [directions[0].units(), directions[1].units()];
    assert_eq!(h, other, "both directions have as many units");
    let tracked = directions[0].gates_ng.device().is_autodiff();
    let plain = directions.each_ref().map(|direction| Plain {
        gates: host(direction.gates_ng.clone()),
        recurrent: host(direction.recurrent_hg.clone()),
        keep: direction.keep_bh.clone().map(host),
    });
    let shape = Shape { active: active_t.to_vec(), b, h };
    let (forward, backward) = rayon::join(|| run(&plain[0], &shape), || run(&plain[1], &shape));
    let mut states = Vec::with_capacity(2 * forward.states.len());
    states.extend_from_slice(&forward.states);
    states.extend_from_slice(&backward.states);
    let states = Tensor::<4>::from_data(TensorData::new(states, [2, shape.active.len(), b, h]), &Device::flex());
    if !tracked {
        return states;
    }
    let saved = Arc::new(Saved { shape, plain, runs: [forward, backward] });
    attach(states, directions, saved)
}

/// What a direction reads, on the host's side of burn.
#[derive(Debug)]
struct Plain {
    gates: FloatTensor<Flex>,
    recurrent: FloatTensor<Flex>,
    keep: Option<FloatTensor<Flex>>,
}

fn host(x: Tensor<2>) -> FloatTensor<Flex> {
    let x = if x.device().is_autodiff() { x.inner() } else { x };
    x.try_into_primitive::<Flex>().expect("a tensor of the CPU backend").to_contiguous()
}

fn slice(x: &FloatTensor<Flex>) -> &[f32] {
    x.as_slice().expect("contiguous f32")
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
        for row in 0..rows {
            let before = if t > 0 { &cells_before[shape.at(t - 1, h) + row * h..][..h] } else { &nothing };
            step(&mut now[row * g..][..g], before, &mut cells_from[row * h..][..h], &mut states_from[row * h..][..h]);
        }
    }
    Run { states, gates, cells }
}

/// The states that a step's product reads: those of the step before, times the mask where there is one.
fn keep_some<'a>(room: &'a mut [f32], states: &'a [f32], keep: Option<&FloatTensor<Flex>>) -> &'a [f32] {
    let Some(keep) = keep else { return states };
    let room = &mut room[..states.len()];
    room.iter_mut().zip(states).zip(slice(keep)).for_each(|((out, state), keep)| *out = state * keep);
    room
}

/// Compiles a loop once for each set of vector instructions, and takes the best that the CPU has.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn anywhere($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $type),*) { anywhere($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) { anywhere($($arg),*) }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the CPU has the instructions, as just asked.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            anywhere($($arg),*)
        }
    };
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

vectorised! {
    /// One row of one step: gates in place, the cell and the state.
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
}

vectorised! {
    /// One row of one step backwards: `wanted_h` is the gradient by the state, `carry_h` that by the cell (in: from the
    /// step after; out: for the step before), `out_g` that by the gates before their sigmoid or tanh.
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
        for row in 0..rows {
            let at = shape.at(t, h) + row * h;
            let before = if t > 0 { &run.cells[at - b * h..][..h] } else { &nothing[..] };
            let gates = &run.gates[shape.at(t, g) + row * g..][..g];
            let wanted = &by_state[row * h..][..h];
            step_back(gates, before, &run.cells[at..][..h], wanted, &mut by_cell[row * h..][..h], &mut out[row * g..][..g]);
        }
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

/// `states` as a function of both directions' gates and recurrent weights.
fn attach(states: Tensor<4>, directions: [Direction; 2], saved: Arc<Saved>) -> Tensor<4> {
    type Tracked = Autodiff<Flex, NoCheckpointing>;
    #[derive(Debug)]
    struct BiLstm;
    impl Backward<Flex, 4> for BiLstm {
        type State = Arc<Saved>;

        fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let above = gradients.consume::<Flex>(&ops.node).to_contiguous();
            let (first, second) = slice(&above).split_at(slice(&above).len() / 2);
            let Saved { shape, plain, runs } = &*ops.state;
            let back =
                |at: usize, above: &[f32]| run_back(&plain[at], &runs[at], shape, above, ops.parents[2 * at + 1].is_some());
            let (one, two) = rayon::join(|| back(0, first), || back(1, second));
            let (g, h) = (4 * shape.h, shape.h);
            let upload = |values: Vec<f32>, rows: usize| FloatTensor::<Flex>::from_data(TensorData::new(values, [rows, g]));
            let n = shape.active.len() * shape.b;
            let found = [(Some(one.0), n), (one.1, h), (Some(two.0), n), (two.1, h)];
            for (parent, (values, rows)) in ops.parents.into_iter().zip(found) {
                if let (Some(parent), Some(values)) = (parent, values) {
                    gradients.register::<Flex>(parent.id, upload(values, rows));
                }
            }
        }
    }
    let primitive = |x: Tensor<2>| x.try_into_primitive::<Tracked>().expect("a tracked tensor of the CPU backend");
    let [one, two] = directions;
    let parents = [one.gates_ng, one.recurrent_hg, two.gates_ng, two.recurrent_hg].map(primitive);
    let nodes = parents.each_ref().map(|parent| parent.clone().node());
    let states = states.try_into_primitive::<Flex>().expect("a tensor of the CPU backend, outside autodiff");
    let tracked = match BiLstm.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved, states),
        OpsKind::UnTracked(prepared) => prepared.finish(states),
    };
    Tensor::from_primitive::<Tracked>(tracked)
}
