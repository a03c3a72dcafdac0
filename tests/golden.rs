//! upstill's numbers are those of PyTorch and `transformers`: goldens by tests/golden/make.py,
//! tests/golden/finetune.py, tests/golden/cotrain.py, tests/golden/listening.py and tests/golden/bf16.py.

mod bf16;
mod causal;
mod choices;
mod families;
mod gguf;
mod listening;
mod modern;
mod pairs;
mod signals;
mod student;
mod together;
mod training;
mod tuning;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use upstill::config::Schedule;
use upstill::device::{Compute, Kernels};
use upstill::kernels::{DwtLoss, Logits, Places, Targets};
use upstill::loss::{dwt_loss, hard_loss, soft_loss};
use upstill::model::{AnyModel, BertShape, Dropout, Inputs, LanguageModel, Weights};
use upstill::tokens::Tokenizer;

use crate::close::{Kind, close};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn weights(name: &str) -> Weights {
    Weights::from_bytes(&fs::read(path(&format!("{name}.safetensors"))).unwrap()).unwrap()
}

/// A golden model, by Hugging Face's names.
fn model(name: &str, shape: &BertShape, device: &Device) -> AnyModel {
    weights(name).load_into(AnyModel::from(shape.init(0, 0.0, device))).unwrap()
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn ints(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

// --- losses

#[derive(Deserialize)]
struct Losses {
    slots: usize,
    vocab: usize,
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
    cases: Vec<LossCase>,
}

/// `hard * H + soft * S * (tau^2 when squared)`, a slot, and the gradient of its mean by the student's logits.
#[derive(Deserialize)]
struct LossCase {
    hard: f64,
    smoothing: f64,
    soft: f64,
    tau: f64,
    squared: bool,
    loss: Vec<f64>,
    gradient: Vec<f64>,
}

#[test]
fn losses_and_their_gradients_are_pytorchs() {
    let golden: Losses = golden("losses.json");
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let logits =
        |values: &[f32], device| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [golden.slots, golden.vocab]), device);
    for case in &golden.cases {
        let student_nv = logits(&golden.student, &tracked).require_grad();
        let loss = DwtLoss {
            alpha_hard: Some(case.hard),
            alpha_soft: Some(case.soft),
            temperature: case.tau,
            smoothing: case.smoothing,
            tau_squared: case.squared,
        };
        let hard_n = hard_loss(student_nv.clone(), ints(&golden.labels, &plain), case.smoothing);
        let soft_n = soft_loss(student_nv.clone(), logits(&golden.teacher, &plain), case.tau);
        let loss_n = hard_n * case.hard + soft_n * loss.soft_factor();
        let gradient_nv = student_nv.grad(&loss_n.clone().mean().backward()).unwrap();
        eprintln!("hard {} smoothing {} soft {} tau {} squared {}", case.hard, case.smoothing, case.soft, case.tau, case.squared);
        // The tolerances are those of a loss whose weight is 1.
        let unit = case.hard + loss.soft_factor();
        let unweighted = |values: &[f64]| values.iter().map(|value| value / unit).collect::<Vec<f64>>();
        close(&host(loss_n.inner() / unit), &unweighted(&case.loss), Kind::LossCpu);
        close(&host(gradient_nv / unit), &unweighted(&case.gradient), Kind::GradientCpu);
        let targets = Targets {
            labels_m: ints(&golden.labels, &plain),
            weights_m: Tensor::ones([golden.slots], &plain),
            count: golden.slots,
        };
        let mean = case.loss.iter().sum::<f64>() / golden.slots as f64;
        for form in [Kernels::Composed, Kernels::Fused] {
            let teacher = Logits::Whole(logits(&golden.teacher, &plain));
            let total =
                dwt_loss(Logits::Whole(student_nv.clone()), Some(teacher), &targets, &loss, &Compute::of(&plain).by(form)).total;
            let gradient_nv = student_nv.grad(&total.backward()).unwrap();
            close(&host(total.inner() / unit), &[mean / unit], Kind::LossCpu);
            close(&host(gradient_nv / unit), &unweighted(&case.gradient), Kind::GradientCpu);
        }
    }
}

// --- models

#[derive(Deserialize)]
struct Models {
    cases: Vec<ModelCase>,
}

#[derive(Deserialize)]
struct ModelCase {
    name: String,
    shape: BertShape,
    rows: usize,
    ids: Vec<i32>,
    /// 1 for a real token, 0 for padding, which ends a row.
    mask: Vec<i32>,
    types: Option<Vec<i32>>,
    /// Flattened positions where the logits are.
    at: Vec<i32>,
    logits: Vec<f64>,
}

impl ModelCase {
    fn length(&self) -> usize {
        self.ids.len() / self.rows
    }

    /// Some rows, cut to some length.
    fn inputs(&self, rows: std::ops::Range<usize>, length: usize, device: &Device) -> Inputs {
        let cut = |values: &[i32]| {
            let row = |row: usize| values[row * self.length()..row * self.length() + length].to_vec();
            rows.clone().flat_map(row).collect::<Vec<i32>>()
        };
        let positions: Vec<i32> = rows.clone().flat_map(|_| 0..length as i32).collect();
        let inputs = Inputs::new(&cut(&self.ids), &positions, &cut(&self.mask), rows.len(), &Compute::of(device));
        match &self.types {
            Some(types) => inputs.with_types(&cut(types)),
            None => inputs,
        }
    }
}

#[test]
fn logits_are_those_of_transformers() {
    logits_on(&Device::flex());
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpus_logits_are_those_of_transformers() {
    let gpu = crate::common::gpu();
    logits_on(&gpu.handle);
}

fn logits_on(device: &Device) {
    for case in golden::<Models>("models.json").cases {
        eprintln!("{}", case.name);
        let model = model(&format!("model-{}", case.name), &case.shape, device);
        let inputs = case.inputs(0..case.rows, case.length(), device);
        let logits = model.logits(&inputs, &Places::new(&case.at, device), &mut Dropout::off());
        close(&host(logits), &case.logits, Kind::Logits);
    }
}

#[test]
fn padding_changes_no_logits() {
    let device = Device::flex();
    for case in golden::<Models>("models.json").cases {
        let (length, vocab) = (case.length(), case.shape.vocab_size);
        let model = model(&format!("model-{}", case.name), &case.shape, &device);
        for row in 0..case.rows {
            let real = case.mask[row * length..(row + 1) * length].iter().sum::<i32>() as usize;
            let slots: Vec<usize> = (0..case.at.len()).filter(|&slot| case.at[slot] as usize / length == row).collect();
            let at: Vec<i32> = slots.iter().map(|&slot| case.at[slot] % length as i32).collect();
            let wanted = &case.logits[slots[0] * vocab..(slots[0] + slots.len()) * vocab];
            let inputs = case.inputs(row..row + 1, real, &device);
            eprintln!("{}, row {row} without its padding", case.name);
            close(&host(model.logits(&inputs, &Places::new(&at, &device), &mut Dropout::off())), wanted, Kind::Logits);
        }
    }
}

// --- schedules

#[derive(Deserialize)]
struct Schedules {
    cases: Vec<ScheduleCase>,
}

#[derive(Deserialize)]
struct ScheduleCase {
    peak: f64,
    warmup: u64,
    total: u64,
    values: Vec<f64>,
}

#[test]
fn warm_up_and_decay_are_those_of_transformers() {
    for ScheduleCase { peak, warmup, total, values } in golden::<Schedules>("schedules.json").cases {
        let schedule: Schedule = format!("0 -> {peak} over {warmup} steps, then -> 0 linear").parse().unwrap();
        eprintln!("{schedule}, {total} steps");
        close(&(0..total).map(|step| schedule.at(step, total)).collect::<Vec<f64>>(), &values, Kind::Float64);
    }
}

// --- tokens

#[derive(Deserialize)]
struct Tokens {
    texts: Vec<String>,
    uncased: Vec<Vec<u32>>,
    cased: Vec<Vec<u32>>,
    accented: Vec<Vec<u32>>,
}

/// BERT's tokenizer over a golden vocabulary, or another over the cased one.
fn tokenizer(name: &str) -> Tokenizer {
    let normalizer = match name {
        "accented" => serde_json::json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false, "strip_accents": false, "lowercase": true
        }),
        "lower case alone" => serde_json::json!({"type": "Lowercase"}),
        "added tokens" => return with_added_tokens(),
        _ => return Tokenizer::load(&path(name)).unwrap(),
    };
    let dir = tempfile::tempdir().unwrap();
    tokenizer("cased").save(dir.path()).unwrap();
    // Its settings would go before what tokenizer.json says.
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    let file = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    json["normalizer"] = normalizer;
    fs::write(&file, json.to_string()).unwrap();
    Tokenizer::load(&file).unwrap()
}

/// Over the cased vocabulary, with a token of its own that is found whole and one that is new.
fn with_added_tokens() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    tokenizer("cased").save(dir.path()).unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let file = dir.path().join("tokenizer_config.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    json["strip_accents"] = true.into();
    json["additional_special_tokens"] = serde_json::json!(["cat", "<URL>", "://"]);
    fs::write(&file, json.to_string()).unwrap();
    Tokenizer::load(dir.path()).unwrap()
}

#[test]
fn ids_are_those_of_transformers() {
    let golden: Tokens = golden("tokens.json");
    let dir = tempfile::tempdir().unwrap();
    for (name, wanted) in [("uncased", &golden.uncased), ("cased", &golden.cased), ("accented", &golden.accented)] {
        let read = tokenizer(name);
        read.save(&dir.path().join(name)).unwrap();
        let saved = Tokenizer::load(&dir.path().join(name)).unwrap();
        assert_eq!(read.hash(), saved.hash());
        for (text, ids) in golden.texts.iter().zip(wanted) {
            for tokenizer in [&read, &saved] {
                let found = tokenizer.encode(text).unwrap();
                let show = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token(id)).collect::<Vec<_>>().join(" ");
                assert_eq!(&found, ids, "{name}, {text:?}:\n{}\nwanted\n{}", show(&found), show(ids));
            }
        }
    }
}

/// `transformers` 5 rebuilds BERT's tokenizer from these settings.
#[test]
fn the_settings_tell_transformers_how_text_is_normalised() {
    let dir = tempfile::tempdir().unwrap();
    let settings = |name: &str| {
        tokenizer(name).save(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap();
        let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
        ["tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars"]
            .map(|key| settings[key].to_string())
            .join(" ")
    };
    assert_eq!(settings("uncased"), "\"BertTokenizer\" true null true");
    assert_eq!(settings("cased"), "\"BertTokenizer\" false null true");
    assert_eq!(settings("accented"), "\"BertTokenizer\" true false false");
    assert_eq!(settings("lower case alone"), "\"PreTrainedTokenizerFast\" null null null");
}

// --- export

/// Leaves models in target/tmp/export-*, with ids and logits in `expected.json`, for tests/golden/check_export.py.
#[test]
fn an_exported_model_is_the_same_model_and_exports_to_the_same_bytes() {
    let device = Device::flex();
    for name in ["uncased", "cased", "accented", "lower case alone", "added tokens"] {
        let tokenizer = tokenizer(name);
        let model: AnyModel = BertShape::new(tokenizer.vocab_size(), 16, 2, 2, 512).init(5, 0.5, &device).into();
        families::hold_export(&name.replace(' ', "-"), "bert", &model, &tokenizer);
    }
}

/// What check_export.py compares with.
#[derive(Default, Serialize)]
struct Expected {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    /// At `[CLS]`, then at `[SEP]`.
    logits: Vec<Vec<f32>>,
}

impl Expected {
    /// What a model on the CPU says of the hostile texts.
    fn of(model: &AnyModel, tokenizer: &Tokenizer) -> Self {
        let device = Device::flex();
        let mut expected = Expected { texts: golden::<Tokens>("tokens.json").texts, ..Expected::default() };
        for text in &expected.texts {
            let (ids, special) = (tokenizer.encode(text).unwrap(), tokenizer.special());
            let row: Vec<i32> = [special.cls].iter().chain(&ids).chain(&[special.sep]).map(|&id| id as i32).collect();
            let last = row.len() as i32 - 1;
            let inputs = Inputs::new(&row, &(0..=last).collect::<Vec<_>>(), &vec![1; row.len()], 1, &Compute::of(&device));
            expected.logits.push(host(model.logits(&inputs, &Places::new(&[0, last], &device), &mut Dropout::off())));
            expected.ids.push(ids);
        }
        expected
    }
}
