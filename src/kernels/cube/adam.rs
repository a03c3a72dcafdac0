//! A step of Adam or AdamW on the GPU in one pass over memory, by numbers that are still on the device: no step waits for the host
//! to have read its losses.

use burn::tensor::Tensor;
use cubecl::prelude::*;

use super::super::update::AdamStep;

/// Moves one element. `guard` has 1 for a run whose steps have all been finite, else 0; then a factor of the gradient a model.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn adam_kernel(
    value: &[f32],
    gradient: &[f32],
    guard: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    out: &mut [f32],
    model: u32,
    lr: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    coupled: f32,
    unbias2: f32,
    kept: f32,
) {
    let i = ABSOLUTE_POS;
    if i >= out.len() {
        terminate!();
    }
    let old = value[i];
    if guard[0] == 0.0f32 {
        out[i] = old;
        terminate!();
    }
    let gradient = gradient[i] * guard[1 + model as usize] + coupled * old;
    let mean = beta1 * first[i] + (1.0f32 - beta1) * gradient;
    let square = beta2 * second[i] + (1.0f32 - beta2) * gradient * gradient;
    first[i] = mean;
    second[i] = square;
    out[i] = kept * old - lr * mean / (square.sqrt() * unbias2 + epsilon);
}

/// The new value; the two moments move in place. `guard` is [`guard`]'s.
pub(crate) fn adam<const D: usize>(
    value: &Tensor<D>,
    gradient: &Tensor<D>,
    moments: [Tensor<D>; 2],
    step: &AdamStep,
    (guard, model): (&Tensor<1>, usize),
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let (shape, value) = (value.dims(), super::on_gpu(value));
    let out = super::empty(shape, &value);
    let [first, second] = moments.map(|moment| super::on_gpu(&moment));
    let numbers = step.numbers();
    let (count, dim) = super::cubes(shape.iter().product());
    let client = out.client.clone();
    adam_kernel::launch(
        &client,
        count,
        dim,
        value.into_buffer_arg(),
        super::on_gpu(gradient).into_buffer_arg(),
        super::on_gpu(guard).into_buffer_arg(),
        first.clone().into_buffer_arg(),
        second.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        model as u32,
        numbers.lr,
        numbers.beta1,
        numbers.beta2,
        numbers.epsilon,
        numbers.coupled,
        numbers.unbias2,
        numbers.kept,
    );
    (super::tensor(out), [first, second].map(super::tensor))
}

/// The guard after a step: whether this and all before were finite, and each model's clipping factor.
#[cube(launch)]
fn guard_kernel(before: &[f32], totals: &[f32], squares: &[f32], clips: &[f32], out: &mut [f32]) {
    let models = squares.len();
    // Not an infinity and not a NaN, which no comparison holds for.
    let largest = f32::new(3.0e38);
    let mut alive = before[0];
    let mut i = 0usize;
    while i < models {
        let is_finite = totals[i].abs() <= largest && squares[i].abs() <= largest;
        alive = select(is_finite, alive, 0.0f32);
        let norm = squares[i].sqrt();
        let clip = clips[i];
        out[1 + i] = select(clip > 0.0f32 && norm > clip, clip / norm, 1.0f32);
        i += 1;
    }
    out[0] = alive;
}

/// From the guard before, each model's loss and squared gradient norm of this step, and its largest norm (0 does not clip):
/// `[1 + models]`.
pub(crate) fn guard(before: &Tensor<1>, totals: &Tensor<1>, squares: &Tensor<1>, clips: &Tensor<1>) -> Tensor<1> {
    let before = super::on_gpu(before);
    let out = super::empty([1 + totals.dims()[0]], &before);
    let client = out.client.clone();
    guard_kernel::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(1),
        before.into_buffer_arg(),
        super::on_gpu(totals).into_buffer_arg(),
        super::on_gpu(squares).into_buffer_arg(),
        super::on_gpu(clips).into_buffer_arg(),
        out.clone().into_buffer_arg(),
    );
    super::tensor(out)
}
