//! How far two runs are one run: what lets the second go on from a checkpoint of the first.

use super::{Plan, Schedule};

/// The step up to which two runs are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parting {
    /// Steps in which both move the same weights in the same way: after so many they have the same models, to the bit.
    pub steps: u64,
    /// What differs from there on; the shorter run's end, when nothing does.
    pub what: &'static str,
}

impl Plan {
    /// How long this run and another are the same. They may differ in length, in the later course of their schedules,
    /// and in what moves no weight: evaluations, checkpoints, `[runtime]`.
    pub fn parting(&self, other: &Plan) -> Parting {
        if self.without_course().hash() != other.without_course().hash() {
            return Parting { steps: 0, what: "the model, the data, the method or the optimizer" };
        }
        let shorter = self.train.steps.min(other.train.steps);
        let (own, theirs) = (self.schedules(), other.schedules());
        let parts = |step: u64| {
            let differs = |((_, a), (_, b)): &(&(&'static str, &Schedule), &(&'static str, &Schedule))| {
                a.at(step, self.train.steps).to_bits() != b.at(step, other.train.steps).to_bits()
            };
            own.iter().zip(&theirs).find(differs).map(|((what, _), _)| Parting { steps: step, what })
        };
        (0..shorter).find_map(parts).unwrap_or(Parting { steps: shorter, what: "the shorter run's end" })
    }

    /// All that changes over a run, in an order that plans share which are alike without it.
    fn schedules(&self) -> Vec<(&'static str, &Schedule)> {
        let distill = &self.distill;
        let mut all = vec![
            ("train.lr", &self.train.lr),
            ("distill.hard", &distill.hard),
            ("distill.soft", &distill.soft),
            ("distill.temperature", &distill.temperature),
        ];
        all.extend(distill.features().map(|(kind, weight)| (kind.keys().0, weight)));
        all.extend(self.train.batch_schedule.as_ref().map(|rows| ("train.batch", rows)));
        all.extend(self.data.mask_schedule.as_ref().map(|rate| ("data.mask_rate", rate)));
        for own in &self.models {
            all.extend([("a model's lr", &own.lr), ("a model's hard weight", &own.hard)]);
            let from = own.from.iter();
            all.extend(
                from.flat_map(|from| [("a model's soft weight", &from.soft), ("a model's temperature", &from.temperature)]),
            );
        }
        all
    }

    /// The plan without what two runs that share their first steps may differ in.
    fn without_course(&self) -> Plan {
        let mut plan = self.clone();
        let none = || Schedule::constant(0.0);
        plan.train.steps = 0;
        if plan.distill.fade == 0.0 {
            // Evaluations move no weight.
            (plan.train.evaluate_every, plan.train.evaluate_rows, plan.train.evaluate_after) = (0, 0, 0);
        }
        plan.train.lr = none();
        (plan.distill.hard, plan.distill.soft, plan.distill.temperature) = (none(), none(), none());
        plan.distill.cosine = plan.distill.cosine.map(|_| none());
        plan.distill.layers.iter_mut().for_each(|plan| plan.weight = none());
        for own in &mut plan.models {
            (own.lr, own.hard) = (none(), none());
            own.from.iter_mut().for_each(|from| (from.soft, from.temperature) = (none(), none()));
        }
        plan
    }
}
