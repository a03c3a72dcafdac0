//! Layer normalisation of `dropout(x + bias) + residual`, in one pass each way. `norm.rs` has the same for the CPU.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::super::dropout::Mask;
use super::super::spent::{self, Part};
use super::super::{Compute, Dense, Norm};
use super::columns::{ROWS, add_up, parts};
use super::dense::Factors;
use super::dropout::factors_of;
use super::link::{GpuBackward, PARENTS, with_gradient};
use super::reduce::{Lanes, place, row, sum, within};

/// `d` is the width in vectors. `normed_and_scale` holds the normalised rows and then, one vector for each row, what it
/// was multiplied by: one buffer for both, because WebGPU promises no more than eight.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
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
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    #[comptime] has_bias: bool,
    #[comptime] has_residual: bool,
    #[comptime] has_dropout: bool,
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
            if has_dropout {
                y *= factors_of(key_low, key_high, (start + i) * W::value(), dropped_below, kept);
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
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn norm_backward_kernel<F: Float, W: Size>(
    above_nd: &[Vector<f32, W>],
    normed_and_scale: &[Vector<f32, W>],
    gamma_d: &[Vector<f32, W>],
    of_sum_nd: &mut [Vector<f32, W>],
    of_x_nd: &mut [Vector<F, W>],
    n: u32,
    d: u32,
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    #[comptime] has_dropout: bool,
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
            if has_dropout {
                of_x *= factors_of(key_low, key_high, (start + i) * W::value(), dropped_below, kept);
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

/// See `kernels::norm_of_sum`: out in f32, the gradient of `x` in x's numbers.
pub(in super::super) fn norm_of_sum(
    x_nd: Tensor<2>,
    residual_nd: Option<Tensor<2>>,
    norm: &Norm,
    mask: Option<Mask>,
) -> Tensor<2> {
    let residual = residual_nd.as_ref().map(super::on_gpu);
    let (out, kept) = forward(&super::on_gpu(&x_nd), None, residual, norm, mask);
    let Norm { gamma_d, beta_d, .. } = norm.clone();
    let [x_nd, gamma_d, beta_d] = [x_nd.into_dispatch(), gamma_d.into_dispatch(), beta_d.into_dispatch()];
    match residual_nd {
        Some(residual_nd) => with_gradient(out, [x_nd, gamma_d, beta_d, residual_nd.into_dispatch()], Saved(kept)),
        None => with_gradient(out, [x_nd, gamma_d, beta_d], Saved(kept)),
    }
}

/// See `kernels::dense_norm`.
pub(in super::super) fn dense_norm(
    x_nd: Tensor<2>,
    layer: &Dense,
    residual_nd: Tensor<2>,
    norm: &Norm,
    mask: Option<Mask>,
    compute: &Compute,
) -> Tensor<2> {
    let factors = Factors::new(super::on_gpu(&x_nd), super::on_gpu(&layer.weight_df), compute);
    let bias = super::on_gpu(&layer.bias_f);
    let (out, kept) = forward(&factors.product(), Some(bias), Some(super::on_gpu(&residual_nd)), norm, mask);
    let (Dense { weight_df, bias_f }, Norm { gamma_d, beta_d, .. }) = (layer.clone(), norm.clone());
    let [x_nd, weight_df, residual_nd] = [x_nd, weight_df, residual_nd].map(Tensor::into_dispatch);
    let [bias_f, gamma_d, beta_d] = [bias_f, gamma_d, beta_d].map(Tensor::into_dispatch);
    with_gradient(out, [x_nd, weight_df, bias_f, gamma_d, beta_d, residual_nd], SavedWithDense { factors, kept })
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
    let (gamma, drawn) = (super::on_gpu(&norm.gamma_d), Drawn::of(mask));
    let size = super::vector_size(d);
    let (normed_and_scale, out) = (super::empty([n * (d + size)], x), super::empty([n, d], x));
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
        super::on_gpu(&norm.beta_d).into_buffer_arg(),
        normed_and_scale.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        n as u32,
        (d / size) as u32,
        norm.epsilon as f32,
        drawn.low,
        drawn.high,
        drawn.dropped_below,
        drawn.kept,
        has_bias,
        has_residual,
        mask.is_some(),
        lanes,
        dtype_to_storage_type(x.dtype),
    );
    (out, Kept { normed_and_scale, gamma, mask, has_bias, x_like: x.dtype })
}

/// A mask as a kernel takes it.
pub(super) struct Drawn {
    pub low: u32,
    pub high: u32,
    pub dropped_below: u32,
    pub kept: f32,
}

impl Drawn {
    pub fn of(mask: Option<Mask>) -> Self {
        let (key, dropped_below, kept) = mask.map_or((0, 0, 1.0), Mask::parts);
        Self { low: key as u32, high: (key >> 32) as u32, dropped_below: u32::from(dropped_below), kept }
    }
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
        let (of_sum, of_x) = (super::like(above_nd), super::empty_of([n, d], self.x_like, above_nd));
        let drawn = Drawn::of(self.mask);
        let size = super::vector_size(d);
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
            drawn.low,
            drawn.high,
            drawn.dropped_below,
            drawn.kept,
            self.mask.is_some(),
            lanes,
            dtype_to_storage_type(self.x_like),
        );
        [of_x, of_sum]
    }

    /// The gradients of scale, shift and, where there is one, bias, from that of `x`.
    fn of_vectors<const N: usize>(&self, above_nd: CubeTensor, of_x: &CubeTensor) -> [CubeTensor; N] {
        debug_assert_eq!(N, if self.has_bias { 3 } else { 2 });
        let [n, d] = [above_nd.meta.shape()[0], above_nd.meta.shape()[1]];
        let (parts, client) = (parts(n), above_nd.client.clone());
        let parts_pk = super::empty([parts, N * d], &above_nd);
        let size = super::vector_size(d);
        let (count, dim) = super::cubes(parts * d / size);
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
struct Saved(Kept);

impl GpuBackward for Saved {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_nd: CubeTensor, wanted: [bool; PARENTS]) -> Vec<Option<CubeTensor>> {
        let [of_x, of_sum] = self.0.of_rows(&above_nd);
        if !wanted[1] && !wanted[2] {
            return vec![Some(of_x), None, None, Some(of_sum)];
        }
        let [of_gamma, of_beta] = self.0.of_vectors(above_nd, &of_x);
        vec![Some(of_x), Some(of_gamma), Some(of_beta), Some(of_sum)]
    }
}

/// What the backward pass of a layer norm needs that follows a dense layer.
#[derive(Debug)]
struct SavedWithDense {
    factors: Factors,
    kept: Kept,
}

impl GpuBackward for SavedWithDense {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_nd: CubeTensor, wanted: [bool; PARENTS]) -> Vec<Option<CubeTensor>> {
        let [of_product, of_sum] = self.kept.of_rows(&above_nd);
        let [of_x, of_weight] = self.factors.backward(&of_product, [wanted[0], wanted[1]]);
        if !wanted[2] && !wanted[3] && !wanted[4] {
            return vec![of_x, of_weight, None, None, None, Some(of_sum)];
        }
        let [of_gamma, of_beta, of_bias] = self.kept.of_vectors(above_nd, &of_product);
        vec![of_x, of_weight, Some(of_bias), Some(of_gamma), Some(of_beta), Some(of_sum)]
    }
}
