//! How a student listens to a teacher in memory, against PyTorch: the golden is by tests/golden/listening.py.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use serde::Deserialize;
use std::collections::BTreeMap;
use upstill::config::{DistillPlan, Divergence, DivergenceKind, FeatureKind, Gate, GateKind, LayerMap, LayersPlan, Positions};
use upstill::device::wait;
use upstill::methods::{Dwt, Ensemble, Method, ModelTeacher, Teacher};
use upstill::model::{BertShape, Dropout, HostTensor, Projections, TrainedModel, Weights};

use super::training::{BatchCase, GradientInPlace, distill, stand_in};
use super::{golden, model};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Listening {
    student: BertShape,
    teacher: BertShape,
    batch: BatchCase,
    gates: Vec<GateCase>,
    cosines: Vec<CosineCase>,
    second_teacher: BertShape,
    ensembles: Vec<EnsembleCase>,
    narrow_teacher: BertShape,
    layers: Layers,
}

#[derive(Deserialize)]
struct Layers {
    projections: BTreeMap<String, Vec<f32>>,
    cases: Vec<LayersCase>,
}

#[derive(Deserialize)]
struct LayersCase {
    kind: FeatureKind,
    layers: LayerMap,
    heads: usize,
    hard: f64,
    weight: f64,
    total: f64,
    hard_loss: f64,
    loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

impl Layers {
    /// The projections that are learnt, of `hidden`, `embedded` and `early`.
    fn read(&self, learnt: [bool; 3], device: &Device) -> Projections {
        let mut weights = Weights::default();
        for name in ["hidden", "embedded", "early"].iter().zip(learnt).filter(|(_, learnt)| *learnt).map(|(name, _)| name) {
            weights.insert(name, HostTensor { shape: vec![16, 12], values: self.projections[*name].clone() });
        }
        weights.load_into(Projections::init(learnt, [16, 12], 0, 0.0, device)).unwrap()
    }
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

#[derive(Deserialize)]
struct EnsembleCase {
    weights: [f64; 2],
    tau: f64,
    alpha: f64,
    total: f64,
    hard_loss: f64,
    soft_loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct CosineCase {
    positions: Positions,
    hard: f64,
    soft: f64,
    tau: f64,
    cosine: f64,
    total: f64,
    hard_loss: f64,
    soft_loss: f64,
    cosine_loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

/// Total, hard, soft and feature loss, open slots, and gradients of a batch that is divided into parts of so many rows,
/// added up.
fn in_parts(golden: &Listening, plan: DistillPlan, rows_at_once: usize) -> ([f32; 4], f32, Weights) {
    taught(golden, plan, rows_at_once, read_teacher("teacher", &golden.teacher))
}

fn read_teacher(name: &str, shape: &BertShape) -> Box<dyn Teacher> {
    Box::new(ModelTeacher::new(model(name, shape, &Device::flex())))
}

/// [`in_parts`] with this teacher.
fn taught(golden: &Listening, plan: DistillPlan, rows_at_once: usize, teacher: Box<dyn Teacher>) -> ([f32; 4], f32, Weights) {
    let device = Device::flex();
    let method_plan = plan.clone();
    let method = Dwt::new(stand_in(golden.teacher.vocab_size, &device), plan, 1, teacher);
    let mut student = TrainedModel::from(model("student", &golden.student, &device.clone().autodiff()));
    student.projections = golden.layers.read(method_plan.layers.projections(), &device.autodiff());
    let (batch, at) = (golden.batch.clone().batch(), method.settings(0));
    let whole = method.size(&batch);
    let batch = wait(method.complete(&batch, &at, rows_at_once)).unwrap().unwrap_or(batch);
    let open = batch.asked.open_bm.as_ref().map_or(0.0, |open_bm| open_bm.iter().sum());
    let (mut sums, mut gradients) = ([0.0; 4], burn::optim::GradientsAccumulator::new());
    for from in (0..batch.rows).step_by(rows_at_once) {
        let part = method.part(&batch, from..batch.rows.min(from + rows_at_once));
        let loss = method.losses(&[&student], &part, &at, whole, &mut [Dropout::off()]).unwrap().remove(0);
        let none = || loss.hard.zeros_like();
        let soft = loss.soft[0].clone().unwrap_or_else(none);
        let feature = loss.features.first().cloned().flatten().unwrap_or_else(none);
        let found = [loss.total.clone(), loss.hard.clone(), soft, feature].map(|loss| loss.into_scalar::<f32>());
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
            close(&losses, &[case.total, case.hard_loss, case.soft_loss, 0.0], Kind::LossCpu);
            if case.gate == GateKind::LowestEntropy {
                assert_eq!(open as usize, case.open);
            }
            for (name, wanted) in &case.gradients {
                close(&gradients.get(name).unwrap().values, wanted, Kind::GradientCpu);
            }
        }
    }
}

#[test]
fn losses_between_last_layers_are_pytorchs() {
    let golden: Listening = golden("listening.json");
    for case in &golden.cosines {
        let plan = DistillPlan {
            hard: case.hard.into(),
            tau_squared: true,
            positions: case.positions,
            cosine: Some(case.cosine.into()),
            ..distill(case.soft, case.tau)
        };
        for rows_at_once in [9, 4] {
            eprintln!("{} soft {}, {rows_at_once} rows at once", case.positions, case.soft);
            let (losses, _, gradients) = in_parts(&golden, plan.clone(), rows_at_once);
            let soft = if case.soft > 0.0 { case.soft_loss } else { 0.0 };
            close(&losses, &[case.total, case.hard_loss, soft, case.cosine_loss], Kind::LossCpu);
            for (name, wanted) in &case.gradients {
                close(&gradients.get(name).unwrap().values, wanted, Kind::GradientCpu);
            }
        }
    }
}

#[test]
fn losses_between_layers_of_two_widths_are_pytorchs() {
    let golden: Listening = golden("listening.json");
    for case in &golden.layers.cases {
        let losses = Some(LayersPlan { weight: case.weight.into(), layers: case.layers.clone(), heads: case.heads });
        let mut plan = DistillPlan { hard: case.hard.into(), ..distill(0.0, 2.0) };
        *match case.kind {
            FeatureKind::Hidden => &mut plan.layers.hidden,
            FeatureKind::Relations => &mut plan.layers.relations,
            _ => &mut plan.layers.early,
        } = losses;
        for (rows_at_once, positions) in [(9, Positions::Masked), (4, Positions::All)] {
            eprintln!("{} of {}, {rows_at_once} rows at once", case.kind, case.layers);
            let teacher = read_teacher("teacher-narrow", &golden.narrow_teacher);
            let (losses, _, gradients) = taught(&golden, DistillPlan { positions, ..plan.clone() }, rows_at_once, teacher);
            close(&losses, &[case.total, case.hard_loss, 0.0, case.loss], Kind::LossCpu);
            for (name, wanted) in &case.gradients {
                close(&gradients.get(name).unwrap().values, wanted, Kind::GradientCpu);
            }
        }
    }
}

#[test]
fn ensembles_are_babyllamas() {
    let golden: Listening = golden("listening.json");
    for case in &golden.ensembles {
        let [first, second] = [("teacher", &golden.teacher), ("model-two-layers", &golden.second_teacher)]
            .map(|(name, shape)| read_teacher(name, shape));
        let ensemble = Box::new(Ensemble::new(vec![(case.weights[0], first), (case.weights[1], second)]));
        let plan = DistillPlan { hard: case.alpha.into(), tau_squared: true, ..distill(1.0 - case.alpha, case.tau) };
        let (losses, _, gradients) = taught(&golden, plan, 9, ensemble);
        close(&losses, &[case.total, case.hard_loss, case.soft_loss, 0.0], Kind::LossCpu);
        for (name, wanted) in &case.gradients {
            close(&gradients.get(name).unwrap().values, wanted, Kind::GradientCpu);
        }
    }
}
