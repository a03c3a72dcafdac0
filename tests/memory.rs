//! A run in memory is the run in a folder: the same records and files, and each goes on with the other's.

use std::path::Path;

use upstill::device::{Device, wait};
use upstill::files::{Files, write_files};
use upstill::log::StepRecord;
use upstill::model::{ModelFolder, Weights};
use upstill::tokens::Shards;
use upstill::train::{GivenTeacher, MemoryRun};

use crate::common::{plan, run, run_on, shards, steps, weights};

fn cpu() -> Device {
    Device::cpu("test")
}

/// Without times, and with f64 numbers as f32: JSON is read to within a unit in an f64's last place.
pub fn timeless(records: &[StepRecord]) -> Vec<StepRecord> {
    let short = |x: f64| f64::from(x as f32);
    let of = |record: &StepRecord| StepRecord {
        tokens_per_s: 0.0,
        loss: short(record.loss),
        loss_hard: short(record.loss_hard),
        loss_soft: record.loss_soft.map(short),
        grad_norm: short(record.grad_norm),
        held_out_loss: record.held_out_loss.map(short),
        ..record.clone()
    };
    records.iter().map(of).collect()
}

fn take(run: &mut MemoryRun, steps: u64) {
    (0..steps).for_each(|_| wait(run.step()).unwrap());
}

fn files_of(dir: &Path) -> Files {
    fn add(folder: &Path, within: &Path, out: &mut Files) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => add(&path, within, out),
                false => {
                    let name = path.strip_prefix(within).unwrap().to_string_lossy().replace('\\', "/");
                    out.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    let mut out = Files::new();
    add(dir, dir, &mut out);
    out
}

#[test]
fn a_run_in_memory_is_the_run_in_a_folder_to_the_bit() {
    let shards = shards();
    let plan = plan(&shards, &["method=standalone", "model.dropout=0.1"]);
    let dir = tempfile::tempdir().unwrap();
    run(&plan, &shards, dir.path());
    let mut run = MemoryRun::new(plan, &shards, None, &cpu(), 1).unwrap();
    take(&mut run, 25);
    assert!(run.is_done() && run.done() == 20);
    assert_eq!(timeless(run.records()), timeless(&steps(dir.path())));
    let files = wait(run.files()).unwrap();
    let folder = files_of(dir.path());
    for name in
        ["plan.toml", "model/model.safetensors", "model/config.json", "model/tokenizer.json", "model/tokenizer_config.json"]
    {
        assert_eq!(files.get(name), folder.get(name), "{name}");
    }
    let checkpoint = |files: &Files| -> Files {
        files
            .iter()
            .filter(|(name, _)| name.starts_with("checkpoints/step-0000020/"))
            .map(|(n, b)| (n.clone(), b.clone()))
            .collect()
    };
    // All but the hash of the records, in which the speed of each step is, and so what follows it.
    let [mut ours, mut folders] = [checkpoint(&files), checkpoint(&folder)];
    let state = "checkpoints/step-0000020/state.json";
    let [our_state, folder_state] = [&mut ours, &mut folders].map(|files| {
        let mut state: serde_json::Value = serde_json::from_slice(&files.remove(state).unwrap()).unwrap();
        let hashes = [state["records"].take(), state["checksum"].take()];
        assert!(hashes.iter().all(|hash| hash.as_str().is_some_and(|hash| hash.len() == 64)), "{hashes:?}");
        state
    });
    assert_eq!((ours, our_state), (folders, folder_state));
    let missing: Vec<_> = folder
        .keys()
        .filter(|name| !files.contains_key(*name) && !name.contains("tfevents") && !name.contains("step-0000010"))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_saved_half_way_goes_on_in_a_folder_and_in_memory() {
    let shards = shards();
    let plan = plan(&shards, &["method=standalone"]);
    let whole = tempfile::tempdir().unwrap();
    run(&plan, &shards, whole.path());

    let mut first = MemoryRun::new(plan.clone(), &shards, None, &cpu(), 1).unwrap();
    take(&mut first, 7);
    let files = wait(first.files()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &files).unwrap();
    run_on(&cpu(), &plan, &shards, dir.path(), true).unwrap();
    assert_eq!(steps(dir.path()), steps(whole.path()));
    assert_eq!(weights(dir.path()), weights(whole.path()));

    let mut again = MemoryRun::open(&files, plan.clone(), &shards, None, &cpu(), 1).unwrap();
    assert_eq!(again.done(), 7);
    take(&mut again, 13);
    assert_eq!(timeless(again.records()), timeless(&steps(whole.path())));
    assert_eq!(Weights::of(&again.model()), weights(whole.path()));

    let mut damaged = files.clone();
    damaged.get_mut("checkpoints/step-0000007/model/model.safetensors").unwrap()[200] ^= 1;
    let error = MemoryRun::open(&damaged, plan.clone(), &shards, None, &cpu(), 1).err().unwrap().to_string();
    assert!(error.contains("missing or altered"), "{error}");
    let other = crate::common::plan(&shards, &["method=standalone", "seed=8"]);
    assert!(MemoryRun::open(&files, other, &shards, None, &cpu(), 1).err().unwrap().to_string().contains("another plan"));
}

#[test]
fn a_teacher_from_memory_teaches_as_one_from_a_folder() {
    let shards = shards();
    let dir = tempfile::tempdir().unwrap();
    let teacher = dir.path().join("teacher");
    run(&plan(&shards, &["method=standalone", "model.layers=1"]), &shards, &teacher);
    for start in ["fresh", "remap"] {
        let set = ["method=dwt".to_owned(), format!("teacher.from={}", teacher.display()), format!("distill.start={start}")];
        let plan = plan(&shards, &set.each_ref().map(String::as_str));
        let student = dir.path().join(start);
        run(&plan, &shards, &student);
        let folder = ModelFolder::open(&teacher).unwrap();
        let given = GivenTeacher { weights: folder.weights().unwrap(), shape: folder.shape };
        let mut run = MemoryRun::new(plan, &shards, Some(&given), &cpu(), 1).unwrap();
        take(&mut run, 20);
        assert_eq!(timeless(run.records()), timeless(&steps(&student)), "{start}");
    }
}

#[test]
fn losses_that_are_read_later_are_the_same() {
    let shards = shards();
    // Small enough that every step is clipped.
    let plan = plan(&shards, &["method=standalone", "train.clip=0.5"]);
    let records = |ahead: usize| {
        let mut run = MemoryRun::new(plan.clone(), &shards, None, &cpu(), ahead).unwrap();
        take(&mut run, 20);
        timeless(run.records())
    };
    assert_eq!(records(1), records(3));
    assert_eq!(records(1).len(), 20);
}

#[test]
fn a_step_that_is_not_finite_ends_the_run_and_leaves_what_was_saved() {
    let shards = shards();
    let plan = plan(&shards, &["method=standalone", "train.lr=1e30", "train.clip=0"]);
    for ahead in [1, 4] {
        let mut run = MemoryRun::new(plan.clone(), &shards, None, &cpu(), ahead).unwrap();
        let error = (0..20).find_map(|_| wait(run.step()).err()).expect("such a rate breaks a run").to_string();
        assert!(error.contains("no weight was moved"), "{error}");
    }
}

#[test]
fn shards_come_back_from_their_files() {
    let shards = shards();
    let files = shards.files().unwrap();
    assert_eq!(Shards::from_files(&files).unwrap().hash(), shards.hash());
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &files).unwrap();
    assert_eq!(Shards::open(dir.path()).unwrap().hash(), shards.hash());
    let mut damaged = files.clone();
    damaged.get_mut("train-00000.tok").unwrap()[300] ^= 1;
    assert!(Shards::from_files(&damaged).unwrap_err().to_string().contains("damaged"));
}
