//! What is asked of a model of any family, and what a family's `config.json` says.

use burn::module::Module;
use burn::tensor::Tensor;

use super::inputs::Inputs;
use super::inside::Inside;
use crate::config::Shape;
use crate::device::Compute;
use crate::kernels::{Dropout, Logits, Places};

/// A model that predicts tokens: its body, and a head on top.
///
/// ```
/// use upstill::Device;
/// use upstill::model::{BertShape, LanguageModel};
///
/// let shape = BertShape::new(100, 32, 2, 4, 64); // words, width, layers, heads, longest row
/// let model = shape.init(1, 0.02, &Device::cpu("an example").handle);
/// assert_eq!(model.words().dims(), [100, 32]);
/// ```
pub trait LanguageModel: Module {
    /// The last layer's hidden states of the flattened positions: `[n, d]` of all of them; or `[m, d]` at some, as many
    /// of each row, without working out what is not asked for.
    fn hidden(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout) -> Tensor<2> {
        self.hidden_and(inputs, at, dropout, &mut Inside::default())
    }

    /// [`hidden`](Self::hidden), and what is wanted from inside the pass.
    fn hidden_and(&self, inputs: &Inputs, at: Option<&Places>, dropout: &mut Dropout, inside: &mut Inside) -> Tensor<2>;

    /// The head on hidden states `[m, d]`: logits `[m, v]`, not multiplied out yet.
    fn head(&self, hidden_md: Tensor<2>, compute: &Compute) -> Logits;

    /// The word table, `[v, d]`.
    fn words(&self) -> Tensor<2>;

    /// Its sizes.
    fn shape(&self) -> Shape;

    /// Whether rows of the parameter of this name are looked up; other matrices are factors of products alone.
    fn is_table(name: &str) -> bool;

    /// Logits `[m, v]` at `m` of the flattened `[b * s]` positions of `inputs`, multiplied out.
    fn logits(&self, inputs: &Inputs, at: &Places, dropout: &mut Dropout) -> Tensor<2> {
        self.head(self.hidden(inputs, Some(at), dropout), &inputs.compute).whole(&inputs.compute)
    }
}

/// What a `config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    /// `model_type`: "bert", "distilbert", "modernbert", "modernbert-decoder", "llama", "qwen3", "smollm3" or
    /// "gpt2".
    pub architecture: &'static str,
    /// In its family's terms.
    pub shape: Shape,
    /// Whether the decoder is the word table.
    pub tied: bool,
    /// Dropout of hidden states, of attention and before a classifier.
    pub dropout: [f64; 3],
    /// Standard deviation of new heads' weights.
    pub initializer_range: f64,
    /// What was taken for granted, a line each.
    pub notes: Vec<String>,
}
