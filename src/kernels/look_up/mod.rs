//! Rows of tables that are looked up: token ids, positions, masked slots.

mod cpu;
#[cfg(feature = "gpu")]
mod cube;
mod places;

use burn::tensor::{DType, Tensor};

pub use places::Places;

#[cfg(feature = "gpu")]
use super::form::Form;
use super::spent::{self, Part};
use crate::device::{Compute, Kernels};

/// Rows of a table: `[v, d]` to `[n, d]`.
pub fn look_up(table_vd: Tensor<2>, places: &Places, compute: &Compute) -> Tensor<2> {
    // Nothing is multiplied: on the CPU the product's dtype makes no difference.
    if compute.kernels == Kernels::Fused && compute.traits.is_cpu && table_vd.dtype() == DType::F32 {
        return spent::on(Part::LookUp, || cpu::look_up(&table_vd, places));
    }
    #[cfg(feature = "gpu")]
    if compute.form() == Form::Gpu {
        return cube::look_up(table_vd, places);
    }
    table_vd.select(0, places.at_n())
}
