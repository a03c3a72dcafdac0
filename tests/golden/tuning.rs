//! Fine-tuning, step by step: goldens by tests/golden/finetune.py.

use burn::tensor::Device;
use serde::Deserialize;
use upstill::config::TrainPlan;
use upstill::methods::{EncodedTask, Finetune};
use upstill::model::{BertShape, Classifier};
use upstill::tasks::{Example, Kind as Asks, Label, Metric, Split, Task};

use super::training::{adamw, hold_steps};
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
    fn task(&self) -> Task {
        let kind = match self.outputs {
            1 => Asks::Regression { low: 0.0, high: 5.0 },
            n => Asks::Classification { classes: (0..n).map(|i| i.to_string()).collect() },
        };
        let label = |at: f64| if self.outputs == 1 { Label::Score(at) } else { Label::Class(at as usize) };
        let example = |at: usize| Example {
            first: self.first[at].clone(),
            second: self.second.as_ref().map(|second| second[at].clone()),
            label: label(self.labels[at]),
        };
        task(&self.name, kind, (0..self.labels.len()).map(example).collect())
    }
}

/// A task that is trained and scored on the same examples.
pub(super) fn task(name: &str, kind: Asks, examples: Vec<Example>) -> Task {
    Task {
        name: name.to_owned(),
        kind,
        pair: examples[0].second.is_some(),
        metrics: vec![Metric::Accuracy],
        train: examples.clone(),
        dev: vec![Split { name: "dev".to_owned(), examples }],
        test: vec![],
        notes: vec![],
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

        let plan = tuning(steps as usize, batch, &format!("{lr} -> 0 linear"));
        let after = format!("finetune-{}-after", case.name);
        hold_steps(&method, model, (&plan, batch), [&case.losses, &case.norms], &after);
    }
}

/// AdamW as `transformers` fine-tunes with it.
pub(super) fn tuning(steps: usize, batch: usize, lr: &str) -> TrainPlan {
    TrainPlan { beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, clip: 1.0, ..adamw(steps, batch, lr) }
}
