//! An LSTM in burn's operations.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Tensor, TensorData};

use super::Direction;

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
