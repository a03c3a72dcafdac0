//! A task of any labelled table, by naming its columns.

use std::path::{Path, PathBuf};

use super::examples::{Broken, Columns, RawExample, hidden, label, read_raw, refuse_one_answer};
use super::{Kind, Metric, Split, Task};
use crate::error::{Error, Result};

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
}

/// Reads a task. Its classes are the labels of the training file: whole numbers in their order, anything else by the alphabet.
///
/// # Errors
/// When a file or a column is missing, a text is empty, a dev label is none of the classes or no number, or all training
/// examples have the same label; when the name is no name for a folder.
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
        let (raw, passed_over) = read_raw(path, &columns(Some(&spec.label)), broken)?;
        if passed_over > 0 {
            notes.push(format!("{}: rows passed over that lack a text or a label: {passed_over}", path.display()));
        }
        Ok::<_, Error>(raw)
    };
    let (train, dev) = (read(&spec.train)?, read(&spec.dev)?);
    let kind = match spec.regression {
        true => Kind::Regression { low: f64::NEG_INFINITY, high: f64::INFINITY },
        false => Kind::Classification { classes: classes(&train) },
    };
    let train = label(train, &kind, &spec.train)?;
    refuse_one_answer(&train, &kind, &spec.train)?;
    let dev = label(dev, &kind, &spec.dev)?;
    if dev.is_empty() {
        return Err(Error::new("there are no examples to score").at(spec.dev.display()).help("give a file with labelled rows"));
    }
    let test = match &spec.test {
        Some(path) => vec![Split { name: spec.name.clone(), examples: hidden(read_raw(path, &columns(None), Broken::Keep)?.0) }],
        None => Vec::new(),
    };
    let metrics = match (&spec.metrics[..], spec.regression) {
        ([], true) => vec![Metric::Pearson, Metric::Spearman],
        ([], false) => vec![Metric::Accuracy],
        (chosen, _) => chosen.to_vec(),
    };
    let dev = vec![Split { name: "dev".to_owned(), examples: dev }];
    Ok(Task { name: spec.name.clone(), kind, pair: spec.text2.is_some(), metrics, train, dev, test, notes })
}

fn classes(rows: &[RawExample]) -> Vec<String> {
    let mut classes: Vec<String> = rows.iter().map(|row| row.label.trim().to_owned()).collect();
    classes.sort_by_cached_key(|class| (class.parse::<i64>().unwrap_or(i64::MAX), class.clone()));
    classes.dedup();
    classes
}
