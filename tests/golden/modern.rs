//! ModernBERT: goldens by tests/golden/modernbert.py.

use std::fs;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use upstill::methods::{EncodedTask, Finetune};
use upstill::model::{AnyModel, BertShape, Classifier, ModelFolder, ModernBertShape, Shape};
use upstill::tasks::{Example, Kind as Asks, Label};
use upstill::tokens::Tokenizer;

use super::families::{self, ModelCase, hold_export, taught_by};
use super::training::{BatchCase, Fixed, Losses, adamw, hold_losses, hold_steps};
use super::tuning::{task, tuning};
use super::{golden, path, tokenizer, weights};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<ModelCase>,
    distillation: Distillation,
    tunings: Vec<TuningCase>,
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

fn model(name: &str, config: &Value, device: &Device) -> AnyModel {
    families::model("modernbert", name, config, device)
}

#[test]
fn logits_are_those_of_transformers_padded_and_packed() {
    for case in golden::<Golden>("modernbert.json").cases {
        case.hold(&model(&case.name, &case.config, &Device::flex()));
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpus_logits_of_modernbert_are_those_of_transformers() {
    let gpu = crate::common::gpu();
    for case in golden::<Golden>("modernbert.json").cases {
        case.hold_padded(&model(&case.name, &case.config, &gpu.handle), &gpu.handle);
    }
}

#[test]
fn padding_changes_no_logits_of_modernbert() {
    for case in golden::<Golden>("modernbert.json").cases {
        case.hold_rows(&model(&case.name, &case.config, &Device::flex()));
    }
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

#[test]
fn a_modernbert_that_a_bert_teaches_has_pytorchs_losses_and_gradients() {
    let (device, Distillation { config, gradient, reverse, .. }) =
        (Device::flex(), golden::<Golden>("modernbert.json").distillation);
    let (bert_student, bert_teacher, batches) = of_bert(&device);
    let student = model("student", &config, &device.clone().autodiff());
    let kinds = [Kind::LossCpu, Kind::GradientCpu];
    let method = taught_by(bert_teacher, &device);
    hold_losses(&method, student.into(), &batches[0], gradient, Some("modernbert-gradients"), kinds);
    let method = taught_by(model("student", &config, &device), &device);
    hold_losses(&method, bert_student.into(), &batches[0], reverse, None, kinds);
}

#[test]
fn twenty_steps_of_modernbert_are_pytorchs() {
    let device = Device::flex();
    let Distillation { config, losses, norms, .. } = golden::<Golden>("modernbert.json").distillation;
    let (_, _, batches) = of_bert(&device);
    let train = adamw(losses.len(), batches[0].rows, "0 -> 2e-3 over 5 steps, then -> 0 linear");
    for micro_batch in [train.batch, 3] {
        let (_, teacher, _) = of_bert(&device);
        let method = Fixed { method: taught_by(teacher, &device), batches: batches.clone() };
        let student = model("student", &config, &device.clone().autodiff());
        hold_steps(&method, student.into(), (&train, micro_batch), [&losses, &norms], "modernbert-after");
    }
}

#[test]
fn twenty_steps_of_fine_tuning_modernbert_are_those_of_transformers() {
    let (tokenizer, device) = (tokenizer("uncased"), Device::flex());
    for case in golden::<Golden>("modernbert.json").tunings {
        let (classes, batch) = ((0..3).map(|i: i32| i.to_string()).collect(), case.labels.len());
        let example = |(text, &at): (&String, &usize)| Example { first: text.clone(), second: None, label: Label::Class(at) };
        let examples = case.first.iter().zip(&case.labels).map(example).collect();
        let task = task(&case.name, Asks::Classification { classes }, examples);
        let encoded = EncodedTask::new(&task, &tokenizer, 14).unwrap();
        let method = Finetune::new(&encoded, batch, 1, &device);
        let start = weights(&format!("modernbert-{}-start", case.name));
        let shape = shape_of(&case.config);
        let model = Classifier::start_from(&start, &shape, 3, 0.02, 1, &device.clone().autodiff()).unwrap();
        let model = start.load_into(model).unwrap();
        eprintln!("{}: logits", case.name);
        close(&method.predict_dev(&model).concat().concat(), &case.logits, Kind::Logits);

        let plan = tuning(case.losses.len(), batch, "1.25e-4 -> 0 linear");
        let after = format!("modernbert-{}-after", case.name);
        hold_steps(&method, model, (&plan, batch), [&case.losses, &case.norms], &after);
    }
}

#[test]
fn an_exported_modernbert_is_the_same_model_and_exports_to_the_same_bytes() {
    let tokenizer = tokenizer("cased");
    let shape = ModernBertShape { window: 8, global_every: 2, ..ModernBertShape::new(tokenizer.vocab_size(), 16, 3, 2, 512) };
    let model: AnyModel = shape.init(5, 0.5, &Device::flex()).into();
    hold_export("modernbert", "modernbert", &model, &tokenizer);
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
