//! A gated feed-forward layer's middle (Shazeer 2020, SwiGLU): what goes through SiLU times its gate.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// `silu(a) * b` with `silu(x) = x / (1 + e^-x)`: two of `[n, f]` to `[n, f]`, in the product's numbers.
pub fn silu_gate(a_nf: Tensor<2>, b_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Cpu | Form::CpuBf16 => spent::on(Part::Dense, || cpu::silu_gate(a_nf, b_nf)),
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::silu_gate(a_nf, b_nf, compute),
        Form::Composed => composed::silu_gate(a_nf, b_nf, compute),
    }
}
