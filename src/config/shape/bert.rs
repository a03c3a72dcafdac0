//! The sizes of a BERT (Devlin et al. 2019).

use serde::{Deserialize, Serialize};

use super::{Kept, Parameters, Pass, Size, Sizes};
use crate::device::Kernels;
use crate::words::plural;

/// The shape of a BERT, in Hugging Face's `config.json` terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BertShape {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width `d` of the hidden states.
    pub hidden: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Longest row.
    pub max_positions: usize,
    /// Token types; 0 leaves the table out.
    pub token_types: usize,
    /// Epsilon of the layer norms; BERT's is 1e-12.
    pub norm_epsilon: f64,
}

/// The epsilon of BERT's layer norms, where nothing says otherwise.
pub(crate) const NORM_EPSILON: f64 = 1e-12;

impl BertShape {
    /// A BERT with the usual choices: a feed-forward layer four times the width, two token types.
    pub fn new(vocab_size: usize, hidden: usize, layers: usize, heads: usize, max_positions: usize) -> Self {
        let (intermediate, norm_epsilon) = (4 * hidden, NORM_EPSILON);
        Self { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types: 2, norm_epsilon }
    }

    /// Heads are 64 wide, and the feed-forward layer is four times the width, unless something else is written. What
    /// has no rule and isn't written is 0.
    pub(super) fn of_keys(size: impl Fn(&str) -> Option<usize>, vocab_size: usize) -> Self {
        let whole = |key: &str| size(key).unwrap_or_default();
        let hidden = whole("hidden");
        Self {
            vocab_size,
            hidden,
            layers: whole("layers"),
            heads: size("heads").unwrap_or((hidden / 64).max(1)),
            intermediate: size("intermediate").unwrap_or(hidden.saturating_mul(4)),
            max_positions: whole("max_positions"),
            token_types: whole("token_types"),
            norm_epsilon: NORM_EPSILON,
        }
    }
}

impl Sizes for BertShape {
    fields!(vocab_size, layers, hidden, heads, max_positions);

    fn widest(&self) -> usize {
        self.intermediate
    }

    fn keys(&self) -> Vec<Size> {
        let Self { layers, hidden, heads, intermediate, max_positions, token_types, .. } = *self;
        let sizes = [
            ("layers", layers, 1),
            ("hidden", hidden, 1),
            ("heads", heads, 1),
            ("intermediate", intermediate, 1),
            ("max_positions", max_positions, 1),
            ("token_types", token_types, 0),
        ];
        sizes.map(|(key, value, least)| Size { key, value, least }).to_vec()
    }

    /// `V d + P d + T d + 2 d` for the embeddings, `4 (d^2 + d) + 2 d i + i + d + 4 d` a layer, `d^2 + d + 2 d + V` for
    /// the head, whose decoder is the word table.
    fn parameters(&self) -> Parameters {
        // In f64: exact up to 2^53, and absurd sizes stay numbers.
        let [layers, d, i, positions, types, vocab] =
            [self.layers, self.hidden, self.intermediate, self.max_positions, self.token_types, self.vocab_size]
                .map(|size| size as f64);
        let embeddings = (vocab + positions + types + 2.0) * d;
        let layer = 4.0 * (d * d + d) + 2.0 * d * i + i + d + 4.0 * d;
        let without_head = embeddings + layers * layer;
        Parameters { total: (without_head + d * d + 3.0 * d + vocab) as u64, without_head: without_head as u64 }
    }

    fn forward_flops(&self, pass: &Pass) -> f64 {
        let [layers, d, i, vocab] = [self.layers, self.hidden, self.intermediate, self.vocab_size].map(|size| size as f64);
        let Pass { positions, attended, head_rows } = *pass;
        let to_attention = 2.0 * 3.0 * d * d + 4.0 * attended * d;
        let after_it = 2.0 * (d * d + 2.0 * d * i);
        let layers_after = positions * (layers - 1.0).max(0.0) + head_rows;
        positions * layers * to_attention + layers_after * after_it + head_rows * 2.0 * (d * d + vocab * d)
    }

    /// A layer keeps of each position, on a CPU, `3 d` values and for each head the shares of the positions it attends
    /// to, and after attention `5 d + 2 i`; on a GPU `4 d` values in the product's dtype and for each head the whole
    /// row's shares, with dropout twice, and then `2 d + 2 i`, with `2 d` in f32; with burn's operations there
    /// `6 d + 3 heads s` and `6 d + 3 i`. Of the last layer the second part is kept for head rows alone.
    fn kept_bytes(&self, pass: &Pass, kept: &Kept) -> f64 {
        let [layers, d, i, heads] = [self.layers, self.hidden, self.intermediate, self.heads].map(|size| size as f64);
        let Kept { gpu, value_bytes: value, length, has_dropout } = *kept;
        let shares = heads * length * if has_dropout { 2.0 } else { 1.0 };
        let (to_attention, after_it) = match gpu {
            Some(Kernels::Composed) => ((6.0 * d + 3.0 * heads * length) * value, (6.0 * d + 3.0 * i) * value),
            Some(_) => ((4.0 * d + shares) * value, (2.0 * d + 2.0 * i) * value + 2.0 * d * 4.0),
            None => ((3.0 * d + heads * pass.attended) * value, (d + 2.0 * i) * value + 4.0 * d * 4.0),
        };
        pass.positions * layers * to_attention + (pass.positions * (layers - 1.0).max(0.0) + pass.head_rows) * after_it
    }

    fn passing_bytes(&self, kept: &Kept) -> f64 {
        let (d, i) = (self.hidden as f64, self.intermediate as f64);
        if kept.gpu.is_some() { 2.0 * i * kept.value_bytes + 10.0 * d } else { 2.0 * i * 4.0 }
    }

    fn words(&self) -> String {
        let Self { layers, hidden, heads, intermediate, .. } = *self;
        format!("{}, width {hidden}, {}, feed-forward {intermediate}", plural(layers, "layer"), plural(heads, "head"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distilbert(layers: usize) -> BertShape {
        BertShape { token_types: 0, ..BertShape::new(30522, 768, layers, 12, 512) }
    }

    /// `DistilBertModel` and `DistilBertForMaskedLM`, as `transformers` counts them, and the paper's sizes of its
    /// teachers.
    #[test]
    fn parameters_are_those_of_transformers_and_of_the_paper() {
        let student = distilbert(6).parameters();
        assert_eq!(student, Parameters { total: 66_985_530, without_head: 66_362_880 });
        let ratio = |layers| distilbert(layers).parameters().without_head as f64 / student.without_head as f64;
        let percent = [4, 2, 1].map(|layers| (ratio(layers) * 100.0) as u64);
        assert_eq!(percent, [78, 57, 46]);
        let bert_base = BertShape { token_types: 2, ..distilbert(12) }.parameters();
        assert_eq!(bert_base.total, 109_514_298, "BertForMaskedLM, bert-base-uncased");
    }

    /// The cost of the paper's run by `6 N tokens` would be about 341 MFLOP a token for a 6-layer student and a 4-layer
    /// teacher. Of the last layers, 85 % of what comes after attention is never asked for.
    #[test]
    fn work_is_that_of_the_formula() {
        let (student, teacher) = (distilbert(6), distilbert(4));
        let m = 768.0 * 768.0 + 2.0 * 768.0 * 3072.0;
        let n = 6.0 * 3.0 * 768.0 * 768.0 + 5.0 * m;
        let head = 0.15 * (m + 768.0 * 768.0 + 30522.0 * 768.0);
        let token = Pass { positions: 1.0, attended: 27.0, head_rows: 0.15 };
        let found = 3.0 * student.forward_flops(&token);
        assert!((found / (6.0 * n + 12.0 * 6.0 * 27.0 * 768.0 + 6.0 * head) - 1.0).abs() < 1e-12, "{found}");
        let both = found + teacher.forward_flops(&token);
        let (everywhere, spared) = (341e6, 0.85 * 8.0 * m);
        assert!((both - (everywhere - spared)).abs() < 3e6, "{both}");
        assert_eq!(
            student.forward_flops(&Pass { head_rows: 1.0, ..token }),
            2.0 * (6.0 * (3.0 * 768.0 * 768.0 + m) + 768.0 * 768.0 + 30522.0 * 768.0) + 4.0 * 6.0 * 27.0 * 768.0
        );
    }
}
