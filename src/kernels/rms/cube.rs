//! The norm on a GPU, in one pass each way and one more for its scale's gradient.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::kernels::gpu::columns::{ROWS, add_up, parts};
use crate::kernels::gpu::reduce::{Lanes, place, row, sum, within};
use crate::kernels::gpu::{GpuBackward, cubes, empty, like, on_gpu, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// `k` norms of so many vectors each; `scale_k` is what the numbers of each are multiplied by.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn norm_kernel<F: Float, W: Size>(
    x_kw: &[Vector<F, W>],
    gamma_w: &[Vector<f32, W>],
    scale_k: &mut [f32],
    out_kw: &mut [Vector<f32, W>],
    k: u32,
    width: u32,
    epsilon: f32,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= k as usize {
        terminate!();
    }
    let w = width as usize;
    let start = row * w;
    let elements = (w * W::value()) as f32;
    // What this lane has of the row stays with it.
    let mut held = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut squares = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for at in 0..lanes.each as usize {
        let i = place(at, lanes);
        if i < w {
            held[at] = Vector::<f32, W>::cast_from(x_kw[start + i]);
            squares += held[at] * held[at];
        }
    }
    let scale = 1.0f32 / (sum(within(squares), lanes) / elements + epsilon).sqrt();
    #[unroll]
    for at in 0..lanes.each as usize {
        let i = place(at, lanes);
        if i < w {
            out_kw[start + i] = held[at] * Vector::new(scale) * gamma_w[i];
        }
    }
    if UNIT_POS_X == 0 {
        scale_k[row] = scale;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn norm_backward_kernel<F: Float, W: Size>(
    above_kw: &[Vector<f32, W>],
    x_kw: &[Vector<F, W>],
    gamma_w: &[Vector<f32, W>],
    scale_k: &[f32],
    of_x_kw: &mut [Vector<F, W>],
    k: u32,
    width: u32,
    #[comptime] lanes: Lanes,
    #[define(F)] _dtype: ElemType,
) {
    let row = row();
    if row >= k as usize {
        terminate!();
    }
    let w = width as usize;
    let start = row * w;
    let elements = (w * W::value()) as f32;
    let scale = Vector::<f32, W>::new(scale_k[row]);
    let mut gradients = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut normed = Array::<Vector<f32, W>>::new(lanes.each as usize);
    let mut along = Vector::<f32, W>::new(0.0f32);
    #[unroll]
    for at in 0..lanes.each as usize {
        let i = place(at, lanes);
        if i < w {
            gradients[at] = above_kw[start + i] * gamma_w[i];
            normed[at] = Vector::<f32, W>::cast_from(x_kw[start + i]) * scale;
            along += gradients[at] * normed[at];
        }
    }
    let along = Vector::<f32, W>::new(sum(within(along), lanes) / elements);
    #[unroll]
    for at in 0..lanes.each as usize {
        let i = place(at, lanes);
        if i < w {
            of_x_kw[start + i] = Vector::cast_from(scale * (gradients[at] - normed[at] * along));
        }
    }
}

/// Sums over `ROWS` norms of what the scale gets: an invocation a vector of columns, of which there are
/// `width`.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn norm_columns_kernel<F: Float, W: Size>(
    above_kw: &[Vector<f32, W>],
    x_kw: &[Vector<F, W>],
    scale_k: &[f32],
    parts_pw: &mut [Vector<f32, W>],
    k: u32,
    width: u32,
    parts: u32,
    #[define(F)] _dtype: ElemType,
) {
    let w = width as usize;
    let part = ABSOLUTE_POS / w;
    if part >= parts as usize {
        terminate!();
    }
    let column = ABSOLUTE_POS % w;
    let mut total = Vector::<f32, W>::new(0.0f32);
    let mut row = part * ROWS as usize;
    let end = min(row + ROWS as usize, k as usize);
    while row < end {
        let x = Vector::<f32, W>::cast_from(x_kw[row * w + column]);
        total += above_kw[row * w + column] * x * Vector::new(scale_k[row]);
        row += 1;
    }
    parts_pw[ABSOLUTE_POS] = total;
}

/// See [`rms_norm`](super::rms_norm): out in f32, the gradient of `x` in x's numbers.
pub(super) fn rms_norm(x_ne: Tensor<2>, gamma_w: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let (x, gamma) = (on_gpu(&x_ne), on_gpu(&gamma_w));
    let (out, saved) = spent::on_gpu(Part::Norm, &x, || forward(x.clone(), gamma, epsilon));
    with_gradient(out, [Parent::of(x_ne), Parent::of(gamma_w)], saved)
}

fn forward(x: CubeTensor, gamma: CubeTensor, epsilon: f32) -> (CubeTensor, Saved) {
    let [n, e] = [x.meta.shape()[0], x.meta.shape()[1]];
    let w = gamma.meta.shape()[0];
    let k = n * (e / w);
    let (scale, out) = (empty([k], &x), empty([n, e], &x));
    let size = vector_size(w);
    let (count, dim, lanes) = Lanes::of(k, w / size, &x.client);
    norm_kernel::launch(
        &x.client,
        count,
        dim,
        size,
        x.clone().into_buffer_arg(),
        gamma.clone().into_buffer_arg(),
        scale.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        k as u32,
        (w / size) as u32,
        epsilon,
        lanes,
        dtype_to_storage_type(x.dtype),
    );
    (out, Saved { x, gamma, scale })
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    x: CubeTensor,
    gamma: CubeTensor,
    /// What the numbers of each norm were multiplied by.
    scale: CubeTensor,
}

impl Saved {
    /// Norms, and how wide one is.
    fn sizes(&self) -> [usize; 2] {
        [self.scale.meta.shape()[0], self.gamma.meta.shape()[0]]
    }

    fn of_x(&self, above: CubeTensor) -> CubeTensor {
        let ([k, w], out) = (self.sizes(), like(&self.x));
        let size = vector_size(w);
        let (count, dim, lanes) = Lanes::of(k, w / size, &out.client);
        norm_backward_kernel::launch(
            &out.client,
            count,
            dim,
            size,
            above.into_buffer_arg(),
            self.x.clone().into_buffer_arg(),
            self.gamma.clone().into_buffer_arg(),
            self.scale.clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            k as u32,
            (w / size) as u32,
            lanes,
            dtype_to_storage_type(out.dtype),
        );
        out
    }

    fn of_gamma(&self, above: CubeTensor) -> CubeTensor {
        let [k, w] = self.sizes();
        let (parts, size, client) = (parts(k), vector_size(w), above.client.clone());
        let parts_pw = empty([parts, w], &above);
        let (count, dim) = cubes(parts * w / size);
        norm_columns_kernel::launch(
            &client,
            count,
            dim,
            size,
            above.into_buffer_arg(),
            self.x.clone().into_buffer_arg(),
            self.scale.clone().into_buffer_arg(),
            parts_pw.clone().into_buffer_arg(),
            k as u32,
            (w / size) as u32,
            parts as u32,
            dtype_to_storage_type(self.x.dtype),
        );
        let [of_gamma] = add_up(&parts_pw);
        of_gamma
    }
}

impl GpuBackward<2> for Saved {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above: CubeTensor, [wants_x, wants_gamma]: [bool; 2]) -> [Option<CubeTensor>; 2] {
        [wants_x.then(|| self.of_x(above.clone())), wants_gamma.then(|| self.of_gamma(above.clone()))]
    }
}
