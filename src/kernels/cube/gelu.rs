//! GELU by the error function, in one pass over memory each way; in f32 whatever it comes in.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::link::{GpuBackward, PARENTS, with_gradient};

/// The normal distribution's integral up to x.
#[cube]
fn below(x: f32) -> f32 {
    0.5f32 + 0.5f32 * Erf::erf(x * 0.707_106_77f32)
}

#[cube(launch)]
fn gelu_kernel<F: Float>(x: &[F], out: &mut [F], #[define(F)] _dtype: ElemType) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let x = f32::cast_from(x[i]);
    out[i] = F::cast_from(x * below(x));
}

#[cube(launch)]
fn gelu_backward_kernel<F: Float>(x: &[F], above: &[F], out: &mut [F], #[define(F)] _dtype: ElemType) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let x = f32::cast_from(x[i]);
    // Below exp's range the density is 0.
    let density = max(-0.5f32 * x * x, -87.0f32).exp() * 0.398_942_3f32;
    out[i] = F::cast_from(f32::cast_from(above[i]) * (below(x) + x * density));
}

/// `gelu(x)` in x's numbers.
pub(in super::super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let input = super::on_gpu(&x);
    let out = super::like(&input);
    let (count, dim) = super::cubes(x.shape().num_elements());
    let client = out.client.clone();
    let dtype = dtype_to_storage_type(out.dtype);
    gelu_kernel::launch(&client, count, dim, input.clone().into_buffer_arg(), out.clone().into_buffer_arg(), dtype);
    with_gradient(out, [Some(x.into_dispatch()), None, None, None], Saved(input))
}

/// What went in.
#[derive(Debug)]
struct Saved(CubeTensor);

impl GpuBackward for Saved {
    fn backward(&self, above: CubeTensor, _: [bool; PARENTS]) -> [Option<CubeTensor>; PARENTS] {
        let out = super::like(&self.0);
        let (count, dim) = super::cubes(out.meta.num_elements());
        let client = out.client.clone();
        let dtype = dtype_to_storage_type(out.dtype);
        let x = self.0.clone();
        gelu_backward_kernel::launch(
            &client,
            count,
            dim,
            x.into_buffer_arg(),
            above.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            dtype,
        );
        [Some(out), None, None, None]
    }
}
