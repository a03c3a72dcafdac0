//! From what was written and what was found to a plan: a pure function.

use super::check::check;
use super::facts::{DataFacts, Facts, TeacherFacts};
use super::features::{FeatureKind, LayerLosses, LayersPlan};
use super::learner::models;
use super::listening::*;
use super::plan::*;
use super::{AnswersFacts, Family, ModelPlan, ObjectiveKind, RunFile, Schedule, Shape, TeacherModel};
use crate::device::Kernels;
use crate::error::Result;

impl RunFile {
    /// Works out the plan and checks it.
    ///
    /// # Errors
    /// One error with every mistake: of the file's keys and types, of values that can't be, and of what doesn't fit the
    /// facts.
    pub fn resolve(&self, facts: &Facts) -> Result<Plan> {
        if self.is_transfer() {
            return Err(crate::error::Error::new("a transfer run has a plan of another kind")
                .at(self.place())
                .help("`upstill train` runs it; in a program, RunFile::resolve_transfer and train::transfer are for it"));
        }
        let mut plan = draft(self, facts);
        if !self.has_written("runtime.micro_batch") {
            plan.runtime.micro_batch = plan.rows_that_fit(facts.memory_bytes);
        }
        match self.error(check(self, &plan, facts)) {
            Some(error) => Err(error),
            None => Ok(plan),
        }
    }
}

/// The plan as far as it goes: wrong values stay in, missing facts are zeros. [`check`] decides whether it stands.
fn draft(file: &RunFile, facts: &Facts) -> Plan {
    let method = file.method().unwrap_or(Method::Dwt);
    let found = facts.teacher.as_ref().and_then(|found| found.as_ref().ok());
    let model = model(file, method, found, facts.data.as_ref().map_or(0, |data| data.vocab_size));
    let objective = objective(file, method, &model);
    let data = data(file, facts.data.as_ref().ok(), objective);
    let train = train(file, data.rows_per_epoch);
    let teacher = teacher(file, method, facts);
    let mut distill = distill(file, method, objective);
    if method != Method::Standalone {
        let of_teacher = teacher.as_ref().and_then(|teacher| teacher.model.as_ref()).map(|model| &model.shape);
        distill.layers = layer_losses(file, &model.shape, of_teacher);
    }
    let models = match method {
        Method::Cotrain => models(file, &model, &distill, &train, teacher.is_some()),
        _ => Vec::new(),
    };
    Plan {
        method,
        seed: file.whole("seed"),
        model: models.first().map_or(model, |largest| largest.model.clone()),
        teacher,
        models,
        held_out: file.held_out().collect(),
        distill,
        runtime: RuntimePlan {
            device: match (file.text("runtime.device").unwrap_or_default(), facts.auto) {
                (word, Some(auto)) if word == "auto" => auto.to_owned(),
                (word, _) => word,
            },
            kernels: file.text("runtime.kernels").and_then(|word| Kernels::from_word(&word)),
            micro_batch: file.try_whole("runtime.micro_batch").map_or(train.batch, |rows| rows as usize),
            ..file.section("runtime", &["micro_batch"], &["kernels"])
        },
        data,
        train,
    }
}

/// As written; a model that goes on has the teacher's sizes.
fn model(file: &RunFile, method: Method, teacher: Option<&TeacherFacts>, vocab_size: usize) -> ModelPlan {
    let size = |key: &str| file.size(&format!("model.{key}"));
    let family = file.word("model.family", Family::from_word, Family::Bert);
    let shape = match teacher.filter(|_| start(file, method) == Start::Continue) {
        Some(teacher) => teacher.shape.clone().with_vocabulary(vocab_size),
        None => Shape::of_keys(family, size, vocab_size),
    };
    ModelPlan {
        dropout: file.try_number("model.dropout").unwrap_or(shape.family().dropout()),
        shape,
        initializer_range: file.number("model.initializer_range"),
    }
}

fn teacher(file: &RunFile, method: Method, facts: &Facts) -> Option<TeacherPlan> {
    if let Some(command) = file.text("teacher.command").filter(|_| method != Method::Standalone) {
        return Some(TeacherPlan {
            from: command,
            model: None,
            answers: None,
            timeout_s: Some(file.try_number("teacher.timeout_s").unwrap_or(60.0)),
            weight: 1.0,
            others: Vec::new(),
        });
    }
    let from = file.text("teacher.from").filter(|_| method != Method::Standalone)?;
    let found = facts.teacher.as_ref().and_then(|found| found.as_ref().ok());
    let model = found.filter(|_| from != UNIFORM).map(model_of);
    let answers = facts.answers.as_ref().map(AnswersFacts::plan);
    let member = |(name, found): &(String, Result<TeacherFacts>)| {
        let (from, weight) = (file.text(&format!("teachers.{name}.from"))?, file.weight_of(&format!("teachers.{name}")));
        Some(MemberPlan { name: name.clone(), from, weight, model: model_of(found.as_ref().ok()?) })
    };
    let others: Vec<_> = facts.others.iter().filter_map(member).collect();
    let weight = if others.is_empty() { 1.0 } else { file.weight_of("teacher") };
    Some(TeacherPlan { from, model, answers, timeout_s: None, weight, others })
}

fn model_of(found: &TeacherFacts) -> TeacherModel {
    TeacherModel {
        shape: found.shape.clone(),
        parameters: found.shape.parameters().total,
        tokenizer_hash: found.tokenizer_hash.clone(),
        content_hash: found.content_hash.clone(),
    }
}

/// What the run's models are asked; of several, the first.
fn objective(file: &RunFile, method: Method, model: &ModelPlan) -> ObjectiveKind {
    match method {
        Method::Cotrain => file.wanted().family.unwrap_or_default().objective(),
        _ => model.shape.family().objective(),
    }
}

/// Whoever learns alone starts alone.
fn start(file: &RunFile, method: Method) -> Start {
    match method {
        Method::Standalone => Start::Fresh,
        _ => file.word("distill.start", Start::from_word, Start::Fresh),
    }
}

/// Where nothing is masked, what says how is 0.
fn data(file: &RunFile, found: Option<&DataFacts>, objective: ObjectiveKind) -> DataPlan {
    let of = |count: fn(&DataFacts) -> u64| found.map_or(0, count);
    let is_masked = objective == ObjectiveKind::Masked;
    let rates = if is_masked { file.schedule("data.mask_rate") } else { Schedule::constant(0.0) };
    let mask_rate = rates.bounds().1;
    DataPlan {
        shards: file.text("data.shards").unwrap_or_default(),
        shards_hash: found.map_or_else(String::new, |data| data.shards_hash.clone()),
        tokenizer_hash: found.map_or_else(String::new, |data| data.tokenizer_hash.clone()),
        sentences: of(|data| data.sentences),
        tokens: of(|data| data.tokens),
        longest_sentence: found.map_or(0, |data| data.longest_sentence),
        rows: file.word("data.rows", Rows::from_word, Rows::Sentence),
        length: file.whole("data.length") as usize,
        rows_per_epoch: of(|data| data.rows_per_epoch),
        tokens_per_row: found.map_or(0.0, |data| data.tokens_per_row),
        mask_rate,
        mask_schedule: Some(rates).filter(|rates| rates.as_constant().is_none()),
        held_out_mask_rate: file.try_number("data.held_out_mask_rate").filter(|rate| is_masked && *rate != mask_rate),
        slots: found.map_or(0, |data| data.slots),
        whole_word: is_masked && file.flag("data.whole_word"),
        rarity: if is_masked { file.number("data.rarity") } else { 0.0 },
    }
}

/// A standalone run has no soft loss; what a preset or a default says of one doesn't enter its plan.
fn distill(file: &RunFile, method: Method, objective: ObjectiveKind) -> DistillPlan {
    let (hard, label_smoothing) = (file.schedule("distill.hard"), file.number("distill.label_smoothing"));
    if method == Method::Standalone {
        let positions = Positions::Masked;
        let (soft, temperature) = (Schedule::constant(0.0), Schedule::constant(1.0));
        let (divergence, gate) = (Divergence::default(), Gate::default());
        return DistillPlan {
            hard,
            soft,
            temperature,
            tau_squared: false,
            divergence,
            gate,
            fade: 0.0,
            cosine: None,
            layers: LayerLosses::default(),
            positions,
            start: start(file, method),
            label_smoothing,
        };
    }
    // Of a causal model every token is asked already.
    let positions = match objective {
        ObjectiveKind::Masked => file.word("distill.positions", Positions::from_word, Positions::Masked),
        ObjectiveKind::Causal => Positions::Masked,
    };
    DistillPlan {
        hard,
        soft: file.schedule("distill.soft"),
        temperature: file.schedule("distill.temperature"),
        tau_squared: file.flag("distill.tau_squared"),
        divergence: divergence(file),
        gate: gate(file),
        fade: file.try_number("distill.fade").unwrap_or(0.0),
        cosine: file.try_schedule("distill.cosine"),
        layers: LayerLosses::default(),
        positions,
        start: start(file, method),
        label_smoothing,
    }
}

/// Losses between layers, whose numbers are the models'.
fn layer_losses(file: &RunFile, student: &Shape, teacher: Option<&Shape>) -> LayerLosses {
    let of = |kind: FeatureKind| {
        let (weight, layers) = kind.keys();
        let written = layers.and_then(|key| file.text(key)).map(|text| text.parse().unwrap_or_default());
        let (own, theirs) = (student.layers(), teacher.map_or(0, |teacher| teacher.layers()));
        Some(LayersPlan {
            weight: file.try_schedule(weight)?,
            layers: written.unwrap_or_else(|| kind.layers(own, theirs)),
            heads: match kind {
                FeatureKind::Relations => file.try_whole("distill.relation_heads").unwrap_or(student.heads() as u64) as usize,
                _ => 0,
            },
        })
    };
    LayerLosses { hidden: of(FeatureKind::Hidden), relations: of(FeatureKind::Relations), early: of(FeatureKind::Early) }
}

fn divergence(file: &RunFile) -> Divergence {
    let kind = file.word("distill.divergence", DivergenceKind::from_word, DivergenceKind::Kl);
    Divergence {
        kind,
        beta: if kind == DivergenceKind::JensenShannon { file.try_number("distill.beta").unwrap_or(0.5) } else { 0.0 },
    }
}

fn gate(file: &RunFile) -> Gate {
    let kind = file.word("distill.gate", GateKind::from_word, GateKind::Open);
    let share = if kind == GateKind::LowestEntropy { file.try_number("distill.gate_share").unwrap_or(0.2) } else { 0.0 };
    Gate { kind, share, switch: kind != GateKind::Open && file.flag("distill.switch") }
}

fn train(file: &RunFile, rows_per_epoch: u64) -> TrainPlan {
    let rows = file.schedule("train.batch");
    let batch = rows.bounds().1.round() as usize;
    let from_epochs =
        || (file.number("train.epochs") * rows_per_epoch as f64 / batch.max(1) as f64 - 1e-6).ceil().max(0.0) as u64;
    let steps = file.try_whole("train.steps").unwrap_or_else(from_epochs);
    let every = |path| file.try_whole(path).unwrap_or((steps / 10).max(1));
    let worked_out = ["steps", "batch", "epsilon", "evaluate_every", "checkpoint_every"];
    let plan: TrainPlan = file.section("train", &worked_out, &["epochs"]);
    TrainPlan {
        steps,
        batch,
        batch_schedule: Some(rows).filter(|rows| rows.as_constant().is_none()),
        epsilon: file.try_number("train.epsilon").unwrap_or(plan.optimizer.epsilon()),
        evaluate_every: every("train.evaluate_every"),
        checkpoint_every: every("train.checkpoint_every"),
        ..plan
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::config::keys::{KEYS, Kind, split};
    use crate::config::tests::facts;

    /// Else the reading of a section would have nothing to put in a field, or a field for which it has nothing.
    #[test]
    fn every_value_of_a_key_has_its_place_in_the_plan() {
        for key in KEYS.iter().filter(|key| ["train", "runtime"].contains(&split(key.path).0)) {
            let values: Vec<Value> = match key.kind {
                Kind::Word(words) => words.iter().map(|&word| word.into()).collect(),
                Kind::Text => vec!["cpu".into()],
                Kind::Whole => vec![0.into(), 7.into(), i64::MAX.into()],
                Kind::Number => vec![(-0.5).into()],
                Kind::Flag => vec![true.into()],
                Kind::Schedule => vec![3.into(), "1 -> 0.25 over 10 steps, then -> 0 cosine".into()],
            };
            for value in values {
                let file = RunFile::preset("standalone").unwrap();
                let (before, file) = (draft(&file, &facts()), file.with(key.path, value.clone()));
                let after = draft(&file, &facts());
                assert!(!file.mistakes.names(key.path), "{} = {value}", key.path);
                let is_default = key.default_setting() == key.kind.read(&value).ok() || value.as_str() == Some("auto");
                assert!(is_default || before != after, "{} = {value} changes nothing", key.path);
            }
        }
    }
}
