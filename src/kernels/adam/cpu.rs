//! A step of Adam on the CPU: one pass over memory, on all threads.

use burn::backend::Flex;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{AdamNumbers, AdamStep};
use crate::kernels::host::{HostTensor, host, slice};
use crate::kernels::spent::{self, Part};
use crate::kernels::vector::on_vectors;

/// Elements that a thread takes at a time.
const PART: usize = 32 << 10;

/// See [`AdamPass::step`](super::AdamPass::step).
pub(super) fn adam<const D: usize>(
    value: &Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    step: &AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let value = host(value);
    let [first, second] = moments;
    let [mut out, mut first, mut second] =
        [gradient, first, second].map(|x| x.try_into_primitive::<Flex>().expect("a tensor of the CPU backend"));
    let AdamNumbers { lr, beta1, beta2, epsilon, coupled, unbias2, kept } = step.numbers();
    let parts = storage(&mut out).par_chunks_mut(PART).zip(slice(&value).par_chunks(PART));
    let moments = storage(&mut first).par_chunks_mut(PART).zip(storage(&mut second).par_chunks_mut(PART));
    let pass = || {
        parts.zip(moments).for_each(|((out, value), (first, second))| {
            on_vectors(|| {
                for (((out, value), first), second) in out.iter_mut().zip(value).zip(first).zip(second) {
                    let gradient = *out + coupled * value;
                    *first = beta1 * *first + (1.0 - beta1) * gradient;
                    *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
                    *out = kept * value - lr * *first / (second.sqrt() * unbias2 + epsilon);
                }
            });
        });
    };
    spent::on(Part::Optimizer, pass);
    let [out, first, second] = [out, first, second].map(Tensor::from_primitive::<Flex>);
    (out, [first, second])
}

/// The values, to be changed: of a view, those that it shows and no others.
fn storage(x: &mut HostTensor) -> &mut [f32] {
    if x.as_slice::<f32>().is_none_or(|own| size_of_val(own) != x.bytes().len()) {
        *x = x.to_contiguous();
    }
    x.storage_mut::<f32>()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_gradient_that_is_a_view_moves_what_its_copy_does() {
        let step =
            AdamStep { lr: 0.1, beta1: 0.9, beta2: 0.98, epsilon: 1e-6, coupled_decay: 0.0, decoupled_decay: 0.0, time: 1 };
        let device = Device::flex();
        let all = Tensor::<1>::from_floats([9.0, 9.0, 1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 9.0], &device);
        let zeros = || Tensor::<2>::zeros([2, 3], &device);
        let moved = |gradient: Tensor<2>| {
            let (value, [first, _]) = adam(&zeros(), gradient, [zeros(), zeros()], &step);
            [value, first].map(|x| x.into_data().try_to_vec::<f32>().unwrap())
        };
        let view = all.clone().narrow(0, 2, 6).reshape([2, 3]);
        assert_eq!(moved(view), moved(Tensor::from_floats([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]], &device)));
        assert_eq!(all.into_data().try_to_vec::<f32>().unwrap()[2], 1.0, "what it is a view of stays");
    }
}
