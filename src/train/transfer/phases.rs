//! The schedules of Mukherjee and Awadallah 2019 (section 5) as phases, and the training of one.

use std::time::Instant;

use super::midway::{Keeper, Midway, PhaseSummary, State};
use super::stopping::{EarlyStopping, Verdict};
use crate::config::{ElementKind, Schedule, Targets, TrainPlan, TransferDistill, TransferPlan, TransferSchedule};
use crate::device::{Compute, wait};
use crate::error::{Error, Result};
use crate::loss::{Elements, JointWeights};
use crate::methods::{Head, Method, PhaseLoss, Transfer, TransferRows};
use crate::model::Student;
use crate::train::life::Stretch;
use crate::train::{FitOptions, Flow, Learner, fit};

/// One phase: what is minimised, and which layers move.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name in the log.
    pub name: String,
    /// What is minimised.
    pub loss: PhaseLoss,
    /// How many of the student's layers move, from the top.
    pub unfrozen: usize,
    /// Whether new heads are drawn first.
    pub new_heads: bool,
}

/// The phases of a schedule for a student of `layers` layers.
pub fn phases(distill: &TransferDistill, layers: usize) -> Vec<Phase> {
    let TransferDistill { alpha, beta, gamma, .. } = *distill;
    let elements = match distill.elements {
        ElementKind::Mean => Elements::Mean,
        ElementKind::Sum => Elements::Sum,
    };
    let loss =
        |alpha: f64, beta: f64, gamma: f64, hard: f64| PhaseLoss { weights: JointWeights { alpha, beta, gamma }, hard, elements };
    let whole = |name: &str, loss| Phase { name: name.to_owned(), loss, unfrozen: layers, new_heads: false };
    let thawing = |name: &str, loss: PhaseLoss| -> Vec<Phase> {
        let phase = |unfrozen| Phase {
            name: format!("{name}, top {unfrozen} of {layers} layers"),
            loss,
            unfrozen,
            new_heads: distill.new_heads && unfrozen == 1,
        };
        (1..=layers).map(phase).collect()
    };
    let labels = loss(alpha, 0.0, 0.0, 0.0);
    let joined = |first: Phase, then: Vec<Phase>| std::iter::once(first).chain(then).collect();
    match (distill.targets, distill.schedule) {
        (Targets::None, _) => vec![whole("labels", labels)],
        (Targets::Hard, TransferSchedule::Joint) => vec![whole("labels and the teacher's labels", loss(alpha, 0.0, 0.0, alpha))],
        (Targets::Hard, _) => joined(whole("the teacher's labels", loss(0.0, 0.0, 0.0, alpha)), thawing("labels", labels)),
        (Targets::Soft, TransferSchedule::Joint) => {
            vec![whole("labels, representation and logits", loss(alpha, beta, gamma, 0.0))]
        }
        (Targets::Soft, TransferSchedule::Stagewise) => {
            joined(whole("representation", loss(0.0, beta, 0.0, 0.0)), thawing("labels and logits", loss(alpha, 0.0, gamma, 0.0)))
        }
        (Targets::Soft, TransferSchedule::DistilOnce) => {
            joined(whole("representation and logits", loss(0.0, beta, gamma, 0.0)), thawing("labels", labels))
        }
    }
}

/// The head that a schedule teaches to answer: equation 1's wherever classes are learnt.
pub fn answering(phases: &[Phase]) -> Head {
    let learns_classes = phases.iter().any(|phase| phase.loss.weights.alpha > 0.0 || phase.loss.hard > 0.0);
    if learns_classes { Head::Classifier } else { Head::Regression }
}

/// What a phase works on.
pub(super) struct PhaseRun<'a> {
    pub plan: &'a TransferPlan,
    pub train: &'a TransferRows,
    pub validation: &'a TransferRows,
    pub pad: i32,
    pub device: &'a burn::tensor::Device,
    pub keeper: &'a Keeper<'a>,
    pub stop: &'a dyn Fn() -> bool,
}

impl PhaseRun<'_> {
    fn method(&self, phase: &Phase, seed: u64) -> Transfer<'_> {
        Transfer {
            train: self.train,
            validation: self.validation,
            loss: phase.loss,
            batch: self.plan.train.batch,
            seed,
            pad: self.pad,
            compute: Compute::of(self.device),
        }
    }

    /// Steps between two looks at the validation rows.
    pub fn round(&self, phase: &Phase) -> u64 {
        self.method(phase, 0).steps_per_pass().max(self.plan.train.round_steps)
    }

    /// Trains a student, on a device with autodiff, until its validation loss no longer falls; gives the best. `before`
    /// are the phases before this one, `midway` the place in this one to go on from.
    pub fn run(
        &self,
        phase: &Phase,
        student: Student,
        before: &[PhaseSummary],
        midway: Option<Midway>,
        stretch: &mut Stretch,
    ) -> Result<(Student, PhaseSummary)> {
        let started = Instant::now();
        let settings = &self.plan.train;
        let done: u64 = before.iter().map(|phase| phase.steps).sum();
        let seed = self.plan.seed.wrapping_add((before.len() as u64) << 32);
        let (method, round) = (self.method(phase, seed), self.round(phase));
        let train = train_plan(self.plan, round);
        let mut learner = Learner::new(student.with_unfrozen(phase.unfrozen), &train, self.plan.model.dropout, seed);
        let (mut best, mut state) = match midway {
            Some(Midway { student, best, optimizer, state, .. }) => {
                learner.model = student.with_unfrozen(phase.unfrozen);
                learner.optimizer.load_state(&learner.model, &optimizer)?;
                (best, state)
            }
            None => {
                let mut stopping = EarlyStopping::new(settings.patience);
                // What the phase before came to is to be beaten.
                stopping.see(wait(method.held_out(&[&learner.model]))?.losses[0]);
                (learner.model.clone(), State { step: 0, stopping, summaries: before.to_vec(), seconds: 0.0 })
            }
        };
        let seconds_before = state.seconds;
        let mut stopped = false;
        let options =
            FitOptions { train: &train, micro_batch: settings.batch.max(2), done: state.step, evaluated: None, worker: None };
        fit(&method, vec![learner], &options, |record, learners| {
            state.step = record.step + 1;
            state.seconds = seconds_before + started.elapsed().as_secs_f64();
            let mut record = record.clone();
            record.step += done;
            stretch.record(&record, None)?;
            let verdict = record.held_out_loss.map(|loss| state.stopping.see(loss));
            if verdict == Some(Verdict::Better) {
                best = learners[0].model.clone();
            }
            let over = verdict == Some(Verdict::Stop) || state.step == train.steps;
            stopped = !over && (self.stop)();
            if stopped || !over && self.keeper.is_due() {
                self.keeper.save(&learners[0], &best, &state, stretch)?;
            }
            Ok(if over || stopped { Flow::Stop } else { Flow::Continue })
        })?;
        if stopped {
            return Err(Error::interrupted(format!("stopped in the phase {:?}; everything is saved", phase.name))
                .help("the same command goes on exactly"));
        }
        let validation_loss = state.stopping.best().ok_or_else(|| {
            Error::new(format!("no validation loss of the phase {:?} is a number", phase.name)).help("lower the learning rate")
        })?;
        let seconds = seconds_before + started.elapsed().as_secs_f64();
        Ok((best, PhaseSummary { name: phase.name.clone(), steps: state.step, validation_loss, seconds }))
    }
}

fn train_plan(plan: &TransferPlan, round: u64) -> TrainPlan {
    let settings = &plan.train;
    TrainPlan {
        steps: round * settings.rounds,
        batch: settings.batch,
        batch_schedule: None,
        lr: Schedule::constant(settings.lr),
        optimizer: settings.optimizer,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: settings.optimizer.epsilon().min(1e-7),
        weight_decay: 0.0,
        clip: settings.clip,
        evaluate_every: round,
        evaluate_rows: 0,
        evaluate_after: 0,
        checkpoint_every: 0,
        keep_checkpoints: 0,
        keep_at: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunFile;

    fn names(targets: &str, schedule: &str) -> Vec<String> {
        let text = format!(
            "method = \"transfer\"\n[teacher]\nfrom = \"t\"\n[data]\ntask = \"x\"\n[distill]\ntargets = \"{targets}\"\nschedule = \"{schedule}\""
        );
        let plan = RunFile::parse(&text, "test").unwrap().resolve_transfer().unwrap();
        phases(&plan.distill, 4)
            .into_iter()
            .map(|Phase { name, loss: PhaseLoss { weights, hard, .. }, unfrozen, .. }| {
                format!("{name}: {} {} {} {hard} of {unfrozen}", weights.alpha, weights.beta, weights.gamma)
            })
            .collect()
    }

    #[test]
    fn schedules_are_the_papers() {
        assert_eq!(names("none", "joint"), ["labels: 10 0 0 0 of 4"]);
        assert_eq!(names("hard", "joint"), ["labels and the teacher's labels: 10 0 0 10 of 4"]);
        assert_eq!(names("soft", "joint"), ["labels, representation and logits: 10 10 1 0 of 4"]);
        assert_eq!(
            names("soft", "stagewise"),
            [
                "representation: 0 10 0 0 of 4",
                "labels and logits, top 1 of 4 layers: 10 0 1 0 of 1",
                "labels and logits, top 2 of 4 layers: 10 0 1 0 of 2",
                "labels and logits, top 3 of 4 layers: 10 0 1 0 of 3",
                "labels and logits, top 4 of 4 layers: 10 0 1 0 of 4",
            ]
        );
        assert_eq!(
            names("soft", "distil-once")[..2],
            ["representation and logits: 0 10 1 0 of 4", "labels, top 1 of 4 layers: 10 0 0 0 of 1"]
        );
    }
}
