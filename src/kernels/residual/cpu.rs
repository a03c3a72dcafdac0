//! A product that is added to the residual stream, in plain Rust.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::kernels::dropout::Mask;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::{Matrix, add_product, made, multiply};
use crate::kernels::spent::Part;

/// Elements that a thread takes at a time.
const PART: usize = 16 << 10;

/// See [`dense_sum`](super::dense_sum).
pub(super) fn dense_sum(x_nf: Tensor<2>, weight_fd: Tensor<2>, residual_nd: Tensor<2>, mask: Option<Mask>) -> Tensor<2> {
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
    with_gradient(out_nd, [n, d], [x_nf, weight_fd, residual_nd].map(Parent::of), saved)
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

impl HostBackward<3> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nd: &[f32], [wants_x, wants_weight, wants_residual]: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let Self { f, d, .. } = *self;
        let copy = |at: usize, part: &mut [f32]| part.copy_from_slice(&above_nd[at * PART..][..part.len()]);
        let of_residual = wants_residual.then(|| made(above_nd.len(), PART, copy));
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
        let of_x = wants_x.then(|| multiply(above, weight_fd.transposed()));
        let of_weight = wants_weight.then(|| multiply(x_nf.transposed(), above));
        [of_x, of_weight, of_residual]
    }
}
