//! Layer normalisation of a sum: what ends each half of an encoder layer (Ba et al. 2016; Vaswani et al. 2017).

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

use super::dense::{Dense, dense};
use super::dropout::Dropout;
use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// The parameters of a layer norm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Scale, `[d]`.
    pub gamma_d: Tensor<1>,
    /// Shift, `[d]`.
    pub beta_d: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// `gamma (y - mean) / sqrt(variance + epsilon) + beta` over each row of `y = dropout(x) + residual`, all `[n, d]`;
/// without a residual there is no dropout either. In f32, whatever `x` comes in.
pub fn norm_of_sum(
    x_nd: Tensor<2>,
    residual_nd: Option<Tensor<2>>,
    norm: &Norm,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let elements = x_nd.dims().iter().product();
    let form = compute.form_with(dropout, elements);
    if form == Form::Composed {
        return composed::norm_of_sum(x_nd, residual_nd, norm, dropout);
    }
    let mask = residual_nd.as_ref().and_then(|_| dropout.mask(elements));
    #[cfg(feature = "gpu")]
    if form == Form::Gpu {
        return cube::norm_of_sum(x_nd, residual_nd, norm, mask);
    }
    spent::on(Part::Norm, || cpu::norm_of_sum(&x_nd, residual_nd.as_ref(), norm, mask))
}

/// [`norm_of_sum`] of a [`dense`] layer's `x W + b`: `[n, f]` and a residual `[n, d]` to `[n, d]`. On a GPU the sum
/// takes the bias along.
pub fn dense_norm(
    x_nf: Tensor<2>,
    layer: &Dense,
    residual_nd: Tensor<2>,
    norm: &Norm,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    {
        let elements = residual_nd.dims().iter().product();
        if compute.form_with(dropout, elements) == Form::Gpu {
            return cube::dense_norm(x_nf, layer, residual_nd, norm, dropout.mask(elements), compute);
        }
    }
    norm_of_sum(dense(x_nf, layer, compute), Some(residual_nd), norm, dropout, compute)
}
