//! Gradients by every parameter, and twenty steps of each optimizer, through the method and the loop that train.

use std::ops::Range;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use upstill::batch::{Asked, Batch, BatchOptions, Batches, Masking, Split, TokenOrder};
use upstill::config::{DistillPlan, OptimizerKind, Positions, Rows, Schedule, Start, TrainPlan};
use upstill::device::Compute;
use upstill::log::StepRecord;
use upstill::methods::{BatchSize, Dwt, HeldOut, LmData, Method, ModelLoss, ModelTeacher, Pending, Settings};
use upstill::model::{BertShape, Dropout, TrainedModel, Weights};
use upstill::tokens::{SPECIAL_TOKENS, Shards, Tokenizer};
use upstill::train::{FitOptions, Flow, Learner, fit};

use super::{golden, model, weights};
use crate::close::{Kind, close, difference};

#[derive(Deserialize)]
struct Distillation {
    student: BertShape,
    teacher: BertShape,
    batches: Vec<BatchCase>,
    gradients: Vec<GradientCase>,
    runs: Vec<RunCase>,
}

#[derive(Deserialize, Clone)]
pub(super) struct BatchCase {
    rows: usize,
    length: usize,
    slots: usize,
    input_ids: Vec<i32>,
    segments: Vec<i32>,
    positions: Vec<i32>,
    masked: Vec<i32>,
    labels: Vec<i32>,
    weights: Vec<f32>,
}

impl BatchCase {
    pub fn batch(self) -> Batch {
        Batch {
            first_row: 0,
            rows: self.rows,
            length: self.length,
            order: TokenOrder::Bidirectional,
            asked: Asked {
                slots: self.slots,
                count: self.weights.iter().filter(|&&weight| weight > 0.0).count(),
                places_bm: self.masked,
                labels_bm: self.labels,
                weights_bm: self.weights,
                open_bm: None,
            },
            tokens: self.segments.iter().filter(|&&segment| segment > 0).count(),
            input_ids_bs: self.input_ids,
            segments_bs: self.segments,
            positions_bs: self.positions,
        }
    }
}

#[derive(Deserialize)]
struct GradientCase {
    name: String,
    positions: Positions,
    smoothing: f64,
    tau: f64,
    squared: bool,
    alpha_soft: f64,
    #[serde(flatten)]
    losses: Losses,
}

/// A loss and what it is made of.
#[derive(Deserialize, Clone, Copy)]
pub(super) struct Losses {
    total: f64,
    hard: f64,
    soft: f64,
}

#[derive(Deserialize)]
struct RunCase {
    name: String,
    optimizer: OptimizerKind,
    weight_decay: f64,
    lr: Schedule,
    clip: f64,
    losses: Vec<f64>,
    norms: Vec<f64>,
    rates: Vec<f64>,
}

/// By optimizers that PyTorch has not, or not as they were published: goldens by tests/golden/optimizers.py.
#[derive(Deserialize)]
struct Runs {
    runs: Vec<RunCase>,
}

/// Distillation of the golden teacher.
fn dwt(teacher: &BertShape, distill: DistillPlan, steps: u64, device: &Device) -> Dwt {
    let data = stand_in(teacher.vocab_size, device);
    Dwt::new(data, distill, steps, Box::new(ModelTeacher::new(model("teacher", teacher, device))))
}

/// Data that a method must have and these tests don't use: the batches are the golden ones.
pub(super) fn stand_in(vocab_size: usize, device: &Device) -> LmData {
    let words = (SPECIAL_TOKENS.len()..vocab_size).map(|id| format!("w{id}"));
    let vocab = SPECIAL_TOKENS.iter().map(|&token| token.to_owned()).chain(words).collect();
    let shards = Shards::from_sentences(Tokenizer::from_vocab(vocab).unwrap(), vec![vec![5, 6, 7]], vec![vec![8, 9]]);
    let masking = Masking { rate: 0.15, whole_word: false, rarity: 0.0 };
    let options = BatchOptions { layout: Rows::Sentence, length: 10, batch: 1, seed: 1, objective: masking.into() };
    let batches = |split| Batches::new(&shards, split, options).unwrap();
    LmData { train: batches(Split::Train), held_out: batches(Split::HeldOut), evaluate_rows: 1, compute: Compute::of(device) }
}

/// Equation 3 with alpha_h = 1.
pub(super) fn distill(alpha_soft: f64, tau: f64) -> DistillPlan {
    DistillPlan {
        divergence: upstill::config::Divergence::default(),
        gate: upstill::config::Gate::default(),
        fade: 0.0,
        cosine: None,
        layers: upstill::config::LayerLosses::default(),
        hard: 1.0.into(),
        soft: alpha_soft.into(),
        temperature: tau.into(),
        tau_squared: false,
        positions: Positions::Masked,
        start: Start::Fresh,
        label_smoothing: 0.0,
    }
}

/// Puts each parameter's gradient in the parameter's place, where [`Weights::of`] reads it by name.
pub(super) struct GradientInPlace(pub GradientsParams);

impl ModuleMapper for GradientInPlace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.remove::<D>(param.id).expect("every parameter has a gradient");
        param.map(|_| Tensor::from_inner(gradient))
    }
}

/// Compares tensor by tensor; all that is off is listed.
pub(super) fn close_weights(what: &str, found: &Weights, wanted: &Weights, kind: impl Fn(&str) -> Kind) {
    let names = |weights: &Weights| weights.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted), "{what}");
    let off = |(name, wanted): (&str, _)| {
        let (found, wanted): (_, &upstill::model::HostTensor) = (found.get(name)?, wanted);
        assert_eq!(found.shape, wanted.shape, "{what}: {name}");
        let off =
            |((name, found), (_, wanted)): (Piece, Piece)| Some(format!("{name}: {}", difference(found, wanted, kind(&name))?));
        Some(pieces(name, &found.values).into_iter().zip(pieces(name, &wanted.values)).filter_map(off).collect())
    };
    let off: Vec<String> = wanted.iter().filter_map(off).flat_map(|off: Vec<String>| off).collect();
    assert!(off.is_empty(), "{what}:\n{}", off.join("\n"));
}

/// A tensor's values, or some of them, and what they are called.
type Piece<'a> = (String, &'a [f32]);

/// A tensor, or what GPT-2 has joined in one: biases of queries, keys and values.
fn pieces<'a>(name: &str, values: &'a [f32]) -> Vec<Piece<'a>> {
    if !name.ends_with("c_attn.bias") {
        return vec![(name.to_owned(), values)];
    }
    let parts = values.chunks(values.len() / 3).zip(["queries", "keys", "values"]);
    parts.map(|(part, of)| (format!("{name}, {of}"), part)).collect()
}

#[test]
fn gradients_by_every_parameter_are_pytorchs() {
    gradients_on(&Device::flex(), Kind::LossCpu, Kind::GradientCpu);
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpus_gradients_are_pytorchs() {
    let gpu = crate::common::gpu();
    gradients_on(&gpu.handle, Kind::LossGpu, Kind::ParametersGradientGpu);
}

/// Both cases' losses, and their gradients by every parameter, against PyTorch's.
fn gradients_on(device: &Device, loss_kind: Kind, gradient_kind: Kind) {
    let Distillation { student, teacher, batches, gradients, .. } = golden("distillation.json");
    let batch = batches.into_iter().next().unwrap().batch();
    for case in gradients {
        let plan = DistillPlan {
            tau_squared: case.squared,
            positions: case.positions,
            label_smoothing: case.smoothing,
            ..distill(case.alpha_soft, case.tau)
        };
        let method = dwt(&teacher, plan, 1, device);
        let student = model("student", &student, &device.clone().autodiff());
        eprintln!("{}: total, hard and soft loss", case.name);
        let golden = format!("gradients-{}", case.name);
        hold_losses(&method, student.into(), &batch, case.losses, Some(&golden), [loss_kind, gradient_kind]);
    }
}

/// Holds a student's losses on a batch to golden ones, and its gradients by every parameter where a file has them.
pub(super) fn hold_losses(
    method: &Dwt,
    student: TrainedModel,
    batch: &Batch,
    wanted: Losses,
    gradients: Option<&str>,
    [loss_kind, gradient_kind]: [Kind; 2],
) {
    let (at, whole) = (method.settings(0), method.size(batch));
    let loss = method.losses(&[&student], batch, &at, whole, &mut [Dropout::off()]).unwrap().remove(0);
    let ModelLoss { total, hard, mut soft, .. } = loss;
    let found = [total.clone(), hard, soft.remove(0).unwrap()].map(|loss| loss.into_scalar::<f32>());
    close(&found, &[wanted.total, wanted.hard, wanted.soft], loss_kind);
    if let Some(golden) = gradients {
        let gradients = GradientsParams::from_grads(total.backward(), &student);
        let found = Weights::of(&student.map(&mut GradientInPlace(gradients)));
        close_weights(golden, &found, &weights(golden), |_| gradient_kind);
    }
}

/// A method on batches that are given, over and over.
pub(super) struct Fixed<M> {
    pub method: M,
    pub batches: Vec<Batch>,
}

impl<M: Method<Model = TrainedModel, Batch = Batch>> Method for Fixed<M> {
    type Model = TrainedModel;
    type Batch = Batch;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Batch> + '_> {
        Box::new((from..to).map(|step| self.batches[step as usize % self.batches.len()].clone()))
    }

    fn part(&self, batch: &Batch, rows: Range<usize>) -> Batch {
        self.method.part(batch, rows)
    }

    fn compute(&self) -> &Compute {
        self.method.compute()
    }

    fn size(&self, batch: &Batch) -> BatchSize {
        self.method.size(batch)
    }

    fn settings(&self, step: u64) -> Vec<Settings> {
        self.method.settings(step)
    }

    fn losses(
        &self,
        models: &[&TrainedModel],
        batch: &Batch,
        at: &[Settings],
        whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> upstill::Result<Vec<ModelLoss>> {
        self.method.losses(models, batch, at, whole, dropout)
    }

    fn held_out<'a>(&'a self, models: &'a [&'a TrainedModel]) -> Pending<'a, upstill::Result<HeldOut>> {
        Box::pin(std::future::ready(Ok(vec![0.0; models.len()].into())))
    }
}

pub(super) fn after_steps(name: &str) -> Kind {
    let is_of_keys = ["key.bias", "c_attn.bias, keys"].iter().any(|end| name.ends_with(end));
    if is_of_keys { Kind::KeyBiasAfterSteps } else { Kind::WeightsAfterSteps }
}

/// AdamW as most goldens have it, without evaluations and checkpoints.
pub(super) fn adamw(steps: usize, batch: usize, lr: &str) -> TrainPlan {
    TrainPlan {
        steps: steps as u64,
        batch,
        batch_schedule: None,
        lr: lr.parse().unwrap(),
        optimizer: OptimizerKind::AdamW,
        beta1: 0.9,
        beta2: 0.98,
        epsilon: 1e-6,
        weight_decay: 0.1,
        clip: 2.0,
        evaluate_every: 0,
        evaluate_rows: 0,
        evaluate_after: 0,
        checkpoint_every: 0,
        keep_checkpoints: 1,
        keep_at: Vec::new(),
    }
}

/// Trains a model, holds the losses, gradient norms and weights to golden ones, and gives the learning rates.
pub(super) fn hold_steps<M: Method>(
    method: &M,
    model: M::Model,
    (train, micro_batch): (&TrainPlan, usize),
    [losses, norms]: [&[f64]; 2],
    after: &str,
) -> Vec<f64> {
    let options = FitOptions { train, micro_batch, done: 0, evaluated: None, worker: None };
    let mut records = Vec::new();
    let trained = fit(method, vec![Learner::new(model, train, 0.0, 1)], &options, |record, _| {
        records.push(record.clone());
        Ok(Flow::Continue)
    });
    eprintln!("{after} in micro-batches of {micro_batch}: losses, norms");
    let of = |pick: fn(&StepRecord) -> f64| -> Vec<f64> { records.iter().map(pick).collect() };
    close(&of(|record| record.loss), losses, Kind::LossAfterSteps);
    close(&of(|record| record.grad_norm), norms, Kind::LossAfterSteps);
    close_weights(after, &Weights::of(&trained.unwrap()[0].model), &weights(after), after_steps);
    of(|record| record.lr)
}

#[test]
fn twenty_steps_of_each_optimizer_are_pytorchs() {
    let Distillation { student, teacher, batches, runs, .. } = golden("distillation.json");
    let batches: Vec<Batch> = batches.into_iter().map(BatchCase::batch).collect();
    let Runs { runs: of_others } = golden("optimizers.json");
    for run in runs.into_iter().chain(of_others) {
        let train = TrainPlan {
            lr: run.lr.clone(),
            optimizer: run.optimizer,
            epsilon: run.optimizer.epsilon(),
            weight_decay: run.weight_decay,
            clip: run.clip,
            ..adamw(run.losses.len(), batches[0].rows, "0")
        };
        // Whole, and in micro-batches of three rows and one.
        for micro_batch in [train.batch, 3] {
            let method =
                Fixed { method: dwt(&teacher, distill(2.0, 2.0), train.steps, &Device::flex()), batches: batches.clone() };
            let student = model("student", &student, &Device::flex().autodiff()).into();
            let after = format!("after-{}", run.name);
            let rates = hold_steps(&method, student, (&train, micro_batch), [&run.losses, &run.norms], &after);
            close(&rates, &run.rates, Kind::Float64);
        }
    }
}
