//! What a step does to every parameter, on the CPU: one pass over memory, on all threads.

use burn::backend::Flex;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::host::{HostTensor, host, slice};
use super::spent::{self, Part};
use super::vector::on_vectors;

/// Elements that a thread takes at a time; sums are added up by such parts, whoever took them.
const PART: usize = 32 << 10;

/// One step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), numbers as in their papers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean.
    pub beta1: f64,
    /// Decay of the mean of squares.
    pub beta2: f64,
    /// Added to the root.
    pub epsilon: f64,
    /// Times the value, joins the gradient (Adam).
    pub coupled_decay: f64,
    /// Times the rate and the value, is taken off the value (AdamW).
    pub decoupled_decay: f64,
    /// This step's number, from 1.
    pub time: usize,
}

/// What a step multiplies by, worked out once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AdamNumbers {
    /// The rate over the first moment's missing share.
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub coupled: f32,
    /// The root of the inverse of the second moment's missing share.
    pub unbias2: f32,
    /// What decoupled decay leaves of a value.
    pub kept: f32,
}

impl AdamStep {
    pub(super) fn numbers(&self) -> AdamNumbers {
        let time = self.time as f64;
        let (unbias1, unbias2) = (1.0 / (1.0 - self.beta1.powf(time)), 1.0 / (1.0 - self.beta2.powf(time)));
        AdamNumbers {
            lr: (self.lr * unbias1) as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            epsilon: self.epsilon as f32,
            coupled: self.coupled_decay as f32,
            unbias2: unbias2.sqrt() as f32,
            kept: (1.0 - self.lr * self.decoupled_decay) as f32,
        }
    }
}

/// The new value, where the gradient was; the two moments, zeros before the first step, move in place.
pub(crate) fn adam<const D: usize>(
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

/// The sum of the squares of all elements.
pub(crate) fn sum_of_squares<const D: usize>(x: &Tensor<D>) -> f64 {
    const LANES: usize = 16;
    let part = |part: &[f32]| {
        on_vectors(|| {
            let mut lanes = [0.0f64; LANES];
            for chunk in part.chunks(LANES) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            lanes.iter().sum::<f64>()
        })
    };
    let sums: Vec<f64> = spent::on(Part::Optimizer, || slice(&host(x)).par_chunks(PART).map(part).collect());
    sums.iter().sum()
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
