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
        /// The fastest whose curve was measured to be no worse than f32's; see [`PrecisionChoice::on`].
        Auto = "auto",
    }
}

impl PrecisionChoice {
    /// What it comes to on a device. `auto` is bf16 on a CPU that multiplies it faster than f32, where held-out losses
    /// were measured to be at most 0.02 nats above f32's; on GPUs, where that was not measured, and anywhere else it is
    /// f32.
    pub fn on(self, device: &BurnDevice) -> Precision {
        match self {
            PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
            PrecisionChoice::F16 => Precision::F16,
            PrecisionChoice::Auto => Self::auto_on(Traits::of(device)),
        }
    }

    fn auto_on(traits: &Traits) -> Precision {
        if traits.is_cpu && Bf16Unit::here().is_faster() { Precision::Bf16 } else { Precision::F32 }
    }

    /// For a line that people read; what is said of a CPU is where the device is one, as far as its word says.
    pub fn words(self, device: &str) -> String {
        let (traits, unit) = (Traits::of_word(device), Bf16Unit::here().words());
        match self {
            PrecisionChoice::Bf16 if traits.is_cpu => format!("bf16 (on the CPU {unit})"),
            PrecisionChoice::Auto if traits.is_cpu => match Self::auto_on(traits) {
                Precision::F32 => "auto (f32: nothing here is faster)".to_owned(),
                faster => format!("auto (on the CPU {faster}, {unit})"),
            },
            PrecisionChoice::Auto => "auto (f32)".to_owned(),
            named => named.word().to_owned(),
        }
    }
}
