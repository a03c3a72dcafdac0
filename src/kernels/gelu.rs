//! GELU by the error function, `x * Phi(x)` (Hendrycks and Gimpel 2016), as the forms of dense and gated layers have
//! it.

use burn::tensor::Tensor;
use burn::tensor::activation::gelu;

use super::vector::{erf, exp};
use crate::device::is_cpu;

/// GELU by the error function, `x * Phi(x)`, in burn operations with its exact gradient everywhere: burn 0.22's own
/// backward pass is an approximation on GPUs (off by up to 9e-4), so there it is composed of operations whose gradients
/// are exact.
pub fn erf_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_cpu(&x.device()) {
        return gelu(x);
    }
    (x.clone().div_scalar(std::f32::consts::SQRT_2).erf() + 1.0) * x * 0.5
}

/// Phi(x) and x phi(x), with phi the normal density and Phi its integral: GELU is x times the first, and its slope is
/// their sum.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;
    (0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2), x * INVERSE_SQRT_2_PI * exp(-0.5 * x * x))
}
