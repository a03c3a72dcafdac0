//! Distillation from a weak teacher (Lee et al. 2023), and, without a teacher, masked language modelling alone.

use burn::tensor::{Int, Tensor};

use super::masked_lm::MaskedLm;
use super::teacher::Teacher;
use super::{BatchSize, Method, Settings};
use crate::batch::MaskedBatch;
use crate::config::{DistillPlan, Positions};
use crate::error::Result;
use crate::loss::{StepLoss, hard_loss, soft_factor, soft_loss, weighted_mean};
use crate::model::{BatchTensors, BertForMaskedLm, Dropout};

/// Equation 3: the student minimises `alpha_h * H + alpha_s * S`. A step whose `alpha_s` is 0 does not ask the teacher, and
/// is masked language modelling to the bit.
pub struct Dwt {
    data: MaskedLm,
    distill: DistillPlan,
    steps: u64,
    teacher: Option<Box<dyn Teacher>>,
}

/// Masked language modelling alone (equation 1), over `steps` steps.
pub fn standalone(data: MaskedLm, distill: DistillPlan, steps: u64) -> Dwt {
    Dwt { data, distill, steps, teacher: None }
}

impl Dwt {
    /// Distillation from `teacher` over `steps` steps.
    pub fn new(data: MaskedLm, distill: DistillPlan, steps: u64, teacher: Box<dyn Teacher>) -> Self {
        Self { data, distill, steps, teacher: Some(teacher) }
    }

    fn student_loss(
        &self,
        student: &BertForMaskedLm,
        batch: &BatchTensors,
        at: &Settings,
        whole: BatchSize,
        dropout: &mut Dropout,
    ) -> StepLoss {
        let smoothing = self.distill.label_smoothing;
        let hard_of = |logits_nv: Tensor<2>| {
            weighted_mean(hard_loss(logits_nv, batch.labels_n.clone(), smoothing), batch.weights_n.clone(), whole.targets)
        };
        let (alpha_soft, tau) = (at.alpha_soft.unwrap_or(0.0), at.temperature.unwrap_or(1.0));
        let Some(teacher) = self.teacher.as_ref().filter(|_| alpha_soft != 0.0) else {
            let hard = hard_of(student.logits(&batch.inputs, batch.slots_n.clone(), dropout));
            return StepLoss { total: hard.clone() * at.alpha_hard, hard, soft: None };
        };
        let (at_n, weights_n, count) = match self.distill.positions {
            Positions::Masked => (batch.slots_n.clone(), batch.weights_n.clone(), whole.targets),
            Positions::All => {
                let positions = batch.real_bs.dims()[0] as i64;
                (Tensor::<1, Int>::arange(0..positions, &batch.real_bs.device()), batch.real_bs.clone(), whole.tokens)
            }
        };
        let logits_nv = student.logits(&batch.inputs, at_n.clone(), dropout);
        let signal = teacher.signal(&batch.inputs, at_n);
        let hard = match self.distill.positions {
            Positions::Masked => hard_of(logits_nv.clone()),
            Positions::All => hard_of(logits_nv.clone().select(0, batch.slots_n.clone())),
        };
        let soft = weighted_mean(soft_loss(logits_nv, signal.logits(), tau), weights_n, count);
        let factor = alpha_soft * soft_factor(tau, self.distill.tau_squared);
        StepLoss { total: hard.clone() * at.alpha_hard + soft.clone() * factor, hard, soft: Some(soft) }
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
        let batch = BatchTensors::new(batch, &self.data.device);
        models.iter().map(|student| self.student_loss(student, &batch, at, whole, dropout)).collect()
    }

    fn held_out(&self, models: &[&BertForMaskedLm]) -> Result<Vec<f64>> {
        models.iter().map(|model| self.data.held_out_loss(model)).collect()
    }
}
