//! Adadelta (Zeiler 2012, algorithm 1), which burn has not.

use burn::optim::AdaptiveMomentumState;
use burn::tensor::Tensor;

/// The rule of `torch.optim.Adadelta` and `keras.optimizers.Adadelta`, which differ in their defaults alone.
#[derive(Debug, Clone)]
pub(super) struct Adadelta {
    /// Decay of both running means.
    pub rho: f64,
    /// Added under both roots.
    pub epsilon: f64,
    /// Joins the gradient, as in PyTorch.
    pub weight_decay: f64,
}

impl Adadelta {
    /// The new value, and the running means of the squared gradient (first) and of the squared update (second).
    pub fn step<const D: usize>(
        &self,
        lr: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        means: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, AdaptiveMomentumState<D>) {
        let AdaptiveMomentumState { time, moment_1, moment_2, .. } =
            means.unwrap_or_else(|| AdaptiveMomentumState::new(0, gradient.zeros_like(), gradient.zeros_like()));
        let gradient = if self.weight_decay == 0.0 { gradient } else { gradient + value.clone() * self.weight_decay };
        let moving = |mean: Tensor<D>, new: &Tensor<D>| mean * self.rho + new.clone().square() * (1.0 - self.rho);
        let squared_gradient = moving(moment_1, &gradient);
        let update = (moment_2.clone() + self.epsilon).sqrt() / (squared_gradient.clone() + self.epsilon).sqrt() * gradient;
        let squared_update = moving(moment_2, &update);
        (value - update * lr, AdaptiveMomentumState::new(time + 1, squared_gradient, squared_update))
    }
}
