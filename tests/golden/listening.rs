//! How a student listens to a teacher in memory, against PyTorch: the golden is by tests/golden/listening.py.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::Deserialize;
use std::collections::BTreeMap;
use upstill::config::{DistillPlan, Divergence, DivergenceKind, Gate, GateKind};
use upstill::device::wait;
use upstill::methods::{Dwt, Method, ModelTeacher};
use upstill::model::{BertShape, Dropout, Weights};

use super::training::{BatchCase, GradientInPlace, distill, stand_in};
use super::{golden, model};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Listening {
    student: BertShape,
    teacher: BertShape,
    batch: BatchCase,
    gates: Vec<GateCase>,
}

#[derive(Deserialize)]
struct GateCase {
    gate: GateKind,
    share: f64,
    switch: bool,
    divergence: DivergenceKind,
    hard: f64,
    soft: f64,
    tau: f64,
    squared: bool,
    open: usize,
    total: f64,
    hard_loss: f64,
    soft_loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

/// Losses and gradients of a batch that is divided into parts of so many rows, added up.
fn in_parts(golden: &Listening, plan: DistillPlan, rows_at_once: usize) -> ([f32; 3], f32, Weights) {
    let device = Device::flex();
    let teacher = Box::new(ModelTeacher::new(model("teacher", &golden.teacher, &device)));
    let method = Dwt::new(stand_in(golden.teacher.vocab_size, &device), plan, 1, teacher);
    let student = model("student", &golden.student, &device.autodiff());
    let (batch, at) = (golden.batch.clone().batch(), method.settings(0));
    let whole = method.size(&batch);
    let batch = wait(method.complete(&batch, &at, rows_at_once)).unwrap().unwrap_or(batch);
    let open = batch.asked.open_bm.as_ref().map_or(0.0, |open_bm| open_bm.iter().sum());
    let (mut sums, mut gradients) = ([0.0; 3], burn::optim::GradientsAccumulator::new());
    for from in (0..batch.rows).step_by(rows_at_once) {
        let part = method.part(&batch, from..batch.rows.min(from + rows_at_once));
        let loss = method.losses(&[&student], &part, &at, whole, &mut [Dropout::off()]).unwrap().remove(0);
        let soft = loss.soft[0].clone().expect("a soft loss");
        let found = [loss.total.clone(), loss.hard, soft].map(|loss| loss.into_scalar::<f32>());
        sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        gradients.accumulate(&student, GradientsParams::from_grads(loss.total.backward(), &student));
    }
    (sums, open, Weights::of(&student.clone().map(&mut GradientInPlace(gradients.grads()))))
}

#[test]
fn gated_losses_and_their_gradients_are_pytorchs() {
    let golden: Listening = golden("listening.json");
    for case in &golden.gates {
        let plan = DistillPlan {
            hard: case.hard.into(),
            tau_squared: case.squared,
            divergence: Divergence { kind: case.divergence, beta: 0.0 },
            gate: Gate { kind: case.gate, share: case.share, switch: case.switch },
            ..distill(case.soft, case.tau)
        };
        for rows_at_once in [9, 4, 1] {
            eprintln!("{} {} switch {}, {rows_at_once} rows at once", case.gate, case.share, case.switch);
            let (losses, open, gradients) = in_parts(&golden, plan.clone(), rows_at_once);
            close(&losses, &[case.total, case.hard_loss, case.soft_loss], Kind::LossCpu);
            if case.gate == GateKind::LowestEntropy {
                assert_eq!(open as usize, case.open);
            }
            for (name, wanted) in &case.gradients {
                close(&gradients.get(name).unwrap().values, wanted, Kind::GradientCpu);
            }
        }
    }
}
