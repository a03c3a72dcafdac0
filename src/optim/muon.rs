//! Muon (Jordan et al. 2024): the momentum of a hidden matrix, made orthogonal, is its step.

use burn::optim::AdaptiveMomentumState;
use burn::tensor::Tensor;

/// The rule of `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"` (Liu et al. 2025): steps are as large as
/// AdamW's, so that one rate and one weight decay serve matrices and what AdamW moves beside them.
#[derive(Debug, Clone)]
pub(super) struct Muon {
    /// Times the rate and the value, is taken off the value.
    pub weight_decay: f64,
}

/// Decay of the momentum, which is Nesterov's.
const MOMENTUM: f64 = 0.95;
/// The quintic's coefficients, and how often it is applied.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
const TIMES: usize = 5;

impl Muon {
    /// The new value and the momentum; the state has a second part for the sake of the others', one zero.
    pub fn step<const D: usize>(
        &self,
        lr: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, AdaptiveMomentumState<D>) {
        let unused = || Tensor::zeros([1; D], &gradient.device());
        let AdaptiveMomentumState { time, moment_1, moment_2, .. } =
            state.unwrap_or_else(|| AdaptiveMomentumState::new(0, gradient.zeros_like(), unused()));
        let momentum = moment_1 * MOMENTUM + gradient.clone() * (1.0 - MOMENTUM);
        let ahead = gradient * (1.0 - MOMENTUM) + momentum.clone() * MOMENTUM;
        let dims = value.dims();
        let columns = dims[D - 1].max(1);
        let [rows, columns] = [dims.iter().product::<usize>() / columns, columns];
        let rate = lr * 0.2 * (rows.max(columns) as f64).sqrt();
        let step = orthogonal(ahead.reshape([rows, columns])).reshape(dims);
        let value = value * (1.0 - lr * self.weight_decay) - step * rate;
        (value, AdaptiveMomentumState::new(time + 1, momentum, moment_2))
    }
}

/// `U V^T` of a matrix `U S V^T`, roughly: singular values come to between 0.7 and 1.2 by an iteration of products
/// alone.
fn orthogonal(x: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let mut x = if rows > columns { x.transpose() } else { x };
    let norm_11 = x.clone().square().sum().sqrt().clamp_min(1e-7).reshape([1, 1]);
    x = x / norm_11;
    let [a, b, c] = QUINTIC;
    for _ in 0..TIMES {
        let square = x.clone().matmul(x.clone().transpose());
        let polynomial = square.clone() * b + square.clone().matmul(square) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    if rows > columns { x.transpose() } else { x }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn a_step_is_nearly_orthogonal_whichever_side_is_longer() {
        for [rows, columns] in [[4, 7], [7, 4]] {
            let values: Vec<f32> = (0..rows * columns).map(|i| ((i * 37 % 23) as f32 - 11.0) * 0.3).collect();
            let x = Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &Device::flex());
            let x = orthogonal(x);
            let x = if rows > columns { x.transpose() } else { x };
            let square: Vec<f32> = x.clone().matmul(x.transpose()).into_data().try_to_vec().unwrap();
            let side = rows.min(columns);
            for (at, found) in square.iter().enumerate() {
                let is_diagonal = at / side == at % side;
                let bounds = if is_diagonal { 0.3..1.7 } else { -0.5..0.5 };
                assert!(bounds.contains(found), "{rows} by {columns}: {found} at {at}");
            }
        }
    }
}
