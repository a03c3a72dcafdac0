//! Training methods: what each model minimises on a batch. One file a method; the loop is in [`crate::train`].

mod classify;
mod dwt;
mod evaluate;
mod fill;
mod finetune;
mod logits;
mod masked_lm;
mod teacher;
mod transfer;

use burn::module::Module;

pub use classify::{Classified, Representation, TextTokens, classify};
pub use dwt::{Dwt, standalone};
pub use evaluate::{Evaluation, evaluate};
pub use fill::{Candidate, fill_mask};
pub use finetune::{EncodedBatch, EncodedTask, Finetune};
pub use logits::{SentenceLogits, sentence_logits};
pub use masked_lm::MaskedLm;
pub use teacher::{ModelTeacher, Teacher, TeacherSignal, UniformTeacher};
pub use transfer::{Head, LabelledRow, PhaseLoss, Transfer, TransferBatch, TransferRow, TransferRows, predict};

use crate::error::Result;
use crate::loss::StepLoss;
use crate::model::Dropout;

/// A training method over models of one kind.
pub trait Method {
    /// What is trained.
    type Model: Module;
    /// A batch on the host.
    type Batch;

    /// The batches of steps `from..to`, prepared ahead; each is a function of its step alone.
    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Self::Batch> + '_>;

    /// A batch in parts of at most `rows` rows; what they count adds up.
    fn split(&self, batch: &Self::Batch, rows: usize) -> Vec<Self::Batch>;

    /// What a batch counts.
    fn size(&self, batch: &Self::Batch) -> BatchSize;

    /// The weights and the temperature at a step.
    fn settings(&self, step: u64) -> Settings;

    /// What each model minimises on (a part of) a batch: the share of the whole step's loss that falls on it, when `whole`
    /// is the whole step's size.
    fn losses(
        &self,
        models: &[&Self::Model],
        batch: &Self::Batch,
        at: &Settings,
        whole: BatchSize,
        dropout: &mut Dropout,
    ) -> Vec<StepLoss>;

    /// Each model's held-out loss, in nats a masked token.
    ///
    /// # Errors
    /// When there is nothing to evaluate on.
    fn held_out(&self, models: &[&Self::Model]) -> Result<Vec<f64>>;
}

/// What a batch counts; sums over its parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSize {
    /// What the hard loss is a mean over: masked tokens, or labelled examples.
    pub targets: usize,
    /// Real tokens, padding not counted.
    pub tokens: usize,
}

/// The loss weights and the temperature at one step (equation 3's alphas and tau).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Weight of the hard loss.
    pub alpha_hard: f64,
    /// Weight of the soft loss; `None` for methods without one.
    pub alpha_soft: Option<f64>,
    /// Temperature of the soft loss.
    pub temperature: Option<f64>,
}
