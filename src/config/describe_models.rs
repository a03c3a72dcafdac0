//! A co-training plan's models in words.

use super::describe::{means_text, shape_text};
use super::plan::*;
use super::schedule::number;
use super::shape::ObjectiveKind;

impl Plan {
    /// A model's sizes, then whom it learns from, then what it has of its own.
    pub(super) fn learner_text(&self, model: &LearnerPlan) -> String {
        let gap = "\n".to_owned() + &" ".repeat(13);
        let mut lines = vec![shape_text(&model.model)];
        let from = |source: &SourcePlan| {
            let who = if source.name == TEACHER { "the teacher".to_owned() } else { source.name.clone() };
            format!("soft {} from {who}, temperature {}", source.soft, source.temperature)
        };
        let soft: Vec<String> = model.from.iter().map(from).collect();
        let soft = if soft.is_empty() { "learns from nobody".to_owned() } else { soft.join("; ") };
        lines.push(format!("hard {}; {soft}", model.hard));
        lines.extend(self.own_settings(model));
        lines.join(&gap)
    }

    /// What a model has that is not as in `[train]`.
    fn own_settings(&self, model: &LearnerPlan) -> Option<String> {
        let train = &self.train;
        let mut own = Vec::new();
        if model.lr != train.lr {
            own.push(format!("rate {}", model.lr));
        }
        if model.optimizer != train.optimizer {
            own.push(model.optimizer.to_string());
        }
        if model.weight_decay != train.weight_decay {
            own.push(format!("weight decay {}", number(model.weight_decay)));
        }
        if model.clip != train.clip {
            own.push(if model.clip > 0.0 { format!("clipped at {}", number(model.clip)) } else { "not clipped".into() });
        }
        if model.seed != self.seed {
            own.push(format!("seed {}", model.seed));
        }
        (!own.is_empty()).then(|| format!("its own: {}", own.join(", ")))
    }

    /// What all soft losses share.
    pub(super) fn shared_loss_text(&self) -> String {
        let DistillPlan { tau_squared, positions, label_smoothing, .. } = &self.distill;
        let mut text = format!("hard and soft as above; soft at {}", self.asked_text(*positions));
        if *tau_squared {
            text += ", times the temperature squared";
        }
        if *label_smoothing > 0.0 {
            text += &format!("; hard smoothed by {}", number(*label_smoothing));
        }
        text
    }

    /// What was chosen here: all of it, for only the paper's abstract is public to us.
    pub(super) fn cotrain_notes(&self) -> Vec<String> {
        let weights: Vec<String> = self
            .models
            .iter()
            .flat_map(|model| model.from.iter().map(|source| format!("{} to {} {}", source.name, model.name, source.soft)))
            .collect();
        let TrainPlan { clip, weight_decay, .. } = self.train;
        let mut notes =
            vec!["only the abstract of co-training (Lee et al. 2023b) is public to us: what follows is chosen here".to_owned()];
        if !weights.is_empty() {
            notes.push(format!("weights of the soft losses: {}", weights.join(", ")));
            let factor =
                if self.distill.tau_squared { "times the temperature squared" } else { "without a factor of the temperature" };
            notes.push(format!("soft losses at {}, {factor}", self.asked_text(self.distill.positions)));
            notes.push("one forward pass a model a batch: partners hear what a model trains on, dropout included".into());
        }
        for (model, twin) in self.twins() {
            notes
                .push(format!("{model} and {twin} start from the same weights: a seed of its own would tell one from the other"));
        }
        notes.push(format!(
            "{}, weight decay {} and clipping at {}, unless a model has its own",
            means_text(&self.train),
            number(weight_decay),
            number(clip)
        ));
        let asked = match self.objective() {
            ObjectiveKind::Masked => format!("{} of the tokens masked, 80/10/10", self.mask_rate_text()),
            ObjectiveKind::Causal => "every token predicted from those before it".to_owned(),
        };
        notes.push(format!("rows of at most {} tokens; {asked}", self.data.length));
        notes
    }

    /// Models of one shape and one seed.
    fn twins(&self) -> Vec<(&str, &str)> {
        let pairs = self.models.iter().enumerate().flat_map(|(at, a)| self.models[at + 1..].iter().map(move |b| (a, b)));
        pairs.filter(|(a, b)| a.model == b.model && a.seed == b.seed).map(|(a, b)| (a.name.as_str(), b.name.as_str())).collect()
    }
}
