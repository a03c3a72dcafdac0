//! Training methods: what each model minimises on a batch. One file a method; the loop is in [`crate::train`].

mod choices;
mod classify;
mod command;
mod cotrain;
mod dwt;
mod ensemble;
mod evaluate;
mod features;
mod fill;
mod finetune;
mod generate;
mod likelihood;
mod lm;
mod logits;
mod pairs;
mod pll;
mod source;
mod teacher;
mod transfer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;

use burn::module::Module;
use burn::tensor::Tensor;
pub use choices::{choice_log_likelihoods, score_choices};
pub use classify::{Classified, Representation, TextTokens, classify};

pub use command::CommandTeacher;
pub(crate) use command::integers;
pub use cotrain::Cotrain;
pub use dwt::{Dwt, standalone};
pub use ensemble::Ensemble;
pub use evaluate::{Evaluation, Together, evaluate, evaluate_together};
pub use fill::{Candidate, fill_mask, fill_mask_async};
pub use finetune::{EncodedBatch, EncodedTask, Finetune};
pub use generate::{Choice, Generate, generate, generate_async, generate_ids};
pub use likelihood::log_likelihoods;
pub use lm::LmData;
pub use logits::FramedSentences;
pub use pairs::{encode_pairs, score_pairs};
pub use pll::{Pll, Tick, pseudo_log_likelihoods};
pub use source::Source;
pub use teacher::{ModelTeacher, Teacher, TeacherSignal, UniformTeacher};
pub use transfer::{Head, LabelledRow, PhaseLoss, Transfer, TransferBatch, TransferRow, TransferRows, predict};

pub use crate::config::FeatureKind;
use crate::device::Compute;
use crate::error::Result;
use crate::model::Dropout;

/// A training method over models of one kind.
///
/// ```
/// use upstill::Method;
///
/// /// Rows of the data that the first steps have.
/// fn first_rows(method: &impl Method, steps: u64) -> usize {
///     method.batches(0, steps).map(|batch| method.size(&batch).rows).sum()
/// }
/// ```
pub trait Method {
    /// What is trained.
    type Model: Module;
    /// A batch on the host.
    type Batch;

    /// The batches of steps `from..to`, prepared ahead; each is a function of its step alone.
    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Self::Batch> + '_>;

    /// The batch with what has to be known of all its rows before it is divided into parts; none where nothing has.
    /// Models that are asked for it are given at most `rows_at_once` rows at a time.
    ///
    /// # Errors
    /// When what a model learns from can't be had.
    fn complete<'a>(
        &'a self,
        _batch: &'a Self::Batch,
        _at: &'a [Settings],
        _rows_at_once: usize,
    ) -> Pending<'a, Result<Option<Self::Batch>>> {
        Box::pin(async { Ok(None) })
    }

    /// Some of a batch's rows, in its order; what parts count adds up.
    fn part(&self, batch: &Self::Batch, rows: Range<usize>) -> Self::Batch;

    /// Which rows of the data a step's batch has, in words, for whoever looks for a broken one; none where that isn't
    /// known.
    fn rows_of(&self, _step: u64) -> Option<String> {
        None
    }

    /// How its operations run.
    fn compute(&self) -> &Compute;

    /// What a batch counts.
    fn size(&self, batch: &Self::Batch) -> BatchSize;

    /// Each model's weights and temperatures at a step.
    fn settings(&self, step: u64) -> Vec<Settings>;

    /// Each model's settings at a step, of models that were scored `last`; other than [`settings`](Method::settings)
    /// where they adapt.
    fn settings_after(&self, step: u64, _last: Option<&HeldOut>) -> Vec<Settings> {
        self.settings(step)
    }

    /// Whether settings depend on the last scores: every worker then needs them.
    fn adapts(&self) -> bool {
        false
    }

    /// What each model minimises on (a part of) a batch: the share of the whole step's loss that falls on it, when
    /// `whole` is the whole step's size. Each model has its own settings and draws its own dropout; no loss has a
    /// gradient with respect to another model.
    ///
    /// # Errors
    /// When what a model learns from can't be had.
    fn losses(
        &self,
        models: &[&Self::Model],
        batch: &Self::Batch,
        at: &[Settings],
        whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> Result<Vec<ModelLoss>>;

    /// The models' scores on held-out data, without blocking where a browser must not; elsewhere
    /// [`wait`](crate::device::wait) has them.
    ///
    /// # Errors
    /// When there is nothing to evaluate on.
    fn held_out<'a>(&'a self, models: &'a [&'a Self::Model]) -> Pending<'a, Result<HeldOut>>;
}

/// What will be there once the device has worked it out.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What a batch counts; sums over its parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSize {
    /// Rows, or examples.
    pub rows: usize,
    /// What the hard loss is a mean over: masked tokens, all tokens of causal models, or labelled examples.
    pub targets: usize,
    /// Real tokens, padding not counted.
    pub tokens: usize,
}

/// One model's loss weights and temperatures at one step (equation 3's alphas and tau).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Weight of the hard loss.
    pub alpha_hard: f64,
    /// Its soft losses, one for each that it learns from; none for methods without one.
    pub soft: Vec<SoftSettings>,
    /// Its losses between layers; none for methods without one.
    pub features: Vec<FeatureSettings>,
}

/// A soft loss at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftSettings {
    /// Whose predictions are the targets: [`TEACHER`], or another model of the run.
    pub from: String,
    /// Its weight.
    pub alpha: f64,
    /// Temperature of both distributions.
    pub temperature: f64,
}

/// A loss between a student's layers and its teacher's at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureSettings {
    /// Which.
    pub kind: FeatureKind,
    /// Its weight.
    pub alpha: f64,
}

/// What the one teacher that isn't trained is called among those that a model learns from.
pub const TEACHER: &str = crate::config::TEACHER;

impl Settings {
    /// Whether anybody is asked at this step.
    pub fn listens(&self) -> bool {
        self.soft.iter().any(|soft| soft.alpha != 0.0) || self.features.iter().any(|feature| feature.alpha != 0.0)
    }

    /// Of a model that has a hard loss and learns from nobody.
    pub fn hard(alpha_hard: f64) -> Self {
        Self { alpha_hard, soft: Vec::new(), features: Vec::new() }
    }
}

/// What one model minimises on one micro-batch.
#[derive(Debug, Clone)]
pub struct ModelLoss {
    /// What is differentiated: the weighted sum, `[1]`.
    pub total: Tensor<1>,
    /// Equation 1, unweighted, `[1]`.
    pub hard: Tensor<1>,
    /// Equation 2, unweighted and without tau^2, `[1]`, in the order of [`Settings::soft`]; `None` where the weight is
    /// 0.
    pub soft: Vec<Option<Tensor<1>>>,
    /// Losses between layers, unweighted, `[1]`, in the order of [`Settings::features`]; `None` where the weight is 0.
    pub features: Vec<Option<Tensor<1>>>,
}

/// Scores on held-out data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeldOut {
    /// Each model's loss, in nats a token.
    pub losses: Vec<f64>,
    /// The fixed teacher's loss, where settings depend on it.
    pub teacher_loss: Option<f64>,
    /// Of several models: the share of asked tokens where two have the same most likely candidate, by their names,
    /// `a/b`.
    pub agreement: BTreeMap<String, f64>,
}

impl From<Vec<f64>> for HeldOut {
    fn from(losses: Vec<f64>) -> Self {
        Self { losses, teacher_loss: None, agreement: BTreeMap::new() }
    }
}

/// A list for a message: its first entries, and how many more there are.
fn few(entries: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 32;
    let more = entries.len().saturating_sub(SHOWN);
    let shown: Vec<String> = entries.take(SHOWN).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &rest
}
