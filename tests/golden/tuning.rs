//! Fine-tuning, step by step: goldens by tests/golden/finetune.py.

use burn::tensor::Device;
use serde::Deserialize;
use upstill::config::{OptimizerKind, TrainPlan};
use upstill::methods::{EncodedTask, Finetune};
use upstill::model::{BertShape, Classifier, Weights};
use upstill::tasks::{Example, Kind as Asks, Label, Metric, Split, Task};
use upstill::train::{FitOptions, Flow, Learner, fit};

use super::training::close_weights;
use super::{golden, tokenizer, weights};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Tunings {
    lr: f64,
    length: usize,
    steps: u64,
    cases: Vec<TuningCase>,
}

#[derive(Deserialize)]
struct TuningCase {
    name: String,
    outputs: usize,
    first: Vec<String>,
    second: Option<Vec<String>>,
    labels: Vec<f64>,
    logits: Vec<f64>,
    losses: Vec<f64>,
    norms: Vec<f64>,
}

impl TuningCase {
    /// Trained and scored on the same examples.
    fn task(&self) -> Task {
        let (kind, label): (Asks, fn(f64) -> Label) = match self.outputs {
            1 => (Asks::Regression { low: 0.0, high: 5.0 }, Label::Score),
            n => (Asks::Classification { classes: (0..n).map(|i| i.to_string()).collect() }, |at| Label::Class(at as usize)),
        };
        let example = |at: usize| Example {
            first: self.first[at].clone(),
            second: self.second.as_ref().map(|second| second[at].clone()),
            label: label(self.labels[at]),
        };
        let examples: Vec<Example> = (0..self.labels.len()).map(example).collect();
        Task {
            name: self.name.clone(),
            kind,
            pair: self.second.is_some(),
            metrics: vec![Metric::Accuracy],
            train: examples.clone(),
            dev: vec![Split { name: "dev".to_owned(), examples }],
            test: vec![],
            notes: vec![],
        }
    }
}

#[test]
fn twenty_steps_of_fine_tuning_are_those_of_transformers() {
    let Tunings { lr, length, steps, cases } = golden("finetune.json");
    let (tokenizer, device) = (tokenizer("uncased"), Device::flex());
    let shape = BertShape { intermediate: 16, ..BertShape::new(tokenizer.vocab_size(), 8, 2, 2, 16) };
    for case in cases {
        let encoded = EncodedTask::new(&case.task(), &tokenizer, length).unwrap();
        let batch = case.labels.len();
        let method = Finetune::new(&encoded, batch, 1, &device);
        let start = weights(&format!("finetune-{}-start", case.name));
        let fresh =
            Classifier::start_from(&start, &shape.clone().into(), case.outputs, 0.02, 1, &device.clone().autodiff()).unwrap();
        let model = start.load_into(fresh).unwrap();
        eprintln!("{}: logits", case.name);
        close(&method.predict_dev(&model).concat().concat(), &case.logits, Kind::Logits);

        let train = TrainPlan {
            steps,
            batch,
            batch_schedule: None,
            lr: format!("{lr} -> 0 linear").parse().unwrap(),
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
        };
        let learner = Learner::new(model, &train, 0.0, 1);
        let options = FitOptions { train: &train, micro_batch: batch, done: 0, evaluated: None, worker: None };
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        let trained = fit(&method, vec![learner], &options, |record, _| {
            losses.push(record.loss);
            norms.push(record.grad_norm);
            Ok(Flow::Continue)
        });
        eprintln!("{}: losses, norms", case.name);
        close(&losses, &case.losses, Kind::LossAfterSteps);
        close(&norms, &case.norms, Kind::LossAfterSteps);
        let found = Weights::of(&trained.unwrap()[0].model);
        close_weights(&case.name, &found, &weights(&format!("finetune-{}-after", case.name)), super::training::after_steps);
    }
}
