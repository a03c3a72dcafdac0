//! GPT-2's sizes (Radford et al. 2019).

use serde::{Deserialize, Serialize};

use super::{Kept, Parameters, Pass, Size, Sizes};
use crate::words::plural;

/// The sizes of a GPT-2, in `config.json`'s meaning of them: a table of positions, norms before each half of a layer,
/// each token predicted from those before it, the word table as its decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Shape {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width `d` of the hidden states.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Longest row.
    pub max_positions: usize,
    /// Epsilon of the layer norms.
    pub norm_epsilon: f64,
}

impl Gpt2Shape {
    /// With GPT-2's own choices: a feed-forward layer four times the width, an epsilon of 1e-5.
    pub fn new(vocab_size: usize, hidden: usize, layers: usize, heads: usize, max_positions: usize) -> Self {
        let intermediate = hidden.saturating_mul(4);
        Self { vocab_size, hidden, layers, heads, intermediate, max_positions, norm_epsilon: 1e-5 }
    }

    /// Heads are 64 wide, and the feed-forward layer is four times the width, unless something else is written. What
    /// has no rule and isn't written is 0.
    pub(super) fn of_keys(size: impl Fn(&str) -> Option<usize>, vocab_size: usize) -> Self {
        let whole = |key: &str| size(key).unwrap_or_default();
        let hidden = whole("hidden");
        let heads = size("heads").unwrap_or((hidden / 64).max(1));
        let usual = Self::new(vocab_size, hidden, whole("layers"), heads, whole("max_positions"));
        Self { intermediate: size("intermediate").unwrap_or(usual.intermediate), ..usual }
    }

    /// In f64: exact up to 2^53, and absurd sizes stay numbers.
    fn numbers(&self) -> [f64; 4] {
        [self.layers, self.hidden, self.intermediate, self.vocab_size].map(|size| size as f64)
    }
}

impl Sizes for Gpt2Shape {
    fields!(vocab_size, layers, hidden, heads, max_positions);

    fn widest(&self) -> usize {
        self.intermediate.max(self.hidden.saturating_mul(3))
    }

    fn keys(&self) -> Vec<Size> {
        let Self { layers, hidden, heads, intermediate, max_positions, .. } = *self;
        let sizes = [
            ("layers", layers),
            ("hidden", hidden),
            ("heads", heads),
            ("intermediate", intermediate),
            ("max_positions", max_positions),
        ];
        sizes.map(|(key, value)| Size { key, value, least: 1 }).to_vec()
    }

    /// `V d + P d` for the tables, `4 d^2 + 2 d i + i + 9 d` a layer, `2 d` for the last norm; the decoder is the word
    /// table.
    fn parameters(&self) -> Parameters {
        let ([layers, d, i, vocab], positions) = (self.numbers(), self.max_positions as f64);
        let layer = 4.0 * d * d + 2.0 * d * i + i + 9.0 * d;
        let total = ((vocab + positions) * d + layers * layer + 2.0 * d) as u64;
        Parameters { total, without_head: total }
    }

    /// A position attends to half of its text on average: to what comes before it.
    fn forward_flops(&self, pass: &Pass) -> f64 {
        let [layers, d, i, vocab] = self.numbers();
        let Pass { positions, attended, head_rows } = *pass;
        let to_attention = 2.0 * 3.0 * d * d + 4.0 * attended / 2.0 * d;
        let after_it = 2.0 * (d * d + 2.0 * d * i);
        let layers_after = positions * (layers - 1.0).max(0.0) + head_rows;
        positions * layers * to_attention + layers_after * after_it + head_rows * 2.0 * vocab * d
    }

    /// A layer keeps of each position, on a CPU, `5 d` values and for each head the shares of the positions it attends
    /// to, and after attention `4 d + 2 i`; on a GPU, with burn's operations, `7 d + 3 heads s` and `6 d + 6 i`. Of the
    /// last layer the second part is kept for head rows alone.
    fn kept_bytes(&self, pass: &Pass, kept: &Kept) -> f64 {
        let [layers, d, i, _] = self.numbers();
        let (heads, Kept { gpu, value_bytes: value, length, has_dropout }) = (self.heads as f64, *kept);
        let (to_attention, after_it) = match gpu {
            Some(_) => {
                let shares = heads * length * if has_dropout { 4.0 } else { 3.0 };
                (7.0 * d + shares, 6.0 * d + 6.0 * i)
            }
            None => (5.0 * d + heads * pass.attended, 4.0 * d + 2.0 * i),
        };
        let after = pass.positions * (layers - 1.0).max(0.0) + pass.head_rows;
        (pass.positions * layers * to_attention + after * after_it) * value
    }

    fn passing_bytes(&self, kept: &Kept) -> f64 {
        let value = if kept.gpu.is_some() { kept.value_bytes } else { 4.0 };
        2.0 * self.widest() as f64 * value
    }

    fn words(&self) -> String {
        let Self { layers, hidden, heads, intermediate, .. } = *self;
        let (layers, heads) = (plural(layers, "layer"), plural(heads, "head"));
        format!("GPT-2, {layers}, width {hidden}, {heads}, feed-forward {intermediate}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GPT-2's four sizes and DistilGPT2, as `transformers` counts them.
    #[test]
    fn parameters_are_those_of_the_published_models() {
        let of = |hidden, layers, heads| Gpt2Shape::new(50_257, hidden, layers, heads, 1024).parameters().total;
        assert_eq!(of(768, 12, 12), 124_439_808, "gpt2");
        assert_eq!(of(1024, 24, 16), 354_823_168, "gpt2-medium");
        assert_eq!(of(1280, 36, 20), 774_030_080, "gpt2-large");
        assert_eq!(of(1600, 48, 25), 1_557_611_200, "gpt2-xl");
        assert_eq!(of(768, 6, 12), 81_912_576, "distilgpt2");
    }
}
