//! The tasks of GLUE (Wang et al. 2019), from the official files as they are: UTF-8 tables whose quotes are literal,
//! CoLA without a header, MRPC with a byte order mark, QQP with broken rows.

use std::path::{Path, PathBuf};

use super::examples::{Broken, Columns, hidden, label, read_raw, refuse_one_answer};
use super::{Kind, Metric, Split, Task};
use crate::error::{Error, IoContext, Result};
use crate::text::ReadOptions;

/// What is known of one of GLUE's tasks.
struct Official {
    name: &'static str,
    /// Its folder, and the name of its file of predictions.
    folder: &'static str,
    /// None: scores from 0 to 5. The order is that of `transformers`.
    classes: &'static [&'static str],
    metrics: &'static [Metric],
    texts: &'static [&'static str],
    label: &'static str,
    /// Rows of `train.tsv`.
    rows: u64,
    /// Splits, their files, and how many rows these have.
    dev: &'static [(&'static str, &'static str, u64)],
    test: &'static [(&'static str, &'static str, u64)],
}

const NO_YES: &[&str] = &["0", "1"];
const ENTAILMENT: &[&str] = &["entailment", "not_entailment"];
const SENTENCES: &[&str] = &["sentence1", "sentence2"];

/// In the order of GLUE's leaderboard; columns, classes and metrics as in `transformers`' `run_glue`.
const TASKS: [Official; 9] = [
    Official {
        name: "cola",
        folder: "CoLA",
        classes: NO_YES,
        metrics: &[Metric::Matthews],
        // Without a header: source, label, the author's mark, sentence.
        texts: &["3"],
        label: "1",
        rows: 8_551,
        dev: &[("dev", "dev.tsv", 1_043)],
        test: &[("CoLA", "test.tsv", 1_063)],
    },
    Official {
        name: "sst-2",
        folder: "SST-2",
        classes: NO_YES,
        metrics: &[Metric::Accuracy],
        texts: &["sentence"],
        label: "label",
        rows: 67_349,
        dev: &[("dev", "dev.tsv", 872)],
        test: &[("SST-2", "test.tsv", 1_821)],
    },
    Official {
        name: "mrpc",
        folder: "MRPC",
        classes: NO_YES,
        metrics: &[Metric::F1, Metric::Accuracy],
        texts: &["#1 String", "#2 String"],
        label: "Quality",
        rows: 3_668,
        dev: &[("dev", "dev.tsv", 408)],
        test: &[("MRPC", "test.tsv", 1_725)],
    },
    Official {
        name: "sts-b",
        folder: "STS-B",
        classes: &[],
        metrics: &[Metric::Pearson, Metric::Spearman],
        texts: SENTENCES,
        label: "score",
        rows: 5_749,
        dev: &[("dev", "dev.tsv", 1_500)],
        test: &[("STS-B", "test.tsv", 1_379)],
    },
    Official {
        name: "qqp",
        folder: "QQP",
        classes: NO_YES,
        metrics: &[Metric::F1, Metric::Accuracy],
        texts: &["question1", "question2"],
        label: "is_duplicate",
        rows: 363_846,
        dev: &[("dev", "dev.tsv", 40_430)],
        test: &[("QQP", "test.tsv", 390_965)],
    },
    Official {
        name: "mnli",
        folder: "MNLI",
        classes: &["entailment", "neutral", "contradiction"],
        metrics: &[Metric::Accuracy],
        texts: SENTENCES,
        // Not the annotators' own labels, of which dev files have five columns.
        label: "gold_label",
        rows: 392_702,
        dev: &[("matched", "dev_matched.tsv", 9_815), ("mismatched", "dev_mismatched.tsv", 9_832)],
        test: &[
            ("MNLI-m", "test_matched.tsv", 9_796),
            ("MNLI-mm", "test_mismatched.tsv", 9_847),
            ("AX", "diagnostic.tsv", 1_104),
        ],
    },
    Official {
        name: "qnli",
        folder: "QNLI",
        classes: ENTAILMENT,
        metrics: &[Metric::Accuracy],
        texts: &["question", "sentence"],
        label: "label",
        rows: 104_743,
        dev: &[("dev", "dev.tsv", 5_463)],
        test: &[("QNLI", "test.tsv", 5_463)],
    },
    Official {
        name: "rte",
        folder: "RTE",
        classes: ENTAILMENT,
        metrics: &[Metric::Accuracy],
        texts: SENTENCES,
        label: "label",
        rows: 2_490,
        dev: &[("dev", "dev.tsv", 277)],
        test: &[("RTE", "test.tsv", 3_000)],
    },
    Official {
        name: "wnli",
        folder: "WNLI",
        classes: NO_YES,
        metrics: &[Metric::Accuracy],
        texts: SENTENCES,
        label: "label",
        rows: 635,
        dev: &[("dev", "dev.tsv", 71)],
        test: &[("WNLI", "test.tsv", 146)],
    },
];

/// A mean of tasks' main scores that papers report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Average {
    /// Always printed beside the number.
    pub name: &'static str,
    /// What is in it.
    pub tasks: &'static [&'static str],
}

/// The averages in use. Each task counts once, as the mean of its metrics (and MNLI of its two splits), as on the
/// leaderboard.
pub const AVERAGES: [Average; 3] = [
    // Lee et al. 2023, appendix A: without RTE and WNLI. It doesn't say how it folds two metrics into one.
    Average { name: "dwt-7", tasks: &["cola", "sst-2", "mrpc", "sts-b", "qqp", "mnli", "qnli"] },
    // Without WNLI, as most papers since BERT.
    Average { name: "glue-8", tasks: &["cola", "sst-2", "mrpc", "sts-b", "qqp", "mnli", "qnli", "rte"] },
    Average { name: "glue-9", tasks: &["cola", "sst-2", "mrpc", "sts-b", "qqp", "mnli", "qnli", "rte", "wnli"] },
];

impl Average {
    /// The mean of a score for each of its tasks; none where one is missing.
    pub fn of(&self, score: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let scores: Option<Vec<f64>> = self.tasks.iter().map(|task| score(task)).collect();
        scores.map(|scores| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// The names of GLUE's tasks, in the leaderboard's order.
pub fn glue_names() -> Vec<&'static str> {
    TASKS.iter().map(|task| task.name).collect()
}

fn official(name: &str) -> Option<&'static Official> {
    let plain = |name: &str| name.to_lowercase().replace('-', "");
    TASKS.iter().find(|task| plain(task.name) == plain(name))
}

/// GLUE's own name for a task, however it is written: "sst-2" for "SST2".
pub fn glue_name(name: &str) -> Option<&'static str> {
    official(name).map(|task| task.name)
}

/// The tasks whose files a folder holds, and a line on each that can't be run.
///
/// # Errors
/// When it holds none.
pub fn glue_folder(data: &Path) -> Result<(Vec<&'static str>, Vec<String>)> {
    let (mut whole, mut left_out) = (Vec::new(), Vec::new());
    for official in &TASKS {
        let reader = Reader::new(official, data);
        let missing = match official.dev.iter().any(|(_, file, _)| reader.folder.join(file).is_file()) {
            true => ["train.tsv"].into_iter().find(|file| !reader.folder.join(file).is_file()),
            false => Some(official.dev[0].1),
        };
        match missing {
            _ if !data.join(official.folder).is_dir() => {
                left_out.push(format!("{}: there is no {}/", official.name, official.folder))
            }
            Some(file) => left_out.push(format!("{}: there is no {}/{file}", official.name, official.folder)),
            None => whole.push(official.name),
        }
    }
    if whole.is_empty() {
        let there = if data.is_dir() { format!("it holds {}", listing(data)?) } else { "there is no such folder".to_owned() };
        return Err(Error::new(format!("the folder holds no task of GLUE; {there}"))
            .at(data.display())
            .help("--data takes the folder that holds CoLA/, SST-2/ and so on, as GLUE's own download makes it"));
    }
    Ok((whole, left_out))
}

/// Files to take in place of the official ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlueFiles {
    /// The file in place of `train.tsv`.
    pub train: Option<PathBuf>,
    /// For the first dev split's file; the others are left out.
    pub dev: Option<PathBuf>,
    /// For the first test split's file; the others are left out.
    pub test: Option<PathBuf>,
    /// How files are read.
    pub read: ReadOptions,
}

/// A task of GLUE by name. `data` is the folder that holds `CoLA/`, `SST-2/` and so on, or the task's own. Test files
/// are read where they are there; other row counts than the official ones, and rows of QQP that lack a question, are
/// notes.
///
/// # Errors
/// When the name is none of [`glue_names`], a file or column is missing, or a row is broken.
pub fn glue_task(name: &str, data: &Path, files: &GlueFiles) -> Result<Task> {
    let official = official(name)
        .ok_or_else(|| Error::new(format!("unknown GLUE task {name:?}")).help(format!("one of: {}", glue_names().join(", "))))?;
    let reader = Reader { read: files.read.clone(), ..Reader::new(official, data) };
    let mut notes = Vec::new();
    let train_path = reader.required("train.tsv", files.train.as_deref(), "train")?;
    let train = reader.labelled(&train_path, official.rows, &mut notes)?;
    refuse_one_answer(&train, &official.kind(), &train_path)?;
    let mut dev = Vec::new();
    for (path, split, rows) in reader.splits(official.dev, files.dev.as_deref()) {
        dev.push(Split { name: split.to_owned(), examples: reader.labelled(&path, rows, &mut notes)? });
    }
    if dev.is_empty() {
        reader.required(official.dev[0].1, None, "dev")?;
    } else if dev.len() < official.dev.len() {
        notes.push(format!("{}: scored on {} alone", official.folder, dev[0].name));
    }
    let mut test = Vec::new();
    for (path, split, rows) in reader.splits(official.test, files.test.as_deref()) {
        test.push(Split { name: split.to_owned(), examples: reader.hidden(&path, rows, &mut notes)? });
    }
    let pair = official.texts.len() == 2;
    Ok(Task {
        name: official.name.to_owned(),
        kind: official.kind(),
        pair,
        metrics: official.metrics.to_vec(),
        train,
        dev,
        test,
        notes,
    })
}

impl Official {
    fn kind(&self) -> Kind {
        match self.classes {
            [] => Kind::Regression { low: 0.0, high: 5.0 },
            classes => Kind::Classification { classes: classes.iter().map(|&class| class.to_owned()).collect() },
        }
    }
}

/// Reads the files of one task.
struct Reader {
    official: &'static Official,
    folder: PathBuf,
    read: ReadOptions,
}

impl Reader {
    fn new(official: &'static Official, data: &Path) -> Self {
        let below = data.join(official.folder);
        Self { official, folder: if below.is_dir() { below } else { data.to_owned() }, read: ReadOptions::default() }
    }

    /// The file to read, which has to be there.
    fn required(&self, file: &str, instead: Option<&Path>, option: &str) -> Result<PathBuf> {
        let path = instead.map_or_else(|| self.folder.join(file), Path::to_owned);
        if path.is_file() {
            return Ok(path);
        }
        let task = self.official.name;
        if instead.is_some() {
            return Err(Error::new(format!("there is no file {}", path.display())).help(format!("check the path of --{option}")));
        }
        let there = match self.folder.is_dir() {
            true => format!("the folder holds {}", listing(&self.folder)?),
            false => "there is no such folder".to_owned(),
        };
        Err(Error::new(format!("{task} needs {file}; {there}")).at(self.folder.display()).help(format!(
            "--data takes the folder that holds {}/ or that folder itself; --{option} FILE takes any other file",
            self.official.folder
        )))
    }

    /// Those of a task's splits whose files are there.
    fn splits(&self, all: &[(&'static str, &'static str, u64)], instead: Option<&Path>) -> Vec<(PathBuf, &'static str, u64)> {
        match (instead, all) {
            (Some(path), [(split, _, rows), ..]) => vec![(path.to_owned(), split, *rows)],
            _ => all
                .iter()
                .map(|&(split, file, rows)| (self.folder.join(file), split, rows))
                .filter(|(path, ..)| path.is_file())
                .collect(),
        }
    }

    fn columns(&self, label: Option<&str>, has_header: bool) -> Columns {
        let text = |at: usize| self.official.texts.get(at).map(|&name| name.to_owned());
        Columns { has_header, first: text(0).expect("every task has a text"), second: text(1), label: label.map(str::to_owned) }
    }

    fn labelled(&self, path: &Path, rows: u64, notes: &mut Vec<String>) -> Result<Vec<super::Example>> {
        let is_cola = self.official.name == "cola";
        let broken = if self.official.name == "qqp" { Broken::PassOver } else { Broken::Refuse };
        let (raw, passed_over) = read_raw(path, &self.columns(Some(self.official.label), !is_cola), broken, &self.read)?;
        if passed_over > 0 {
            let what = "rows passed over that lack a question or a label";
            notes.push(format!("{}: {what}: {passed_over}", self.place(path)));
        }
        self.count(path, raw.len() + passed_over, rows, notes);
        label(raw, &self.official.kind(), path)
    }

    fn hidden(&self, path: &Path, rows: u64, notes: &mut Vec<String>) -> Result<Vec<super::Example>> {
        let mut columns = self.columns(None, true);
        if self.official.name == "cola" {
            // Only the test file has a header.
            columns.first = "sentence".to_owned();
        }
        let (raw, _) = read_raw(path, &columns, Broken::Keep, &self.read)?;
        self.count(path, raw.len(), rows, notes);
        Ok(hidden(raw))
    }

    fn count(&self, path: &Path, found: usize, official: u64, notes: &mut Vec<String>) {
        if found as u64 != official {
            notes.push(format!("{}: row count {found}, and the official file's is {official}", self.place(path)));
        }
    }

    /// A path as notes have it: "CoLA/dev.tsv".
    fn place(&self, path: &Path) -> String {
        format!("{}/{}", self.official.folder, path.file_name().unwrap_or_default().to_string_lossy())
    }
}

fn listing(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder).doing("read", folder)?.collect::<std::io::Result<Vec<_>>>().doing("read", folder)?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_hold_tasks_that_are_there() {
        let names = glue_names();
        assert!(AVERAGES.iter().all(|average| average.tasks.iter().all(|task| names.contains(task))));
        assert_eq!(AVERAGES.map(|average| average.tasks.len()), [7, 8, 9]);
        let without_rte = |task: &str| (task != "rte").then_some(if task == "cola" { 0.7 } else { 0.0 });
        assert_eq!(AVERAGES.map(|average| average.of(without_rte)), [Some(0.7 / 7.0), None, None]);
    }
}
