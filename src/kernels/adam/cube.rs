//! A step of Adam or AdamW on the GPU in one pass over memory, by numbers that are still on the device: no step waits
//! for the host to have read its losses.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{AdamNumbers, AdamStep};
use crate::device::Traits;
use crate::kernels::gpu::{cubes, like, on_gpu, tensor};
use crate::kernels::spent::{self, Part};

/// What a step reads and writes of a parameter, flat.
#[derive(CubeType, CubeLaunch)]
struct Moved {
    value: Box<[f32]>,
    gradient: Box<[f32]>,
    first: Box<[f32]>,
    second: Box<[f32]>,
    out: Box<[f32]>,
}

/// Moves an element of each parameter along z. `guard` has 1 for a run whose steps have all been finite, else 0; then a
/// factor of the gradient a model.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn adam_kernel(
    parameters: &mut Sequence<Moved>,
    guard: &[f32],
    model: u32,
    lr: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    coupled: f32,
    unbias2: f32,
    kept: f32,
) {
    let i = ((CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM + UNIT_POS) as usize;
    #[unroll]
    for which in 0..parameters.len() {
        let of = parameters.index_mut(which);
        if CUBE_POS_Z as usize == which && i < of.out.len() {
            let old = of.value[i];
            if guard[0] == 0.0f32 {
                of.out[i] = old;
            } else {
                let gradient = of.gradient[i] * guard[1 + model as usize] + coupled * old;
                let mean = beta1 * of.first[i] + (1.0f32 - beta1) * gradient;
                let square = beta2 * of.second[i] + (1.0f32 - beta2) * gradient * gradient;
                of.first[i] = mean;
                of.second[i] = square;
                of.out[i] = kept * old - lr * mean / (square.sqrt() * unbias2 + epsilon);
            }
        }
    }
}

/// A step of one model's parameters, several a launch: they are many, and most are small.
pub(super) struct GuardedAdam {
    guard: CubeTensor,
    model: u32,
    waiting: Vec<Waiting>,
}

/// A parameter that no launch has moved yet.
struct Waiting {
    /// Value, gradient, the two moments, and what the value becomes.
    tensors: [CubeTensor; 5],
    numbers: AdamNumbers,
}

impl GuardedAdam {
    /// Of the model at this place of a guard ([`next_guard`](crate::kernels::next_guard)).
    pub fn new(guard: &Tensor<1>, model: usize) -> Self {
        Self { guard: on_gpu(guard), model: model as u32, waiting: Vec::new() }
    }

    /// The new value, and the two moments, which move in place; all of them once [`launch`](Self::launch) was called.
    pub fn step<const D: usize>(
        &mut self,
        value: &Tensor<D>,
        gradient: &Tensor<D>,
        moments: [Tensor<D>; 2],
        step: &AdamStep,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let [value, gradient] = [value, gradient].map(on_gpu);
        let [first, second] = moments.map(|moment| on_gpu(&moment));
        let out = like(&value);
        let moved = (tensor(out.clone()), [first.clone(), second.clone()].map(tensor));
        self.waiting.push(Waiting { tensors: [value, gradient, first, second, out], numbers: step.numbers() });
        moved
    }

    /// Moves what is waiting.
    pub fn launch(self) {
        let guard = self.guard.clone();
        spent::on_gpu(Part::Optimizer, &guard, || self.launch_all());
    }

    fn launch_all(mut self) {
        let client = self.guard.client.clone();
        let together = Traits::of_runtime(client.name()).adams_a_launch;
        // Tensors of similar length go together: a launch has as many threads a tensor as its longest needs.
        self.waiting.sort_by_key(|of| std::cmp::Reverse(of.length()));
        while let Some(numbers) = self.waiting.first().map(|of| of.numbers) {
            let (alike, others): (Vec<_>, Vec<_>) = self.waiting.into_iter().partition(|of| of.numbers == numbers);
            self.waiting = others;
            for some in alike.chunks(together) {
                let (CubeCount::Static(x, y, _), dim) = cubes(some[0].length()) else { unreachable!("cubes are counted") };
                let parameters = some.iter().map(|of| {
                    let [value, gradient, first, second, out] = of.tensors.clone().map(CubeTensor::into_buffer_arg);
                    MovedLaunch::new(value, gradient, first, second, out)
                });
                adam_kernel::launch(
                    &client,
                    CubeCount::Static(x, y, some.len() as u32),
                    dim,
                    parameters.collect(),
                    self.guard.clone().into_buffer_arg(),
                    self.model,
                    numbers.lr,
                    numbers.beta1,
                    numbers.beta2,
                    numbers.epsilon,
                    numbers.coupled,
                    numbers.unbias2,
                    numbers.kept,
                );
            }
        }
    }
}

impl Waiting {
    fn length(&self) -> usize {
        self.tensors[0].meta.num_elements()
    }
}
