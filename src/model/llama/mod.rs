//! The family of Llama (Touvron et al. 2023): causal language models of root-mean-square norms, rotary positions, keys
//! and values that several heads share, and gated SiLU; with Qwen3's norms of queries and keys and SmolLM3's layers
//! without positions as switches of its sizes.
//!
//! Field names are Hugging Face's parameter names.

mod config_json;
mod fit;
mod names;
mod next;
mod remap;

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor};

use super::init::Init;
use super::inputs::Inputs;
use super::inside::Inside;
use super::language_model::LanguageModel;
use crate::batch::TokenOrder;
use crate::config::{LlamaShape, Shape};
use crate::device::Compute;
use crate::kernels::{
    Dense, Dropout, Heads, Logits, Places, Rotary, Sight, dense, dense_sum, grouped_attention, in_f32, linear, look_up, rms_norm,
    silu_gate,
};

pub(super) use config_json::{MODEL_TYPES, parse, write as config};
pub(super) use fit::{body, head, is_body, is_head, must_have_body, must_predict};
pub(super) use names::{DECODER, OVER_VOCABULARY, rename, unwrapped};
pub(super) use remap::remap;

impl LlamaShape {
    /// Draws a model as `transformers` does (`LlamaPreTrainedModel._init_weights`): N(0, `range`) for matrices and
    /// tables, zero biases, norms of ones; from `seed` and each parameter's name alone.
    pub fn init(&self, seed: u64, range: f64, device: &Device) -> LlamaForCausalLm {
        let init = Init::new(seed, range, device);
        let linear = |name: &str, from, to, is_biased: bool| {
            let drawn = init.linear(name, from, to);
            Linear { bias: drawn.bias.filter(|_| is_biased), ..drawn }
        };
        let norm = |width: usize| RmsNorm { weight: init.ones(width), epsilon: self.norm_epsilon };
        let (d, f, [queries, keys]) = (self.hidden, self.intermediate, self.widths());
        let layer = |i: usize| {
            let attention = |part: &str, from, to| {
                linear(&format!("{}{i}.self_attn.{part}.weight", fit::LAYER), from, to, self.attention_bias)
            };
            let mlp = |part: &str, from, to| linear(&format!("{}{i}.mlp.{part}.weight", fit::LAYER), from, to, self.mlp_bias);
            Layer {
                input_layernorm: norm(d),
                self_attn: Attention {
                    q_proj: attention("q_proj", d, queries),
                    k_proj: attention("k_proj", d, keys),
                    v_proj: attention("v_proj", d, keys),
                    o_proj: attention("o_proj", queries, d),
                    q_norm: self.qk_norm.then(|| norm(self.head_dim)),
                    k_norm: self.qk_norm.then(|| norm(self.head_dim)),
                },
                post_attention_layernorm: norm(d),
                mlp: Mlp { gate_proj: mlp("gate_proj", d, f), up_proj: mlp("up_proj", d, f), down_proj: mlp("down_proj", f, d) },
            }
        };
        LlamaForCausalLm {
            model: Llama {
                embed_tokens: init.embedding(names::WORDS, self.vocab_size, d),
                layers: (0..self.layers).map(layer).collect(),
                norm: norm(d),
                shape: self.clone(),
            },
            lm_head: (!self.tied).then(|| init.embedding(&format!("{DECODER}weight"), self.vocab_size, d)),
        }
    }
}

/// Llama with its language-model head.
#[derive(Module, Debug)]
pub struct LlamaForCausalLm {
    /// Embeddings and layers.
    pub model: Llama,
    /// `[v, d]`, where the decoder is not the word table.
    pub lm_head: Option<Embedding>,
}

impl LanguageModel for LlamaForCausalLm {
    /// The head, and the last layer after its attention, run on what is asked for alone.
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        self.model.forward(inputs, at, dropout, inside)
    }

    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits {
        let words_vd = self.lm_head.as_ref().map_or_else(|| self.words(), |decoder| decoder.weight.val());
        let bias_v = Tensor::zeros([words_vd.dims()[0]], &hidden_md.device());
        Logits::Factors { hidden_md: compute.factor(hidden_md), words_vd: compute.factor(words_vd), bias_v }
    }

    fn words(&self) -> Tensor<2> {
        self.model.embed_tokens.weight.val()
    }

    fn shape(&self) -> Shape {
        self.model.shape.clone().into()
    }

    /// A decoder of its own counts as one: it stands for words, a row each.
    fn is_table(name: &str) -> bool {
        name.contains("embed_tokens") || name.starts_with(DECODER)
    }
}

/// Embeddings and layers.
#[derive(Module, Debug)]
pub struct Llama {
    /// `[v, d]`; also the decoder, where it is tied.
    pub embed_tokens: Embedding,
    /// First to last.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub norm: RmsNorm,
    #[module(skip)]
    shape: LlamaShape,
}

impl Llama {
    /// The normed states after the last layer of the flattened positions: `[b * s, d]` of all of them; or `[m, d]` at
    /// some, as many of each row, without working out what is not asked for. A position sees itself and those before it
    /// in its segment, whatever order the inputs have.
    pub fn hidden(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout) -> Tensor<2> {
        self.forward(inputs, at, dropout, &mut Inside::default())
    }

    fn forward(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        let (shape, compute) = (&self.shape, &inputs.compute);
        let rotary = Rotary::scaled(&inputs.positions, shape.head_dim, shape.rope_theta as f64, shape.rope_scaling);
        let heads = Heads { queries: shape.heads, keys: shape.kv_heads };
        let seen = Seen { sight: inputs.sight.clone().in_order(TokenOrder::Causal), heads };
        let mut x_nd = dropout.apply(look_up(self.embed_tokens.weight.val(), &inputs.ids, compute));
        // The last layer works out what is asked for alone, unless all of it is wanted inside.
        let narrowed = self.layers.len().checked_sub(1).filter(|_| !inside.wants_states(self.layers.len()));
        for (i, layer) in self.layers.iter().enumerate() {
            inside.keep_states(i, &x_nd);
            inside.keep_attended(i + 1, || layer.read(x_nd.clone(), compute));
            let asked = at.filter(|_| narrowed == Some(i));
            x_nd = layer.forward(x_nd, &seen, Some(&rotary).filter(|_| shape.is_rotary(i)), asked, dropout, compute);
        }
        if narrowed.is_some() {
            return self.norm.forward(x_nd, compute);
        }
        let normed_nd = self.norm.forward(x_nd, compute);
        inside.keep_states(self.layers.len(), &normed_nd);
        only(normed_nd, at, compute)
    }

    /// Its sizes.
    pub fn shape(&self) -> &LlamaShape {
        &self.shape
    }
}

/// What attention is told of every layer alike.
struct Seen {
    sight: Sight,
    heads: Heads,
}

/// What is wanted of `[n, d]`: everything, or `m` places.
fn only(x_nd: Tensor<2>, at: Option<&Places>, compute: &Compute) -> Tensor<2> {
    match at {
        Some(at) => look_up(x_nd, at, compute),
        None => x_nd,
    }
}

/// Attention and a gated feed-forward layer, each added to what it reads.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Self-attention.
    pub self_attn: Attention,
    /// Before the feed-forward layer.
    pub post_attention_layernorm: RmsNorm,
    /// The feed-forward layer.
    pub mlp: Mlp,
}

impl Layer {
    /// `[n, d]` to `[n, d]`, or to `[m, d]` at some places.
    fn forward(
        &self,
        x_nd: Tensor<2>,
        seen: &Seen,
        rotary: Option<&Rotary>,
        at: Option<&Places>,
        dropout: &mut Dropout,
        compute: &Compute,
    ) -> Tensor<2> {
        let inputs = self.read(x_nd.clone(), compute);
        let context_ne = grouped_attention(inputs, seen.heads, &seen.sight, rotary, dropout, compute);
        self.after(only(context_ne, at, compute), only(x_nd, at, compute), dropout, compute)
    }

    /// Queries, keys and values of `[n, d]`, not turned yet.
    fn read(&self, x_nd: Tensor<2>, compute: &Compute) -> [Tensor<2>; 3] {
        self.self_attn.read(self.input_layernorm.forward(x_nd, compute), compute)
    }

    /// What comes after attention, of what it gave and of what the layer read.
    fn after(&self, context_me: Tensor<2>, x_md: Tensor<2>, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let x_md = added(context_me, &self.self_attn.o_proj, x_md, dropout, compute);
        let normed_md = self.post_attention_layernorm.forward(x_md.clone(), compute);
        let (gate_mf, up_mf) =
            (product(normed_md.clone(), &self.mlp.gate_proj, compute), product(normed_md, &self.mlp.up_proj, compute));
        added(silu_gate(gate_mf, up_mf, compute), &self.mlp.down_proj, x_md, dropout, compute)
    }
}

/// A matrix's product with `x`, and its bias where it has one.
fn product(x: Tensor<2>, layer: &Linear, compute: &Compute) -> Tensor<2> {
    match &layer.bias {
        Some(bias) => dense(x, &Dense { weight_df: layer.weight.val(), bias_f: bias.val() }, compute),
        None => linear(x, layer.weight.val(), compute),
    }
}

/// `dropout` of that, added to the residual stream.
fn added(x: Tensor<2>, layer: &Linear, residual: Tensor<2>, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
    match layer.bias {
        Some(_) => dropout.apply(in_f32(product(x, layer, compute))) + residual,
        None => dense_sum(x, layer.weight.val(), residual, dropout, compute),
    }
}

/// Self-attention's matrices, `e` the width of all heads of queries, `k` of all of keys.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d, e]`: queries.
    pub q_proj: Linear,
    /// `[d, k]`: keys.
    pub k_proj: Linear,
    /// `[d, k]`: values.
    pub v_proj: Linear,
    /// `[e, d]`: back to the residual stream.
    pub o_proj: Linear,
    /// Over each head of queries, of Qwen3.
    pub q_norm: Option<RmsNorm>,
    /// Over each head of keys, likewise.
    pub k_norm: Option<RmsNorm>,
}

impl Attention {
    /// Queries, keys and values of `[n, d]`, not turned yet.
    fn read(&self, x_nd: Tensor<2>, compute: &Compute) -> [Tensor<2>; 3] {
        let normed = |x: Tensor<2>, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward(x, compute),
            None => x,
        };
        let of = |layer: &Linear| product(x_nd.clone(), layer, compute);
        [normed(of(&self.q_proj), &self.q_norm), normed(of(&self.k_proj), &self.k_norm), of(&self.v_proj)]
    }
}

/// The gated feed-forward layer's matrices (Shazeer 2020).
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[d, f]`: what goes through SiLU.
    pub gate_proj: Linear,
    /// `[d, f]`: what it is multiplied by.
    pub up_proj: Linear,
    /// `[f, d]`.
    pub down_proj: Linear,
}

/// Normalisation by the root of the mean square.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale: as wide as a row, or as a head.
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl RmsNorm {
    fn forward(&self, x: Tensor<2>, compute: &Compute) -> Tensor<2> {
        rms_norm(x, self.weight.val(), self.epsilon, compute)
    }
}
