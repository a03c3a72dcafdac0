//! Models in a plan, and how `plan.toml` writes them: flat, a key for each size, as the hashes of plans have always
//! known them. A family that is not BERT's is named first.

use serde::{Deserialize, Serialize};

use super::bert::NORM_EPSILON;
use super::{BertShape, LlamaShape, ModernBertShape, Shape};

/// The student's sizes, and how its weights are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenModel", into = "WrittenModel")]
pub struct ModelPlan {
    /// Its sizes.
    pub shape: Shape,
    /// Dropout probability, in embeddings, attention and feed-forward alike.
    pub dropout: f64,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
}

/// A teacher that is a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenTeacher", into = "WrittenTeacher")]
pub struct TeacherModel {
    /// Its sizes, over the student's vocabulary.
    pub shape: Shape,
    /// Parameters, head included (a tied decoder counted once).
    pub parameters: u64,
    /// Hash of its tokenizer.
    pub tokenizer_hash: String,
    /// blake3 of its weights: what a plan's hash knows the teacher by.
    pub content_hash: String,
}

/// The student's sizes and how its weights are drawn.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum WrittenModel {
    Bert(WrittenBert),
    ModernBert(WrittenModernBert),
    Llama(WrittenLlama),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenBert {
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    max_positions: usize,
    vocab_size: usize,
    token_types: usize,
    dropout: f64,
    initializer_range: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenModernBert {
    family: ModernBertName,
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    max_positions: usize,
    vocab_size: usize,
    global_every: usize,
    window: usize,
    global_theta: usize,
    local_theta: usize,
    dropout: f64,
    initializer_range: f64,
}

/// The sizes stand last: how angles are scaled is a table of its own, below all keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct WrittenLlama {
    family: LlamaName,
    dropout: f64,
    initializer_range: f64,
    #[serde(flatten)]
    shape: LlamaShape,
}

/// The one word that stands for the family.
#[derive(Serialize, Deserialize)]
enum LlamaName {
    #[serde(rename = "llama")]
    Llama,
}

/// The one word that stands for the family.
#[derive(Serialize, Deserialize)]
enum ModernBertName {
    #[serde(rename = "modernbert")]
    ModernBert,
}

impl From<WrittenModel> for ModelPlan {
    fn from(written: WrittenModel) -> Self {
        match written {
            WrittenModel::Bert(written) => {
                let WrittenBert { layers, hidden, heads, intermediate, max_positions, vocab_size, token_types, .. } = written;
                let norm_epsilon = NORM_EPSILON;
                let shape =
                    BertShape { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types, norm_epsilon };
                let WrittenBert { dropout, initializer_range, .. } = written;
                Self { shape: shape.into(), dropout, initializer_range }
            }
            WrittenModel::ModernBert(written) => {
                let WrittenModernBert { layers, hidden, heads, max_positions, vocab_size, .. } = written;
                let WrittenModernBert { intermediate, global_every, window, global_theta, local_theta, .. } = written;
                let shape = ModernBertShape {
                    intermediate,
                    global_every,
                    window,
                    global_theta,
                    local_theta,
                    ..ModernBertShape::new(vocab_size, hidden, layers, heads, max_positions)
                };
                let WrittenModernBert { dropout, initializer_range, .. } = written;
                Self { shape: shape.into(), dropout, initializer_range }
            }
            WrittenModel::Llama(WrittenLlama { shape, dropout, initializer_range, .. }) => {
                Self { shape: shape.into(), dropout, initializer_range }
            }
        }
    }
}

impl From<ModelPlan> for WrittenModel {
    fn from(plan: ModelPlan) -> Self {
        let ModelPlan { shape, dropout, initializer_range } = plan;
        match shape {
            Shape::Bert(shape) => {
                let BertShape { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types, .. } = shape;
                WrittenModel::Bert(WrittenBert {
                    layers,
                    hidden,
                    heads,
                    intermediate,
                    max_positions,
                    vocab_size,
                    token_types,
                    dropout,
                    initializer_range,
                })
            }
            Shape::ModernBert(shape) => WrittenModel::ModernBert(WrittenModernBert {
                family: ModernBertName::ModernBert,
                layers: shape.layers,
                hidden: shape.hidden,
                heads: shape.heads,
                intermediate: shape.intermediate,
                max_positions: shape.max_positions,
                vocab_size: shape.vocab_size,
                global_every: shape.global_every,
                window: shape.window,
                global_theta: shape.global_theta,
                local_theta: shape.local_theta,
                dropout,
                initializer_range,
            }),
            Shape::Llama(shape) => {
                WrittenModel::Llama(WrittenLlama { family: LlamaName::Llama, dropout, initializer_range, shape })
            }
        }
    }
}

/// The teacher's sizes, and what it is known by. Of BERTs and ModernBERTs the vocabulary, which is the student's, is
/// not written, nor is the epsilon of the norms, which the content says.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum WrittenTeacher {
    Bert(WrittenBertTeacher),
    ModernBert(WrittenModernBertTeacher),
    Llama(WrittenLlamaTeacher),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct WrittenLlamaTeacher {
    family: LlamaName,
    parameters: u64,
    tokenizer_hash: String,
    content_hash: String,
    #[serde(flatten)]
    shape: LlamaShape,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenBertTeacher {
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    max_positions: usize,
    token_types: usize,
    parameters: u64,
    tokenizer_hash: String,
    content_hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenModernBertTeacher {
    family: ModernBertName,
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    max_positions: usize,
    global_every: usize,
    window: usize,
    global_theta: usize,
    local_theta: usize,
    parameters: u64,
    tokenizer_hash: String,
    content_hash: String,
}

impl From<WrittenTeacher> for TeacherModel {
    fn from(written: WrittenTeacher) -> Self {
        match written {
            WrittenTeacher::Bert(written) => {
                let WrittenBertTeacher { layers, hidden, heads, intermediate, max_positions, token_types, .. } = written;
                let (vocab_size, norm_epsilon) = (0, NORM_EPSILON);
                let shape =
                    BertShape { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types, norm_epsilon };
                let WrittenBertTeacher { parameters, tokenizer_hash, content_hash, .. } = written;
                Self { shape: shape.into(), parameters, tokenizer_hash, content_hash }
            }
            WrittenTeacher::ModernBert(written) => {
                let WrittenModernBertTeacher { layers, hidden, heads, max_positions, .. } = written;
                let WrittenModernBertTeacher { intermediate, global_every, window, global_theta, local_theta, .. } = written;
                let shape = ModernBertShape {
                    intermediate,
                    global_every,
                    window,
                    global_theta,
                    local_theta,
                    ..ModernBertShape::new(0, hidden, layers, heads, max_positions)
                };
                let WrittenModernBertTeacher { parameters, tokenizer_hash, content_hash, .. } = written;
                Self { shape: shape.into(), parameters, tokenizer_hash, content_hash }
            }
            WrittenTeacher::Llama(WrittenLlamaTeacher { shape, parameters, tokenizer_hash, content_hash, .. }) => {
                Self { shape: shape.into(), parameters, tokenizer_hash, content_hash }
            }
        }
    }
}

impl From<TeacherModel> for WrittenTeacher {
    fn from(model: TeacherModel) -> Self {
        let TeacherModel { shape, parameters, tokenizer_hash, content_hash } = model;
        match shape {
            Shape::Bert(shape) => {
                let BertShape { layers, hidden, heads, intermediate, max_positions, token_types, .. } = shape;
                WrittenTeacher::Bert(WrittenBertTeacher {
                    layers,
                    hidden,
                    heads,
                    intermediate,
                    max_positions,
                    token_types,
                    parameters,
                    tokenizer_hash,
                    content_hash,
                })
            }
            Shape::ModernBert(shape) => WrittenTeacher::ModernBert(WrittenModernBertTeacher {
                family: ModernBertName::ModernBert,
                layers: shape.layers,
                hidden: shape.hidden,
                heads: shape.heads,
                intermediate: shape.intermediate,
                max_positions: shape.max_positions,
                global_every: shape.global_every,
                window: shape.window,
                global_theta: shape.global_theta,
                local_theta: shape.local_theta,
                parameters,
                tokenizer_hash,
                content_hash,
            }),
            Shape::Llama(shape) => WrittenTeacher::Llama(WrittenLlamaTeacher {
                family: LlamaName::Llama,
                parameters,
                tokenizer_hash,
                content_hash,
                shape,
            }),
        }
    }
}
