//! Distillation from a weak teacher (Lee et al. 2023), and, without a teacher, masked language modelling alone.

use burn::tensor::Tensor;

use super::masked_lm::MaskedLm;
use super::teacher::Teacher;
use super::{BatchSize, Method, Settings};
use crate::batch::MaskedBatch;
use crate::config::{DistillPlan, Positions};
use crate::error::Result;
use crate::kernels::{DwtLoss, Form, Targets};
use crate::loss::{StepLoss, dwt_loss};
use crate::model::{BatchTensors, BertForMaskedLm, Dropout};

/// Equation 3: the student minimises `alpha_h * H + alpha_s * S`. A step whose `alpha_s` is 0 does not ask the teacher, and
/// is masked language modelling to the bit.
pub struct Dwt {
    data: MaskedLm,
    distill: DistillPlan,
    steps: u64,
    teacher: Option<Box<dyn Teacher>>,
    form: Form,
}

/// Masked language modelling alone (equation 1), over `steps` steps.
pub fn standalone(data: MaskedLm, distill: DistillPlan, steps: u64) -> Dwt {
    let form = Form::of(&data.device);
    Dwt { data, distill, steps, teacher: None, form }
}

impl Dwt {
    /// Distillation from `teacher` over `steps` steps.
    pub fn new(data: MaskedLm, distill: DistillPlan, steps: u64, teacher: Box<dyn Teacher>) -> Self {
        Self { teacher: Some(teacher), ..standalone(data, distill, steps) }
    }

    /// The same with a form of the operations of the caller's choice.
    #[must_use]
    pub fn with_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    fn student_loss(
        &self,
        student: &BertForMaskedLm,
        batch: &BatchTensors,
        at: &Settings,
        whole: BatchSize,
        dropout: &mut Dropout,
    ) -> StepLoss {
        let hidden_nd = student.bert.hidden(&batch.inputs, dropout);
        let masked = Targets { labels_m: batch.labels_n.clone(), weights_m: batch.weights_n.clone(), count: whole.targets };
        let masked_logits = student.head(hidden_nd.clone().select(0, batch.slots_n.clone()), self.form);
        let hard = DwtLoss::hard(at.alpha_hard, self.distill.label_smoothing);
        let (alpha_soft, temperature) = (at.alpha_soft.unwrap_or(0.0), at.temperature.unwrap_or(1.0));
        let Some(teacher) = self.teacher.as_ref().filter(|_| alpha_soft != 0.0) else {
            return dwt_loss(masked_logits, None, &masked, &hard, self.form);
        };
        let both = DwtLoss { alpha_soft: Some(alpha_soft), temperature, tau_squared: self.distill.tau_squared, ..hard };
        match self.distill.positions {
            Positions::Masked => {
                let signal = teacher.signal(&batch.inputs, batch.slots_n.clone());
                dwt_loss(masked_logits, Some(signal.logits()), &masked, &both, self.form)
            }
            Positions::All => {
                let everywhere_n = Tensor::arange(0..batch.real_bs.dims()[0] as i64, &batch.real_bs.device());
                let real = Targets {
                    labels_m: Tensor::zeros_like(&everywhere_n), // the soft loss has none
                    weights_m: batch.real_bs.clone(),
                    count: whole.tokens,
                };
                let signal = teacher.signal(&batch.inputs, everywhere_n).logits();
                let soft = DwtLoss { alpha_hard: None, ..both };
                dwt_loss(masked_logits, None, &masked, &hard, self.form).plus(dwt_loss(
                    student.head(hidden_nd, self.form),
                    Some(signal),
                    &real,
                    &soft,
                    self.form,
                ))
            }
        }
    }
}

impl Method for Dwt {
    type Model = BertForMaskedLm;
    type Batch = MaskedBatch;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = MaskedBatch> + '_> {
        self.data.batches(from, to)
    }

    fn split(&self, batch: &MaskedBatch, rows: usize) -> Vec<MaskedBatch> {
        batch.split(rows).collect()
    }

    fn size(&self, batch: &MaskedBatch) -> BatchSize {
        MaskedLm::size(batch)
    }

    fn settings(&self, step: u64) -> Settings {
        let distills = self.teacher.is_some();
        Settings {
            alpha_hard: self.distill.hard.at(step, self.steps),
            alpha_soft: distills.then(|| self.distill.soft.at(step, self.steps)),
            temperature: distills.then(|| self.distill.temperature.at(step, self.steps)),
        }
    }

    fn losses(
        &self,
        models: &[&BertForMaskedLm],
        batch: &MaskedBatch,
        at: &Settings,
        whole: BatchSize,
        dropout: &mut Dropout,
    ) -> Vec<StepLoss> {
        let batch = BatchTensors::new(batch, &self.data.device).with_form(self.form);
        models.iter().map(|student| self.student_loss(student, &batch, at, whole, dropout)).collect()
    }

    fn held_out(&self, models: &[&BertForMaskedLm]) -> Result<Vec<f64>> {
        models.iter().map(|model| self.data.held_out_loss(model)).collect()
    }
}
