//! A task of any labelled table, by naming its columns.

use std::path::{Path, PathBuf};

use super::examples::{Broken, Columns, RawExample, hidden, label, read_raw, refuse_one_answer};
use super::{Kind, Metric, Split, Task};
use crate::error::{Error, Result};
use crate::text::ReadOptions;

/// Where a task's examples are, and what their columns are called.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSpec {
    /// What the task is called.
    pub name: String,
    /// A `.tsv`, `.csv`, `.jsonl` or `.parquet` file to learn from.
    pub train: PathBuf,
    /// A file to be scored on.
    pub dev: PathBuf,
    /// A file to predict; its labels, if any, are not read.
    pub test: Option<PathBuf>,
    /// The column of the text, or of a pair's first.
    pub text: String,
    /// The column of a pair's second.
    pub text2: Option<String>,
    /// The column of the answer.
    pub label: String,
    /// Whether answers are numbers to come close to, and not classes.
    pub regression: bool,
    /// How answers are scored; accuracy, or both correlations, when there are none.
    pub metrics: Vec<Metric>,
    /// Passes over rows with an empty text or label, where they would be errors.
    pub skip_empty: bool,
    /// How files are read.
    pub read: ReadOptions,
}

/// Reads a task. Its classes are the labels of the training file: numbers in their order, anything else by the
/// alphabet.
///
/// # Errors
/// When a file or a column is missing, a text is empty, a dev label is none of the classes or no finite number, or all
/// training examples have the same label; when the name is no name for a folder, or a metric does not fit the labels.
pub fn table_task(spec: &TableSpec) -> Result<Task> {
    if spec.name.contains(['/', '\\']) || spec.name.starts_with('.') || spec.name.is_empty() {
        return Err(Error::new(format!("a task can't be called {:?}: files are named for it", spec.name))
            .help("give a plain name with --task"));
    }
    let columns = |label: Option<&String>| Columns {
        has_header: true,
        first: spec.text.clone(),
        second: spec.text2.clone(),
        label: label.cloned(),
    };
    let broken = if spec.skip_empty { Broken::PassOver } else { Broken::Refuse };
    let mut notes = Vec::new();
    let mut read = |path: &Path| {
        let (raw, passed_over) = read_raw(path, &columns(Some(&spec.label)), broken, &spec.read)?;
        if passed_over > 0 {
            notes.push(format!("{}: rows passed over that lack a text or a label: {passed_over}", path.display()));
        }
        Ok::<_, Error>(raw)
    };
    let (train, dev) = (read(&spec.train)?, read(&spec.dev)?);
    let kind = match spec.regression {
        true => Kind::Regression { low: f64::NEG_INFINITY, high: f64::INFINITY },
        false => Kind::Classification { classes: classes(&train, &spec.train)? },
    };
    let train = label(train, &kind, &spec.train)?;
    refuse_one_answer(&train, &kind, &spec.train)?;
    let dev = label(dev, &kind, &spec.dev)?;
    if dev.is_empty() {
        return Err(Error::new("there are no examples to score").at(spec.dev.display()).help("give a file with labelled rows"));
    }
    let test = match &spec.test {
        Some(path) => {
            let (raw, _) = read_raw(path, &columns(None), Broken::Keep, &spec.read)?;
            vec![Split { name: spec.name.clone(), examples: hidden(raw) }]
        }
        None => Vec::new(),
    };
    let metrics = match (&spec.metrics[..], spec.regression) {
        ([], true) => vec![Metric::Pearson, Metric::Spearman],
        ([], false) => vec![Metric::Accuracy],
        (chosen, _) => chosen.to_vec(),
    };
    metrics.iter().try_for_each(|metric| refuse_metric(*metric, &kind))?;
    let dev = vec![Split { name: "dev".to_owned(), examples: dev }];
    Ok(Task { name: spec.name.clone(), kind, pair: spec.text2.is_some(), metrics, train, dev, test, notes })
}

/// The labels of rows as classes. Whole numbers stay as they are written; where some label has a fraction or an
/// exponent, all are the numbers that they mean, as pandas reads such a column: `0.0`, `1.0`.
fn classes(rows: &[RawExample], path: &Path) -> Result<Vec<String>> {
    let mut classes: Vec<String> = rows.iter().map(|row| row.label.trim().to_owned()).collect();
    let whole = |class: &String| class.bytes().all(|byte| byte.is_ascii_digit() || b"+-".contains(&byte));
    let numbers: Option<Vec<f64>> = classes.iter().map(|class| class.parse().ok()).collect();
    match numbers {
        Some(mut numbers) if !classes.iter().all(whole) && numbers.iter().any(|number| number.is_finite()) => {
            if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
                return Err(Error::new(format!("the label {:?} is no class among numbers", rows[at].label))
                    .at(format!("{}:{}", path.display(), rows[at].line))
                    .help("mend or remove the row"));
            }
            numbers.sort_by(f64::total_cmp);
            classes = numbers.iter().map(|number| format!("{:?}", number + 0.0)).collect();
        }
        _ => classes.sort_by_cached_key(|class| (class.parse::<i64>().unwrap_or(i64::MAX), class.clone())),
    }
    classes.dedup();
    Ok(classes)
}

/// Refuses a metric that says nothing of such a task.
fn refuse_metric(metric: Metric, kind: &Kind) -> Result<()> {
    let name = metric.name();
    let (what, help) = match (kind, metric) {
        (Kind::Classification { classes }, Metric::F1 | Metric::F1Binary) if classes.len() != 2 => (
            format!("{name} is a score of two classes, and there are {}: {}", classes.len(), classes.join(", ")),
            "say how the classes' scores are averaged: --metric f1-macro, f1-micro or f1-weighted",
        ),
        (Kind::Classification { .. }, Metric::Pearson | Metric::Spearman) => (
            format!("{name} is a correlation of numbers, and the labels are classes"),
            "add --regression where the answers are numbers, or choose another --metric",
        ),
        (Kind::Regression { .. }, metric) if !matches!(metric, Metric::Pearson | Metric::Spearman) => (
            format!("{name} is a score of classes, and with --regression the answers are numbers"),
            "choose --metric pearson or spearman, or leave out --regression",
        ),
        _ => return Ok(()),
    };
    Err(Error::new(what).help(help))
}
