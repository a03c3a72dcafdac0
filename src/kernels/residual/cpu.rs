//! What a pre-norm layer adds to the residual stream.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::dropout::Mask;
use super::host::{HostBackward, HostTensor, PARENTS, host, slice, with_gradient};
use super::matrix::{Matrix, add_product, made, multiply};
use super::spent::{self, Part};
use super::{Compute, Dense, Dropout, dense, in_f32, matmul};

/// `dropout(x W) + residual`: `[n, f]` by `[f, d]` and `[n, d]` to `[n, d]`, in f32.
pub fn dense_sum(
    x_nf: Tensor<2>,
    weight_fd: Tensor<2>,
    residual_nd: Tensor<2>,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    if compute.is_bf16_on_cpu() {
        // The product's numbers are the dense layers' there; a sum of its own is little beside it.
        let bias_f = Tensor::zeros([weight_fd.dims()[1]], &weight_fd.device());
        return dropout.apply(dense(x_nf, &Dense { weight_df: weight_fd, bias_f }, compute)) + residual_nd;
    }
    if compute.is_fused_on_cpu() {
        let mask = dropout.mask(residual_nd.dims().iter().product());
        return spent::on(Part::Dense, || fused(x_nf, weight_fd, residual_nd, mask));
    }
    let product_nd = in_f32(matmul(compute.factor(x_nf), compute.factor(weight_fd), compute));
    dropout.apply(product_nd) + residual_nd
}

/// Elements that a thread takes at a time.
const PART: usize = 16 << 10;

fn fused(x_nf: Tensor<2>, weight_fd: Tensor<2>, residual_nd: Tensor<2>, mask: Option<Mask>) -> Tensor<2> {
    let ([n, d], f) = (residual_nd.dims(), x_nf.dims()[1]);
    let residual = host(&residual_nd);
    let saved = Saved { x_nf: host(&x_nf), weight_fd: host(&weight_fd), mask, f, d };
    let (x, weight) = (Matrix::new(slice(&saved.x_nf), f), Matrix::new(slice(&saved.weight_fd), d));
    let residual_parts = slice(&residual).par_chunks(PART);
    let mut out_nd;
    if let Some(mask) = &mask {
        out_nd = multiply(x, weight);
        out_nd.par_chunks_mut(PART).zip(residual_parts).enumerate().for_each(|(at, (out, residual))| {
            let mut factors = vec![0.0; out.len()];
            mask.factors(at * PART, &mut factors);
            out.iter_mut().zip(&factors).zip(residual).for_each(|((out, factor), residual)| *out = *out * factor + residual);
        });
    } else {
        out_nd = made(n * d, PART, |at, out| out.copy_from_slice(&slice(&residual)[at * PART..][..out.len()]));
        add_product(&mut out_nd, x, weight);
    }
    let parents = [x_nf, weight_fd, residual_nd].map(|parent| Some(parent.into_dispatch()));
    let [x_nf, weight_fd, residual_nd] = parents;
    with_gradient(out_nd, [n, d], [x_nf, weight_fd, residual_nd, None], saved)
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    x_nf: HostTensor,
    weight_fd: HostTensor,
    mask: Option<Mask>,
    f: usize,
    d: usize,
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nd: &[f32], wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let Self { f, d, .. } = *self;
        let copy = |at: usize, part: &mut [f32]| part.copy_from_slice(&above_nd[at * PART..][..part.len()]);
        let of_residual = if wanted[2] { made(above_nd.len(), PART, copy) } else { Vec::new() };
        let dropped;
        let above_nd = match &self.mask {
            None => above_nd,
            Some(mask) => {
                dropped = made(above_nd.len(), PART, |at, factors| {
                    mask.factors(at * PART, factors);
                    factors.iter_mut().zip(&above_nd[at * PART..]).for_each(|(factor, above)| *factor *= above);
                });
                &dropped
            }
        };
        let (x_nf, weight_fd) = (Matrix::new(slice(&self.x_nf), f), Matrix::new(slice(&self.weight_fd), d));
        let above = Matrix::new(above_nd, d);
        let of_x = if wanted[0] { multiply(above, weight_fd.transposed()) } else { Vec::new() };
        let of_weight = if wanted[1] { multiply(x_nf.transposed(), above) } else { Vec::new() };
        [of_x, of_weight, of_residual, Vec::new()]
    }
}
