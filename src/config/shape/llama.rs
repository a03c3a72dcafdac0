//! Llama's sizes (Touvron et al. 2023; Grattafiori et al. 2024), with the switches by which Qwen3 (Yang et al. 2025)
//! and SmolLM3 differ from it.

use serde::{Deserialize, Serialize};

use super::{Kept, Parameters, Pass, Size, Sizes};
use crate::words::plural;

/// The sizes of a Llama, in `config.json`'s meaning of them: rotary positions, keys and values that several heads
/// share, gated feed-forward layers, each token predicted from those before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlamaShape {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width `d` of the hidden states.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; each serves as many heads of queries, next to each other (Ainslie et al. 2023).
    pub kv_heads: usize,
    /// Width of a head, an even number; heads together need not be as wide as the hidden states.
    pub head_dim: usize,
    /// Width of the gated feed-forward layer, the gate not counted.
    pub intermediate: usize,
    /// Longest row.
    pub max_positions: usize,
    /// Base of the rotary angles.
    pub rope_theta: usize,
    /// Whether the decoder is the word table.
    pub tied: bool,
    /// Whether queries and keys are normed, a head at a time, before they are turned: Qwen3.
    pub qk_norm: bool,
    /// Of each so many layers the last does not turn queries and keys: SmolLM3's 4; 0 where all do.
    pub no_rope_every: usize,
    /// Whether queries, keys, values and what becomes of them have biases.
    pub attention_bias: bool,
    /// Whether feed-forward layers have biases.
    pub mlp_bias: bool,
    /// Epsilon of the norms.
    pub norm_epsilon: f64,
    /// How the angles were stretched for longer texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
}

/// Llama 3's rule for longer texts than a model was first trained on: slow frequencies are divided by `factor`, fast
/// ones stay, and those between go over (`transformers`' `rope_type` "llama3").
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// What slow frequencies are divided by.
    pub factor: f64,
    /// Frequencies with at most so many turns in the original text are slow.
    pub low_freq_factor: f64,
    /// Those with at least so many are fast.
    pub high_freq_factor: f64,
    /// Tokens of the texts that the model was first trained on.
    pub original_max_positions: usize,
}

impl LlamaShape {
    /// With the usual choices of small models: keys and values for each head, heads that together are as wide as the
    /// hidden states, a feed-forward layer of 8/3 of the width, up to a multiple of 64, a theta of 10,000, a decoder
    /// that is the word table.
    pub fn new(vocab_size: usize, hidden: usize, layers: usize, heads: usize, max_positions: usize) -> Self {
        Self {
            vocab_size,
            hidden,
            layers,
            heads,
            kv_heads: heads,
            head_dim: hidden / heads.max(1),
            intermediate: (hidden.saturating_mul(8) / 3).checked_next_multiple_of(64).unwrap_or(hidden),
            max_positions,
            rope_theta: 10_000,
            tied: true,
            qk_norm: false,
            no_rope_every: 0,
            attention_bias: false,
            mlp_bias: false,
            norm_epsilon: 1e-6,
            rope_scaling: None,
        }
    }

    /// Heads are 64 wide unless something else is written. What has no rule and isn't written is 0.
    pub(super) fn of_keys(size: impl Fn(&str) -> Option<usize>, vocab_size: usize) -> Self {
        let whole = |key: &str| size(key).unwrap_or_default();
        let hidden = whole("hidden");
        let heads = size("heads").unwrap_or((hidden / 64).max(1));
        let usual = Self::new(vocab_size, hidden, whole("layers"), heads, whole("max_positions"));
        let flag = |key: &str, usual: bool| size(key).map_or(usual, |set| set != 0);
        Self {
            kv_heads: size("kv_heads").unwrap_or(usual.kv_heads),
            head_dim: size("head_dim").unwrap_or(usual.head_dim),
            intermediate: size("intermediate").unwrap_or(usual.intermediate),
            rope_theta: size("rope_theta").unwrap_or(usual.rope_theta),
            tied: flag("tied", usual.tied),
            qk_norm: flag("qk_norm", usual.qk_norm),
            no_rope_every: size("no_rope_every").unwrap_or(usual.no_rope_every),
            ..usual
        }
    }

    /// Whether a layer turns queries and keys by their positions.
    pub fn is_rotary(&self, layer: usize) -> bool {
        self.no_rope_every == 0 || !(layer + 1).is_multiple_of(self.no_rope_every)
    }

    /// The shape with what comes with weights alone, as another has it: the norms' epsilon, biases, how angles are
    /// stretched.
    #[must_use]
    pub fn with_rest_of(&self, other: &Self) -> Self {
        let Self { norm_epsilon, attention_bias, mlp_bias, rope_scaling, .. } = *other;
        Self { norm_epsilon, attention_bias, mlp_bias, rope_scaling, ..self.clone() }
    }

    /// Width of all heads of queries, and of all of keys.
    pub fn widths(&self) -> [usize; 2] {
        [self.heads, self.kv_heads].map(|heads| heads.saturating_mul(self.head_dim))
    }

    /// In f64: exact up to 2^53, and absurd sizes stay numbers.
    fn numbers(&self) -> [f64; 6] {
        let [queries, keys] = self.widths();
        [self.layers, self.hidden, self.intermediate, self.vocab_size, queries, keys].map(|size| size as f64)
    }
}

impl Sizes for LlamaShape {
    fields!(vocab_size, layers, hidden, heads, max_positions);

    fn widest(&self) -> usize {
        self.intermediate.saturating_mul(2).max(self.widths()[0].saturating_mul(3))
    }

    fn keys(&self) -> Vec<Size> {
        let sizes = [
            ("layers", self.layers, 1),
            ("hidden", self.hidden, 1),
            ("heads", self.heads, 1),
            ("kv_heads", self.kv_heads, 1),
            ("head_dim", self.head_dim, 1),
            ("intermediate", self.intermediate, 1),
            ("max_positions", self.max_positions, 1),
            ("rope_theta", self.rope_theta, 1),
            ("tied", usize::from(self.tied), 0),
            ("qk_norm", usize::from(self.qk_norm), 0),
            ("no_rope_every", self.no_rope_every, 0),
        ];
        sizes.map(|(key, value, least)| Size { key, value, least }).to_vec()
    }

    /// With `q` and `k` the widths of all heads of queries and of keys: `V d` for the words, `2 d q + 2 d k + 3 d i + 2
    /// d` a layer (with norms of queries and keys two heads' widths more; with biases `q + 2 k + d` and `2 i + d`), `d`
    /// for the last norm, `V d` for a decoder of its own.
    fn parameters(&self) -> Parameters {
        let [layers, d, i, vocab, q, k] = self.numbers();
        let head_norms = if self.qk_norm { 2.0 * self.head_dim as f64 } else { 0.0 };
        let attention_biases = if self.attention_bias { q + 2.0 * k + d } else { 0.0 };
        let mlp_biases = if self.mlp_bias { 2.0 * i + d } else { 0.0 };
        let layer = 2.0 * d * (q + k) + 3.0 * d * i + 2.0 * d + head_norms + attention_biases + mlp_biases;
        let without_head = vocab * d + layers * layer + d;
        let decoder = if self.tied { 0.0 } else { vocab * d };
        Parameters { total: (without_head + decoder) as u64, without_head: without_head as u64 }
    }

    /// A position attends to half of its text on average: to what comes before it.
    fn forward_flops(&self, pass: &Pass) -> f64 {
        let [layers, d, i, vocab, q, k] = self.numbers();
        let Pass { positions, attended, head_rows } = *pass;
        let to_attention = 2.0 * d * (q + 2.0 * k) + 4.0 * attended / 2.0 * q;
        let after_it = 2.0 * (q * d + 3.0 * d * i);
        let layers_after = positions * (layers - 1.0).max(0.0) + head_rows;
        positions * layers * to_attention + layers_after * after_it + head_rows * 2.0 * vocab * d
    }

    /// A layer keeps of each position, on a CPU, `2 d + 3 q + 3 k` values and for each head the shares of the positions
    /// it attends to, and after attention `3 d + 3 i`; on a GPU, with burn's operations, `4 d + 12 q + 3 heads s` and
    /// `8 d + 8 i`. Of the last layer the second part is kept for head rows alone.
    fn kept_bytes(&self, pass: &Pass, kept: &Kept) -> f64 {
        let [layers, d, i, _, q, k] = self.numbers();
        let (heads, Kept { gpu, value_bytes: value, length, has_dropout }) = (self.heads as f64, *kept);
        let (to_attention, after_it) = match gpu {
            Some(_) => {
                let shares = heads * length * if has_dropout { 4.0 } else { 3.0 };
                (4.0 * d + 12.0 * q + shares, 8.0 * d + 8.0 * i)
            }
            None => (2.0 * d + 3.0 * (q + k) + heads * pass.attended, 3.0 * d + 3.0 * i),
        };
        let after = pass.positions * (layers - 1.0).max(0.0) + pass.head_rows;
        (pass.positions * layers * to_attention + after * after_it) * value
    }

    fn passing_bytes(&self, kept: &Kept) -> f64 {
        let value = if kept.gpu.is_some() { kept.value_bytes } else { 4.0 };
        2.0 * self.widest() as f64 * value
    }

    fn angles(&self) -> String {
        let scaled = if self.rope_scaling.is_some() { ", scaled as Llama 3's" } else { "" };
        format!(", theta {}{scaled}", self.rope_theta)
    }

    fn words(&self) -> String {
        let Self { layers, hidden, heads, kv_heads, head_dim, intermediate, .. } = *self;
        let shared = if kv_heads == heads { String::new() } else { format!(", {kv_heads} of keys") };
        let wide = if heads * head_dim == hidden { String::new() } else { format!(", each {head_dim} wide") };
        let mut text = format!(
            "Llama, {}, width {hidden}, {}{shared}{wide}, gated feed-forward {intermediate}",
            plural(layers, "layer"),
            plural(heads, "head")
        );
        if self.qk_norm {
            text += ", norms of queries and keys";
        }
        if self.no_rope_every > 0 {
            text += &format!(", one layer of {} without positions", self.no_rope_every);
        }
        if !self.tied {
            text += ", a decoder of its own";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM2-135M, Llama-3.2-1B, Qwen3-0.6B and SmolLM3-3B, as `transformers` counts them.
    #[test]
    fn parameters_are_those_of_the_published_models() {
        let of = |vocab, hidden, layers, [heads, kv_heads, head_dim]: [usize; 3], intermediate| LlamaShape {
            kv_heads,
            head_dim,
            intermediate,
            ..LlamaShape::new(vocab, hidden, layers, heads, 8192)
        };
        let smollm2 = of(49_152, 576, 30, [9, 3, 64], 1536);
        assert_eq!(smollm2.parameters().total, 134_515_008, "SmolLM2-135M");
        let llama = of(128_256, 2048, 16, [32, 8, 64], 8192);
        assert_eq!(llama.parameters().total, 1_235_814_400, "Llama-3.2-1B");
        let qwen = LlamaShape { qk_norm: true, ..of(151_936, 1024, 28, [16, 8, 128], 3072) };
        assert_eq!(qwen.parameters().total, 596_049_920, "Qwen3-0.6B");
        let smollm3 = LlamaShape { no_rope_every: 4, ..of(128_256, 2048, 36, [16, 4, 128], 11_008) };
        assert_eq!(smollm3.parameters().total, 3_075_098_624, "SmolLM3-3B");
        let untied = LlamaShape { tied: false, ..smollm2.clone() }.parameters();
        assert_eq!(untied.total - untied.without_head, 49_152 * 576);
    }

    #[test]
    fn every_fourth_layer_has_no_positions_and_half_of_the_text_is_seen() {
        let shape = LlamaShape { no_rope_every: 4, ..LlamaShape::new(100, 64, 9, 2, 1024) };
        assert_eq!((0..9).filter(|&layer| !shape.is_rotary(layer)).collect::<Vec<_>>(), [3, 7]);
        assert!((0..9).all(|layer| LlamaShape { no_rope_every: 0, ..shape.clone() }.is_rotary(layer)));
        let at = |attended| shape.forward_flops(&Pass { positions: 1.0, attended, head_rows: 0.0 });
        assert_eq!(at(100.0) - at(0.0), 9.0 * 4.0 * 50.0 * 64.0);
    }
}
