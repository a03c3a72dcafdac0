//! From rows of a table to examples: what GLUE's files and any other labelled table share.

use std::path::Path;

use super::{Example, Kind, Label};
use crate::error::{Error, Result};
use crate::text::{ReadOptions, Row, Wanted, read_rows};

/// Which columns of a table make an example.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    /// False: the columns are called "0", "1", ...
    pub has_header: bool,
    pub first: String,
    pub second: Option<String>,
    /// The label; `None` where labels are hidden.
    pub label: Option<String>,
}

/// A row as it stands, before labels are understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RawExample {
    pub line: u64,
    pub first: String,
    pub second: Option<String>,
    /// Empty where labels are hidden.
    pub label: String,
}

/// What to do about a row that lacks a text or its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// An error that names the line.
    Refuse,
    /// Count it.
    PassOver,
    /// Take it with empty text: a test row has to have a prediction.
    Keep,
}

/// The rows of a file, and how many were passed over.
pub(super) fn read_raw(
    path: &Path,
    columns: &Columns,
    broken: Broken,
    options: &ReadOptions,
) -> Result<(Vec<RawExample>, usize)> {
    let names: Vec<String> = std::iter::once(&columns.first).chain(&columns.second).chain(&columns.label).cloned().collect();
    let rows = read_rows(path, columns.has_header, &Wanted { columns: &names, help: NAME_THEM }, options)?;
    let (mut raw, mut passed_over) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        let missing = row.fields.iter().position(|field| field.as_ref().is_none_or(|text| text.trim().is_empty()));
        match (missing, broken) {
            (Some(at), Broken::Refuse) => return Err(lacks(&names[at], at, &row, path)),
            (Some(_), Broken::PassOver) => passed_over += 1,
            (None, _) | (_, Broken::Keep) => raw.push(raw_example(row, columns)),
        }
    }
    Ok((raw, passed_over))
}

const NAME_THEM: &str =
    "mend the file, or read it as a table: --train, --dev, --text, --text2 and --label name files and columns";

fn lacks(column: &str, at: usize, row: &Row, path: &Path) -> Error {
    let what = match row.fields[at] {
        None => format!("this row has no value for the column `{column}`"),
        Some(_) => format!("the column `{column}` is empty in this row"),
    };
    Error::new(what)
        .at(format!("{}:{}", path.display(), row.line))
        .help("mend or remove the row; of a table read with --text, --skip-empty passes over such rows")
}

fn raw_example(row: Row, columns: &Columns) -> RawExample {
    let mut fields = row.fields.into_iter().map(Option::unwrap_or_default);
    let first = fields.next().unwrap_or_default();
    let second = columns.second.as_ref().and_then(|_| fields.next());
    RawExample { line: row.line, first, second, label: fields.next().unwrap_or_default() }
}

/// Gives every row the label that its text means.
pub(super) fn label(raw: Vec<RawExample>, kind: &Kind, path: &Path) -> Result<Vec<Example>> {
    let example = |row: RawExample| match kind.label(&row.label) {
        Some(label) => Ok(Example { first: row.first, second: row.second, label }),
        None => Err(outside(&row, kind).at(format!("{}:{}", path.display(), row.line))),
    };
    raw.into_iter().map(example).collect()
}

/// Rows without labels.
pub(super) fn hidden(raw: Vec<RawExample>) -> Vec<Example> {
    raw.into_iter().map(|row| Example { first: row.first, second: row.second, label: Label::Hidden }).collect()
}

fn outside(row: &RawExample, kind: &Kind) -> Error {
    match kind {
        Kind::Classification { classes } => {
            Error::new(format!("the label {:?} is none of the classes {}", row.label, classes.join(", ")))
                .help("mend the row; a table's classes are the labels of its --train file")
        }
        Kind::Regression { low, high } if low.is_finite() && high.is_finite() => {
            Error::new(format!("the label {:?} is no number from {low} to {high}", row.label)).help("mend the row")
        }
        Kind::Regression { .. } if row.label.trim().parse::<f64>().is_ok() => {
            Error::new(format!("the label {:?} is no finite number that a model can learn", row.label))
                .help("mend or remove the row: a score is a number of ordinary size")
        }
        Kind::Regression { .. } => Error::new(format!("the label {:?} is no number", row.label))
            .help("mend the row, name another column with --label, or leave out --regression"),
    }
}

/// Refuses training examples that teach nothing.
pub(super) fn refuse_one_answer(train: &[Example], kind: &Kind, path: &Path) -> Result<()> {
    let Some(first) = train.first() else {
        return Err(Error::new("there are no examples to train on").at(path.display()).help("give a file with labelled rows"));
    };
    if train.iter().any(|example| example.label != first.label) {
        return Ok(());
    }
    let what = match (kind, first.label) {
        (Kind::Classification { classes }, Label::Class(class)) => format!("every row has the same label, {:?}", classes[class]),
        _ => format!("every row has the same score, {}", first.label.value()),
    };
    Err(Error::new(what)
        .at(path.display())
        .help("a task needs two answers at least; is the file sorted and cut, or --label wrong?"))
}
