//! A dense layer, with or without GELU.

use burn::tensor::Tensor;
use burn::tensor::activation::gelu;
use rayon::prelude::*;

use super::host::{HostBackward, HostTensor, PARENTS, host, slice, with_gradient};
use super::matrix::{Matrix, add_columns, add_product, multiply, zeros};
use super::spent::{self, Part};
use super::vector::{erf, exp, on_vectors};
use super::{Compute, bf16, cube, in_f32, matmul};
use crate::device::is_cpu;

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
    if compute.is_fused_on_gpu(None) {
        return cube::dense(x_nd, layer, false, compute);
    }
    if compute.is_bf16_on_cpu() {
        return spent::on(Part::Dense, || bf16::dense(&x_nd, layer, false));
    }
    match compute.is_fused_on_cpu() {
        true => spent::on(Part::Dense, || fused(&x_nd, layer, false)),
        false => composed(x_nd, layer, compute),
    }
}

/// `x W`, without a bias: `[n, d]` by `[d, f]` to `[n, f]`, in the product's numbers.
pub fn linear(x_nd: Tensor<2>, weight_df: Tensor<2>, compute: &Compute) -> Tensor<2> {
    if compute.is_fused_on_cpu() && !compute.is_bf16_on_cpu() {
        return spent::on(Part::Dense, || without_bias(x_nd, weight_df));
    }
    let bias_f = Tensor::zeros([weight_df.dims()[1]], &weight_df.device());
    dense(x_nd, &Dense { weight_df, bias_f }, compute)
}

/// `gelu(x W + b)`, with the error function's GELU (Hendrycks and Gimpel 2016).
pub fn dense_gelu(x_nd: Tensor<2>, layer: &Dense, compute: &Compute) -> Tensor<2> {
    if compute.is_fused_on_gpu(None) {
        return cube::dense(x_nd, layer, true, compute);
    }
    if compute.is_bf16_on_cpu() {
        return spent::on(Part::Dense, || bf16::dense(&x_nd, layer, true));
    }
    match compute.is_fused_on_cpu() {
        true => spent::on(Part::Dense, || fused(&x_nd, layer, true)),
        false => compute.factor(erf_gelu(in_f32(composed(x_nd, layer, compute)))),
    }
}

fn composed(x_nd: Tensor<2>, layer: &Dense, compute: &Compute) -> Tensor<2> {
    let Dense { weight_df, bias_f } = layer.clone();
    matmul(compute.factor(x_nd), compute.factor(weight_df), compute) + compute.factor(bias_f).unsqueeze()
}

/// GELU by the error function, `x * Phi(x)`, in burn operations with its exact gradient everywhere: burn 0.22's own
/// backward pass is an approximation on GPUs (off by up to 9e-4), so there it is composed of operations whose gradients
/// are exact.
pub fn erf_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_cpu(&x.device()) {
        return gelu(x);
    }
    (x.clone().div_scalar(std::f32::consts::SQRT_2).erf() + 1.0) * x * 0.5
}

fn without_bias(x_nd: Tensor<2>, weight_df: Tensor<2>) -> Tensor<2> {
    let ([n, d], [_, f]) = (x_nd.dims(), weight_df.dims());
    let saved = Saved { x_nd: host(&x_nd), weight_df: host(&weight_df), slope_nf: Vec::new(), d, f };
    let out_nf = multiply(Matrix::new(slice(&saved.x_nd), d), Matrix::new(slice(&saved.weight_df), f));
    let [x_nd, weight_df] = [x_nd, weight_df].map(|parent| Some(parent.into_dispatch()));
    with_gradient(out_nf, [n, f], [x_nd, weight_df, None, None], saved)
}

fn fused(x_nd: &Tensor<2>, Dense { weight_df, bias_f }: &Dense, has_gelu: bool) -> Tensor<2> {
    let [n, d] = x_nd.dims();
    let [_, f] = weight_df.dims();
    let tracked = [x_nd.device(), weight_df.device()].iter().any(burn::tensor::Device::is_autodiff);
    let saved = Saved { x_nd: host(x_nd), weight_df: host(weight_df), slope_nf: Vec::new(), d, f };
    let bias = host(bias_f);
    let mut out_nf = zeros(n * f);
    out_nf.par_chunks_mut(f.max(1)).for_each(|out_f| out_f.copy_from_slice(slice(&bias)));
    add_product(&mut out_nf, Matrix::new(slice(&saved.x_nd), d), Matrix::new(slice(&saved.weight_df), f));
    let slope_nf = match (has_gelu, tracked) {
        (true, true) => gelu_and_slope(&mut out_nf),
        (true, false) => {
            gelu_alone(&mut out_nf);
            Vec::new()
        }
        (false, _) => Vec::new(),
    };
    let parents =
        [Some(x_nd.clone().into_dispatch()), Some(weight_df.clone().into_dispatch()), Some(bias_f.clone().into_dispatch()), None];
    with_gradient(out_nf, [n, f], parents, Saved { slope_nf, ..saved })
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    x_nd: HostTensor,
    weight_df: HostTensor,
    /// GELU's slope; empty without GELU.
    slope_nf: Vec<f32>,
    d: usize,
    f: usize,
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let Self { d, f, .. } = *self;
        let scaled;
        let above_nf = if self.slope_nf.is_empty() {
            above_nf
        } else {
            scaled = times(above_nf, &self.slope_nf);
            &scaled
        };
        let (x_nd, weight_df) = (Matrix::new(slice(&self.x_nd), d), Matrix::new(slice(&self.weight_df), f));
        let above = Matrix::new(above_nf, f);
        let of_x = if wanted[0] { multiply(above, weight_df.transposed()) } else { Vec::new() };
        let of_weight = if wanted[1] { multiply(x_nd.transposed(), above) } else { Vec::new() };
        let mut of_bias = vec![0.0; if wanted[2] { f } else { 0 }];
        if wanted[2] {
            add_columns(&mut of_bias, above_nf);
        }
        [of_x, of_weight, of_bias, Vec::new()]
    }
}

/// Elements that a thread takes at a time.
const PART: usize = 16 << 10;

fn times(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut out = zeros(a.len());
    out.par_chunks_mut(PART).zip(a.par_chunks(PART).zip(b.par_chunks(PART))).for_each(|(out, (a, b))| {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a * b);
    });
    out
}

/// Phi(x) and x phi(x), with phi the normal density and Phi its integral.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;
    (0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2), x * INVERSE_SQRT_2_PI * exp(-0.5 * x * x))
}

/// Replaces `x` by `gelu(x)`.
fn gelu_alone(x: &mut [f32]) {
    x.par_chunks_mut(PART).for_each(|x| on_vectors(|| x.iter_mut().for_each(|x| *x *= normal(*x).0)));
}

/// Replaces `x` by `gelu(x)`, and gives the slope of each.
fn gelu_and_slope(x: &mut [f32]) -> Vec<f32> {
    let mut slope = zeros(x.len());
    x.par_chunks_mut(PART).zip(slope.par_chunks_mut(PART)).for_each(|(x, slope)| {
        on_vectors(|| {
            for (x, slope) in x.iter_mut().zip(slope) {
                let (below, density) = normal(*x);
                *slope = below + density;
                *x *= below;
            }
        });
    });
    slope
}
