//! GELU by the hyperbolic tangent, as GPT-2 has it (Hendrycks and Gimpel 2016).

mod cpu;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::form::{Form, in_f32};
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
        _ => {
            let x_nf = in_f32(x_nf);
            let twice_nf = (x_nf.clone() * x_nf.clone() * CUBE + 1.0) * x_nf.clone() * TWICE_SCALE;
            compute.factor(x_nf * sigmoid(twice_nf))
        }
    }
}
