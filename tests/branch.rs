//! A run that goes on from another's checkpoint is the run that trains from the beginning.

use std::fs;

use tempfile::tempdir;
use upstill::checkpoint::Checkpoints;
use upstill::config::Plan;
use upstill::device::Device;
use upstill::train::{begin_at, checkpoint_of};

use crate::common::{plan, run, run_on, shards, steps, weights};

/// Warm-up in steps, then the same rate, then a decay over the last fifth: what runs of several lengths share.
const STABLE: &str = "train.lr=0 -> 2e-3 over 4 steps, then 2e-3 until 80%, then -> 0 linear";

#[test]
fn a_decay_branched_off_a_longer_run_is_the_shorter_run_to_the_bit() {
    let shards = shards();
    let dir = tempdir().unwrap();
    let (long_dir, teacher) = (dir.path().join("long"), dir.path().join("teacher"));
    run(&plan(&shards, &["preset=standalone", "train.steps=4", "model.layers=1"]), &shards, &teacher);
    let teacher = format!("teacher.from={}", teacher.display());
    let set = |steps: &str| {
        let steps = format!("train.steps={steps}");
        plan(&shards, &["preset=dwt-normal", &teacher, STABLE, "model.dropout=0.1", "train.optimizer=adamw", &steps])
    };
    let (mut long, short) = (set("40"), set("20"));
    let parting = short.parting(&long);
    assert_eq!((parting.steps, parting.what), (17, "train.lr"), "the decay's first step has the stable rate still");
    long.train.keep_at = vec![parting.steps];
    long.train.keep_checkpoints = 1;
    run(&long, &shards, &long_dir);
    let kept: Vec<_> = Checkpoints::of_run(&long_dir).list().unwrap();
    assert!(kept.contains(&checkpoint_of(&long_dir, 17)), "{kept:?}");

    let (branched, whole) = (dir.path().join("branched"), dir.path().join("whole"));
    begin_at(&short, &branched, &checkpoint_of(&long_dir, 17)).unwrap();
    begin_at(&short, &branched, &checkpoint_of(&long_dir, 17)).unwrap(); // again: it is left as it is
    let found = run_on(&Device::cpu("test"), &short, &shards, &branched, true).unwrap();
    let wanted = run(&short, &shards, &whole);
    assert_eq!(weights(&branched), weights(&whole), "the same weights to the bit");
    assert_eq!((found.held_out_loss, found.loss, found.steps), (wanted.held_out_loss, wanted.loss, 20));
    let losses = |dir| steps(dir).iter().map(|record| (record.step, record.loss, record.lr)).collect::<Vec<_>>();
    assert_eq!(losses(&branched), losses(&whole), "and the same records");
    assert_eq!(Plan::load(&branched.join("plan.toml")).unwrap().hash(), short.hash());
    let info = fs::read_to_string(branched.join("run.json")).unwrap();
    assert!(info.contains("branched_from") && info.contains("\"from_step\": 17"), "{info}");
}

#[test]
fn runs_that_part_before_a_checkpoint_say_where() {
    let shards = shards();
    let dir = tempdir().unwrap();
    let long_dir = dir.path().join("long");
    let long = plan(&shards, &["preset=standalone", STABLE, "train.steps=20", "train.checkpoint_every=10"]);
    run(&long, &shards, &long_dir);
    let at = checkpoint_of(&long_dir, 10);
    let refused = |set: &[&str]| {
        let plan = plan(&shards, &[&["preset=standalone", STABLE, "train.steps=16"][..], set].concat());
        let error = begin_at(&plan, &dir.path().join("new"), &at).unwrap_err().to_string();
        assert!(!dir.path().join("new").exists(), "nothing is left behind");
        error.replace(&dir.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(refused(&["train.lr=0 -> 2e-3 over 10%, then 2e-3 until 80%, then -> 0 linear"]), @"
    this run can't go on from a checkpoint of 10 steps: it parts from DIR/long after 1 of them (train.lr)
      in: DIR/long/checkpoints/step-0000010
    help: take an earlier checkpoint; schedules written in steps, not in %, stay the same in runs of other lengths
    ");
    insta::assert_snapshot!(refused(&["seed=8"]), @"
    this run can't go on from a checkpoint of 10 steps: it parts from DIR/long after 0 of them (the model, the data, the method or the optimizer)
      in: DIR/long/checkpoints/step-0000010
    help: take an earlier checkpoint; schedules written in steps, not in %, stay the same in runs of other lengths
    ");
    insta::assert_snapshot!(refused(&["train.steps=8"]), @"
    this run can't go on from a checkpoint of 10 steps: it parts from DIR/long after 7 of them (the shorter run's end)
      in: DIR/long/checkpoints/step-0000010
    help: take an earlier checkpoint; schedules written in steps, not in %, stay the same in runs of other lengths
    ");
    fs::write(at.join("model/model.safetensors"), "altered").unwrap();
    insta::assert_snapshot!(refused(&[]), @"
    DIR/long/checkpoints/step-0000010: missing or altered since it was written: model/model.safetensors is altered
    help: go on from an earlier checkpoint: delete this folder
    ");
}
