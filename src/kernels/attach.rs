//! A number whose gradient is already known: how a kernel that works out losses and gradients in one go takes part in
//! autodiff.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

/// `value`, `[1]`, as a function of `of`: its backward pass hands `gradient` on, times what comes from above. Neither
/// `value` nor `gradient` is on a graph. What it hands on is in `of`'s numbers, whatever `gradient` is in.
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

/// Casts to the dtype of the upstream gradient, which is the loss's: CubeCL reads both factors of a product with the
/// first one's.
fn times<B: Backend>(gradient: FloatTensor<B>, above: FloatTensor<B>) -> FloatTensor<B> {
    let shape = vec![1; gradient.rank()];
    let gradient = in_numbers::<B>(gradient, above.dtype());
    B::float_mul(gradient, B::float_reshape(above, shape.into()))
}

fn in_numbers<B: Backend>(x: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if x.dtype() == dtype { x } else { B::float_cast(x, dtype.into()) }
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
            type State = (FloatTensor<B>, DType);

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let (gradient, of) = ops.state;
                unary::<B, _>(ops.parents, ops.node, gradients, |above| in_numbers::<B>(B::times(gradient, above), of));
            }
        }
        let (value, gradient, numbers) = (value.into_primitive(), gradient.into_primitive(), of.dtype());
        match Known.prepare::<C>([of.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((gradient, numbers), value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, FloatDType};

    use super::*;

    #[test]
    fn a_gradient_of_16_bits_is_handed_on_whole() {
        let device = Device::flex();
        let of = Tensor::<1>::from_floats([1.0, 2.0], &device).cast(FloatDType::BF16).autodiff().require_grad();
        for numbers in [FloatDType::BF16, FloatDType::F32] {
            let gradient = Tensor::<1>::from_floats([0.5, -3.0], &device).cast(numbers);
            let loss = attach(Tensor::<1>::from_floats([7.0], &device), of.clone(), gradient) * 2.0;
            let found = of.grad(&loss.backward()).unwrap();
            assert_eq!(found.dtype(), DType::BF16);
            assert_eq!(found.cast(FloatDType::F32).into_data().try_to_vec::<f32>().unwrap(), [1.0, -6.0]);
        }
    }
}
