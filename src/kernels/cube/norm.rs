//! Layer normalisation of `dropout(x) + residual`, in one pass each way: a cube a row. `norm.rs` has the same for the CPU.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::super::dropout::Mask;
use super::dropout::factor;
use super::link::{GpuBackward, PARENTS, with_gradient};
use super::reduce::sum;

/// Rows whose gradients of scale and shift are added up together.
const ROWS: u32 = 64;

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn norm_kernel<F: Float>(
    x_nd: &[F],
    residual_nd: &[f32],
    gamma_d: &[f32],
    beta_d: &[f32],
    normed_nd: &mut [f32],
    scale_n: &mut [f32],
    out_nd: &mut [f32],
    n: u32,
    d: u32,
    epsilon: f32,
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    #[comptime] has_residual: bool,
    #[comptime] has_dropout: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= n as usize {
        terminate!();
    }
    let d = d as usize;
    let start = row * d;
    let lane = UNIT_POS as usize;
    let step = units as usize;
    let mut total = f32::new(0.0);
    let mut i = lane;
    while i < d {
        let mut y = f32::cast_from(x_nd[start + i]);
        if has_dropout {
            y *= factor(key_low, key_high, start + i, dropped_below, kept);
        }
        if has_residual {
            y += residual_nd[start + i];
        }
        normed_nd[start + i] = y;
        total += y;
        i += step;
    }
    let mean = sum(total, units) / d as f32;
    let mut squares = f32::new(0.0);
    let mut i = lane;
    while i < d {
        // Each invocation reads what it wrote itself.
        let off = normed_nd[start + i] - mean;
        squares += off * off;
        i += step;
    }
    let scale = 1.0f32 / (sum(squares, units) / d as f32 + epsilon).sqrt();
    let mut i = lane;
    while i < d {
        let z = (normed_nd[start + i] - mean) * scale;
        normed_nd[start + i] = z;
        out_nd[start + i] = z * gamma_d[i] + beta_d[i];
        i += step;
    }
    if lane == 0 {
        scale_n[row] = scale;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn norm_backward_kernel<F: Float>(
    above_nd: &[f32],
    normed_nd: &[f32],
    scale_n: &[f32],
    gamma_d: &[f32],
    of_sum_nd: &mut [f32],
    of_x_nd: &mut [F],
    n: u32,
    d: u32,
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    #[comptime] has_dropout: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= n as usize {
        terminate!();
    }
    let d = d as usize;
    let start = row * d;
    let lane = UNIT_POS as usize;
    let step = units as usize;
    let mut plain = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut i = lane;
    while i < d {
        let gradient = above_nd[start + i] * gamma_d[i];
        plain += gradient;
        along += gradient * normed_nd[start + i];
        i += step;
    }
    let mean = sum(plain, units) / d as f32;
    let along = sum(along, units) / d as f32;
    let scale = scale_n[row];
    let mut i = lane;
    while i < d {
        let gradient = above_nd[start + i] * gamma_d[i];
        let of_sum = scale * (gradient - mean - normed_nd[start + i] * along);
        of_sum_nd[start + i] = of_sum;
        let mut of_x = of_sum;
        if has_dropout {
            of_x *= factor(key_low, key_high, start + i, dropped_below, kept);
        }
        of_x_nd[start + i] = F::cast_from(of_x);
        i += step;
    }
}

/// Sums over `ROWS` rows of what scale and shift get: an invocation a column.
#[cube(launch)]
fn norm_columns_kernel(
    above_nd: &[f32],
    normed_nd: &[f32],
    of_gamma_pd: &mut [f32],
    of_beta_pd: &mut [f32],
    n: u32,
    d: u32,
    parts: u32,
) {
    let d = d as usize;
    let n = n as usize;
    let part = ABSOLUTE_POS / d;
    let column = ABSOLUTE_POS % d;
    if part >= parts as usize {
        terminate!();
    }
    let mut of_gamma = f32::new(0.0);
    let mut of_beta = f32::new(0.0);
    let mut row = part * ROWS as usize;
    let end = min(row + ROWS as usize, n);
    while row < end {
        let above = above_nd[row * d + column];
        of_gamma += above * normed_nd[row * d + column];
        of_beta += above;
        row += 1;
    }
    of_gamma_pd[part * d + column] = of_gamma;
    of_beta_pd[part * d + column] = of_beta;
}

/// See `norm_of_sum`: out in f32, the gradient of `x` in x's numbers.
pub(in super::super) fn norm(
    x_nd: Tensor<2>,
    residual_nd: Option<Tensor<2>>,
    gamma_d: Tensor<1>,
    beta_d: Tensor<1>,
    epsilon: f64,
    mask: Option<Mask>,
) -> Tensor<2> {
    let [n, d] = x_nd.dims();
    let (x, gamma) = (super::on_gpu(&x_nd), super::on_gpu(&gamma_d));
    let residual = residual_nd.as_ref().map(super::on_gpu);
    let [normed_nd, out_nd] = [(); 2].map(|()| super::empty([n, d], &x));
    let scale_n = super::empty([n], &x);
    let (client, dtype) = (x.client.clone(), x.dtype);
    let drawn = Drawn::of(mask);
    norm_kernel::launch(
        &client,
        super::arranged(n as u32),
        CubeDim::new_1d(super::units(d)),
        x.clone().into_buffer_arg(),
        residual.clone().unwrap_or_else(|| gamma.clone()).into_buffer_arg(),
        gamma.clone().into_buffer_arg(),
        super::on_gpu(&beta_d).into_buffer_arg(),
        normed_nd.clone().into_buffer_arg(),
        scale_n.clone().into_buffer_arg(),
        out_nd.clone().into_buffer_arg(),
        n as u32,
        d as u32,
        epsilon as f32,
        drawn.low,
        drawn.high,
        drawn.dropped_below,
        drawn.kept,
        residual.is_some(),
        mask.is_some(),
        super::units(d),
        dtype_to_storage_type(dtype),
    );
    let parents = [
        Some(x_nd.into_dispatch()),
        residual_nd.map(Tensor::into_dispatch),
        Some(gamma_d.into_dispatch()),
        Some(beta_d.into_dispatch()),
    ];
    with_gradient(out_nd, parents, Saved { normed_nd, scale_n, gamma, mask, x_like: x.dtype })
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

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    normed_nd: CubeTensor,
    scale_n: CubeTensor,
    gamma: CubeTensor,
    mask: Option<Mask>,
    x_like: burn::tensor::DType,
}

impl GpuBackward for Saved {
    fn backward(&self, above_nd: CubeTensor, wanted: [bool; PARENTS]) -> [Option<CubeTensor>; PARENTS] {
        let [n, d] = [self.normed_nd.meta.shape()[0], self.normed_nd.meta.shape()[1]];
        let client = above_nd.client.clone();
        let of_sum = super::empty([n, d], &above_nd);
        let of_x = super::empty_of([n, d], self.x_like, &above_nd);
        let drawn = Drawn::of(self.mask);
        norm_backward_kernel::launch(
            &client,
            super::arranged(n as u32),
            CubeDim::new_1d(super::units(d)),
            above_nd.clone().into_buffer_arg(),
            self.normed_nd.clone().into_buffer_arg(),
            self.scale_n.clone().into_buffer_arg(),
            self.gamma.clone().into_buffer_arg(),
            of_sum.clone().into_buffer_arg(),
            of_x.clone().into_buffer_arg(),
            n as u32,
            d as u32,
            drawn.low,
            drawn.high,
            drawn.dropped_below,
            drawn.kept,
            self.mask.is_some(),
            super::units(d),
            dtype_to_storage_type(self.x_like),
        );
        if !wanted[2] && !wanted[3] {
            return [Some(of_x), Some(of_sum), None, None];
        }
        let parts = n.div_ceil(ROWS as usize);
        let [of_gamma_pd, of_beta_pd] = [(); 2].map(|()| super::empty([parts, d], &above_nd));
        let (count, dim) = super::cubes(parts * d);
        norm_columns_kernel::launch(
            &client,
            count,
            dim,
            above_nd.into_buffer_arg(),
            self.normed_nd.clone().into_buffer_arg(),
            of_gamma_pd.clone().into_buffer_arg(),
            of_beta_pd.clone().into_buffer_arg(),
            n as u32,
            d as u32,
            parts as u32,
        );
        let added = |of_pd| super::on_gpu(&super::tensor::<2>(of_pd).sum_dim(0).squeeze_dim::<1>(0));
        [Some(of_x), Some(of_sum), Some(added(of_gamma_pd)), Some(added(of_beta_pd))]
    }
}
