//! Which form of an operation runs, and in which dtype.

use burn::tensor::{DType, FloatDType, Tensor};

use super::dropout::Dropout;
#[cfg(feature = "gpu")]
use super::dropout::can_draw;
use crate::device::{Compute, Kernels, Precision};

/// The form of an operation that runs. All have the composed one; one that lacks another form runs composed in its
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// burn's operations, on any device.
    Composed,
    /// Plain Rust, in f32.
    Cpu,
    /// Plain Rust, by products of bf16 between values in f32. What multiplies no matrices is as in [`Cpu`](Form::Cpu).
    CpuBf16,
    /// CubeCL, or WGSL where there is some. In a build without GPUs no tensor is on one.
    #[cfg(feature = "gpu")]
    Gpu,
}

impl Compute {
    /// The form that runs of an operation without dropout.
    pub(super) fn form(&self) -> Form {
        match (self.kernels, self.traits.is_cpu, self.precision) {
            (Kernels::Fused, true, Precision::F32) => Form::Cpu,
            // A browser has burn's.
            (Kernels::Fused, true, Precision::Bf16) if cfg!(not(target_family = "wasm")) => Form::CpuBf16,
            #[cfg(feature = "gpu")]
            (Kernels::Fused | Kernels::CubeCl, false, _) => Form::Gpu,
            _ => Form::Composed,
        }
    }

    /// The form that runs of an operation that drops from so many elements: a GPU's kernels can't draw every mask.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "the CPU draws every mask"))]
    pub(super) fn form_with(&self, dropout: &Dropout, elements: usize) -> Form {
        match self.form() {
            #[cfg(feature = "gpu")]
            Form::Gpu if !dropout.is_whole_words(elements, || can_draw(&self.device)) => Form::Composed,
            form => form,
        }
    }

    /// A factor of a product, in the product's dtype; where the product itself rounds it, as it is.
    pub fn factor<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if x.dtype() == self.dtype() || self.form() == Form::CpuBf16 { x } else { x.cast(self.dtype()) }
    }
}

/// In f32, whatever it comes as.
pub(crate) fn in_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(FloatDType::F32) }
}
