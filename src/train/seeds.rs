//! Fine-tuning with several seeds, and the folder that keeps what each came to.
//!
//! `OUT/TASK/seed-1/` holds `scores.json` and GLUE's files of predictions where the task has test splits; `OUT/TASK/model/` the
//! fine-tuned model of the best seed, which `transformers` loads. A seed whose scores are there is not repeated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::finetune::{Finetuned, Finetuning};
use crate::checkpoint::step_of;
use crate::error::{Error, IoContext, Result};
use crate::files::{Lock, write_folder, write_text};
use crate::tasks::Kind;

/// The scores of one (task, seed): the content of `scores.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedScores {
    /// The task's name.
    pub task: String,
    /// What drew the new layers, the order and the dropout.
    pub seed: u64,
    /// The task's one number: the mean of its metrics and dev splits.
    pub score: f64,
    /// By metric.
    pub scores: BTreeMap<String, f64>,
    /// How often each class (a row) was taken for each class (a column); none of a regression.
    pub confusion: Option<Vec<Vec<u64>>>,
    /// Passes over the training split that the scored model has seen.
    pub epochs: f64,
    /// Wall time.
    pub seconds: f64,
    /// What it was made with: scores are found again only where this is the same.
    pub settings: Settings,
}

/// What scores depend on, beside the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Hash of the pre-trained weights.
    pub model: String,
    /// Fingerprint of the task's examples.
    pub data: String,
    /// The options, in words.
    pub options: String,
}

impl Finetuning<'_> {
    /// Fine-tunes with the seeds 1 to `seeds`, those whose scores are in `out` left out; gives the scores in the seeds' order.
    ///
    /// # Errors
    /// As [`Finetuning::run`], when `out` can't be written, or holds scores that were made with something else.
    pub fn run_seeds(&self, seeds: u64, out: Option<&Path>) -> Result<Vec<SeedScores>> {
        let settings = self.settings();
        let folder = out.map(|out| out.join(&self.task.name));
        // Which seed's model is the best is known to one process alone.
        let _lock = folder.as_deref().map(Lock::take).transpose()?;
        let mut done: Vec<SeedScores> = Vec::new();
        for seed in 1..=seeds {
            let name = format!("{} #{seed}", self.task.name);
            let place = folder.as_ref().map(|folder| folder.join(format!("seed-{seed}")));
            if let Some(found) = place.as_deref().map(read_scores).transpose()?.flatten() {
                refuse_other(&found, &settings, place.as_deref())?;
                self.console.cell_done(&name, true);
                done.push(found);
                continue;
            }
            let finetuned = self.run(seed)?;
            let scores = self.scores(seed, &finetuned, &settings);
            if let (Some(folder), Some(place)) = (&folder, &place) {
                let is_best = done.iter().all(|other| other.score < scores.score);
                self.keep(&scores, &finetuned, place, is_best.then(|| folder.join("model")))?;
            }
            self.console.cell_done(&name, false);
            done.push(scores);
        }
        Ok(done)
    }

    fn scores(&self, seed: u64, finetuned: &Finetuned, settings: &Settings) -> SeedScores {
        SeedScores {
            task: self.task.name.clone(),
            seed,
            score: self.task.main_score(&finetuned.scores),
            scores: finetuned.scores.clone(),
            confusion: self.task.confusion(&finetuned.dev),
            epochs: finetuned.epochs,
            seconds: finetuned.seconds,
            settings: settings.clone(),
        }
    }

    fn settings(&self) -> Settings {
        Settings { model: self.pretrained.weights.hash(), data: self.task.fingerprint(), options: self.options.to_string() }
    }

    /// The model is written first: where the scores are, all is.
    fn keep(&self, scores: &SeedScores, finetuned: &Finetuned, place: &Path, model: Option<PathBuf>) -> Result<()> {
        if let Some(path) = model {
            let labels = match &self.task.kind {
                Kind::Classification { classes } => classes.as_slice(),
                Kind::Regression { .. } => &[],
            };
            let Finetuned { model, .. } = finetuned;
            write_folder(&path, |inside| model.write_into(inside, &self.pretrained.shape, labels, &self.pretrained.tokenizer))?;
        }
        write_folder(place, |inside| {
            for (split, outputs) in self.task.test.iter().zip(self.predict_test(&finetuned.model)) {
                write_text(&inside.join(format!("{}.tsv", split.name)), &self.task.predictions(&outputs))?;
            }
            let text = serde_json::to_string_pretty(scores).expect("scores in memory can be written") + "\n";
            write_text(&inside.join("scores.json"), &text)
        })
    }
}

/// The scores that a folder keeps; none where there are none yet.
fn read_scores(folder: &Path) -> Result<Option<SeedScores>> {
    let path = folder.join("scores.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).doing("read", &path)?;
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::new(format!("not a fine-tuning's scores: {error}"))
            .at(path.display())
            .help("delete the file to have it made again")
    })
}

/// Where `--every-checkpoint` keeps the scores of a run's checkpoints: `step-0001000/TASK/seed-1/scores.json` below. Each of
/// several models has a folder of its name there.
pub fn checkpoint_scores_folder(run: &Path, model: Option<&str>) -> PathBuf {
    let folder = run.join("finetune");
    model.map_or(folder.clone(), |name| folder.join(name))
}

/// The scores of a run's checkpoints (of one of its models, when it has several), with their steps; none where none were made.
///
/// # Errors
/// When a file can't be read.
pub fn read_checkpoint_scores(run: &Path, model: Option<&str>) -> Result<Vec<(u64, SeedScores)>> {
    let mut found = Vec::new();
    for checkpoint in folders(&checkpoint_scores_folder(run, model))? {
        let Some(step) = step_of(&checkpoint) else { continue };
        for task in folders(&checkpoint)? {
            for seed in folders(&task)? {
                found.extend(read_scores(&seed)?.map(|scores| (step, scores)));
            }
        }
    }
    Ok(found)
}

/// The folders in a folder, by name; none where it isn't there.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).doing("read", folder)?.collect::<std::io::Result<Vec<_>>>().doing("read", folder)?;
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

fn refuse_other(found: &SeedScores, settings: &Settings, place: Option<&Path>) -> Result<()> {
    let there = &found.settings;
    let differs = match () {
        () if there.model != settings.model => "another model".to_owned(),
        () if there.data != settings.data => "other data".to_owned(),
        () if there.options != settings.options => format!("other settings: {}", there.options),
        () => return Ok(()),
    };
    Err(Error::new(format!("the folder keeps scores of {differs}"))
        .at(place.unwrap_or(Path::new("")).display())
        .help("choose another --out; nothing was changed"))
}
