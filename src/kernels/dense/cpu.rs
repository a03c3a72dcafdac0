//! A dense layer in plain Rust.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::Dense;
use crate::kernels::gelu::normal;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::{Matrix, add_columns, add_product, multiply, zeros};
use crate::kernels::spent::Part;
use crate::kernels::vector::on_vectors;

/// See [`linear`](super::linear).
pub(super) fn linear(x_nd: Tensor<2>, weight_df: Tensor<2>) -> Tensor<2> {
    let ([n, d], [_, f]) = (x_nd.dims(), weight_df.dims());
    let saved = Saved { x_nd: host(&x_nd), weight_df: host(&weight_df), slope_nf: Vec::new(), d, f };
    let out_nf = multiply(Matrix::new(slice(&saved.x_nd), d), Matrix::new(slice(&saved.weight_df), f));
    with_gradient(out_nf, [n, f], [x_nd, weight_df].map(Parent::of), WithoutBias(saved))
}

/// See [`dense`](super::dense()) and [`dense_gelu`](super::dense_gelu).
pub(super) fn dense(x_nd: &Tensor<2>, Dense { weight_df, bias_f }: &Dense, has_gelu: bool) -> Tensor<2> {
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
    let parents = [Parent::of(x_nd.clone()), Parent::of(weight_df.clone()), Parent::of(bias_f.clone())];
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

impl HostBackward<3> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], [wants_x, wants_weight, wants_bias]: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let scaled;
        let above_nf = if self.slope_nf.is_empty() {
            above_nf
        } else {
            scaled = times(above_nf, &self.slope_nf);
            &scaled
        };
        let [of_x, of_weight] = self.of_product(above_nf, [wants_x, wants_weight]);
        let of_bias = wants_bias.then(|| {
            let mut of_bias = vec![0.0; self.f];
            add_columns(&mut of_bias, above_nf);
            of_bias
        });
        [of_x, of_weight, of_bias]
    }
}

impl Saved {
    /// The gradients of `x` and `W`, from that of their product.
    fn of_product(&self, above_nf: &[f32], [wants_x, wants_weight]: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        let Self { d, f, .. } = *self;
        let (x_nd, weight_df) = (Matrix::new(slice(&self.x_nd), d), Matrix::new(slice(&self.weight_df), f));
        let above = Matrix::new(above_nf, f);
        let of_x = wants_x.then(|| multiply(above, weight_df.transposed()));
        let of_weight = wants_weight.then(|| multiply(x_nd.transposed(), above));
        [of_x, of_weight]
    }
}

/// What the backward pass of a product alone needs.
#[derive(Debug)]
struct WithoutBias(Saved);

impl HostBackward<2> for WithoutBias {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], wanted: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        self.0.of_product(above_nf, wanted)
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
