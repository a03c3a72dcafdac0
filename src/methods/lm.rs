//! What the methods of language modelling share: their batches, what a model minimises on one, and their evaluation.
//!
//! Of masked models, the head runs at masked positions only, and so does the last layer after its attention, because
//! nothing reads the other positions (`Bert::hidden_at`; a classifier reads `[CLS]` alone): the same numbers for 10 to
//! 20 % less work, for student and teacher alike. A row has a fixed number of masked positions (20 at length 128), so
//! that shapes are static; dropout there is keyed by the slot. `positions = "all"` reads every position, and computes
//! all of them while some soft weight is above 0.

use burn::module::Module;
use burn::tensor::Tensor;

use super::evaluate::{Together, evaluate_together, most_probable, teacher_loss};
use super::source::{Heard, Signal, Source};
use super::teacher::{Teacher, TeacherSignal};
use super::{BatchSize, FeatureKind, FeatureSettings, ModelLoss, Settings, SoftSettings, features, few};
use crate::batch::{Batch, Batches};
use crate::config::{DistillPlan, GateKind, Positions};
use crate::device::{Compute, Precision};
use crate::error::{Error, Result};
use crate::kernels::{DwtLoss, Logits, StepLoss, Targets, in_f32, look_up};
use crate::loss::{cosine_loss, divergence_loss, dwt_loss, hard_losses, outcomes_loss, weighted_mean};
use crate::model::{AnyModel, BatchTensors, Dropout, Inside, LanguageModel, TrainedModel};

/// Batches of rows to train on and to be scored on, and where to put them.
#[derive(Clone)]
pub struct LmData {
    /// The training split.
    pub train: Batches,
    /// The held-out split.
    pub held_out: Batches,
    /// Held-out rows to evaluate on.
    pub evaluate_rows: usize,
    /// Where the models are, and how their operations run.
    pub compute: Compute,
}

impl LmData {
    pub(super) fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Batch>> {
        const AHEAD: usize = 4;
        Box::new(self.train.clone().prefetch(from, to, AHEAD))
    }

    /// Numbers count from 0, as `upstill data show` does.
    pub(super) fn rows_of(&self, step: u64) -> String {
        let row = |(row, sentences): (usize, Vec<usize>)| {
            let sentences: Vec<String> = sentences.iter().map(usize::to_string).collect();
            format!("{row} ({})", sentences.join(" "))
        };
        format!("rows of the training split, and their sentences, from 0: {}", few(self.train.rows_of(step).into_iter().map(row)))
    }

    pub(super) fn size(batch: &Batch) -> BatchSize {
        BatchSize { rows: batch.rows, targets: batch.asked.count, tokens: batch.tokens }
    }

    /// Scores all models on the same rows, in f32.
    pub(super) async fn score(&self, models: &[&TrainedModel], teacher: Option<&dyn Teacher>) -> Result<Together> {
        let models: Vec<AnyModel> = models.iter().map(|model| model.lm.valid()).collect();
        let models: Vec<&AnyModel> = models.iter().collect();
        evaluate_together(&models, &self.held_out, self.evaluate_rows, teacher, &self.compute.clone().in_dtype(Precision::F32))
            .await
    }

    /// The held-out loss of a teacher, on the rows that models are scored on, in f32.
    pub(super) async fn score_teacher(&self, teacher: &dyn Teacher) -> Result<f64> {
        teacher_loss(teacher, &self.held_out, self.evaluate_rows, &self.compute.clone().in_dtype(Precision::F32)).await
    }
}

/// What a language model minimises on a batch: its hard loss where it is asked for a token, and a soft loss from each
/// whose predictions it learns from.
pub(super) struct LmLoss<'a> {
    distill: &'a DistillPlan,
    batch: &'a BatchTensors,
    whole: BatchSize,
    /// Where soft losses are taken.
    positions: Positions,
    /// Whether last layers are compared.
    compares: bool,
    /// What losses between layers need from inside a model that is trained, and from inside its teacher.
    inside: [Inside; 2],
}

/// One model's forward pass over a batch: what its own losses and its partners' are made of.
pub(super) struct Pass {
    /// Logits at the masked slots.
    masked: Logits,
    /// Hidden states at every position, where soft losses are taken at all.
    hidden_nd: Option<Tensor<2>>,
    /// Hidden states at the masked slots, where they are compared there.
    slots_md: Option<Tensor<2>>,
    /// What losses between layers are made of.
    inside: Inside,
}

impl<'a> LmLoss<'a> {
    /// What the models minimise with these settings, one each.
    pub fn new(distill: &'a DistillPlan, at: &[Settings], batch: &'a BatchTensors, whole: BatchSize) -> Self {
        let positions = if at.iter().any(Settings::listens) { distill.positions } else { Positions::Masked };
        let is_cosine = |feature: &FeatureSettings| feature.kind == FeatureKind::Cosine && feature.alpha != 0.0;
        let compares = at.iter().flat_map(|at| &at.features).any(is_cosine);
        Self { distill, batch, whole, positions, compares, inside: features::wanted(&distill.layers, at) }
    }

    pub fn pass(&self, model: &AnyModel, dropout: &mut Dropout) -> Pass {
        let BatchTensors { inputs, slots, .. } = self.batch;
        let mut inside = self.inside[0].clone();
        let (slots_md, hidden_nd) = match self.positions {
            Positions::Masked => (model.hidden_and(inputs, Some(slots), dropout, &mut inside), None),
            Positions::All => {
                let hidden_nd = model.hidden_and(inputs, None, dropout, &mut inside);
                (look_up(hidden_nd.clone(), slots, &inputs.compute), Some(hidden_nd))
            }
        };
        let compared = if self.compares && hidden_nd.is_none() { Some(slots_md.clone()) } else { None };
        Pass { masked: model.head(slots_md, &inputs.compute), hidden_nd, slots_md: compared, inside }
    }

    /// What a teacher says of this batch, where soft losses are taken.
    ///
    /// # Errors
    /// As [`Source::ask`], and when the gate's slots are to be chosen among a whole batch's and were not.
    pub fn ask(&self, source: &Source, batch: &Batch) -> Result<Heard> {
        if self.distill.gate.kind == GateKind::LowestEntropy && self.batch.open_n.is_none() {
            return Err(Error::new("nobody has chosen the slots of lowest entropy among the batch's")
                .help("Method::complete does, before a batch is divided into parts"));
        }
        source.ask(batch, self.batch, self.positions, self.inside[1].clone())
    }

    /// The logits of a model that is being trained itself, of the pass it trains on, as another's targets: cut off from
    /// its graph.
    pub fn overhear(&self, model: &AnyModel, pass: &Pass) -> Signal {
        Signal::Logits(TeacherSignal::new(self.answers(model, pass)).logits())
    }

    /// The loss of the model that made this pass, with the `signals` of `at.soft` in its order. A signal whose weight
    /// is 0 is not read; without any, this is masked language modelling to the bit.
    pub fn loss(&self, model: &AnyModel, pass: &Pass, at: &Settings, signals: &[Option<Signal>]) -> ModelLoss {
        let (batch, whole) = (self.batch, self.whole);
        let masked = Targets { labels_m: batch.labels_n.clone(), weights_m: batch.weights_n.clone(), count: whole.targets };
        let hard = DwtLoss::hard(at.alpha_hard, self.distill.label_smoothing);
        let with_soft = |loss: DwtLoss, soft: &SoftSettings| DwtLoss {
            alpha_soft: Some(soft.alpha),
            temperature: soft.temperature,
            tau_squared: self.distill.tau_squared,
            ..loss
        };
        let mut left: Vec<(usize, &SoftSettings, Signal)> = Vec::new();
        for (place, (soft, signal)) in at.soft.iter().zip(signals).enumerate().filter(|(_, (soft, _))| soft.alpha != 0.0) {
            left.extend(signal.clone().map(|signal| (place, soft, signal)));
        }
        left.reverse();
        let open_n = left.last().and_then(|(_, _, signal)| self.open(&pass.masked, signal));
        // The first signal at masked slots goes with the hard loss: one pass over the vocabulary for both.
        let together = if self.positions == Positions::Masked && open_n.is_none() { left.pop() } else { None };
        let mut softs: Vec<Option<Tensor<1>>> = vec![None; at.soft.len()];
        let first = match &together {
            Some((_, soft, signal)) => self.against(pass.masked.clone(), signal.clone(), &masked, &with_soft(hard, soft)),
            None => dwt_loss(pass.masked.clone(), None, &self.hard_targets(&masked, &open_n), &hard, &batch.inputs.compute),
        };
        if let Some((place, ..)) = together {
            softs[place] = first.soft;
        }
        let mut total = first.total;
        if !left.is_empty() {
            let (answers, targets) = (self.answers(model, pass), self.soft_targets(masked, open_n));
            while let Some((place, soft, signal)) = left.pop() {
                let loss = with_soft(DwtLoss { alpha_hard: None, ..hard }, soft);
                let more = self.against(answers.clone(), signal, &targets, &loss);
                total = total + more.total;
                softs[place] = more.soft;
            }
        }
        ModelLoss { total, hard: first.hard, soft: softs, features: Vec::new() }
    }

    /// A loss with those between layers of the model that made this pass and of its teacher: between last layers where
    /// soft losses are taken, between others at every real token. Without a weight above 0 it is the same loss to the
    /// bit.
    pub fn with_features(
        &self,
        loss: ModelLoss,
        model: &TrainedModel,
        pass: &Pass,
        at: &Settings,
        heard: Option<Heard>,
    ) -> ModelLoss {
        let mut out = ModelLoss { features: vec![None; at.features.len()], ..loss };
        let Some(heard) = heard else { return out };
        for (feature, found) in at.features.iter().zip(&mut out.features).filter(|(feature, _)| feature.alpha != 0.0) {
            let loss = match feature.kind {
                FeatureKind::Cosine => self.between_last_layers(pass, &heard),
                kind => self.between_layers(kind, model, pass, &heard),
            };
            if let Some(loss) = loss {
                out.total = out.total + loss.clone() * feature.alpha;
                *found = Some(loss);
            }
        }
        out
    }

    fn between_last_layers(&self, pass: &Pass, heard: &Heard) -> Option<Tensor<1>> {
        let own_nd = pass.hidden_nd.as_ref().or(pass.slots_md.as_ref())?;
        let loss_n = cosine_loss(in_f32(own_nd.clone()), in_f32(heard.hidden_nd.clone()?));
        let (labels_m, weights_m) = (self.batch.labels_n.clone(), self.batch.weights_n.clone());
        let masked = Targets { labels_m, weights_m, count: self.whole.targets };
        let Targets { weights_m, count, .. } = self.soft_targets(masked, None);
        Some(weighted_mean(loss_n, weights_m, count))
    }

    fn between_layers(&self, kind: FeatureKind, model: &TrainedModel, pass: &Pass, heard: &Heard) -> Option<Tensor<1>> {
        let (losses, sight) = (&self.distill.layers, &self.batch.inputs.sight);
        let loss_n = features::between(kind, losses, &pass.inside, &heard.inside, &model.projections, sight)?;
        Some(weighted_mean(loss_n, self.batch.real_bs.clone(), self.whole.tokens))
    }

    /// 1 at slots where the gate is open, 0 at others, `[n]`; none without a gate.
    fn open(&self, student: &Logits, signal: &Signal) -> Option<Tensor<1>> {
        let BatchTensors { inputs, labels_n, open_n, .. } = self.batch;
        let loss_of = |logits: &Logits| hard_losses(logits.clone(), labels_n.clone(), &inputs.compute);
        match (self.distill.gate.kind, signal) {
            (GateKind::Open, _) => None,
            (GateKind::LowestEntropy, _) => open_n.clone(),
            (GateKind::TeacherRight, signal) => {
                let first_n = match signal {
                    Signal::Logits(teacher) => most_probable(teacher, &inputs.compute),
                    Signal::Outcomes(_, said) => said.first_n.clone(),
                };
                Some(first_n.equal(labels_n.clone()).float())
            }
            (GateKind::TeacherBetter, signal) => {
                let teacher_n = match signal {
                    Signal::Logits(teacher) => loss_of(teacher),
                    Signal::Outcomes(_, said) => said.label_loss_n.clone(),
                };
                Some(teacher_n.lower(loss_of(student)).float())
            }
        }
    }

    /// Where the hard loss is taken: at all masked slots, or at those where the gate is closed.
    fn hard_targets(&self, masked: &Targets, open_n: &Option<Tensor<1>>) -> Targets {
        let weights_m = match open_n {
            Some(open_n) if self.distill.gate.switch => masked.weights_m.clone() * (open_n.clone().neg() + 1.0),
            _ => masked.weights_m.clone(),
        };
        Targets { weights_m, ..masked.clone() }
    }

    /// Equation 3 against one signal.
    fn against(&self, student: Logits, signal: Signal, targets: &Targets, loss: &DwtLoss) -> StepLoss {
        let compute = &self.batch.inputs.compute;
        match signal {
            Signal::Logits(teacher) if !self.distill.divergence.is_kl() => {
                divergence_loss(student, teacher, targets, loss, self.distill.divergence, compute)
            }
            Signal::Logits(teacher) => dwt_loss(student, Some(teacher), targets, loss, compute),
            Signal::Outcomes(outcomes, _) => outcomes_loss(student, &outcomes, targets, loss, compute),
        }
    }

    /// A model's logits where soft losses are taken.
    fn answers(&self, model: &AnyModel, pass: &Pass) -> Logits {
        match &pass.hidden_nd {
            None => pass.masked.clone(),
            Some(hidden_nd) => model.head(hidden_nd.clone(), &self.batch.inputs.compute),
        }
    }

    fn soft_targets(&self, masked: Targets, open_n: Option<Tensor<1>>) -> Targets {
        match self.positions {
            Positions::Masked => match open_n {
                Some(open_n) => Targets { weights_m: masked.weights_m * open_n, ..masked },
                None => masked,
            },
            Positions::All => Targets {
                labels_m: Tensor::zeros(self.batch.real_bs.dims(), &self.batch.real_bs.device()), // the soft loss has none
                weights_m: self.batch.real_bs.clone(),
                count: self.whole.tokens,
            },
        }
    }
}
