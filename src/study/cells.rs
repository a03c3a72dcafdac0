//! `cells.jsonl`: what a study's cells came to, a line each of a few kB, so that results travel without their weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::planner::Cell;
use super::results::ScoresAt;
use crate::config::Plan;
use crate::error::{Error, IoContext, Result};
use crate::files::manifest::hash;
use crate::files::{Lock, write_text};
use crate::log::Console;
use crate::train::waiting;

/// The numerics of this version: raised when a plan comes to other numbers than before by more than rounding, so that
/// lines from before are not taken for what this version would find.
pub const NUMERICS: u32 = 1;

/// What a cell came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CellLine {
    /// The title of the study that it was run for.
    pub study: String,
    /// Hash of the study's file.
    #[serde(default)]
    pub registered: String,
    /// [`NUMERICS`] of the version that ran it.
    pub numerics: u32,
    /// The version of upstill that ran it, and its commit.
    #[serde(default)]
    pub upstill: String,
    /// The plan's hash, by which the cell is found.
    pub cell: String,
    /// The arm's name.
    pub arm: String,
    /// The run's seed.
    pub seed: u64,
    /// What the placeholder of `[tune]` stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Whether it was run to choose that value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_trial: bool,
    /// The processor or GPU.
    #[serde(default)]
    pub device: String,
    /// CPU threads that it had; the bits of a result are those of as many threads.
    #[serde(default)]
    pub threads: usize,
    /// Wall time of the training.
    pub seconds: f64,
    /// How its models were scored beside the held-out loss, in words; empty where they were not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scoring: String,
    /// Why it did not end, for a trial that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Results by the model's name, which is `model` where there is one.
    pub models: BTreeMap<String, ModelLine>,
    /// The plan, as `plan.toml` has it; a teacher that the study trained stands there by its own cell.
    pub plan: String,
}

/// What one model of a cell came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelLine {
    /// The held-out loss at the end of training, in nats a token.
    pub held_out_loss: Option<f64>,
    /// Steps done, and the held-out loss then.
    pub curve: Vec<(u64, f64)>,
    /// On other held-out sets, by their names, in nats a token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, f64>,
    /// Accuracies on minimal pairs, by the pairs' name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pairs: BTreeMap<String, f64>,
    /// Scores by task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// Scores on tasks before the end of training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores_at: Vec<ScoresAt>,
}

/// What comes before a line's checksum, which is blake3 of the line without it.
const CHECKSUM: &str = ",\"checksum\":\"";

/// A line's text with its checksum.
fn sealed(line: &CellLine) -> String {
    let text = serde_json::to_string(line).expect("a line in memory can be written");
    let inside = text.strip_suffix('}').expect("an object");
    format!("{inside}{CHECKSUM}{}\"}}", hash(text.as_bytes()))
}

/// Refuses a line that is not as it was written. Lines of upstill's first studies have no checksum.
fn must_be_as_written(line: &str) -> Result<()> {
    let Some((inside, checksum)) = line.rsplit_once(CHECKSUM) else { return Ok(()) };
    match checksum.trim_end().strip_suffix("\"}") == Some(&hash(format!("{inside}}}").as_bytes())) {
        true => Ok(()),
        false => {
            Err(Error::new("the line of a cell is not as it was written")
                .help("restore it, or delete it and the cell is run again"))
        }
    }
}

impl CellLine {
    /// Reads a line of `cells.jsonl`.
    ///
    /// # Errors
    /// When it is no such line, was altered, or is of another version of the numerics.
    pub fn parse(text: &str) -> Result<Self> {
        let line: Self = serde_json::from_str(text).map_err(|error| {
            Error::new(format!("not the line of a cell: {error}")).help("cells.jsonl is written by `upstill study`")
        })?;
        if line.numerics != NUMERICS {
            return Err(Error::new(format!(
                "the cell {} was run by version {} of the numerics (upstill {}), and this is version {NUMERICS}: \
                 its numbers are not what would be found now",
                line.cell, line.numerics, line.upstill
            ))
            .help("leave the file out, and its cells are run again; or use the version of upstill that wrote it"));
        }
        must_be_as_written(text)?;
        let hash = toml::from_str::<Plan>(&line.plan).map(|plan| plan.hash()).map_err(|error| error.to_string());
        match hash {
            Ok(hash) if hash == line.cell => Ok(line),
            Ok(hash) => Err(Error::new(format!("the cell {} holds the plan of another cell, {hash}", line.cell))
                .help("the line was altered: restore it, or delete it")),
            Err(error) => Err(Error::new(format!("the cell {} holds no plan: {}", line.cell, error.trim_end()))
                .help("the line was altered, or written by a later version of upstill")),
        }
    }
}

/// Every line of a file, with its text.
fn read(path: &Path) -> Result<Vec<(CellLine, String)>> {
    let text = std::fs::read_to_string(path).doing("read", path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let parsed = CellLine::parse(line).map_err(|error| error.at(format!("{}, line {number}", path.display())))?;
            Ok((parsed, line.to_owned()))
        })
        .collect()
}

/// The lines that a study knows: those of its own file, which it adds to, and those of files that were given.
pub(super) struct Ledger {
    path: PathBuf,
    lock: PathBuf,
    known: Mutex<Vec<(CellLine, String)>>,
}

impl Ledger {
    /// Of the study in `dir` with this title, and what `given` files hold.
    ///
    /// # Errors
    /// A file that can't be read, or is of another study or another version of the numerics.
    pub fn open(dir: &Path, title: &str, given: &[PathBuf]) -> Result<Self> {
        let path = dir.join("cells.jsonl");
        let mut known = if path.exists() { read(&path)? } else { Vec::new() };
        for file in given {
            let lines = read(file)?;
            if let Some((other, _)) = lines.first()
                && !lines.iter().any(|(line, _)| line.study == title)
            {
                return Err(Error::new(format!("the cells of another study, {:?}; this one is {title:?}", other.study))
                    .at(file.display())
                    .help("give the cells.jsonl of this study"));
            }
            known.extend(lines);
        }
        Ok(Self { path, lock: dir.join("locks").join("cells.jsonl"), known: Mutex::new(known) })
    }

    /// What a cell came to, scored so. What another folder's file has is kept in this one's too.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn find(&self, cell: &Cell, scoring: &str) -> Result<Option<CellLine>> {
        let found = self.known().iter().find(|(line, _)| line.cell == cell.id && line.scoring == scoring).cloned();
        let Some((line, text)) = found else { return Ok(None) };
        self.keep(&line, &text)?;
        Ok(Some(line))
    }

    /// Adds what a cell came to; gives it as it will be read again.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&self, line: &CellLine) -> Result<CellLine> {
        let text = sealed(line);
        let line = CellLine::parse(&text)?;
        self.keep(&line, &text)?;
        self.known().push((line.clone(), text));
        Ok(line)
    }

    /// Writes the file anew with a line that it lacks; a line of the same cell that was scored otherwise makes room.
    fn keep(&self, line: &CellLine, text: &str) -> Result<()> {
        let _lock = Lock::wait_file(&self.lock, &mut waiting(&Console::silent(), "cells.jsonl"))?;
        let there =
            if self.path.exists() { std::fs::read_to_string(&self.path).doing("read", &self.path)? } else { String::new() };
        // Hashes are written by us alone, so that looking for the text is enough.
        let of_cell = format!("\"cell\":\"{}\"", line.cell);
        if there.lines().any(|other| other == text) {
            return Ok(());
        }
        let others = there.lines().filter(|other| !other.contains(&of_cell));
        let lines: String = others.chain([text]).map(|line| format!("{line}\n")).collect();
        write_text(&self.path, &lines)
    }

    /// What a cell came to, however it was scored.
    pub fn of(&self, cell: &Cell) -> Option<CellLine> {
        self.known().iter().find(|(line, _)| line.cell == cell.id && line.stopped.is_none()).map(|(line, _)| line.clone())
    }

    /// The values that tuning chose in the study of this title, by arm: those of its results.
    pub fn chosen(&self, title: &str) -> BTreeMap<String, f64> {
        let known = self.known();
        let results = known.iter().filter(|(line, _)| !line.is_trial && line.study == title);
        results.filter_map(|(line, _)| Some((line.arm.clone(), line.value?))).collect()
    }

    fn known(&self) -> MutexGuard<'_, Vec<(CellLine, String)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::planner::Planner;
    use crate::study::spec::StudySpec;
    use crate::tokens::pocket_shards;

    #[test]
    fn a_line_is_as_it_was_written_or_refused() {
        let line = CellLine { study: "A study".into(), seconds: 1.5, ..CellLine::default() };
        let text = sealed(&line);
        must_be_as_written(&text).unwrap();
        assert_eq!(serde_json::from_str::<CellLine>(&text).unwrap(), line);
        let altered = text.replace("1.5", "1.6");
        assert!(must_be_as_written(&altered).unwrap_err().to_string().contains("not as it was written"));
        // Of before there were checksums.
        must_be_as_written(&serde_json::to_string(&line).unwrap()).unwrap();
    }

    /// Runs that were committed are found by the hashes of their plans; a change of those would have all of them run
    /// again.
    #[test]
    fn committed_cells_are_the_cells_of_their_studies() {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/results");
        let shards = pocket_shards().unwrap();
        for name in ["pocket-weak-teacher", "pocket-grid", "pocket-cotrain"] {
            let file = results.join(name).join("cells.jsonl");
            if !file.exists() {
                continue;
            }
            let spec = StudySpec::load(&results.join(name).join("study.toml")).unwrap();
            let lines = read(&file).unwrap();
            let lines = || lines.iter().map(|(line, _)| line).filter(|line| !line.is_trial);
            let mut planner = Planner::new(&spec, &shards, &results);
            planner.chosen.extend(lines().filter_map(|line| Some((line.arm.clone(), line.value?))));
            let (teachers, students) = planner.results().unwrap();
            let planned: Vec<&str> = teachers.iter().chain(&students).map(|cell| cell.id.as_str()).collect();
            let lost = lines().filter(|line| !planned.contains(&line.cell.as_str()));
            let lost: Vec<String> = lost.map(|line| format!("{}#{}", line.arm, line.seed)).collect();
            assert!(lost.is_empty(), "{name}: their plans have other hashes now: {}", lost.join(", "));
        }
    }
}
