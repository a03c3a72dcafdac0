//! The number format that a run file asks for, and what it comes to on a device.

use burn::tensor::Device as BurnDevice;

use super::{Bf16Unit, Kernels, Traits};
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
    /// What it comes to on a device, whose operations run in a form. `auto` takes a faster format only where held-out
    /// losses were measured to be within 0.02 nats of f32's over 600 steps, with three seeds: bf16 on a CPU that has
    /// AMX or AVX512-BF16, through the fused operations. On ARM and on GPUs nothing was measured; it is f32 there.
    pub fn on(self, device: &BurnDevice, kernels: Kernels) -> Precision {
        match self {
            PrecisionChoice::Auto if kernels == Kernels::Fused && is_fast(Traits::of(device)) => Precision::Bf16,
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
            PrecisionChoice::Auto if is_fast(Traits::of_word(device)) => {
                format!("auto (bf16 {}; f32 where kernels are composed)", Bf16Unit::here().words())
            }
            PrecisionChoice::Auto => "auto (f32)".to_owned(),
            named => named.word().to_owned(),
        }
    }
}

/// Whether bf16 was seen to be faster than f32 there: by 1.05 to 1.2 in the smallest models, 2.1 in larger ones. NEON's
/// was not timed anywhere yet.
fn is_fast(traits: &Traits) -> bool {
    traits.is_cpu && matches!(Bf16Unit::here(), Bf16Unit::Amx | Bf16Unit::Avx512)
}
