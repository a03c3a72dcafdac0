//! Initial weights, drawn on the host: the same on every device, and a parameter's draw depends on the seed and its
//! name alone, so that models of different depth start from the same embeddings and lower layers.

use burn::module::Param;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Draws parameters from N(0, `range`).
pub(super) struct Init<'a> {
    seed: u64,
    range: f64,
    device: &'a Device,
}

impl<'a> Init<'a> {
    pub(super) fn new(seed: u64, range: f64, device: &'a Device) -> Self {
        Self { seed, range, device }
    }

    /// Weights `[from, to]` and a zero bias.
    pub(super) fn linear(&self, name: &str, from: usize, to: usize) -> Linear {
        Linear { weight: self.normal(name, [from, to]), bias: Some(self.zeros(to)) }
    }

    /// A table `[rows, width]`.
    pub(super) fn embedding(&self, name: &str, rows: usize, width: usize) -> Embedding {
        Embedding { weight: self.normal(name, [rows, width]) }
    }

    pub(super) fn ones(&self, width: usize) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::ones([width], self.device))
    }

    /// These values.
    pub(super) fn values<const D: usize>(&self, shape: [usize; D], values: Vec<f32>) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    pub(super) fn zeros(&self, width: usize) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::zeros([width], self.device))
    }

    /// `[rows, columns]` from U(-`limit`, `limit`).
    pub(super) fn uniform(&self, name: &str, shape: [usize; 2], limit: f64) -> Param<Tensor<2>> {
        let mut rng = self.generator(name);
        let mut draw = || ((rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * limit;
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| draw() as f32).collect();
        self.values(shape, values)
    }

    fn generator(&self, name: &str) -> ChaCha8Rng {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(name.as_bytes());
        ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
    }

    /// `[rows, columns]` from N(0, `share * range`), cut off at two standard deviations: what lies beyond is drawn
    /// again.
    pub(super) fn cut_normal(&self, name: &str, [rows, columns]: [usize; 2], share: f64) -> Param<Tensor<2>> {
        let (mut rng, deviation) = (self.generator(name), self.range * share);
        let within = normals(&mut rng).filter(|x| x.abs() <= 2.0);
        self.values([rows, columns], within.map(|x| (x * deviation) as f32).take(rows * columns).collect())
    }

    pub(super) fn normal(&self, name: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        let mut rng = self.generator(name);
        let values: Vec<f32> = normals(&mut rng).map(|x| (x * self.range) as f32).take(shape[0] * shape[1]).collect();
        self.values(shape, values)
    }
}

/// Standard normal draws by Box and Muller's transform.
fn normals(rng: &mut impl RngCore) -> impl Iterator<Item = f64> {
    // 53 bits in (0, 1], so that the logarithm is finite.
    let mut uniform = move || ((rng.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    std::iter::repeat_with(move || {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        [radius * angle.cos(), radius * angle.sin()]
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_standard_normal() {
        let draws: Vec<f64> = normals(&mut ChaCha8Rng::seed_from_u64(1)).take(100_000).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        let within_one = draws.iter().filter(|x| x.abs() < 1.0).count() as f64 / draws.len() as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "mean {mean}, variance {variance}");
        assert!((within_one - 0.6827).abs() < 0.01, "{within_one} within one deviation");
    }

    #[test]
    fn a_parameter_depends_on_the_seed_and_its_name_alone() {
        let device = Device::flex();
        let draw = |seed, name| Init::new(seed, 0.02, &device).normal(name, [3, 5]).val().into_data();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
    }
}
