//! Dropout whose masks are a function of a key, not of a device's generator: the same on every device, and a resumed
//! run needs no random state.

#[cfg(feature = "gpu")]
mod cube;

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

#[cfg(feature = "gpu")]
pub(super) use cube::{Drawn, DrawnLaunch, can_draw, factors_of};

/// Draws the dropout masks of one forward pass. Each use is a new site; the mask of site `i` depends on `(key, i)`
/// only.
///
/// A forward pass over some rows of a batch, [`of_rows`](Dropout::of_rows), draws those rows of the whole batch's
/// masks, as long as rows come in the batch's order: however a batch is cut, it is the same batch.
#[derive(Debug, Clone)]
pub struct Dropout {
    rate: f64,
    key: u64,
    site: u64,
    rows: Range<usize>,
}

impl Dropout {
    /// Drops each element with probability `rate` in `[0, 1)`.
    pub fn new(rate: f64, key: u64) -> Self {
        Self { rate, key, site: 0, rows: 0..1 }
    }

    /// For a forward pass over these rows of a batch; every tensor that is dropped from has the same number of elements
    /// a row.
    #[must_use]
    pub fn of_rows(self, rows: Range<usize>) -> Self {
        Self { rows, ..self }
    }

    /// No dropout: evaluation, and every teacher.
    pub fn off() -> Self {
        Self::new(0.0, 0)
    }

    /// Whether kernels that draw words of four elements, from the first on, can draw the masks of so many elements;
    /// always so where nothing is dropped.
    #[cfg(any(feature = "gpu", test))]
    pub(super) fn is_whole_words(&self, elements: usize, can_draw: impl FnOnce() -> bool) -> bool {
        self.rate == 0.0 || self.first(elements).is_multiple_of(4) && can_draw()
    }

    /// Where in the whole batch's mask that of so many elements begins.
    fn first(&self, elements: usize) -> usize {
        self.rows.start * (elements / self.rows.len().max(1))
    }

    /// A mask of its own rate, for values that share it (a row's steps, say); none while dropout is off.
    pub fn shared_mask<const D: usize>(&mut self, rate: f64, shape: [usize; D], device: &Device) -> Option<Tensor<D>> {
        if self.rate == 0.0 || rate == 0.0 {
            return None;
        }
        let mut factors = vec![0.0; shape.iter().product()];
        self.next_mask(rate, factors.len()).factors(0, &mut factors);
        Some(Tensor::from_data(TensorData::new(factors, shape), device))
    }

    /// Zeroes a random share of `x` and scales the rest up, so that the expectation stays (inverted dropout).
    pub fn apply<const D: usize>(&mut self, x: Tensor<D>) -> Tensor<D> {
        let (shape, device) = (x.dims(), x.device().inner());
        let elements = shape.iter().product();
        let Some(mask) = self.mask(elements) else { return x };
        #[cfg(feature = "gpu")]
        if !crate::device::is_cpu(&device)
            && mask.skip == 0
            && let Some(factors) = cube::factors(mask, shape, &device)
        {
            return x * factors;
        }
        let mut factors = vec![0.0; elements];
        mask.factors(0, &mut factors);
        x * Tensor::<D>::from_data(TensorData::new(factors, shape), &device)
    }

    /// The mask of the next site, for so many elements; `None` when nothing is dropped.
    pub(super) fn mask(&mut self, elements: usize) -> Option<Mask> {
        (self.rate > 0.0).then(|| self.next_mask(self.rate, elements))
    }

    fn next_mask(&mut self, rate: f64, elements: usize) -> Mask {
        let (key, first) = (mix(self.key ^ mix(self.site)), self.first(elements));
        self.site += 1;
        let dropped_below = (rate * 65536.0).round() as u16;
        let kept = (1.0 / (1.0 - f64::from(dropped_below) / 65536.0)) as f32;
        // The words before the first one are another key.
        Mask { key: key.wrapping_add((first as u64 / 4).wrapping_mul(GOLDEN)), skip: first % 4, dropped_below, kept }
    }
}

/// The factors of one site: 0, or the inverse of the share that is kept; 16 random bits an element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    key: u64,
    /// Elements of the first word that are not of this mask; 0 where a kernel draws it.
    skip: usize,
    dropped_below: u16,
    kept: f32,
}

impl Mask {
    /// The key, the draws of 16 bits below which an element is dropped, and what the others are multiplied by.
    #[cfg(feature = "gpu")]
    fn parts(self) -> (u64, u16, f32) {
        debug_assert_eq!(self.skip, 0, "kernels draw whole words");
        (self.key, self.dropped_below, self.kept)
    }

    /// The factors of elements `from..from + out.len()`.
    pub fn factors(&self, from: usize, out: &mut [f32]) {
        let from = self.skip + from;
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
            Dropout::new(0.1, key).mask(from + count).unwrap().factors(from, &mut out);
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
    fn a_parts_mask_is_its_rows_of_the_whole_batchs() {
        // Rows of 5 and of 8 elements: of the first only each fourth begins with a word.
        for row in [5, 8] {
            let of = |rows: Range<usize>| {
                let mut dropout = Dropout::new(0.3, 11).of_rows(rows.clone());
                let masks = [0, 1].map(|_| dropout.apply(Tensor::<2>::ones([rows.len(), row], &Device::flex())));
                Tensor::cat(masks.to_vec(), 1).into_data()
            };
            let whole: Vec<f32> = of(0..7).try_to_vec().unwrap();
            for rows in [0..7, 0..3, 3..4, 4..7, 5..7] {
                let part: Vec<f32> = of(rows.clone()).try_to_vec().unwrap();
                assert_eq!(part, whole[rows.start * 2 * row..rows.end * 2 * row], "{rows:?} of {row}");
            }
            let mut dropout = Dropout::new(0.3, 11).of_rows(3..6);
            assert_eq!(dropout.is_whole_words(3 * row, || true), row == 8);
            assert!(!dropout.is_whole_words(3 * row, || false) && Dropout::off().is_whole_words(3 * row, || false));
            assert_eq!(dropout.mask(3 * row).unwrap().skip, if row == 8 { 0 } else { 3 });
        }
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
