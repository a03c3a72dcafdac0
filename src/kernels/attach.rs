//! A number whose gradient is already known: how a kernel that works out losses and gradients in one go takes part in autodiff.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

/// `value`, `[1]`, as a function of `of`: its backward pass hands `gradient` on, times what comes from above. Neither `value`
/// nor `gradient` is on a graph.
pub(super) fn attach<const D: usize>(value: Tensor<1>, of: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    let attached = Dispatch::attach(value.into_dispatch(), of.into_dispatch(), gradient.into_dispatch());
    Tensor::from_dispatch(attached)
}

/// The operation, for burn's backends. Without autodiff there is nothing to attach.
#[cfg_attr(not(feature = "gpu"), backend_extension(Autodiff, Flex))]
#[cfg_attr(feature = "gpu", backend_extension(Autodiff, Flex, Cube))]
pub(super) trait Attach: Backend {
    fn attach(value: FloatTensor<Self>, of: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// A gradient times what comes from above.
trait Times: Backend {
    fn times(gradient: FloatTensor<Self>, above: FloatTensor<Self>) -> FloatTensor<Self> {
        times::<Self>(gradient, above)
    }
}

fn times<B: Backend>(gradient: FloatTensor<B>, above: FloatTensor<B>) -> FloatTensor<B> {
    let shape = vec![1; gradient.rank()];
    B::float_mul(gradient, B::float_reshape(above, shape.into()))
}

impl Times for burn::backend::Flex {
    /// What comes from above is mostly 1, and the decoder's gradient large.
    fn times(gradient: FloatTensor<Self>, above: FloatTensor<Self>) -> FloatTensor<Self> {
        match above.as_slice::<f32>() {
            Some([1.0]) => gradient,
            _ => times::<Self>(gradient, above),
        }
    }
}

#[cfg(feature = "gpu")]
impl Times for burn_cubecl::CubeBackend {}

impl Attach for burn::backend::Flex {
    fn attach(value: FloatTensor<Self>, _of: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        value
    }
}

#[cfg(feature = "gpu")]
impl Attach for burn_cubecl::CubeBackend {
    fn attach(value: FloatTensor<Self>, _of: FloatTensor<Self>, _gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        value
    }
}

impl<B: Backend + Attach + Times, C: CheckpointStrategy> Attach for Autodiff<B, C> {
    fn attach(value: FloatTensor<Self>, of: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Known;
        impl<B: Times> Backward<B, 1> for Known {
            type State = FloatTensor<B>;

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                unary::<B, _>(ops.parents, ops.node, gradients, |above| B::times(ops.state, above));
            }
        }
        let (value, gradient) = (value.into_primitive(), gradient.into_primitive());
        match Known.prepare::<C>([of.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(gradient, value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }
}
