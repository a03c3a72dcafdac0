//! ModernBERT: goldens by tests/golden/modernbert.py.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use upstill::config::{DistillPlan, OptimizerKind, Positions, TrainPlan};
use upstill::device::{Compute, Kernels};
use upstill::methods::{Dwt, EncodedTask, Finetune, Method, ModelLoss, ModelTeacher};
use upstill::model::{
    AnyModel, BertShape, Classifier, Dropout, Inputs, LanguageModel, ModelFolder, Shape, TrainedModel, Weights,
};
use upstill::tasks::{Example, Kind as Asks, Label, Metric, Split, Task};
use upstill::tokens::Tokenizer;
use upstill::train::{FitOptions, Flow, Learner, fit};

use super::training::{BatchCase, Fixed, GradientInPlace, after_steps, close_weights, distill, stand_in};
use super::{Expected, Places, golden, host, path, tokenizer, weights};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<ModelCase>,
    distillation: Distillation,
    tunings: Vec<TuningCase>,
}

#[derive(Deserialize)]
struct ModelCase {
    name: String,
    config: Value,
    rows: usize,
    ids: Vec<i32>,
    /// 1 for a real token, 0 for padding, which ends a row.
    mask: Vec<i32>,
    /// Flattened positions where the logits are.
    at: Vec<i32>,
    logits: Vec<f64>,
}

#[derive(Deserialize)]
struct Distillation {
    config: Value,
    gradient: Losses,
    reverse: Losses,
    losses: Vec<f64>,
    norms: Vec<f64>,
}

#[derive(Deserialize)]
struct Losses {
    total: f64,
    hard: f64,
    soft: f64,
}

#[derive(Deserialize)]
struct TuningCase {
    name: String,
    config: Value,
    first: Vec<String>,
    labels: Vec<usize>,
    logits: Vec<f64>,
    losses: Vec<f64>,
    norms: Vec<f64>,
}

/// The shape that upstill reads from a `config.json`.
fn shape_of(config: &Value) -> Shape {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    ModelFolder::open(dir.path()).unwrap().shape
}

/// A golden model, read from a folder as `transformers` leaves it, tokenizer apart.
fn model(name: &str, config: &Value, device: &Device) -> AnyModel {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(path(&format!("modernbert-{name}.safetensors")), dir.path().join("model.safetensors")).unwrap();
    ModelFolder::open(dir.path()).unwrap().load(device).unwrap()
}

impl ModelCase {
    fn length(&self) -> usize {
        self.ids.len() / self.rows
    }

    fn real(&self, row: usize) -> usize {
        self.mask[row * self.length()..][..self.length()].iter().sum::<i32>() as usize
    }

    fn inputs(&self, compute: &Compute) -> Inputs {
        let positions: Vec<i32> = (0..self.rows).flat_map(|_| 0..self.length() as i32).collect();
        Inputs::new(&self.ids, &positions, &self.mask, self.rows, compute)
    }

    /// All rows without their padding, one after another in one row, and where the slots are then.
    fn packed(&self, compute: &Compute) -> (Inputs, Vec<i32>) {
        let (mut ids, mut positions, mut segments, mut starts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in 0..self.rows {
            let real = self.real(row);
            starts.push(ids.len());
            ids.extend_from_slice(&self.ids[row * self.length()..][..real]);
            positions.extend(0..real as i32);
            segments.extend(vec![row as i32 + 1; real]);
        }
        let at = self.at.iter().map(|&at| (starts[at as usize / self.length()] + at as usize % self.length()) as i32);
        let at = at.collect();
        (Inputs::new(&ids, &positions, &segments, 1, compute), at)
    }
}

#[test]
fn logits_are_those_of_transformers_padded_and_packed() {
    let device = Device::flex();
    for case in golden::<Golden>("modernbert.json").cases {
        let model = model(&case.name, &case.config, &device);
        for form in [Kernels::Composed, Kernels::Fused] {
            eprintln!("{} by {form} kernels", case.name);
            let compute = Compute::of(&device).by(form);
            let logits = |inputs: &Inputs, at: &[i32]| host(model.logits(inputs, &Places::new(at, &device), &mut Dropout::off()));
            close(&logits(&case.inputs(&compute), &case.at), &case.logits, Kind::Logits);
            let (packed, at) = case.packed(&compute);
            close(&logits(&packed, &at), &case.logits, Kind::Logits);
        }
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpus_logits_of_modernbert_are_those_of_transformers() {
    let gpu = crate::common::gpu();
    for case in golden::<Golden>("modernbert.json").cases {
        eprintln!("{}", case.name);
        let model = model(&case.name, &case.config, &gpu.handle);
        let at = Places::new(&case.at, &gpu.handle);
        close(&host(model.logits(&case.inputs(&Compute::of(&gpu.handle)), &at, &mut Dropout::off())), &case.logits, Kind::Logits);
    }
}

/// States of all positions are those at asked ones, and a model without its padding is the same model to rounding.
#[test]
fn padding_changes_no_logits_of_modernbert() {
    let (device, compute) = (Device::flex(), Compute::of(&Device::flex()));
    for case in golden::<Golden>("modernbert.json").cases {
        let model = model(&case.name, &case.config, &device);
        let vocab = model.shape().vocab_size();
        for row in 0..case.rows {
            let (real, length) = (case.real(row), case.length());
            let slots: Vec<usize> = (0..case.at.len()).filter(|&slot| case.at[slot] as usize / length == row).collect();
            let at: Vec<i32> = slots.iter().map(|&slot| case.at[slot] % length as i32).collect();
            let ids = &case.ids[row * length..][..real];
            let positions: Vec<i32> = (0..real as i32).collect();
            let inputs = Inputs::new(ids, &positions, &vec![1; real], 1, &compute);
            let wanted = &case.logits[slots[0] * vocab..(slots[0] + slots.len()) * vocab];
            eprintln!("{}, row {row} without its padding", case.name);
            close(&host(model.logits(&inputs, &Places::new(&at, &device), &mut Dropout::off())), wanted, Kind::Logits);
        }
    }
}

fn taught_by(teacher: AnyModel, device: &Device) -> Dwt {
    let data = stand_in(teacher.shape().vocab_size(), device);
    let plan = DistillPlan { positions: Positions::Masked, ..distill(2.0, 2.0) };
    Dwt::new(data, plan, 20, Box::new(ModelTeacher::new(teacher)))
}

#[derive(Deserialize)]
struct OfBert {
    student: BertShape,
    teacher: BertShape,
    batches: Vec<BatchCase>,
}

/// The BERTs and the batches of make.py.
fn of_bert(device: &Device) -> (AnyModel, AnyModel, Vec<upstill::batch::Batch>) {
    let OfBert { student, teacher, batches } = golden("distillation.json");
    let model = |name: &str, shape: &BertShape, device: &Device| super::model(name, shape, device);
    let batches = batches.into_iter().map(BatchCase::batch).collect();
    (model("student", &student, &device.clone().autodiff()), model("teacher", &teacher, device), batches)
}

fn losses_of(method: &Dwt, student: &TrainedModel, batch: &upstill::batch::Batch) -> ModelLoss {
    let (at, whole) = (method.settings(0), method.size(batch));
    method.losses(&[student], batch, &at, whole, &mut [Dropout::off()]).unwrap().remove(0)
}

fn numbers(loss: &ModelLoss) -> [f32; 3] {
    [loss.total.clone(), loss.hard.clone(), loss.soft[0].clone().unwrap()].map(|loss| loss.into_scalar::<f32>())
}

#[test]
fn a_modernbert_that_a_bert_teaches_has_pytorchs_losses_and_gradients() {
    let (device, Distillation { config, gradient, reverse, .. }) =
        (Device::flex(), golden::<Golden>("modernbert.json").distillation);
    let (bert_student, bert_teacher, batches) = of_bert(&device);
    let student = TrainedModel::from(model("student", &config, &device.clone().autodiff()));
    let loss = losses_of(&taught_by(bert_teacher, &device), &student, &batches[0]);
    close(&numbers(&loss), &[gradient.total, gradient.hard, gradient.soft], Kind::LossCpu);
    let gradients = GradientsParams::from_grads(loss.total.backward(), &student);
    let found = Weights::of(&student.map(&mut GradientInPlace(gradients)));
    close_weights("gradients", &found, &weights("modernbert-gradients"), |_| Kind::GradientCpu);

    let teacher = model("student", &config, &device);
    let loss = losses_of(&taught_by(teacher, &device), &bert_student.into(), &batches[0]);
    close(&numbers(&loss), &[reverse.total, reverse.hard, reverse.soft], Kind::LossCpu);
}

fn train_plan(steps: usize, batch: usize, lr: &str) -> TrainPlan {
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

#[test]
fn twenty_steps_of_modernbert_are_pytorchs() {
    let device = Device::flex();
    let Distillation { config, losses, norms, .. } = golden::<Golden>("modernbert.json").distillation;
    let (_, _, batches) = of_bert(&device);
    let train = train_plan(losses.len(), batches[0].rows, "0 -> 2e-3 over 5 steps, then -> 0 linear");
    for micro_batch in [train.batch, 3] {
        let (_, teacher, _) = of_bert(&device);
        let method = Fixed { method: taught_by(teacher, &device), batches: batches.clone() };
        let learner = Learner::new(model("student", &config, &device.clone().autodiff()), &train, 0.0, 1);
        let options = FitOptions { train: &train, micro_batch, done: 0, evaluated: None, worker: None };
        let mut records = Vec::new();
        let trained = fit(&method, vec![learner], &options, |record, _| {
            records.push(record.clone());
            Ok(Flow::Continue)
        });
        close(&records.iter().map(|record| record.loss).collect::<Vec<_>>(), &losses, Kind::LossAfterSteps);
        close(&records.iter().map(|record| record.grad_norm).collect::<Vec<_>>(), &norms, Kind::LossAfterSteps);
        let found = Weights::of(&trained.unwrap()[0].model);
        close_weights("after 20 steps", &found, &weights("modernbert-after"), after_steps);
    }
}

impl TuningCase {
    /// Trained and scored on the same examples.
    fn task(&self) -> Task {
        let examples = self.first.iter().zip(&self.labels);
        let examples: Vec<Example> =
            examples.map(|(text, &at)| Example { first: text.clone(), second: None, label: Label::Class(at) }).collect();
        Task {
            name: self.name.clone(),
            kind: Asks::Classification { classes: (0..3).map(|i: i32| i.to_string()).collect() },
            pair: false,
            metrics: vec![Metric::Accuracy],
            train: examples.clone(),
            dev: vec![Split { name: "dev".to_owned(), examples }],
            test: vec![],
            notes: vec![],
        }
    }
}

#[test]
fn twenty_steps_of_fine_tuning_modernbert_are_those_of_transformers() {
    let (tokenizer, device) = (tokenizer("uncased"), Device::flex());
    for case in golden::<Golden>("modernbert.json").tunings {
        let encoded = EncodedTask::new(&case.task(), &tokenizer, 14).unwrap();
        let method = Finetune::new(&encoded, case.labels.len(), 1, &device);
        let start = weights(&format!("modernbert-{}-start", case.name));
        let shape = shape_of(&case.config);
        let model = Classifier::start_from(&start, &shape, 3, 0.02, 1, &device.clone().autodiff()).unwrap();
        let model = start.load_into(model).unwrap();
        eprintln!("{}: logits", case.name);
        close(&method.predict_dev(&model).concat().concat(), &case.logits, Kind::Logits);

        let plan = TrainPlan {
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            ..train_plan(case.losses.len(), case.labels.len(), "1.25e-4 -> 0 linear")
        };
        let learner = Learner::new(model, &plan, 0.0, 1);
        let options = FitOptions { train: &plan, micro_batch: plan.batch, done: 0, evaluated: None, worker: None };
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
        close_weights(&case.name, &found, &weights(&format!("modernbert-{}-after", case.name)), after_steps);
    }
}

/// Leaves a model in target/tmp/export-modernbert, with ids and logits in `expected.json`, for
/// tests/golden/check_export.py.
#[test]
fn an_exported_modernbert_is_the_same_model_and_exports_to_the_same_bytes() {
    let device = Device::flex();
    let tokenizer: Tokenizer = tokenizer("cased");
    let shape = upstill::model::ModernBertShape {
        window: 8,
        global_every: 2,
        ..upstill::model::ModernBertShape::new(tokenizer.vocab_size(), 16, 3, 2, 512)
    };
    let model: AnyModel = shape.init(5, 0.5, &device).into();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("export-modernbert");
    ModelFolder::write(&folder, &model, &tokenizer).unwrap();
    let opened = ModelFolder::open(&folder).unwrap();
    let loaded = opened.load(&device).unwrap();
    assert_eq!((opened.shape.clone(), opened.architecture), (model.shape(), "modernbert"));
    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again");
    ModelFolder::write(&again, &loaded, &opened.tokenizer().unwrap()).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"] {
        assert_eq!(fs::read(folder.join(file)).unwrap(), fs::read(again.join(file)).unwrap(), "{file}");
    }
    let expected = Expected::of(&model, &tokenizer);
    assert_eq!(expected.logits, Expected::of(&loaded, &tokenizer).logits);
    fs::write(folder.join("expected.json"), serde_json::to_string(&expected).unwrap()).unwrap();
}

#[derive(Deserialize)]
struct Bpe {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    decoded: Vec<String>,
}

/// Goldens by tests/golden/bpe.py.
#[test]
fn ids_of_byte_level_bpe_are_those_of_transformers() {
    let Bpe { texts, ids, decoded } = golden("bpe.json");
    let read = Tokenizer::load(&path("bpe")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    read.save(dir.path()).unwrap();
    let saved = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(read.hash(), saved.hash());
    for tokenizer in [&read, &saved] {
        for ((text, ids), decoded) in texts.iter().zip(&ids).zip(&decoded) {
            assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text:?}");
            assert_eq!(&tokenizer.decode(ids), decoded, "{text:?}");
        }
    }
    let words: String = read
        .encode("unhappy cats, unhappily")
        .unwrap()
        .iter()
        .fold(String::new(), |all, &id| all + if read.continues_word(id) { "+" } else { " " } + read.token(id));
    assert!(words.contains(" Ġcat+s ,") && words.contains(" Ġ+u+nhap"), "{words}");
}
