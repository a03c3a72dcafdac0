//! A gated feed-forward layer's middle (Shazeer 2020, SwiGLU): what goes through SiLU times its gate.

mod cpu;

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use super::form::{Form, in_f32};
use super::spent::{self, Part};
use crate::device::Compute;

/// `silu(a) * b` with `silu(x) = x / (1 + e^-x)`: two of `[n, f]` to `[n, f]`, in the product's numbers.
pub fn silu_gate(a_nf: Tensor<2>, b_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Cpu | Form::CpuBf16 => spent::on(Part::Dense, || cpu::silu_gate(a_nf, b_nf)),
        _ => compute.factor(silu(in_f32(a_nf)) * in_f32(b_nf)),
    }
}
