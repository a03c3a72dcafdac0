//! What a study found: the content of `study.json` and of `study --json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::findings::{Claim, Saved};
use super::registration::Registration;
use super::statistics;
use crate::config::ObjectiveKind;

/// A grid of runs and what they came to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Study {
    /// One entry for each way of training, in the order they are shown.
    pub arms: Vec<Arm>,
    /// The HTML report, relative to the study's folder or absolute.
    #[serde(default)]
    pub report: Option<PathBuf>,
    /// The report's heading.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// What was run, in a sentence or two: sizes, data, steps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Name of the arm that the others are compared with; without it, the largest stand-alone student.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// What its models are asked, which says what losses are a mean over.
    #[serde(default, skip_serializing_if = "is_masked")]
    pub objective: ObjectiveKind,
    /// Loss of the source that wrote the text, where it is known: no model can do better. In nats a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_loss: Option<f64>,
    /// What was chosen here and not by the paper, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<String>,
    /// The device, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Wall time of the whole study.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What was fixed before the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Each arm against its reference, at the primary end point first; written for readers, worked out anew from the
    /// arms when read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    /// What arms need less than their references to come as far, where runs ended at several budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saved: Vec<Saved>,
}

/// One way of training, over its seeds.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Arm {
    /// What the arm is called in tables and legends.
    pub name: String,
    /// `standalone`, `dwt`, ...
    pub method: String,
    /// The teacher, in words.
    #[serde(default)]
    pub teacher: Option<String>,
    /// The soft weight's schedule, as in a run file.
    #[serde(default)]
    pub soft: Option<String>,
    /// `fresh` or `remap`.
    #[serde(default)]
    pub start: Option<String>,
    /// Runs of this arm, each with a seed of its own.
    pub seeds: u64,
    /// The held-out loss in nats a token; `None` while no run is finished.
    #[serde(default)]
    pub held_out_loss: Option<MeanSd>,
    /// Losses on other held-out sets, by their names, in nats a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, MeanSd>,
    /// Accuracy on minimal pairs, by the pairs' name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pairs: BTreeMap<String, MeanSd>,
    /// Scores by task, in each task's main metric; higher is better.
    #[serde(default)]
    pub scores: BTreeMap<String, MeanSd>,
    /// Parameters of the model that is trained.
    #[serde(default)]
    pub parameters: Option<u64>,
    /// Wall time, mean over the runs.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Which of the several models that a run of this arm trains together; none of an arm that trains one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The arm that this one is compared with; where no arm of the study names one, the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// FLOPs of a run: of all models that it trains, and of what they learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
    /// FLOPs of a run and of the training of its teacher, where the study trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_with_teacher: Option<f64>,
    /// Whether this arm trains a teacher of others: shown, but not ranked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_teacher: bool,
    /// What was tuned for it, and what was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tuned: Vec<Tuned>,
    /// The runs one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<SeedResult>,
}

/// One run of an arm.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct SeedResult {
    /// The run directory, relative to the study's folder or absolute.
    pub path: PathBuf,
    /// The run's seed.
    pub seed: u64,
    /// The held-out loss; `None` while the run is unfinished.
    #[serde(default)]
    pub held_out_loss: Option<f64>,
    /// Losses on other held-out sets, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, f64>,
    /// Accuracy on minimal pairs, by the pairs' name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pairs: BTreeMap<String, f64>,
    /// Scores by task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// Fine-tuned scores before the end of training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores_at: Vec<ScoresAt>,
    /// Ends of training at several budgets, this run's own among them; empty of a run that has one end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Steps done, and the held-out loss then; the last is the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(u64, f64)>,
}

/// What a model came to on tasks in the course of its training.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ScoresAt {
    /// Steps done.
    pub steps: u64,
    /// Scores by task.
    pub scores: BTreeMap<String, f64>,
}

/// An end of training: the rate has decayed, on a branch off a longer run perhaps.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Steps until it, the stable ones before the branch among them.
    pub steps: u64,
    /// What they cost, teacher's predictions included, its training not.
    pub flops: f64,
    /// The held-out loss at that end, in nats a token.
    pub held_out_loss: f64,
}

/// A setting that was tuned for an arm alone.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Tuned {
    /// The run file's key, or what stands for its value there.
    pub key: String,
    /// The seeds that values were tried with; none of them is one of the study's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// Steps of a trial, where it was shorter than the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The value that was taken.
    pub chosen: String,
    /// All that was tried, in the order of the values.
    pub tried: Vec<Tried>,
}

/// A value that was tried.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Tried {
    /// The value, as in a run file.
    pub value: String,
    /// On the tuning split, mean over the seeds it was tried with; none where training broke down.
    pub loss: Option<f64>,
}

/// A mean and its sample standard deviation, which one value alone does not have.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct MeanSd {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub sd: Option<f64>,
}

impl MeanSd {
    /// The mean and spread of some values; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self { mean: statistics::mean(values)?, sd: statistics::standard_deviation(values) })
    }
}

impl Arm {
    /// Sets `seeds` and the means of all end points from `runs`.
    pub fn summarise(&mut self) {
        self.seeds = self.runs.len() as u64;
        let losses: Vec<f64> = self.losses().into_iter().map(|(_, loss)| loss).collect();
        self.held_out_loss = MeanSd::of(&losses);
        self.held_out = self.by_name(|run| &run.held_out);
        self.pairs = self.by_name(|run| &run.pairs);
        self.scores = self.by_name(|run| &run.scores);
    }

    fn by_name(&self, of: impl Fn(&SeedResult) -> &BTreeMap<String, f64>) -> BTreeMap<String, MeanSd> {
        let mut by_name: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
        for (name, value) in self.runs.iter().flat_map(of) {
            by_name.entry(name).or_default().push(*value);
        }
        by_name.into_iter().filter_map(|(name, values)| Some((name.clone(), MeanSd::of(&values)?))).collect()
    }

    /// Whether it has this name; an arm of several models is called by the name that they share, too.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.model.as_ref().is_some_and(|model| self.name.strip_suffix(&format!(": {model}")) == Some(name))
    }

    /// `(seed, held-out loss)` of the finished runs.
    pub fn losses(&self) -> Vec<(u64, f64)> {
        self.runs.iter().filter_map(|run| Some((run.seed, run.held_out_loss?))).collect()
    }
}

/// Studies of before causal models do not say.
fn is_masked(objective: &ObjectiveKind) -> bool {
    *objective == ObjectiveKind::Masked
}

impl Study {
    /// The arm that the others are compared with.
    pub fn baseline(&self) -> Option<&Arm> {
        match &self.baseline {
            Some(name) => self.arms.iter().find(|arm| arm.name == *name),
            None => {
                let alone = self.students().filter(|arm| arm.method == "standalone");
                alone.reduce(|a, b| if b.parameters > a.parameters { b } else { a })
            }
        }
    }

    /// The student that is best at the primary end point, where there are several to choose from.
    pub fn best(&self) -> Option<&Arm> {
        let primary = self.primary();
        let sign = if primary.is_loss() { 1.0 } else { -1.0 };
        let scored: Vec<(&Arm, f64)> = self.students().filter_map(|arm| Some((arm, sign * primary.mean(arm)?.mean))).collect();
        let best = scored.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        (scored.len() > 1).then_some(best.0)
    }

    /// What `arm` is compared with: the arm it names, or, where none names one, the baseline.
    pub fn reference(&self, arm: &Arm) -> Option<&Arm> {
        let found = match &arm.against {
            Some(name) => self.arms.iter().find(|other| other.name == *name),
            None if self.has_references() => None,
            None => self.baseline(),
        };
        found.filter(|reference| reference.name != arm.name)
    }

    /// Whether arms name what they are compared with.
    pub fn has_references(&self) -> bool {
        self.arms.iter().any(|arm| arm.against.is_some())
    }

    fn students(&self) -> impl Iterator<Item = &Arm> {
        self.arms.iter().filter(|arm| !arm.is_teacher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(name: &str, method: &str, losses: &[f64]) -> Arm {
        let run = |(seed, &loss): (u64, &f64)| SeedResult { seed, held_out_loss: Some(loss), ..SeedResult::default() };
        let mut arm = Arm { name: name.into(), method: method.into(), ..Arm::default() };
        arm.runs = (1..).zip(losses).map(run).collect();
        arm.summarise();
        arm
    }

    #[test]
    fn teachers_are_neither_best_nor_baseline() {
        let teacher = Arm { is_teacher: true, parameters: Some(9), ..arm("teacher", "standalone", &[1.0, 1.0]) };
        let study = Study {
            arms: vec![teacher, arm("alone", "standalone", &[4.0, 4.2]), arm("dwt", "dwt", &[3.9, 4.0])],
            ..Study::default()
        };
        assert_eq!(study.baseline().unwrap().name, "alone");
        assert_eq!(study.best().unwrap().name, "dwt");
        let found = study.comparisons(&study.primary());
        assert!(found.len() == 1 && (found[0].difference + 0.15).abs() < 1e-12 && found[0].paired, "{found:?}");
    }

    #[test]
    fn an_arm_is_compared_with_the_one_it_names() {
        let against = |arm: Arm, name: &str| Arm { against: Some(name.into()), ..arm };
        let arms = vec![
            arm("large alone", "standalone", &[4.0, 4.2]),
            arm("small alone", "standalone", &[5.0, 5.2]),
            against(arm("mutual: small", "cotrain", &[4.9, 5.0]), "small alone"),
        ];
        let study = Study { arms, ..Study::default() };
        let found = study.comparisons(&study.primary());
        assert_eq!(found.len(), 1, "nobody said what large alone and small alone are compared with");
        assert!((found[0].difference + 0.15).abs() < 1e-12 && found[0].against == "small alone", "{found:?}");
    }

    #[test]
    fn the_documented_shape_is_read_and_the_fixed_fields_are_always_written() {
        let text = r#"{"arms": [{"name": "a", "method": "dwt", "teacher": "1-layer", "soft": "4 -> 1 linear", "start": "fresh", "seeds": 3,
            "held_out_loss": {"mean": 3.9, "sd": 0.1}, "scores": {"cola": {"mean": 0.5, "sd": 0.01}}, "parameters": 10, "seconds": 1.5}],
            "report": "report.html"}"#;
        let study: Study = serde_json::from_str(text).unwrap();
        assert_eq!(study.arms[0].scores["cola"].mean, 0.5);
        insta::assert_snapshot!(serde_json::to_string(&Study { arms: vec![arm("alone", "standalone", &[4.0])], ..Study::default() }).unwrap(), @r#"{"arms":[{"name":"alone","method":"standalone","teacher":null,"soft":null,"start":null,"seeds":1,"held_out_loss":{"mean":4.0,"sd":null},"scores":{},"parameters":null,"seconds":null,"runs":[{"path":"","seed":1,"held_out_loss":4.0}]}],"report":null}"#);
    }
}
