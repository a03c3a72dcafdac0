//! Labelled tasks and their scores.

mod choices;
mod examples;
pub mod glue;
pub mod metrics;
mod pairs;
pub mod pocket;
mod table;
mod transfer;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use choices::{ChoiceScores, CutContexts, MultipleChoice, read_choices};
pub use glue::{AVERAGES, Average, GlueFiles, glue_folder, glue_name, glue_names, glue_task};
pub use metrics::Metric;
pub use pairs::{MinimalPair, PairScores, ParadigmScore, PhenomenonScore, read_pairs};
pub use pocket::{PocketSizes, draw_pocket_task, pocket_names, pocket_pairs, pocket_task};
pub use table::{TableSpec, table_task};
pub use transfer::{SplitOptions, TransferTask, Unlabelled, split_for_transfer};

/// What an example's answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// One of the task's classes, by index.
    Class(usize),
    /// A number within the task's range.
    Score(f64),
    /// Not told: the answers of GLUE's test splits are kept by GLUE.
    Hidden,
}

impl Label {
    /// The class's index, or the score; not a number where it is hidden.
    pub fn value(self) -> f64 {
        match self {
            Label::Class(class) => class as f64,
            Label::Score(score) => score,
            Label::Hidden => f64::NAN,
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

    /// The label that a file's text means; none where it is none of the classes, or no number in the range that a model
    /// can learn (finite as an f32). A class that is a number may be written in another way: `1` for `1.0`.
    pub fn label(&self, text: &str) -> Option<Label> {
        let text = text.trim();
        let number: Option<f64> = text.parse().ok().filter(|number: &f64| (*number as f32).is_finite());
        match self {
            Kind::Classification { classes } => {
                let as_written = classes.iter().position(|class| class == text);
                let as_number = || classes.iter().position(|class| number.is_some() && class.parse().ok() == number);
                as_written.or_else(as_number).map(Label::Class)
            }
            Kind::Regression { low, high } => number.filter(|score| (*low..=*high).contains(score)).map(Label::Score),
        }
    }

    /// The answer that a row of the head's outputs gives: the class with the highest (the first of equals), or the
    /// score itself.
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

/// Examples that are scored together, or predicted into one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// "dev"; MNLI's are "matched" and "mismatched". Of a test split, the name of its file of predictions: "MNLI-m".
    pub name: String,
    /// The examples, in the file's order.
    pub examples: Vec<Example>,
}

impl Split {
    /// BLAKE3 of the examples: predictions of two splits of the same fingerprint are the same.
    pub fn fingerprint(&self) -> String {
        fingerprint(std::iter::once(&self.examples))
    }
}

fn fingerprint<'a>(splits: impl Iterator<Item = &'a Vec<Example>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (number, example) in splits.enumerate().flat_map(|(number, split)| split.iter().map(move |row| (number, row))) {
        hasher.update(format!("{number}{example:?}").as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A model's outputs on a split: a row for each example, in order, of one logit a class or one score.
pub type Outputs = Vec<Vec<f32>>;

/// A labelled task, whatever it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name in reports: "pocket-sentiment".
    pub name: String,
    /// What it asks for.
    pub kind: Kind,
    /// Whether its examples are pairs of sentences.
    pub pair: bool,
    /// How answers are scored; the task's one number is their mean ([`Task::main_score`]).
    pub metrics: Vec<Metric>,
    /// What to learn from.
    pub train: Vec<Example>,
    /// What to be scored on: one split, except MNLI's two.
    pub dev: Vec<Split>,
    /// What to predict, with hidden labels.
    pub test: Vec<Split>,
    /// What a reader of the scores should know: rows passed over, rows that the official files have more or fewer of.
    pub notes: Vec<String>,
}

impl Task {
    /// Every metric of the task by name, from the outputs on each dev split. The name says which split, where it isn't
    /// just "dev": "accuracy-matched".
    ///
    /// # Panics
    /// Where there are more or fewer outputs than dev examples.
    pub fn score(&self, outputs: &[Outputs]) -> BTreeMap<String, f64> {
        let mut scores = BTreeMap::new();
        for (split, outputs) in self.scored(outputs) {
            let predicted: Vec<f64> = outputs.iter().map(|row| self.kind.answer(row).value()).collect();
            let truth: Vec<f64> = split.examples.iter().map(|example| example.label.value()).collect();
            for metric in &self.metrics {
                scores.insert(Self::score_name(*metric, split), metric.of(&predicted, &truth));
            }
        }
        scores
    }

    /// The one number of the task: the mean of its metrics and splits, as on the GLUE leaderboard; not a number where
    /// one is missing.
    pub fn main_score(&self, scores: &BTreeMap<String, f64>) -> f64 {
        let names = self.dev.iter().flat_map(|split| self.metrics.iter().map(|metric| Self::score_name(*metric, split)));
        let values: Vec<f64> = names.map(|name| scores.get(&name).copied().unwrap_or(f64::NAN)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// How often each class (a row) was taken for each class (a column), over all dev splits; none of a regression.
    ///
    /// # Panics
    /// As [`Task::score`].
    pub fn confusion(&self, outputs: &[Outputs]) -> Option<Vec<Vec<u64>>> {
        let Kind::Classification { classes } = &self.kind else { return None };
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (split, outputs) in self.scored(outputs) {
            for (example, row) in split.examples.iter().zip(outputs) {
                if let (Label::Class(truth), Label::Class(predicted)) = (example.label, self.kind.answer(row)) {
                    counts[truth][predicted] += 1;
                }
            }
        }
        Some(counts)
    }

    /// A file of predictions as GLUE takes it: a header, then the row's number from 0, a tab, and the class's name or
    /// the score within its range, which reads back as the same f32.
    pub fn predictions(&self, outputs: &Outputs) -> String {
        let mut text = String::from("index\tprediction\n");
        for (index, row) in outputs.iter().enumerate() {
            let _ = match (&self.kind, self.kind.answer(row)) {
                (Kind::Classification { classes }, Label::Class(class)) => writeln!(text, "{index}\t{}", classes[class]),
                (Kind::Regression { low, high }, answer) => {
                    writeln!(text, "{index}\t{:?}", answer.value().clamp(*low, *high) as f32)
                }
                (Kind::Classification { .. }, _) => unreachable!("classes are answered with classes"),
            };
        }
        text
    }

    /// BLAKE3 of what is learnt from and scored: two tasks of the same fingerprint give the same scores.
    pub fn fingerprint(&self) -> String {
        fingerprint(std::iter::once(&self.train).chain(self.dev.iter().map(|split| &split.examples)))
    }

    fn scored<'a>(&'a self, outputs: &'a [Outputs]) -> impl Iterator<Item = (&'a Split, &'a Outputs)> {
        let counts = |lengths: &mut dyn Iterator<Item = usize>| lengths.collect::<Vec<_>>();
        let (rows, wanted) =
            (counts(&mut outputs.iter().map(Vec::len)), counts(&mut self.dev.iter().map(|split| split.examples.len())));
        assert_eq!(rows, wanted, "{} is scored on one row of outputs for each dev example", self.name);
        self.dev.iter().zip(outputs)
    }

    fn score_name(metric: Metric, split: &Split) -> String {
        if split.name == "dev" { metric.name().to_owned() } else { format!("{}-{}", metric.name(), split.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, labels: &[Label]) -> Split {
        let example = |&label: &Label| Example { first: "a".into(), second: None, label };
        Split { name: name.into(), examples: labels.iter().map(example).collect() }
    }

    fn task(kind: Kind, metrics: &[Metric], dev: Vec<Split>) -> Task {
        let metrics = metrics.to_vec();
        Task { name: "t".into(), kind, pair: false, metrics, train: vec![], dev, test: vec![], notes: vec![] }
    }

    fn no_or_yes() -> Kind {
        Kind::Classification { classes: vec!["no".into(), "yes".into()] }
    }

    #[test]
    fn the_class_with_the_highest_output_is_the_answer() {
        let dev = vec![split("dev", &[1, 0, 1].map(Label::Class))];
        let task = task(no_or_yes(), &[Metric::Accuracy, Metric::F1], dev);
        let outputs = [vec![vec![0.1, 0.9], vec![-1.0, -2.0], vec![0.5, 0.5]]];
        let scores = task.score(&outputs);
        assert_eq!(scores["f1"], 2.0 / 3.0);
        assert_eq!(scores["accuracy"], 2.0 / 3.0);
        assert_eq!(task.main_score(&scores), 2.0 / 3.0);
        assert_eq!(task.confusion(&outputs), Some(vec![vec![1, 0], vec![1, 1]]));
        assert_eq!(task.predictions(&outputs[0]), "index\tprediction\n0\tyes\n1\tno\n2\tno\n");
    }

    #[test]
    fn a_score_is_the_output_and_the_one_number_is_the_mean() {
        let dev = vec![split("dev", &[0.0, 1.0, 3.0].map(Label::Score))];
        let task = task(Kind::Regression { low: 0.0, high: 5.0 }, &[Metric::Pearson, Metric::Spearman], dev);
        let outputs = [vec![vec![-0.5], vec![1.0], vec![9.0]]];
        let scores = task.score(&outputs);
        assert!((scores["spearman"] - 1.0).abs() < 1e-12 && scores["pearson"] < 1.0);
        assert_eq!(task.main_score(&scores), (scores["pearson"] + scores["spearman"]) / 2.0);
        assert!(task.main_score(&BTreeMap::new()).is_nan());
        assert_eq!(task.confusion(&outputs), None);
        assert_eq!(task.predictions(&outputs[0]), "index\tprediction\n0\t0.0\n1\t1.0\n2\t5.0\n");
    }

    #[test]
    fn several_splits_are_scored_apart_and_averaged() {
        let dev = vec![split("matched", &[1, 0].map(Label::Class)), split("mismatched", &[1].map(Label::Class))];
        let task = task(no_or_yes(), &[Metric::Accuracy], dev);
        let scores = task.score(&[vec![vec![0.0, 1.0], vec![0.0, 1.0]], vec![vec![0.0, 1.0]]]);
        assert_eq!(
            scores.into_iter().collect::<Vec<_>>(),
            [("accuracy-matched".into(), 0.5), ("accuracy-mismatched".into(), 1.0)]
        );
    }

    #[test]
    fn a_fingerprint_tells_labels_texts_and_splits_apart() {
        let base = task(no_or_yes(), &[Metric::Accuracy], vec![split("dev", &[Label::Class(0)])]);
        let mut moved = base.clone();
        moved.train = std::mem::take(&mut moved.dev[0].examples);
        let mut other = base.clone();
        other.dev[0].examples[0].label = Label::Class(1);
        let prints: Vec<String> = [&base, &moved, &other].iter().map(|task| task.fingerprint()).collect();
        assert!(prints[0] != prints[1] && prints[0] != prints[2] && base.fingerprint() == prints[0]);
    }
}
