//! Normalisation by the root of the mean square (Zhang and Sennrich 2019).

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// `gamma x / sqrt(mean(x^2) + epsilon)` over each `w` numbers of a row, where `w` is as many as `gamma_w` has: `[n,
/// e]` to `[n, e]`, with `e` a multiple of `w`: a whole row, or a head at a time. In f32, whatever `x` comes in.
pub fn rms_norm(x_ne: Tensor<2>, gamma_w: Tensor<1>, epsilon: f64, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Cpu | Form::CpuBf16 => spent::on(Part::Norm, || cpu::rms_norm(&x_ne, &gamma_w, epsilon as f32)),
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::rms_norm(x_ne, gamma_w, epsilon as f32),
        Form::Composed => composed::rms_norm(x_ne, gamma_w, epsilon),
    }
}
