//! A small run's curve is what it was, within rounding; on a software GPU it is the CPU's.

use insta::comparator::Comparator;
use insta::internals::SnapshotContents;
use insta::{Snapshot, assert_snapshot};
use tempfile::tempdir;
use upstill::device::{Device, DeviceKind};

use crate::common::{plan, run_on, shards, steps};

/// Numbers may differ by this, relative to 1: another CPU's instructions add in another order, and 20 steps let it
/// grow. An error in a formula is worth more than 1e-2 here.
const TOLERANCE: f64 = 2e-3;

/// Compares texts word by word, numbers with a tolerance.
#[derive(Clone)]
struct Close(f64);

impl Comparator for Close {
    fn matches(&self, reference: &Snapshot, test: &Snapshot) -> bool {
        let text = |snapshot: &Snapshot| match snapshot.contents() {
            SnapshotContents::Text(text) => text.to_string(),
            SnapshotContents::Binary(_) => String::new(),
        };
        let (reference, test) = (text(reference), text(test));
        let (mut a, mut b) = (reference.split_whitespace(), test.split_whitespace());
        loop {
            match (a.next(), b.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
                    (Ok(a), Ok(b)) if (a - b).abs() <= self.0 * a.abs().max(1.0) => {}
                    _ => return false,
                },
                _ => return false,
            }
        }
    }

    fn dyn_clone(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// A distilled student's curve as text.
fn curve(device: &Device, set: &[&str]) -> String {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let teacher = dir.path().join("teacher");
    let base = [&["train.steps=12"][..], set].concat();
    run_on(device, &plan(&shards, &[&["preset=standalone", "model.layers=1"][..], &base].concat()), &shards, &teacher, false)
        .unwrap();
    let from = format!("teacher.from={}", teacher.display());
    let student = dir.path().join("student");
    run_on(device, &plan(&shards, &[&["preset=dwt-decay", &from][..], &base].concat()), &shards, &student, false).unwrap();
    let line = |record: upstill::log::StepRecord| {
        let held_out = record.held_out_loss.map_or(String::new(), |loss| format!(" held-out {loss:.4}"));
        let soft = record.loss_soft.unwrap_or(f64::NAN);
        format!("{} hard {:.4} soft {soft:.5} norm {:.3}{held_out}", record.step, record.loss_hard, record.grad_norm)
    };
    steps(&student).into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_distilled_students_curve_is_what_it_was() {
    let found = curve(&Device::cpu("test"), &[]);
    insta::with_settings!({comparator => Box::new(Close(TOLERANCE))}, { assert_snapshot!(found, @"
    0 hard 6.5789 soft 0.00306 norm 1.949
    1 hard 6.5932 soft 0.00308 norm 2.443
    2 hard 6.5821 soft 0.00251 norm 1.924
    3 hard 6.5589 soft 0.00150 norm 1.901
    4 hard 6.5072 soft 0.00096 norm 1.653
    5 hard 6.4249 soft 0.00062 norm 1.709
    6 hard 6.4133 soft 0.00039 norm 1.708
    7 hard 6.4462 soft 0.00022 norm 1.421
    8 hard 6.4213 soft 0.00010 norm 1.727
    9 hard 6.3362 soft 0.00004 norm 1.581 held-out 6.3199
    10 hard 6.3431 soft 0.00001 norm 1.772
    11 hard 6.3296 soft 0.00000 norm 1.699 held-out 6.3034
    "); });
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpus_curve_is_the_cpus() {
    let gpu = crate::common::gpu();
    assert_eq!(gpu.kind, DeviceKind::SoftwareGpu);
    // Tiny: a software GPU takes seconds a step.
    let set = ["train.steps=3", "train.batch=2", "model.hidden=16", "train.evaluate_rows=2", "model.dropout=0.1"];
    let numbers = |text: String| text.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<_>>();
    let (on_cpu, on_gpu) = (numbers(curve(&Device::cpu("test"), &set)), numbers(curve(&gpu, &set)));
    assert_eq!(on_cpu.len(), on_gpu.len());
    for (cpu, gpu) in on_cpu.iter().zip(&on_gpu) {
        // The text has 3 to 5 decimals; a GPU's exp, log and erf are good to about 1e-6.
        assert!((cpu - gpu).abs() <= 2e-3 * cpu.abs().max(1.0), "{cpu} on the CPU and {gpu} on the GPU\n{on_cpu:?}\n{on_gpu:?}");
    }
}
