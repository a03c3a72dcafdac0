//! Clipping by the norm of all gradients together (Pascanu et al. 2013); burn clips each tensor by itself.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::device::is_cpu;
use crate::kernels::sum_of_squares;

/// The 2-norm of all gradients of a model taken as one vector; not finite when any of them is not.
#[derive(Debug, Clone)]
pub enum Norm {
    /// On the host.
    Host(f64),
    /// The sum of squares, `[1]`, still on the device.
    Device(Tensor<1>),
}

impl Norm {
    /// What has to be read for [`Norm::read_as`]: nothing when it is on the host.
    pub fn squares_on_device(&self) -> Option<Tensor<1>> {
        match self {
            Norm::Host(_) => None,
            Norm::Device(squares) => Some(squares.clone()),
        }
    }

    /// The norm, when `next` gives what was read.
    pub fn read_as(&self, next: &mut dyn FnMut() -> f64) -> f64 {
        match self {
            Norm::Host(norm) => *norm,
            Norm::Device(_) => next().sqrt(),
        }
    }

    /// The gradients, scaled so that their norm is at most `largest`. Nothing is read.
    pub fn clip<M: Module>(&self, model: &M, gradients: GradientsParams, largest: f64) -> GradientsParams {
        match self {
            Norm::Host(norm) if *norm > largest => scale(model, gradients, Factor::Host(largest / norm)),
            Norm::Host(_) => gradients,
            // A norm of 0 has nothing to scale; an infinite factor would make it NaN.
            Norm::Device(squares) => {
                let factor = (squares.clone().sqrt().clamp_min(1e-30).recip() * largest).clamp_max(1.0);
                scale(model, gradients, Factor::Device(factor))
            }
        }
    }
}

/// The 2-norm of all gradients of `model`; on a GPU it stays there.
pub fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Norm {
    let mut sum = SumOfSquares { gradients, on_cpu: 0.0, elsewhere: None };
    model.visit(&mut sum);
    match sum.elsewhere {
        Some(squares) => Norm::Device(squares),
        None => Norm::Host(sum.on_cpu.sqrt()),
    }
}

/// What all gradients are multiplied by.
enum Factor {
    Host(f64),
    Device(Tensor<1>),
}

/// Multiplies every gradient of `model` by `factor`.
fn scale<M: Module>(model: &M, gradients: GradientsParams, factor: Factor) -> GradientsParams {
    let mut scaled = Scale { gradients, factor };
    model.visit(&mut scaled);
    scaled.gradients
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    on_cpu: f64,
    elsewhere: Option<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            if is_cpu(&gradient.device()) {
                self.on_cpu += sum_of_squares(&gradient);
                return;
            }
            let squares = gradient.square().sum();
            self.elsewhere = Some(match self.elsewhere.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: Factor,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let scaled = match &self.factor {
                Factor::Host(factor) => gradient * *factor,
                Factor::Device(factor) => gradient * factor.clone().reshape([1; D]),
            };
            self.gradients.register(param.id, scaled);
        }
    }
}
