//! One optimizer step, from a batch to its record.
//!
//! What a step comes to is read from the device without blocking, so that the same code trains in a browser, where
//! nothing may wait: [`wait`](crate::device::wait) makes it a plain call elsewhere.
//!
//! Training does not wait for the GPU. [`Steps`] keeps losses on the device; a [`Guard`](crate::optim::Guard) there
//! holds whether all steps were finite and each model's clipping factor, and the Adam kernel obeys it. A bad step is
//! found late: neither it nor a later one has moved a weight. Evaluations and checkpoints read first. In a browser the
//! guard is used with every form of the kernels, because each reading takes a turn of the event loop, a tenth of a
//! second in some browsers.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use web_time::Instant;

use super::numbers::{Norms, Parts, Unread, refuse_broken_weights, refuse_if_not_finite, refuse_lost};
use super::scaled::{self, Share, parts};
use super::workers::Worker;
use super::{FitOptions, Learner};
use crate::device::Compute;
use crate::error::Result;
use crate::log::{ModelRecord, StepRecord};
use crate::methods::{HeldOut, Method};
use crate::optim::{Guard, scale};

/// Takes the steps of a run, and keeps what they came to on the device until it is read.
///
/// Where a [`Guard`] is to be had, nothing is read back in between; a step that wasn't finite is then found when it is
/// read, and neither it nor those after it have moved a weight.
pub struct Steps {
    guard: Option<Guard>,
    ahead: usize,
    unread: Vec<Unread>,
    /// The last scores.
    last: Option<HeldOut>,
}

impl Steps {
    /// For learners that are about to begin, or to go on; the records of up to `ahead` steps are read at once.
    pub fn new<M: Method + ?Sized>(method: &M, learners: &[Learner<M::Model>], ahead: usize) -> Self {
        Self { guard: guard(method.compute(), learners), ahead, unread: Vec::new(), last: None }
    }

    /// Takes step number `step` (from 0) on its batch: losses and gradients of each micro-batch, summed; the norm over
    /// all of a model's gradients; clipping; one update a model. Gives the records of the steps that were read, which
    /// may be none. Read at once are those where an evaluation or a checkpoint is due, so that both belong to their
    /// step.
    ///
    /// # Errors
    /// When a step isn't finite, the evaluation fails or the device does.
    pub async fn take<M: Method + ?Sized>(
        &mut self,
        method: &M,
        learners: &mut [Learner<M::Model>],
        options: &FitOptions<'_>,
        step: u64,
        batch: &M::Batch,
    ) -> Result<Vec<StepRecord>> {
        let (train, started) = (options.train, Instant::now());
        if self.last.is_none() {
            self.last = options.evaluated.map(scores);
        }
        let at = method.settings_after(step, self.last.as_ref());
        let whole = method.size(batch);
        let lr: Vec<f64> = learners.iter().map(|learner| learner.lr.at(step, train.steps)).collect();
        let rows = options.worker.map_or(Ok(0..whole.rows), |worker| worker.share(whole.rows))?;
        let completed = method.complete(batch, &at, options.micro_batch).await?;
        let batch = completed.as_ref().unwrap_or(batch);
        let parts = parts(rows, options.micro_batch);
        let share = Share { batch, whole, parts, at: &at, step, worker: options.worker };
        let (losses, gradients, norms) = scaled::gradients(method, learners, &share).await?;
        if let (Some(guard), Norms::Squares(squares)) = (&mut self.guard, &norms) {
            *guard = guard.after(&Tensor::cat(losses.iter().map(Parts::total).collect(), 0), squares);
        }
        let mut this = Unread::new(step, started, at, lr, whole, losses, norms);
        if self.guard.is_none() {
            let found = this.read().await?;
            refuse_if_not_finite(&this, &names(learners), &found, || method.rows_of(step))?;
            this.found = Some(found);
        }
        for (place, (learner, gradients)) in learners.iter_mut().zip(gradients).enumerate() {
            let gradients = match this.found.as_ref().map(|found| found.norms[place]) {
                Some(norm) if learner.clip > 0.0 && norm > learner.clip => scale(&learner.model, gradients, learner.clip / norm),
                _ => gradients,
            };
            let guard = self.guard.as_ref().map(|guard| guard.model(place));
            learner.model = learner.optimizer.step(this.lr[place], learner.model.clone(), gradients, guard);
        }
        self.unread.push(this);

        let (done, last) = (step + 1, step + 1 == train.steps);
        let evaluates = last || train.evaluate_every > 0 && done.is_multiple_of(train.evaluate_every);
        if self.unread.len() < self.ahead && !evaluates && !train.has_checkpoint(done) {
            return Ok(Vec::new());
        }
        self.read(method, learners, evaluates && (method.adapts() || options.worker.is_none_or(Worker::is_first))).await
    }

    /// Reads the steps that were not read yet; the last of them is where the learners are, and may be evaluated.
    ///
    /// # Errors
    /// As [`Steps::take`].
    pub async fn read<M: Method + ?Sized>(
        &mut self,
        method: &M,
        learners: &[Learner<M::Model>],
        evaluates: bool,
    ) -> Result<Vec<StepRecord>> {
        let (names, mut read) = (names(learners), Vec::new());
        let unread = std::mem::take(&mut self.unread);
        for mut this in unread {
            let found = match this.found.take() {
                Some(found) => found,
                None => this.read().await?,
            };
            refuse_if_not_finite(&this, &names, &found, || method.rows_of(this.step))?;
            read.push((this, found));
        }
        let seconds = read.first().map_or(0.0, |(first, _)| first.started.elapsed().as_secs_f64());
        let tokens: usize = read.iter().map(|(this, _)| this.whole.tokens).sum();
        let tokens_per_s = tokens as f64 / seconds.max(1e-9);
        let (count, mut out) = (read.len(), Vec::new());
        for (place, (this, found)) in read.iter().enumerate() {
            let held_out = match evaluates && place + 1 == count {
                true => method.held_out(&learners.iter().map(|learner| &learner.model).collect::<Vec<_>>()).await?,
                false => HeldOut::default(),
            };
            if !held_out.losses.iter().all(|loss| loss.is_finite()) {
                // Weights that are no numbers are the better reason.
                for learner in learners {
                    refuse_broken_weights(&learner.model, &learner.name, &format!("step {}", this.step + 1)).await?;
                }
                refuse_lost(&names, &held_out.losses, this.step + 1)?;
            }
            let own = |(at, name): (usize, &&str)| this.model_record(at, name, found, held_out.losses.get(at).copied());
            let models = names.iter().enumerate().map(own).collect();
            if !held_out.losses.is_empty() {
                self.last = Some(held_out.clone());
            }
            out.push(record(this.step, models, held_out, tokens_per_s));
        }
        Ok(out)
    }
}

fn names<M>(learners: &[Learner<M>]) -> Vec<&str> {
    learners.iter().map(|learner| learner.name.as_str()).collect()
}

/// A guard, where losses are worth not reading at every step.
fn guard<M>(compute: &Compute, learners: &[Learner<M>]) -> Option<Guard> {
    let optimizers: Vec<_> = learners.iter().map(|learner| &learner.optimizer).collect();
    let clips: Vec<f64> = learners.iter().map(|learner| learner.clip).collect();
    Guard::of(compute, &optimizers, &clips)
}

/// One model's record is the run's; of several, each has its own and the first's stand above.
fn record(step: u64, models: Vec<ModelRecord>, held_out: HeldOut, tokens_per_s: f64) -> StepRecord {
    let first = &models[0];
    StepRecord {
        step,
        loss: first.loss,
        loss_hard: first.loss_hard,
        loss_soft: first.loss_soft(),
        alpha_hard: first.alpha_hard,
        alpha_soft: first.alpha_soft(),
        temperature: first.temperature(),
        features: if models.len() > 1 { Vec::new() } else { first.features.clone() },
        lr: first.lr,
        grad_norm: first.grad_norm,
        tokens_per_s,
        mfu: None,
        held_out_loss: first.held_out_loss,
        teacher_held_out_loss: held_out.teacher_loss,
        models: if models.len() > 1 { models } else { Vec::new() },
        agreement: held_out.agreement,
    }
}

/// The scores that a record has of its run's first model, and of the teacher.
fn scores(record: &StepRecord) -> HeldOut {
    HeldOut {
        losses: record.held_out_loss.into_iter().collect(),
        teacher_loss: record.teacher_held_out_loss,
        agreement: BTreeMap::new(),
    }
}
