//! Dense layers, with or without GELU, with or without a bias.

mod bf16;
mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

pub(super) use bf16::several;
#[cfg(feature = "gpu")]
pub(super) use cube::Factors;

use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// The parameters of a dense layer.
#[derive(Debug, Clone)]
pub struct Dense {
    /// `[d, f]`.
    pub weight_df: Tensor<2>,
    /// `[f]`.
    pub bias_f: Tensor<1>,
}

/// `x W + b`: `[n, d]` to `[n, f]`, in the product's numbers.
pub fn dense(x_nd: Tensor<2>, layer: &Dense, compute: &Compute) -> Tensor<2> {
    by_form(x_nd, layer, false, compute)
}

/// `gelu(x W + b)`, with the error function's GELU (Hendrycks and Gimpel 2016).
pub fn dense_gelu(x_nd: Tensor<2>, layer: &Dense, compute: &Compute) -> Tensor<2> {
    by_form(x_nd, layer, true, compute)
}

/// `x W`, without a bias: `[n, d]` by `[d, f]` to `[n, f]`, in the product's numbers.
pub fn linear(x_nd: Tensor<2>, weight_df: Tensor<2>, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Cpu => spent::on(Part::Dense, || cpu::linear(x_nd, weight_df)),
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::linear(x_nd, weight_df, compute),
        _ => {
            let bias_f = Tensor::zeros([weight_df.dims()[1]], &weight_df.device());
            dense(x_nd, &Dense { weight_df, bias_f }, compute)
        }
    }
}

fn by_form(x_nd: Tensor<2>, layer: &Dense, has_gelu: bool, compute: &Compute) -> Tensor<2> {
    match compute.form() {
        Form::Composed => composed::dense(x_nd, layer, has_gelu, compute),
        Form::Cpu => spent::on(Part::Dense, || cpu::dense(&x_nd, layer, has_gelu)),
        Form::CpuBf16 => spent::on(Part::Dense, || bf16::dense(&x_nd, layer, has_gelu)),
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::dense(x_nd, layer, has_gelu, compute),
    }
}
