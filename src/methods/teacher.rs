//! Teachers: whatever gives logits for the student's batch, and never gets a gradient.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::device::Compute;
use crate::kernels::{Logits, Places};
use crate::model::{AnyModel, Dropout, Inputs, Inside, LanguageModel, ModulePath};

/// The teacher's logits for a batch, outside any autodiff graph by construction.
#[derive(Debug, Clone)]
pub struct TeacherSignal {
    logits: Logits,
    hidden_nd: Option<Tensor<2>>,
}

impl TeacherSignal {
    /// Takes logits `[n, v]`, as a tensor or not multiplied out yet, and cuts them off from any graph.
    pub fn new(logits: impl Into<Logits>) -> Self {
        Self { logits: logits.into().detached(), hidden_nd: None }
    }

    /// With the hidden states of its last layer at the same positions, `[n, d]`, cut off from any graph: for losses
    /// between last layers.
    #[must_use]
    pub fn with_hidden(self, hidden_nd: Tensor<2>) -> Self {
        let hidden_nd = if hidden_nd.device().is_autodiff() { hidden_nd.inner() } else { hidden_nd };
        Self { hidden_nd: Some(hidden_nd), ..self }
    }

    /// The hidden states of its last layer, `[n, d]`, of teachers that give them.
    pub fn hidden(&self) -> Option<Tensor<2>> {
        self.hidden_nd.clone()
    }

    /// The logits.
    pub fn logits(self) -> Logits {
        self.logits
    }
}

/// Anything that predicts tokens: a trained model, several of them, a table, a rule.
///
/// ```
/// use burn::tensor::Tensor;
/// use upstill::Teacher;
/// use upstill::kernels::Places;
/// use upstill::methods::TeacherSignal;
/// use upstill::model::Inputs;
///
/// /// Finds every one of `words` words equally likely.
/// struct NoIdea {
///     words: usize,
/// }
///
/// impl Teacher for NoIdea {
///     fn signal(&self, inputs: &Inputs, at: &Places) -> TeacherSignal {
///         TeacherSignal::new(Tensor::<2>::zeros([at.count(), self.words], &inputs.ids_bs.device()))
///     }
/// }
/// ```
pub trait Teacher: Send {
    /// Logits `[n, v]` at `n` of the flattened positions of `inputs`.
    fn signal(&self, inputs: &Inputs, at: &Places) -> TeacherSignal;

    /// [`signal`](Self::signal), and what is wanted from inside the teacher, where it has layers.
    fn signal_and(&self, inputs: &Inputs, at: &Places, _inside: &mut Inside) -> TeacherSignal {
        self.signal(inputs, at)
    }
}

/// A trained model as the teacher: in inference mode, without dropout.
pub struct ModelTeacher {
    model: AnyModel,
}

impl ModelTeacher {
    /// Takes a model, on a device without autodiff.
    pub fn new(model: impl Into<AnyModel>) -> Self {
        Self { model: model.into() }
    }

    /// With what only products read in their numbers, made once and not at every batch. Tables stay: rows of them are
    /// looked up too.
    #[must_use]
    pub fn for_products(self, compute: &Compute) -> Self {
        Self { model: self.model.map(&mut Matrices { path: ModulePath::default(), compute }) }
    }

    /// The model.
    pub fn model(&self) -> &AnyModel {
        &self.model
    }
}

impl Teacher for ModelTeacher {
    fn signal(&self, inputs: &Inputs, at: &Places) -> TeacherSignal {
        self.signal_and(inputs, at, &mut Inside::default())
    }

    fn signal_and(&self, inputs: &Inputs, at: &Places, inside: &mut Inside) -> TeacherSignal {
        let hidden_nd = self.model.hidden_and(inputs, Some(at), &mut Dropout::off(), inside);
        TeacherSignal::new(self.model.head(hidden_nd.clone(), &inputs.compute)).with_hidden(hidden_nd)
    }
}

struct Matrices<'a> {
    path: ModulePath,
    compute: &'a Compute,
}

impl ModuleMapper for Matrices<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match D == 2 && !AnyModel::is_table(&self.path.name()) {
            true => param.map(|matrix| self.compute.factor(matrix)),
            false => param,
        }
    }
}

/// The uniform distribution as the teacher: a control that has no knowledge, only the regularisation of label smoothing
/// (Yuan et al. 2020).
pub struct UniformTeacher {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
}

impl Teacher for UniformTeacher {
    fn signal(&self, inputs: &Inputs, at: &Places) -> TeacherSignal {
        TeacherSignal::new(Tensor::zeros([at.count(), self.vocab_size], &inputs.ids_bs.device()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::device::{Kernels, Precision};
    use crate::model::BertShape;

    #[test]
    fn matrices_made_once_give_what_matrices_made_at_each_batch_give() {
        let device = Device::flex();
        let compute = Compute::of(&device).by(Kernels::Composed).in_dtype(Precision::Bf16);
        let teacher = || ModelTeacher::new(BertShape::new(50, 16, 2, 2, 8).init(3, 0.5, &device));
        let rows = [[5, 6, 7, 8, 9, 10, 11, 12]];
        let inputs = Inputs::new(rows.as_flattened(), &[0, 1, 2, 3, 4, 5, 6, 7], &[1; 8], 1, &compute);
        let logits = |teacher: ModelTeacher| {
            teacher
                .signal(&inputs, &Places::new(&[1, 6], &device))
                .logits()
                .whole(&compute)
                .into_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        let made_once = teacher().for_products(&compute);
        let AnyModel::Bert(bert) = &made_once.model else { unreachable!("a BERT") };
        assert_eq!(bert.bert.encoder.layer[1].output.dense.weight.val().dtype(), compute.dtype());
        assert_eq!(logits(made_once), logits(teacher()));
    }
}
