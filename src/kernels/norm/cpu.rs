//! The norm of a sum in plain Rust, in one pass each way.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::Norm;
use crate::kernels::dropout::Mask;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::zeros;
use crate::kernels::spent::Part;
use crate::kernels::vector::on_vectors;

/// Rows that a thread takes at a time; sums over rows are added up by such parts, whoever took them.
const ROWS: usize = 64;

/// See [`norm_of_sum`](super::norm_of_sum).
pub(super) fn norm_of_sum(x_nd: &Tensor<2>, residual_nd: Option<&Tensor<2>>, norm: &Norm, mask: Option<Mask>) -> Tensor<2> {
    let Norm { gamma_d, beta_d, epsilon } = norm;
    let epsilon = *epsilon as f32;
    let [n, d] = x_nd.dims();
    let (x, residual, gamma, beta) = (host(x_nd), residual_nd.map(host), host(gamma_d), host(beta_d));
    let mut normed_nd = zeros(n * d);
    let mut out_nd = zeros(n * d);
    let mut scale_n = vec![0.0; n];
    let part = ROWS * d;
    normed_nd.par_chunks_mut(part).zip(out_nd.par_chunks_mut(part)).zip(scale_n.par_chunks_mut(ROWS)).enumerate().for_each(
        |(at, ((normed, out), scale))| {
            let from = at * part;
            normed.copy_from_slice(&slice(&x)[from..from + normed.len()]);
            if let Some(mask) = &mask {
                mask.factors(from, out);
            }
            on_vectors(|| {
                if mask.is_some() {
                    normed.iter_mut().zip(out.iter()).for_each(|(y, factor)| *y *= factor);
                }
                if let Some(residual) = &residual {
                    normed.iter_mut().zip(&slice(residual)[from..]).for_each(|(y, r)| *y += r);
                }
                for ((normed_d, out_d), scale) in normed.chunks_mut(d).zip(out.chunks_mut(d)).zip(scale) {
                    *scale = norm_row(normed_d, epsilon);
                    for (((out, normed), gamma), beta) in out_d.iter_mut().zip(&*normed_d).zip(slice(&gamma)).zip(slice(&beta)) {
                        *out = normed * gamma + beta;
                    }
                }
            });
        },
    );
    let saved = Saved { normed_nd, scale_n, gamma, mask };
    let [gamma_d, beta_d] = [gamma_d, beta_d].map(|x| Parent::of(x.clone()));
    let x_nd = Parent::of(x_nd.clone());
    match residual_nd {
        Some(residual_nd) => {
            with_gradient(out_nd, [n, d], [x_nd, Parent::of(residual_nd.clone()), gamma_d, beta_d], OfSum(saved))
        }
        None => with_gradient(out_nd, [n, d], [x_nd, gamma_d, beta_d], Alone(saved)),
    }
}

/// Subtracts the mean and divides by the standard deviation; gives what was multiplied by.
#[inline(always)]
fn norm_row(row_d: &mut [f32], epsilon: f32) -> f32 {
    let d = row_d.len() as f32;
    let mean = sum(row_d, |x| x) / d;
    row_d.iter_mut().for_each(|x| *x -= mean);
    let scale = 1.0 / (sum(row_d, |x| x * x) / d + epsilon).sqrt();
    row_d.iter_mut().for_each(|x| *x *= scale);
    scale
}

/// A sum in 16 lanes, which the compiler may not make of a plain one.
#[inline(always)]
fn sum(row_d: &[f32], each: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let whole = row_d.chunks_exact(LANES);
    let rest: f32 = whole.remainder().iter().map(|&x| each(x)).sum();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += each(x);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// What the backward passes need.
#[derive(Debug)]
struct Saved {
    normed_nd: Vec<f32>,
    scale_n: Vec<f32>,
    gamma: HostTensor,
    mask: Option<Mask>,
}

impl Saved {
    /// The gradient with respect to the sum, before dropout's, and those of scale and shift.
    fn of_sum(&self, above_nd: &[f32]) -> (Vec<f32>, [Vec<f32>; 2]) {
        let gamma_d = slice(&self.gamma);
        let d = gamma_d.len();
        let part = ROWS * d;
        let mut of_sum_nd = zeros(above_nd.len());
        let parts: Vec<[Vec<f32>; 2]> = of_sum_nd
            .par_chunks_mut(part)
            .zip(self.normed_nd.par_chunks(part).zip(above_nd.par_chunks(part)).zip(self.scale_n.par_chunks(ROWS)))
            .map(|(of_sum, ((normed, above), scale))| {
                let (mut of_gamma, mut of_beta) = (vec![0.0f32; d], vec![0.0f32; d]);
                on_vectors(|| {
                    for (((of_sum_d, normed_d), above_d), scale) in
                        of_sum.chunks_mut(d).zip(normed.chunks(d)).zip(above.chunks(d)).zip(scale)
                    {
                        for i in 0..d {
                            of_gamma[i] += above_d[i] * normed_d[i];
                            of_beta[i] += above_d[i];
                            of_sum_d[i] = above_d[i] * gamma_d[i];
                        }
                        norm_row_backward(of_sum_d, normed_d, *scale);
                    }
                });
                [of_gamma, of_beta]
            })
            .collect();
        let total = |which: usize| {
            let mut total_d = vec![0.0; d];
            parts.iter().for_each(|part| total_d.iter_mut().zip(&part[which]).for_each(|(total, x)| *total += x));
            total_d
        };
        let of_norm = [total(0), total(1)];
        (of_sum_nd, of_norm)
    }

    /// The gradient with respect to `x`, from that with respect to the sum.
    fn of_x(&self, mut of_sum_nd: Vec<f32>) -> Vec<f32> {
        let part = ROWS * slice(&self.gamma).len();
        if let Some(mask) = &self.mask {
            of_sum_nd.par_chunks_mut(part).enumerate().for_each(|(at, of_x)| {
                let mut factors = vec![0.0; of_x.len()];
                mask.factors(at * part, &mut factors);
                of_x.iter_mut().zip(factors).for_each(|(of_x, factor)| *of_x *= factor);
            });
        }
        of_sum_nd
    }
}

/// A norm by itself.
#[derive(Debug)]
struct Alone(Saved);

impl HostBackward<3> for Alone {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_nd: &[f32], _: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let (of_x, [of_gamma, of_beta]) = self.0.of_sum(above_nd);
        [Some(of_x), Some(of_gamma), Some(of_beta)]
    }
}

/// The norm of a sum.
#[derive(Debug)]
struct OfSum(Saved);

impl HostBackward<4> for OfSum {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_nd: &[f32], [_, wants_residual, ..]: [bool; 4]) -> [Option<Vec<f32>>; 4] {
        let (of_sum, [of_gamma, of_beta]) = self.0.of_sum(above_nd);
        let of_residual = wants_residual.then(|| of_sum.clone());
        [Some(self.0.of_x(of_sum)), of_residual, Some(of_gamma), Some(of_beta)]
    }
}

/// From the gradient with respect to the normed row to that with respect to the row, in place.
#[inline(always)]
fn norm_row_backward(gradient_d: &mut [f32], normed_d: &[f32], scale: f32) {
    let d = gradient_d.len();
    let mean = sum(gradient_d, |x| x) / d as f32;
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let whole = d / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            lanes[lane] += gradient_d[at + lane] * normed_d[at + lane];
        }
    }
    let rest: f32 = (whole..d).map(|i| gradient_d[i] * normed_d[i]).sum();
    let along = (lanes.iter().sum::<f32>() + rest) / d as f32;
    for (gradient, normed) in gradient_d.iter_mut().zip(normed_d) {
        *gradient = scale * (*gradient - mean - normed * along);
    }
}
