//! Products of matrices.

#[cfg(feature = "gpu")]
mod gpu;

#[path = "../../../shaders/matmul.rs"]
mod definition;

use burn::tensor::Tensor;

pub use definition::{Case, WGSL, cases, reference};
#[cfg(feature = "gpu")]
pub(super) use gpu::{product, transposed};

use crate::device::Compute;
#[cfg(feature = "gpu")]
use crate::kernels::form::Form;

/// `a b` over the last two dimensions; those before them are equal. Fused, a small product on a GPU through WebGPU is
/// one short kernel for all shapes; any other is burn's.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables, reason = "burn's is the only form that is left"))]
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, compute: &Compute) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if compute.form() == Form::Gpu {
        return gpu::matmul(a, b, compute.kernels);
    }
    a.matmul(b)
}
