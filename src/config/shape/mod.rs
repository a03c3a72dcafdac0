//! A model's sizes, a type a family: the one noun for them that plans, facts, estimates, checks, `config.json`,
//! remapping and the models themselves share. Numbers alone; `src/model/` has a family's layers.

/// Methods of [`Sizes`] that give the field of their name.
macro_rules! fields {
    ($($name:ident),+) => {
        $(fn $name(&self) -> usize {
            self.$name
        })+
    };
}

mod bert;
mod gpt2;
mod llama;
mod modernbert;
mod written;

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::device::Kernels;
use crate::words::words;

pub use bert::BertShape;
pub(crate) use bert::NORM_EPSILON;
pub use gpt2::Gpt2Shape;
pub use llama::{LlamaShape, RopeScaling};
pub use modernbert::ModernBertShape;
pub use written::{ModelPlan, TeacherModel};

words! {
    /// A family of language models.
    #[derive(Default)]
    Family {
        /// BERT (Devlin et al. 2019), and what has its layers.
        #[default]
        Bert = "bert",
        /// ModernBERT (Warner et al. 2024), and Ettin's encoders (Weller et al. 2025).
        ModernBert = "modernbert",
        /// Llama, SmolLM2, Qwen3, SmolLM3: causal language models.
        Llama = "llama",
        /// GPT-2 (Radford et al. 2019), DistilGPT2: causal language models.
        Gpt2 = "gpt2",
        /// Ettin's decoders (Weller et al. 2025): ModernBERT's layers as a causal language model.
        ModernBertDecoder = "modernbert-decoder",
    }
}

words! {
    /// What the models of a family are asked.
    #[derive(Default)]
    ObjectiveKind {
        /// The tokens that were hidden from them (Devlin et al. 2019).
        #[default]
        Masked = "masked",
        /// At every token the one that comes next (Radford et al. 2018).
        Causal = "causal",
    }
}

impl ObjectiveKind {
    /// What losses are a mean over, in words.
    pub(crate) fn token(self) -> &'static str {
        match self {
            ObjectiveKind::Masked => "masked token",
            ObjectiveKind::Causal => "token",
        }
    }

    /// The unit of losses, in words.
    pub(crate) fn loss_unit(self) -> &'static str {
        match self {
            ObjectiveKind::Masked => "nats a masked token",
            ObjectiveKind::Causal => "nats a token",
        }
    }
}

impl Family {
    /// The family that alone has a size of this name in run files, a twin of the same sizes apart.
    pub(super) fn of_size(key: &str) -> Option<Self> {
        let mut families = Self::WORDS.iter().filter_map(|word| Self::from_word(word)).filter(|family| family.has_size(key));
        let first = families.next()?;
        families.all(|other| other.size_names() == first.size_names()).then_some(first)
    }

    /// Whether it has a size of this name in run files.
    pub(super) fn has_size(self, key: &str) -> bool {
        self.size_names().contains(&key)
    }

    fn size_names(self) -> Vec<&'static str> {
        Shape::of_keys(self, |_| None, 0).keys().iter().map(|size| size.key).collect()
    }

    /// Its name as its authors write it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Family::Bert => "BERT",
            Family::ModernBert => "ModernBERT",
            Family::Llama => "Llama",
            Family::Gpt2 => "GPT-2",
            Family::ModernBertDecoder => "ModernBERT decoder",
        }
    }

    /// Dropout that it is trained with where nothing is said: of pre-training, as its authors published it.
    pub(crate) fn dropout(self) -> f64 {
        match self {
            Family::Bert | Family::Gpt2 => 0.1,
            Family::ModernBert | Family::ModernBertDecoder | Family::Llama => 0.0,
        }
    }

    /// What its models are asked: a family has one way to see a text.
    pub fn objective(self) -> ObjectiveKind {
        match self {
            Family::Bert | Family::ModernBert => ObjectiveKind::Masked,
            Family::Llama | Family::Gpt2 | Family::ModernBertDecoder => ObjectiveKind::Causal,
        }
    }
}

/// The sizes of a model of some family; it has the methods of [`Sizes`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shape {
    /// BERT's (Devlin et al. 2019), and what has its layers: DistilBERT, MiniLM.
    Bert(BertShape),
    /// ModernBERT's (Warner et al. 2024), of encoders and of decoders.
    ModernBert(ModernBertShape),
    /// Llama's, and what has its layers: SmolLM2, Qwen3, SmolLM3.
    Llama(LlamaShape),
    /// GPT-2's (Radford et al. 2019).
    Gpt2(Gpt2Shape),
}

/// What the sizes of every family come to.
pub trait Sizes {
    /// Rows of the word table, and outputs of the head.
    fn vocab_size(&self) -> usize;

    /// Encoder layers.
    fn layers(&self) -> usize;

    /// Width `d` of the residual stream.
    fn hidden(&self) -> usize;

    /// Attention heads.
    fn heads(&self) -> usize;

    /// Longest row in tokens.
    fn max_positions(&self) -> usize;

    /// Whether the numbers of a head come in pairs, so that its width must be even.
    fn pairs_in_heads(&self) -> bool {
        false
    }

    /// Numbers of a position's widest value.
    fn widest(&self) -> usize;

    /// The sizes by the names that run files have for them, depth first; the vocabulary is the data's.
    fn keys(&self) -> Vec<Size>;

    /// Numbers of parameters, a tied decoder counted once.
    fn parameters(&self) -> Parameters;

    /// Multiplications and additions of the matrix products of a forward pass.
    fn forward_flops(&self, pass: &Pass) -> f64;

    /// Bytes that a training step keeps for its backward pass.
    fn kept_bytes(&self, pass: &Pass, kept: &Kept) -> f64;

    /// Bytes that exist for a moment in it besides, a position.
    fn passing_bytes(&self, kept: &Kept) -> f64;

    /// How positions become angles, in words that begin with a comma; nothing where they have a table.
    fn angles(&self) -> String {
        String::new()
    }

    /// The sizes in words: `6 layers, width 768, 12 heads, feed-forward 3072`.
    fn words(&self) -> String;
}

/// A size by its name in run files; a switch is 1 or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// `hidden`, of `[model]` or `[models.NAME]`.
    pub key: &'static str,
    /// How large.
    pub value: usize,
    /// The smallest that it may be.
    pub least: usize,
}

/// Numbers of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parameters {
    /// All, the tied decoder counted once.
    pub total: u64,
    /// Without the language-model head, as the paper counts.
    pub without_head: u64,
}

/// How much a forward pass works out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Positions of all rows.
    pub positions: f64,
    /// Positions that each of them attends to.
    pub attended: f64,
    /// Rows that the head, and the last layer after its attention, run on.
    pub head_rows: f64,
}

/// What decides how much a position leaves for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// The kernels on a GPU; `None` on a CPU.
    pub gpu: Option<Kernels>,
    /// Bytes of a number of products.
    pub value_bytes: f64,
    /// Positions of a row.
    pub length: f64,
    /// Whether dropout is on.
    pub has_dropout: bool,
}

impl Deref for Shape {
    type Target = dyn Sizes;

    fn deref(&self) -> &Self::Target {
        match self {
            Shape::Bert(shape) => shape,
            Shape::ModernBert(shape) => shape,
            Shape::Llama(shape) => shape,
            Shape::Gpt2(shape) => shape,
        }
    }
}

impl From<BertShape> for Shape {
    fn from(shape: BertShape) -> Self {
        Shape::Bert(shape)
    }
}

impl From<ModernBertShape> for Shape {
    fn from(shape: ModernBertShape) -> Self {
        Shape::ModernBert(shape)
    }
}

impl From<LlamaShape> for Shape {
    fn from(shape: LlamaShape) -> Self {
        Shape::Llama(shape)
    }
}

impl From<Gpt2Shape> for Shape {
    fn from(shape: Gpt2Shape) -> Self {
        Shape::Gpt2(shape)
    }
}

impl Shape {
    /// Sizes as a run file writes them; `size` gives those that are written or have a default, by their names.
    pub(crate) fn of_keys(family: Family, size: impl Fn(&str) -> Option<usize>, vocab_size: usize) -> Self {
        match family {
            Family::Bert => Shape::Bert(BertShape::of_keys(size, vocab_size)),
            Family::ModernBert => Shape::ModernBert(ModernBertShape::of_keys(size, vocab_size, false)),
            Family::ModernBertDecoder => Shape::ModernBert(ModernBertShape::of_keys(size, vocab_size, true)),
            Family::Llama => Shape::Llama(LlamaShape::of_keys(size, vocab_size)),
            Family::Gpt2 => Shape::Gpt2(Gpt2Shape::of_keys(size, vocab_size)),
        }
    }

    /// The family that it is of.
    pub fn family(&self) -> Family {
        match self {
            Shape::Bert(_) => Family::Bert,
            Shape::ModernBert(shape) if shape.is_causal => Family::ModernBertDecoder,
            Shape::ModernBert(_) => Family::ModernBert,
            Shape::Llama(_) => Family::Llama,
            Shape::Gpt2(_) => Family::Gpt2,
        }
    }

    /// The shape over a vocabulary of another size.
    #[must_use]
    pub fn with_vocabulary(self, vocab_size: usize) -> Self {
        match self {
            Shape::Bert(shape) => Shape::Bert(BertShape { vocab_size, ..shape }),
            Shape::ModernBert(shape) => Shape::ModernBert(ModernBertShape { vocab_size, ..shape }),
            Shape::Llama(shape) => Shape::Llama(LlamaShape { vocab_size, ..shape }),
            Shape::Gpt2(shape) => Shape::Gpt2(Gpt2Shape { vocab_size, ..shape }),
        }
    }
}
