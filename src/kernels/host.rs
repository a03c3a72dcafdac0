//! Operations on host memory with a backward pass of our own: how the CPU's fused operations take part in autodiff.
//!
//! burn's CPU backend spends most of a step in copies and elementwise work on one core; so the CPU's layers are fused
//! by hand. An operation here is a value computed in plain Rust, and a backward pass that is linked into burn's graph.
//! Attention computes only the pairs of one sentence: packed rows cost what their sentences cost. `upstill bench step`
//! shows what this gains.

use std::fmt::Debug;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, Tensor, TensorData};

use super::graph::{BackwardPass, Parent, inner, linked};
use super::spent::{self, Part};

/// What a tensor of the CPU backend is made of.
pub(super) type HostTensor = FloatTensor<Flex>;

/// The backward pass of an operation that reads N tensors, with all that it needs of the forward pass.
pub(super) trait HostBackward<const N: usize>: Debug + Send + Sync {
    /// What its time counts as.
    fn part(&self) -> Part;

    /// The gradients with respect to the tensors that the operation read, in their order and flat: of those that are
    /// `wanted`, anything for the others. `above` is the upstream gradient: that with respect to the operation's value.
    fn backward(&self, above: &[f32], wanted: [bool; N]) -> [Option<Vec<f32>>; N];
}

/// The values of a tensor on the CPU, contiguous and outside any graph.
pub(super) fn host<const D: usize>(x: &Tensor<D>) -> HostTensor {
    inner(x.clone()).try_into_primitive::<Flex>().expect("a tensor of the CPU backend").to_contiguous()
}

/// The values of a [`HostTensor`].
pub(super) fn slice(x: &HostTensor) -> &[f32] {
    x.as_slice().expect("contiguous f32")
}

/// `value`, worked out on the host, as a tensor that depends on `parents` by `backward`. When none of them is on a
/// graph, the tensor is on none.
pub(super) fn with_gradient<const D: usize, const N: usize>(
    value: Vec<f32>,
    shape: [usize; D],
    parents: [Parent<Flex>; N],
    backward: impl HostBackward<N> + 'static,
) -> Tensor<D> {
    let shapes = parents.each_ref().map(Parent::shape);
    linked(HostTensor::from_data(TensorData::new(value, shape)), parents, OnHost { backward, shapes })
}

/// A backward pass on the host, with the shapes of what the operation read.
#[derive(Debug)]
struct OnHost<T, const N: usize> {
    backward: T,
    shapes: [Shape; N],
}

impl<T: HostBackward<N>, const N: usize> BackwardPass<Flex, N> for OnHost<T, N> {
    fn backward(&self, above: HostTensor, wanted: [bool; N]) -> [Option<HostTensor>; N] {
        let above = above.to_contiguous();
        let found = spent::on(self.backward.part(), || self.backward.backward(slice(&above), wanted));
        let mut shapes = self.shapes.iter().cloned();
        found.map(|values| {
            let shape = shapes.next()?;
            values.map(|values| HostTensor::from_data(TensorData::new(values, shape)))
        })
    }
}
