//! Labelled tasks and their scores.

pub mod metrics;
pub mod pocket;

use std::collections::BTreeMap;

pub use metrics::Metric;
pub use pocket::{Sizes, draw_pocket_task, pocket_names, pocket_task};

/// What an example's answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// One of the task's classes, by index.
    Class(usize),
    /// A number within the task's range.
    Score(f64),
}

impl Label {
    /// The class's index, or the score.
    pub fn value(self) -> f64 {
        match self {
            Label::Class(class) => class as f64,
            Label::Score(score) => score,
        }
    }
}

/// One sentence, or a pair, with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The sentence, or the pair's first.
    pub first: String,
    /// The pair's second.
    pub second: Option<String>,
    /// The answer.
    pub label: Label,
}

/// What a task asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// One of these classes; labels are their indices.
    Classification {
        /// The classes' names.
        classes: Vec<String>,
    },
    /// A number.
    Regression {
        /// The lowest score.
        low: f64,
        /// The highest score.
        high: f64,
    },
}

impl Kind {
    /// How many outputs a model's head needs: one a class, or one for a score.
    pub fn outputs(&self) -> usize {
        match self {
            Kind::Classification { classes } => classes.len(),
            Kind::Regression { .. } => 1,
        }
    }

    /// The answer that a row of the head's outputs gives: the class with the highest (the first of equals), or the score itself.
    pub fn answer(&self, outputs: &[f32]) -> Label {
        match self {
            Kind::Regression { .. } => Label::Score(outputs.first().map_or(f64::NAN, |&score| f64::from(score))),
            Kind::Classification { .. } => {
                let best = (0..outputs.len()).reduce(|best, at| if outputs[at] > outputs[best] { at } else { best });
                Label::Class(best.unwrap_or(0))
            }
        }
    }
}

/// A labelled task, whatever it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// As in reports: "pocket-sentiment".
    pub name: String,
    /// What it asks for.
    pub kind: Kind,
    /// Whether its examples are pairs of sentences.
    pub pair: bool,
    /// How answers are scored; the task's one number is their mean ([`Task::main_score`]).
    pub metrics: &'static [Metric],
    /// What to learn from.
    pub train: Vec<Example>,
    /// What to be scored on.
    pub dev: Vec<Example>,
}

impl Task {
    /// Every metric of the task by name, from a model's outputs: one row for each dev example, in order, of one logit a class
    /// or one score.
    ///
    /// # Panics
    /// Where there are more or fewer rows than dev examples.
    pub fn score(&self, outputs: &[Vec<f32>]) -> BTreeMap<String, f64> {
        assert_eq!(outputs.len(), self.dev.len(), "{} is scored on one row of outputs for each dev example", self.name);
        let predicted: Vec<f64> = outputs.iter().map(|row| self.kind.answer(row).value()).collect();
        let truth: Vec<f64> = self.dev.iter().map(|example| example.label.value()).collect();
        self.metrics.iter().map(|metric| (metric.name().to_owned(), metric.of(&predicted, &truth))).collect()
    }

    /// The one number of the task: the mean of its metrics, as on the GLUE leaderboard; not a number where one is missing.
    pub fn main_score(&self, scores: &BTreeMap<String, f64>) -> f64 {
        let sum: f64 = self.metrics.iter().map(|metric| scores.get(metric.name()).copied().unwrap_or(f64::NAN)).sum();
        sum / self.metrics.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kind: Kind, metrics: &'static [Metric], labels: &[Label]) -> Task {
        let example = |&label: &Label| Example { first: "a".into(), second: None, label };
        Task { name: "t".into(), kind, pair: false, metrics, train: vec![], dev: labels.iter().map(example).collect() }
    }

    #[test]
    fn the_class_with_the_highest_output_is_the_answer() {
        let kind = Kind::Classification { classes: vec!["no".into(), "yes".into()] };
        let task = task(kind, &[Metric::Accuracy, Metric::F1], &[Label::Class(1), Label::Class(0), Label::Class(1)]);
        let scores = task.score(&[vec![0.1, 0.9], vec![-1.0, -2.0], vec![0.5, 0.5]]);
        assert_eq!(scores["f1"], 2.0 / 3.0);
        assert_eq!(scores["accuracy"], 2.0 / 3.0);
        assert_eq!(task.main_score(&scores), 2.0 / 3.0);
    }

    #[test]
    fn a_score_is_the_output_and_the_one_number_is_the_mean() {
        let task = task(
            Kind::Regression { low: 0.0, high: 5.0 },
            &[Metric::Pearson, Metric::Spearman],
            &[0.0, 1.0, 3.0].map(Label::Score),
        );
        let scores = task.score(&[vec![0.5], vec![1.0], vec![9.0]]);
        assert!((scores["spearman"] - 1.0).abs() < 1e-12 && scores["pearson"] < 1.0);
        assert_eq!(task.main_score(&scores), (scores["pearson"] + scores["spearman"]) / 2.0);
        assert!(task.main_score(&BTreeMap::new()).is_nan());
    }
}
