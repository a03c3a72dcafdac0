//! The models that a run trains: their plans, and how a co-training run file comes to them.

use super::keys::{KEYS, find};
use super::plan::*;
use super::{Family, ModelPlan, ObjectiveKind, RunFile, Schedule, Shape};

impl Plan {
    /// What its models are asked.
    pub fn objective(&self) -> ObjectiveKind {
        self.model.shape.family().objective()
    }

    /// The models that the run trains, in the order of its logs: one called `model`, or the several of a co-training
    /// run.
    pub fn learners(&self) -> Vec<LearnerPlan> {
        if !self.models.is_empty() {
            return self.models.clone();
        }
        let train = &self.train;
        vec![LearnerPlan {
            name: MODEL.to_owned(),
            seed: self.seed,
            hard: self.distill.hard.clone(),
            lr: train.lr.clone(),
            optimizer: train.optimizer,
            epsilon: train.epsilon,
            weight_decay: train.weight_decay,
            clip: train.clip,
            from: Vec::new(),
            model: self.model.clone(),
        }]
    }
}

/// The models of a co-training run file, the largest first. What a model doesn't say is as in `[model]`, `[train]` and
/// `[distill]`; unless the file says otherwise it learns from every partner and from the teacher.
pub(super) fn models(
    file: &RunFile,
    shared: &ModelPlan,
    distill: &DistillPlan,
    train: &TrainPlan,
    has_teacher: bool,
) -> Vec<LearnerPlan> {
    let mut models: Vec<LearnerPlan> = file.models().map(|name| one(file, name, shared, distill, train)).collect();
    // By name first, so that equal sizes are in a fixed order.
    models.sort_by_key(|model| std::cmp::Reverse(model.parameters().total));
    let mut names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
    names.extend(has_teacher.then(|| TEACHER.to_owned()));
    for model in &mut models {
        let others = names.iter().filter(|name| **name != model.name);
        let never = |soft: &Schedule| soft.as_constant() == Some(0.0);
        model.from = others.map(|from| source(file, &model.name, from, distill)).filter(|source| !never(&source.soft)).collect();
    }
    models
}

fn one(file: &RunFile, name: &str, shared: &ModelPlan, distill: &DistillPlan, train: &TrainPlan) -> LearnerPlan {
    let key = |leaf: &str| format!("models.{name}.{leaf}");
    // What it doesn't say itself, or can't, is as in [model]; rules follow its own width.
    let own = |leaf: &str| find(KEYS, &key(leaf)).and_then(|_| file.size(&key(leaf)));
    let size = |leaf: &str| own(leaf).or(file.size(&format!("model.{leaf}")));
    let number = |leaf: &str, shared: f64| file.try_number(&key(leaf)).unwrap_or(shared);
    let schedule = |leaf: &str, shared: &Schedule| file.try_schedule(&key(leaf)).unwrap_or_else(|| shared.clone());
    let family = file.word(&key("family"), Family::from_word, shared.shape.family());
    let optimizer = file.word(&key("optimizer"), OptimizerKind::from_word, train.optimizer);
    LearnerPlan {
        name: name.to_owned(),
        seed: file.try_whole(&key("seed")).unwrap_or(file.whole("seed")),
        hard: schedule("hard", &distill.hard),
        lr: schedule("lr", &train.lr),
        optimizer,
        epsilon: file.try_number("train.epsilon").unwrap_or(optimizer.epsilon()),
        weight_decay: number("weight_decay", train.weight_decay),
        clip: number("clip", train.clip),
        from: Vec::new(),
        model: ModelPlan {
            shape: Shape::of_keys(family, size, shared.shape.vocab_size()),
            dropout: number("dropout", file.try_number("model.dropout").unwrap_or(family.dropout())),
            ..shared.clone()
        },
    }
}

fn source(file: &RunFile, model: &str, from: &str, distill: &DistillPlan) -> SourcePlan {
    let schedule = |leaf: &str, shared: &Schedule| {
        file.try_schedule(&format!("models.{model}.from.{from}.{leaf}")).unwrap_or_else(|| shared.clone())
    };
    SourcePlan {
        name: from.to_owned(),
        soft: schedule("soft", &distill.soft),
        temperature: schedule("temperature", &distill.temperature),
    }
}
