//! ModernBERT's sizes (Warner et al. 2024), which Ettin's encoders and decoders share (Weller et al. 2025).

use serde::{Deserialize, Serialize};

use super::{Kept, Parameters, Pass, Size, Sizes};
use crate::words::plural;

/// The sizes of a ModernBERT, in `config.json`'s meaning of them: rotary positions, gated feed-forward layers, and
/// layers of which every `global_every`-th sees all of its text and the others a window around each token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModernBertShape {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width `d` of the hidden states.
    pub hidden: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; they divide `hidden` into even widths.
    pub heads: usize,
    /// Width of the gated feed-forward layer, the gate not counted.
    pub intermediate: usize,
    /// Longest row. No table has so many rows: positions are angles.
    pub max_positions: usize,
    /// Layers 0, `global_every`, 2 `global_every`, ... attend to the whole text.
    pub global_every: usize,
    /// `local_attention`: the other layers see `window / 2` tokens to each side; of a decoder the last `window / 2`
    /// tokens, the own one included.
    pub window: usize,
    /// Base of the rotary angles in global layers.
    pub global_theta: usize,
    /// Base of the rotary angles in local layers.
    pub local_theta: usize,
    /// Epsilon of the layer norms; ModernBERT's is 1e-5.
    pub norm_epsilon: f64,
    /// Whether the decoder adds a bias to the logits.
    pub decoder_bias: bool,
    /// Whether a classifier reads the mean over a text's tokens, and not its first.
    pub pools_mean: bool,
    /// Whether a token sees only itself and those before it, and predicts the next one: a decoder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_causal: bool,
}

impl ModernBertShape {
    /// With ModernBERT-base's choices: a feed-forward layer one and a half times the width, every third layer global, a
    /// window of 128 tokens, thetas of 160,000 and 10,000.
    pub fn new(vocab_size: usize, hidden: usize, layers: usize, heads: usize, max_positions: usize) -> Self {
        Self {
            vocab_size,
            hidden,
            layers,
            heads,
            intermediate: hidden.saturating_mul(3) / 2,
            max_positions,
            global_every: 3,
            window: 128,
            global_theta: 160_000,
            local_theta: 10_000,
            norm_epsilon: 1e-5,
            decoder_bias: true,
            pools_mean: false,
            is_causal: false,
        }
    }

    /// Heads are 64 wide, and the feed-forward layer is one and a half times the width, unless something else is
    /// written. What has no rule and isn't written is 0.
    pub(super) fn of_keys(size: impl Fn(&str) -> Option<usize>, vocab_size: usize, is_causal: bool) -> Self {
        let whole = |key: &str| size(key).unwrap_or_default();
        let hidden = whole("hidden");
        let heads = size("heads").unwrap_or((hidden / 64).max(1));
        let usual = Self::new(vocab_size, hidden, whole("layers"), heads, whole("max_positions"));
        Self {
            intermediate: size("intermediate").unwrap_or(usual.intermediate),
            global_every: size("global_every").unwrap_or(usual.global_every),
            window: size("window").unwrap_or(usual.window),
            global_theta: size("global_theta").unwrap_or(usual.global_theta),
            local_theta: size("local_theta").unwrap_or(usual.local_theta),
            is_causal,
            ..usual
        }
    }

    /// How many positions away the first is that a local layer doesn't see. Encoders see one more than decoders, whose
    /// window holds the own position.
    pub fn reach(&self) -> usize {
        self.window / 2 + usize::from(!self.is_causal)
    }

    /// Whether a layer attends to the whole text.
    pub fn is_global(&self, layer: usize) -> bool {
        layer.is_multiple_of(self.global_every.max(1))
    }

    /// The shape with what comes with weights alone, as another has it: the norms' epsilon, the decoder's bias, how
    /// texts are pooled.
    #[must_use]
    pub fn with_rest_of(&self, other: &Self) -> Self {
        let Self { norm_epsilon, decoder_bias, pools_mean, .. } = *other;
        Self { norm_epsilon, decoder_bias, pools_mean, ..self.clone() }
    }

    /// Local layers of the first `layers`.
    fn local_layers(&self, layers: usize) -> f64 {
        (0..layers).filter(|&layer| !self.is_global(layer)).count() as f64
    }

    /// Positions that one sees in a local layer.
    fn seen_locally(&self, attended: f64) -> f64 {
        let sides = if self.is_causal { 1 } else { 2 };
        attended.min((sides * self.reach() - (sides - 1)) as f64)
    }
}

impl Sizes for ModernBertShape {
    fields!(vocab_size, layers, hidden, heads, max_positions);

    fn widest(&self) -> usize {
        self.intermediate.saturating_mul(2).max(self.hidden.saturating_mul(3))
    }

    fn pairs_in_heads(&self) -> bool {
        true
    }

    fn keys(&self) -> Vec<Size> {
        let sizes = [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("intermediate", self.intermediate),
            ("max_positions", self.max_positions),
            ("global_every", self.global_every),
            ("window", self.window),
            ("global_theta", self.global_theta),
            ("local_theta", self.local_theta),
        ];
        // Half of the window holds a decoder's own position.
        let least = |key: &str| if key == "window" && self.is_causal { 2 } else { 1 };
        sizes.map(|(key, value)| Size { key, value, least: least(key) }).to_vec()
    }

    /// `V d + d` for the embeddings, `4 d^2 + 3 d i + 2 d` a layer (the first has one norm less), `d` for the last
    /// norm, `d^2 + d + V` for the head, whose decoder is the word table.
    fn parameters(&self) -> Parameters {
        // In f64: exact up to 2^53, and absurd sizes stay numbers.
        let [layers, d, i, vocab] = [self.layers, self.hidden, self.intermediate, self.vocab_size].map(|size| size as f64);
        let layer = 4.0 * d * d + 3.0 * d * i + 2.0 * d;
        let first_norm = if self.layers > 0 { d } else { 0.0 };
        let without_head = (vocab + 1.0) * d + layers * layer - first_norm + d;
        let bias = if self.decoder_bias { vocab } else { 0.0 };
        Parameters { total: (without_head + d * d + d + bias) as u64, without_head: without_head as u64 }
    }

    fn forward_flops(&self, pass: &Pass) -> f64 {
        let [layers, d, i, vocab] = [self.layers, self.hidden, self.intermediate, self.vocab_size].map(|size| size as f64);
        let Pass { positions, attended, head_rows } = *pass;
        let local = self.local_layers(self.layers);
        let pairs = (layers - local) * attended + local * self.seen_locally(attended);
        let to_attention = layers * 2.0 * 3.0 * d * d + 4.0 * pairs * d;
        let after_it = 2.0 * (d * d + 3.0 * d * i);
        let layers_after = positions * (layers - 1.0).max(0.0) + head_rows;
        positions * to_attention + layers_after * after_it + head_rows * 2.0 * (d * d + vocab * d)
    }

    /// A layer keeps of each position, on a CPU, `5 d` values and for each head the shares of the positions it attends
    /// to, and after attention `3 d + 4 i`; on a GPU at most what burn's operations keep, `12 d + 3 heads s` and
    /// `6 d + 6 i`. Of the last layer the second part is kept for head rows alone.
    fn kept_bytes(&self, pass: &Pass, kept: &Kept) -> f64 {
        let [layers, d, i, heads] = [self.layers, self.hidden, self.intermediate, self.heads].map(|size| size as f64);
        let Kept { gpu, value_bytes: value, length, has_dropout } = *kept;
        let local = self.local_layers(self.layers);
        let (to_attention, after_it) = match gpu {
            Some(_) => {
                let shares = heads * length * if has_dropout { 4.0 } else { 3.0 };
                (layers * (12.0 * d + shares) * value, (6.0 * d + 6.0 * i) * value)
            }
            None => {
                let shares = heads * ((layers - local) * pass.attended + local * self.seen_locally(pass.attended));
                ((layers * 5.0 * d + shares) * value, (3.0 * d + 4.0 * i) * value)
            }
        };
        pass.positions * to_attention + (pass.positions * (layers - 1.0).max(0.0) + pass.head_rows) * after_it
    }

    fn passing_bytes(&self, kept: &Kept) -> f64 {
        let value = if kept.gpu.is_some() { kept.value_bytes } else { 4.0 };
        2.0 * self.widest() as f64 * value
    }

    fn angles(&self) -> String {
        format!(", thetas {} and {}", self.global_theta, self.local_theta)
    }

    fn words(&self) -> String {
        let Self { layers, hidden, heads, intermediate, window, global_every, .. } = *self;
        let kind = if self.is_causal { "ModernBERT decoder" } else { "ModernBERT" };
        format!(
            "{kind}, {}, width {hidden}, {}, gated feed-forward {intermediate}, window {window}, one layer of {global_every} global",
            plural(layers, "layer"),
            plural(heads, "head")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ModernBERT-base and -large as `transformers` counts them: "149M" and "395M", and Ettin's smallest and largest
    /// encoder.
    #[test]
    fn parameters_are_those_of_the_published_models() {
        let of = |hidden, layers, heads, intermediate| {
            let shape = ModernBertShape { intermediate, ..ModernBertShape::new(50_368, hidden, layers, heads, 8192) };
            shape.parameters().total
        };
        assert_eq!(of(768, 22, 12, 1152), 149_655_232, "ModernBERT-base");
        assert_eq!(of(1024, 28, 16, 2624), 395_881_664, "ModernBERT-large");
    }

    #[test]
    fn every_third_layer_is_global_and_a_window_bounds_the_others() {
        let shape = ModernBertShape::new(100, 64, 7, 2, 1024);
        assert_eq!((0..7).filter(|&layer| shape.is_global(layer)).collect::<Vec<_>>(), [0, 3, 6]);
        let pairs = |attended: f64| {
            let at = |attended| shape.forward_flops(&Pass { positions: 1.0, attended, head_rows: 0.0 });
            (at(attended) - at(0.0)) / (4.0 * 64.0)
        };
        assert_eq!(pairs(100.0), 7.0 * 100.0);
        assert_eq!(pairs(1024.0), 3.0 * 1024.0 + 4.0 * 129.0);
        let decoder = ModernBertShape { is_causal: true, ..shape.clone() };
        assert_eq!([shape.seen_locally(1024.0), decoder.seen_locally(1024.0), decoder.seen_locally(9.0)], [129.0, 64.0, 9.0]);
    }
}
