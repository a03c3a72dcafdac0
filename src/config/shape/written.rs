//! Models in a plan, and how `plan.toml` writes them: flat, a key for each size, as the hashes of plans have always
//! known them.

use serde::{Deserialize, Serialize};

use super::bert::NORM_EPSILON;
use super::{BertShape, Shape};

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
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenModel {
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

impl From<WrittenModel> for ModelPlan {
    fn from(written: WrittenModel) -> Self {
        let WrittenModel {
            layers,
            hidden,
            heads,
            intermediate,
            max_positions,
            vocab_size,
            token_types,
            dropout,
            initializer_range,
        } = written;
        let norm_epsilon = NORM_EPSILON;
        let shape = BertShape { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types, norm_epsilon };
        Self { shape: Shape::Bert(shape), dropout, initializer_range }
    }
}

impl From<ModelPlan> for WrittenModel {
    fn from(plan: ModelPlan) -> Self {
        let ModelPlan { shape: Shape::Bert(shape), dropout, initializer_range } = plan;
        let BertShape { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types, .. } = shape;
        Self { layers, hidden, heads, intermediate, max_positions, vocab_size, token_types, dropout, initializer_range }
    }
}

/// The teacher's sizes, and what it is known by. Its vocabulary is the student's, and is not written; nor is the
/// epsilon of its norms, which its content says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenTeacher {
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

impl From<WrittenTeacher> for TeacherModel {
    fn from(written: WrittenTeacher) -> Self {
        let WrittenTeacher { layers, hidden, heads, intermediate, max_positions, token_types, .. } = written;
        let (vocab_size, norm_epsilon) = (0, NORM_EPSILON);
        let shape = BertShape { vocab_size, hidden, layers, heads, intermediate, max_positions, token_types, norm_epsilon };
        let WrittenTeacher { parameters, tokenizer_hash, content_hash, .. } = written;
        Self { shape: Shape::Bert(shape), parameters, tokenizer_hash, content_hash }
    }
}

impl From<TeacherModel> for WrittenTeacher {
    fn from(model: TeacherModel) -> Self {
        let TeacherModel { shape: Shape::Bert(shape), parameters, tokenizer_hash, content_hash } = model;
        let BertShape { layers, hidden, heads, intermediate, max_positions, token_types, .. } = shape;
        Self { layers, hidden, heads, intermediate, max_positions, token_types, parameters, tokenizer_hash, content_hash }
    }
}
