//! Runs whose disk fails at any write, and from there on, go on to the end that they would have had.

use std::path::Path;

use super::transfer::{TransferOptions, TransferSummary, train_transfer};
use super::{FinetuneOptions, Finetuning, Pretrained, RunOptions, plan_on, train_run};
use crate::config::{Plan, RunFile, TransferPlan};
use crate::device::Device;
use crate::error::Result;
use crate::files::failing_after;
use crate::log::{Console, Summary, read_steps};
use crate::model::{BertShape, ModelFolder, Weights};
use crate::tasks::{PocketSizes, SplitOptions, Task, TransferTask, draw_pocket_task, split_for_transfer};
use crate::text::pocket::{Pocket, words};
use crate::tokens::{Shards, Tokenizer};

fn tokenizer() -> Tokenizer {
    Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap()
}

fn shards() -> Shards {
    let (pocket, tokenizer) = (Pocket::new(1), tokenizer());
    let of = |i| pocket.document(i).sentences.into_iter().map(|text| tokenizer.encode(&text).unwrap()).collect::<Vec<_>>();
    let [train, held_out] = [0..12, 12..16].map(|range| range.flat_map(of).collect());
    Shards::from_sentences(tokenizer.clone(), train, held_out)
}

fn plan(shards: &Shards) -> Plan {
    let text = "method = \"standalone\"\nseed = 7\n[model]\nlayers = 1\nhidden = 16\nheads = 2\nmax_positions = 32\n[data]\n\
                shards = \"in memory\"\nlength = 32\n[train]\nsteps = 3\nbatch = 4\nlr = 1e-3\nevaluate_rows = 4\n\
                checkpoint_every = 1\nkeep_checkpoints = 1\n";
    let file = RunFile::parse(text, "the test").unwrap();
    plan_on(&file, shards).unwrap()
}

/// Fails after 0, 1, 2, ... writes, until there are no more than that; goes on each time, and compares. Gives how many
/// there are.
fn campaign<T: PartialEq + std::fmt::Debug>(run: impl Fn(&Path, bool) -> Result<()>, look: impl Fn(&Path) -> T) -> usize {
    let base = tempfile::tempdir().unwrap();
    let whole = base.path().join("whole");
    run(&whole, false).unwrap();
    let wanted = look(&whole);
    for writes in 0.. {
        let dir = base.path().join(writes.to_string());
        match failing_after(writes, || run(&dir, false)) {
            Ok(()) => return writes,
            Err(error) => assert!(error.to_string().contains("told to fail"), "after {writes}: {error}"),
        }
        run(&dir, true).unwrap_or_else(|error| panic!("after {writes}: {error}"));
        assert!(look(&dir) == wanted, "after {writes}: another end");
    }
    unreachable!("the numbers do not end")
}

/// What a run came to, but for how long it took.
fn losses(dir: &Path) -> Vec<(u64, u64)> {
    let records = read_steps(&dir.join("steps.jsonl")).unwrap();
    records.into_iter().map(|record| (record.step, record.loss.to_bits())).collect()
}

#[test]
fn a_run_whose_disk_fails_at_any_write_goes_on() {
    let (shards, console, device) = (shards(), Console::silent(), Device::cpu("test"));
    let plan = plan(&shards);
    let run = |dir: &Path, resume: bool| {
        let options = RunOptions { dir, resume, name: "test", console: &console, device: &device };
        train_run(&plan, &shards, &options).map(|summary: Summary| assert_eq!(summary.steps, 3))
    };
    let writes = campaign(run, |dir| (losses(dir), ModelFolder::open(dir).unwrap().weights().unwrap()));
    assert!(writes > 20, "{writes} writes");
}

fn task() -> Task {
    draw_pocket_task("pocket-acceptability", 0, PocketSizes { train: 60, dev: 20 }).unwrap()
}

fn pretrained() -> Pretrained {
    let tokenizer = tokenizer();
    let shape = BertShape::new(tokenizer.vocab_size(), 16, 1, 2, 32);
    let weights = Weights::of(&shape.init(3, 0.1, &Device::cpu("test").handle));
    Pretrained { shape: shape.into(), weights, tokenizer, initializer_range: 0.02 }
}

#[test]
fn a_transfer_run_whose_disk_fails_at_any_write_goes_on() {
    let (base, console, device) = (tempfile::tempdir().unwrap(), Console::silent(), Device::cpu("test"));
    let (model, from) = (pretrained(), base.path().join("pretrained"));
    let bert = model.weights.load_into(model.shape.init(0, 0.0, &device.handle)).unwrap();
    ModelFolder::write(&from, &bert, &model.tokenizer).unwrap();
    let text = format!(
        "method = \"transfer\"\nseed = 1\n[model]\nwords = 8\nhidden = 8\n[teacher]\nfrom = {from:?}\nepochs = 1.0\n[data]\n\
         task = \"pocket-acceptability\"\nlength = 24\n[train]\nbatch = 16\nrounds = 1\nround_steps = 2\n"
    );
    let plan: TransferPlan = RunFile::parse(&text, "the test").unwrap().resolve_transfer().unwrap();
    let options = SplitOptions { per_class: Some(8), validation: 0.2, transfer: Some(16), test: None, seed: 1 };
    let task: TransferTask = split_for_transfer(&task(), &[], &options).unwrap();
    let run = |dir: &Path, _| {
        let shared = dir.join("../shared-of").join(dir.file_name().unwrap_or_default());
        let options = TransferOptions { dir, shared: &shared, name: "test", console: &console, device: &device, stop: &|| false };
        train_transfer(&plan, &task, &options).map(|summary: TransferSummary| assert_eq!(summary.phases.len(), 1))
    };
    let writes = campaign(run, |dir| (losses(dir), Weights::read(&dir.join("model/model.safetensors")).unwrap()));
    assert!(writes > 20, "{writes} writes");
}

#[test]
fn scores_whose_disk_fails_at_any_write_are_made_again() {
    let (pretrained, task, console, device) = (pretrained(), task(), Console::silent(), Device::cpu("test"));
    let options = FinetuneOptions { lr: 1e-3, epochs: 1.0, ..FinetuneOptions::default() };
    let tuning = Finetuning::new(&pretrained, &task, &options, &device, &console).unwrap();
    let scores = |dir: &Path| tuning.run_seeds(2, Some(dir)).map(|all| all.into_iter().map(|one| one.score.to_bits()).collect());
    let run = |dir: &Path, _| scores(dir).map(|_: Vec<u64>| ());
    let look = |dir: &Path| {
        let model = ModelFolder::open(&dir.join("pocket-acceptability/model")).unwrap().tensors().unwrap();
        (scores(dir).unwrap(), model)
    };
    let writes = campaign(run, look);
    assert!(writes > 8, "{writes} writes");
}
