//! Whether a device trains as the CPU does: the same small run on both, step by step.

use serde::Serialize;

use super::step::made_up;
use crate::batch::{BatchOptions, Batches, Masking, Split};
use crate::config::{Rows, Schedule};
use crate::device::{Compute, Device, Kernels, Precision};
use crate::error::Result;
use crate::methods::{Dwt, LmData, ModelTeacher};
use crate::model::BertShape;
use crate::train::{FitOptions, Flow, Learner, Worker, fit_ahead, together};

/// A run's losses beside the CPU's in f32.
#[derive(Debug, Clone, Serialize)]
pub struct Agreement {
    /// The form of the device's operations.
    pub form: &'static str,
    /// The numbers of its products.
    pub precision: &'static str,
    /// The models' width.
    pub hidden: usize,
    /// The device.
    pub device: String,
    /// Workers that shared each batch, on it and those after it.
    pub workers: usize,
    /// The CPU's loss of each step.
    pub cpu: Vec<f64>,
    /// The device's.
    pub losses: Vec<f64>,
    /// The largest difference of a step's losses over the CPU's.
    pub off: f64,
    /// What is allowed.
    pub allowed: f64,
}

/// Widths of the models: a power of two, and one that no vector, tile or row of memory fits.
const WIDTHS: [usize; 2] = [64, 44];

/// Trains a student of 2 layers with a teacher of 1 layer and with dropout, for `steps` steps: on the CPU in f32, and
/// on `device` in each of these `forms`, which it has, there by so many `workers`. `note` is told of each as it is
/// done.
///
/// # Errors
/// When the device doesn't have the precision, there are fewer devices than workers, or a step isn't finite.
pub fn agree(
    device: &Device,
    workers: usize,
    precision: Precision,
    forms: &[Kernels],
    steps: u64,
    mut note: impl FnMut(String),
) -> Result<Vec<Agreement>> {
    device.must_have(precision)?;
    let devices = device.several(workers)?;
    let allowed = match precision {
        // TF32 keeps 11 bits of a factor, 2^-11 = 5e-4 each; without it this is far below.
        Precision::F32 => 5e-3,
        // 8 bits, 2^-8 = 4e-3 each, and the curves part a little with every step.
        Precision::Bf16 | Precision::F16 => 2e-2,
    };
    let mut rows = Vec::new();
    for hidden in WIDTHS {
        let run = |devices: &[Device], form, precision| curve(devices, Run { hidden, form, precision, steps });
        let cpu = run(&[Device::cpu("the other side")], Kernels::Fused, Precision::F32)?;
        for form in forms {
            let losses = run(&devices, *form, precision)?;
            let off: f64 = cpu.iter().zip(&losses).map(|(cpu, found)| (cpu - found).abs() / cpu).fold(0.0, f64::max);
            note(format!("{} in {precision}, {hidden} wide: off by {off:.1e} at most ({allowed:.0e} allowed)", form.word()));
            rows.push(Agreement {
                form: form.word(),
                precision: precision.word(),
                hidden,
                device: device.to_string(),
                workers,
                cpu: cpu.clone(),
                losses,
                off,
                allowed,
            });
        }
    }
    Ok(rows)
}

/// One of the runs that are compared.
#[derive(Clone, Copy)]
struct Run {
    hidden: usize,
    form: Kernels,
    precision: Precision,
    steps: u64,
}

/// The losses of a run's steps, by a worker on each device.
fn curve(devices: &[Device], run: Run) -> Result<Vec<f64>> {
    let of = |worker: Option<&Worker>| curve_of(worker, worker.map_or(&devices[0], Worker::device), run);
    together(devices, None, of, |worker| of(Some(worker)).map(drop))
}

fn curve_of(worker: Option<&Worker>, device: &Device, run: Run) -> Result<Vec<f64>> {
    let Run { hidden, form, precision, steps } = run;
    const VOCAB: usize = 997;
    const LENGTH: usize = 64;
    let (shards, plan) = made_up(VOCAB, [8, 19], steps)?;
    let options = BatchOptions { layout: Rows::Packed, length: LENGTH, batch: 16, seed: 1, objective: Masking::default().into() };
    let data = LmData {
        train: Batches::new(&shards, Split::Train, options)?,
        held_out: Batches::new(&shards, Split::HeldOut, options)?,
        evaluate_rows: 1,
        compute: Compute::of(&device.handle).by(form).in_dtype(precision),
    };
    let shape = |layers| BertShape::new(VOCAB, hidden, layers, 2, LENGTH);
    let teacher = ModelTeacher::new(shape(1).init(2, 0.1, &device.handle)).for_products(&data.compute);
    let method = Dwt::new(data, plan.distill.clone(), plan.train.steps, Box::new(teacher));
    let student = shape(2).init(1, 0.02, &device.handle.clone().autodiff());
    // A rate at which losses move from the first step on, so that a wrong gradient shows.
    let learner = Learner { lr: Schedule::constant(5e-3), ..Learner::new(student, &plan.train, 0.1, 1) };
    let learner = learner.for_precision(precision);
    let mut losses = Vec::new();
    let options = FitOptions { train: &plan.train, micro_batch: 16, done: 0, evaluated: None, worker };
    fit_ahead(&method, vec![learner], &options, 5, |records, _| {
        losses.extend(records.iter().map(|record| record.loss));
        Ok(if losses.len() as u64 >= steps { Flow::Stop } else { Flow::Continue })
    })?;
    losses.truncate(steps as usize);
    Ok(losses)
}
