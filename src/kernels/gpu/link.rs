//! Operations on a GPU with a backward pass of our own: `host.rs` has the same for the CPU.

use std::fmt::Debug;

use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::graph::{BackwardPass, Parent, linked};
use crate::kernels::spent::{self, Part};

/// The backward pass of an operation that reads N tensors, with all that it needs of the forward pass.
pub(in crate::kernels) trait GpuBackward<const N: usize>: Debug + Send + Sync {
    /// What its time counts as.
    fn part(&self) -> Part;

    /// The gradients with respect to the tensors that the operation read, in their order: of those that are `wanted`,
    /// anything for the others. `above` is the gradient with respect to the operation's value, contiguous.
    fn backward(&self, above: CubeTensor, wanted: [bool; N]) -> [Option<CubeTensor>; N];
}

/// `value`, worked out by a kernel, as a tensor that depends on `parents` by `backward`. When none of them is on a
/// graph, the tensor is on none.
pub(in crate::kernels) fn with_gradient<const D: usize, const N: usize>(
    value: CubeTensor,
    parents: [Parent<CubeBackend>; N],
    backward: impl GpuBackward<N> + 'static,
) -> Tensor<D> {
    linked(value, parents, OnGpu(backward))
}

/// A backward pass on a GPU.
#[derive(Debug)]
struct OnGpu<T>(T);

impl<T: GpuBackward<N>, const N: usize> BackwardPass<CubeBackend, N> for OnGpu<T> {
    fn backward(&self, above: CubeTensor, wanted: [bool; N]) -> [Option<CubeTensor>; N] {
        let above = into_contiguous(above);
        spent::on_gpu(self.0.part(), &above.clone(), || self.0.backward(above, wanted))
    }
}
