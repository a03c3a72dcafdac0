//! The only training loop, and a run in its directory.

mod branch;
mod card;
mod facts;
mod finetune;
mod held_out;
mod in_memory;
mod in_ranks;
mod interrupt;
#[cfg(test)]
mod killed;
mod learners;
mod life;
mod link;
mod memory;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg_attr(not(all(feature = "cuda", feature = "mpi")), path = "no_nccl.rs")]
mod nccl;
mod numbers;
mod peers;
mod ranks;
mod reduce;
mod run;
mod scaled;
mod seeds;
mod snapshot;
mod step;
mod teach;
pub mod transfer;
mod trial;
mod workers;
mod written;

pub use branch::{begin_at, checkpoint_of};
pub use card::{model_card, run_of};
pub(crate) use facts::find_facts;
pub use facts::{open_shards, plan_in_memory, plan_on, plan_run};
pub use finetune::{FinetuneOptions, Finetuned, Finetuning, Pretrained};
pub use held_out::{HeldOutSet, held_out_options, must_share_vocabulary, open_held_out_sets};
pub use in_memory::MemoryRun;
pub use interrupt::{Saving, catch_interrupts, interrupted, saving, waiting};
pub use learners::{GivenTeacher, LmMethod, model_folder, model_of_run, set_out};
pub use link::Link;
pub use peers::Peers;
pub use ranks::Ranks;
pub use run::{RunOptions, train_run, train_run_in_ranks};
pub use seeds::{FinetuneSettings, SeedScores, check_scores_folder, checkpoint_scores_folder, read_checkpoint_scores};
pub use snapshot::{Held, Off, Origin, SNAPSHOT_STEPS, Snapshot, SnapshotRun};
pub use step::Steps;
pub use teach::{Asking, Taught, TeachOptions, Teaching, dump_asked};
pub use trial::trial_speed;
pub use workers::{Worker, together};

use crate::config::{MODEL, Schedule, TrainPlan};
use crate::device::{Precision, wait};
use crate::error::Result;
use crate::log::StepRecord;
use crate::methods::Method;
use crate::optim::Optimizer;

/// A model being trained, with all that is its own.
pub struct Learner<M> {
    /// Its name in logs, and of its files: `model`, unless a run trains several.
    pub name: String,
    /// The model, on a device with autodiff.
    pub model: M,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// Its learning rate.
    pub lr: Schedule,
    /// Its largest gradient norm; 0 does not clip.
    pub clip: f64,
    /// Its dropout probability.
    pub dropout: f64,
    /// Keys its dropout masks.
    pub seed: u64,
}

impl<M> Learner<M> {
    /// The one model of a run, with the plan's optimizer, rate and clipping.
    pub fn new(model: impl Into<M>, train: &TrainPlan, dropout: f64, seed: u64) -> Self {
        Self {
            name: MODEL.to_owned(),
            model: model.into(),
            optimizer: Optimizer::new(train),
            lr: train.lr.clone(),
            clip: train.clip,
            dropout,
            seed,
        }
    }

    /// With what its optimizer needs for products in this dtype: f16 needs a loss scale.
    #[must_use]
    pub fn for_precision(self, precision: Precision) -> Self {
        Self { optimizer: self.optimizer.for_precision(precision), ..self }
    }
}

/// What the loop needs beside the method and the learners.
#[derive(Debug, Clone, Copy)]
pub struct FitOptions<'a> {
    /// Steps, and when to evaluate.
    pub train: &'a TrainPlan,
    /// Rows at once; a step's batch is split into these.
    pub micro_batch: usize,
    /// Steps already done: the next step is number `done`, counted from 0.
    pub done: u64,
    /// The last step before those that had an evaluation, for methods whose settings depend on it.
    pub evaluated: Option<&'a StepRecord>,
    /// Who this is, where several workers share each batch ([`together`]).
    pub worker: Option<&'a Worker>,
}

/// Whether to go on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Take the next step.
    Continue,
    /// Stop here; everything that must be saved is.
    Stop,
}

/// Trains until the plan's last step. After each step `observe` sees its record and the learners.
///
/// A step goes: losses and gradients of each micro-batch, summed; the norm over all of a model's gradients; clipping;
/// one update a model. A step that isn't finite is refused before any weight moves.
///
/// # Errors
/// When a step isn't finite, or `observe` or an evaluation fails.
///
/// ```
/// use upstill::train::{FitOptions, Flow, set_out};
/// use upstill::{Device, RunFile, fit, plan_on, tokens::pocket_shards};
///
/// let shards = pocket_shards()?;
/// let small = RunFile::preset("standalone")?.with("model.layers", 1).with("model.hidden", 16).with("model.heads", 1);
/// let file = small.with("data.shards", "pocket").with("data.length", 32).with("train.steps", 2).with("train.batch", 4);
/// let plan = plan_on(&file.with("train.evaluate_rows", 4), &shards)?;
/// let (learners, method) = set_out(&plan, &shards, None, &Device::cpu("an example").handle)?;
/// let options = FitOptions { train: &plan.train, micro_batch: 4, done: 0, evaluated: None, worker: None };
/// let trained = fit(method.as_ref(), learners, &options, |record, _| {
///     assert!(record.loss_hard.is_finite());
///     Ok(Flow::Continue)
/// })?;
/// assert_eq!(trained.len(), 1);
/// # Ok::<(), upstill::Error>(())
/// ```
pub fn fit<M: Method + ?Sized>(
    method: &M,
    learners: Vec<Learner<M::Model>>,
    options: &FitOptions,
    mut observe: impl FnMut(&StepRecord, &[Learner<M::Model>]) -> Result<Flow>,
) -> Result<Vec<Learner<M::Model>>> {
    fit_ahead(method, learners, options, 1, |records, learners| observe(&records[0], learners))
}

/// [`fit`] for a GPU that is kept busy: `observe` sees the records of up to `ahead` steps at once, and the learners as
/// they are after the last of them. It sees them at once where an evaluation or a checkpoint is due, so that both
/// belong to their step.
///
/// Where a [`Guard`](crate::optim::Guard) is to be had, nothing is read back in between; a step that wasn't finite is
/// then found up to `ahead` steps later, and none of those has moved a weight.
///
/// # Errors
/// As [`fit`].
pub fn fit_ahead<M: Method + ?Sized>(
    method: &M,
    mut learners: Vec<Learner<M::Model>>,
    options: &FitOptions,
    ahead: usize,
    mut observe: impl FnMut(&[StepRecord], &[Learner<M::Model>]) -> Result<Flow>,
) -> Result<Vec<Learner<M::Model>>> {
    let mut steps = Steps::new(method, &learners, ahead);
    for (step, batch) in (options.done..).zip(method.batches(options.done, options.train.steps)) {
        let records = wait(steps.take(method, &mut learners, options, step, &batch))?;
        if !records.is_empty() && observe(&records, &learners)? == Flow::Stop {
            break;
        }
    }
    Ok(learners)
}
