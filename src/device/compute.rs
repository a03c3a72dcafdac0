//! How operations run, decided once: on which device, by which kernels, in which dtype.
//!
//! [`Compute`] is made once, where a run or an evaluation begins, and goes with a batch's inputs. There is no autocast
//! and no second copy of a model: `Compute::factor`, or on GPUs the operation itself, casts the factors of a product,
//! and gradients of f32 weights are f32. f16 needs a loss scale, which is part of the optimizer's state; a step that
//! overflows is taken again (`src/train/scaled.rs`), so that none is lost.

use burn::tensor::{DType, Device as BurnDevice};

use super::precision::{Precision, PrecisionChoice};
use super::traits::{Kernels, Traits};
use crate::error::{Error, Result};

impl Kernels {
    /// What `UPSTILL_KERNELS` asks for, if anything. Nothing else reads it.
    ///
    /// # Errors
    /// When it asks for something else.
    pub fn asked() -> Result<Option<Self>> {
        match std::env::var("UPSTILL_KERNELS").as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok(word) => Self::from_word(word).map(Some).ok_or_else(|| {
                Error::new(format!("unknown form {word:?} in UPSTILL_KERNELS"))
                    .help(format!("one of: {}; unset it for the fastest", Self::WORDS.join(", ")))
            }),
        }
    }

    /// # Errors
    /// When the device has no such kernels.
    pub fn must_be_on(self, device: &BurnDevice) -> Result<()> {
        let there = Traits::of(device).kernels;
        if there.contains(&self) {
            return Ok(());
        }
        let words: Vec<&str> = there.iter().map(|kernels| kernels.word()).collect();
        Err(Error::new(format!("this device has no {self} kernels"))
            .help(format!("write [runtime] kernels = \"auto\", or leave --form out; it has {}", words.join(" and "))))
    }
}

/// How operations run: decided once, where a run or an evaluation begins, and carried by what a model reads.
///
/// With `bf16` or `f16`, dense layers and attention multiply numbers of 16 bits, made from f32 on the way in; sums
/// inside a product, softmax, layer norms, the residual stream, the loss and every weight stay in f32, and so do
/// gradients of weights. The CPU's own operations round factors inside the product, and have f32 between all of them;
/// attention's short products stay f32 there.
#[derive(Debug, Clone)]
pub struct Compute {
    /// The device, outside autodiff.
    pub device: BurnDevice,
    /// The kernels.
    pub kernels: Kernels,
    /// The dtype of products.
    pub precision: Precision,
    /// What the device is like.
    pub traits: &'static Traits,
}

impl Compute {
    /// In f32, by the kernels that `UPSTILL_KERNELS` asks for where the device has them, else fused: on a CPU they
    /// measured best; on a GPU they launch a fifth of burn's kernels, and burn's gradient of a table look-up goes
    /// through tokens one by one.
    pub fn of(device: &BurnDevice) -> Self {
        let traits = Traits::of(device);
        let asked = Kernels::asked().ok().flatten();
        let kernels = match asked {
            Some(kernels) if traits.kernels.contains(&kernels) => kernels,
            // CUDA's fused kernels are CubeCL's.
            Some(Kernels::CubeCl) if !traits.is_cpu => Kernels::Fused,
            Some(_) => Kernels::Composed,
            None => Kernels::Fused,
        };
        Self { device: device.clone(), kernels, precision: Precision::F32, traits }
    }

    /// As a run's plan says; `UPSTILL_KERNELS` goes before what it says of kernels.
    ///
    /// # Errors
    /// When the device has no such kernels.
    pub fn of_run(device: &BurnDevice, wanted: Option<Kernels>, precision: PrecisionChoice) -> Result<Self> {
        let mut compute = Self::of(device);
        if let Some(kernels) = wanted
            && Kernels::asked()?.is_none()
        {
            kernels.must_be_on(device)?;
            compute = compute.by(kernels);
        }
        let precision = precision.on(device, compute.kernels);
        Ok(compute.in_dtype(precision))
    }

    /// This choice with other kernels, which the device has.
    #[must_use]
    pub fn by(self, kernels: Kernels) -> Self {
        Self { kernels, ..self }
    }

    /// This choice with products in another dtype.
    #[must_use]
    pub fn in_dtype(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The dtype of a product's factors.
    pub fn dtype(&self) -> DType {
        match self.precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        }
    }
}
