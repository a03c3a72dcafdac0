//! Dropout whose masks are a function of a key, not of a device's generator: the same on every device, and a resumed
//! run needs no random state.

use burn::tensor::{Device, Tensor, TensorData};

use super::cube;
use crate::device::is_cpu;

/// Draws the dropout masks of one forward pass. Each use is a new site; the mask of site `i` depends on `(key, i)` only.
#[derive(Debug, Clone)]
pub struct Dropout {
    rate: f64,
    key: u64,
    site: u64,
}

impl Dropout {
    /// Drops each element with probability `rate` in `[0, 1)`.
    pub fn new(rate: f64, key: u64) -> Self {
        Self { rate, key, site: 0 }
    }

    /// No dropout: evaluation, and every teacher.
    pub fn off() -> Self {
        Self::new(0.0, 0)
    }

    /// Whether nothing is dropped.
    pub(super) fn is_off(&self) -> bool {
        self.rate == 0.0
    }

    /// A mask of its own rate, for values that share it (a row's steps, say); none while dropout is off.
    pub fn shared_mask<const D: usize>(&mut self, rate: f64, shape: [usize; D], device: &Device) -> Option<Tensor<D>> {
        if self.rate == 0.0 || rate == 0.0 {
            return None;
        }
        let mut factors = vec![0.0; shape.iter().product()];
        self.next_mask(rate).factors(0, &mut factors);
        Some(Tensor::from_data(TensorData::new(factors, shape), device))
    }

    /// Zeroes a random share of `x` and scales the rest up, so that the expectation stays (inverted dropout).
    pub fn apply<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        let Some(mask) = self.mask() else { return x };
        let (shape, device) = (x.dims(), x.device().inner());
        if !is_cpu(&device)
            && let Some(factors) = cube::factors(mask, shape, &device)
        {
            return x * factors;
        }
        let mut factors = vec![0.0; shape.iter().product()];
        mask.factors(0, &mut factors);
        x * Tensor::<D>::from_data(TensorData::new(factors, shape), &device)
    }

    /// The mask of the next site; `None` when nothing is dropped.
    pub(super) fn mask(&mut self) -> Option<Mask> {
        (self.rate > 0.0).then(|| self.next_mask(self.rate))
    }

    fn next_mask(&mut self, rate: f64) -> Mask {
        let key = mix(self.key ^ mix(self.site));
        self.site += 1;
        let dropped_below = (rate * 65536.0).round() as u16;
        Mask { key, dropped_below, kept: (1.0 / (1.0 - f64::from(dropped_below) / 65536.0)) as f32 }
    }
}

/// The factors of one site: 0, or the inverse of the share that is kept; 16 random bits an element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    key: u64,
    dropped_below: u16,
    kept: f32,
}

impl Mask {
    /// The key, the draws of 16 bits below which an element is dropped, and what the others are multiplied by.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "GPUs alone need them"))]
    pub(super) fn parts(self) -> (u64, u16, f32) {
        (self.key, self.dropped_below, self.kept)
    }

    /// The factors of elements `from..from + out.len()`.
    pub fn factors(&self, from: usize, out: &mut [f32]) {
        let factor = |word: u64, lane: usize| {
            let draw = (mix(self.key.wrapping_add(word.wrapping_mul(GOLDEN))) >> (16 * lane)) as u16;
            if draw < self.dropped_below { 0.0 } else { self.kept }
        };
        let ahead = (from.next_multiple_of(4) - from).min(out.len());
        let (head, body) = out.split_at_mut(ahead);
        for (i, x) in head.iter_mut().enumerate() {
            *x = factor(((from + i) / 4) as u64, (from + i) % 4);
        }
        for (word, four) in ((from + ahead) as u64 / 4..).zip(body.chunks_mut(4)) {
            let bits = mix(self.key.wrapping_add(word.wrapping_mul(GOLDEN)));
            for (lane, x) in four.iter_mut().enumerate() {
                *x = if ((bits >> (16 * lane)) as u16) < self.dropped_below { 0.0 } else { self.kept };
            }
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): a bijection that scatters neighbouring inputs.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_the_expectation_and_depends_on_the_key_alone() {
        let mask = |key: u64, from: usize, count: usize| {
            let mut out = vec![0.0; count];
            Dropout::new(0.1, key).mask().unwrap().factors(from, &mut out);
            out
        };
        let drawn = mask(7, 0, 100_001);
        assert_eq!(drawn, mask(7, 0, 100_001));
        assert_ne!(drawn, mask(8, 0, 100_001));
        for (from, count) in [(1, 2), (3, 10), (4, 4), (99, 0), (17, 99_984)] {
            assert_eq!(mask(7, from, count), drawn[from..from + count]);
        }
        let mean = drawn.iter().map(|&x| f64::from(x)).sum::<f64>() / drawn.len() as f64;
        assert!((mean - 1.0).abs() < 5e-3, "mean of the mask is {mean}");
    }

    #[test]
    fn each_site_has_a_mask_of_its_own() {
        let ones = Tensor::<2>::ones([8, 64], &Device::flex());
        let mut dropout = Dropout::new(0.5, 3);
        let (first, second) = (dropout.apply(ones.clone()).into_data(), dropout.apply(ones.clone()).into_data());
        assert_ne!(first, second);
        assert_eq!(Dropout::new(0.5, 3).apply(ones).into_data(), first);
    }
}
