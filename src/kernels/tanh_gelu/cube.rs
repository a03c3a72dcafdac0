//! GELU by the hyperbolic tangent on a GPU, in one pass each way.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{CUBE, TWICE_SCALE};
use crate::device::Compute;
use crate::kernels::gpu::sigmoid::sigmoid;
use crate::kernels::gpu::{GpuBackward, like, on_gpu, vectors_of, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// What of `x` goes through.
#[cube]
fn share<W: Size>(x: Vector<f32, W>) -> Vector<f32, W> {
    let one = Vector::<f32, W>::new(1.0f32);
    sigmoid((x * x * Vector::new(CUBE) + one) * x * Vector::new(TWICE_SCALE))
}

/// A vector an invocation, of so many `vectors`, as in the kernel after it.
#[cube(launch)]
fn gelu_kernel<F: Float, W: Size>(
    x_nf: &[Vector<F, W>],
    out_nf: &mut [Vector<F, W>],
    vectors: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let x = Vector::<f32, W>::cast_from(x_nf[i]);
    out_nf[i] = Vector::cast_from(x * share(x));
}

/// The slope is worked out again.
#[cube(launch)]
fn gelu_backward_kernel<F: Float, W: Size>(
    x_nf: &[Vector<F, W>],
    above_nf: &[Vector<F, W>],
    out_nf: &mut [Vector<F, W>],
    vectors: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let x = Vector::<f32, W>::cast_from(x_nf[i]);
    let share = share(x);
    let one = Vector::<f32, W>::new(1.0f32);
    let inner = (x * x * Vector::new(3.0f32) * Vector::new(CUBE) + one) * Vector::new(TWICE_SCALE);
    let slope = share + x * share * (one - share) * inner;
    out_nf[i] = Vector::cast_from(Vector::<f32, W>::cast_from(above_nf[i]) * slope);
}

/// See [`tanh_gelu`](super::tanh_gelu).
pub(super) fn tanh_gelu(x_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    let saved = Saved { x_nf: on_gpu(&x_nf) };
    let out = spent::on_gpu(Part::Dense, &saved.x_nf, || saved.forward());
    with_gradient(cast(out, compute.dtype()), [Parent::of(x_nf)], saved)
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    x_nf: CubeTensor,
}

impl Saved {
    fn forward(&self) -> CubeTensor {
        let out = like(&self.x_nf);
        let (count, dim, size, vectors) = vectors_of(&self.x_nf);
        let [x, to] = [&self.x_nf, &out].map(|x| x.clone().into_buffer_arg());
        gelu_kernel::launch(&out.client, count, dim, size, x, to, vectors, dtype_to_storage_type(out.dtype));
        out
    }
}

impl GpuBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        let out = like(&self.x_nf);
        let (count, dim, size, vectors) = vectors_of(&self.x_nf);
        let above = cast(above, out.dtype);
        let [x, above, to] = [&self.x_nf, &above, &out].map(|x| x.clone().into_buffer_arg());
        gelu_backward_kernel::launch(&out.client, count, dim, size, x, above, to, vectors, dtype_to_storage_type(out.dtype));
        [Some(out)]
    }
}
