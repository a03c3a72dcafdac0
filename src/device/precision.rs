//! The number format that a run file asks for, and what it comes to on a device.

use burn::tensor::Device as BurnDevice;

use super::{Bf16Unit, Traits};
use crate::words::words;

words! {
    /// Number format of the forward and backward pass; weights, moments and sums stay in f32.
    Precision {
        /// 32 bits.
        F32 = "f32",
        /// bfloat16.
        Bf16 = "bf16",
        /// IEEE half.
        F16 = "f16",
    }
}

words! {
    /// What a run file asks for as the number format of its products.
    PrecisionChoice {
        /// 32 bits.
        F32 = "f32",
        /// bfloat16.
        Bf16 = "bf16",
        /// IEEE half.
        F16 = "f16",
        /// The fastest whose curve was measured to be f32's; see [`PrecisionChoice::on`].
        Auto = "auto",
    }
}

impl PrecisionChoice {
    /// What it comes to on a device. `auto` takes a faster format only where held-out losses were measured to be within
    /// 0.02 nats of f32's over 600 steps, with three seeds. None is so far: on a CPU those of bf16 were 0.035 to 0.048
    /// nats below, and on GPUs nothing was measured. It is f32 everywhere, therefore.
    pub fn on(self, _device: &BurnDevice) -> Precision {
        match self {
            PrecisionChoice::F32 | PrecisionChoice::Auto => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
            PrecisionChoice::F16 => Precision::F16,
        }
    }

    /// For a line that people read; what is said of a CPU is where the device is one, as far as its word says.
    pub fn words(self, device: &str) -> String {
        match self {
            PrecisionChoice::Bf16 if Traits::of_word(device).is_cpu => {
                format!("bf16 (on the CPU {})", Bf16Unit::here().words())
            }
            PrecisionChoice::Auto => "auto (f32)".to_owned(),
            named => named.word().to_owned(),
        }
    }
}
