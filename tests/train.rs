//! The loop keeps its promises: identities between runs, resume to the bit, nothing lost.

use std::fs;

use tempfile::tempdir;
use upstill::device::Device;

use crate::common::{plan, run, run_on, shards, steps, weights};

#[test]
fn a_resumed_run_is_the_uninterrupted_run_to_the_bit() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    // Dropout on: its masks must not depend on where a run was cut.
    let plan = plan(&shards, &["preset=standalone", "model.dropout=0.1"]);
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    run(&plan, &shards, &whole);
    run(&plan, &shards, &cut);
    // As after a crash in step 20: what came after the checkpoint of step 10 is gone, but for its records.
    fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
    fs::remove_dir_all(cut.join("model")).unwrap();
    fs::remove_file(cut.join("summary.json")).unwrap();
    run_on(&Device::cpu("test"), &plan, &shards, &cut, true).unwrap();
    assert_eq!(steps(&cut), steps(&whole));
    assert_eq!(weights(&cut), weights(&whole));
    let optimizer = |run: &std::path::Path| fs::read(run.join("checkpoints/step-0000020/model.optimizer.safetensors")).unwrap();
    assert_eq!(optimizer(&cut), optimizer(&whole));
}

#[test]
fn a_run_of_zero_soft_weight_is_masked_language_modelling_to_the_bit() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (alone, zero) = (dir.path().join("alone"), dir.path().join("zero"));
    run(&plan(&shards, &["preset=standalone"]), &shards, &alone);
    run(&plan(&shards, &["preset=dwt-normal", "teacher.from=uniform", "distill.soft=0"]), &shards, &zero);
    assert_eq!(weights(&alone), weights(&zero));
    let losses = |run: &std::path::Path| steps(run).iter().map(|record| record.loss).collect::<Vec<_>>();
    assert_eq!(losses(&alone), losses(&zero));
}

#[test]
fn a_remapped_student_of_the_teachers_size_starts_as_the_teacher() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let teacher = dir.path().join("teacher");
    run(&plan(&shards, &["preset=standalone"]), &shards, &teacher);
    let from = format!("teacher.from={}", teacher.display());
    for positions in ["masked", "all"] {
        let student = dir.path().join(positions);
        let positions = format!("distill.positions={positions}");
        run(&plan(&shards, &["preset=dwt-normal", &from, "distill.start=remap", &positions, "train.steps=2"]), &shards, &student);
        let soft = steps(&student)[0].loss_soft.unwrap();
        assert!(soft.abs() < 1e-6, "the soft loss of a student that is its teacher is {soft} at step 0 ({positions})");
    }
}

#[test]
fn a_student_that_is_its_teacher_has_no_soft_gradient() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let teacher = dir.path().join("teacher");
    run(&plan(&shards, &["preset=standalone"]), &shards, &teacher);
    let (from, student) = (format!("teacher.from={}", teacher.display()), dir.path().join("student"));
    run(
        &plan(&shards, &["preset=dwt-normal", &from, "distill.start=remap", "distill.hard=0", "train.steps=1"]),
        &shards,
        &student,
    );
    let norm = steps(&student)[0].grad_norm;
    assert!(norm < 1e-5, "the gradient norm is {norm}");
}

#[test]
fn micro_batches_do_not_change_results() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let set = ["preset=dwt-normal", "teacher.from=uniform", "distill.positions=all"];
    run(&plan(&shards, &set), &shards, &whole);
    run(&plan(&shards, &[&set[..], &["runtime.micro_batch=3"]].concat()), &shards, &parts);
    for (a, b) in steps(&whole).iter().zip(steps(&parts)) {
        // f32 sums in another order; 20 steps let it grow a little.
        for (x, y) in [(a.loss_hard, b.loss_hard), (a.loss_soft.unwrap(), b.loss_soft.unwrap()), (a.grad_norm, b.grad_norm)] {
            assert!((x - y).abs() <= 1e-4 * x.abs().max(1.0), "step {}: {x} and {y}", a.step);
        }
        assert_eq!(a.held_out_loss.is_some(), b.held_out_loss.is_some());
    }
}

#[test]
fn the_number_of_threads_does_not_change_results() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let plan = plan(&shards, &["preset=standalone"]);
    let curve = |threads: usize| {
        let run_dir = dir.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&plan, &shards, &run_dir));
        steps(&run_dir)
    };
    for (one, two) in curve(1).iter().zip(curve(2)) {
        assert!((one.loss - two.loss).abs() < 1e-5, "step {}: {} and {}", one.step, one.loss, two.loss);
    }
}

#[test]
fn a_step_that_is_not_finite_is_refused_and_the_run_can_go_on() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    // The first step has rate 0; the second sends the weights away; the third is refused.
    let plan = plan(&shards, &["preset=standalone", "train.lr=0 -> 1e38 over 1 steps", "train.checkpoint_every=1"]);
    let run_dir = dir.path().join("run");
    let error = run_on(&Device::cpu("test"), &plan, &shards, &run_dir, false).unwrap_err().to_string();
    assert!(error.contains("is not finite") && error.contains("no weight was moved"), "{error}");
    assert!(run_dir.join("checkpoints/step-0000001/state.json").exists());
    assert!(!run_dir.join("summary.json").exists());
}

#[test]
fn a_folder_with_another_run_is_left_as_it_is() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let run_dir = dir.path().join("run");
    let short = ["preset=standalone", "train.steps=2"];
    run(&plan(&shards, &short), &shards, &run_dir);
    let before = fs::read(run_dir.join("steps.jsonl")).unwrap();
    let refused = |set: &[&str], resume| {
        run_on(&Device::cpu("test"), &plan(&shards, set), &shards, &run_dir, resume).unwrap_err().to_string()
    };
    assert!(refused(&["preset=standalone", "train.steps=3"], true).contains("a run of another plan"));
    assert!(refused(&short, false).contains("already holds this run"));
    assert_eq!(fs::read(run_dir.join("steps.jsonl")).unwrap(), before);
    // A finished run that is resumed says what it came to, and does nothing.
    assert_eq!(run_on(&Device::cpu("test"), &plan(&shards, &short), &shards, &run_dir, true).unwrap().steps, 2);

    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("thesis.tex"), "mine").unwrap();
    let error = run_on(&Device::cpu("test"), &plan(&shards, &short), &shards, &full, false).unwrap_err().to_string();
    assert!(error.contains("something that is not a run"), "{error}");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
}

#[test]
fn checkpoints_are_teachers_and_models_too() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let run_dir = dir.path().join("run");
    run(&plan(&shards, &["preset=standalone"]), &shards, &run_dir);
    // The control of a student that learns from its own earlier self.
    let earlier = run_dir.join("checkpoints/step-0000010");
    let plan = plan(&shards, &["preset=dwt-normal", &format!("teacher.from={}", earlier.display()), "train.steps=2"]);
    run(&plan, &shards, &dir.path().join("again"));
    assert!(steps(&dir.path().join("again"))[0].loss_soft.unwrap() > 0.0);
}
