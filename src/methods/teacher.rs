//! Teachers: whatever gives logits for the student's batch, and never gets a gradient.

use burn::tensor::{Int, Tensor};

use crate::kernels::Logits;
use crate::model::{BertForMaskedLm, Dropout, Inputs};

/// The teacher's logits for a batch, outside any autodiff graph by construction.
#[derive(Debug, Clone)]
pub struct TeacherSignal {
    logits: Logits,
}

impl TeacherSignal {
    /// Takes logits `[n, v]`, as a tensor or not multiplied out yet, and cuts them off from any graph.
    pub fn new(logits: impl Into<Logits>) -> Self {
        Self { logits: logits.into().detached() }
    }

    /// The logits.
    pub fn logits(self) -> Logits {
        self.logits
    }
}

/// Anything that predicts masked tokens: a trained model, several of them, a table, a rule.
pub trait Teacher: Send {
    /// Logits `[n, v]` at the `n` flattened positions `at_n` of `inputs`.
    fn signal(&self, inputs: &Inputs, at_n: Tensor<1, Int>) -> TeacherSignal;
}

/// A trained model as the teacher: in inference mode, without dropout.
pub struct ModelTeacher {
    model: BertForMaskedLm,
}

impl ModelTeacher {
    /// Takes a model, on a device without autodiff.
    pub fn new(model: BertForMaskedLm) -> Self {
        Self { model }
    }

    /// The model.
    pub fn model(&self) -> &BertForMaskedLm {
        &self.model
    }
}

impl Teacher for ModelTeacher {
    fn signal(&self, inputs: &Inputs, at_n: Tensor<1, Int>) -> TeacherSignal {
        let hidden_nd = self.model.bert.hidden(inputs, &mut Dropout::off());
        TeacherSignal::new(self.model.head(hidden_nd.select(0, at_n), inputs.compute))
    }
}

/// The uniform distribution as the teacher: a control that has no knowledge, only the regularisation of label smoothing
/// (Yuan et al. 2020).
pub struct UniformTeacher {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
}

impl Teacher for UniformTeacher {
    fn signal(&self, inputs: &Inputs, at_n: Tensor<1, Int>) -> TeacherSignal {
        TeacherSignal::new(Tensor::zeros([at_n.dims()[0], self.vocab_size], &inputs.ids_bs.device()))
    }
}
