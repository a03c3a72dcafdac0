//! The first steps of a run as a file to commit, so that a change of code, data or settings that moves training is
//! noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GivenTeacher, MemoryRun, must_share_vocabulary, open_shards, plan_in_memory, plan_run};
use crate::checkpoint::{CHECKPOINTS, folder_name};
use crate::config::{Plan, RunFile};
use crate::device::{Compute, Device, DeviceKind, Precision, processor, wait};
use crate::error::{Error, Result};
use crate::files::manifest::{Hashes, hash, read_json, write_json};
use crate::log::{Console, StepRecord};
use crate::tokens::Shards;

/// Optimizer steps of a snapshot unless another number is asked for.
pub const SNAPSHOT_STEPS: u64 = 20;

/// The first steps of a run: `RUN.snapshot.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where the numbers come from.
    pub made_on: Origin,
    /// The run's plan. A snapshot of another version may have keys that this one does not know.
    plan: Value,
    /// The plan of the teacher, where it was trained for as many steps from a run file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    teacher: Option<Value>,
    /// Optimizer steps.
    pub steps: u64,
    /// One number a step by what it is (`loss/hard`, `train/grad_norm`, of several models `large/loss/hard`); none at
    /// steps that do not measure it.
    pub curves: BTreeMap<String, Vec<Option<f64>>>,
    /// blake3 of each model's weights after the last step, by its file.
    pub weights: Hashes,
}

/// What decides how a run's numbers are rounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// upstill's version.
    pub version: String,
    /// The commit it was built from, or "unknown".
    pub commit: String,
    /// `cpu`, `cuda`, `wgpu` or `wgpu:software`.
    pub device: String,
    /// The processor's or the GPU's name.
    pub name: String,
    /// CPU threads.
    pub threads: usize,
    /// Number format of the forward and backward pass.
    pub precision: Precision,
    /// The kernels of operations that have several.
    pub kernels: String,
    /// Rows at once.
    pub rows_at_once: usize,
}

/// The run whose first steps are taken.
#[derive(Clone, Copy)]
pub struct SnapshotRun<'a> {
    /// Its run file.
    pub file: &'a RunFile,
    /// The run file of a teacher that is trained first, in place of the one that `file` names, and its optimizer steps.
    pub teacher: Option<(&'a RunFile, u64)>,
    /// Optimizer steps.
    pub steps: u64,
    /// What it is called on the screen.
    pub name: &'a str,
    /// Where progress goes.
    pub console: &'a Console,
    /// What it runs on.
    pub device: &'a Device,
}

/// How a snapshot and the same run now compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    /// Steps that were compared.
    pub steps: u64,
    /// What a number may be off by, as a share of the snapshot's (of 1 where that is smaller); 0 where every bit is
    /// promised.
    pub allowed: f64,
    /// Why so much.
    pub why: &'static str,
    /// The number that is furthest off; none where all are equal to the bit.
    pub furthest: Option<Off>,
    /// The first number that is off by more than is allowed.
    pub leaves: Option<Off>,
    /// Whether the final weights are equal to the bit; none where fewer steps were taken than the snapshot has.
    pub weights_equal: Option<bool>,
}

/// A number of a curve that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Off {
    /// The name of the curve.
    pub curve: String,
    /// The step, from 0.
    pub step: u64,
    /// The snapshot's number.
    pub was: Option<f64>,
    /// The number now.
    pub is: Option<f64>,
    /// Their distance as a share of the snapshot's number, or of 1 where that is smaller.
    pub off: f64,
}

impl Held {
    /// Whether the run is still the snapshot's.
    pub fn holds(&self) -> bool {
        self.leaves.is_none() && (self.allowed > 0.0 || self.weights_equal != Some(false))
    }
}

impl Snapshot {
    /// Trains the first steps, in memory: nothing is written. The schedules are the whole run's.
    ///
    /// # Errors
    /// The run file's mistakes; a step that is not finite; a device that fails.
    pub fn take(run: &SnapshotRun) -> Result<Self> {
        if run.file.is_transfer() || run.teacher.is_some_and(|(teacher, _)| teacher.is_transfer()) {
            return Err(Error::new("a transfer run has rounds with early stopping in place of steps, and so no snapshot")
                .help("snapshots are for pre-training: the methods standalone, dwt and cotrain"));
        }
        let Some((file, steps)) = run.teacher else {
            let (plan, shards) = plan_run(run.file)?;
            return on_threads(plan.runtime.threads, || Self::of(&plan, &shards, None, run));
        };
        let (plan, shards) = plan_run(file)?;
        let given = on_threads(plan.runtime.threads, || {
            let trained =
                first_steps(&plan, &shards, None, &SnapshotRun { name: &format!("{}'s teacher", run.name), steps, ..*run })?;
            Ok(wait(trained.as_teacher()))
        })?;
        let name = run.file.wanted().shards.unwrap_or_default();
        let own_shards = open_shards(&name)?;
        must_share_vocabulary(&own_shards, &name, shards.tokenizer(), &plan.data.shards)?;
        let teacher = as_json(&plan);
        let plan = plan_in_memory(run.file, &own_shards, Some(&given))?;
        let taken = on_threads(plan.runtime.threads, || Self::of(&plan, &own_shards, Some(&given), run))?;
        Ok(Self { teacher: Some(teacher), ..taken })
    }

    /// The first steps of a plan.
    fn of(plan: &Plan, shards: &Shards, teacher: Option<&GivenTeacher>, run: &SnapshotRun) -> Result<Self> {
        let compute = Compute::of_run(&run.device.handle, plan.runtime.kernels, plan.runtime.precision)?;
        run.device.must_have(compute.precision)?;
        let mut trained = first_steps(plan, shards, teacher, run)?;
        let files = wait(trained.files())?;
        let folder = format!("{CHECKPOINTS}/{}/", folder_name(trained.done()));
        let weights = |(name, bytes): (&String, &Vec<u8>)| {
            let name = name.strip_prefix(&folder).filter(|name| name.ends_with("/model.safetensors"))?;
            Some((name.to_owned(), hash(bytes)))
        };
        Ok(Self {
            made_on: Origin {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("UPSTILL_COMMIT").to_owned(),
                device: run.device.kind.word().to_owned(),
                name: if run.device.kind == DeviceKind::Cpu { processor() } else { run.device.name.clone() },
                threads: rayon::current_num_threads(),
                precision: compute.precision,
                kernels: compute.kernels.word().to_owned(),
                rows_at_once: plan.rows_at_once(),
            },
            plan: as_json(plan),
            teacher: None,
            steps: trained.done(),
            curves: curves(trained.records()),
            weights: files.iter().filter_map(weights).collect(),
        })
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// When there is none, it was altered, or it is another file.
    pub fn read(path: &Path) -> Result<Self> {
        read_json(path, "a snapshot")
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Whether it was made with a teacher that was trained for it.
    pub fn has_own_teacher(&self) -> bool {
        self.teacher.is_some()
    }

    /// The keys in which the plans of the same run now, and of its teacher's, are others than this snapshot's: a line
    /// each. Nothing of a plan that another version of upstill wrote in keys of its own.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let both = |there: &Value, now: &Value| Some((as_plan(there)?, as_plan(now)?));
        let mut lines = Vec::new();
        if let Some((mut there, now)) = both(&self.plan, &now.plan) {
            let own = |plan: &Plan| Some(plan.teacher.as_ref()?.model.as_ref()?.content_hash.clone());
            let trained_for_it = self.has_own_teacher();
            // A teacher that was trained for the snapshot is known by its plan: its weights are rounded as each machine
            // does.
            if let (true, Some(teacher), Some(hash)) =
                (trained_for_it, there.teacher.as_mut().and_then(|teacher| teacher.model.as_mut()), own(&now))
            {
                teacher.content_hash = hash;
            }
            lines.extend(now.differences(&there));
        }
        if let Some((there, now)) = self.teacher.as_ref().zip(now.teacher.as_ref()).and_then(|(there, now)| both(there, now)) {
            lines.extend(now.differences(&there).into_iter().map(|line| format!("the teacher's {line}")));
        }
        lines
    }

    /// Holds the run's first steps now against this snapshot.
    pub fn hold(&self, now: &Self) -> Held {
        let steps = self.steps.min(now.steps);
        let (allowed, why) = tolerance(&self.made_on, &now.made_on, steps);
        let names: BTreeSet<&String> = self.curves.keys().chain(now.curves.keys()).collect();
        let (mut furthest, mut leaves): (Option<Off>, Option<Off>) = (None, None);
        for step in 0..steps {
            for &curve in &names {
                let at = |curves: &BTreeMap<String, Vec<Option<f64>>>| curves.get(curve)?.get(step as usize).copied().flatten();
                let (was, is) = (at(&self.curves), at(&now.curves));
                let off = distance(was, is);
                if off > furthest.as_ref().map_or(0.0, |found| found.off) {
                    furthest = Some(Off { curve: curve.clone(), step, was, is, off });
                }
                if off > allowed && leaves.is_none() {
                    leaves = Some(Off { curve: curve.clone(), step, was, is, off });
                }
            }
        }
        let weights_equal = (self.steps == now.steps).then(|| self.weights == now.weights);
        Held { steps, allowed, why, furthest, leaves, weights_equal }
    }
}

/// A run in memory that has taken its first steps.
fn first_steps(plan: &Plan, shards: &Shards, teacher: Option<&GivenTeacher>, run: &SnapshotRun) -> Result<MemoryRun> {
    let mut trained = MemoryRun::new(plan.clone(), shards, teacher, run.device, 1)?;
    let steps = run.steps.min(plan.train.steps);
    let mut progress = run.console.run(run.name, steps, 0);
    while trained.done() < steps {
        wait(trained.step())?;
        if let Some(record) = trained.records().last() {
            progress.show(record);
        }
    }
    progress.finish("done");
    Ok(trained)
}

/// Works with so many threads, where a plan says how many.
fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if threads == 0 {
        return work();
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::new(format!("could not start {threads} threads: {error}")))?.install(work)
}

/// Every number of the records but how fast it was.
fn curves(records: &[StepRecord]) -> BTreeMap<String, Vec<Option<f64>>> {
    let mut curves: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        for (name, number) in record.scalars().filter(|(name, _)| !name.starts_with("speed/")) {
            let curve = curves.entry(name.into_owned()).or_insert_with(|| vec![None; records.len()]);
            curve[at] = Some(number);
        }
    }
    curves
}

/// What two runs of one plan may differ by, and why. To the bit, a run is promised on the CPU alone: by the same
/// upstill, on the same processor, with as many threads and rows at once.
fn tolerance(a: &Origin, b: &Origin, steps: u64) -> (f64, &'static str) {
    let is_known = a.commit != "unknown" && !a.commit.ends_with("-dirty");
    let is_reduced = |origin: &Origin| origin.precision != Precision::F32;
    let is = |origin: &Origin, kind: DeviceKind| origin.device == kind.word();
    if a == b && is(a, DeviceKind::Cpu) && is_known {
        return (0.0, "the same upstill on the same processor, with as many threads");
    }
    if is_reduced(a) || is_reduced(b) {
        return (2e-2, "products of 16-bit numbers are good to two to three digits");
    }
    if is(a, DeviceKind::Cuda) != is(b, DeviceKind::Cuda) {
        return (5e-3, "through CUDA products of f32 are rounded to TF32");
    }
    if steps > 100 {
        return (2e-2, "sums are taken in another order, and hundreds of steps let that grow");
    }
    (2e-3, "sums are taken in another order, and some tens of steps let that grow")
}

/// How far a number is from the snapshot's: a share of that, or of 1 where that is smaller. Infinite where one of them
/// is missing.
fn distance(was: Option<f64>, is: Option<f64>) -> f64 {
    match (was, is) {
        (None, None) => 0.0,
        (Some(was), Some(is)) if was == is => 0.0,
        (Some(was), Some(is)) if was.is_finite() && is.is_finite() => (was - is).abs() / was.abs().max(1.0),
        _ => f64::INFINITY,
    }
}

fn as_json(plan: &Plan) -> Value {
    serde_json::to_value(plan).expect("a plan is tables of numbers and text")
}

fn as_plan(value: &Value) -> Option<Plan> {
    serde_json::from_value(value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            version: "1.0.0".into(),
            commit: "abc".into(),
            device: "cpu".into(),
            name: "a processor".into(),
            threads: 2,
            precision: Precision::F32,
            kernels: "fused".into(),
            rows_at_once: 8,
        }
    }

    fn snapshot(losses: &[f64]) -> Snapshot {
        Snapshot {
            made_on: origin(),
            plan: Value::Null,
            teacher: None,
            steps: losses.len() as u64,
            curves: BTreeMap::from([("loss/hard".to_owned(), losses.iter().map(|&loss| Some(loss)).collect())]),
            weights: Hashes::from([("model/model.safetensors".to_owned(), format!("{losses:?}"))]),
        }
    }

    #[test]
    fn every_bit_is_promised_where_all_that_rounds_is_the_same() {
        let other = |change: fn(&mut Origin)| {
            let mut there = origin();
            change(&mut there);
            tolerance(&origin(), &there, 20).0
        };
        assert_eq!(other(|_| ()), 0.0);
        for rounding in [
            (|o| o.commit = "def".into()) as fn(&mut Origin),
            |o| o.name = "another".into(),
            |o| o.threads = 4,
            |o| o.kernels = "composed".into(),
            |o| o.rows_at_once = 4,
            |o| o.device = "wgpu".into(),
        ] {
            assert_eq!(other(rounding), 2e-3);
        }
        assert_eq!(other(|o| o.device = "cuda".into()), 5e-3);
        assert_eq!(other(|o| o.precision = Precision::Bf16), 2e-2);
        let gpu = Origin { device: "wgpu".into(), ..origin() };
        assert_eq!(tolerance(&gpu, &gpu, 20).0, 2e-3, "no GPU promises its bits");
        let dirty = Origin { commit: "abc-dirty".into(), ..origin() };
        assert_eq!(tolerance(&dirty, &dirty, 20).0, 2e-3, "what was built is not known");
    }

    #[test]
    fn the_step_is_named_at_which_a_curve_leaves() {
        let before = snapshot(&[6.0, 5.0, 4.0]);
        assert!(before.hold(&before).holds() && before.hold(&before).furthest.is_none());
        let mut elsewhere = snapshot(&[6.001, 5.02, 3.0]);
        let held = before.hold(&elsewhere);
        let leaves = held.leaves.clone().unwrap();
        assert_eq!((leaves.step, leaves.was, leaves.is), (0, Some(6.0), Some(6.001)), "every bit counts on the same machine");
        elsewhere.made_on.name = "another".into();
        let held = before.hold(&elsewhere);
        assert_eq!((held.leaves.as_ref().map(|off| off.step), held.furthest.as_ref().map(|off| off.step)), (Some(1), Some(2)));
        assert!(!held.holds());
        let shorter = Snapshot { steps: 1, ..elsewhere };
        let held = before.hold(&shorter);
        assert!(held.holds() && held.steps == 1 && held.weights_equal.is_none());
    }

    #[test]
    fn weights_count_where_every_bit_is_promised_and_a_curve_that_is_gone_is_off() {
        let before = snapshot(&[6.0]);
        let other_weights = Snapshot { weights: Hashes::new(), ..before.clone() };
        assert!(!before.hold(&other_weights).holds());
        let mut elsewhere = other_weights.clone();
        elsewhere.made_on.threads = 7;
        assert!(before.hold(&elsewhere).holds());
        let gone = Snapshot { curves: BTreeMap::new(), ..before.clone() };
        assert!(before.hold(&gone).leaves.is_some_and(|off| off.is.is_none() && off.off.is_infinite()));
    }
}
