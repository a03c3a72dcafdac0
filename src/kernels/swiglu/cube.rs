//! The gate on a GPU, in one pass each way.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use crate::device::Compute;
use crate::kernels::gpu::sigmoid::sigmoid;
use crate::kernels::gpu::{GpuBackward, like, on_gpu, vectors_of, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// A vector of the result an invocation, of so many `vectors`, as in the kernel after it.
#[cube(launch)]
fn gate_kernel<F: Float, W: Size>(
    a_nf: &[Vector<F, W>],
    b_nf: &[Vector<F, W>],
    out_nf: &mut [Vector<F, W>],
    vectors: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let a = Vector::<f32, W>::cast_from(a_nf[i]);
    let b = Vector::<f32, W>::cast_from(b_nf[i]);
    out_nf[i] = Vector::cast_from(a * sigmoid(a) * b);
}

/// SiLU and its slope are worked out again.
#[cube(launch)]
fn gate_backward_kernel<F: Float, W: Size>(
    a_nf: &[Vector<F, W>],
    b_nf: &[Vector<F, W>],
    above_nf: &[Vector<F, W>],
    of_a_nf: &mut [Vector<F, W>],
    of_b_nf: &mut [Vector<F, W>],
    vectors: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let a = Vector::<f32, W>::cast_from(a_nf[i]);
    let b = Vector::<f32, W>::cast_from(b_nf[i]);
    let above = Vector::<f32, W>::cast_from(above_nf[i]);
    let share = sigmoid(a);
    let one = Vector::<f32, W>::new(1.0f32);
    of_a_nf[i] = Vector::cast_from(above * b * share * (one + a * (one - share)));
    of_b_nf[i] = Vector::cast_from(above * a * share);
}

/// See [`silu_gate`](super::silu_gate).
pub(super) fn silu_gate(a_nf: Tensor<2>, b_nf: Tensor<2>, compute: &Compute) -> Tensor<2> {
    let [a, b] = [on_gpu(&a_nf), on_gpu(&b_nf)];
    let came_in = [a.dtype, b.dtype];
    let numbers = if a.dtype == b.dtype { a.dtype } else { DType::F32 };
    let saved = Saved { a_nf: cast(a, numbers), b_nf: cast(b, numbers), came_in };
    let out = spent::on_gpu(Part::Dense, &saved.a_nf, || saved.forward());
    with_gradient(cast(out, compute.dtype()), [a_nf, b_nf].map(Parent::of), saved)
}

/// What the backward pass needs: both, in the same numbers.
#[derive(Debug)]
struct Saved {
    a_nf: CubeTensor,
    b_nf: CubeTensor,
    came_in: [DType; 2],
}

impl Saved {
    fn forward(&self) -> CubeTensor {
        let out = like(&self.a_nf);
        let (count, dim, size, vectors) = vectors_of(&self.a_nf);
        let [a, b, to] = [&self.a_nf, &self.b_nf, &out].map(|x| x.clone().into_buffer_arg());
        gate_kernel::launch(&out.client, count, dim, size, a, b, to, vectors, dtype_to_storage_type(out.dtype));
        out
    }
}

impl GpuBackward<2> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above: CubeTensor, _: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let (of_a, of_b) = (like(&self.a_nf), like(&self.a_nf));
        let (count, dim, size, vectors) = vectors_of(&self.a_nf);
        let above = cast(above, of_a.dtype);
        let [a, b, above, to_a, to_b] = [&self.a_nf, &self.b_nf, &above, &of_a, &of_b].map(|x| x.clone().into_buffer_arg());
        let dtype = dtype_to_storage_type(of_a.dtype);
        gate_backward_kernel::launch(&of_a.client, count, dim, size, a, b, above, to_a, to_b, vectors, dtype);
        let [like_a, like_b] = self.came_in;
        [Some(cast(of_a, like_a)), Some(cast(of_b, like_b))]
    }
}
