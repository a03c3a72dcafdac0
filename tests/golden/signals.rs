//! What a student may listen to, against PyTorch: the golden is by tests/golden/signals.py.

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;
use upstill::config::{Divergence, DivergenceKind};
use upstill::device::{Compute, Kernels};
use upstill::kernels::{DwtLoss, Logits, Outcomes, Targets};
use upstill::loss::{
    divergence_loss, jensen_shannon_loss, outcomes_loss, reverse_loss, soft_loss_of_outcomes, total_variation_loss,
};

use super::{golden, host, ints};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Signals {
    slots: usize,
    vocab: usize,
    student: Vec<f32>,
    teacher: Vec<f32>,
    divergences: Vec<DivergenceCase>,
    outcomes: Vec<OutcomesCase>,
}

#[derive(Deserialize)]
struct OutcomesCase {
    kind: String,
    count: usize,
    tau: f64,
    ids: Vec<i32>,
    shares: Vec<f32>,
    rest: Vec<f32>,
    constant: Vec<f32>,
    loss: Vec<f64>,
    gradient: Vec<f64>,
}

#[test]
fn losses_against_outcomes_are_pytorchs() {
    let golden: Signals = golden("signals.json");
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    for case in golden.outcomes {
        eprintln!("{} {} at {}", case.kind, case.count, case.tau);
        let data = TensorData::new(golden.student.clone(), [golden.slots, golden.vocab]);
        let student_nv = Tensor::<2>::from_data(data, &tracked).require_grad();
        let outcomes = Outcomes::new(case.ids, case.shares, case.rest, case.constant, &plain);
        let loss_n = soft_loss_of_outcomes(student_nv.clone(), &outcomes, case.tau);
        close(&host(loss_n.inner()), &case.loss, Kind::LossCpu);
        let targets = Targets {
            labels_m: ints(&vec![0; golden.slots], &plain),
            weights_m: Tensor::ones([golden.slots], &plain),
            count: golden.slots,
        };
        let loss = DwtLoss { alpha_hard: None, alpha_soft: Some(1.0), temperature: case.tau, smoothing: 0.0, tau_squared: false };
        for form in [Kernels::Composed, Kernels::Fused] {
            let compute = Compute::of(&plain).by(form);
            let total = outcomes_loss(Logits::Whole(student_nv.clone()), &outcomes, &targets, &loss, &compute).total;
            let gradient_nv = student_nv.grad(&total.backward()).unwrap();
            close(&host(total.inner()), &[case.loss.iter().sum::<f64>() / golden.slots as f64], Kind::LossCpu);
            close(&host(gradient_nv), &case.gradient, Kind::GradientCpu);
        }
    }
}

#[derive(Deserialize)]
struct DivergenceCase {
    kind: DivergenceKind,
    beta: f64,
    tau: f64,
    loss: Vec<f64>,
    gradient: Vec<f64>,
}

#[test]
fn other_divergences_are_pytorchs() {
    let golden: Signals = golden("signals.json");
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let shape = [golden.slots, golden.vocab];
    for DivergenceCase { kind, beta, tau, loss: wanted, gradient } in golden.divergences {
        eprintln!("{kind} {beta} at {tau}");
        let student_nv = Tensor::<2>::from_data(TensorData::new(golden.student.clone(), shape), &tracked).require_grad();
        let teacher_nv = Tensor::<2>::from_data(TensorData::new(golden.teacher.clone(), shape), &plain);
        let loss_n = match kind {
            DivergenceKind::ReverseKl => reverse_loss(student_nv.clone(), teacher_nv.clone(), tau),
            DivergenceKind::JensenShannon => jensen_shannon_loss(student_nv.clone(), teacher_nv.clone(), beta, tau),
            DivergenceKind::TotalVariation => total_variation_loss(student_nv.clone(), teacher_nv.clone(), tau),
            DivergenceKind::Kl => unreachable!("equation 2 has a golden of its own"),
        };
        close(&host(loss_n.inner()), &wanted, Kind::LossCpu);
        let targets = Targets {
            labels_m: ints(&vec![0; golden.slots], &plain),
            weights_m: Tensor::ones([golden.slots], &plain),
            count: golden.slots,
        };
        let loss = DwtLoss { alpha_hard: None, alpha_soft: Some(1.0), temperature: tau, smoothing: 0.0, tau_squared: false };
        let (student, compute) = (Logits::Whole(student_nv.clone()), Compute::of(&plain));
        let total = divergence_loss(student, teacher_nv.into(), &targets, &loss, Divergence { kind, beta }, &compute).total;
        let gradient_nv = student_nv.grad(&total.backward()).unwrap();
        close(&host(gradient_nv), &gradient, Kind::GradientCpu);
    }
}
