//! Scaled dot-product attention (Vaswani et al. 2017) over rows that hold several sentences, each of which sees itself
//! only.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
pub(super) mod cube;
#[cfg(feature = "gpu")]
mod ranges;
mod sight;

use burn::tensor::Tensor;

pub(super) use composed::attention as composed_attention;
pub(super) use cpu::{Attended, Blocks, Lines, Values, attend};
pub use sight::Sight;

use super::dense::{Dense, dense, several};
use super::dropout::Dropout;
use super::form::Form;
use super::spent::{self, Part};
use crate::device::Compute;

/// `dropout(softmax(q k^T / sqrt(w))) v` a head, with heads of width `w = d / heads` side by side: `[b * s, d]` to
/// `[b * s, d]`, where query, key and value are three dense layers of `x`. In the product's numbers.
pub fn self_attention(
    x_nd: Tensor<2>,
    layers: &[Dense; 3],
    heads: usize,
    sight: &Sight,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let scores = x_nd.dims()[0] * heads * sight.length;
    // The factor of all three products is made once.
    let by_layers = |x_nd: Tensor<2>| {
        let x_nd = compute.factor(x_nd);
        layers.each_ref().map(|layer| dense(x_nd.clone(), layer, compute))
    };
    match compute.form_with(dropout, scores) {
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::self_attention(x_nd, layers, heads, sight, dropout.mask(scores), compute),
        Form::Cpu => {
            let inputs = by_layers(x_nd);
            spent::on(Part::Attention, || cpu::attention(inputs, heads, sight, dropout.mask(scores)))
        }
        Form::CpuBf16 => {
            let inputs = spent::on(Part::Dense, || several(&x_nd, layers));
            spent::on(Part::Attention, || cpu::attention(inputs, heads, sight, dropout.mask(scores)))
        }
        _ => composed::attention(by_layers(x_nd), heads, sight, dropout, compute),
    }
}
