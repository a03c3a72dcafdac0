//! Operations on host memory with a backward pass of our own: how the CPU's fused operations take part in autodiff.
//!
//! burn's CPU backend spends most of a step in copies and elementwise work on one core; so the CPU's layers are fused
//! by hand. An operation here is a value computed in plain Rust, and a backward pass that is linked into burn's graph.
//! Attention computes only the pairs of one sentence: packed rows cost what their sentences cost. `upstill bench step`
//! shows what this gains.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensor, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Device, Shape, Tensor, TensorData};

use super::spent::{self, Part};

/// Tensors that an operation can read.
pub(super) const PARENTS: usize = 4;

/// What a tensor of the CPU backend is made of.
pub(super) type HostTensor = FloatTensor<Flex>;

/// The backward pass of an operation, with all that it needs of the forward pass.
pub(super) trait HostBackward: Debug + Send + Sync {
    /// What its time counts as.
    fn part(&self) -> Part;

    /// The gradients with respect to the parents that are `wanted`, flat; anything for the others. `above` is the
    /// upstream gradient: that with respect to the operation's value.
    fn backward(&self, above: &[f32], wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS];
}

/// The values of a tensor on the CPU, contiguous and outside any graph.
pub(super) fn host<const D: usize>(x: &Tensor<D>) -> HostTensor {
    let x = if x.device().is_autodiff() { x.clone().inner() } else { x.clone() };
    x.try_into_primitive::<Flex>().expect("a tensor of the CPU backend").to_contiguous()
}

/// The values of a [`HostTensor`].
pub(super) fn slice(x: &HostTensor) -> &[f32] {
    x.as_slice().expect("contiguous f32")
}

/// `value`, worked out on the host, as a tensor that depends on `parents` by `backward`. When none of them is on a
/// graph, the tensor is on none.
pub(super) fn with_gradient<const D: usize>(
    value: Vec<f32>,
    shape: [usize; D],
    parents: [Option<DispatchTensor>; PARENTS],
    backward: impl HostBackward + 'static,
) -> Tensor<D> {
    let value = Tensor::<D>::from_data(TensorData::new(value, shape), &Device::flex());
    let constant = || Tensor::<1>::zeros([1], &Device::flex()).into_dispatch();
    let [a, b, c, d] = parents.map(|parent| parent.unwrap_or_else(constant));
    Tensor::from_dispatch(Dispatch::link(value.into_dispatch(), a, b, c, d, Known(Arc::new(backward))))
}

/// A backward pass that can be cloned.
#[derive(Debug, Clone)]
pub(super) struct Known(Arc<dyn HostBackward>);

/// The operation, for burn's CPU backend. Without autodiff there is nothing to link.
#[backend_extension(Autodiff, Flex)]
pub(super) trait Link: Backend {
    fn link(
        value: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        backward: Known,
    ) -> FloatTensor<Self>;
}

impl Link for Flex {
    fn link(
        value: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Known,
    ) -> FloatTensor<Self> {
        value
    }
}

impl<C: CheckpointStrategy> Link for Autodiff<Flex, C> {
    fn link(
        value: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        backward: Known,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linked;
        impl Backward<Flex, PARENTS> for Linked {
            type State = (Known, [Shape; PARENTS]);

            fn backward(self, ops: Ops<Self::State, PARENTS>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let above = gradients.consume::<Flex>(&ops.node).to_contiguous();
                let (known, shapes) = ops.state;
                let wanted = ops.parents.each_ref().map(Option::is_some);
                let found = spent::on(known.0.part(), || known.0.backward(slice(&above), wanted));
                for ((node, values), shape) in ops.parents.into_iter().zip(found).zip(shapes) {
                    if let Some(node) = node {
                        gradients.register::<Flex>(node.id, HostTensor::from_data(TensorData::new(values, shape)));
                    }
                }
            }
        }
        let parents = [a, b, c, d];
        let shapes = parents.each_ref().map(TensorMetadata::shape);
        let nodes = parents.each_ref().map(|parent| parent.node());
        let value = value.into_primitive();
        match Linked.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((backward, shapes), value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }
}
