//! A gated feed-forward layer's middle (Shazeer 2020, GEGLU): what goes through GELU times its gate.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// `gelu(a) * b` of `[a, b]` side by side, with the error function's GELU: `[n, 2 f]` to `[n, f]`, in the product's
/// numbers.
pub fn gelu_gate(x_ng: Tensor<2>, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Cpu | Form::CpuBf16 => spent::on(Part::Dense, || cpu::gelu_gate(x_ng)),
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::gelu_gate(x_ng, compute),
        Form::Composed => composed::gelu_gate(x_ng, compute),
    }
}
