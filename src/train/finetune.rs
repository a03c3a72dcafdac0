//! Fine-tuning runs: a pre-trained model, a task, a seed; its scores.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use super::numbers::refuse_broken_weights;
use super::{FitOptions, Flow, Learner, fit, interrupted};
use crate::config::{MODEL, OptimizerKind, TrainPlan};
use crate::device::{Device, wait};
use crate::error::{Error, Result, note};
use crate::log::Console;
use crate::methods::{EncodedTask, Finetune};
use crate::model::{Classifier, ModelFolder, Shape, Weights};
use crate::tasks::{Outputs, Task};
use crate::tokens::Tokenizer;

/// How to fine-tune; the defaults are the paper's (appendix A.2), which are `run_glue`'s.
#[derive(Debug, Clone, PartialEq)]
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
    /// Scores the dev splits after each pass and takes the best pass's weights, not the last's.
    pub keep_best: bool,
    /// Stops after this many passes without a better score.
    pub patience: Option<u64>,
}

/// More than any run takes.
const MOST_STEPS: f64 = 1e12;

impl Default for FinetuneOptions {
    fn default() -> Self {
        Self { lr: 2e-5, batch: 32, length: 128, epochs: 3.0, warmup: 0.0, dropout: 0.1, keep_best: false, patience: None }
    }
}

impl FinetuneOptions {
    /// The paper's for a task: 5 passes over MRPC, 3 over all others.
    pub fn for_task(task: &str) -> Self {
        Self { epochs: if task == "mrpc" { 5.0 } else { 3.0 }, ..Self::default() }
    }

    /// Refuses what nothing can be trained with.
    ///
    /// # Errors
    /// For a rate or a number of passes that is no finite number above 0, a batch or a patience of 0, rows of fewer
    /// than 8 tokens, or a warm-up or dropout outside 0 to below 1.
    pub fn check(&self) -> Result<()> {
        let Self { lr, batch, length, epochs, warmup, dropout, keep_best: _, patience } = self;
        let is_number = |x: f64| x.is_finite() && x > 0.0;
        let is_share = |x: f64| (0.0..1.0).contains(&x);
        let wrong = [
            (!is_number(*lr), format!("--lr is {lr}: it has to be a finite number above 0")),
            (!is_number(*epochs), format!("--epochs is {epochs}: it has to be a finite number above 0")),
            (*batch == 0, "--batch is 0: a step takes one example or more".to_owned()),
            (*length < 8, format!("--length is {length}: rows have at least 8 tokens")),
            (!is_share(*warmup), format!("--warmup is {warmup}: it is a share of the steps, from 0 to below 1")),
            (!is_share(*dropout), format!("the dropout probability is {dropout}: it is from 0 to below 1")),
            (*patience == Some(0), "--patience is 0: at least one pass is taken".to_owned()),
        ];
        let wrong: Vec<&str> = wrong.iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, what)| what.as_str()).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Error::new(wrong.join("; "))) }
    }

    /// How many steps are taken over so many training examples.
    ///
    /// # Errors
    /// As [`FinetuneOptions::check`], and where it is less than one step or more than can be counted.
    pub fn steps(&self, examples: usize) -> Result<u64> {
        self.check()?;
        let steps = self.epochs * examples.div_ceil(self.batch) as f64;
        if steps < 1.0 {
            return Err(Error::new(format!(
                "--epochs is {:e}: of {examples} examples that is less than one step of {}",
                self.epochs, self.batch
            ))
            .help("train on more passes, or take a smaller --batch"));
        }
        if steps > MOST_STEPS {
            return Err(Error::new(format!("--epochs is {:e}: that is more than {MOST_STEPS:e} steps", self.epochs)));
        }
        Ok(steps.ceil() as u64)
    }
}

impl fmt::Display for FinetuneOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lr, batch, length, epochs, warmup, dropout, keep_best, patience } = self;
        write!(f, "lr {lr:e}, batch {batch}, length {length}, {epochs} passes, dropout {dropout}")?;
        if *warmup > 0.0 {
            write!(f, ", warm-up {warmup}")?;
        }
        if *keep_best {
            f.write_str(", best pass kept")?;
        }
        patience.map_or(Ok(()), |patience| write!(f, ", patience {patience}"))
    }
}

/// A pre-trained model on the host.
pub struct Pretrained {
    /// Its sizes.
    pub shape: Shape,
    /// Its weights.
    pub weights: Weights,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Standard deviation of the weights of new heads.
    pub initializer_range: f64,
}

impl Pretrained {
    /// Reads a model's folder.
    ///
    /// # Errors
    /// When it is a causal model, a file is missing or broken, the body of the model is not whole, or it has no rows
    /// for some of the tokens.
    pub fn read(folder: &ModelFolder) -> Result<Self> {
        Classifier::must_be_of(folder)?;
        Ok(Self {
            shape: folder.shape.clone(),
            tokenizer: folder.tokenizer()?,
            weights: folder.tensors()?,
            initializer_range: folder.initializer_range(),
        })
    }

    /// What fine-tuning draws anew and what it leaves out, in words.
    fn heads(&self) -> String {
        let fresh = match self.weights.get("bert.pooler.dense.weight") {
            Some(_) => "the head classifier starts",
            None => "the heads bert.pooler.dense and classifier start",
        };
        let first = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let unused: BTreeSet<String> = self.weights.iter().map(|(name, _)| first(name)).filter(|first| first != "bert").collect();
        let unused = unused.into_iter().collect::<Vec<_>>().join(", ");
        format!("{fresh} from random weights{}", if unused.is_empty() { unused } else { format!("; not used: {unused}") })
    }
}

/// What fine-tuning with one seed came to.
pub struct Finetuned {
    /// The model that was scored.
    pub model: Classifier,
    /// Its outputs on each dev split.
    pub dev: Vec<Outputs>,
    /// Its metrics on the dev splits, by name.
    pub scores: BTreeMap<String, f64>,
    /// Passes over the training split that it has seen.
    pub epochs: f64,
    /// Wall time.
    pub seconds: f64,
}

/// A model and a task, ready to be fine-tuned with any number of seeds.
pub struct Finetuning<'a> {
    /// What it starts from.
    pub pretrained: &'a Pretrained,
    /// What it learns.
    pub task: &'a Task,
    /// How: rows are no longer than the model has positions.
    pub options: FinetuneOptions,
    /// The device that it runs on.
    pub device: &'a Device,
    /// Where progress goes.
    pub console: &'a Console,
    encoded: EncodedTask,
}

impl<'a> Finetuning<'a> {
    /// Encodes the task.
    ///
    /// # Errors
    /// When the task has no examples to train on or to score, the model can't read its texts, or nothing can be trained
    /// with the options.
    pub fn new(
        pretrained: &'a Pretrained,
        task: &'a Task,
        options: &FinetuneOptions,
        device: &'a Device,
        console: &'a Console,
    ) -> Result<Self> {
        if task.train.is_empty() || task.dev.iter().all(|split| split.examples.is_empty()) {
            return Err(Error::new(format!("the task {} has no examples to train on or to score", task.name)));
        }
        options.steps(task.train.len())?;
        let options = FinetuneOptions { length: options.length.min(pretrained.shape.max_positions()), ..options.clone() };
        pretrained.shape.must_hold(&pretrained.tokenizer)?;
        let mut splits = task.dev.iter().chain(&task.test).map(|split| &split.examples).chain([&task.train]);
        let has_pairs = splits.any(|examples| examples.iter().any(|example| example.second.is_some()));
        pretrained.shape.must_read(options.length, has_pairs)?;
        note(pretrained.heads());
        let encoded = EncodedTask::new(task, &pretrained.tokenizer, options.length)?;
        Ok(Self { pretrained, task, options, device, console, encoded })
    }

    /// Fine-tunes once. The seed draws the new layers, the order and the dropout.
    ///
    /// # Errors
    /// When a step isn't finite, or a stop was asked for.
    pub fn run(&self, seed: u64) -> Result<Finetuned> {
        let (started, options) = (Instant::now(), &self.options);
        let method = self.method(seed);
        let per_epoch = method.steps_per_epoch();
        let steps = options.steps(self.task.train.len())?;
        let train = train_plan(options, steps)?;
        let tracked = self.device.handle.clone().autodiff();
        let Pretrained { weights, shape, initializer_range, .. } = self.pretrained;
        let outputs = self.task.kind.outputs();
        let model = Classifier::start_from(weights, shape, outputs, *initializer_range, seed, &tracked)?;
        let learner = Learner::new(model, &train, options.dropout, seed);
        let fit_options = FitOptions { train: &train, micro_batch: options.batch, done: 0, evaluated: None, worker: None };
        let mut progress = self.console.run(&format!("{} #{seed}", self.task.name), steps, 0);
        let mut best = Best::default();
        let trained = fit(&method, vec![learner], &fit_options, |record, learners| {
            progress.show(record);
            let done = record.step + 1;
            if (options.keep_best || options.patience.is_some()) && (done == steps || done.is_multiple_of(per_epoch)) {
                let model = &learners[0].model;
                let found = self.scored(&method, model.clone(), done as f64 / per_epoch as f64);
                best.see(found, self.task);
            }
            let stop = interrupted() || options.patience.is_some_and(|patience| best.since >= patience);
            Ok(if stop { Flow::Stop } else { Flow::Continue })
        })
        .map_err(|error| if error.what().contains("is not finite") { error.help(NOT_FINITE) } else { error })?;
        if interrupted() {
            return Err(Error::interrupted(format!("stopped while fine-tuning on {}", self.task.name))
                .help("finished seeds are kept with --out; this one starts again from its beginning"));
        }
        let last = best.last.unwrap_or(options.epochs);
        let found = match best.kept {
            Some(found) if options.keep_best => found,
            _ => trained
                .into_iter()
                .next()
                .map(|learner| self.scored(&method, learner.model, last))
                .expect("one model was trained"),
        };
        wait(refuse_broken_weights(&found.model, MODEL, "fine-tuning"))?;
        let scores: Vec<String> = found.scores.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        progress.finish(&scores.join(", "));
        Ok(Finetuned { seconds: started.elapsed().as_secs_f64(), ..found })
    }

    /// A fine-tuned model's outputs on each test split.
    pub fn predict_test(&self, model: &Classifier) -> Vec<Outputs> {
        self.method(0).predict_test(model)
    }

    fn method(&self, seed: u64) -> Finetune<'_> {
        Finetune::new(&self.encoded, self.options.batch, seed, &self.device.handle)
    }

    fn scored(&self, method: &Finetune, model: Classifier, epochs: f64) -> Finetuned {
        let dev = method.predict_dev(&model);
        Finetuned { model, scores: self.task.score(&dev), dev, epochs, seconds: 0.0 }
    }
}

/// The best pass so far.
#[derive(Default)]
struct Best {
    kept: Option<Finetuned>,
    score: f64,
    /// Passes since the best one.
    since: u64,
    /// Passes seen.
    last: Option<f64>,
}

impl Best {
    /// Of equals, the first is best.
    fn see(&mut self, found: Finetuned, task: &Task) {
        let score = task.main_score(&found.scores);
        self.last = Some(found.epochs);
        if self.kept.is_none() || score > self.score {
            (self.score, self.since, self.kept) = (score, 0, Some(found));
        } else {
            self.since += 1;
        }
    }
}

/// What to do about a step that isn't finite: there is no checkpoint to go on from.
const NOT_FINITE: &str = "lower --lr, or let it rise with --warmup; look for labels of odd size, too";

fn train_plan(options: &FinetuneOptions, steps: u64) -> Result<TrainPlan> {
    let warm = (options.warmup * steps as f64).round() as u64;
    Ok(TrainPlan {
        steps,
        batch: options.batch,
        batch_schedule: None,
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
        evaluate_after: 0,
        checkpoint_every: 0,
        keep_checkpoints: 0,
        keep_at: Vec::new(),
    })
}
