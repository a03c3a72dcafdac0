//! GELU by the hyperbolic tangent, as GPT-2 has it (Hendrycks and Gimpel 2016).

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// The share of `x^3` in what the hyperbolic tangent is taken of.
const CUBE: f32 = 0.044_715;
/// `2 sqrt(2 / pi)`.
const TWICE_SCALE: f32 = 1.595_769;

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, which is `x / (1 + e^-2u)` with `u` what the tangent is taken of:
/// `[n, f]` to `[n, f]`, in the product's numbers.
pub fn tanh_gelu(x_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Cpu | Form::CpuBf16 => spent::on(Part::Dense, || cpu::tanh_gelu(x_nf)),
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::tanh_gelu(x_nf, compute),
        Form::Composed => composed::tanh_gelu(x_nf, compute),
    }
}
