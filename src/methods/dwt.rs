//! Distillation from a weak teacher (Lee et al. 2023), and, without a teacher, masked language modelling alone.

use std::ops::Range;
use std::sync::OnceLock;

use super::lm::{LmData, LmLoss};
use super::source::Source;
use super::teacher::Teacher;
use super::{BatchSize, FeatureSettings, HeldOut, Method, ModelLoss, Pending, Settings, SoftSettings, TEACHER};
use crate::batch::Batch;
use crate::config::{DistillPlan, Gate, GateKind};
use crate::device::Compute;
use crate::error::Result;
use crate::loss::{faded, lowest_share};
use crate::model::{BatchTensors, Dropout, TrainedModel};

/// Equation 3: the student minimises `alpha_h * H + alpha_s * S`. A step whose `alpha_s` is 0 does not ask the teacher,
/// and is masked language modelling to the bit.
pub struct Dwt {
    data: LmData,
    distill: DistillPlan,
    steps: u64,
    teacher: Option<Source>,
    /// The teacher's held-out loss, once it was worked out.
    teacher_loss: OnceLock<f64>,
}

/// Masked language modelling alone (equation 1), over `steps` steps.
pub fn standalone(data: LmData, distill: DistillPlan, steps: u64) -> Dwt {
    Dwt { data, distill, steps, teacher: None, teacher_loss: OnceLock::new() }
}

impl Dwt {
    /// Distillation from `teacher` over `steps` steps.
    pub fn new(data: LmData, distill: DistillPlan, steps: u64, teacher: Box<dyn Teacher>) -> Self {
        Self { teacher: Some(Source::Asked(teacher)), ..standalone(data, distill, steps) }
    }

    /// Distillation from what a teacher said earlier, or from a program: it is not in memory.
    pub fn from_source(data: LmData, distill: DistillPlan, steps: u64, source: Source) -> Self {
        Self { teacher: Some(source), ..standalone(data, distill, steps) }
    }

    /// Worked out once: neither the teacher nor the held-out rows change.
    async fn held_out_loss_of(&self, teacher: &dyn Teacher) -> Result<f64> {
        if let Some(loss) = self.teacher_loss.get() {
            return Ok(*loss);
        }
        let loss = self.data.score_teacher(teacher).await?;
        Ok(*self.teacher_loss.get_or_init(|| loss))
    }
}

impl Method for Dwt {
    type Model = TrainedModel;
    type Batch = Batch;

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Batch> + '_> {
        self.data.batches(from, to)
    }

    /// With the slots of lowest entropy, where the gate asks for them.
    fn complete<'a>(&'a self, batch: &'a Batch, at: &'a [Settings], rows_at_once: usize) -> Pending<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let Gate { kind, share, .. } = self.distill.gate;
            let soft = at.iter().flat_map(|at| &at.soft).find(|soft| soft.alpha != 0.0);
            let (GateKind::LowestEntropy, Some(source), Some(soft)) = (kind, &self.teacher, soft) else { return Ok(None) };
            let entropy_n = source.entropies(batch, soft.temperature, rows_at_once, &self.data.compute).await?;
            let mut batch = batch.clone();
            batch.asked.open_bm = Some(lowest_share(&entropy_n, &batch.asked.weights_bm, share));
            Ok(Some(batch))
        })
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
        LmData::size(batch)
    }

    fn settings(&self, step: u64) -> Vec<Settings> {
        let DistillPlan { hard, soft, temperature, .. } = &self.distill;
        let from_teacher = self.teacher.iter().map(|_| SoftSettings {
            from: TEACHER.to_owned(),
            alpha: soft.at(step, self.steps),
            temperature: temperature.at(step, self.steps),
        });
        let features = self.distill.features().filter(|_| self.teacher.is_some());
        let features = features.map(|(kind, weight)| FeatureSettings { kind, alpha: weight.at(step, self.steps) });
        vec![Settings { alpha_hard: hard.at(step, self.steps), soft: from_teacher.collect(), features: features.collect() }]
    }

    /// The soft weight fades as the student passes its teacher.
    fn settings_after(&self, step: u64, last: Option<&HeldOut>) -> Vec<Settings> {
        let mut settings = self.settings(step);
        let known = last.and_then(|last| Some((*last.losses.first()?, last.teacher_loss?)));
        if let Some((student, teacher)) = known.filter(|_| self.adapts()) {
            let factor = faded(student, teacher, self.distill.fade);
            settings.iter_mut().flat_map(|at| &mut at.soft).for_each(|soft| soft.alpha *= factor);
        }
        settings
    }

    fn adapts(&self) -> bool {
        self.distill.fade > 0.0
    }

    fn losses(
        &self,
        models: &[&TrainedModel],
        batch: &Batch,
        at: &[Settings],
        whole: BatchSize,
        dropout: &mut [Dropout],
    ) -> Result<Vec<ModelLoss>> {
        let tensors = BatchTensors::new(batch, &self.data.compute);
        let minimised = LmLoss::new(&self.distill, at, &tensors, whole);
        let student_loss = |((student, at), dropout): ((&&TrainedModel, &Settings), &mut Dropout)| {
            let pass = minimised.pass(&student.lm, dropout);
            let asked = self.teacher.as_ref().filter(|_| at.listens());
            let heard = asked.map(|source| minimised.ask(source, batch)).transpose()?;
            let answer = |soft: &SoftSettings| heard.as_ref().filter(|_| soft.alpha != 0.0).map(|heard| heard.signal.clone());
            let signals: Vec<_> = at.soft.iter().map(answer).collect();
            let loss = minimised.loss(&student.lm, &pass, at, &signals);
            Ok(minimised.with_features(loss, student, &pass, at, heard))
        };
        models.iter().zip(at).zip(dropout).map(student_loss).collect()
    }

    fn held_out<'a>(&'a self, models: &'a [&'a TrainedModel]) -> Pending<'a, Result<HeldOut>> {
        Box::pin(async move {
            let scores = self.data.score(models, None).await?.scores;
            let losses = scores.iter().map(|score| score.held_out_loss).collect::<Vec<_>>();
            let teacher_loss = match self.teacher.as_ref().and_then(Source::teacher).filter(|_| self.adapts()) {
                Some(teacher) => Some(self.held_out_loss_of(teacher).await?),
                None => None,
            };
            Ok(HeldOut { teacher_loss, ..losses.into() })
        })
    }
}
