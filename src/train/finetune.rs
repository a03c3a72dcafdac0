//! Fine-tuning runs: a pre-trained model, a task, some seeds; the scores of each.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{FitOptions, Flow, Learner, fit, interrupted};
use crate::config::{OptimizerKind, TrainPlan};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::methods::Finetune;
use crate::model::{BertClassifier, BertShape, Weights};
use crate::optim::Optimizer;
use crate::tasks::{Kind, Task};
use crate::tokens::Tokenizer;

/// How to fine-tune; the defaults are the paper's (appendix A.2), which are `run_glue`'s.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinetuneOptions {
    /// Highest learning rate; it falls to 0 linearly.
    pub lr: f64,
    /// Examples a step.
    pub batch: usize,
    /// Longest row in tokens.
    pub length: usize,
    /// Passes over the training split.
    pub epochs: f64,
    /// Share of the steps over which the learning rate rises.
    pub warmup: f64,
    /// Dropout probability.
    pub dropout: f64,
}

impl Default for FinetuneOptions {
    fn default() -> Self {
        Self { lr: 2e-5, batch: 32, length: 128, epochs: 3.0, warmup: 0.0, dropout: 0.1 }
    }
}

/// A pre-trained model on the host.
pub struct Pretrained {
    /// Its sizes.
    pub shape: BertShape,
    /// Its weights.
    pub weights: Weights,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// Fine-tunes once and scores the dev split with the task's metrics, by name.
///
/// # Errors
/// When the task has no examples, a step isn't finite, or a stop was asked for.
pub fn finetune(
    pretrained: &Pretrained,
    task: &Task,
    options: &FinetuneOptions,
    seed: u64,
    device: &Device,
) -> Result<BTreeMap<String, f64>> {
    if task.train.is_empty() || task.dev.is_empty() {
        return Err(Error::new(format!("the task {} has no examples to train on or to score", task.name)));
    }
    let outputs = match &task.kind {
        Kind::Classification { classes } => classes.len(),
        Kind::Regression { .. } => 1,
    };
    let length = options.length.min(pretrained.shape.max_positions);
    let method = Finetune::new(task, &pretrained.tokenizer, length, options.batch, seed, &device.handle)?;
    let steps = (options.epochs * method.steps_per_epoch() as f64).ceil() as u64;
    let warm = (options.warmup * steps as f64).round() as u64;
    let train = TrainPlan {
        steps,
        batch: options.batch,
        lr: match warm {
            0 => format!("{} -> 0 linear", options.lr).parse()?,
            _ => format!("0 -> {} over {warm} steps, then -> 0 linear", options.lr).parse()?,
        },
        optimizer: OptimizerKind::AdamW,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip: 1.0,
        evaluate_every: 0,
        evaluate_rows: 0,
        checkpoint_every: 0,
        keep_checkpoints: 0,
    };
    let tracked = device.handle.clone().autodiff();
    let model = BertClassifier::start_from(&pretrained.weights, &pretrained.shape, outputs, seed, &tracked)?;
    let learner = Learner { name: "classifier".to_owned(), model, optimizer: Optimizer::new(&train) };
    let fit_options = FitOptions { train: &train, micro_batch: options.batch, dropout: options.dropout, seed, done: 0 };
    let trained = fit(&method, vec![learner], &fit_options, |_, _| Ok(if interrupted() { Flow::Stop } else { Flow::Continue }))?;
    if interrupted() {
        return Err(Error::interrupted(format!("stopped while fine-tuning on {}", task.name))
            .help("fine-tuning starts again from its beginning"));
    }
    Ok(task.score(&method.predict(&trained[0].model)))
}
