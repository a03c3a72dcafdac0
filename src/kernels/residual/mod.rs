//! What a pre-norm layer adds to the residual stream.

mod composed;
mod cpu;

use burn::tensor::Tensor;

use super::dense::{Dense, dense};
use super::dropout::Dropout;
use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// `dropout(x W) + residual`: `[n, f]` by `[f, d]` and `[n, d]` to `[n, d]`, in f32.
pub fn dense_sum(
    x_nf: Tensor<2>,
    weight_fd: Tensor<2>,
    residual_nd: Tensor<2>,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    match compute.form() {
        Form::Cpu => {
            let mask = dropout.mask(residual_nd.dims().iter().product());
            spent::on(Part::Dense, || cpu::dense_sum(x_nf, weight_fd, residual_nd, mask))
        }
        // The product's numbers are the dense layers' there; a sum of its own is little beside it.
        Form::CpuBf16 => {
            let bias_f = Tensor::zeros([weight_fd.dims()[1]], &weight_fd.device());
            dropout.apply(dense(x_nf, &Dense { weight_df: weight_fd, bias_f }, compute)) + residual_nd
        }
        _ => composed::dense_sum(x_nf, weight_fd, residual_nd, dropout, compute),
    }
}
