//! A gate on a GPU, in one pass each way.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::device::Compute;
use crate::kernels::gpu::normal::{bell, below};
use crate::kernels::gpu::{GpuBackward, cubes, empty_of, like, on_gpu, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// A vector of the result an invocation, of so many `vectors` in all and `f` to a row, as in the kernel after it.
#[cube(launch)]
fn gate_kernel<F: Float, W: Size>(
    x_ng: &[Vector<F, W>],
    out_nf: &mut [Vector<F, W>],
    vectors: u32,
    f: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let f = f as usize;
    let at = i / f * 2 * f + i % f;
    let a = Vector::<f32, W>::cast_from(x_ng[at]);
    let b = Vector::<f32, W>::cast_from(x_ng[at + f]);
    out_nf[i] = Vector::cast_from(a * below(a, bell(a)) * b);
}

/// GELU and its slope are worked out again.
#[cube(launch)]
fn gate_backward_kernel<F: Float, W: Size>(
    x_ng: &[Vector<F, W>],
    above_nf: &[Vector<F, W>],
    out_ng: &mut [Vector<F, W>],
    vectors: u32,
    f: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let f = f as usize;
    let at = i / f * 2 * f + i % f;
    let a = Vector::<f32, W>::cast_from(x_ng[at]);
    let b = Vector::<f32, W>::cast_from(x_ng[at + f]);
    let above = Vector::<f32, W>::cast_from(above_nf[i]);
    let bell = bell(a);
    let share = below(a, bell);
    let slope = share + a * bell * Vector::new(0.398_942_3f32);
    out_ng[at] = Vector::cast_from(above * b * slope);
    out_ng[at + f] = Vector::cast_from(above * a * share);
}

/// See [`gelu_gate`](super::gelu_gate).
pub(super) fn gelu_gate(x_ng: Tensor<2>, compute: &Compute) -> Tensor<2> {
    let x = on_gpu(&x_ng);
    let out = spent::on_gpu(Part::Dense, &x, || forward(&x));
    with_gradient(cast(out, compute.dtype()), [Parent::of(x_ng)], Saved { x_ng: x })
}

fn forward(x_ng: &CubeTensor) -> CubeTensor {
    let [n, g] = [x_ng.meta.shape()[0], x_ng.meta.shape()[1]];
    let out = empty_of([n, g / 2], x_ng.dtype, x_ng);
    let size = vector_size(g / 2);
    let vectors = out.meta.num_elements() / size;
    let (count, dim) = cubes(vectors);
    let [x, to] = [x_ng.clone(), out.clone()].map(CubeTensor::into_buffer_arg);
    let (f, dtype) = ((g / 2 / size) as u32, dtype_to_storage_type(out.dtype));
    gate_kernel::launch(&out.client, count, dim, size, x, to, vectors as u32, f, dtype);
    out
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    x_ng: CubeTensor,
}

impl GpuBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        let out = like(&self.x_ng);
        let f = out.meta.shape()[1] / 2;
        let size = vector_size(f);
        let vectors = out.meta.num_elements() / 2 / size;
        let (count, dim) = cubes(vectors);
        let [x, above, to] = [self.x_ng.clone(), cast(above, out.dtype), out.clone()].map(CubeTensor::into_buffer_arg);
        let (f, dtype) = ((f / size) as u32, dtype_to_storage_type(out.dtype));
        gate_backward_kernel::launch(&out.client, count, dim, size, x, above, to, vectors as u32, f, dtype);
        [Some(out)]
    }
}
