//! The decoder twin of the family's encoders (Ettin; `transformers`' `ModernBertDecoderForCausalLM`): a token sees
//! itself and what comes before it, in local layers no more than half a window of it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Decoder, ModernBert, PredictionHead};
use crate::config::{ModernBertShape, Shape};
use crate::device::Compute;
use crate::kernels::{Dropout, Heads, Logits, Places, Rotary, next_attention};
use crate::model::init::Init;
use crate::model::inputs::Inputs;
use crate::model::inside::Inside;
use crate::model::language_model::LanguageModel;
use crate::model::past::Past;

impl ModernBertShape {
    /// Draws a decoder as [`init`](ModernBertShape::init) draws an encoder.
    pub fn init_decoder(&self, seed: u64, range: f64, device: &Device) -> ModernBertDecoderForCausalLm {
        let shape = Self { is_causal: true, ..self.clone() };
        let (model, lm_head, decoder) = shape.drawn(&Init::new(seed, range, device));
        ModernBertDecoderForCausalLm { model, lm_head, decoder }
    }
}

/// A decoder with its language-model head.
#[derive(Module, Debug)]
pub struct ModernBertDecoderForCausalLm {
    /// Embeddings and layers.
    pub model: ModernBert,
    /// Before the decoder's matrix.
    pub lm_head: PredictionHead,
    /// The word table, with its bias.
    pub decoder: Decoder,
}

impl LanguageModel for ModernBertDecoderForCausalLm {
    /// The head, and the last layer after its attention, run on what is asked for alone.
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        self.model.forward(inputs, at, dropout, inside)
    }

    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits {
        self.decoder.logits(self.lm_head.forward(hidden_md, compute), self.words(), compute)
    }

    fn words(&self) -> Tensor<2> {
        self.model.words()
    }

    fn shape(&self) -> Shape {
        self.model.shape.clone().into()
    }

    fn is_table(name: &str) -> bool {
        name.contains("embeddings")
    }
}

impl ModernBert {
    /// Of a decoder the normed state of the last of `ids`, which follow the tokens of `past` and join them: `[1, d]`,
    /// without dropout. Local layers keep no more of the past than they see.
    ///
    /// # Panics
    /// Without an id.
    pub(in super::super) fn next(&self, ids: &[i32], past: &mut Past, compute: &Compute) -> Tensor<2> {
        let (shape, device, count) = (&self.shape, &compute.device, ids.len());
        let positions = Places::new(&past.positions(count, self.layers.len()), device);
        let rotary = |theta: usize| Rotary::new(&positions, shape.hidden / shape.heads, theta as f64);
        let (global, local) = (rotary(shape.global_theta), rotary(shape.local_theta));
        let heads = Heads { queries: shape.heads, keys: shape.heads };
        let mut x_nd = self.embeddings.forward(&Places::new(ids, device), &mut Dropout::off(), compute);
        for (i, (layer, past)) in self.layers.iter().zip(&mut past.layers).enumerate() {
            let (rotary, window) = if shape.is_global(i) { (&global, None) } else { (&local, Some(shape.reach())) };
            let inputs = layer.queries_keys_values(&x_nd, compute);
            let context_nd = next_attention(inputs, heads, Some(rotary), window, past, compute);
            x_nd = layer.after(context_nd, x_nd, &mut Dropout::off(), compute);
        }
        self.final_norm.forward(x_nd.narrow(0, count - 1, 1), compute)
    }
}
