//! Fine-tuning a pre-trained model on a labelled task, as Hugging Face's `run_glue` does it: AdamW, linear decay,
//! dynamic padding. The loop is [`crate::train::fit`], the same as for pre-training.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use rayon::prelude::*;

use super::{BatchSize, HeldOut, Method, ModelLoss, Pending, Settings, few};
use crate::batch::Order;
use crate::device::Compute;
use crate::error::Result;
use crate::loss::hard_loss;
use crate::model::{Classifier, Dropout, Inputs};
use crate::tasks::{Example, Kind, Outputs, Split, Task};
use crate::tokens::Tokenizer;

/// One example as ids: `[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub(super) ids: Vec<i32>,
    pub(super) types: Vec<i32>,
    /// The class, or the score; not a number where it is hidden.
    target: f32,
}

/// Several examples, to be padded to the longest of them.
pub type EncodedBatch = Vec<Encoded>;

/// A task's splits as ids, made once for all seeds.
pub struct EncodedTask {
    train: Vec<Encoded>,
    dev: Vec<Vec<Encoded>>,
    test: Vec<Vec<Encoded>>,
    is_regression: bool,
    pad: i32,
}

impl EncodedTask {
    /// Encodes a task with at most `length` tokens a row (the longer text of a pair is cut first).
    ///
    /// # Errors
    /// When a text can't be encoded.
    pub fn new(task: &Task, tokenizer: &Tokenizer, length: usize) -> Result<Self> {
        let rows = |examples: &[Example]| {
            examples.par_iter().map(|example| encode(example, tokenizer, length)).collect::<Result<Vec<_>>>()
        };
        let splits = |splits: &[Split]| splits.iter().map(|split| rows(&split.examples)).collect::<Result<Vec<_>>>();
        Ok(Self {
            train: rows(&task.train)?,
            dev: splits(&task.dev)?,
            test: splits(&task.test)?,
            is_regression: matches!(task.kind, Kind::Regression { .. }),
            pad: tokenizer.special().pad as i32,
        })
    }
}

/// A task made ready for a model: its splits, and the order of its batches.
pub struct Finetune<'a> {
    task: &'a EncodedTask,
    batch: usize,
    seed: u64,
    compute: Compute,
}

impl<'a> Finetune<'a> {
    /// Batches of `batch` examples, in an order drawn from `seed`.
    pub fn new(task: &'a EncodedTask, batch: usize, seed: u64, device: &Device) -> Self {
        Self { task, batch, seed, compute: Compute::of(device) }
    }

    /// Steps of one pass over the training split.
    pub fn steps_per_epoch(&self) -> u64 {
        self.task.train.len().div_ceil(self.batch) as u64
    }

    /// The model's outputs on each dev split.
    pub fn predict_dev(&self, model: &Classifier) -> Vec<Outputs> {
        self.task.dev.iter().map(|rows| self.predict(model, rows)).collect()
    }

    /// The model's outputs on each test split.
    pub fn predict_test(&self, model: &Classifier) -> Vec<Outputs> {
        self.task.test.iter().map(|rows| self.predict(model, rows)).collect()
    }

    /// Rows of like length go together, so that little is padded; the outputs are in the rows' own order.
    fn predict(&self, model: &Classifier, rows: &[Encoded]) -> Outputs {
        let model = model.valid();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| rows[at].ids.len());
        let mut out = vec![Vec::new(); rows.len()];
        for chunk in order.chunks(self.batch) {
            let batch: EncodedBatch = chunk.iter().map(|&at| rows[at].clone()).collect();
            let logits = model.logits(&self.inputs(&batch), &mut Dropout::off());
            let outputs = logits.dims()[1];
            let flat: Vec<f32> = logits.into_data().try_to_vec().expect("logits are f32");
            chunk.iter().zip(flat.chunks(outputs)).for_each(|(&at, row)| out[at] = row.to_vec());
        }
        out
    }

    /// The examples of step `step`.
    fn at(&self, step: u64) -> EncodedBatch {
        self.places(step).into_iter().map(|place| self.task.train[place].clone()).collect()
    }

    /// Their places: the epoch's order, entered where the step begins; an epoch's last batch may be short.
    fn places(&self, step: u64) -> Vec<usize> {
        let (epoch, within) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let order = Order::new(self.task.train.len() as u64, self.seed, epoch);
        let from = within as usize * self.batch;
        (from..(from + self.batch).min(self.task.train.len())).map(|i| order.at(i as u64) as usize).collect()
    }

    fn inputs(&self, batch: &[Encoded]) -> Inputs {
        let rows: Vec<(&[i32], &[i32])> = batch.iter().map(|row| (&row.ids[..], &row.types[..])).collect();
        Inputs::padded(&rows, self.task.pad, &self.compute)
    }

    fn loss(&self, model: &Classifier, batch: &[Encoded], whole: BatchSize, dropout: &mut Dropout) -> Tensor<1> {
        let logits = model.logits(&self.inputs(batch), dropout);
        let targets: Vec<f32> = batch.iter().map(|row| row.target).collect();
        let summed = if self.task.is_regression {
            let targets = Tensor::<1>::from_data(TensorData::new(targets, [batch.len()]), &self.compute.device);
            (logits.squeeze_dim::<1>(1) - targets).square().sum()
        } else {
            let labels: Vec<i32> = targets.iter().map(|&class| class as i32).collect();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch.len()]), &self.compute.device);
            hard_loss(logits, labels, 0.0).sum()
        };
        summed / whole.targets as f64
    }
}

impl Method for Finetune<'_> {
    type Model = Classifier;
    type Batch = EncodedBatch;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = EncodedBatch> + '_> {
        Box::new((from..to).map(|step| self.at(step)))
    }

    fn part(&self, batch: &EncodedBatch, rows: Range<usize>) -> EncodedBatch {
        batch[rows].to_vec()
    }

    fn rows_of(&self, step: u64) -> Option<String> {
        let places = self.places(step);
        Some(format!("training examples, from 0: {}", few(places.iter().map(usize::to_string))))
    }

    fn compute(&self) -> &Compute {
        &self.compute
    }

    fn size(&self, batch: &EncodedBatch) -> BatchSize {
        BatchSize { rows: batch.len(), targets: batch.len(), tokens: batch.iter().map(|row| row.ids.len()).sum() }
    }

    fn settings(&self, _step: u64) -> Vec<Settings> {
        vec![Settings::hard(1.0)]
    }

    fn losses(
        &self,
        models: &[&Classifier],
        batch: &EncodedBatch,
        _at: &[Settings],
        whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> Result<Vec<ModelLoss>> {
        let loss = |(model, dropout): (&&Classifier, &mut Dropout)| {
            let hard = self.loss(model, batch, whole, dropout);
            ModelLoss { total: hard.clone(), hard, soft: Vec::new(), features: Vec::new() }
        };
        Ok(models.iter().zip(dropout).map(loss).collect())
    }

    fn held_out<'b>(&'b self, models: &'b [&'b Classifier]) -> Pending<'b, Result<HeldOut>> {
        let rows = self.task.dev.iter().map(Vec::len).sum();
        let whole = BatchSize { rows, targets: rows, tokens: 0 };
        let loss = move |model: &&Classifier| {
            let model = model.valid();
            let parts = self.task.dev.iter().flat_map(|split| split.chunks(self.batch));
            parts.map(|part| f64::from(self.loss(&model, part, whole, &mut Dropout::off()).into_scalar::<f32>())).sum()
        };
        Box::pin(async move { Ok(models.iter().map(loss).collect::<Vec<_>>().into()) })
    }
}

pub(super) fn encode(example: &Example, tokenizer: &Tokenizer, length: usize) -> Result<Encoded> {
    let special = tokenizer.special();
    let mut first = tokenizer.encode(&example.first)?;
    let mut second = example.second.as_ref().map(|text| tokenizer.encode(text)).transpose()?;
    let room = length - if second.is_some() { 3 } else { 2 };
    while first.len() + second.as_ref().map_or(0, Vec::len) > room {
        match &mut second {
            Some(second) if second.len() > first.len() => second.pop(),
            _ => first.pop(),
        };
    }
    let mut ids: Vec<i32> = vec![special.cls as i32];
    ids.extend(first.iter().map(|&id| id as i32));
    ids.push(special.sep as i32);
    let mut types = vec![0; ids.len()];
    if let Some(second) = second {
        ids.extend(second.iter().map(|&id| id as i32));
        ids.push(special.sep as i32);
        types.resize(ids.len(), 1);
    }
    Ok(Encoded { ids, types, target: example.label.value() as f32 })
}
