//! Operations on a GPU with a backward pass of our own: `host.rs` has the same for the CPU.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensor, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::super::spent::{self, Part};

/// Tensors that an operation can depend on.
pub(in super::super) const PARENTS: usize = 7;

/// The backward pass of an operation, with all that it needs of the forward pass.
pub(in super::super) trait GpuBackward: Debug + Send + Sync {
    /// What its time counts as.
    fn part(&self) -> Part;

    /// The gradients with respect to the parents, in their order: of those that are `wanted`, anything for the others.
    /// `above` is the gradient with respect to the operation's value, contiguous.
    fn backward(&self, above: CubeTensor, wanted: [bool; PARENTS]) -> Vec<Option<CubeTensor>>;
}

/// `value`, worked out by a kernel, as a tensor that depends on `parents` by `backward`. When none of them is on a
/// graph, the tensor is on none.
pub(in super::super) fn with_gradient<const D: usize, const N: usize>(
    value: CubeTensor,
    parents: [DispatchTensor; N],
    backward: impl GpuBackward + 'static,
) -> Tensor<D> {
    const { assert!(N <= PARENTS) };
    let value = super::tensor::<D>(value).into_dispatch();
    // A constant stands for a parent that isn't there: the value itself, off any graph.
    let mut parents = parents.into_iter();
    let [a, b, c, d, e, f, g] = std::array::from_fn(|_| parents.next().unwrap_or_else(|| value.clone()));
    Tensor::from_dispatch(Dispatch::link_on_gpu(value, a, b, c, d, e, f, g, KnownOnGpu(Arc::new(backward))))
}

/// A backward pass that can be cloned.
#[derive(Debug, Clone)]
pub(super) struct KnownOnGpu(Arc<dyn GpuBackward>);

/// The operation, for burn's GPU backend. Without autodiff there is nothing to link.
#[backend_extension(Autodiff, Cube)]
pub(super) trait LinkOnGpu: Backend {
    #[allow(
        clippy::too_many_arguments,
        reason = "backends take tensors one by one; of the copies that are made, not every one is linted"
    )]
    fn link_on_gpu(
        value: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        g: FloatTensor<Self>,
        backward: KnownOnGpu,
    ) -> FloatTensor<Self>;
}

impl LinkOnGpu for CubeBackend {
    fn link_on_gpu(
        value: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: KnownOnGpu,
    ) -> FloatTensor<Self> {
        value
    }
}

impl<C: CheckpointStrategy> LinkOnGpu for Autodiff<CubeBackend, C> {
    fn link_on_gpu(
        value: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        g: FloatTensor<Self>,
        backward: KnownOnGpu,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linked;
        impl Backward<CubeBackend, PARENTS> for Linked {
            type State = KnownOnGpu;

            fn backward(self, ops: Ops<Self::State, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let above = into_contiguous(gradients.consume::<CubeBackend>(&ops.node));
                let (known, wanted) = (ops.state.0, ops.parents.each_ref().map(Option::is_some));
                let found = spent::on_gpu(known.part(), &above.clone(), || known.backward(above, wanted));
                for (node, gradient) in ops.parents.into_iter().zip(found) {
                    if let (Some(node), Some(gradient)) = (node, gradient) {
                        gradients.register::<CubeBackend>(node.id, gradient);
                    }
                }
            }
        }
        let parents = [a, b, c, d, e, f, g];
        let nodes = parents.each_ref().map(|parent| parent.node());
        let value = value.into_primitive();
        match Linked.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(backward, value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }
}
