//! One optimizer step, from a batch to its record.
//!
//! What a step comes to is read from the device without blocking, so that the same code trains in a browser, where nothing may
//! wait: [`wait`](crate::device::wait) makes it a plain call elsewhere.

use std::collections::BTreeMap;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use web_time::Instant;

use super::{FitOptions, Learner};
use crate::device::read_scalars;
use crate::error::{Error, Result};
use crate::log::{ModelRecord, SoftRecord, StepRecord};
use crate::methods::{BatchSize, HeldOut, Method, ModelLoss, Settings, SoftSettings};
use crate::model::Dropout;
use crate::optim::{Norm, global_norm};

/// Takes steps, and reads what they came to: after each one, or after several at once.
pub struct Steps {
    read_every: usize,
    unread: Vec<Unread>,
    since: Option<Instant>,
}

impl Steps {
    /// Reads each step's losses before its update: a step that isn't finite is refused, and no weight moves.
    pub fn read_each() -> Self {
        Self::read_every(1)
    }

    /// Reads the losses of `steps` steps at once, after their updates, so that a GPU is not kept waiting. Clipping is done on the
    /// device then, and a step that isn't finite is found only when it is read: go back to what was saved before it.
    pub fn read_every(steps: usize) -> Self {
        Self { read_every: steps.max(1), unread: Vec::new(), since: None }
    }

    /// Takes step number `step` (from 0) on its batch; gives the records of the steps that were read since, which may be none.
    /// The last step and those that evaluate are always read.
    ///
    /// # Errors
    /// When a step isn't finite, or the evaluation fails.
    pub async fn take<M: Method + ?Sized>(
        &mut self,
        method: &M,
        learners: &mut [Learner<M::Model>],
        options: &FitOptions<'_>,
        step: u64,
        batch: &M::Batch,
    ) -> Result<Vec<StepRecord>> {
        let train = options.train;
        self.since.get_or_insert_with(Instant::now);
        let whole = method.size(batch);
        let at = method.settings(step);
        let lr: Vec<f64> = learners.iter().map(|learner| learner.lr.at(step, train.steps)).collect();
        let keyed = |learner: &Learner<M::Model>| Dropout::new(learner.dropout, learner.seed ^ step.rotate_left(32));
        let mut dropout: Vec<Dropout> = learners.iter().map(keyed).collect();

        let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
        let parts = method.split(batch, options.micro_batch);
        let (losses, gradients) = accumulate(method, &models, &parts, &at, whole, &mut dropout);
        let norms: Vec<Norm> = models.iter().zip(&gradients).map(|(model, gradients)| global_norm(*model, gradients)).collect();
        let names = learners.iter().map(|learner| learner.name.clone()).collect();
        let mut clipping = norms.clone();
        self.unread.push(Unread { step, names, at, lr: lr.clone(), losses, norms, tokens: whole.tokens });

        let mut read = Vec::new();
        if self.read_every == 1 {
            read = self.read(NO_WEIGHT_MOVED).await?;
            clipping = read[0].norms.iter().copied().map(Norm::Host).collect();
        }
        for (((learner, gradients), norm), lr) in learners.iter_mut().zip(gradients).zip(clipping).zip(lr) {
            let gradients = if learner.clip > 0.0 { norm.clip(&learner.model, gradients, learner.clip) } else { gradients };
            learner.model = learner.optimizer.step(lr, learner.model.clone(), gradients);
        }

        let (done, last) = (step + 1, step + 1 == train.steps);
        let evaluate = last || train.evaluate_every > 0 && done.is_multiple_of(train.evaluate_every);
        if !self.unread.is_empty() && (evaluate || self.unread.len() >= self.read_every) {
            read = self.read(WEIGHTS_HAVE_MOVED).await?;
        }
        if read.is_empty() {
            return Ok(Vec::new());
        }
        let seconds = self.seconds_each(read.len());
        let held_out = match evaluate {
            true => {
                let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
                method.held_out_async(&models).await?
            }
            false => HeldOut::default(),
        };
        let records = read.into_iter().map(|step| {
            let held_out = if step.step == done - 1 { held_out.clone() } else { HeldOut::default() };
            step.record(held_out, seconds)
        });
        Ok(records.collect())
    }

    /// The records of the steps that were not read yet.
    ///
    /// # Errors
    /// When one isn't finite.
    pub async fn read_rest(&mut self) -> Result<Vec<StepRecord>> {
        let read = self.read(WEIGHTS_HAVE_MOVED).await?;
        let seconds = self.seconds_each(read.len());
        Ok(read.into_iter().map(|step| step.record(HeldOut::default(), seconds)).collect())
    }

    /// What each of the steps since the last reading took.
    fn seconds_each(&mut self, steps: usize) -> f64 {
        self.since.take().map_or(0.0, |since| since.elapsed().as_secs_f64()) / steps.max(1) as f64
    }

    /// Reads all numbers of the steps that were not read yet, in one go.
    async fn read(&mut self, then: &str) -> Result<Vec<Read>> {
        let steps = std::mem::take(&mut self.unread);
        let mut numbers = read_scalars(steps.iter().flat_map(Unread::scalars).collect()).await?.into_iter();
        let mut next = || numbers.next().expect("a number for each scalar that was asked for");
        let mut read = Vec::with_capacity(steps.len());
        for step in steps {
            let step = step.with(&mut next);
            refuse_if_not_finite(&step, then)?;
            read.push(step);
        }
        Ok(read)
    }
}

const NO_WEIGHT_MOVED: &str = "no weight was moved";
const WEIGHTS_HAVE_MOVED: &str = "it was found after its update: go back to what was saved before it";

/// A step that was taken and whose numbers are still on the device.
struct Unread {
    step: u64,
    names: Vec<String>,
    at: Vec<Settings>,
    lr: Vec<f64>,
    /// Of each model, of each part of the batch.
    losses: Vec<Vec<ModelLoss>>,
    norms: Vec<Norm>,
    tokens: usize,
}

/// The same on the host.
struct Read {
    step: u64,
    names: Vec<String>,
    at: Vec<Settings>,
    lr: Vec<f64>,
    losses: Vec<HostLoss>,
    norms: Vec<f64>,
    tokens: usize,
}

/// A step's losses of one model, on the host.
#[derive(Debug, Clone, Default)]
struct HostLoss {
    total: f64,
    hard: f64,
    /// In the order of the model's settings.
    soft: Vec<Option<f64>>,
}

impl Unread {
    /// Every number of the step that is on the device, in the order in which [`Unread::with`] takes them.
    fn scalars(&self) -> Vec<Tensor<1>> {
        let of_loss = |loss: &ModelLoss| {
            [loss.total.clone(), loss.hard.clone()].into_iter().chain(loss.soft.iter().flatten().cloned()).collect::<Vec<_>>()
        };
        let losses = self.losses.iter().flatten().flat_map(of_loss);
        losses.chain(self.norms.iter().filter_map(Norm::squares_on_device)).collect()
    }

    fn with(self, next: &mut dyn FnMut() -> f64) -> Read {
        let mut losses = Vec::with_capacity(self.losses.len());
        for parts in self.losses {
            let mut sum = HostLoss { soft: vec![None; parts.first().map_or(0, |part| part.soft.len())], ..HostLoss::default() };
            for part in parts {
                sum.total += next();
                sum.hard += next();
                for (sum, soft) in sum.soft.iter_mut().zip(part.soft) {
                    *sum = soft.map(|_| sum.unwrap_or(0.0) + next()).or(*sum);
                }
            }
            losses.push(sum);
        }
        let norms = self.norms.iter().map(|norm| norm.read_as(&mut *next)).collect();
        Read { step: self.step, names: self.names, at: self.at, lr: self.lr, losses, norms, tokens: self.tokens }
    }
}

impl Read {
    fn record(self, held_out: HeldOut, seconds: f64) -> StepRecord {
        let Self { step, names, at, lr, losses, norms, tokens } = self;
        let own = |place: usize| ModelRecord {
            name: names[place].clone(),
            loss: losses[place].total,
            loss_hard: losses[place].hard,
            alpha_hard: at[place].alpha_hard,
            from: soft_records(&at[place], &losses[place].soft),
            lr: lr[place],
            grad_norm: norms[place],
            held_out_loss: held_out.losses.get(place).copied(),
        };
        let models: Vec<ModelRecord> = (0..names.len()).map(own).collect();
        record(step, models, held_out.agreement, tokens as f64 / seconds.max(1e-9))
    }
}

/// Losses of every model and part, unread, and the gradients of every model, summed over the parts of a batch.
fn accumulate<M: Method + ?Sized>(
    method: &M,
    models: &[&M::Model],
    parts: &[M::Batch],
    at: &[Settings],
    whole: BatchSize,
    dropout: &mut [Dropout],
) -> (Vec<Vec<ModelLoss>>, Vec<GradientsParams>) {
    let mut found: Vec<Vec<ModelLoss>> = models.iter().map(|_| Vec::with_capacity(parts.len())).collect();
    let mut accumulators: Vec<_> = models.iter().map(|_| GradientsAccumulator::<M::Model>::new()).collect();
    for part in parts {
        let losses = method.losses(models, part, at, whole, dropout);
        for (((model, loss), found), accumulator) in models.iter().zip(losses).zip(&mut found).zip(&mut accumulators) {
            let ModelLoss { total, hard, soft } = loss;
            let soft = soft.into_iter().map(|soft| soft.map(off_graph)).collect();
            found.push(ModelLoss { total: off_graph(total.clone()), hard: off_graph(hard), soft });
            accumulator.accumulate(model, GradientsParams::from_grads(total.backward(), *model));
        }
    }
    (found, accumulators.iter_mut().map(GradientsAccumulator::grads).collect())
}

/// The number alone: a graph that is kept keeps every activation.
fn off_graph(x: Tensor<1>) -> Tensor<1> {
    if x.device().is_autodiff() { x.inner() } else { x }
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

fn refuse_if_not_finite(step: &Read, then: &str) -> Result<()> {
    for ((name, loss), norm) in step.names.iter().zip(&step.losses).zip(&step.norms) {
        if !loss.total.is_finite() || !norm.is_finite() {
            let soft: Vec<String> = loss.soft.iter().flatten().map(f64::to_string).collect();
            let of = if step.names.len() > 1 { format!(" for {name}") } else { String::new() };
            return Err(Error::new(format!(
                "step {} is not finite{of} (loss {}, hard {}, soft {}, gradient norm {norm}); {then}",
                step.step + 1,
                loss.total,
                loss.hard,
                if soft.is_empty() { "none".to_owned() } else { soft.join(" and ") },
            ))
            .help("lower the learning rate, lengthen the warm-up, or clip harder; then go on from the last checkpoint with --resume"));
        }
    }
    Ok(())
}
