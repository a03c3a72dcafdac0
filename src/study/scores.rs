//! What fine-tuning over several seeds came to: the content of `finetune --json`, and the tables of the terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::results::MeanSd;
use crate::tasks::{AVERAGES, Kind, Task};
use crate::train::SeedScores;

/// A task's scores over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskScores {
    /// The task's name.
    pub task: String,
    /// Mean and spread by metric.
    pub metrics: BTreeMap<String, MeanSd>,
    /// How many seeds.
    pub seeds: u64,
    /// The task's one number: the mean of its metrics and dev splits.
    pub score: MeanSd,
    /// The classes' names; none of a regression.
    pub classes: Vec<String>,
    /// Rows are true classes, columns answers; summed over seeds and dev splits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
    /// What a reader of the scores should know.
    pub notes: Vec<String>,
    /// Each seed's score, in the seeds' order.
    pub scores: Vec<f64>,
}

impl TaskScores {
    /// Summarises the scores of one seed or more.
    pub fn of(task: &Task, runs: &[SeedScores]) -> Option<Self> {
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, value) in runs.iter().flat_map(|run| &run.scores) {
            values.entry(name.clone()).or_default().push(*value);
        }
        let scores: Vec<f64> = runs.iter().map(|run| run.score).collect();
        let add = |a: Vec<Vec<u64>>, b: Vec<Vec<u64>>| {
            let rows = a.into_iter().zip(b);
            rows.map(|(a, b)| a.into_iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        Some(Self {
            task: task.name.clone(),
            metrics: values.into_iter().filter_map(|(name, values)| Some((name, MeanSd::of(&values)?))).collect(),
            seeds: runs.len() as u64,
            score: MeanSd::of(&scores)?,
            classes: match &task.kind {
                Kind::Classification { classes } => classes.clone(),
                Kind::Regression { .. } => Vec::new(),
            },
            confusion: runs.iter().filter_map(|run| run.confusion.clone()).reduce(add),
            notes: task.notes.clone(),
            scores,
        })
    }

    /// The metrics, a line each, then the confusion matrix.
    pub fn terminal(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.metrics {
            let _ = writeln!(out, "{name:<20} {}", spread(value));
        }
        if let Some(counts) = &self.confusion {
            let _ = write!(out, "\n{}", confusion(&self.classes, counts, self.seeds));
        }
        out
    }
}

/// The scores of all of GLUE's tasks that were run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GlueScores {
    /// "glue".
    pub task: &'static str,
    /// The named averages all of whose tasks were run: the mean over tasks of each seed, over seeds.
    pub metrics: BTreeMap<String, MeanSd>,
    /// How many seeds.
    pub seeds: u64,
    /// Task by task.
    pub tasks: Vec<TaskScores>,
    /// A line on each task that was not run.
    pub left_out: Vec<String>,
}

impl GlueScores {
    /// Puts tasks together that have equally many seeds.
    pub fn of(tasks: Vec<TaskScores>, left_out: Vec<String>) -> Self {
        let seeds = tasks.iter().map(|task| task.seeds).min().unwrap_or(0);
        let of_seed = |task: &str, seed: u64| tasks.iter().find(|found| found.task == task)?.scores.get(seed as usize).copied();
        let average = |average: &crate::tasks::Average| {
            let values: Vec<f64> = (0..seeds).filter_map(|seed| average.of(|task| of_seed(task, seed))).collect();
            Some((average.name.to_owned(), MeanSd::of(&values)?))
        };
        Self { task: "glue", metrics: AVERAGES.iter().filter_map(average).collect(), seeds, left_out, tasks }
    }

    /// A row a task, then the averages; of those that can't be formed, what they lack.
    pub fn terminal(&self) -> String {
        let mut out = String::from("task      score            metrics\n");
        for task in &self.tasks {
            let metrics: Vec<String> = task.metrics.iter().map(|(name, value)| format!("{name} {}", spread(value))).collect();
            let _ = writeln!(out, "{:<9} {:<16} {}", task.task, spread(&task.score), metrics.join(", "));
        }
        for average in &AVERAGES {
            let lacks: Vec<&str> =
                average.tasks.iter().copied().filter(|name| self.tasks.iter().all(|task| task.task != *name)).collect();
            let _ = match self.metrics.get(average.name) {
                Some(value) => writeln!(out, "{:<9} {:<16} mean of {}", average.name, spread(value), average.tasks.join(", ")),
                None => writeln!(out, "{:<9} {:<16} needs {}", average.name, "–", lacks.join(", ")),
            };
        }
        let over =
            if self.seeds == 1 { "one seed".to_owned() } else { format!("mean ± standard deviation over {} seeds", self.seeds) };
        let _ = writeln!(out, "{over}; a task's score is the mean of its metrics");
        out
    }
}

fn spread(value: &MeanSd) -> String {
    format!("{:.4}{}", value.mean, value.sd.map_or(String::new(), |sd| format!(" ± {sd:.4}")))
}

fn confusion(classes: &[String], counts: &[Vec<u64>], seeds: u64) -> String {
    let width = |text: &str| text.chars().count();
    let first = classes.iter().map(|class| width(class)).max().unwrap_or(0).max(4);
    let columns: Vec<usize> = (0..classes.len())
        .map(|at| counts.iter().map(|row| row[at].to_string().len()).max().unwrap_or(1).max(width(&classes[at])))
        .collect();
    let over = if seeds == 1 { String::new() } else { format!(", summed over {seeds} seeds") };
    let mut out = format!("rows: true; columns: answered{over}\n{:first$}", "");
    for (class, wide) in classes.iter().zip(&columns) {
        let _ = write!(out, "  {class:>wide$}");
    }
    for (class, row) in classes.iter().zip(counts) {
        let _ = write!(out, "\n{class:<first$}");
        for (count, wide) in row.iter().zip(&columns) {
            let _ = write!(out, "  {count:>wide$}");
        }
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Example, Label, Metric, Split};
    use crate::train::FinetuneSettings;

    fn task(name: &str) -> Task {
        let kind = Kind::Classification { classes: vec!["no".into(), "certainly".into()] };
        let example = Example { first: "a".into(), second: None, label: Label::Class(0) };
        let dev = vec![Split { name: "dev".into(), examples: vec![example] }];
        let metrics = vec![Metric::F1, Metric::Accuracy];
        Task { name: name.into(), kind, pair: false, metrics, train: vec![], dev, test: vec![], notes: vec![] }
    }

    fn run(seed: u64, score: f64) -> SeedScores {
        SeedScores {
            task: "t".into(),
            seed,
            score,
            scores: BTreeMap::from([("f1".to_owned(), score - 0.1), ("accuracy".to_owned(), score + 0.1)]),
            confusion: Some(vec![vec![50, seed], vec![0, 7]]),
            epochs: 3.0,
            seconds: 1.0,
            settings: FinetuneSettings { model: String::new(), data: String::new(), options: String::new() },
            tests: BTreeMap::new(),
        }
    }

    #[test]
    fn a_task_is_printed_with_its_spread_and_its_confusion() {
        let scores = TaskScores::of(&task("t"), &[run(1, 0.5), run(2, 0.7)]).unwrap();
        insta::assert_snapshot!(scores.terminal(), @"
        accuracy             0.7000 ± 0.1414
        f1                   0.5000 ± 0.1414

        rows: true; columns: answered, summed over 2 seeds
                    no  certainly
        no         100          3
        certainly    0         14
        ");
        insta::assert_snapshot!(serde_json::to_string(&scores).unwrap(), @r#"{"task":"t","metrics":{"accuracy":{"mean":0.7,"sd":0.14142135623730948},"f1":{"mean":0.5,"sd":0.14142135623730948}},"seeds":2,"score":{"mean":0.6,"sd":0.14142135623730948},"classes":["no","certainly"],"confusion":[[100,3],[0,14]],"notes":[],"scores":[0.5,0.7]}"#);
    }

    #[test]
    fn averages_are_formed_seed_by_seed_where_all_tasks_are_there() {
        let names = AVERAGES[1].tasks;
        let all = |names: &[&str]| {
            let tasks = names.iter().zip(0_u8..).map(|(name, at)| {
                TaskScores::of(&task(name), &[run(1, f64::from(at) / 10.0), run(2, f64::from(at) / 10.0 + 0.1)]).unwrap()
            });
            GlueScores::of(tasks.collect(), vec![])
        };
        let scores = all(names);
        assert_eq!(scores.metrics.keys().collect::<Vec<_>>(), ["dwt-7", "glue-8"]);
        assert!((scores.metrics["glue-8"].mean - 0.4).abs() < 1e-12 && scores.metrics["dwt-7"].mean < 0.4);
        insta::assert_snapshot!(all(&names[..2]).terminal(), @"
        task      score            metrics
        cola      0.0500 ± 0.0707  accuracy 0.1500 ± 0.0707, f1 -0.0500 ± 0.0707
        sst-2     0.1500 ± 0.0707  accuracy 0.2500 ± 0.0707, f1 0.0500 ± 0.0707
        dwt-7     –                needs mrpc, sts-b, qqp, mnli, qnli
        glue-8    –                needs mrpc, sts-b, qqp, mnli, qnli, rte
        glue-9    –                needs mrpc, sts-b, qqp, mnli, qnli, rte, wnli
        mean ± standard deviation over 2 seeds; a task's score is the mean of its metrics
        ");
    }
}
