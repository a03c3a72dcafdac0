//! Logits that may not be multiplied out yet.

use burn::tensor::{Device, Tensor};

use super::form::in_f32;
use super::graph::inner;
use super::matmul::matmul;
use crate::device::Compute;

/// Logits `[m, v]`, multiplied out or not yet.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few of them a step: handles of tensors, not numbers")]
pub enum Logits {
    /// As they are.
    Whole(Tensor<2>),
    /// `hidden_md words_vd^T + bias_v`: a kernel multiplies them out a chunk of slots at a time.
    Factors {
        /// What the decoder reads, `[m, d]`, in the product's numbers.
        hidden_md: Tensor<2>,
        /// The decoder, `[v, d]`, likewise.
        words_vd: Tensor<2>,
        /// Its bias, `[v]`, in f32.
        bias_v: Tensor<1>,
    },
}

impl From<Tensor<2>> for Logits {
    fn from(logits_mv: Tensor<2>) -> Self {
        Logits::Whole(logits_mv)
    }
}

impl Logits {
    /// The logits of `count` slots from `from` on.
    #[must_use]
    pub fn narrow(&self, from: usize, count: usize) -> Self {
        match self.clone() {
            Logits::Whole(logits_mv) => Logits::Whole(logits_mv.narrow(0, from, count)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: hidden_md.narrow(0, from, count), words_vd, bias_v }
            }
        }
    }

    /// All of them at once, `[m, v]`.
    pub fn whole(self, compute: &Compute) -> Tensor<2> {
        match self {
            Logits::Whole(logits_mv) => logits_mv,
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                in_f32(matmul(hidden_md, words_vd.transpose(), compute)) + bias_v.unsqueeze()
            }
        }
    }

    /// These numbers outside any autodiff graph.
    #[must_use]
    pub fn detached(self) -> Self {
        match self {
            Logits::Whole(logits_mv) => Logits::Whole(inner(logits_mv)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: inner(hidden_md), words_vd: inner(words_vd), bias_v: inner(bias_v) }
            }
        }
    }

    /// In f32, whatever they come as.
    pub(super) fn in_f32(self) -> Self {
        match self {
            Logits::Whole(logits_mv) => Logits::Whole(in_f32(logits_mv)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Logits::Factors { hidden_md: in_f32(hidden_md), words_vd: in_f32(words_vd), bias_v }
            }
        }
    }

    /// Slots and vocabulary.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Logits::Whole(logits_mv) => logits_mv.dims(),
            Logits::Factors { hidden_md, words_vd, .. } => [hidden_md.dims()[0], words_vd.dims()[0]],
        }
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        match self {
            Logits::Whole(logits_mv) => logits_mv.device(),
            Logits::Factors { hidden_md, .. } => hidden_md.device(),
        }
    }
}
