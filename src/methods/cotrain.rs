//! Models that teach each other while they train (Lee et al. 2023b, "co-training and co-distillation"), with or without
//! a fixed teacher that all of them learn from too.
//!
//! Models that teach each other use each other's training pass: one forward pass for each model and batch. A partner's
//! logits are those that it trains on, dropout included. They come as the head's two factors, cut off from the graph,
//! so that `[m, v]` logits never exist. A model's first soft loss is computed with its hard loss in one pass over the
//! vocabulary; each further one takes another pass.

use std::collections::BTreeMap;
use std::ops::Range;

use super::lm::{LmData, LmLoss};
use super::source::{Signal, Source};
use super::teacher::Teacher;
use super::{BatchSize, HeldOut, Method, ModelLoss, Pending, Settings, SoftSettings, TEACHER};
use crate::batch::Batch;
use crate::config::{DistillPlan, LearnerPlan, SourcePlan};
use crate::device::Compute;
use crate::error::Result;
use crate::model::{BatchTensors, Dropout, TrainedModel};

/// On the same masked batch, model `i` minimises `alpha_h(i) * H + sum over j of alpha_s(j to i) * S(p_j, p_i)`, with
/// p_j cut off from its graph. Each model makes one forward pass a batch: what it tells its partners is what it trains
/// on, dropout included. A model that learns from nobody at a step trains as it would alone, to the bit.
///
/// Only the abstract of the paper is public to us: that there is one weight and one temperature a direction is chosen
/// here.
pub struct Cotrain {
    data: LmData,
    distill: DistillPlan,
    models: Vec<LearnerPlan>,
    steps: u64,
    teacher: Option<Source>,
}

impl Cotrain {
    /// The models of a plan, in its order, over `steps` steps. Of `distill` it reads positions, label smoothing and the
    /// factor of the temperature; weights and temperatures are the models' own.
    pub fn new(
        data: LmData,
        distill: DistillPlan,
        models: Vec<LearnerPlan>,
        steps: u64,
        teacher: Option<Box<dyn Teacher>>,
    ) -> Self {
        Self { data, distill, models, steps, teacher: teacher.map(Source::Asked) }
    }

    /// With what a teacher said earlier, or a program, in the place of a fixed teacher.
    #[must_use]
    pub fn with_source(self, source: Source) -> Self {
        Self { teacher: Some(source), ..self }
    }

    fn soft_settings(&self, source: &SourcePlan, step: u64) -> SoftSettings {
        SoftSettings {
            from: source.name.clone(),
            alpha: source.soft.at(step, self.steps),
            temperature: source.temperature.at(step, self.steps),
        }
    }
}

impl Method for Cotrain {
    type Model = TrainedModel;
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
        LmData::size(batch)
    }

    fn settings(&self, step: u64) -> Vec<Settings> {
        let of = |plan: &LearnerPlan| Settings {
            alpha_hard: plan.hard.at(step, self.steps),
            soft: plan.from.iter().map(|source| self.soft_settings(source, step)).collect(),
            features: Vec::new(),
        };
        self.models.iter().map(of).collect()
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
        let passes: Vec<_> = models.iter().zip(dropout).map(|(model, dropout)| minimised.pass(&model.lm, dropout)).collect();

        let is_asked = |name: &str| at.iter().flat_map(|at| &at.soft).any(|soft| soft.from == name && soft.alpha != 0.0);
        let mut signals: BTreeMap<&str, Signal> = BTreeMap::new();
        for ((plan, model), pass) in self.models.iter().zip(models).zip(&passes).filter(|((plan, _), _)| is_asked(&plan.name)) {
            signals.insert(&plan.name, minimised.overhear(&model.lm, pass));
        }
        if let Some(teacher) = self.teacher.as_ref().filter(|_| is_asked(TEACHER)) {
            signals.insert(TEACHER, minimised.ask(teacher, batch)?.signal);
        }

        let loss = |((model, pass), at): ((&&TrainedModel, _), &Settings)| {
            let heard: Vec<Option<Signal>> = at.soft.iter().map(|soft| signals.get(soft.from.as_str()).cloned()).collect();
            minimised.loss(&model.lm, pass, at, &heard)
        };
        Ok(models.iter().zip(&passes).zip(at).map(loss).collect())
    }

    /// Also how often two of the models, and each model and the fixed teacher, agree.
    fn held_out<'a>(&'a self, models: &'a [&'a TrainedModel]) -> Pending<'a, Result<HeldOut>> {
        Box::pin(async move {
            let found = self.data.score(models, self.teacher.as_ref().and_then(Source::teacher)).await?;
            let name = |at: usize| &self.models[at].name;
            let mut agreement: BTreeMap<String, f64> =
                found.agreement.iter().map(|&(a, b, share)| (format!("{}/{}", name(a), name(b)), share)).collect();
            for (at, score) in found.scores.iter().enumerate() {
                agreement.extend(score.teacher_agreement.map(|share| (format!("{}/{TEACHER}", name(at)), share)));
            }
            let losses = found.scores.iter().map(|score| score.held_out_loss).collect();
            Ok(HeldOut { losses, teacher_loss: None, agreement })
        })
    }
}
