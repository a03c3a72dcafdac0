//! Llama, Qwen3 and SmolLM3: goldens by tests/golden/llama.py.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use upstill::batch::{Batch, TokenOrder};
use upstill::config::{DistillPlan, OptimizerKind, Positions, TrainPlan};
use upstill::device::{Compute, Kernels};
use upstill::methods::{Choice, Dwt, Generate, Method, ModelTeacher, generate_ids};
use upstill::model::{AnyModel, Dropout, Inputs, LanguageModel, LlamaShape, ModelFolder, RopeScaling, TrainedModel, Weights};
use upstill::train::{FitOptions, Flow, Learner, fit};

use super::training::{BatchCase, Fixed, GradientInPlace, after_steps, close_weights, distill, stand_in};
use super::{Expected, Places, golden, host, path, tokenizer, weights};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<ModelCase>,
    distillation: Distillation,
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
    prompt: Vec<u32>,
    /// What the model goes on with after the prompt.
    greedy: Vec<u32>,
}

#[derive(Deserialize)]
struct Distillation {
    teacher: Value,
    batches: Vec<BatchCase>,
    gradients: Vec<GradientCase>,
    /// Of twenty steps of the first student.
    losses: Vec<f64>,
    norms: Vec<f64>,
}

#[derive(Deserialize)]
struct GradientCase {
    name: String,
    config: Value,
    total: f64,
    hard: f64,
    soft: f64,
}

/// A golden model, read from a folder as `transformers` leaves it, tokenizer apart.
fn model(name: &str, config: &Value, device: &Device) -> AnyModel {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(path(&format!("llama-{name}.safetensors")), dir.path().join("model.safetensors")).unwrap();
    let folder = ModelFolder::open(dir.path()).unwrap();
    assert_eq!(folder.architecture, config["model_type"], "{name}");
    let inventory = folder.inventory(&folder.tensors().unwrap());
    assert!(inventory.has_head() && inventory.missing.is_empty() && inventory.left_over.is_empty(), "{name}: {inventory:?}");
    folder.load(device).unwrap()
}

impl ModelCase {
    fn length(&self) -> usize {
        self.ids.len() / self.rows
    }

    fn real(&self, row: usize) -> usize {
        self.mask[row * self.length()..][..self.length()].iter().sum::<i32>() as usize
    }

    /// The rows, of which nothing says that they are read in order: the model does that itself.
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
fn logits_of_causal_models_are_those_of_transformers_padded_and_packed() {
    let device = Device::flex();
    for case in golden::<Golden>("llama.json").cases {
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
fn a_software_gpus_logits_and_text_of_causal_models_are_those_of_transformers() {
    let gpu = crate::common::gpu();
    for case in golden::<Golden>("llama.json").cases {
        eprintln!("{}", case.name);
        let model = model(&case.name, &case.config, &gpu.handle);
        let at = Places::new(&case.at, &gpu.handle);
        close(&host(model.logits(&case.inputs(&Compute::of(&gpu.handle)), &at, &mut Dropout::off())), &case.logits, Kind::Logits);
        assert_eq!(greedy(&model, &case, &gpu.handle), case.greedy);
    }
}

fn greedy(model: &AnyModel, case: &ModelCase, device: &Device) -> Vec<u32> {
    let options = Generate { tokens: case.greedy.len(), choice: Choice::GREEDY, seed: 0 };
    let mut told = Vec::new();
    let mut each = |id| {
        told.push(id);
        Ok(())
    };
    let known = model.shape().vocab_size();
    let found = generate_ids(model, &case.prompt, None, known, &options, device, &mut each).unwrap();
    assert_eq!(found, told);
    found
}

#[test]
fn what_a_model_goes_on_with_is_what_it_goes_on_with_in_transformers() {
    let device = Device::flex();
    for case in golden::<Golden>("llama.json").cases {
        let model = model(&case.name, &case.config, &device);
        assert_eq!(greedy(&model, &case, &device), case.greedy, "{}", case.name);
        // And what it says of a row that is read as a whole.
        let row: Vec<i32> = case.prompt.iter().chain(&case.greedy).map(|&id| id as i32).collect();
        let positions: Vec<i32> = (0..row.len() as i32).collect();
        let inputs = Inputs::new(&row, &positions, &vec![1; row.len()], 1, &Compute::of(&device));
        let at: Vec<i32> = (case.prompt.len() as i32 - 1..row.len() as i32 - 1).collect();
        let likeliest = model.logits(&inputs, &Places::new(&at, &device), &mut Dropout::off()).argmax(1);
        let likeliest: Vec<u32> = likeliest.into_data().iter::<i64>().map(|id| id as u32).collect();
        assert_eq!(likeliest, case.greedy, "{}", case.name);
    }
}

fn causal(batch: BatchCase) -> Batch {
    Batch { order: TokenOrder::Causal, ..batch.batch() }
}

fn taught_by(teacher: AnyModel, device: &Device) -> Dwt {
    let data = stand_in(teacher.shape().vocab_size(), device);
    let plan = DistillPlan { positions: Positions::Masked, ..distill(2.0, 2.0) };
    Dwt::new(data, plan, 20, Box::new(ModelTeacher::new(teacher)))
}

#[test]
fn causal_students_have_pytorchs_losses_and_gradients() {
    let device = Device::flex();
    let Distillation { teacher, batches, gradients, .. } = golden::<Golden>("llama.json").distillation;
    let batch = causal(batches[0].clone());
    for case in gradients {
        eprintln!("{}", case.name);
        let method = taught_by(model("teacher", &teacher, &device), &device);
        let student = TrainedModel::from(model(&format!("student-{}", case.name), &case.config, &device.clone().autodiff()));
        let (at, whole) = (method.settings(0), method.size(&batch));
        let loss = method.losses(&[&student], &batch, &at, whole, &mut [Dropout::off()]).unwrap().remove(0);
        let numbers =
            [loss.total.clone(), loss.hard.clone(), loss.soft[0].clone().unwrap()].map(|loss| loss.into_scalar::<f32>());
        close(&numbers, &[case.total, case.hard, case.soft], Kind::LossCpu);
        let gradients = GradientsParams::from_grads(loss.total.backward(), &student);
        let found = Weights::of(&student.map(&mut GradientInPlace(gradients)));
        close_weights("gradients", &found, &weights(&format!("llama-gradients-{}", case.name)), |_| Kind::GradientCpu);
    }
}

#[test]
fn twenty_steps_of_a_causal_student_are_pytorchs() {
    let device = Device::flex();
    let Distillation { teacher, batches, gradients, losses, norms } = golden::<Golden>("llama.json").distillation;
    let batches: Vec<Batch> = batches.into_iter().map(causal).collect();
    let train = TrainPlan {
        steps: losses.len() as u64,
        batch: batches[0].rows,
        batch_schedule: None,
        lr: "0 -> 2e-3 over 5 steps, then -> 0 linear".parse().unwrap(),
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
    };
    let student = &gradients[0];
    for micro_batch in [train.batch, 3] {
        let method = Fixed { method: taught_by(model("teacher", &teacher, &device), &device), batches: batches.clone() };
        let model = model(&format!("student-{}", student.name), &student.config, &device.clone().autodiff());
        let options = FitOptions { train: &train, micro_batch, done: 0, evaluated: None, worker: None };
        let mut records = Vec::new();
        let trained = fit(&method, vec![Learner::new(model, &train, 0.0, 1)], &options, |record, _| {
            records.push(record.clone());
            Ok(Flow::Continue)
        });
        close(&records.iter().map(|record| record.loss).collect::<Vec<_>>(), &losses, Kind::LossAfterSteps);
        close(&records.iter().map(|record| record.grad_norm).collect::<Vec<_>>(), &norms, Kind::LossAfterSteps);
        close_weights("after 20 steps", &Weights::of(&trained.unwrap()[0].model), &weights("llama-after"), after_steps);
    }
}

/// Leaves models in target/tmp/export-llama, -qwen3 and -smollm3, with ids and logits in `expected.json`, for
/// tests/golden/check_export.py.
#[test]
fn an_exported_causal_model_is_the_same_model_and_exports_to_the_same_bytes() {
    let (device, tokenizer) = (Device::flex(), tokenizer("cased"));
    let usual = LlamaShape { kv_heads: 2, ..LlamaShape::new(tokenizer.vocab_size(), 16, 3, 4, 512) };
    let scaling = RopeScaling { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 128 };
    for (name, shape) in [
        ("llama", LlamaShape { tied: false, rope_scaling: Some(scaling), attention_bias: true, ..usual.clone() }),
        ("qwen3", LlamaShape { qk_norm: true, head_dim: 6, ..usual.clone() }),
        ("smollm3", LlamaShape { no_rope_every: 2, mlp_bias: true, ..usual }),
    ] {
        let model: AnyModel = shape.init(5, 0.5, &device).into();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("export-{name}"));
        ModelFolder::write(&folder, &model, &tokenizer).unwrap();
        let opened = ModelFolder::open(&folder).unwrap();
        let loaded = opened.load(&device).unwrap();
        assert_eq!((opened.shape.clone(), opened.architecture), (model.shape(), name));
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
}
