//! The only training loop, and a run in its directory.

mod card;
mod facts;
mod finetune;
mod interrupt;
mod run;
mod seeds;
pub mod transfer;
mod trial;

use std::time::Instant;

use burn::optim::{GradientsAccumulator, GradientsParams};

pub use card::{model_card, run_of};
pub use facts::{find_facts, open_shards, plan_run};
pub use finetune::{FinetuneOptions, Finetuned, Finetuning, Pretrained};
pub use interrupt::{catch_interrupts, interrupted};
pub use run::{RunOptions, train_run};
pub use seeds::{CHECKPOINT_SCORES, SeedScores, Settings as FinetuneSettings, read_checkpoint_scores};
pub use trial::trial_speed;

use crate::config::TrainPlan;
use crate::error::{Error, Result};
use crate::log::StepRecord;
use crate::loss::StepLoss;
use crate::methods::{BatchSize, Method, Settings};
use crate::model::Dropout;
use crate::optim::{Optimizer, global_norm, scale};

/// A model being trained, under the name its files have.
pub struct Learner<M> {
    /// `model`, unless a method trains several.
    pub name: String,
    /// The model, on a device with autodiff.
    pub model: M,
    /// Its own optimizer.
    pub optimizer: Optimizer,
}

/// What the loop needs beside the method and the learners.
#[derive(Debug, Clone)]
pub struct FitOptions<'a> {
    /// Steps, learning rate, clipping, when to evaluate.
    pub train: &'a TrainPlan,
    /// Rows at once; a step's batch is split into these.
    pub micro_batch: usize,
    /// Dropout probability.
    pub dropout: f64,
    /// Keys the dropout masks.
    pub seed: u64,
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

/// Trains until the plan's last step. After each step `observe` sees its record (of the first learner) and the learners.
///
/// A step goes: losses and gradients of each micro-batch, summed; the norm over all of a model's gradients; clipping;
/// one update a model. A step that isn't finite is refused before any weight moves.
///
/// # Errors
/// When a step isn't finite, or `observe` or an evaluation fails.
pub fn fit<M: Method>(
    method: &M,
    mut learners: Vec<Learner<M::Model>>,
    options: &FitOptions,
    mut observe: impl FnMut(&StepRecord, &[Learner<M::Model>]) -> Result<Flow>,
) -> Result<Vec<Learner<M::Model>>> {
    let train = options.train;
    for (step, batch) in (options.done..).zip(method.batches(options.done, train.steps)) {
        let started = Instant::now();
        let at = method.settings(step);
        let whole = method.size(&batch);
        let lr = train.lr.at(step, train.steps);
        let mut dropout = Dropout::new(options.dropout, options.seed ^ step.rotate_left(32));

        let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
        let parts = method.split(&batch, options.micro_batch);
        let (losses, gradients) = accumulate(method, &models, &parts, &at, whole, &mut dropout);
        let norms: Vec<f64> = models.iter().zip(&gradients).map(|(model, gradients)| global_norm(*model, gradients)).collect();
        refuse_if_not_finite(step, &losses, &norms)?;

        for ((learner, gradients), norm) in learners.iter_mut().zip(gradients).zip(&norms) {
            let gradients = match train.clip > 0.0 && *norm > train.clip {
                true => scale(&learner.model, gradients, train.clip / norm),
                false => gradients,
            };
            learner.model = learner.optimizer.step(lr, learner.model.clone(), gradients);
        }

        let seconds = started.elapsed().as_secs_f64();
        let (done, last) = (step + 1, step + 1 == train.steps);
        let due = last || train.evaluate_every > 0 && done.is_multiple_of(train.evaluate_every);
        let held_out_loss = match due {
            true => {
                let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
                method.held_out(&models)?.first().copied()
            }
            false => None,
        };
        let first = losses[0];
        let record = StepRecord {
            step,
            loss: first.total,
            loss_hard: first.hard,
            loss_soft: first.soft,
            alpha_hard: at.alpha_hard,
            alpha_soft: at.alpha_soft,
            temperature: at.temperature,
            lr,
            grad_norm: norms[0],
            tokens_per_s: whole.tokens as f64 / seconds.max(1e-9),
            mfu: None,
            held_out_loss,
        };
        if observe(&record, &learners)? == Flow::Stop {
            break;
        }
    }
    Ok(learners)
}

/// A step's losses of one model, on the host.
#[derive(Debug, Clone, Copy, Default)]
struct HostLoss {
    total: f64,
    hard: f64,
    soft: Option<f64>,
}

/// Losses and gradients of every model, summed over the parts of a batch.
fn accumulate<M: Method>(
    method: &M,
    models: &[&M::Model],
    parts: &[M::Batch],
    at: &Settings,
    whole: BatchSize,
    dropout: &mut Dropout,
) -> (Vec<HostLoss>, Vec<GradientsParams>) {
    let mut sums = vec![HostLoss::default(); models.len()];
    let mut accumulators: Vec<_> = models.iter().map(|_| GradientsAccumulator::<M::Model>::new()).collect();
    for part in parts {
        let losses = method.losses(models, part, at, whole, dropout);
        for (((model, loss), sum), accumulator) in models.iter().zip(losses).zip(&mut sums).zip(&mut accumulators) {
            let StepLoss { total, hard, soft } = loss;
            sum.total += read(total.clone());
            sum.hard += read(hard);
            sum.soft = soft.map(|soft| sum.soft.unwrap_or(0.0) + read(soft)).or(sum.soft);
            accumulator.accumulate(model, GradientsParams::from_grads(total.backward(), *model));
        }
    }
    (sums, accumulators.iter_mut().map(GradientsAccumulator::grads).collect())
}

fn read(scalar: burn::tensor::Tensor<1>) -> f64 {
    f64::from(scalar.into_scalar::<f32>())
}

fn refuse_if_not_finite(step: u64, losses: &[HostLoss], norms: &[f64]) -> Result<()> {
    for (loss, norm) in losses.iter().zip(norms) {
        if !loss.total.is_finite() || !norm.is_finite() {
            return Err(Error::new(format!(
                "step {} is not finite (loss {}, hard {}, soft {}, gradient norm {norm}); no weight was moved",
                step + 1,
                loss.total,
                loss.hard,
                loss.soft.map_or("none".to_owned(), |soft| soft.to_string()),
            ))
            .help("lower the learning rate, lengthen the warm-up, or clip harder; then go on from the last checkpoint with --resume"));
        }
    }
    Ok(())
}
