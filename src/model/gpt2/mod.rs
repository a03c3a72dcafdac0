//! The family of GPT-2 (Radford et al. 2019): causal language models of a table of positions, layer norms before each
//! half of a layer, GELU by the hyperbolic tangent, the word table as their decoder.
//!
//! Field names are Hugging Face's parameter names.

mod config_json;
mod fit;
mod names;
mod next;
mod remap;

use burn::module::{Module, Param};
use burn::nn::Embedding;
use burn::tensor::{Device, Tensor};

use super::init::Init;
use super::inputs::Inputs;
use super::inside::Inside;
use super::language_model::LanguageModel;
use crate::batch::TokenOrder;
use crate::config::{Gpt2Shape, Shape};
use crate::device::Compute;
use crate::kernels::{
    Dense, Dropout, Logits, Norm, Places, Sight, dense, in_f32, look_up, norm_of_sum, self_attention, tanh_gelu,
};

pub(super) use config_json::{MODEL_TYPE, parse, write as config};
pub(super) use fit::{body, is_body, is_head, must_have_body, must_predict};
pub(super) use names::{DECODER, OVER_VOCABULARY, rename, unwrapped};
pub(super) use remap::remap;

impl Gpt2Shape {
    /// Draws a model as GPT-2 was: N(0, `range`) for matrices and tables, those that add to the residual stream smaller
    /// by the root of their number, zero biases, norms of ones; from `seed` and each parameter's name alone.
    pub fn init(&self, seed: u64, range: f64, device: &Device) -> Gpt2LmHeadModel {
        let init = Init::new(seed, range, device);
        let adding = Init::new(seed, range / (2.0 * self.layers.max(1) as f64).sqrt(), device);
        let norm = || LayerNorm { gamma: init.ones(self.hidden), beta: init.zeros(self.hidden), epsilon: self.norm_epsilon };
        let layer = |i: usize| {
            let conv = |init: &Init, part: &str, from: usize, to: usize| Conv1d {
                weight: init.normal(&format!("{}{i}.{part}.weight", fit::LAYER), [from, to]),
                bias: init.zeros(to),
            };
            let (d, f) = (self.hidden, self.intermediate);
            Layer {
                ln_1: norm(),
                attn: Attention {
                    c_attn: conv(&init, "attn.c_attn", d, 3 * d),
                    c_proj: conv(&adding, "attn.c_proj", d, d),
                    heads: self.heads,
                },
                ln_2: norm(),
                mlp: Mlp { c_fc: conv(&init, "mlp.c_fc", d, f), c_proj: conv(&adding, "mlp.c_proj", f, d) },
            }
        };
        Gpt2LmHeadModel {
            transformer: Gpt2 {
                wte: init.embedding(names::WORDS, self.vocab_size, self.hidden),
                wpe: init.embedding("transformer.wpe.weight", self.max_positions, self.hidden),
                h: (0..self.layers).map(layer).collect(),
                ln_f: norm(),
                shape: self.clone(),
            },
        }
    }
}

/// GPT-2 as a language model: the word table is its head.
#[derive(Module, Debug)]
pub struct Gpt2LmHeadModel {
    /// Tables and layers.
    pub transformer: Gpt2,
}

impl LanguageModel for Gpt2LmHeadModel {
    /// The head, and the last layer after its attention, run on what is asked for alone.
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        self.transformer.forward(inputs, at, dropout, inside)
    }

    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits {
        let words_vd = self.words();
        let bias_v = Tensor::zeros([words_vd.dims()[0]], &hidden_md.device());
        Logits::Factors { hidden_md: compute.factor(hidden_md), words_vd: compute.factor(words_vd), bias_v }
    }

    fn words(&self) -> Tensor<2> {
        self.transformer.wte.weight.val()
    }

    fn shape(&self) -> Shape {
        self.transformer.shape.clone().into()
    }

    fn is_table(name: &str) -> bool {
        name.contains("transformer.wte") || name.contains("transformer.wpe")
    }
}

/// Tables and layers.
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// `[v, d]`; also the decoder.
    pub wte: Embedding,
    /// `[max_positions, d]`.
    pub wpe: Embedding,
    /// First to last.
    pub h: Vec<Layer>,
    /// After the last layer.
    pub ln_f: LayerNorm,
    #[module(skip)]
    shape: Gpt2Shape,
}

impl Gpt2 {
    /// What tokens at positions start as, `[n, d]`.
    fn embedded(&self, ids: &Places, positions: &Places, compute: &Compute) -> Tensor<2> {
        look_up(self.wte.weight.val(), ids, compute) + look_up(self.wpe.weight.val(), positions, compute)
    }

    /// The normed states after the last layer of the flattened positions: `[b * s, d]` of all of them; or `[m, d]` at
    /// some, as many of each row, without working out what is not asked for. A position sees itself and those before it
    /// in its segment, whatever order the inputs have.
    fn forward(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2> {
        let compute = &inputs.compute;
        let sight = inputs.sight.clone().in_order(TokenOrder::Causal);
        let mut x_nd = dropout.apply(self.embedded(&inputs.ids, &inputs.positions, compute));
        // The last layer works out what is asked for alone, unless all of it is wanted inside.
        let narrowed = self.h.len().checked_sub(1).filter(|_| !inside.wants_states(self.h.len()));
        for (i, layer) in self.h.iter().enumerate() {
            inside.keep_states(i, &x_nd);
            inside.keep_attended(i + 1, || layer.read(x_nd.clone(), compute));
            x_nd = layer.forward(x_nd, &sight, at.filter(|_| narrowed == Some(i)), dropout, compute);
        }
        let normed_nd = self.ln_f.forward(x_nd, compute);
        if narrowed.is_some() {
            return normed_nd;
        }
        inside.keep_states(self.h.len(), &normed_nd);
        only(normed_nd, at, compute)
    }
}

/// What is wanted of `[n, d]`: everything, or `m` places.
fn only(x_nd: Tensor<2>, at: Option<&Places>, compute: &Compute) -> Tensor<2> {
    match at {
        Some(at) => look_up(x_nd, at, compute),
        None => x_nd,
    }
}

/// One layer: attention, then feed-forward, each on a normed copy and added to what it read.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before attention.
    pub ln_1: LayerNorm,
    /// Self-attention and its output.
    pub attn: Attention,
    /// Before the feed-forward layer.
    pub ln_2: LayerNorm,
    /// The feed-forward layer.
    pub mlp: Mlp,
}

impl Layer {
    /// `[n, d]` to `[n, d]`, or to `[m, d]` at some places.
    fn forward(
        &self,
        x_nd: Tensor<2>,
        sight: &Sight,
        at: Option<&Places>,
        dropout: &mut Dropout,
        compute: &Compute,
    ) -> Tensor<2> {
        let normed_nd = self.ln_1.forward(x_nd.clone(), compute);
        let context_nd = self_attention(normed_nd, &self.attn.layers(), self.attn.heads, sight, dropout, compute);
        self.after(only(context_nd, at, compute), only(x_nd, at, compute), dropout, compute)
    }

    /// Queries, keys and values of `[n, d]`.
    fn read(&self, x_nd: Tensor<2>, compute: &Compute) -> [Tensor<2>; 3] {
        let normed_nd = self.ln_1.forward(x_nd, compute);
        self.attn.layers().map(|layer| dense(normed_nd.clone(), &layer, compute))
    }

    /// What comes after attention, of what it gave and of what the layer read.
    fn after(&self, context_md: Tensor<2>, x_md: Tensor<2>, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        let x_md = self.attn.c_proj.added(context_md, x_md, dropout, compute);
        let normed_md = self.ln_2.forward(x_md.clone(), compute);
        let wide_mf = tanh_gelu(dense(normed_md, &self.mlp.c_fc.parameters(), compute), compute);
        self.mlp.c_proj.added(wide_mf, x_md, dropout, compute)
    }
}

/// Self-attention with its output projection.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d, 3 d]`: queries, keys and values side by side.
    pub c_attn: Conv1d,
    /// `[d, d]`: back to the residual stream.
    pub c_proj: Conv1d,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    /// The dense layers of queries, of keys and of values.
    fn layers(&self) -> [Dense; 3] {
        let (Dense { weight_df, bias_f }, d) = (self.c_attn.parameters(), self.c_proj.bias.dims()[0]);
        [0, d, 2 * d]
            .map(|from| Dense { weight_df: weight_df.clone().narrow(1, from, d), bias_f: bias_f.clone().narrow(0, from, d) })
    }
}

/// The feed-forward layer's matrices.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[d, f]`, before GELU.
    pub c_fc: Conv1d,
    /// `[f, d]`.
    pub c_proj: Conv1d,
}

/// A dense layer whose matrix files keep as `[in, out]`: what GPT-2's code called a convolution.
#[derive(Module, Debug)]
pub struct Conv1d {
    /// `[d, f]`.
    pub weight: Param<Tensor<2>>,
    /// `[f]`.
    pub bias: Param<Tensor<1>>,
}

impl Conv1d {
    fn parameters(&self) -> Dense {
        Dense { weight_df: self.weight.val(), bias_f: self.bias.val() }
    }

    /// `dropout` of its product with `x`, added to the residual stream.
    fn added(&self, x: Tensor<2>, residual: Tensor<2>, dropout: &mut Dropout, compute: &Compute) -> Tensor<2> {
        dropout.apply(in_f32(dense(x, &self.parameters(), compute))) + residual
    }
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
        let norm = Norm { gamma_d: self.gamma.val(), beta_d: self.beta.val(), epsilon: self.epsilon };
        norm_of_sum(x_nd, None, &norm, &mut Dropout::off(), compute)
    }
}
