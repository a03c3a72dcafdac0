//! Distillation from a weak teacher (Lee et al. 2023), and, without a teacher, masked language modelling alone.

use std::ops::Range;

use super::masked_lm::{MaskedLm, Objective};
use super::teacher::Teacher;
use super::{BatchSize, HeldOut, Method, ModelLoss, Pending, Settings, SoftSettings, TEACHER};
use crate::batch::MaskedBatch;
use crate::config::DistillPlan;
use crate::error::Result;
use crate::kernels::Compute;
use crate::model::{BatchTensors, BertForMaskedLm, Dropout};

/// Equation 3: the student minimises `alpha_h * H + alpha_s * S`. A step whose `alpha_s` is 0 does not ask the teacher, and
/// is masked language modelling to the bit.
pub struct Dwt {
    data: MaskedLm,
    distill: DistillPlan,
    steps: u64,
    teacher: Option<Box<dyn Teacher>>,
    compute: Compute,
}

/// Masked language modelling alone (equation 1), over `steps` steps.
pub fn standalone(data: MaskedLm, distill: DistillPlan, steps: u64) -> Dwt {
    let compute = Compute::of(&data.device);
    Dwt { data, distill, steps, teacher: None, compute }
}

impl Dwt {
    /// Distillation from `teacher` over `steps` steps.
    pub fn new(data: MaskedLm, distill: DistillPlan, steps: u64, teacher: Box<dyn Teacher>) -> Self {
        Self { teacher: Some(teacher), ..standalone(data, distill, steps) }
    }

    /// The same with operations in a form, and products in numbers, of the caller's choice.
    #[must_use]
    pub fn with(self, compute: impl Into<Compute>) -> Self {
        Self { compute: compute.into(), ..self }
    }
}

impl Method for Dwt {
    type Model = BertForMaskedLm;
    type Batch = MaskedBatch;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = MaskedBatch> + '_> {
        self.data.batches(from, to)
    }

    fn part(&self, batch: &MaskedBatch, rows: Range<usize>) -> MaskedBatch {
        batch.part(rows)
    }

    fn rows_of(&self, step: u64) -> Option<String> {
        Some(self.data.rows_of(step))
    }

    fn size(&self, batch: &MaskedBatch) -> BatchSize {
        MaskedLm::size(batch)
    }

    fn settings(&self, step: u64) -> Vec<Settings> {
        let DistillPlan { hard, soft, temperature, .. } = &self.distill;
        let from_teacher = self.teacher.iter().map(|_| SoftSettings {
            from: TEACHER.to_owned(),
            alpha: soft.at(step, self.steps),
            temperature: temperature.at(step, self.steps),
        });
        vec![Settings { alpha_hard: hard.at(step, self.steps), soft: from_teacher.collect() }]
    }

    fn losses(
        &self,
        models: &[&BertForMaskedLm],
        batch: &MaskedBatch,
        at: &[Settings],
        whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> Vec<ModelLoss> {
        let batch = BatchTensors::new(batch, &self.data.device).with_compute(self.compute);
        let objective = Objective::new(&self.distill, at, &batch, whole, self.compute);
        let student_loss = |((student, at), dropout): ((&&BertForMaskedLm, &Settings), &mut Dropout)| {
            let pass = objective.pass(student, dropout);
            let asked = |soft: &SoftSettings| self.teacher.as_deref().filter(|_| soft.alpha != 0.0);
            let signals: Vec<_> = at.soft.iter().map(|soft| Some(objective.ask(asked(soft)?))).collect();
            objective.loss(student, &pass, at, &signals)
        };
        models.iter().zip(at).zip(dropout).map(student_loss).collect()
    }

    fn held_out<'a>(&'a self, models: &'a [&'a BertForMaskedLm]) -> Pending<'a, Result<HeldOut>> {
        Box::pin(async move {
            let scores = self.data.score(models, None, self.compute).await?.scores;
            Ok(scores.iter().map(|score| score.held_out_loss).collect::<Vec<_>>().into())
        })
    }
}
