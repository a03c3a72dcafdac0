//! How operations of our own take part in autodiff, on the CPU and on GPUs: a value that was worked out outside the
//! graph is linked into it by a backward pass of its own.
//!
//! Our operations know autodiff without gradient checkpointing alone, which is what `Device::autodiff` gives: each
//! keeps what its backward pass needs, and nothing is worked out twice.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{Shape, Tensor};

type Tracked<B> = Autodiff<B, NoCheckpointing>;

/// A tensor outside any graph.
pub(super) fn inner<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.device().is_autodiff() { x.inner() } else { x }
}

/// A tensor that an operation reads: a node of the graph, or a constant.
pub(super) struct Parent<B: Backend> {
    tensor: FloatTensor<Tracked<B>>,
    /// Whether it came with autodiff.
    is_on_graph: bool,
}

impl<B: Backend> Parent<B>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Tracked<B>>,
{
    pub fn of<const D: usize>(x: Tensor<D>) -> Self {
        const OTHER: &str = "a tensor of the operation's backend, without gradient checkpointing";
        let is_on_graph = x.device().is_autodiff();
        let tensor = match is_on_graph {
            true => x.try_into_primitive::<Tracked<B>>().expect(OTHER),
            false => Tracked::<B>::from_inner(x.try_into_primitive::<B>().expect(OTHER)),
        };
        Self { tensor, is_on_graph }
    }

    pub fn shape(&self) -> Shape {
        self.tensor.shape()
    }
}

/// The backward pass of an operation that reads N tensors, with all that it needs of the forward pass.
pub(super) trait BackwardPass<B: Backend, const N: usize>: Debug + Send + Sync {
    /// The gradients with respect to the tensors that the operation read, in their order: of those that are `wanted`,
    /// anything for the others. `above` is the upstream gradient: that with respect to the operation's value.
    fn backward(&self, above: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

/// `value` as a tensor that depends on `parents` by `backward`. When none of them is on a graph, the tensor is on none.
pub(super) fn linked<B: Backend, const D: usize, const N: usize>(
    value: FloatTensor<B>,
    parents: [Parent<B>; N],
    backward: impl BackwardPass<B, N> + 'static,
) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Tracked<B>>,
{
    if parents.iter().all(|parent| !parent.is_on_graph) {
        return Tensor::from_primitive::<B>(value);
    }
    let nodes = parents.map(|parent| parent.tensor.node());
    let tracked = match Backward::<B, N>::prepare::<NoCheckpointing>(Linked, nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Arc::new(backward), value),
        OpsKind::UnTracked(prepared) => prepared.finish(value),
    };
    Tensor::from_primitive::<Tracked<B>>(tracked)
}

#[derive(Debug)]
struct Linked;

impl<B: Backend, const N: usize> Backward<B, N> for Linked {
    type State = Arc<dyn BackwardPass<B, N>>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let above = gradients.consume::<B>(&ops.node);
        let found = ops.state.backward(above, ops.parents.each_ref().map(Option::is_some));
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}
