//! Clipping by the norm of all gradients together (Pascanu et al. 2013); burn clips each tensor by itself.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::device::{Compute, Kernels, is_cpu};
use crate::kernels::{squares, sum_of_squares};

/// The 2-norm of all gradients of `model` taken as one vector; not finite when any of them is not. Reads it back.
pub fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    let SumOfSquares { on_cpu, elsewhere, .. } = sum_of(model, gradients);
    let elsewhere =
        if elsewhere.is_empty() { 0.0 } else { f64::from(squares(&elsewhere, Kernels::Composed).into_scalar::<f32>()) };
    (on_cpu + elsewhere).sqrt()
}

/// The square of the 2-norm of all gradients of `model` taken as one vector, `[1]`, still on the GPU that the model is
/// on.
///
/// # Panics
/// When no parameter has a gradient.
pub fn squared_norm<M: Module>(model: &M, gradients: &GradientsParams, compute: &Compute) -> Tensor<1> {
    let SumOfSquares { elsewhere, .. } = sum_of(model, gradients);
    squares(&elsewhere, compute.kernels)
}

fn sum_of<'a, M: Module>(model: &M, gradients: &'a GradientsParams) -> SumOfSquares<'a> {
    let mut sum = SumOfSquares { gradients, on_cpu: 0.0, elsewhere: Vec::new() };
    model.visit(&mut sum);
    sum
}

/// Multiplies every gradient of `model` by `factor`.
pub fn scale<M: Module>(model: &M, gradients: GradientsParams, factor: f64) -> GradientsParams {
    let mut scaled = Scale { gradients, factor };
    model.visit(&mut scaled);
    scaled.gradients
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    on_cpu: f64,
    /// Gradients on a GPU, flat.
    elsewhere: Vec<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        match is_cpu(&gradient.device()) {
            true => self.on_cpu += sum_of_squares(&gradient),
            false => self.elsewhere.push(gradient.reshape([-1])),
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}
