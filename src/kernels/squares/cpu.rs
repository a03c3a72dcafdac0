//! The sum of squares on the CPU: one pass over memory, on all threads.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::kernels::host::{host, slice};
use crate::kernels::spent::{self, Part};
use crate::kernels::vector::on_vectors;

/// Elements that a thread takes at a time; sums are added up by such parts, whoever took them.
const PART: usize = 32 << 10;

/// The sum of the squares of all elements of a tensor on the CPU, in f64.
pub(crate) fn sum_of_squares<const D: usize>(x: &Tensor<D>) -> f64 {
    const LANES: usize = 16;
    let part = |part: &[f32]| {
        on_vectors(|| {
            let mut lanes = [0.0f64; LANES];
            for chunk in part.chunks(LANES) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            lanes.iter().sum::<f64>()
        })
    };
    let sums: Vec<f64> = spent::on(Part::Optimizer, || slice(&host(x)).par_chunks(PART).map(part).collect());
    sums.iter().sum()
}
