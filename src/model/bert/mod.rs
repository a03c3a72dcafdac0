//! The family of BERT (Devlin et al. 2019) for masked language modelling: post-layer-norm, erf GELU, tied decoder with
//! a bias.
//!
//! Field names are Hugging Face's parameter names, `self_` standing for `self`.

#![allow(non_snake_case, reason = "Hugging Face's parameter names")]

mod classifier;
mod config_json;
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
use super::weights::{HostTensor, Weights};
use crate::config::{BertShape, Shape};
use crate::device::Compute;
use crate::kernels::{Dense, Dropout, Logits, Norm, Places, dense, dense_gelu, dense_norm, look_up, norm_of_sum, self_attention};

pub use classifier::BertClassifier;
pub(super) use classifier::config as classifier_config;
pub(super) use config_json::{parse, write as config};
pub(super) use fit::{LAYERS, body, head, is_body, is_head, must_have_body, must_predict};
pub(super) use names::{DECODER, OVER_VOCABULARY, canonical, rename, unwrapped};
pub(super) use remap::remap;

impl BertShape {
    /// Draws a model: N(0, `range`) weights, zero biases, from `seed` and each parameter's name alone.
    pub fn init(&self, seed: u64, range: f64, device: &Device) -> BertForMaskedLm {
        let init = Init::new(seed, range, device);
        let norm = |width| LayerNorm { gamma: init.ones(width), beta: init.zeros(width), epsilon: self.norm_epsilon };
        let layer = |i: usize| {
            let name = |part: &str| format!("bert.encoder.layer.{i}.{part}.weight");
            let linear = |part: &str, from, to| init.linear(&name(part), from, to);
            Layer {
                attention: Attention {
                    self_: SelfAttention {
                        query: linear("attention.self.query", self.hidden, self.hidden),
                        key: linear("attention.self.key", self.hidden, self.hidden),
                        value: linear("attention.self.value", self.hidden, self.hidden),
                        heads: self.heads,
                    },
                    output: Output {
                        dense: linear("attention.output.dense", self.hidden, self.hidden),
                        LayerNorm: norm(self.hidden),
                    },
                },
                intermediate: Intermediate { dense: linear("intermediate.dense", self.hidden, self.intermediate) },
                output: Output { dense: linear("output.dense", self.intermediate, self.hidden), LayerNorm: norm(self.hidden) },
            }
        };
        let table = |part: &str, rows| init.embedding(&format!("bert.embeddings.{part}.weight"), rows, self.hidden);
        BertForMaskedLm {
            bert: Bert {
                embeddings: Embeddings {
                    word_embeddings: table("word_embeddings", self.vocab_size),
                    position_embeddings: table("position_embeddings", self.max_positions),
                    token_type_embeddings: (self.token_types > 0).then(|| table("token_type_embeddings", self.token_types)),
                    LayerNorm: norm(self.hidden),
                },
                encoder: Encoder { layer: (0..self.layers).map(layer).collect() },
                pooler: None,
            },
            cls: Cls {
                predictions: Predictions {
                    transform: Transform {
                        dense: init.linear("cls.predictions.transform.dense.weight", self.hidden, self.hidden),
                        LayerNorm: norm(self.hidden),
                    },
                    bias: init.zeros(self.vocab_size),
                },
            },
            shape: self.clone(),
        }
    }
}

/// The shape and the weights as `transformers` wants them: its `BertForMaskedLM` always adds a row of token types, so a
/// model without any gets rows of zeros.
pub(super) fn for_transformers(shape: &BertShape, mut weights: Weights) -> (BertShape, Weights) {
    const TYPES: usize = 2;
    if shape.token_types > 0 {
        return (shape.clone(), weights);
    }
    let zeros = HostTensor { shape: vec![TYPES, shape.hidden], values: vec![0.0; TYPES * shape.hidden] };
    weights.insert("bert.embeddings.token_type_embeddings.weight", zeros);
    (BertShape { token_types: TYPES, ..shape.clone() }, weights)
}

/// BERT with its language-model head.
#[derive(Module, Debug)]
pub struct BertForMaskedLm {
    /// Embeddings and encoder.
    pub bert: Bert,
    /// The language-model head.
    pub cls: Cls,
    #[module(skip)]
    shape: BertShape,
}

impl LanguageModel for BertForMaskedLm {
    /// The head, and the last layer after its attention, run on what is asked for alone.
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        self.bert.forward(inputs, at, dropout, inside)
    }

    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits {
        let predictions = &self.cls.predictions;
        let wide_md = dense_gelu(hidden_md, &parameters(&predictions.transform.dense), compute);
        let hidden_md = predictions.transform.LayerNorm.forward(wide_md, compute);
        Logits::Factors {
            hidden_md: compute.factor(hidden_md),
            words_vd: compute.factor(self.words()),
            bias_v: predictions.bias.val(),
        }
    }

    fn words(&self) -> Tensor<2> {
        self.bert.embeddings.word_embeddings.weight.val()
    }

    fn shape(&self) -> Shape {
        self.shape.clone().into()
    }

    fn is_table(name: &str) -> bool {
        name.contains("embeddings")
    }
}

/// Embeddings and encoder.
#[derive(Module, Debug)]
pub struct Bert {
    /// Word, position and token-type tables.
    pub embeddings: Embeddings,
    /// The layers.
    pub encoder: Encoder,
    /// On top of `[CLS]`, for classification; pre-training has none.
    pub pooler: Option<Pooler>,
}

impl Bert {
    /// The last layer's hidden states, flattened: `[b * s, d]`.
    pub fn hidden(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        self.forward(inputs, None, dropout, &mut Inside::default())
    }

    /// The last layer's hidden states at `m` of the flattened positions, as many of each row: `[m, d]`. They are those
    /// of [`hidden`](Self::hidden), without working out what is not asked for: after attention, no position needs
    /// another.
    pub fn hidden_at(&self, inputs: &Inputs, at: &Places, dropout: &mut Dropout) -> Tensor<2> {
        self.forward(inputs, Some(at), dropout, &mut Inside::default())
    }

    fn forward(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        let layers = &self.encoder.layer;
        // The last layer works out what is asked for alone, unless all of it is wanted inside.
        let narrowed = layers.len().checked_sub(1).filter(|_| !inside.wants_states(layers.len()));
        let mut x_nd = self.embeddings.forward(inputs, dropout, &inputs.compute);
        inside.keep_states(0, &x_nd);
        for (i, layer) in layers.iter().enumerate() {
            inside.keep_attended(i + 1, || layer.attention.self_.queries_keys_values(&x_nd, &inputs.compute));
            x_nd = layer.forward(x_nd, inputs, at.filter(|_| narrowed == Some(i)), dropout);
            inside.keep_states(i + 1, &x_nd);
        }
        if narrowed.is_some() { x_nd } else { only(x_nd, at, &inputs.compute) }
    }
}

#[derive(Module, Debug)]
/// The tables whose sum a token starts as.
pub struct Embeddings {
    /// `[v, d]`, also the decoder.
    pub word_embeddings: Embedding,
    /// `[max_positions, d]`.
    pub position_embeddings: Embedding,
    /// `[token_types, d]`.
    pub token_type_embeddings: Option<Embedding>,
    /// Over the sum.
    pub LayerNorm: LayerNorm,
}

impl Embeddings {
    fn forward(&self, inputs: &Inputs, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let rows = |table: &Embedding, places: &Places| look_up(table.weight.val(), places, compute);
        let mut x_nd = rows(&self.word_embeddings, &inputs.ids) + rows(&self.position_embeddings, &inputs.positions);
        if let Some(table) = &self.token_type_embeddings {
            x_nd = match &inputs.types {
                Some(types) => x_nd + rows(table, types),
                None => x_nd + table.weight.val().narrow(0, 0, 1),
            };
        }
        dropout.apply(self.LayerNorm.forward(x_nd, compute))
    }
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct Encoder {
    /// First to last.
    pub layer: Vec<Layer>,
}

/// One encoder layer.
#[derive(Module, Debug)]
pub struct Layer {
    /// Self-attention and its output.
    pub attention: Attention,
    /// Up to the feed-forward width.
    pub intermediate: Intermediate,
    /// Projects from the feed-forward width back to the hidden width, and normalises the sum with the layer's input.
    pub output: Output,
}

impl Layer {
    /// `[n, d]` to `[n, d]`, or to `[m, d]` at some places.
    fn forward(&self, x_nd: Tensor<2>, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout) -> Tensor<2> {
        let compute = &inputs.compute;
        let context_nd = self.attention.self_.forward(x_nd.clone(), inputs, dropout, compute);
        let (context_md, x_md) = (only(context_nd, at, compute), only(x_nd, at, compute));
        let x_md = self.attention.output.forward(context_md, x_md, dropout, compute);
        let wide_mf = dense_gelu(x_md.clone(), &parameters(&self.intermediate.dense), compute);
        self.output.forward(wide_mf, x_md, dropout, compute)
    }
}

/// What is wanted of `[n, d]`: everything, or `m` places.
fn only(x_nd: Tensor<2>, at: Option<&Places>, compute: &Compute) -> Tensor<2> {
    match at {
        Some(at) => look_up(x_nd, at, compute),
        None => x_nd,
    }
}

/// Self-attention with its output projection.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key, value.
    pub self_: SelfAttention,
    /// Projection, residual, layer norm.
    pub output: Output,
}

/// Scaled dot-product attention over the positions that a token may see.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `[d, d]`.
    pub query: Linear,
    /// `[d, d]`.
    pub key: Linear,
    /// `[d, d]`.
    pub value: Linear,
    /// Number of heads.
    pub heads: usize,
}

impl SelfAttention {
    fn forward(&self, x_nd: Tensor<2>, inputs: &Inputs, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let layers = [&self.query, &self.key, &self.value].map(parameters);
        self_attention(x_nd, &layers, self.heads, &inputs.sight, dropout, compute)
    }

    fn queries_keys_values(&self, x_nd: &Tensor<2>, compute: &Compute) -> [Tensor<2>; 3] {
        [&self.query, &self.key, &self.value].map(|linear| dense(x_nd.clone(), &parameters(linear), compute))
    }
}

/// The feed-forward layer's way up.
#[derive(Module, Debug)]
pub struct Intermediate {
    /// `[d, f]`.
    pub dense: Linear,
}

#[derive(Module, Debug)]
/// A projection back to the width, added to the residual and normed.
pub struct Output {
    /// The projection.
    pub dense: Linear,
    /// After the sum.
    pub LayerNorm: LayerNorm,
}

impl Output {
    fn forward(&self, x: Tensor<2>, residual_nd: Tensor<2>, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        dense_norm(x, &parameters(&self.dense), residual_nd, &self.LayerNorm.parameters(), dropout, compute)
    }
}

/// Dense and tanh on the first position's last hidden state.
#[derive(Module, Debug)]
pub struct Pooler {
    /// `[d, d]`.
    pub dense: Linear,
}

/// The language-model head, under Hugging Face's name for it.
#[derive(Module, Debug)]
pub struct Cls {
    /// Transform and bias; the decoder is the word table.
    pub predictions: Predictions,
}

/// What the head owns.
#[derive(Module, Debug)]
pub struct Predictions {
    /// Dense, GELU, layer norm.
    pub transform: Transform,
    /// `[v]`, added to the logits.
    pub bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
/// The head's dense layer.
pub struct Transform {
    /// `[d, d]`.
    pub dense: Linear,
    /// After GELU.
    pub LayerNorm: LayerNorm,
}

/// Layer normalisation with its epsilon.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[d]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[d]`.
    pub beta: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    fn forward(&self, x_nd: Tensor<2>, compute: &Compute) -> Tensor<2> {
        norm_of_sum(x_nd, None, &self.parameters(), &mut Dropout::off(), compute)
    }

    fn parameters(&self) -> Norm {
        Norm { gamma_d: self.gamma.val(), beta_d: self.beta.val(), epsilon: self.epsilon }
    }
}

fn parameters(linear: &Linear) -> Dense {
    let bias = linear.bias.as_ref().expect("BERT's dense layers have a bias");
    Dense { weight_df: linear.weight.val(), bias_f: bias.val() }
}
