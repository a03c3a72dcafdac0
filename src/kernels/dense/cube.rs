//! Dense layers: a product in the product's numbers, and in one pass after it the bias, with or without GELU. What goes
//! into a product is made of its numbers here, and gradients come in those of what they are of, so that no pass does
//! nothing but convert.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Dense;
use crate::device::{Compute, Kernels};
use crate::kernels::gpu::columns::columns;
use crate::kernels::gpu::normal::{bell, below};
use crate::kernels::gpu::{GpuBackward, cubes, like, on_gpu, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::matmul::{product, transposed};
use crate::kernels::spent::{self, Part};

/// A vector an invocation, of `elements` in all and `f` to a row, as in the kernels after it.
#[cube(launch)]
fn bias_kernel<F: Float, W: Size>(
    x_nf: &mut [Vector<F, W>],
    bias_f: &[Vector<f32, W>],
    elements: u32,
    f: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= elements as usize {
        terminate!();
    }
    x_nf[i] = Vector::cast_from(Vector::<f32, W>::cast_from(x_nf[i]) + bias_f[i % f as usize]);
}

#[cube(launch)]
fn gelu_kernel<F: Float, W: Size>(
    x_nf: &[Vector<F, W>],
    bias_f: &[Vector<f32, W>],
    out_nf: &mut [Vector<F, W>],
    elements: u32,
    f: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= elements as usize {
        terminate!();
    }
    let x = Vector::<f32, W>::cast_from(x_nf[i]) + bias_f[i % f as usize];
    out_nf[i] = Vector::cast_from(x * below(x, bell(x)));
}

#[cube(launch)]
fn gelu_backward_kernel<F: Float, W: Size>(
    x_nf: &[Vector<F, W>],
    bias_f: &[Vector<f32, W>],
    above_nf: &[Vector<F, W>],
    out_nf: &mut [Vector<F, W>],
    elements: u32,
    f: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= elements as usize {
        terminate!();
    }
    let x = Vector::<f32, W>::cast_from(x_nf[i]) + bias_f[i % f as usize];
    let bell = bell(x);
    let slope = below(x, bell) + x * bell * Vector::new(0.398_942_3f32);
    out_nf[i] = Vector::cast_from(Vector::<f32, W>::cast_from(above_nf[i]) * slope);
}

/// How `[n, f]` is gone through: cubes, a cube's shape, elements of a vector, and how many vectors there are in all and
/// in a row.
fn by_vectors(x_nf: &CubeTensor) -> (CubeCount, CubeDim, usize, [u32; 2]) {
    let f = x_nf.meta.shape()[1];
    let size = vector_size(f);
    let vectors = x_nf.meta.num_elements() / size;
    let (count, dim) = cubes(vectors);
    (count, dim, size, [vectors, f / size].map(|vectors| vectors as u32))
}

/// The two factors of a product, in its numbers.
#[derive(Debug)]
pub(in crate::kernels) struct Factors {
    x_nd: CubeTensor,
    weight_df: CubeTensor,
    /// The numbers that they came in, which their gradients have.
    came_in: [DType; 2],
    kernels: Kernels,
}

impl Factors {
    pub fn new(x_nd: CubeTensor, weight_df: CubeTensor, compute: &Compute) -> Self {
        let came_in = [x_nd.dtype, weight_df.dtype];
        let [x_nd, weight_df] = [x_nd, weight_df].map(|x| cast(x, compute.dtype()));
        Self { x_nd, weight_df, came_in, kernels: compute.kernels }
    }

    /// Sets the dtype in which the weight's gradient is given back: weights in f32 are cast for the product.
    pub fn with_gradient_in(self, weight: DType) -> Self {
        Self { came_in: [self.came_in[0], weight], ..self }
    }

    /// `x W`, `[n, f]`.
    pub fn product(&self) -> CubeTensor {
        spent::on_gpu(Part::Dense, &self.x_nd, || product(&self.x_nd, &self.weight_df, self.x_nd.dtype, self.kernels))
    }

    /// The gradients of `x` and `W`, those that are wanted; `above_nf` is that of their product.
    pub fn gradients(&self, above_nf: &CubeTensor, [wants_x, wants_weight]: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let [of_x, of_weight] = self.came_in;
        let products = || {
            [
                wants_x.then(|| product(above_nf, &transposed(&self.weight_df), of_x, self.kernels)),
                wants_weight.then(|| product(&transposed(&self.x_nd), above_nf, of_weight, self.kernels)),
            ]
        };
        spent::on_gpu(Part::Dense, above_nf, products)
    }
}

/// See [`dense`](super::dense()) and [`dense_gelu`](super::dense_gelu).
pub(super) fn dense(x_nd: Tensor<2>, layer: &Dense, has_gelu: bool, compute: &Compute) -> Tensor<2> {
    let of = on_gpu(&x_nd);
    let (out, saved) = spent::on_gpu(Part::Dense, &of, || forward(&of, layer, has_gelu, compute));
    let Dense { weight_df, bias_f } = layer.clone();
    with_gradient(out, [Parent::of(x_nd), Parent::of(weight_df), Parent::of(bias_f)], saved)
}

/// See [`linear`](super::linear).
pub(super) fn linear(x_nd: Tensor<2>, weight_df: Tensor<2>, compute: &Compute) -> Tensor<2> {
    let factors = Factors::new(on_gpu(&x_nd), on_gpu(&weight_df), compute);
    with_gradient(factors.product(), [x_nd, weight_df].map(Parent::of), factors)
}

impl GpuBackward<2> for Factors {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: CubeTensor, wanted: [bool; 2]) -> [Option<CubeTensor>; 2] {
        self.gradients(&above_nf, wanted)
    }
}

fn forward(x_nd: &CubeTensor, layer: &Dense, has_gelu: bool, compute: &Compute) -> (CubeTensor, Saved) {
    let factors = Factors::new(x_nd.clone(), on_gpu(&layer.weight_df), compute);
    let (product, bias) = (factors.product(), on_gpu(&layer.bias_f));
    let (count, dim, size, [vectors, f]) = by_vectors(&product);
    let (client, dtype) = (product.client.clone(), dtype_to_storage_type(product.dtype));
    if has_gelu {
        let out = like(&product);
        let [x, bias_f, to] = [product.clone(), bias.clone(), out.clone()].map(CubeTensor::into_buffer_arg);
        gelu_kernel::launch(&client, count, dim, size, x, bias_f, to, vectors, f, dtype);
        (out, Saved { factors, before_gelu: Some([product, bias]) })
    } else {
        let (x, bias_f) = (product.clone().into_buffer_arg(), bias.into_buffer_arg());
        bias_kernel::launch(&client, count, dim, size, x, bias_f, vectors, f, dtype);
        (product, Saved { factors, before_gelu: None })
    }
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    factors: Factors,
    /// The product and its bias, where GELU follows.
    before_gelu: Option<[CubeTensor; 2]>,
}

impl GpuBackward<3> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above: CubeTensor, [wants_x, wants_weight, wants_bias]: [bool; 3]) -> [Option<CubeTensor>; 3] {
        let above = match self.before_gelu.clone() {
            None => above,
            Some([product, bias]) => {
                let out = like(&product);
                let (count, dim, size, [vectors, f]) = by_vectors(&out);
                let dtype = dtype_to_storage_type(out.dtype);
                let [x, bias, above, to] = [product, bias, above, out.clone()].map(CubeTensor::into_buffer_arg);
                gelu_backward_kernel::launch(&out.client, count, dim, size, x, bias, above, to, vectors, f, dtype);
                out
            }
        };
        let [of_x, of_weight] = self.factors.gradients(&above, [wants_x, wants_weight]);
        let of_bias = wants_bias.then(|| {
            let [of_bias] = columns(&above);
            of_bias
        });
        [of_x, of_weight, of_bias]
    }
}
