//! The BiLSTM student and the losses of its system are PyTorch's: goldens by tests/golden/transfer.py. Both forms of
//! the LSTM are held to them, and to each other where there is dropout.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use upstill::device::Compute;
use upstill::kernels::{Direction, bilstm, lstm_composed};
use upstill::loss::{Elements, JointWeights, hard_loss, log_odds, logit_loss, representation_loss};
use upstill::model::{BiLstmShape, Dropout, EncoderShape, HostTensor, Pooling, Student, StudentShape, TextRow, Weights};

use super::{golden, host};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Golden {
    sizes: [usize; 5],
    rows: Vec<Vec<i32>>,
    labels: Vec<i32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    pooling: Pooling,
    weights: BTreeMap<String, Values>,
    represented: Vec<f64>,
    logits: Vec<f64>,
    scores: Vec<f64>,
    teacher_logits: Vec<f32>,
    teacher_representation: Vec<f32>,
    odds: Vec<f64>,
    rows: BTreeMap<String, Vec<f64>>,
    total: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Case {
    fn student(&self, sizes: [usize; 5], device: &Device) -> Student {
        let [vocab_size, words, hidden, projection, classes] = sizes;
        let shape = BiLstmShape { vocab_size, words, hidden, pooling: self.pooling, input_dropout: 0.0, recurrent_dropout: 0.0 };
        let mut weights = Weights::default();
        for (name, Values { shape, values }) in &self.weights {
            weights.insert(name, HostTensor { shape: shape.clone(), values: values.clone() });
        }
        let shape = StudentShape { encoder: EncoderShape::BiLstm(shape), projection, classes };
        weights.load_into(shape.init(1, device)).unwrap()
    }
}

fn table(values: &[f32], rows: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), &Device::flex())
}

/// A model whose parameters are the gradients by another's: so they have its names and PyTorch's layout.
fn by_name(student: &Student, total: Tensor<1>) -> Weights {
    use burn::module::{ModuleMapper, Param};
    struct Gradients(burn::tensor::Gradients);
    impl ModuleMapper for Gradients {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| Tensor::from_inner(value.grad(&self.0).expect("every parameter has a gradient")).require_grad())
        }
    }
    Weights::of(&student.clone().map(&mut Gradients(total.backward())))
}

#[test]
fn a_student_and_its_losses_are_pytorchs() {
    let golden: Golden = golden("transfer.json");
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let rows: Vec<TextRow> = golden.rows.iter().map(|ids| TextRow { ids: ids.clone(), types: vec![0; ids.len()] }).collect();
    let texts: Vec<&TextRow> = rows.iter().collect();
    let b = rows.len();
    for case in &golden.cases {
        let student = case.student(golden.sizes, &tracked);
        let represented_bd = student.represent(&texts, 0, &Compute::of(&plain), &mut Dropout::off());
        let (logits_bc, scores_bc) = (student.classify(represented_bd.clone()), student.regress(represented_bd.clone()));
        close(&host(represented_bd.clone().inner()), &case.represented, Kind::Logits);
        close(&host(logits_bc.clone().inner()), &case.logits, Kind::Logits);
        close(&host(scores_bc.clone().inner()), &case.scores, Kind::Logits);

        let odds: Vec<f32> = case.teacher_logits.chunks(golden.sizes[4]).flat_map(|row| log_odds(row, 50.0)).collect();
        close(&odds, &case.odds, Kind::LossCpu);
        let teacher_bd = table(&case.teacher_representation, b);
        let labels_b = Tensor::<1, Int>::from_data(TensorData::new(golden.labels.clone(), [b]), &plain);
        let losses = [
            ("cross_entropy", hard_loss(logits_bc, labels_b, 0.0)),
            ("logits_mean", logit_loss(scores_bc.clone(), table(&odds, b), Elements::Mean)),
            ("logits_sum", logit_loss(scores_bc, table(&odds, b), Elements::Sum)),
            ("representation_mean", representation_loss(represented_bd.clone(), teacher_bd.clone(), Elements::Mean)),
            ("representation_sum", representation_loss(represented_bd, teacher_bd, Elements::Sum)),
        ];
        for (name, loss_b) in &losses {
            close(&host(loss_b.clone().inner()), &case.rows[*name], Kind::LossOfSlots);
        }
        let mean = |at: usize| losses[at].1.clone().mean();
        let total = JointWeights { alpha: 10.0, beta: 10.0, gamma: 1.0 }.joint(mean(0), mean(3), mean(1));
        close(&host(total.clone().inner()), &[case.total], Kind::LossOfSlots);
        let gradients = by_name(&student, total);
        assert_eq!(gradients.iter().count(), case.gradients.len());
        for (name, tensor) in gradients.iter() {
            eprintln!("{name}");
            close(&tensor.values, &case.gradients[name], Kind::GradientOfFactors);
        }
        // Without autodiff it is the same.
        let again = student.valid().represent(&texts, 0, &Compute::of(&plain), &mut Dropout::off());
        close(&host(again), &case.represented, Kind::Logits);
    }
}

/// Numbers between -1 and 1 that look drawn.
fn drawn(shape: [usize; 2], salt: usize) -> Vec<f32> {
    (0..shape[0] * shape[1]).map(|i| (((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.5) - 1.0).collect()
}

#[test]
fn the_fused_lstm_is_the_composed_one_with_dropout_and_rows_of_any_length() {
    for (t, h, active) in
        [(5, 6, vec![4, 4, 3, 1, 1]), (1, 17, vec![3]), (9, 33, vec![7, 7, 7, 7, 7, 5, 5, 2, 1]), (3, 1, vec![1, 1, 1])]
    {
        let b = active[0];
        let found: Vec<Vec<Vec<f32>>> = [true, false]
            .into_iter()
            .map(|fused| {
                let device = Device::flex().autodiff();
                let leaf = |shape: [usize; 2], salt: usize| {
                    Tensor::<2>::from_data(TensorData::new(drawn(shape, salt), shape), &device).require_grad()
                };
                let keep = (0..b * h).map(|i| if i % 3 == 0 { 0.0 } else { 1.25 }).collect::<Vec<f32>>();
                let keep_bh = Tensor::<2>::from_data(TensorData::new(keep, [b, h]), &Device::flex());
                let directions = [0, 1].map(|at| Direction {
                    gates_ng: leaf([t * b, 4 * h], at),
                    recurrent_hg: leaf([h, 4 * h], at + 2),
                    keep_bh: (at == 0).then(|| keep_bh.clone()),
                });
                let states = match fused {
                    true => bilstm(directions.clone(), &active, &Compute::of(&Device::flex())),
                    false => Tensor::stack(directions.each_ref().map(|one| lstm_composed(one, &active)).to_vec(), 0),
                };
                let above = Tensor::<4>::from_data(TensorData::new(drawn([2 * t, b * h], 9), [2, t, b, h]), &Device::flex());
                let gradients = (states.clone() * above).sum().backward();
                let of = |x: &Tensor<2>| host(x.grad(&gradients).unwrap());
                let mut out = vec![host(states.inner())];
                out.extend(directions.iter().flat_map(|one| [of(&one.gates_ng), of(&one.recurrent_hg)]));
                out
            })
            .collect();
        close(&found[0][0], &found[1][0], Kind::Logits);
        found[0][1..].iter().zip(&found[1][1..]).for_each(|(fused, composed)| close(fused, composed, Kind::GradientOfFactors));
    }
}
