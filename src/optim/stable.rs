//! StableAdamW (Wortsman et al. 2023, algorithm 2), which ModernBERT was trained with: AdamW whose rate falls, tensor
//! by tensor, where a gradient is larger than its second moment knows.

use burn::optim::AdaptiveMomentumState;
use burn::tensor::Tensor;

/// The rule of `optimi.StableAdamW`.
#[derive(Debug, Clone)]
pub(super) struct StableAdamW {
    /// Decay of the mean.
    pub beta1: f64,
    /// Decay of the mean of squares.
    pub beta2: f64,
    /// Added to the root; its square bounds the second moment from below where the gradient is measured by it.
    pub epsilon: f64,
    /// Times the lowered rate and the value, is taken off the value.
    pub weight_decay: f64,
}

impl StableAdamW {
    /// The new value and moments. The betas are without bias by themselves: at the first step they are 0.
    pub fn step<const D: usize>(
        &self,
        lr: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        moments: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, AdaptiveMomentumState<D>) {
        let AdaptiveMomentumState { time, moment_1, moment_2, .. } =
            moments.unwrap_or_else(|| AdaptiveMomentumState::new(0, gradient.zeros_like(), gradient.zeros_like()));
        let time = time + 1;
        let unbiased = |beta: f64| (beta.powf(time as f64) - beta) / (beta.powf(time as f64) - 1.0);
        let [beta1, beta2] = [self.beta1, self.beta2].map(unbiased);
        let squared = gradient.clone().square();
        let mean = moment_1 * beta1 + gradient * (1.0 - beta1);
        let mean_square = moment_2 * beta2 + squared.clone() * (1.0 - beta2);
        // How many times larger than expected the gradient is, as a root of a mean over the tensor.
        let excess_1 = (squared / mean_square.clone().clamp_min(self.epsilon * self.epsilon)).mean().sqrt();
        let rate = excess_1.clamp_min(1.0).recip().mul_scalar(lr).reshape([1; D]);
        let kept = (rate.clone() * -self.weight_decay) + 1.0;
        let update = mean.clone() / (mean_square.clone().sqrt() + self.epsilon);
        (value * kept - update * rate, AdaptiveMomentumState::new(time, mean, mean_square))
    }
}
