//! A step of Adam or AdamW in one pass over memory, on the CPU, and on a GPU by numbers that are still there. Where
//! neither runs, the optimizer has burn's.

mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

use crate::device::is_cpu;

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
struct AdamNumbers {
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
    fn numbers(&self) -> AdamNumbers {
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

/// A step of one model's parameters, one after another.
pub(crate) struct AdamPass {
    #[cfg(feature = "gpu")]
    guarded: Option<cube::GuardedAdam>,
}

impl AdamPass {
    /// With a guard and the model's place in it (see [`next_guard`](super::next_guard)) the parameters are on its GPU.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "a guard is on a GPU"))]
    pub fn new(guard: Option<(&Tensor<1>, usize)>) -> Self {
        Self {
            #[cfg(feature = "gpu")]
            guarded: guard.map(|(guard, model)| cube::GuardedAdam::new(guard, model)),
        }
    }

    /// Whether it moves a parameter: on the CPU, and with a guard.
    pub fn moves<const D: usize>(&self, value: &Tensor<D>) -> bool {
        #[cfg(feature = "gpu")]
        if self.guarded.is_some() {
            return true;
        }
        is_cpu(&value.device())
    }

    /// The new value, where the gradient was; the two moments, zeros before the first step, move in place. On a GPU all
    /// of them once [`finish`](Self::finish) was called.
    pub fn step<const D: usize>(
        &mut self,
        value: &Tensor<D>,
        gradient: Tensor<D>,
        moments: [Tensor<D>; 2],
        step: &AdamStep,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        #[cfg(feature = "gpu")]
        if let Some(guarded) = &mut self.guarded {
            return guarded.step(value, &gradient, moments, step);
        }
        cpu::adam(value, gradient, moments, step)
    }

    /// Moves what a GPU has not moved yet.
    pub fn finish(self) {
        #[cfg(feature = "gpu")]
        if let Some(guarded) = self.guarded {
            guarded.launch();
        }
    }
}
