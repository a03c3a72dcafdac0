//! Attention in which several heads of queries share one of keys and values (Ainslie et al. 2023), with or without
//! rotary positions.

mod composed;
mod cpu;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

pub use composed::next_attention;

use super::attention::{Blocks, Sight};
use super::dropout::Dropout;
use super::form::Form;
use super::rotary::Rotary;
use super::spent::{self, Part};
use crate::device::Compute;

/// How many heads there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Of queries.
    pub queries: usize,
    /// Of keys and values; they divide those of queries, of which each serves as many, next to each other.
    pub keys: usize,
}

/// `dropout(softmax(q k^T / sqrt(w))) v` a head, as [`self_attention`](super::attention::self_attention) has it, of heads `w`
/// wide: queries `[b * s, queries w]`, keys and values `[b * s, keys w]` each, to `[b * s, queries w]`. `rotary` turns
/// queries and keys, where positions count. In the product's numbers.
pub fn grouped_attention(
    inputs: [Tensor<2>; 3],
    heads: Heads,
    sight: &Sight,
    rotary: Option<&Rotary>,
    dropout: &mut Dropout,
    compute: &Compute,
) -> Tensor<2> {
    let [n, d] = inputs[0].dims();
    let Heads { queries, keys } = heads;
    let scores = n * queries * sight.length;
    match compute.form_with(dropout, scores) {
        Form::Cpu | Form::CpuBf16 => {
            let blocks = Blocks { sight: sight.clone(), heads: queries, sharing: queries / keys, d, mask: dropout.mask(scores) };
            spent::on(Part::Attention, || cpu::grouped_attention(inputs, blocks, rotary))
        }
        #[cfg(feature = "gpu")]
        Form::Gpu => cube::grouped_attention(inputs, heads, sight, rotary, dropout.mask(scores), compute),
        Form::Composed => composed::grouped_attention(inputs, heads, sight, rotary, dropout, compute),
    }
}

/// Keys and values of one layer, of all positions so far that later ones see: turned, `[t, keys w]` each.
pub type PastLayer = Option<[Tensor<2>; 2]>;
