//! A dense layer in bf16: forward one product, backward two, each with all that belongs to it in the same pass.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::Dense;
use crate::kernels::bf16::{Factor, Second, finished, multiply};
use crate::kernels::gelu::normal;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::Matrix;
use crate::kernels::spent::Part;

/// See [`dense`](super::dense()) and [`dense_gelu`](super::dense_gelu).
pub(super) fn dense(x_nd: &Tensor<2>, layer: &Dense, has_gelu: bool) -> Tensor<2> {
    Read::new(x_nd, &[layer]).through(layer, has_gelu)
}

/// Dense layers of one input.
pub(in crate::kernels) fn several<const N: usize>(x_nd: &Tensor<2>, layers: &[Dense; N]) -> [Tensor<2>; N] {
    let read = Read::new(x_nd, &layers.each_ref());
    layers.each_ref().map(|layer| read.through(layer, false))
}

fn is_on_graph(x: &Tensor<2>) -> bool {
    x.device().is_autodiff()
}

/// What dense layers read, rounded once for all of them.
struct Read {
    x_nd: Tensor<2>,
    left: Factor,
    /// For the gradients of weights.
    turned: Option<Arc<Factor>>,
}

impl Read {
    /// `x`, `[n, d]`.
    fn new(x_nd: &Tensor<2>, layers: &[&Dense]) -> Self {
        let [_, d] = x_nd.dims();
        let x = host(x_nd);
        let (left, turned) = match layers.iter().any(|layer| is_on_graph(&layer.weight_df)) {
            true => {
                let ([left, turned], _) = Factor::two(slice(&x), None, d, Second::Turned);
                (left, Some(Arc::new(turned)))
            }
            false => (Factor::left(Matrix::new(slice(&x), d)), None),
        };
        Self { x_nd: x_nd.clone(), left, turned }
    }

    /// `x W + b`, or GELU of it: `[n, f]`.
    fn through(&self, Dense { weight_df, bias_f }: &Dense, has_gelu: bool) -> Tensor<2> {
        let [n, _] = self.x_nd.dims();
        let [d, f] = weight_df.dims();
        let is_tracked = is_on_graph(&self.x_nd) || is_on_graph(weight_df);
        let (weight, bias) = (host(weight_df), host(bias_f));
        let bias = slice(&bias);
        let right = Factor::right(Matrix::new(slice(&weight), f));
        let add_bias =
            |sums: &mut [f32], column: usize| sums.iter_mut().zip(&bias[column..]).for_each(|(sum, bias)| *sum += bias);
        let (out_nf, slope_nf) = match (has_gelu, is_tracked) {
            (false, _) => {
                let [out] = finished(&self.left, &right, |_, column, [sums]| add_bias(sums, column));
                (out, Vec::new())
            }
            (true, false) => {
                let [out] = finished(&self.left, &right, |_, column, [sums]| {
                    add_bias(sums, column);
                    sums.iter_mut().for_each(|x| *x *= normal(*x).0);
                });
                (out, Vec::new())
            }
            (true, true) => {
                let [out, slope] = finished(&self.left, &right, |_, column, [sums, slopes]| {
                    add_bias(sums, column);
                    for (x, slope) in sums.iter_mut().zip(slopes) {
                        let (below, density) = normal(*x);
                        *slope = below + density;
                        *x *= below;
                    }
                });
                (out, slope)
            }
        };
        let parents = [Parent::of(self.x_nd.clone()), Parent::of(weight_df.clone()), Parent::of(bias_f.clone())];
        with_gradient(out_nf, [n, f], parents, Saved { turned: self.turned.clone(), weight, slope_nf, d, f })
    }
}

/// What the backward pass needs.
struct Saved {
    turned: Option<Arc<Factor>>,
    weight: HostTensor,
    /// GELU's slope; empty without GELU.
    slope_nf: Vec<f32>,
    d: usize,
    f: usize,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a dense layer in bf16, {} to {}", self.d, self.f)
    }
}

impl HostBackward<3> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], [wants_x, wants_weight, _]: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let slope_nf = (!self.slope_nf.is_empty()).then_some(&self.slope_nf[..]);
        let ([left, right], of_bias) = Factor::two(above_nf, slope_nf, self.f, Second::Right);
        let weight_fd = Matrix::new(slice(&self.weight), self.f).transposed();
        let of_x = wants_x.then(|| multiply(&left, &Factor::right(weight_fd)));
        let turned = || self.turned.as_ref().expect("weights on a graph");
        let of_weight = wants_weight.then(|| multiply(turned(), &right));
        [of_x, of_weight, Some(of_bias)]
    }
}
