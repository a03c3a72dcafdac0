//! Several workers are one: the same batch in shares, one sum a step, any number to go on with, and no one waits for
//! the dead.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tempfile::tempdir;
use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::config::{Plan, Rows};
use upstill::device::{Compute, Device, Kernels, Precision};
use upstill::log::StepRecord;
use upstill::methods::{Dwt, LmData, standalone};
use upstill::model::{BertShape, HostTensor, TrainedModel, Weights};
use upstill::optim::LossScale;
use upstill::tokens::Shards;
use upstill::train::{FitOptions, Flow, Learner, Worker, fit_ahead, together};
use upstill::{Error, Result};

use crate::close::{Kind, difference};
use crate::common::{plan, run, run_on, shards, steps, weights};

/// Losses and norms of two runs that add the same numbers up in another order.
#[track_caller]
fn same_records(found: &[StepRecord], wanted: &[StepRecord]) {
    assert_eq!(found.len(), wanted.len());
    for (a, b) in found.iter().zip(wanted) {
        assert_eq!(a.held_out_loss.is_some(), b.held_out_loss.is_some());
        let [own, theirs] = [a, b].map(|record| {
            let models = record
                .models
                .iter()
                .flat_map(|own| [Some(own.loss_hard), own.loss_soft(), Some(own.grad_norm), own.held_out_loss]);
            let first =
                [Some(record.loss), Some(record.loss_hard), record.loss_soft, Some(record.grad_norm), record.held_out_loss];
            first.into_iter().chain(models).flatten().collect::<Vec<f64>>()
        });
        for (x, y) in own.iter().zip(&theirs) {
            // f32 sums in another order; 20 steps let it grow a little, as they do over micro-batches.
            assert!((x - y).abs() <= 1e-4 * y.abs().max(1.0), "step {}: {x} and {y}", a.step);
        }
    }
}

/// Weights after the same steps, sums in another order. A gradient that is rounding alone, a key's bias, moves by
/// Adam's rate whatever its size.
#[track_caller]
fn same_weights(found: &Weights, wanted: &Weights) {
    let kind = |name: &str| if name.ends_with("key.bias") { Kind::KeyBiasAfterSteps } else { Kind::WeightsAfterSteps };
    let off = |(name, wanted): (&str, &HostTensor)| {
        Some(format!("{name}: {}", difference(&found.get(name).unwrap().values, &wanted.values, kind(name))?))
    };
    let off: Vec<String> = wanted.iter().filter_map(off).collect();
    assert!(off.is_empty(), "{}", off.join("\n"));
}

fn with_teacher(dir: &Path, shards: &Shards, set: &[&str]) -> Vec<String> {
    let teacher = dir.join("teacher");
    if !teacher.exists() {
        run(&plan(shards, &["preset=standalone", "model.layers=1"]), shards, &teacher);
    }
    let base = ["preset=dwt-normal", "distill.positions=all", "model.dropout=0.1"];
    let mut all = vec![format!("teacher.from={}", teacher.display())];
    all.extend(base.iter().chain(set).map(|&key| key.to_owned()));
    all
}

fn planned(shards: &Shards, set: &[String]) -> Plan {
    plan(shards, &set.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn several_workers_train_the_model_that_one_does() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    // A row of 31 tokens has an odd number of attention scores: shares' dropout masks begin within a word.
    for length in ["data.length=32", "data.length=31"] {
        let out = dir.path().join(length);
        let set = with_teacher(dir.path(), &shards, &[length]);
        let one = planned(&shards, &set);
        run(&one, &shards, &out.join("1"));
        // 8 rows are 2, 3 and 3 of three workers, in parts of 2 or less.
        for workers in [2, 3] {
            let several =
                planned(&shards, &[&set[..], &[format!("runtime.workers={workers}"), "runtime.micro_batch=2".into()]].concat());
            assert_eq!(several.hash(), one.hash());
            let run_dir = out.join(workers.to_string());
            run(&several, &shards, &run_dir);
            same_records(&steps(&run_dir), &steps(&out.join("1")));
            same_weights(&weights(&run_dir), &weights(&out.join("1")));
        }
    }
    // Sums are in the workers' order: again is the same, to the bit.
    let again = dir.path().join("again");
    let set = with_teacher(dir.path(), &shards, &["data.length=32", "runtime.workers=3", "runtime.micro_batch=2"]);
    run(&planned(&shards, &set), &shards, &again);
    let before = dir.path().join("data.length=32/3");
    assert_eq!(steps(&again), steps(&before));
    assert_eq!(weights(&again), weights(&before));
}

#[test]
fn several_models_train_among_several_workers() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let set = ["method=cotrain", "model.dropout=0.1", "models.large.layers=2", "models.small.layers=1", "models.small.hidden=16"];
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    run(&plan(&shards, &set), &shards, &one);
    run(&plan(&shards, &[&set[..], &["runtime.workers=2"]].concat()), &shards, &two);
    same_records(&steps(&two), &steps(&one));
    for name in ["large", "small"] {
        same_weights(&weights(&two.join("model").join(name)), &weights(&one.join("model").join(name)));
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_workers() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let set = ["preset=standalone", "model.dropout=0.1"];
    let of = |workers: &str| plan(&shards, &[&set[..], &[&format!("runtime.workers={workers}")]].concat());
    let whole = dir.path().join("whole");
    run(&of("2"), &shards, &whole);
    for then in ["1", "2", "3"] {
        let cut = dir.path().join(then);
        run(&of("2"), &shards, &cut);
        fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
        fs::remove_dir_all(cut.join("model")).unwrap();
        fs::remove_file(cut.join("summary.json")).unwrap();
        run_on(&Device::cpu("test"), &of(then), &shards, &cut, true).unwrap();
        match then {
            "2" => {
                assert_eq!(steps(&cut), steps(&whole));
                assert_eq!(weights(&cut), weights(&whole));
            }
            _ => {
                same_records(&steps(&cut), &steps(&whole));
                same_weights(&weights(&cut), &weights(&whole));
            }
        }
    }
}

#[test]
fn a_step_that_is_not_finite_is_refused_by_all_and_saved_before() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let set = ["preset=standalone", "train.lr=0 -> 1e38 over 1 steps", "train.checkpoint_every=1", "runtime.workers=2"];
    let run_dir = dir.path().join("run");
    let error = run_on(&Device::cpu("test"), &plan(&shards, &set), &shards, &run_dir, false).unwrap_err().to_string();
    assert!(error.contains("the weights are not finite") && error.contains("not saved"), "{error}");
    assert!(run_dir.join("checkpoints/step-0000001/state.json").exists());
}

/// The method and the learner of a worker, in numbers of a precision.
fn begin(shards: &Shards, plan: &Plan, precision: Precision) -> (Dwt, Learner<TrainedModel>) {
    let options = BatchOptions { layout: Rows::Packed, length: 32, batch: 8, seed: 7, objective: Masking::default().into() };
    let device = burn::tensor::Device::flex();
    let data = LmData {
        train: Batches::new(shards, Split::Train, options).unwrap(),
        held_out: Batches::new(shards, Split::HeldOut, options).unwrap(),
        evaluate_rows: 1,
        compute: Compute::of(&device).by(Kernels::Composed).in_dtype(precision),
    };
    let method = standalone(data, plan.distill.clone(), plan.train.steps);
    let model = BertShape::new(shards.tokenizer().vocab_size(), 32, 2, 2, 32).init(7, 0.02, &device.autodiff());
    (method, Learner::new(model, &plan.train, 0.1, 7).for_precision(precision))
}

#[test]
fn gradients_are_summed_once_a_step_however_many_parts_it_has() {
    let shards = shards();
    let plan = plan(&shards, &["preset=standalone", "train.steps=5"]);
    for micro_batch in [1, 4] {
        let work = |worker: &Worker| {
            let (method, learner) = begin(&shards, &plan, Precision::F32);
            let fit = FitOptions { train: &plan.train, micro_batch, done: 0, evaluated: None, worker: Some(worker) };
            let mut sums = Vec::new();
            fit_ahead(&method, vec![learner], &fit, 1, |records, _| {
                // Only the first one evaluates.
                assert_eq!(records[0].held_out_loss.is_some(), worker.is_first() && records[0].step == 4);
                sums.push(worker.sums());
                Ok(Flow::Continue)
            })?;
            Ok::<_, Error>(sums)
        };
        let devices = [Device::cpu("test"), Device::cpu("test")];
        let sums = together(&devices, None, |worker| work(worker.unwrap()), |worker| work(worker).map(drop)).unwrap();
        assert_eq!(sums, [1, 2, 3, 4, 5]);
    }
}

#[test]
fn scaled_gradients_that_overflow_overflow_for_all() {
    let shards = shards();
    let plan = plan(&shards, &["preset=standalone"]);
    let first_step = |worker: Option<&Worker>| {
        let (method, mut learner) = begin(&shards, &plan, Precision::F16);
        learner.optimizer.set_loss_scale(LossScale::new(2f64.powi(40)));
        let fit = FitOptions { train: &plan.train, micro_batch: 8, done: 0, evaluated: None, worker };
        let mut found = None;
        let learners = fit_ahead(&method, vec![learner], &fit, 1, |records, _| {
            found = Some((records[0].loss, records[0].grad_norm));
            Ok(Flow::Stop)
        })?;
        let (loss, norm) = found.unwrap();
        Ok::<_, Error>((learners[0].optimizer.loss_scale().unwrap().factor(), worker.map_or(0, Worker::sums), loss, norm))
    };
    let (factor, _, loss, norm) = first_step(None).unwrap();
    assert!(factor < 2f64.powi(40), "{factor}");
    let devices = [Device::cpu("test"), Device::cpu("test")];
    let found = together(&devices, None, first_step, |worker| first_step(Some(worker)).map(drop)).unwrap();
    // A sum for each factor that was tried, which are the same; losses to f32, gradients to f16's rounding.
    assert_eq!((found.0, found.1), (factor, 41 - factor.log2() as u64));
    assert!((found.2 - loss).abs() <= 1e-5 * loss, "{} and {loss}", found.2);
    assert!((found.3 / norm - 1.0).abs() < 0.02, "{} and {norm}", found.3);
}

#[test]
fn a_worker_that_fails_or_panics_ends_the_run_with_what_it_said() {
    let shards = shards();
    let plan = plan(&shards, &["preset=standalone"]);
    for failing in [0, 1] {
        for panics in [false, true] {
            let work = |worker: &Worker| {
                let (method, learner) = begin(&shards, &plan, Precision::F32);
                let fit = FitOptions { train: &plan.train, micro_batch: 8, done: 0, evaluated: None, worker: Some(worker) };
                let observe = |records: &[StepRecord], _: &[Learner<TrainedModel>]| -> Result<Flow> {
                    match (records[0].step == 2 && worker.is_first() == (failing == 0), panics) {
                        (false, _) => Ok(Flow::Continue),
                        (true, false) => Err(Error::new("the disk is full")),
                        (true, true) => panic!("Out of memory: cuMemAlloc"),
                    }
                };
                fit_ahead(&method, vec![learner], &fit, 1, observe).map(drop)
            };
            let devices = [Device::cpu("test"), Device::cpu("test")];
            let all = || together(&devices, None, |worker| work(worker.unwrap()), work);
            match (panics, catch_unwind(AssertUnwindSafe(all))) {
                (false, Ok(found)) => assert_eq!(found.unwrap_err().what(), "the disk is full"),
                (true, Err(panic)) => assert_eq!(*panic.downcast::<&str>().unwrap(), "Out of memory: cuMemAlloc"),
                (_, found) => panic!("worker {failing}: {:?}", found.is_ok()),
            }
        }
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn workers_on_a_gpu_wait_for_nothing_and_are_one() {
    let gpu = crate::common::gpu();
    let (shards, dir) = (shards(), tempdir().unwrap());
    // With a guard: what decides about an update stays on the GPU.
    let set = ["preset=standalone", "model.dropout=0.1", "train.steps=3", "model.hidden=16", "runtime.kernels=fused"];
    let of = |workers: &str| plan(&shards, &[&set[..], &[&format!("runtime.workers={workers}")]].concat());
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    run_on(&gpu, &of("1"), &shards, &one, false).unwrap();
    run_on(&gpu, &of("2"), &shards, &two, false).unwrap();
    same_records(&steps(&two), &steps(&one));
    same_weights(&weights(&two), &weights(&one));
}
