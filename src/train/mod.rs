//! The only training loop, and a run in its directory.

mod card;
mod facts;
mod finetune;
mod interrupt;
mod learners;
mod memory;
mod numbers;
mod run;
mod scaled;
mod seeds;
pub mod transfer;
mod trial;

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;

pub use card::{model_card, run_of};
pub use facts::{find_facts, open_shards, plan_run};
pub use finetune::{FinetuneOptions, Finetuned, Finetuning, Pretrained};
pub use interrupt::{catch_interrupts, interrupted};
pub use learners::{model_folder, model_of_run};
pub use run::{RunOptions, train_run};
pub use seeds::{SeedScores, Settings as FinetuneSettings, checkpoint_scores_folder, read_checkpoint_scores};
pub use trial::trial_speed;

use crate::config::{MODEL, Precision, Schedule, TrainPlan};
use crate::error::Result;
use crate::log::{ModelRecord, StepRecord};
use crate::methods::{HeldOut, Method};
use crate::optim::{Guard, Optimizer, global_norm, scale, squared_norm};
use numbers::{Norms, Parts, Unread, refuse_if_not_finite};

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
    pub fn new(model: M, train: &TrainPlan, dropout: f64, seed: u64) -> Self {
        Self {
            name: MODEL.to_owned(),
            model,
            optimizer: Optimizer::new(train),
            lr: train.lr.clone(),
            clip: train.clip,
            dropout,
            seed,
        }
    }

    /// With what its optimizer needs for products in these numbers.
    #[must_use]
    pub fn for_precision(self, precision: Precision) -> Self {
        Self { optimizer: self.optimizer.for_precision(precision), ..self }
    }
}

/// What the loop needs beside the method and the learners.
#[derive(Debug, Clone)]
pub struct FitOptions<'a> {
    /// Steps, and when to evaluate.
    pub train: &'a TrainPlan,
    /// Rows at once; a step's batch is split into these.
    pub micro_batch: usize,
    /// Steps already done: the next step is number `done`, counted from 0.
    pub done: u64,
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
pub fn fit<M: Method + ?Sized>(
    method: &M,
    learners: Vec<Learner<M::Model>>,
    options: &FitOptions,
    mut observe: impl FnMut(&StepRecord, &[Learner<M::Model>]) -> Result<Flow>,
) -> Result<Vec<Learner<M::Model>>> {
    fit_ahead(method, learners, options, 1, |records, learners| observe(&records[0], learners))
}

/// [`fit`] for a GPU that is kept busy: `observe` sees the records of up to `ahead` steps at once, and the learners as they are
/// after the last of them. It sees them at once where an evaluation or a checkpoint is due, so that both belong to their step.
///
/// Where a [`Guard`] is to be had, nothing is read back in between; a step that wasn't finite is then found up to `ahead` steps
/// later, and none of those has moved a weight.
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
    let train = options.train;
    let mut guard = guard(&learners);
    let mut unread: Vec<Unread> = Vec::new();
    for (step, batch) in (options.done..).zip(method.batches(options.done, train.steps)) {
        let started = Instant::now();
        let at = method.settings(step);
        let whole = method.size(&batch);
        let lr: Vec<f64> = learners.iter().map(|learner| learner.lr.at(step, train.steps)).collect();
        let parts = method.split(&batch, options.micro_batch);
        let (losses, gradients) = scaled::gradients(method, &mut learners, &parts, &at, whole, step);
        let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
        let names: Vec<&str> = learners.iter().map(|learner| learner.name.as_str()).collect();
        let this = match &mut guard {
            Some(guard) => {
                let squares = models.iter().zip(&gradients).map(|(model, gradients)| squared_norm(*model, gradients)).collect();
                let squares = Tensor::cat(squares, 0);
                *guard = guard.after(&Tensor::cat(losses.iter().map(Parts::total).collect(), 0), &squares);
                Unread::new(step, started, at, lr, whole, losses, Norms::Squares(squares))
            }
            None => {
                let norms = models.iter().zip(&gradients).map(|(model, gradients)| global_norm(*model, gradients)).collect();
                let this = Unread::new(step, started, at, lr, whole, losses, Norms::Host(norms));
                refuse_if_not_finite(step, &names, &this.read()?)?;
                this
            }
        };
        for (place, (learner, gradients)) in learners.iter_mut().zip(gradients).enumerate() {
            let gradients = match this.norm(place) {
                Some(norm) if learner.clip > 0.0 && norm > learner.clip => scale(&learner.model, gradients, learner.clip / norm),
                _ => gradients,
            };
            let guard = guard.as_ref().map(|guard| guard.model(place));
            learner.model = learner.optimizer.step(this.lr[place], learner.model.clone(), gradients, guard);
        }
        unread.push(this);

        let (done, last) = (step + 1, step + 1 == train.steps);
        let evaluates = last || train.evaluate_every > 0 && done.is_multiple_of(train.evaluate_every);
        if unread.len() < ahead && !evaluates && !done.is_multiple_of(train.checkpoint_every) {
            continue;
        }
        let records = records(method, &learners, std::mem::take(&mut unread), evaluates)?;
        if observe(&records, &learners)? == Flow::Stop {
            break;
        }
    }
    Ok(learners)
}

/// A guard, where losses are worth not reading at every step.
fn guard<M: Module>(learners: &[Learner<M>]) -> Option<Guard> {
    let device = learners.first()?.model.devices().into_iter().next()?.inner();
    let optimizers: Vec<_> = learners.iter().map(|learner| &learner.optimizer).collect();
    let clips: Vec<f64> = learners.iter().map(|learner| learner.clip).collect();
    Guard::of(&device, &optimizers, &clips)
}

/// Reads the numbers of these steps; the last of them is where the learners are, and may be evaluated.
fn records<M: Method + ?Sized>(
    method: &M,
    learners: &[Learner<M::Model>],
    unread: Vec<Unread>,
    evaluates: bool,
) -> Result<Vec<StepRecord>> {
    let names: Vec<&str> = learners.iter().map(|learner| learner.name.as_str()).collect();
    let mut read = Vec::new();
    for this in &unread {
        let found = this.read()?;
        refuse_if_not_finite(this.step, &names, &found)?;
        read.push(found);
    }
    let seconds = unread.first().map_or(0.0, |first| first.started.elapsed().as_secs_f64());
    let tokens: usize = unread.iter().map(|this| this.whole.tokens).sum();
    let tokens_per_s = tokens as f64 / seconds.max(1e-9);
    let count = unread.len();
    let mut out = Vec::new();
    for (place, (this, found)) in unread.iter().zip(&read).enumerate() {
        let held_out = match evaluates && place + 1 == count {
            true => {
                let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
                method.held_out(&models)?
            }
            false => HeldOut::default(),
        };
        let own = |(at, name): (usize, &&str)| this.model_record(at, name, found, held_out.losses.get(at).copied());
        let models = names.iter().enumerate().map(own).collect();
        out.push(record(this.step, models, held_out.agreement, tokens_per_s));
    }
    Ok(out)
}

/// One model's record is the run's; of several, each has its own and the first's stand above.
fn record(step: u64, models: Vec<ModelRecord>, agreement: BTreeMap<String, f64>, tokens_per_s: f64) -> StepRecord {
    let first = &models[0];
    StepRecord {
        step,
        loss: first.loss,
        loss_hard: first.loss_hard,
        loss_soft: first.loss_soft(),
        alpha_hard: first.alpha_hard,
        alpha_soft: first.alpha_soft(),
        temperature: first.temperature(),
        lr: first.lr,
        grad_norm: first.grad_norm,
        tokens_per_s,
        mfu: None,
        held_out_loss: first.held_out_loss,
        models: if models.len() > 1 { models } else { Vec::new() },
        agreement,
    }
}
