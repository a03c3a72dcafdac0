//! Several fixed teachers that are heard as one.

use burn::tensor::Tensor;

use super::teacher::{Teacher, TeacherSignal};
use crate::device::Compute;
use crate::kernels::{Logits, Places};
use crate::model::Inputs;

/// Says the mean of its teachers' logits, by their weights: the ensemble of Timiryasov and Tastet 2023, "Baby Llama",
/// whose code has `torch.stack(all_teacher_logits).mean(dim=0)`, before the temperature. It has no hidden states.
pub struct Ensemble {
    members: Vec<(f64, Box<dyn Teacher>)>,
}

impl Ensemble {
    /// Takes teachers over one vocabulary, each with its weight above 0; only their ratios count.
    ///
    /// # Panics
    /// When there are none.
    pub fn new(members: Vec<(f64, Box<dyn Teacher>)>) -> Self {
        assert!(!members.is_empty(), "an ensemble has a teacher at least");
        let sum: f64 = members.iter().map(|(weight, _)| weight).sum();
        Self { members: members.into_iter().map(|(weight, teacher)| (weight / sum, teacher)).collect() }
    }
}

impl Teacher for Ensemble {
    fn signal(&self, inputs: &Inputs, at: &Places) -> TeacherSignal {
        let said = self.members.iter().map(|(share, teacher)| (*share, teacher.signal(inputs, at).logits()));
        TeacherSignal::new(mean(said.collect(), &inputs.compute))
    }
}

/// The sum of logits by their shares. Products that are not multiplied out yet stay so: a sum of products is one
/// product of what stands side by side, and logits exist a chunk of slots at a time.
fn mean(all: Vec<(f64, Logits)>, compute: &Compute) -> Logits {
    let (mut hidden, mut words, mut biases) = (Vec::new(), Vec::new(), Vec::new());
    for (share, logits) in &all {
        if let Logits::Factors { hidden_md, words_vd, bias_v } = logits.clone() {
            hidden.push(hidden_md * *share);
            words.push(words_vd);
            biases.push(bias_v * *share);
        }
    }
    let sum = |a, b| a + b;
    if let (true, Some(bias_v)) = (hidden.len() == all.len(), biases.into_iter().reduce(sum)) {
        return Logits::Factors { hidden_md: Tensor::cat(hidden, 1), words_vd: Tensor::cat(words, 1), bias_v };
    }
    let parts = all.into_iter().map(|(share, logits)| logits.whole(compute) * share);
    parts.reduce(|a: Tensor<2>, b| a + b).expect("an ensemble has a teacher at least").into()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::methods::{ModelTeacher, UniformTeacher};
    use crate::model::BertShape;

    fn host(logits: Logits, compute: &Compute) -> Vec<f32> {
        logits.whole(compute).into_data().try_to_vec().unwrap()
    }

    fn near(found: &[f32], wanted: &[f32]) {
        assert!(
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 2e-5),
            "{found:?}\n{wanted:?}"
        );
    }

    #[test]
    fn an_ensemble_says_the_mean_of_logits_by_weight() {
        let device = Device::flex();
        let compute = Compute::of(&device);
        let model = |seed: u64, width: usize| -> Box<dyn Teacher> {
            Box::new(ModelTeacher::new(BertShape::new(30, width, 1, 2, 8).init(seed, 0.5, &device)))
        };
        let rows = [5, 6, 7, 8, 9, 10, 11, 12];
        let inputs = Inputs::new(&rows, &[0, 1, 2, 3, 4, 5, 6, 7], &[1; 8], 1, &compute);
        let at = Places::new(&[1, 6], &device);
        let says = |teacher: &dyn Teacher| host(teacher.signal(&inputs, &at).logits(), &compute);
        let (a, b) = (says(&*model(1, 16)), says(&*model(2, 8)));
        // Twice the same model is that model, whatever its weights.
        near(&says(&Ensemble::new(vec![(1.0, model(1, 16)), (1.0, model(1, 16))])), &a);
        near(&says(&Ensemble::new(vec![(0.3, model(1, 16)), (2.0, model(1, 16))])), &a);
        // Of two widths, by their weights; with one that knows nothing, whose logits are whole.
        let wanted: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.25 * a + 0.75 * b).collect();
        near(&says(&Ensemble::new(vec![(1.0, model(1, 16)), (3.0, model(2, 8))])), &wanted);
        let halved: Vec<f32> = a.iter().map(|a| 0.5 * a).collect();
        near(&says(&Ensemble::new(vec![(1.0, model(1, 16)), (1.0, Box::new(UniformTeacher { vocab_size: 30 }))])), &halved);
        // What is cut off from any graph is made of tensors alone.
        let whole: Logits = Tensor::<2>::from_data(TensorData::new(a.clone(), [2, 30]), &device).into();
        near(&host(mean(vec![(1.0, whole)], &compute), &compute), &a);
    }
}
