//! Clipping by the norm of all gradients together (Pascanu et al. 2013); burn clips each tensor by itself.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::device::is_cpu;
use crate::kernels::{Form, squares, sum_of_squares};

/// The 2-norm of all gradients of `model` taken as one vector; not finite when any of them is not. One read-back.
pub fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    let mut sum = SumOfSquares { gradients, on_cpu: 0.0, elsewhere: Vec::new() };
    model.visit(&mut sum);
    let elsewhere = if sum.elsewhere.is_empty() { 0.0 } else { f64::from(sum.on_gpu().into_scalar::<f32>()) };
    (sum.on_cpu + elsewhere).sqrt()
}

/// The same squared, `[1]`, still on the device, which isn't the CPU.
///
/// # Panics
/// When no parameter has a gradient.
pub fn squared_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Tensor<1> {
    let mut sum = SumOfSquares { gradients, on_cpu: 0.0, elsewhere: Vec::new() };
    model.visit(&mut sum);
    sum.on_gpu()
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

impl SumOfSquares<'_> {
    fn on_gpu(&self) -> Tensor<1> {
        let device = self.elsewhere.first().expect("a model in training has gradients, on its GPU").device();
        match Form::of(&device) {
            Form::Composed => {
                let each = self.elsewhere.iter().map(|gradient| gradient.clone().square().sum());
                each.reduce(|sum, squares| sum + squares).expect("at least one")
            }
            Form::Fused | Form::CubeCl => squares(&self.elsewhere),
        }
    }
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
