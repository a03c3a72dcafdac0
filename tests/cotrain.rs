//! Models that train together: identities, one checkpoint for all, and each of them on its own afterwards.

use std::fs;
use std::path::Path;

use burn::optim::GradientsParams;
use tempfile::tempdir;
use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::checkpoint::{Checkpoints, Reached};
use upstill::config::{Plan, Positions, Rows};
use upstill::device::{Compute, Device};
use upstill::error::Error;
use upstill::log::StepRecord;
use upstill::methods::{Cotrain, LmData, Method};
use upstill::model::{Dropout, TrainedModel, Weights};
use upstill::tokens::Shards;

use crate::common::{plan, run, run_on, shards, steps, weights};

/// A large and a small model over the small plan, dropout on.
fn together(shards: &Shards, set: &[&str]) -> Plan {
    const MODELS: [&str; 7] = [
        "method=cotrain",
        "model.dropout=0.1",
        "models.large.layers=2",
        "models.small.layers=1",
        "models.small.hidden=16",
        "models.small.lr=0 -> 4e-3 over 10%, then -> 0 linear",
        "models.small.clip=0.5",
    ];
    plan(shards, &[&MODELS[..], set].concat())
}

const APART: [&str; 2] = ["models.large.from.small.soft=0", "models.small.from.large.soft=0"];

fn of(records: &[StepRecord], model: &str) -> Vec<StepRecord> {
    let alone = |record: StepRecord| StepRecord { models: Vec::new(), agreement: Default::default(), ..record };
    records.iter().map(|record| alone(record.of(model).unwrap())).collect()
}

/// Each model's own run of the same seed.
fn alone(shards: &Shards, dir: &Path) {
    run(&plan(shards, &["preset=standalone", "model.dropout=0.1"]), shards, &dir.join("large"));
    let small = [
        "preset=standalone",
        "model.dropout=0.1",
        "model.layers=1",
        "model.hidden=16",
        "model.heads=2",
        "train.lr=0 -> 4e-3 over 10%, then -> 0 linear",
        "train.clip=0.5",
    ];
    run(&plan(shards, &small), shards, &dir.join("small"));
}

#[test]
fn without_directions_each_model_trains_as_it_would_alone_to_the_bit() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    alone(&shards, dir.path());
    let both = dir.path().join("both");
    run(&together(&shards, &APART), &shards, &both);
    for name in ["large", "small"] {
        assert_eq!(weights(&both.join("model").join(name)), weights(&dir.path().join(name)), "{name}");
        assert_eq!(of(&steps(&both), name), steps(&dir.path().join(name)), "{name}");
    }
}

#[test]
fn one_way_leaves_the_model_that_learns_from_nobody_as_it_would_be_alone() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    alone(&shards, dir.path());
    for (dropped, unmoved, learner) in [(APART[0], "large", "small"), (APART[1], "small", "large")] {
        let one_way = dir.path().join(format!("to-{learner}"));
        run(&together(&shards, &[dropped]), &shards, &one_way);
        assert_eq!(weights(&one_way.join("model").join(unmoved)), weights(&dir.path().join(unmoved)));
        assert_ne!(weights(&one_way.join("model").join(learner)), weights(&dir.path().join(learner)));
        let records = steps(&one_way);
        assert!(of(&records, unmoved).iter().all(|record| record.loss_soft.is_none() && record.alpha_soft.is_none()));
        assert!(of(&records, learner).iter().all(|record| record.loss_soft.unwrap() > 0.0));
    }
}

#[test]
fn identical_models_agree_and_have_no_soft_loss_and_no_soft_gradient() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let twins = ["method=cotrain", "model.dropout=0.1", "models.a.layers=2", "models.b.layers=2"];
    for positions in ["masked", "all"] {
        let run_dir = dir.path().join(positions);
        let where_soft = format!("distill.positions={positions}");
        run(&plan(&shards, &[&twins[..], &[&where_soft]].concat()), &shards, &run_dir);
        for record in steps(&run_dir) {
            for own in &record.models {
                let soft = own.loss_soft().unwrap();
                assert!(soft.abs() < 1e-6, "step {}: {} has a soft loss of {soft} ({positions})", record.step, own.name);
            }
            assert_eq!((record.models[0].loss, record.models[0].grad_norm), (record.models[1].loss, record.models[1].grad_norm));
            assert!(record.agreement.values().all(|share| *share == 1.0));
        }
        // The hard loss off: what is left is the gradient of the soft loss.
        let soft_alone = [&twins[..], &["distill.hard=0", "train.steps=1", &where_soft]].concat();
        let soft_dir = dir.path().join(format!("soft-{positions}"));
        run(&plan(&shards, &soft_alone), &shards, &soft_dir);
        let norm = steps(&soft_dir)[0].grad_norm;
        assert!(norm < 1e-5, "the gradient norm is {norm} ({positions})");
    }
    // A seed of its own tells one from the other.
    let other = dir.path().join("other");
    run(&plan(&shards, &[&twins[..], &["models.b.seed=8", "train.steps=1"]].concat()), &shards, &other);
    let [a, b] = &steps(&other)[0].models[..] else { panic!("two models") };
    assert!(a.loss != b.loss && a.loss_soft().unwrap() > 1e-3);
}

/// The method of a plan on its data, with models of its shapes.
fn method_of(plan: &Plan, shards: &Shards, positions: Positions) -> (Cotrain, Vec<TrainedModel>) {
    let options = BatchOptions { layout: Rows::Packed, length: 32, batch: 8, seed: 7, objective: Masking::default().into() };
    let device = burn::tensor::Device::flex();
    let data = LmData {
        train: Batches::new(shards, Split::Train, options).unwrap(),
        held_out: Batches::new(shards, Split::HeldOut, options).unwrap(),
        evaluate_rows: 8,
        compute: Compute::of(&device),
    };
    let distill = upstill::config::DistillPlan { positions, ..plan.distill.clone() };
    let models = plan.models.iter().map(|own| own.model.shape.init(own.seed, 0.02, &device.clone().autodiff()).into());
    (Cotrain::new(data, distill, plan.models.clone(), plan.train.steps, None), models.collect())
}

#[test]
fn no_loss_has_a_gradient_with_respect_to_a_partner() {
    let shards = shards();
    let plan = together(&shards, &["distill.hard=0"]);
    for positions in [Positions::Masked, Positions::All] {
        let (method, models) = method_of(&plan, &shards, positions);
        let models: Vec<&TrainedModel> = models.iter().collect();
        let batch = method.batches(0, 1).next().unwrap();
        let (at, size) = (method.settings(0), method.size(&batch));
        let mut dropout = vec![Dropout::new(0.1, 1), Dropout::new(0.1, 2)];
        for (own, loss) in method.losses(&models, &batch, &at, size, &mut dropout).unwrap().into_iter().enumerate() {
            let gradients = loss.total.backward();
            let partner = GradientsParams::from_grads(gradients, models[1 - own]);
            assert!(partner.is_empty(), "the loss of model {own} moves its partner ({positions})");
        }
    }
}

#[test]
fn a_resumed_run_of_several_models_is_the_uninterrupted_run_to_the_bit() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let plan = together(&shards, &["models.small.optimizer=adamw", "models.small.weight_decay=0.1"]);
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    run(&plan, &shards, &whole);
    run(&plan, &shards, &cut);
    // A stop between the writing of two models: the checkpoint of step 20 never gets its name.
    fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
    fs::remove_dir_all(cut.join("model")).unwrap();
    fs::remove_file(cut.join("summary.json")).unwrap();
    let half = cut.join("checkpoints/.upstill-4194999-0123456789abcdef.part");
    copy(&whole.join("checkpoints/step-0000020/model/large"), &half.join("model/large"));
    let reached = Reached { step: 20, plan_hash: plan.hash(), held_out_loss: None, records: None };
    let stopped = Checkpoints::of_run(&cut).save(reached, |inside| {
        copy(&whole.join("checkpoints/step-0000020/model/large"), &inside.join("model/large"));
        Err(Error::new("the disk is full"))
    });
    assert!(stopped.is_err());
    copy(&whole.join("checkpoints/step-0000020/model/large"), &half.join("model/large"));

    run_on(&Device::cpu("test"), &plan, &shards, &cut, true).unwrap();
    assert_eq!(steps(&cut), steps(&whole));
    for name in ["large", "small"] {
        assert_eq!(weights(&cut.join("model").join(name)), weights(&whole.join("model").join(name)));
        let optimizer = |run: &Path| {
            Weights::read(&run.join(format!("checkpoints/step-0000020/model/{name}.optimizer.safetensors"))).unwrap()
        };
        assert_eq!(optimizer(&cut), optimizer(&whole));
    }
    assert!(!half.exists(), "what a stop left half-written is gone");
}

#[test]
fn models_appear_in_a_finished_run_all_at_once() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (plan, run_dir) = (together(&shards, &["train.steps=2"]), dir.path().join("run"));
    run(&plan, &shards, &run_dir);
    // A stop after the first of the exported models: their folder has no name yet, and the run is not finished.
    fs::remove_file(run_dir.join("summary.json")).unwrap();
    let large = weights(&run_dir.join("model/large"));
    let half = run_dir.join(".upstill-4194999-0123456789abcdef.part");
    fs::rename(run_dir.join("model"), &half).unwrap();
    fs::remove_dir_all(half.join("small")).unwrap();
    let summary = run_on(&Device::cpu("test"), &plan, &shards, &run_dir, true).unwrap();
    assert_eq!(weights(&run_dir.join("model/large")), large);
    assert!(run_dir.join("model/small/config.json").exists() && !half.exists());
    assert_eq!(summary.models.iter().map(|own| own.name.as_str()).collect::<Vec<_>>(), ["large", "small"]);
    assert_eq!(summary.held_out_loss, summary.models[0].held_out_loss);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_fixed_teacher_is_heard_by_all_and_three_models_by_each_other() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let teacher = dir.path().join("teacher");
    run(&plan(&shards, &["preset=standalone", "model.layers=1"]), &shards, &teacher);
    let from = format!("teacher.from={}", teacher.display());
    let run_dir = dir.path().join("run");
    let set = ["models.tiny.layers=1", "models.tiny.hidden=16", "models.small.from.teacher.soft=1 -> 0 linear", &from];
    run(&together(&shards, &set), &shards, &run_dir);
    let records = steps(&run_dir);
    let heard = |own: &upstill::log::ModelRecord| own.from.iter().map(|soft| soft.name.clone()).collect::<Vec<_>>();
    assert_eq!(heard(&records[0].models[0]), ["small", "tiny", "teacher"]);
    assert_eq!(heard(&records[0].models[1]), ["large", "tiny", "teacher"]);
    for own in records.iter().flat_map(|record| &record.models) {
        let sum: f64 = own.from.iter().map(|soft| soft.alpha_soft * soft.loss_soft.unwrap_or(0.0)).sum();
        let found = own.alpha_hard * own.loss_hard + sum;
        // Each part was read back as an f32.
        assert!((own.loss - found).abs() < 1e-5 * found, "{}: {} and {found}", own.name, own.loss);
    }
    let pairs: Vec<&String> = records.last().unwrap().agreement.keys().collect();
    assert_eq!(pairs, ["large/small", "large/teacher", "large/tiny", "small/teacher", "small/tiny", "tiny/teacher"]);
    assert!(records.last().unwrap().agreement.values().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn micro_batches_do_not_change_what_several_models_learn() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let set = ["distill.positions=all"];
    run(&together(&shards, &set), &shards, &whole);
    run(&together(&shards, &[&set[..], &["runtime.micro_batch=3"]].concat()), &shards, &parts);
    for (a, b) in steps(&whole).iter().zip(steps(&parts)) {
        for (a, b) in a.models.iter().zip(&b.models) {
            for (x, y) in
                [(a.loss_hard, b.loss_hard), (a.loss_soft().unwrap(), b.loss_soft().unwrap()), (a.grad_norm, b.grad_norm)]
            {
                // f32 sums in another order; 20 steps let it grow a little.
                assert!((x - y).abs() <= 1e-4 * x.abs().max(1.0), "{}: {x} and {y}", a.name);
            }
        }
    }
}
