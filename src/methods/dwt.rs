//! Distillation from a weak teacher (Lee et al. 2023), and, without a teacher, masked language modelling alone.

use std::ops::Range;

use super::masked_lm::{MaskedLm, Objective};
use super::source::Source;
use super::teacher::Teacher;
use super::{BatchSize, HeldOut, Method, ModelLoss, Pending, Settings, SoftSettings, TEACHER};
use crate::batch::Batch;
use crate::config::DistillPlan;
use crate::device::Compute;
use crate::error::Result;
use crate::model::{AnyModel, BatchTensors, Dropout};

/// Equation 3: the student minimises `alpha_h * H + alpha_s * S`. A step whose `alpha_s` is 0 does not ask the teacher,
/// and is masked language modelling to the bit.
pub struct Dwt {
    data: MaskedLm,
    distill: DistillPlan,
    steps: u64,
    teacher: Option<Source>,
}

/// Masked language modelling alone (equation 1), over `steps` steps.
pub fn standalone(data: MaskedLm, distill: DistillPlan, steps: u64) -> Dwt {
    Dwt { data, distill, steps, teacher: None }
}

impl Dwt {
    /// Distillation from `teacher` over `steps` steps.
    pub fn new(data: MaskedLm, distill: DistillPlan, steps: u64, teacher: Box<dyn Teacher>) -> Self {
        Self { teacher: Some(Source::Asked(teacher)), ..standalone(data, distill, steps) }
    }

    /// Distillation from what a teacher said earlier, or from a program: it is not in memory.
    pub fn from_source(data: MaskedLm, distill: DistillPlan, steps: u64, source: Source) -> Self {
        Self { teacher: Some(source), ..standalone(data, distill, steps) }
    }
}

impl Method for Dwt {
    type Model = AnyModel;
    type Batch = Batch;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Batch> + '_> {
        self.data.batches(from, to)
    }

    fn part(&self, batch: &Batch, rows: Range<usize>) -> Batch {
        batch.part(rows)
    }

    fn rows_of(&self, step: u64) -> Option<String> {
        Some(self.data.rows_of(step))
    }

    fn compute(&self) -> &Compute {
        &self.data.compute
    }

    fn size(&self, batch: &Batch) -> BatchSize {
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
        models: &[&AnyModel],
        batch: &Batch,
        at: &[Settings],
        whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> Result<Vec<ModelLoss>> {
        let tensors = BatchTensors::new(batch, &self.data.compute);
        let objective = Objective::new(&self.distill, at, &tensors, whole);
        let student_loss = |((student, at), dropout): ((&&AnyModel, &Settings), &mut Dropout)| {
            let pass = objective.pass(student, dropout);
            let asked = |soft: &SoftSettings| self.teacher.as_ref().filter(|_| soft.alpha != 0.0);
            let answer = |soft| asked(soft).map(|source| objective.ask(source, batch)).transpose();
            let signals = at.soft.iter().map(answer).collect::<Result<Vec<_>>>()?;
            Ok(objective.loss(student, &pass, at, &signals))
        };
        models.iter().zip(at).zip(dropout).map(student_loss).collect()
    }

    fn held_out<'a>(&'a self, models: &'a [&'a AnyModel]) -> Pending<'a, Result<HeldOut>> {
        Box::pin(async move {
            let scores = self.data.score(models, None).await?.scores;
            Ok(scores.iter().map(|score| score.held_out_loss).collect::<Vec<_>>().into())
        })
    }
}
