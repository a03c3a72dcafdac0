//! What resolving a run file needs to know about the world, gathered by others: the config room opens nothing.

use super::{AnswersFacts, Family, Rows, Shape};
use crate::error::Result;

/// What to look up before a run file can be resolved. Values that are wrong in the file are replaced by defaults here,
/// so that one message can name the file's mistakes and the world's together.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// A folder of shards, `pocket`, or `None` when the file names none (leave [`Facts::data`] an error; it is not
    /// shown).
    pub shards: Option<String>,
    /// A run directory, checkpoint or Hugging Face folder; `None` when no model is to be looked up.
    pub teacher: Option<String>,
    /// The other teachers of an ensemble, by name.
    pub others: Vec<(String, String)>,
    /// The model's family, which says what is asked of rows; none where it is the teacher's.
    pub family: Option<Family>,
    /// How sentences become rows.
    pub rows: Rows,
    /// Tokens in a row.
    pub length: usize,
    /// Rows a step.
    pub batch: usize,
    /// Share of real tokens masked.
    pub mask_rate: f64,
    /// Share of a held-out row's real tokens masked.
    pub held_out_mask_rate: f64,
    /// Whole-word masking.
    pub whole_word: bool,
    /// Exponent of masking by rarity.
    pub rarity: f64,
    /// The run's seed.
    pub seed: u64,
    /// What it is to run on, as written.
    pub device: String,
}

/// What was found. An error in a field becomes one of the mistakes reported.
#[derive(Debug)]
pub struct Facts {
    /// The shards, cut into rows as wanted.
    pub data: Result<DataFacts>,
    /// The teacher; `None` when [`Wanted::teacher`] was, or is a cache of answers.
    pub teacher: Option<Result<TeacherFacts>>,
    /// The other teachers of an ensemble, by name.
    pub others: Vec<(String, Result<TeacherFacts>)>,
    /// The cache of a teacher's answers, where [`Wanted::teacher`] is one.
    pub answers: Option<AnswersFacts>,
    /// Memory of the device that the run names, when known.
    pub memory_bytes: Option<u64>,
    /// What the device `auto` is here, when known.
    pub auto: Option<&'static str>,
}

/// What the shards hold.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFacts {
    /// blake3 of the content.
    pub shards_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
    /// Ids of the tokenizer.
    pub vocab_size: usize,
    /// Sentences of the training split.
    pub sentences: u64,
    /// Their tokens, without special tokens.
    pub tokens: u64,
    /// Sentences held out.
    pub held_out_sentences: u64,
    /// Tokens of the longest training sentence, without special tokens.
    pub longest_sentence: usize,
    /// Rows of one epoch, for the rows and length wanted.
    pub rows_per_epoch: u64,
    /// Real tokens of a row on average, `[CLS]` and `[SEP]` included.
    pub tokens_per_row: f64,
    /// Slots of a row that are asked, for the objective and length wanted.
    pub slots: usize,
}

/// What the teacher is.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherFacts {
    /// Its sizes; of its word table, the rows that tokens have.
    pub shape: Shape,
    /// Hash of its tokenizer.
    pub tokenizer_hash: String,
    /// blake3 of its weights.
    pub content_hash: String,
    /// Whether it has a language-model head.
    pub has_head: bool,
    /// The first ids whose token differs from the shards' tokenizer: (id, in the data, in the teacher).
    pub first_differing_tokens: Vec<(usize, String, String)>,
}
