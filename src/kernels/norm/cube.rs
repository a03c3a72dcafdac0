//! Layer normalisation of `dropout(x + bias) + residual` on a GPU, in one pass each way.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Norm;
use crate::device::Compute;
use crate::kernels::dense::{Dense, Factors};
use crate::kernels::dropout::{Drawn, DrawnLaunch, Mask, factors_of};
use crate::kernels::gpu::columns::{ROWS, add_up, parts};
use crate::kernels::gpu::reduce::{Lanes, place, row, sum, within};
use crate::kernels::gpu::{GpuBackward, cubes, empty, empty_of, like, on_gpu, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// `d` is the width in vectors. `normed_and_scale` holds the normalised rows and then, one vector for each row, what it
/// was multiplied by: one buffer for both, because WebGPU promises no more than eight.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn norm_kernel<F: Float, W: Size>(
    x_nd: &[Vector<F, W>],
    bias_d: &[Vector<f32, W>],
    residual_nd: &[Vector<f32, W>],
    gamma_d: &[Vector<f32, W>],
    beta_d: &[Vector<f32, W>],
    normed_and_scale: &mut [Vector<f32, W>],
    out_nd: &mut [Vector<f32, W>],
    n: u32,
    d: u32,
    epsilon: f32,
    drawn: Drawn,
    #[comptime] has_bias: bool,
    #[comptime] has_residual: bool,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= n as usize {
        terminate!();
    }
    let d = d as usize;
    let start = row * d;
    let elements = (d * W::value()) as f32;
    // What this lane has of the row stays with it.
    let mut held = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut total = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < d {
            let mut y = Vector::<f32, W>::cast_from(x_nd[start + i]);
            if has_bias {
                y += bias_d[i];
            }
            if comptime!(drawn.is_any) {
                y *= factors_of(&drawn, (start + i) * W::value());
            }
            if has_residual {
                y += residual_nd[start + i];
            }
            held[k] = y;
            total += y;
        }
    }
    let mean = Vector::<f32, W>::new(sum(within(total), lanes) / elements);
    let mut squares = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for k in 0..lanes.each as usize {
        if place(k, lanes) < d {
            held[k] -= mean;
            squares += held[k] * held[k];
        }
    }
    let scale = Vector::<f32, W>::new(1.0f32 / (sum(within(squares), lanes) / elements + epsilon).sqrt());
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < d {
            let normed = held[k] * scale;
            normed_and_scale[start + i] = normed;
            out_nd[start + i] = normed * gamma_d[i] + beta_d[i];
        }
    }
    if UNIT_POS_X == 0 {
        normed_and_scale[n as usize * d + row] = scale;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn norm_backward_kernel<F: Float, W: Size>(
    above_nd: &[Vector<f32, W>],
    normed_and_scale: &[Vector<f32, W>],
    gamma_d: &[Vector<f32, W>],
    of_sum_nd: &mut [Vector<f32, W>],
    of_x_nd: &mut [Vector<F, W>],
    n: u32,
    d: u32,
    drawn: Drawn,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= n as usize {
        terminate!();
    }
    let d = d as usize;
    let start = row * d;
    let elements = (d * W::value()) as f32;
    let mut gradients = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut normed = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut plain = Vector::<f32, W>::new(0.0f32);
    let mut along = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < d {
            gradients[k] = above_nd[start + i] * gamma_d[i];
            normed[k] = normed_and_scale[start + i];
            plain += gradients[k];
            along += gradients[k] * normed[k];
        }
    }
    let mean = Vector::<f32, W>::new(sum(within(plain), lanes) / elements);
    let along = Vector::<f32, W>::new(sum(within(along), lanes) / elements);
    let scale = normed_and_scale[n as usize * d + row];
    #[unroll]
    for k in 0..lanes.each as usize {
        let i = place(k, lanes);
        if i < d {
            let of_sum = scale * (gradients[k] - mean - normed[k] * along);
            of_sum_nd[start + i] = of_sum;
            let mut of_x = of_sum;
            if comptime!(drawn.is_any) {
                of_x *= factors_of(&drawn, (start + i) * W::value());
            }
            of_x_nd[start + i] = Vector::cast_from(of_x);
        }
    }
}

/// Sums over `ROWS` rows of what scale, shift and bias get, next to each other: an invocation a vector of columns, of
/// which there are `d`.
#[cube(launch)]
fn norm_columns_kernel<F: Float, W: Size>(
    above_nd: &[Vector<f32, W>],
    normed_and_scale: &[Vector<f32, W>],
    of_x_nd: &[Vector<F, W>],
    parts_pk: &mut [Vector<f32, W>],
    n: u32,
    d: u32,
    parts: u32,
    #[comptime] has_bias: bool,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let n = n as usize;
    let part = ABSOLUTE_POS / d;
    let column = ABSOLUTE_POS % d;
    if part >= parts as usize {
        terminate!();
    }
    let mut of_gamma = Vector::<f32, W>::new(0.0f32);
    let mut of_beta = Vector::<f32, W>::new(0.0f32);
    let mut of_bias = Vector::<f32, W>::new(0.0f32);
    let mut row = part * ROWS as usize;
    let end = min(row + ROWS as usize, n);
    while row < end {
        let above = above_nd[row * d + column];
        of_gamma += above * normed_and_scale[row * d + column];
        of_beta += above;
        if has_bias {
            of_bias += Vector::<f32, W>::cast_from(of_x_nd[row * d + column]);
        }
        row += 1;
    }
    let k = if has_bias { 3 * d } else { 2 * d };
    parts_pk[part * k + column] = of_gamma;
    parts_pk[part * k + d + column] = of_beta;
    if has_bias {
        parts_pk[part * k + 2 * d + column] = of_bias;
    }
}

/// See [`norm_of_sum`](super::norm_of_sum): out in f32, the gradient of `x` in x's numbers.
pub(super) fn norm_of_sum(x_nd: Tensor<2>, residual_nd: Option<Tensor<2>>, norm: &Norm, mask: Option<Mask>) -> Tensor<2> {
    let residual = residual_nd.as_ref().map(on_gpu);
    let (out, kept) = forward(&on_gpu(&x_nd), None, residual, norm, mask);
    let Norm { gamma_d, beta_d, .. } = norm.clone();
    let (x_nd, gamma_d, beta_d) = (Parent::of(x_nd), Parent::of(gamma_d), Parent::of(beta_d));
    match residual_nd {
        Some(residual_nd) => with_gradient(out, [x_nd, gamma_d, beta_d, Parent::of(residual_nd)], OfSum(kept)),
        None => with_gradient(out, [x_nd, gamma_d, beta_d], Alone(kept)),
    }
}

/// See [`dense_norm`](super::dense_norm).
pub(super) fn dense_norm(
    x_nd: Tensor<2>,
    layer: &Dense,
    residual_nd: Tensor<2>,
    norm: &Norm,
    mask: Option<Mask>,
    compute: &Compute,
) -> Tensor<2> {
    let factors = Factors::new(on_gpu(&x_nd), on_gpu(&layer.weight_df), compute);
    let bias = on_gpu(&layer.bias_f);
    let (out, kept) = forward(&factors.product(), Some(bias), Some(on_gpu(&residual_nd)), norm, mask);
    let (Dense { weight_df, bias_f }, Norm { gamma_d, beta_d, .. }) = (layer.clone(), norm.clone());
    let [x_nd, weight_df, residual_nd] = [x_nd, weight_df, residual_nd].map(Parent::of);
    let [bias_f, gamma_d, beta_d] = [bias_f, gamma_d, beta_d].map(Parent::of);
    with_gradient(out, [x_nd, weight_df, bias_f, gamma_d, beta_d, residual_nd], WithDense { factors, kept })
}

fn forward(
    x: &CubeTensor,
    bias: Option<CubeTensor>,
    residual: Option<CubeTensor>,
    norm: &Norm,
    mask: Option<Mask>,
) -> (CubeTensor, Kept) {
    spent::on_gpu(Part::Norm, x, || launch(x, bias, residual, norm, mask))
}

fn launch(
    x: &CubeTensor,
    bias: Option<CubeTensor>,
    residual: Option<CubeTensor>,
    norm: &Norm,
    mask: Option<Mask>,
) -> (CubeTensor, Kept) {
    let [n, d] = [x.meta.shape()[0], x.meta.shape()[1]];
    let gamma = on_gpu(&norm.gamma_d);
    let size = vector_size(d);
    let (normed_and_scale, out) = (empty([n * (d + size)], x), empty([n, d], x));
    let (has_bias, has_residual) = (bias.is_some(), residual.is_some());
    let (count, dim, lanes) = Lanes::of(n, d / size, &x.client);
    norm_kernel::launch(
        &x.client,
        count,
        dim,
        size,
        x.clone().into_buffer_arg(),
        bias.unwrap_or_else(|| gamma.clone()).into_buffer_arg(),
        residual.unwrap_or_else(|| gamma.clone()).into_buffer_arg(),
        gamma.clone().into_buffer_arg(),
        on_gpu(&norm.beta_d).into_buffer_arg(),
        normed_and_scale.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        n as u32,
        (d / size) as u32,
        norm.epsilon as f32,
        DrawnLaunch::of(mask),
        has_bias,
        has_residual,
        lanes,
        dtype_to_storage_type(x.dtype),
    );
    (out, Kept { normed_and_scale, gamma, mask, has_bias, x_like: x.dtype })
}

/// What the backward pass of a norm needs.
#[derive(Debug)]
struct Kept {
    normed_and_scale: CubeTensor,
    gamma: CubeTensor,
    mask: Option<Mask>,
    has_bias: bool,
    x_like: DType,
}

impl Kept {
    /// The gradients of `x`, in x's numbers, and of the sum, which is the residual's.
    fn of_rows(&self, above_nd: &CubeTensor) -> [CubeTensor; 2] {
        let [n, d] = [above_nd.meta.shape()[0], above_nd.meta.shape()[1]];
        let (of_sum, of_x) = (like(above_nd), empty_of([n, d], self.x_like, above_nd));
        let size = vector_size(d);
        let (count, dim, lanes) = Lanes::of(n, d / size, &above_nd.client);
        norm_backward_kernel::launch(
            &above_nd.client,
            count,
            dim,
            size,
            above_nd.clone().into_buffer_arg(),
            self.normed_and_scale.clone().into_buffer_arg(),
            self.gamma.clone().into_buffer_arg(),
            of_sum.clone().into_buffer_arg(),
            of_x.clone().into_buffer_arg(),
            n as u32,
            (d / size) as u32,
            DrawnLaunch::of(self.mask),
            lanes,
            dtype_to_storage_type(self.x_like),
        );
        [of_x, of_sum]
    }

    /// The gradients of scale and shift, where either is wanted, of a norm without a bias.
    fn of_norm(&self, above_nd: CubeTensor, of_x: &CubeTensor, is_wanted: bool) -> [Option<CubeTensor>; 2] {
        if is_wanted { self.of_vectors(above_nd, of_x).map(Some) } else { [None, None] }
    }

    /// The gradients of scale, shift and, where there is one, bias, from that of `x`.
    fn of_vectors<const N: usize>(&self, above_nd: CubeTensor, of_x: &CubeTensor) -> [CubeTensor; N] {
        debug_assert_eq!(N, if self.has_bias { 3 } else { 2 });
        let [n, d] = [above_nd.meta.shape()[0], above_nd.meta.shape()[1]];
        let (parts, client) = (parts(n), above_nd.client.clone());
        let parts_pk = empty([parts, N * d], &above_nd);
        let size = vector_size(d);
        let (count, dim) = cubes(parts * d / size);
        norm_columns_kernel::launch(
            &client,
            count,
            dim,
            size,
            above_nd.into_buffer_arg(),
            self.normed_and_scale.clone().into_buffer_arg(),
            of_x.clone().into_buffer_arg(),
            parts_pk.clone().into_buffer_arg(),
            n as u32,
            (d / size) as u32,
            parts as u32,
            self.has_bias,
            dtype_to_storage_type(self.x_like),
        );
        add_up(&parts_pk)
    }
}

/// What the backward pass needs of a norm by itself.
#[derive(Debug)]
struct Alone(Kept);

impl GpuBackward<3> for Alone {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_nd: CubeTensor, [_, wants_gamma, wants_beta]: [bool; 3]) -> [Option<CubeTensor>; 3] {
        let [of_x, _] = self.0.of_rows(&above_nd);
        let [of_gamma, of_beta] = self.0.of_norm(above_nd, &of_x, wants_gamma || wants_beta);
        [Some(of_x), of_gamma, of_beta]
    }
}

/// What the backward pass needs of the norm of a sum.
#[derive(Debug)]
struct OfSum(Kept);

impl GpuBackward<4> for OfSum {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_nd: CubeTensor, [_, wants_gamma, wants_beta, _]: [bool; 4]) -> [Option<CubeTensor>; 4] {
        let [of_x, of_residual] = self.0.of_rows(&above_nd);
        let [of_gamma, of_beta] = self.0.of_norm(above_nd, &of_x, wants_gamma || wants_beta);
        [Some(of_x), of_gamma, of_beta, Some(of_residual)]
    }
}

/// What the backward pass of a layer norm needs that follows a dense layer.
#[derive(Debug)]
struct WithDense {
    factors: Factors,
    kept: Kept,
}

impl GpuBackward<6> for WithDense {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(
        &self,
        above_nd: CubeTensor,
        [wants_x, wants_weight, wants_bias, wants_gamma, wants_beta, _]: [bool; 6],
    ) -> [Option<CubeTensor>; 6] {
        let [of_product, of_residual] = self.kept.of_rows(&above_nd);
        let [of_x, of_weight] = self.factors.gradients(&of_product, [wants_x, wants_weight]);
        let [of_gamma, of_beta, of_bias] = match wants_bias || wants_gamma || wants_beta {
            true => self.kept.of_vectors(above_nd, &of_product).map(Some),
            false => [None, None, None],
        };
        [of_x, of_weight, of_bias, of_gamma, of_beta, Some(of_residual)]
    }
}
