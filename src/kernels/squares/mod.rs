//! The sum of the squares of all gradients: what clipping by the global norm asks of every step.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

pub(crate) use cpu::sum_of_squares;

use crate::device::Kernels;

/// The sum over all elements of all `tensors`, at least one, which are flat and on one GPU in f32: `[1]`, still there.
/// In the same order every time.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "burn's is the only form that is left"))]
pub(crate) fn squares(tensors: &[Tensor<1>], kernels: Kernels) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if kernels != Kernels::Composed {
        return cube::squares(tensors);
    }
    composed::squares(tensors)
}
