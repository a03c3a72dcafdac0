//! Models that teach each other: losses, gradients and twenty steps are PyTorch's (tests/golden/cotrain.py).

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::Deserialize;
use upstill::batch::Batch;
use upstill::config::{DistillPlan, LearnerPlan, ModelPlan, OptimizerKind, Positions, SourcePlan, TrainPlan};
use upstill::methods::{Cotrain, Method, ModelTeacher, Teacher};
use upstill::model::{BertShape, Dropout, TrainedModel, Weights};
use upstill::optim::Optimizer;
use upstill::train::{FitOptions, Flow, Learner, fit};

use super::training::{BatchCase, Fixed, GradientInPlace, adamw, after_steps, close_weights, distill, stand_in};
use super::{golden, model, weights};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Together {
    shapes: BTreeMap<String, BertShape>,
    teacher: BertShape,
    batches: Vec<BatchCase>,
    cases: Vec<Case>,
    losses: BTreeMap<String, Vec<f64>>,
    norms: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    from: BTreeMap<String, BTreeMap<String, f64>>,
    positions: Positions,
    hard: f64,
    tau: f64,
    squared: bool,
    teacher: bool,
    losses: BTreeMap<String, Losses>,
}

#[derive(Deserialize)]
struct Losses {
    total: f64,
    hard: f64,
    soft: BTreeMap<String, f64>,
}

/// The models of a case by name, each with its sources by name.
fn learners(shapes: &BTreeMap<String, BertShape>, case: &Case) -> Vec<LearnerPlan> {
    let learner = |(name, from): (&String, &BTreeMap<String, f64>)| {
        let shape = &shapes[name];
        let source = |(name, alpha): (&String, &f64)| SourcePlan {
            name: name.clone(),
            soft: (*alpha).into(),
            temperature: case.tau.into(),
        };
        LearnerPlan {
            name: name.clone(),
            seed: 1,
            hard: case.hard.into(),
            lr: 1e-3.into(),
            optimizer: OptimizerKind::Adam,
            epsilon: 1e-6,
            weight_decay: 0.0,
            clip: 0.0,
            from: from.iter().map(source).collect(),
            model: ModelPlan { shape: shape.clone().into(), dropout: 0.0, initializer_range: 0.02 },
        }
    };
    case.from.iter().map(learner).collect()
}

fn method(golden: &Together, case: &Case, steps: u64) -> Cotrain {
    let device = Device::flex();
    let teacher =
        case.teacher.then(|| -> Box<dyn Teacher> { Box::new(ModelTeacher::new(model("teacher", &golden.teacher, &device))) });
    let plan = DistillPlan { tau_squared: case.squared, positions: case.positions, ..distill(1.0, case.tau) };
    let data = stand_in(golden.teacher.vocab_size, &device);
    Cotrain::new(data, plan, learners(&golden.shapes, case), steps, teacher)
}

fn trainable(golden: &Together, name: &str) -> TrainedModel {
    model(&format!("together-{name}"), &golden.shapes[name], &Device::flex().autodiff()).into()
}

#[test]
fn losses_by_direction_and_their_gradients_are_pytorchs() {
    let mut found: Together = golden("cotrain.json");
    let batch = found.batches.remove(0).batch();
    for case in &found.cases {
        let method = method(&found, case, 1);
        let models: Vec<TrainedModel> = case.from.keys().map(|name| trainable(&found, name)).collect();
        let borrowed: Vec<&TrainedModel> = models.iter().collect();
        let mut dropout = vec![Dropout::off(); models.len()];
        let (at, size) = (method.settings(0), method.size(&batch));
        let losses = method.losses(&borrowed, &batch, &at, size, &mut dropout).unwrap();
        for (((name, wanted), model), loss) in case.losses.iter().zip(&models).zip(losses) {
            let what = format!("{}, {name}", case.name);
            eprintln!("{what}: total, hard and soft losses");
            let parts = [loss.total.clone(), loss.hard].into_iter().chain(loss.soft.into_iter().map(Option::unwrap));
            let read: Vec<f32> = parts.map(|part| part.into_scalar::<f32>()).collect();
            let wanted: Vec<f64> = [wanted.total, wanted.hard].into_iter().chain(wanted.soft.values().copied()).collect();
            close(&read, &wanted, Kind::LossCpu);
            let gradients = GradientsParams::from_grads(loss.total.backward(), model);
            let by_name = Weights::of(&model.clone().map(&mut GradientInPlace(gradients)));
            let wanted = weights(&format!("together-{}-{name}", case.name));
            close_weights(&what, &by_name, &wanted, |_| Kind::GradientCpu);
        }
    }
}

#[test]
fn twenty_steps_with_an_optimizer_each_are_pytorchs() {
    let mut found: Together = golden("cotrain.json");
    let batches: Vec<Batch> = found.batches.drain(..).map(BatchCase::batch).collect();
    let case = found.cases.iter().find(|case| case.name == "mutual").unwrap();
    let train = TrainPlan { optimizer: OptimizerKind::Adam, weight_decay: 0.0, clip: 0.5, ..adamw(20, batches[0].rows, "1e-3") };
    let small = TrainPlan { lr: 2e-3.into(), optimizer: OptimizerKind::AdamW, weight_decay: 0.1, clip: 0.0, ..train.clone() };
    for micro_batch in [train.batch, 3] {
        let learner = |name: &str, own: &TrainPlan| Learner {
            name: name.to_owned(),
            optimizer: Optimizer::new(own),
            ..Learner::new(trainable(&found, name), own, 0.0, 1)
        };
        let method = Fixed { method: method(&found, case, train.steps), batches: batches.clone() };
        let options = FitOptions { train: &train, micro_batch, done: 0, evaluated: None, worker: None };
        let mut records = Vec::new();
        let learners = vec![learner("large", &train), learner("small", &small)];
        let trained = fit(&method, learners, &options, |record, _| {
            records.push(record.clone());
            Ok(Flow::Continue)
        });
        for (place, learner) in trained.unwrap().iter().enumerate() {
            let what = format!("{} in micro-batches of {micro_batch}", learner.name);
            eprintln!("{what}: losses, norms");
            let of = |pick: fn(&upstill::log::ModelRecord) -> f64| -> Vec<f64> {
                records.iter().map(|record| pick(&record.models[place])).collect()
            };
            close(&of(|own| own.loss), &found.losses[&learner.name], Kind::LossAfterSteps);
            close(&of(|own| own.grad_norm), &found.norms[&learner.name], Kind::LossAfterSteps);
            let wanted = weights(&format!("together-after-{}", learner.name));
            close_weights(&what, &Weights::of(&learner.model), &wanted, after_steps);
        }
    }
}
