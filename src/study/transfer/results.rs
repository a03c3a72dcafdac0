//! What the runs come to, arm by arm, and the tables that people read.

use serde::{Deserialize, Serialize};

use super::spec::ALONE;
use crate::study::results::MeanSd;
use crate::study::statistics::{self, Difference};
use crate::train::transfer::TransferSummary;
use crate::words::aligned;

/// What a study of transfer runs found: the content of `study.json`, and of `study transfer --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferStudy {
    /// The heading.
    pub title: String,
    /// Table by table.
    pub experiments: Vec<ExperimentResult>,
    /// What a reader should know of the data.
    pub notes: Vec<String>,
    /// The device, in words.
    pub device: String,
    /// Wall time.
    pub seconds: f64,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentResult {
    /// What it asks.
    pub name: String,
    /// Its rows.
    pub arms: Vec<TransferArmResult>,
}

/// One row of a table, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferArmResult {
    /// What it is called.
    pub name: String,
    /// The student's accuracy on the test set.
    pub accuracy: MeanSd,
    /// The teacher's, where there is one.
    pub teacher_accuracy: Option<MeanSd>,
    /// The student's parameters.
    pub parameters: u64,
    /// The teacher's parameters over the student's.
    pub compression: Option<f64>,
    /// The variance of the teacher's predictions.
    pub teacher_variance: Option<MeanSd>,
    /// The largest possible.
    pub largest_variance: f64,
    /// Test texts the student answers a second.
    pub examples_per_s: f64,
    /// Texts that the teacher classifies in a second, where it was measured.
    pub teacher_examples_per_s: Option<f64>,
    /// Wall time of a run.
    pub seconds: f64,
    /// The runs one by one.
    pub runs: Vec<TransferSummary>,
}

impl TransferArmResult {
    pub(super) fn of(name: &str, runs: Vec<TransferSummary>) -> Self {
        let all = |of: &dyn Fn(&TransferSummary) -> Option<f64>| runs.iter().filter_map(of).collect::<Vec<f64>>();
        let mean = |of: &dyn Fn(&TransferSummary) -> Option<f64>| statistics::mean(&all(of));
        let spread = |of: &dyn Fn(&TransferSummary) -> Option<f64>| MeanSd::of(&all(of));
        let first = &runs[0];
        Self {
            name: name.to_owned(),
            accuracy: spread(&|run| Some(run.accuracy)).expect("an arm has a run"),
            teacher_accuracy: spread(&|run| run.teacher_accuracy),
            parameters: first.parameters,
            compression: first.teacher_parameters.map(|teacher| teacher as f64 / first.parameters as f64),
            teacher_variance: spread(&|run| run.teacher_variance),
            largest_variance: first.largest_variance,
            examples_per_s: mean(&|run| Some(run.examples_per_s)).expect("an arm has a run"),
            teacher_examples_per_s: mean(&|run| run.teacher_examples_per_s),
            seconds: mean(&|run| Some(run.seconds)).expect("an arm has a run"),
            runs,
        }
    }

    /// What its accuracy is above another arm's, compared seed by seed.
    pub fn above(&self, other: &Self) -> Option<Difference> {
        let seeded = |arm: &Self| arm.runs.iter().map(|run| (run.seed, run.accuracy)).collect::<Vec<_>>();
        statistics::difference(&seeded(self), &seeded(other))
    }
}

/// The tables in plain text: accuracies in percent, means with standard deviations over seeds.
pub fn transfer_tables(study: &TransferStudy) -> String {
    let mut out = String::new();
    let percent = |spread: MeanSd| match spread.sd {
        Some(sd) => format!("{:.1} ± {:.1}", 100.0 * spread.mean, 100.0 * sd),
        None => format!("{:.1}", 100.0 * spread.mean),
    };
    for experiment in &study.experiments {
        let baseline = experiment.arms.iter().find(|arm| arm.name == ALONE).or(experiment.arms.first());
        let header = [
            "",
            "accuracy %",
            "- first, or alone [95 %]",
            "teacher %",
            "parameters",
            "smaller by",
            "variance of max",
            "texts/s",
            "seeds",
        ];
        let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).to_vec()];
        for arm in &experiment.arms {
            let above = baseline.filter(|baseline| baseline.name != arm.name).and_then(|baseline| arm.above(baseline));
            let optional = |text: Option<String>| text.unwrap_or_default();
            rows.push(vec![
                arm.name.clone(),
                percent(arm.accuracy),
                optional(above.map(|d| {
                    format!("{:+.1} [{:+.1}, {:+.1}]", 100.0 * d.mean, 100.0 * d.interval.low, 100.0 * d.interval.high)
                })),
                optional(arm.teacher_accuracy.map(percent)),
                arm.parameters.to_string(),
                optional(arm.compression.map(|times| format!("{times:.1}x"))),
                optional(arm.teacher_variance.map(|v| format!("{:.3} of {:.3}", v.mean, arm.largest_variance))),
                format!("{:.0}", arm.examples_per_s),
                arm.runs.len().to_string(),
            ]);
        }
        let lines = aligned(&rows, |column| column == 0).into_iter().map(|line| format!("  {line}\n"));
        out += &format!("{}\n{}\n", experiment.name, lines.collect::<String>());
    }
    out
}
