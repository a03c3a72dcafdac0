//! The only training loop, and a run in its directory.

mod card;
mod facts;
mod finetune;
mod interrupt;
mod learners;
mod run;
mod seeds;
mod trial;

use std::collections::BTreeMap;
use std::time::Instant;

use burn::optim::{GradientsAccumulator, GradientsParams};

pub use card::{model_card, run_of};
pub use facts::{find_facts, open_shards, plan_run};
pub use finetune::{FinetuneOptions, Finetuned, Finetuning, Pretrained};
pub use interrupt::{catch_interrupts, interrupted};
pub use learners::{model_folder, model_of_run};
pub use run::{RunOptions, train_run};
pub use seeds::{SeedScores, Settings as FinetuneSettings, checkpoint_scores_folder, read_checkpoint_scores};
pub use trial::trial_speed;

use crate::config::{MODEL, Schedule, TrainPlan};
use crate::error::{Error, Result};
use crate::log::{ModelRecord, SoftRecord, StepRecord};
use crate::methods::{BatchSize, HeldOut, Method, ModelLoss, Settings, SoftSettings};
use crate::model::Dropout;
use crate::optim::{Optimizer, global_norm, scale};

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
    mut learners: Vec<Learner<M::Model>>,
    options: &FitOptions,
    mut observe: impl FnMut(&StepRecord, &[Learner<M::Model>]) -> Result<Flow>,
) -> Result<Vec<Learner<M::Model>>> {
    let train = options.train;
    for (step, batch) in (options.done..).zip(method.batches(options.done, train.steps)) {
        let started = Instant::now();
        let at = method.settings(step);
        let whole = method.size(&batch);
        let lr: Vec<f64> = learners.iter().map(|learner| learner.lr.at(step, train.steps)).collect();
        let keyed = |learner: &Learner<M::Model>| Dropout::new(learner.dropout, learner.seed ^ step.rotate_left(32));
        let mut dropout: Vec<Dropout> = learners.iter().map(keyed).collect();

        let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
        let parts = method.split(&batch, options.micro_batch);
        let (losses, gradients) = accumulate(method, &models, &parts, &at, whole, &mut dropout);
        let norms: Vec<f64> = models.iter().zip(&gradients).map(|(model, gradients)| global_norm(*model, gradients)).collect();
        let names: Vec<&str> = learners.iter().map(|learner| learner.name.as_str()).collect();
        refuse_if_not_finite(step, &names, &losses, &norms)?;

        for (((learner, gradients), norm), lr) in learners.iter_mut().zip(gradients).zip(&norms).zip(&lr) {
            let gradients = match learner.clip > 0.0 && *norm > learner.clip {
                true => scale(&learner.model, gradients, learner.clip / norm),
                false => gradients,
            };
            learner.model = learner.optimizer.step(*lr, learner.model.clone(), gradients);
        }

        let seconds = started.elapsed().as_secs_f64();
        let (done, last) = (step + 1, step + 1 == train.steps);
        let due = last || train.evaluate_every > 0 && done.is_multiple_of(train.evaluate_every);
        let held_out = match due {
            true => {
                let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
                method.held_out(&models)?
            }
            false => HeldOut::default(),
        };
        let own = |place: usize| ModelRecord {
            name: learners[place].name.clone(),
            loss: losses[place].total,
            loss_hard: losses[place].hard,
            alpha_hard: at[place].alpha_hard,
            from: soft_records(&at[place], &losses[place].soft),
            lr: lr[place],
            grad_norm: norms[place],
            held_out_loss: held_out.losses.get(place).copied(),
        };
        let models: Vec<ModelRecord> = (0..learners.len()).map(own).collect();
        let record = record(step, models, held_out.agreement, whole.tokens as f64 / seconds.max(1e-9));
        if observe(&record, &learners)? == Flow::Stop {
            break;
        }
    }
    Ok(learners)
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

fn soft_records(at: &Settings, losses: &[Option<f64>]) -> Vec<SoftRecord> {
    let record = |(soft, loss): (&SoftSettings, &Option<f64>)| SoftRecord {
        name: soft.from.clone(),
        loss_soft: *loss,
        alpha_soft: soft.alpha,
        temperature: soft.temperature,
    };
    at.soft.iter().zip(losses).map(record).collect()
}

/// A step's losses of one model, on the host.
#[derive(Debug, Clone, Default)]
struct HostLoss {
    total: f64,
    hard: f64,
    /// In the order of the model's settings.
    soft: Vec<Option<f64>>,
}

/// Losses and gradients of every model, summed over the parts of a batch.
fn accumulate<M: Method + ?Sized>(
    method: &M,
    models: &[&M::Model],
    parts: &[M::Batch],
    at: &[Settings],
    whole: BatchSize,
    dropout: &mut [Dropout],
) -> (Vec<HostLoss>, Vec<GradientsParams>) {
    let mut sums: Vec<HostLoss> =
        at.iter().map(|at| HostLoss { soft: vec![None; at.soft.len()], ..HostLoss::default() }).collect();
    let mut accumulators: Vec<_> = models.iter().map(|_| GradientsAccumulator::<M::Model>::new()).collect();
    for part in parts {
        let losses = method.losses(models, part, at, whole, dropout);
        for (((model, loss), sum), accumulator) in models.iter().zip(losses).zip(&mut sums).zip(&mut accumulators) {
            let ModelLoss { total, hard, soft } = loss;
            sum.total += read(total.clone());
            sum.hard += read(hard);
            for (sum, soft) in sum.soft.iter_mut().zip(soft) {
                *sum = soft.map(|soft| sum.unwrap_or(0.0) + read(soft)).or(*sum);
            }
            accumulator.accumulate(model, GradientsParams::from_grads(total.backward(), *model));
        }
    }
    (sums, accumulators.iter_mut().map(GradientsAccumulator::grads).collect())
}

fn read(scalar: burn::tensor::Tensor<1>) -> f64 {
    f64::from(scalar.into_scalar::<f32>())
}

fn refuse_if_not_finite(step: u64, names: &[&str], losses: &[HostLoss], norms: &[f64]) -> Result<()> {
    for ((name, loss), norm) in names.iter().zip(losses).zip(norms) {
        if !loss.total.is_finite() || !norm.is_finite() {
            let soft: Vec<String> = loss.soft.iter().flatten().map(f64::to_string).collect();
            let of = if names.len() > 1 { format!(" for {name}") } else { String::new() };
            return Err(Error::new(format!(
                "step {} is not finite{of} (loss {}, hard {}, soft {}, gradient norm {norm}); no weight was moved",
                step + 1,
                loss.total,
                loss.hard,
                if soft.is_empty() { "none".to_owned() } else { soft.join(" and ") },
            ))
            .help("lower the learning rate, lengthen the warm-up, or clip harder; then go on from the last checkpoint with --resume"));
        }
    }
    Ok(())
}
