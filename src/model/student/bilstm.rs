//! Word vectors and an LSTM in each direction; their states pooled over time, or the last ones.

use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::TextRow;
use crate::device::Compute;
use crate::kernels::{Direction, Dropout, bilstm};
use crate::model::fit::linear;
use crate::model::init::Init;
use crate::model::weights::Shapes;

/// Added to the states of padding before the largest is taken: far below any state, which lie between -1 and 1.
const PADDING: f32 = -1e9;

/// How the states of all steps become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The largest of each unit over the text (Collobert and Weston 2008); padding is left out.
    Max,
    /// Each direction's last state (the paper's RNN encoder).
    Last,
}

/// The sizes of a [`BiLstm`]; the paper's are 300 and 600.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BiLstmShape {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of a word vector.
    pub words: usize,
    /// Units of a direction.
    pub hidden: usize,
    /// States to one vector.
    pub pooling: Pooling,
    /// Dropout of what the LSTMs read, one mask for a row and all its steps; off while dropout is.
    pub input_dropout: f64,
    /// Dropout of what they read of the step before, likewise.
    pub recurrent_dropout: f64,
}

/// Word vectors and an LSTM in each direction.
#[derive(Module, Debug)]
pub struct BiLstm {
    /// `[v, w]`.
    pub words: Embedding,
    /// Reads from the first token on.
    pub forward: Lstm,
    /// Reads from the last token back.
    pub backward: Lstm,
    #[module(skip)]
    shape: BiLstmShape,
}

/// The weights of one direction; gates in PyTorch's order: input, forget, cell, output.
#[derive(Module, Debug)]
pub struct Lstm {
    /// `[w, 4 h]` and the bias of the gates (PyTorch's two, added).
    pub input: Linear,
    /// `[h, 4 h]`, no bias.
    pub recurrent: Linear,
}

impl BiLstmShape {
    /// Names and shapes of its parameters.
    pub(super) fn tensors(&self) -> Shapes {
        let gates = self.hidden.saturating_mul(4);
        let mut out = Shapes::from([("bilstm.words.weight".to_owned(), vec![self.vocab_size, self.words])]);
        for direction in ["bilstm.forward", "bilstm.backward"] {
            linear(&mut out, &format!("{direction}.input"), self.words, gates);
            out.insert(format!("{direction}.recurrent.weight"), vec![gates, self.hidden]);
        }
        out
    }
}

impl BiLstm {
    /// Word vectors from U(-0.1, 0.1) (the paper); the rest as PyTorch draws it, but for a forget gate's bias of 1
    /// (Keras).
    pub(super) fn init(shape: &BiLstmShape, init: &Init) -> Self {
        let limit = 1.0 / (shape.hidden as f64).sqrt();
        let lstm = |name: &str| {
            let weight =
                |part: &str, from: usize| init.uniform(&format!("bilstm.{name}.{part}"), [from, 4 * shape.hidden], limit);
            let forget: Vec<f32> = (0..4 * shape.hidden).map(|gate| if gate / shape.hidden == 1 { 1.0 } else { 0.0 }).collect();
            let bias = init.values([4 * shape.hidden], forget);
            let input = Linear { weight: weight("input", shape.words), bias: Some(bias) };
            Lstm { input, recurrent: Linear { weight: weight("recurrent", shape.hidden), bias: None } }
        };
        Self {
            words: Embedding { weight: init.uniform("bilstm.words.weight", [shape.vocab_size, shape.words], 0.1) },
            forward: lstm("forward"),
            backward: lstm("backward"),
            shape: shape.clone(),
        }
    }

    /// One vector a row, `[b, 2 h]`: the forward half, then the backward half.
    ///
    /// # Panics
    /// When a row is longer than the one before it, or empty.
    pub fn encode(&self, rows: &[&TextRow], pad: i32, compute: &Compute, dropout: &mut Dropout) -> Tensor<2> {
        let device = &compute.device;
        let plan = Steps::new(rows);
        let (t, b, w) = (plan.active_t.len(), rows.len(), self.shape.words);
        let ids: Vec<i32> =
            (0..t).flat_map(|step| rows.iter().map(move |row| row.ids.get(step).copied().unwrap_or(pad))).collect();
        let indices = |values: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(values, [t * b]), device);
        let words_nw = dropout.apply(self.words.weight.val().select(0, indices(ids)));
        let turned_nw = words_nw.clone().select(0, indices(plan.turned(rows)));
        let mut direction = |lstm: &Lstm, read_nw: Tensor<2>| {
            let read_nw = match dropout.shared_mask(self.shape.input_dropout, [1, b, w], device) {
                Some(keep_1bw) => (read_nw.reshape([t, b, w]) * keep_1bw).reshape([t * b, w]),
                None => read_nw,
            };
            Direction {
                gates_ng: lstm.input.forward(read_nw),
                recurrent_hg: lstm.recurrent.weight.val(),
                keep_bh: dropout.shared_mask(self.shape.recurrent_dropout, [b, self.shape.hidden], device),
            }
        };
        let directions = [direction(&self.forward, words_nw), direction(&self.backward, turned_nw)];
        let states_2tbh = bilstm(directions, &plan.active_t, compute);
        let pooled_2bh = match self.shape.pooling {
            Pooling::Max => {
                let bias = plan.mask(b).map(|is_real| if is_real { 0.0 } else { PADDING }).collect::<Vec<f32>>();
                let bias_1tb1 = Tensor::<4>::from_data(TensorData::new(bias, [1, t, b, 1]), device);
                (states_2tbh + bias_1tb1).max_dim(1).squeeze_dim::<3>(1)
            }
            // A turned row ends where the row does.
            Pooling::Last => {
                let last = rows.iter().enumerate().map(|(at, row)| ((row.ids.len() - 1) * b + at) as i32).collect();
                let last_b = Tensor::<1, Int>::from_data(TensorData::new::<i32, _>(last, [b]), device);
                states_2tbh.reshape([2, t * b, self.shape.hidden]).select(1, last_b)
            }
        };
        pooled_2bh.swap_dims(0, 1).reshape([b, 2 * self.shape.hidden])
    }
}

/// Which rows go on at each step.
struct Steps {
    active_t: Vec<usize>,
}

impl Steps {
    fn new(rows: &[&TextRow]) -> Self {
        assert!(rows.iter().all(|row| !row.ids.is_empty()), "a row has a token");
        assert!(rows.is_sorted_by(|a, b| a.ids.len() >= b.ids.len()), "the longest row comes first");
        let longest = rows.first().map_or(0, |row| row.ids.len());
        Self { active_t: (0..longest).map(|step| rows.partition_point(|row| row.ids.len() > step)).collect() }
    }

    /// Where each step of each row finds its token when the row is read from its end; padding stays where it is.
    fn turned(&self, rows: &[&TextRow]) -> Vec<i32> {
        let b = rows.len();
        let source = |step: usize, at: usize| match rows[at].ids.len().checked_sub(step + 1) {
            Some(from_end) => from_end * b + at,
            None => step * b + at,
        };
        (0..self.active_t.len()).flat_map(|step| (0..b).map(move |at| source(step, at) as i32)).collect()
    }

    /// Whether each step of each row is real.
    fn mask(&self, b: usize) -> impl Iterator<Item = bool> {
        self.active_t.iter().flat_map(move |&active| (0..b).map(move |row| row < active))
    }
}
