//! The guard of the next step on a GPU, in one launch.

use burn::tensor::Tensor;
use cubecl::prelude::*;

use crate::kernels::gpu::{empty, on_gpu, tensor};

/// The guard after a step: whether this and all before were finite, and each model's clipping factor.
#[cube(launch)]
fn guard_kernel(before: &[f32], totals: &[f32], squares: &[f32], clips: &[f32], out: &mut [f32]) {
    let models = squares.len();
    // Not an infinity and not a NaN, which no comparison holds for.
    let largest = f32::new(3.0e38);
    let mut alive = before[0];
    let mut i = 0usize;
    while i < models {
        let is_finite = totals[i].abs() <= largest && squares[i].abs() <= largest;
        alive = select(is_finite, alive, 0.0f32);
        let norm = squares[i].sqrt();
        let clip = clips[i];
        out[1 + i] = select(clip > 0.0f32 && norm > clip, clip / norm, 1.0f32);
        i += 1;
    }
    out[0] = alive;
}

/// See [`next_guard`](super::next_guard).
pub(super) fn next_guard(before: &Tensor<1>, totals: &Tensor<1>, squares: &Tensor<1>, clips: &Tensor<1>) -> Tensor<1> {
    let before = on_gpu(before);
    let out = empty([1 + totals.dims()[0]], &before);
    let client = out.client.clone();
    guard_kernel::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(1),
        before.into_buffer_arg(),
        on_gpu(totals).into_buffer_arg(),
        on_gpu(squares).into_buffer_arg(),
        on_gpu(clips).into_buffer_arg(),
        out.clone().into_buffer_arg(),
    );
    tensor(out)
}
