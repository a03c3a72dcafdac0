//! The family of ModernBERT (Warner et al. 2024), which Ettin's encoders and decoders are of too (Weller et al. 2025):
//! pre-layer-norm, rotary positions, gated GELU, global and local attention by turns, no biases but the decoder's. Its
//! sizes say whether a model is an encoder, or a decoder: a causal one whose queries, keys and values stand apart.
//!
//! Field names are Hugging Face's parameter names.

#![allow(non_snake_case, reason = "Hugging Face's parameter names")]

mod classifier;
mod config_json;
mod decoder;
mod fit;
mod names;
mod remap;

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor};

use super::init::Init;
use super::inputs::Inputs;
use super::inside::Inside;
use super::language_model::LanguageModel;
use crate::batch::TokenOrder;
use crate::config::{ModernBertShape, Shape};
use crate::device::Compute;
use crate::kernels::{
    Dense, Dropout, Heads, Logits, Norm, Places, Rotary, Sight, dense_gelu, dense_sum, gelu_gate, grouped_attention, linear,
    look_up, norm_of_sum, rotary_attention,
};

pub use classifier::ModernBertClassifier;
pub(super) use classifier::config as classifier_config;
pub(super) use config_json::{MODEL_TYPES, parse, write as config};
pub use decoder::ModernBertDecoderForCausalLm;
pub(super) use fit::{body, head, is_body, is_head, layers, must_have_body, must_predict};
pub(super) use names::{DECODER, OVER_VOCABULARY, rename, unwrapped};
pub(super) use remap::remap;

impl ModernBertShape {
    /// Draws a model as its authors do (`transformers`' `ModernBertPreTrainedModel._init_weights`): N(0, `range`) cut
    /// off at twice that, and N(0, `range` / sqrt(2 layers)) likewise for what is added to the residual stream and for
    /// the head; from `seed` and each parameter's name alone. An encoder; see
    /// [`init_decoder`](ModernBertShape::init_decoder).
    pub fn init(&self, seed: u64, range: f64, device: &Device) -> ModernBertForMaskedLm {
        let shape = Self { is_causal: false, ..self.clone() };
        let (model, head, decoder) = shape.drawn(&Init::new(seed, range, device));
        ModernBertForMaskedLm { model, head, decoder }
    }

    /// Body, head and decoder.
    fn drawn(&self, init: &Init) -> (ModernBert, PredictionHead, Decoder) {
        let into = self.share_of_outputs();
        let linear = |name: &str, from, to, share: f64| Linear { weight: init.cut_normal(name, [from, to], share), bias: None };
        let norm = || BiaslessNorm { weight: init.ones(self.hidden), epsilon: self.norm_epsilon };
        let layer = |i: usize| {
            let name = |part: &str| format!("model.layers.{i}.{part}.weight");
            let apart = |part: &str| self.is_causal.then(|| linear(&name(part), self.hidden, self.hidden, 1.0));
            Layer {
                attn_norm: (i > 0).then(norm),
                attn: Attention {
                    Wqkv: (!self.is_causal).then(|| linear(&name("attn.Wqkv"), self.hidden, 3 * self.hidden, 1.0)),
                    q_proj: apart("attn.q_proj"),
                    k_proj: apart("attn.k_proj"),
                    v_proj: apart("attn.v_proj"),
                    Wo: linear(&name("attn.Wo"), self.hidden, self.hidden, into),
                },
                mlp_norm: norm(),
                mlp: Mlp {
                    Wi: linear(&name("mlp.Wi"), self.hidden, 2 * self.intermediate, 1.0),
                    Wo: linear(&name("mlp.Wo"), self.intermediate, self.hidden, into),
                },
            }
        };
        let model = ModernBert {
            embeddings: Embeddings {
                tok_embeddings: Embedding { weight: init.cut_normal(names::WORDS, [self.vocab_size, self.hidden], 1.0) },
                norm: norm(),
            },
            layers: (0..self.layers).map(layer).collect(),
            final_norm: norm(),
            shape: self.clone(),
        };
        let dense = linear(&format!("{}dense.weight", names::head(self.is_causal)), self.hidden, self.hidden, into);
        let decoder = Decoder { bias: self.decoder_bias.then(|| init.zeros(self.vocab_size)) };
        (model, PredictionHead { dense, norm: norm() }, decoder)
    }

    /// The deviation of what is added to the residual stream, in units of the others'.
    fn share_of_outputs(&self) -> f64 {
        1.0 / (2.0 * self.layers as f64).sqrt()
    }
}

/// ModernBERT with its language-model head.
#[derive(Module, Debug)]
pub struct ModernBertForMaskedLm {
    /// Embeddings and layers.
    pub model: ModernBert,
    /// Before the decoder.
    pub head: PredictionHead,
    /// The word table, with its bias.
    pub decoder: Decoder,
}

impl LanguageModel for ModernBertForMaskedLm {
    /// The head, and the last layer after its attention, run on what is asked for alone.
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        self.model.forward(inputs, at, dropout, inside)
    }

    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits {
        self.decoder.logits(self.head.forward(hidden_md, compute), self.words(), compute)
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

/// Embeddings and layers.
#[derive(Module, Debug)]
pub struct ModernBert {
    /// The word table and its norm.
    pub embeddings: Embeddings,
    /// First to last.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub final_norm: BiaslessNorm,
    #[module(skip)]
    shape: ModernBertShape,
}

impl ModernBert {
    /// The normed states after the last layer of the flattened positions: `[b * s, d]` of all of them; or `[m, d]` at
    /// some, as many of each row, without working out what is not asked for.
    pub fn hidden(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout) -> Tensor<2> {
        self.forward(inputs, at, dropout, &mut Inside::default())
    }

    /// What stands for each row where a text is classified, `[b, d]`: the state of its first token, or the mean of its
    /// tokens' states, as `classifier_pooling` says.
    pub(super) fn of_rows(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        if !self.shape.pools_mean {
            return self.hidden(inputs, Some(&inputs.first()), dropout);
        }
        let states_nd = self.hidden(inputs, None, dropout);
        let [b, s] = inputs.ids_bs.dims();
        let d = states_nd.dims()[1];
        let shares_b1s = inputs.sight.means(&inputs.compute.device).unsqueeze_dim::<3>(1);
        shares_b1s.matmul(states_nd.reshape([b, s, d])).reshape([b, d])
    }

    fn forward(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        let (shape, compute) = (&self.shape, &inputs.compute);
        let rotary = |theta: usize| Rotary::new(&inputs.positions, shape.hidden / shape.heads, theta as f64);
        let order = if shape.is_causal { TokenOrder::Causal } else { TokenOrder::Bidirectional };
        let sight = inputs.sight.clone().in_order(order);
        let global = Reach { sight: sight.clone(), rotary: rotary(shape.global_theta) };
        let local = Reach { sight: sight.within(shape.reach()), rotary: rotary(shape.local_theta) };
        // The last layer works out what is asked for alone, unless all of it is wanted inside.
        let narrowed = self.layers.len().checked_sub(1).filter(|_| !inside.wants_states(self.layers.len()));
        let mut x_nd = self.embeddings.forward(&inputs.ids, dropout, compute);
        for (i, layer) in self.layers.iter().enumerate() {
            let reach = if shape.is_global(i) { &global } else { &local };
            inside.keep_states(i, &x_nd);
            inside.keep_attended(i + 1, || layer.queries_keys_values(&x_nd, compute));
            x_nd = layer.forward(x_nd, shape.heads, reach, at.filter(|_| narrowed == Some(i)), dropout, compute);
        }
        if narrowed.is_some() {
            return self.final_norm.forward(x_nd, compute);
        }
        let normed_nd = self.final_norm.forward(x_nd, compute);
        inside.keep_states(self.layers.len(), &normed_nd);
        only(normed_nd, at, compute)
    }

    fn words(&self) -> Tensor<2> {
        self.embeddings.tok_embeddings.weight.val()
    }

    /// Its sizes.
    pub fn shape(&self) -> &ModernBertShape {
        &self.shape
    }
}

/// What a kind of layer attends to: who sees whom, and how positions turn queries and keys.
struct Reach {
    sight: Sight,
    rotary: Rotary,
}

/// What a token starts as.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[v, d]`, also the decoder.
    pub tok_embeddings: Embedding,
    /// Over a token's row.
    pub norm: BiaslessNorm,
}

impl Embeddings {
    fn forward(&self, ids: &Places, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let x_nd = look_up(self.tok_embeddings.weight.val(), ids, compute);
        dropout.apply(self.norm.forward(x_nd, compute))
    }
}

/// One layer: attention and a gated feed-forward layer, each added to what it reads.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before attention; the first layer has none, as embeddings are normed.
    pub attn_norm: Option<BiaslessNorm>,
    /// Self-attention.
    pub attn: Attention,
    /// Before the feed-forward layer.
    pub mlp_norm: BiaslessNorm,
    /// The feed-forward layer.
    pub mlp: Mlp,
}

impl Layer {
    /// What attention reads of `[n, d]`.
    fn normed(&self, x_nd: &Tensor<2>, compute: &Compute) -> Tensor<2> {
        match &self.attn_norm {
            Some(norm) => norm.forward(x_nd.clone(), compute),
            None => x_nd.clone(),
        }
    }

    /// Not turned yet, `[n, d]` each.
    fn queries_keys_values(&self, x_nd: &Tensor<2>, compute: &Compute) -> [Tensor<2>; 3] {
        let normed_nd = self.normed(x_nd, compute);
        match &self.attn.Wqkv {
            Some(joined) => {
                let (qkv_ne, d) = (linear(normed_nd, joined.weight.val(), compute), x_nd.dims()[1]);
                [0, 1, 2].map(|part| qkv_ne.clone().narrow(1, part * d, d))
            }
            None => self.attn.apart().map(|layer| linear(normed_nd.clone(), layer.weight.val(), compute)),
        }
    }

    /// Attention's context of `[n, d]`, in the product's numbers.
    fn attended(&self, x_nd: &Tensor<2>, heads: usize, reach: &Reach, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let Reach { sight, rotary } = reach;
        match &self.attn.Wqkv {
            Some(joined) => {
                let qkv_ne = linear(self.normed(x_nd, compute), joined.weight.val(), compute);
                rotary_attention(qkv_ne, heads, sight, rotary, dropout, compute)
            }
            None => {
                let inputs = self.queries_keys_values(x_nd, compute);
                grouped_attention(inputs, Heads { queries: heads, keys: heads }, sight, Some(rotary), dropout, compute)
            }
        }
    }

    /// `[n, d]` to `[n, d]`, or to `[m, d]` at some places.
    fn forward(
        &self,
        x_nd: Tensor<2>,
        heads: usize,
        reach: &Reach,
        at: Option<&Places>,
        dropout: &mut Dropout,
        compute: &Compute,
    ) -> Tensor<2> {
        let context_nd = self.attended(&x_nd, heads, reach, dropout, compute);
        self.after(only(context_nd, at, compute), only(x_nd, at, compute), dropout, compute)
    }

    /// What comes after attention, of what it gave and of what the layer read.
    fn after(&self, context_md: Tensor<2>, x_md: Tensor<2>, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let x_md = dense_sum(context_md, self.attn.Wo.weight.val(), x_md, dropout, compute);
        let wide_mf = linear(self.mlp_norm.forward(x_md.clone(), compute), self.mlp.Wi.weight.val(), compute);
        let gated_mf = dropout.apply(gelu_gate(wide_mf, compute));
        dense_sum(gated_mf, self.mlp.Wo.weight.val(), x_md, &mut Dropout::off(), compute)
    }
}

/// What is wanted of `[n, d]`: everything, or `m` places.
fn only(x_nd: Tensor<2>, at: Option<&Places>, compute: &Compute) -> Tensor<2> {
    match at {
        Some(at) => look_up(x_nd, at, compute),
        None => x_nd,
    }
}

/// Self-attention's matrices.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d, 3 d]`: queries, keys and values, of all heads side by side; of an encoder.
    pub Wqkv: Option<Linear>,
    /// `[d, d]`: queries; of a decoder, which has the three apart.
    pub q_proj: Option<Linear>,
    /// `[d, d]`: keys.
    pub k_proj: Option<Linear>,
    /// `[d, d]`: values.
    pub v_proj: Option<Linear>,
    /// `[d, d]`: back to the residual stream.
    pub Wo: Linear,
}

impl Attention {
    /// A decoder's queries, keys and values.
    fn apart(&self) -> [&Linear; 3] {
        [&self.q_proj, &self.k_proj, &self.v_proj].map(|part| part.as_ref().expect("apart where they aren't joined"))
    }
}

/// The gated feed-forward layer's matrices (Shazeer 2020).
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[d, 2 f]`: what goes through GELU, then the gate.
    pub Wi: Linear,
    /// `[f, d]`.
    pub Wo: Linear,
}

/// Dense, GELU, norm: before the decoder, and before a classifier.
#[derive(Module, Debug)]
pub struct PredictionHead {
    /// `[d, d]`.
    pub dense: Linear,
    /// After GELU.
    pub norm: BiaslessNorm,
}

impl PredictionHead {
    fn forward(&self, hidden_md: Tensor<2>, compute: &Compute) -> Tensor<2> {
        self.norm.forward(dense_gelu(hidden_md, &parameters(&self.dense), compute), compute)
    }
}

/// What the decoder has of its own: its matrix is the word table.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[v]`, added to the logits.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Decoder {
    /// Logits of what the head gave, not multiplied out yet.
    fn logits(&self, hidden_md: Tensor<2>, words_vd: Tensor<2>, compute: &Compute) -> Logits {
        let no_bias = || Tensor::zeros([words_vd.dims()[0]], &hidden_md.device());
        let bias_v = self.bias.as_ref().map_or_else(no_bias, |bias| bias.val());
        Logits::Factors { hidden_md: compute.factor(hidden_md), words_vd: compute.factor(words_vd), bias_v }
    }
}

/// Layer normalisation without a shift.
#[derive(Module, Debug)]
pub struct BiaslessNorm {
    /// Scale, `[d]`.
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl BiaslessNorm {
    fn forward(&self, x_nd: Tensor<2>, compute: &Compute) -> Tensor<2> {
        let gamma_d = self.weight.val();
        let beta_d = Tensor::zeros(gamma_d.dims(), &gamma_d.device());
        norm_of_sum(x_nd, None, &Norm { gamma_d, beta_d, epsilon: self.epsilon }, &mut Dropout::off(), compute)
    }
}

/// A matrix as a dense layer whose bias is zeros, which no gradient reaches.
fn parameters(linear: &Linear) -> Dense {
    let weight_df = linear.weight.val();
    let bias_f = Tensor::zeros([weight_df.dims()[1]], &weight_df.device());
    Dense { weight_df, bias_f }
}
