//! What a fixed set of small runs on the CPU comes to: the record that a change which is to change no numbers is held
//! to.
//!
//! `tests/record.json` has it as one machine computed it. Its losses of pre-training hold on any machine, within
//! rounding; its scores and hashes of weights hold on the processor that it names alone. Before a change,
//! `UPSTILL_RECORD=FILE cargo test --release --test all -- record` writes this machine's own record into a file that
//! isn't there; after it, the same command compares everything with that file, to the bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tempfile::tempdir;
use upstill::device::{Device, processor};
use upstill::log::{Console, StepRecord};
use upstill::model::{BertShape, ModelFolder, Weights};
use upstill::tasks::{Outputs, PocketSizes, SplitOptions, draw_pocket_task, split_for_transfer};
use upstill::text::pocket::words;
use upstill::tokens::{Shards, Tokenizer};
use upstill::train::transfer::{TransferOptions, train_transfer};
use upstill::train::{FinetuneOptions, Finetuning, Pretrained};

use crate::common::{plan, run, run_on, shards, steps};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Came {
    /// Losses, gradient norms, held-out losses and scores, in their order.
    numbers: Vec<f64>,
    /// blake3 of each model's weights.
    weights: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    processor: String,
    runs: BTreeMap<String, Came>,
}

const TEACHER: &str = "teacher";

/// Each run's name and what its plan sets, over the small plan of the tests.
const RUNS: [(&str, &[&str]); 13] = [
    (TEACHER, &["preset=standalone", "model.layers=1", "model.dropout=0.1"]),
    ("packed", &["preset=dwt-normal", "distill.positions=all", "model.dropout=0.1"]),
    ("sentence", &["preset=dwt-normal", "data.rows=sentence", "model.dropout=0.1"]),
    ("in parts", &["preset=dwt-decay", "runtime.micro_batch=3", "model.dropout=0.1"]),
    ("two workers", &["preset=dwt-normal", "distill.positions=all", "model.dropout=0.1", "runtime.workers=2"]),
    ("remapped", &["preset=dwt-normal", "distill.start=remap", "model.dropout=0.1"]),
    ("composed", &["preset=dwt-normal", "runtime.kernels=composed", "model.dropout=0.1", "train.steps=8"]),
    // By burn's operations: our own products are other instructions on each kind of processor.
    ("bf16", &["preset=dwt-normal", "runtime.precision=bf16", "runtime.kernels=composed", "model.dropout=0.1", "train.steps=8"]),
    ("f16", &["preset=standalone", "runtime.precision=f16", "train.steps=8"]),
    ("smoothed, rare words", &["preset=standalone", "distill.label_smoothing=0.1", "data.rarity=0.5", "data.whole_word=true"]),
    ("adamw", &["preset=standalone", "train.optimizer=adamw", "train.weight_decay=0.1", "train.clip=0.5", "train.steps=8"]),
    ("adadelta", &["preset=standalone", "train.optimizer=adadelta-keras", "train.lr=1", "train.steps=8"]),
    (
        "cotrained",
        &[
            "method=cotrain",
            "distill.positions=all",
            "model.dropout=0.1",
            "models.large.layers=2",
            "models.small.layers=1",
            "models.small.hidden=16",
        ],
    ),
];

fn numbers(records: &[StepRecord]) -> Vec<f64> {
    let of = |record: &StepRecord| {
        let first = [Some(record.loss), Some(record.loss_hard), record.loss_soft, Some(record.grad_norm), record.held_out_loss];
        let models =
            record.models.iter().flat_map(|own| [Some(own.loss), own.loss_soft(), Some(own.grad_norm), own.held_out_loss]);
        let agreement = record.agreement.values().copied().map(Some);
        first.into_iter().chain(models).chain(agreement).flatten().collect::<Vec<f64>>()
    };
    records.iter().flat_map(of).collect()
}

/// A finished run's folder.
fn came(dir: &Path) -> Came {
    let models = match dir.join("model/config.json").exists() {
        true => vec![dir.join("model")],
        false => ["large", "small"].map(|name| dir.join("model").join(name)).to_vec(),
    };
    let hash = |model: &Path| ModelFolder::open(model).unwrap().weights().unwrap().hash();
    Came { numbers: numbers(&steps(dir)), weights: models.iter().map(|model| hash(model)).collect() }
}

/// Ten steps, an end, and ten more.
fn resumed(shards: &Shards, set: &[&str], dir: &Path) -> Came {
    let plan = plan(shards, set);
    run(&plan, shards, dir);
    for left in ["checkpoints/step-0000020", "model"] {
        fs::remove_dir_all(dir.join(left)).unwrap();
    }
    fs::remove_file(dir.join("summary.json")).unwrap();
    run_on(&Device::cpu("test"), &plan, shards, dir, true).unwrap();
    came(dir)
}

fn finetuned() -> Came {
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap();
    let shape = BertShape::new(tokenizer.vocab_size(), 32, 1, 2, 32);
    let (device, console) = (Device::cpu("test"), Console::silent());
    let weights = Weights::of(&shape.init(1, 0.02, &device.handle));
    let pretrained = Pretrained { shape: shape.into(), weights, tokenizer, initializer_range: 0.02 };
    let task = draw_pocket_task("pocket-acceptability", 0, PocketSizes { train: 60, dev: 40 }).unwrap();
    let options = FinetuneOptions { lr: 5e-3, batch: 16, epochs: 2.0, ..FinetuneOptions::default() };
    let found = Finetuning::new(&pretrained, &task, &options, &device, &console).unwrap().run(1).unwrap();
    let outputs = found.dev.iter().flat_map(|outputs: &Outputs| outputs.concat()).map(f64::from);
    Came { numbers: found.scores.values().copied().chain(outputs).collect(), weights: vec![Weights::of(&found.model).hash()] }
}

fn transferred(dir: &Path, set: &[&str]) -> Came {
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap();
    let (device, console) = (Device::cpu("test"), Console::silent());
    let pretrained = dir.join("pretrained");
    if !pretrained.exists() {
        let shape = BertShape::new(tokenizer.vocab_size(), 16, 1, 2, 32);
        ModelFolder::write(&pretrained, &shape.init(3, 0.1, &device.handle), &tokenizer).unwrap();
    }
    let text = format!(
        "method = \"transfer\"\nseed = 1\n[model]\nwords = 8\nhidden = 8\ndropout = 0.1\n[teacher]\nfrom = {:?}\nlr = 1e-3\n[data]\n\
         task = \"pocket-acceptability\"\nper_class = 20\nlength = 24\n[train]\nbatch = 16\nrounds = 2\nround_steps = 3\n",
        pretrained.display().to_string()
    );
    let mut file = upstill::config::RunFile::parse(&text, "the test").unwrap();
    set.iter().for_each(|assignment| file.set(assignment));
    let plan = file.resolve_transfer().unwrap();
    let task = draw_pocket_task("pocket-acceptability", 0, PocketSizes { train: 120, dev: 40 }).unwrap();
    let split = SplitOptions { per_class: Some(20), validation: 0.1, transfer: None, test: None, seed: 1 };
    let task = split_for_transfer(&task, &[], &split).unwrap();
    let (run, shared) = (dir.join(format!("run {}", set.join(" ").replace(['=', '/'], "-"))), dir.join("shared"));
    let options =
        TransferOptions { dir: &run, shared: &shared, name: "test", console: &console, device: &device, stop: &|| false };
    let summary = train_transfer(&plan, &task, &options).unwrap();
    let phases = summary.phases.iter().flat_map(|phase| [phase.steps as f64, phase.validation_loss]);
    let scores = [Some(summary.accuracy), summary.teacher_accuracy, summary.agreement, summary.teacher_variance];
    Came {
        numbers: numbers(&steps(&run)).into_iter().chain(phases).chain(scores.into_iter().flatten()).collect(),
        weights: vec![Weights::read(&run.join("model/model.safetensors")).unwrap().hash()],
    }
}

fn record() -> Record {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let from = format!("teacher.from={}", dir.path().join(TEACHER).display());
    let mut runs = BTreeMap::new();
    for (name, set) in RUNS {
        let is_taught = set.iter().any(|key| key.starts_with("preset=dwt") || *key == "method=cotrain");
        let set: Vec<&str> = set.iter().copied().chain(is_taught.then_some(from.as_str())).collect();
        let run_dir = dir.path().join(name);
        run(&plan(&shards, &set), &shards, &run_dir);
        runs.insert(name.to_owned(), came(&run_dir));
    }
    let set = ["preset=dwt-normal", "distill.positions=all", "model.dropout=0.1", &from];
    let resumed = resumed(&shards, &set, &dir.path().join("resumed"));
    assert_eq!(resumed, runs["packed"], "a run that was cut off is the run that was not");
    runs.insert("fine-tuned".into(), finetuned());
    for (name, set) in [
        ("transferred, stagewise", &["distill.schedule=stagewise", "train.optimizer=adam"][..]),
        ("transferred, jointly", &["distill.schedule=joint"]),
        ("transferred to a BERT", &["model.encoder=bert", "model.layers=1", "model.heads=2", "train.optimizer=adam"]),
    ] {
        runs.insert(name.to_owned(), transferred(dir.path(), set));
    }
    Record { processor: processor(), runs }
}

/// f32 sums in another order, as another processor's instructions take them; 20 steps let it grow. A share of tokens
/// moves by whole ones.
const TOLERANCE: f64 = 2e-2;

#[test]
fn small_runs_come_to_what_they_came_to() {
    let found = record();
    if let Some(file) = std::env::var_os("UPSTILL_RECORD").map(std::path::PathBuf::from) {
        if !file.exists() {
            fs::write(&file, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        }
        let before: Record = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for (name, came) in &before.runs {
            assert_eq!(found.runs.get(name), Some(came), "{name}");
        }
    }
    let kept: Record = serde_json::from_str(include_str!("record.json")).unwrap();
    assert_eq!(found.runs.keys().collect::<Vec<_>>(), kept.runs.keys().collect::<Vec<_>>());
    // Scores are shares of a few rows, and an early stop is a whole number of rounds: rounding can move both far.
    let is_held = |name: &str| found.processor == kept.processor || RUNS.iter().any(|(run, _)| *run == name);
    for (name, came) in kept.runs.iter().filter(|(name, _)| is_held(name)) {
        let own = &found.runs[name];
        assert_eq!((own.numbers.len(), own.weights.len()), (came.numbers.len(), came.weights.len()), "{name}");
        for (at, (x, y)) in own.numbers.iter().zip(&came.numbers).enumerate() {
            assert!((x - y).abs() <= TOLERANCE * y.abs().max(1.0), "{name}: number {at} is {x}, and was {y}");
        }
    }
}
