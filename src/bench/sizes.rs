//! The models and batches whose steps are measured.

use crate::config::{Family, ObjectiveKind, Shape};

/// A student, its teacher and its batch; heads are 64 wide.
#[derive(Debug, Clone, Copy)]
pub struct StepSize {
    /// What the layers of both are.
    pub family: Family,
    /// The student's encoder layers.
    pub layers: usize,
    /// The teacher's.
    pub teacher_layers: usize,
    /// Width of both.
    pub hidden: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Packed rows a step.
    pub batch: usize,
    /// Tokens a row.
    pub length: usize,
    /// Window of a ModernBERT's local layers, in tokens; without one every layer sees all of its text. BERT has none.
    pub window: Option<usize>,
}

const fn size(layers: usize, hidden: usize, teacher_layers: usize, batch: usize, length: usize) -> StepSize {
    StepSize { family: Family::Bert, layers, teacher_layers, hidden, vocab: 30522, batch, length, window: Some(128) }
}

/// The steps of `upstill bench loss`.
pub const LOSS_STEP_SIZES: [StepSize; 2] = [size(2, 128, 2, 32, 64), size(4, 256, 2, 32, 64)];

/// The paper's student and its teacher of 4 layers, at its length and vocabulary, on 128 packed rows.
pub const PAPER_SIZE: StepSize = size(6, 768, 4, 128, 128);

/// The steps of `upstill bench step`: from pocket to 6 layers, 384 wide, with a teacher of 4.
pub const STEP_SIZES: [StepSize; 3] = [size(2, 128, 1, 16, 128), size(4, 256, 2, 16, 128), size(6, 384, 4, 16, 128)];

/// Rows of texts of 64 to 1022 tokens. The student of 4 layers has two that are local in ModernBERT.
pub const LONG_SIZE: StepSize = size(4, 256, 2, 2, 1024);

/// From this length of a row on, texts are as long as rows; in shorter rows they are sentences.
const LONG: usize = 1024;

impl StepSize {
    /// The size for models of another family. Causal models are asked for every token, and with the words of
    /// BERT a step would be nearly all head: they have 8,192.
    #[must_use]
    pub fn of(self, family: Family) -> Self {
        let vocab = match family.objective() {
            ObjectiveKind::Masked => self.vocab,
            ObjectiveKind::Causal => 8192,
        };
        Self { family, vocab, ..self }
    }

    /// What the tables call it.
    pub(super) fn name(&self) -> String {
        let Self { family, layers, teacher_layers, hidden, vocab, batch, length, window } = self;
        let sizes = format!("{layers} x {hidden} (teacher {teacher_layers}), {vocab}, {batch} x {length}");
        match (family, window) {
            (Family::Bert, _) => sizes,
            (Family::ModernBert | Family::ModernBertDecoder, Some(window)) => {
                format!("{} {sizes}, window {window}", family.title())
            }
            (Family::ModernBert | Family::ModernBertDecoder, None) => format!("{} {sizes}, no window", family.title()),
            (family, _) => format!("{} {sizes}", family.title()),
        }
    }

    /// A model of so many layers.
    pub(super) fn shape(&self, layers: usize) -> Shape {
        let size = |key: &str| match key {
            "layers" => Some(layers),
            "hidden" => Some(self.hidden),
            "max_positions" => Some(self.length),
            "token_types" => Some(2),
            "window" => self.window,
            // A model without local layers has no window to look through.
            "global_every" => self.window.is_none().then_some(1),
            _ => None,
        };
        Shape::of_keys(self.family, size, self.vocab)
    }

    /// Tokens of a text, special ones not counted: the fewest, and how many more the longest has.
    pub(super) fn texts(&self) -> [usize; 2] {
        if self.length < LONG { [8, 19] } else { [64, self.length - 2 - 64] }
    }
}
