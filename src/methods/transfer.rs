//! Distilling a fine-tuned teacher into a small student over a transfer set (Mukherjee and Awadallah 2019). One value
//! of [`Transfer`] is one phase of a schedule: which of equation 8's losses it takes, on which rows; which layers move
//! is the student's matter ([`Student::with_unfrozen`]). The loop is [`crate::train::fit`], the same as for
//! pre-training.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{BatchSize, HeldOut, Method, ModelLoss, Pending, Settings, SoftSettings, TEACHER, few};
use crate::batch::Order;
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::loss::{Elements, JointWeights, hard_loss, logit_loss, representation_loss};
use crate::model::{Dropout, Student, TextRow};
use crate::tasks::Outputs;

/// A labelled row as a student reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledRow {
    /// The text.
    pub text: TextRow,
    /// Its class.
    pub class: usize,
}

/// A transfer row as a student reads it, with what the teacher says of it; it has no label but the teacher's.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferRow {
    /// The text.
    pub text: TextRow,
    /// The teacher's targets for the logit loss, one a class.
    pub logits: Vec<f32>,
    /// The teacher's representation.
    pub representation: Vec<f32>,
    /// The teacher's likeliest class.
    pub class: usize,
}

/// Rows for training, or for validation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TransferRows {
    /// D_l.
    pub labelled: Vec<LabelledRow>,
    /// D_u.
    pub transfer: Vec<TransferRow>,
}

/// What a phase minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhaseLoss {
    /// Equation 8's weights; a term of weight 0 is not computed, and rows that no term reads are not drawn.
    pub weights: JointWeights,
    /// Weight of the cross-entropy against the teacher's likeliest class (hard distillation), on transfer rows.
    pub hard: f64,
    /// How squares become losses.
    pub elements: Elements,
}

impl PhaseLoss {
    /// Whether labelled rows are read.
    pub fn reads_labels(&self) -> bool {
        self.weights.alpha > 0.0
    }

    /// Whether transfer rows are read.
    pub fn reads_transfer(&self) -> bool {
        self.weights.beta > 0.0 || self.weights.gamma > 0.0 || self.hard > 0.0
    }
}

/// One phase over rows that are ready.
pub struct Transfer<'a> {
    /// To learn from.
    pub train: &'a TransferRows,
    /// For early stopping.
    pub validation: &'a TransferRows,
    /// What is minimised.
    pub loss: PhaseLoss,
    /// Rows a step: half labelled and half transfer where both are read.
    pub batch: usize,
    /// Draws the order.
    pub seed: u64,
    /// The id that fills rows up.
    pub pad: i32,
    /// Where tensors live, and how operations run.
    pub compute: Compute,
}

/// Rows of a step, and how many of each kind the whole step has.
#[derive(Debug, Clone)]
pub struct TransferBatch<'a> {
    rows: Vec<RowOf<'a>>,
    labelled: usize,
    transfer: usize,
}

#[derive(Debug, Clone, Copy)]
enum RowOf<'a> {
    Labelled(&'a LabelledRow),
    Transfer(&'a TransferRow),
}

impl RowOf<'_> {
    fn text(&self) -> &TextRow {
        match self {
            RowOf::Labelled(row) => &row.text,
            RowOf::Transfer(row) => &row.text,
        }
    }
}

impl<'a> Transfer<'a> {
    /// Rows of each kind a step: labelled, transfer.
    pub fn rows_a_step(&self) -> [usize; 2] {
        match (self.loss.reads_labels(), self.loss.reads_transfer()) {
            (true, true) => [self.batch.div_ceil(2), (self.batch / 2).max(1)],
            (true, false) => [self.batch, 0],
            (false, _) => [0, self.batch],
        }
    }

    /// Steps of one pass: over the transfer set where it is read, else over the labelled rows.
    pub fn steps_per_pass(&self) -> u64 {
        let [labelled, transfer] = self.rows_a_step();
        let steps = match transfer {
            0 => self.train.labelled.len().div_ceil(labelled.max(1)),
            rows => self.train.transfer.len().div_ceil(rows),
        };
        steps.max(1) as u64
    }

    /// The places of a step's labelled rows and of its transfer rows. Each pool has an order of its own that starts
    /// over when it is through; every batch is full.
    fn places(&self, step: u64) -> [Vec<usize>; 2] {
        let [labelled, transfer] = self.rows_a_step();
        let drawn = |count: usize, of: usize, salt: u64| {
            let from = step * count as u64;
            (from..from + count as u64).filter(move |_| of > 0).map(move |place| {
                let order = Order::new(of as u64, self.seed ^ salt, place / of as u64);
                order.at(place % of as u64) as usize
            })
        };
        let train = self.train;
        [drawn(labelled, train.labelled.len(), 0).collect(), drawn(transfer, train.transfer.len(), 0x7472).collect()]
    }

    fn at(&self, step: u64) -> TransferBatch<'a> {
        let ([labelled, transfer], train) = (self.rows_a_step(), self.train);
        let [of_labelled, of_transfer] = self.places(step);
        let mut rows = Vec::with_capacity(labelled + transfer);
        rows.extend(of_labelled.into_iter().map(|at| RowOf::Labelled(&train.labelled[at])));
        rows.extend(of_transfer.into_iter().map(|at| RowOf::Transfer(&train.transfer[at])));
        TransferBatch { rows, labelled, transfer }
    }

    fn losses_of(&self, student: &Student, batch: &TransferBatch, dropout: &mut Dropout) -> ModelLoss {
        let mut rows: Vec<&RowOf> = batch.rows.iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.text().ids.len()));
        let texts: Vec<&TextRow> = rows.iter().map(|row| row.text()).collect();
        let represented_bd = student.represent(&texts, self.pad, &self.compute, dropout);
        let mean = |loss_b: Tensor<1>, weight: &dyn Fn(&RowOf) -> f64| {
            let weights: Vec<f32> = rows.iter().map(|row| weight(row) as f32).collect();
            (loss_b * Tensor::from_data(TensorData::new(weights, [rows.len()]), &self.compute.device)).sum()
        };
        let of_labelled = 1.0 / batch.labelled.max(1) as f64;
        let of_transfer = 1.0 / batch.transfer.max(1) as f64;
        let only_transfer = |row: &RowOf| if matches!(row, RowOf::Transfer(_)) { of_transfer } else { 0.0 };
        let table = |width: usize, of: &dyn Fn(&TransferRow) -> &[f32]| {
            let mut values = Vec::with_capacity(rows.len() * width);
            for row in &rows {
                match row {
                    RowOf::Transfer(row) => values.extend_from_slice(of(row)),
                    RowOf::Labelled(_) => values.resize(values.len() + width, 0.0),
                }
            }
            Tensor::<2>::from_data(TensorData::new(values, [rows.len(), width]), &self.compute.device)
        };
        let PhaseLoss { weights, hard, elements } = self.loss;
        let zero = || Tensor::<1>::zeros([1], &self.compute.device);
        let dropped_bd = dropout.apply(represented_bd.clone());

        let [cross_entropy, teachers] = if weights.alpha > 0.0 || hard > 0.0 {
            let classes = rows.iter().map(|row| match row {
                RowOf::Labelled(row) => row.class as i32,
                RowOf::Transfer(row) => row.class as i32,
            });
            let labels_b =
                Tensor::<1, Int>::from_data(TensorData::new(classes.collect::<Vec<i32>>(), [rows.len()]), &self.compute.device);
            let loss_b = hard_loss(student.classify(dropped_bd.clone()), labels_b, 0.0);
            let only_labelled = |row: &RowOf| if matches!(row, RowOf::Labelled(_)) { of_labelled } else { 0.0 };
            [mean(loss_b.clone(), &only_labelled), mean(loss_b, &only_transfer)]
        } else {
            [zero(), zero()]
        };
        let representation = if weights.beta > 0.0 {
            let width = represented_bd.dims()[1];
            let loss_b = representation_loss(represented_bd, table(width, &|row| &row.representation), elements);
            mean(loss_b, &only_transfer)
        } else {
            zero()
        };
        let logits = if weights.gamma > 0.0 {
            let scores_bc = student.regress(dropped_bd);
            let width = scores_bc.dims()[1];
            mean(logit_loss(scores_bc, table(width, &|row| &row.logits), elements), &only_transfer)
        } else {
            zero()
        };
        let by_teacher = teachers * hard;
        let soft = representation.clone() * weights.beta + logits.clone() * weights.gamma + by_teacher.clone();
        ModelLoss {
            total: weights.joint(cross_entropy.clone(), representation, logits) + by_teacher,
            hard: detached(cross_entropy),
            soft: self.loss.reads_transfer().then(|| Some(detached(soft))).into_iter().collect(),
            features: Vec::new(),
        }
    }
}

fn detached(x: Tensor<1>) -> Tensor<1> {
    if x.device().is_autodiff() { x.inner() } else { x }
}

impl<'a> Method for Transfer<'a> {
    type Model = Student;
    type Batch = TransferBatch<'a>;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = TransferBatch<'a>> + '_> {
        Box::new((from..to).map(|step| self.at(step)))
    }

    fn part(&self, batch: &TransferBatch<'a>, rows: Range<usize>) -> TransferBatch<'a> {
        TransferBatch { rows: batch.rows[rows].to_vec(), ..*batch }
    }

    fn rows_of(&self, step: u64) -> Option<String> {
        let [labelled, transfer] = self.places(step).map(|places| few(places.iter().map(usize::to_string)));
        Some(format!("labelled rows, from 0: {labelled}; transfer rows: {transfer}"))
    }

    fn compute(&self) -> &Compute {
        &self.compute
    }

    fn size(&self, batch: &TransferBatch<'a>) -> BatchSize {
        let rows = batch.rows.len();
        BatchSize { rows, targets: rows, tokens: batch.rows.iter().map(|row| row.text().ids.len()).sum() }
    }

    fn settings(&self, _step: u64) -> Vec<Settings> {
        let teacher = || SoftSettings { from: TEACHER.to_owned(), alpha: 1.0, temperature: 1.0 };
        let soft = self.loss.reads_transfer().then(teacher).into_iter().collect();
        vec![Settings { alpha_hard: self.loss.weights.alpha, soft, features: Vec::new() }]
    }

    fn losses(
        &self,
        models: &[&Student],
        batch: &TransferBatch<'a>,
        _at: &[Settings],
        _whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> Result<Vec<ModelLoss>> {
        Ok(models.iter().zip(dropout).map(|(student, dropout)| self.losses_of(student, batch, dropout)).collect())
    }

    /// The phase's own loss on the validation rows, not in nats but in its own measure.
    fn held_out<'b>(&'b self, models: &'b [&'b Student]) -> Pending<'b, Result<HeldOut>> {
        Box::pin(std::future::ready(self.validation_loss(models)))
    }
}

impl Transfer<'_> {
    fn validation_loss(&self, models: &[&Student]) -> Result<HeldOut> {
        let mut rows: Vec<RowOf> = Vec::new();
        if self.loss.reads_labels() {
            rows.extend(self.validation.labelled.iter().map(RowOf::Labelled));
        }
        let labelled = rows.len();
        if self.loss.reads_transfer() {
            rows.extend(self.validation.transfer.iter().map(RowOf::Transfer));
        }
        let transfer = rows.len() - labelled;
        if rows.is_empty() {
            return Err(Error::new("there are no validation rows to stop by").help("raise data.validation"));
        }
        rows.sort_by_key(|row| row.text().ids.len());
        let loss = |student: &&Student| {
            let student = student.valid();
            let part = |rows: &[RowOf]| {
                let batch = TransferBatch { rows: rows.to_vec(), labelled, transfer };
                f64::from(self.losses_of(&student, &batch, &mut Dropout::off()).total.into_scalar::<f32>())
            };
            rows.chunks(self.batch.max(64)).map(part).sum()
        };
        Ok(models.iter().map(loss).collect::<Vec<f64>>().into())
    }
}

/// Which head answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Equation 1's.
    Classifier,
    /// Equation 4's: the student was never shown a label.
    Regression,
}

/// A student's outputs on texts, in their order, one score a class; the likeliest class has the highest.
pub fn predict(student: &Student, texts: &[&TextRow], head: Head, pad: i32, batch: usize, device: &Device) -> Outputs {
    let (student, compute) = (student.valid(), Compute::of(device));
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(texts[at].ids.len()));
    let mut out = vec![Vec::new(); texts.len()];
    for chunk in order.chunks(batch.max(1)) {
        let rows: Vec<&TextRow> = chunk.iter().map(|&at| texts[at]).collect();
        let represented_bd = student.represent(&rows, pad, &compute, &mut Dropout::off());
        let scores_bc = match head {
            Head::Classifier => student.classify(represented_bd),
            Head::Regression => student.regress(represented_bd),
        };
        let classes = scores_bc.dims()[1];
        let flat: Vec<f32> = scores_bc.into_data().try_to_vec().expect("scores are f32");
        chunk.iter().zip(flat.chunks(classes)).for_each(|(&at, row)| out[at] = row.to_vec());
    }
    out
}
