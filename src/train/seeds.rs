//! Fine-tuning with several seeds, and the folder that keeps what each came to.
//!
//! `OUT/TASK/seed-1/` holds `scores.json` and GLUE's files of predictions where the task has test splits;
//! `OUT/TASK/model/` the fine-tuned model of the best seed, which `transformers` loads; `OUT/TASK/finetune.json` says
//! that the folder is one of ours, and whose model that is. A seed whose scores are there is not repeated, but where
//! predictions are asked for that it lacks: the kept model makes them, or the seed is trained again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::finetune::{Finetuned, Finetuning};
use crate::checkpoint::step_of;
use crate::error::{Error, IoContext, Result};
use crate::files::manifest::{CHECKSUMS, Json, check, read_json, write_checksums, write_json};
use crate::files::{Lock, is_by_the_way, is_free, make_folder, write_folder, write_text};
use crate::model::{Classifier, ModelFolder};
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
    /// Scores by metric.
    pub scores: BTreeMap<String, f64>,
    /// How often each class (a row) was taken for each class (a column); none of a regression.
    pub confusion: Option<Vec<Vec<u64>>>,
    /// Passes over the training split that the scored model has seen.
    pub epochs: f64,
    /// Wall time.
    pub seconds: f64,
    /// What it was made with: scores are found again only where this is the same.
    pub settings: FinetuneSettings,
    /// The test splits that were predicted, by name, with the fingerprints of their rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tests: BTreeMap<String, String>,
}

/// What scores depend on, beside the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinetuneSettings {
    /// Hash of the pre-trained weights.
    pub model: String,
    /// Fingerprint of the task's examples.
    pub data: String,
    /// The options, in words.
    pub options: String,
}

/// The content of `finetune.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    /// Always "upstill fine-tuning".
    format: String,
    /// The seed whose model is in `model/`; none before there is one, and while it is written.
    model_of_seed: Option<u64>,
}

const MARK: &str = "finetune.json";
const FORMAT: &str = "upstill fine-tuning";

/// The folder of a task's scores.
struct Kept {
    path: PathBuf,
}

impl Kept {
    fn seed(&self, seed: u64) -> PathBuf {
        self.path.join(format!("seed-{seed}"))
    }

    fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// Whose model is kept.
    fn model_of_seed(&self) -> Result<Option<u64>> {
        Ok(read_mark(&self.path)?.and_then(|mark| mark.model_of_seed))
    }

    fn mark(&self, model_of_seed: Option<u64>) -> Result<()> {
        make_folder(&self.path)?;
        let mark = Mark { format: FORMAT.to_owned(), model_of_seed };
        write_json(&self.path.join(MARK), &mark)
    }

    /// Whether a seed's score is above those of all other seeds that are kept; of equals, the first seed's.
    fn is_best(&self, scores: &SeedScores) -> Result<bool> {
        let is_better = |other: SeedScores| other.score > scores.score || other.score == scores.score && other.seed < scores.seed;
        // What can't be read is found when its turn comes; it is no better than what was just trained.
        Ok(!folders(&self.path)?.iter().filter_map(|folder| read_scores(folder).ok().flatten()).any(is_better))
    }
}

/// Refuses a folder `out/task` that is there and isn't one of fine-tuning's: nothing of it would be safe.
///
/// # Errors
/// When it is something else, or can't be read.
pub fn check_scores_folder(out: &Path, task: &str) -> Result<()> {
    let path = out.join(task);
    if is_free(&path)? || read_mark(&path)?.is_some() {
        return Ok(());
    }
    // As it was before there was a mark: nothing but seeds, one of them finished, and a model.
    let mut is_ours = false;
    let mut is_more = !path.is_dir();
    for entry in if is_more { Vec::new() } else { entries(&path)? } {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_by_the_way(name.as_ref()) {
            continue;
        }
        is_more |= !(name.starts_with("seed-") || name == "model") || !entry.is_dir();
        is_ours |= name.starts_with("seed-") && entry.join(SCORES).is_file();
    }
    if is_ours && !is_more {
        return Ok(());
    }
    Err(Error::new("the folder for the scores holds something else")
        .at(path.display())
        .help("choose another --out, or another name with --task; nothing was changed"))
}

/// Refuses to replace a seed's folder with files that nobody but a person can have put there.
fn refuse_foreign(seed: &Path) -> Result<()> {
    let is_own = |path: &PathBuf| {
        let is_ours = path.ends_with(SCORES) || path.ends_with(CHECKSUMS) || path.extension().is_some_and(|end| end == "tsv");
        is_ours && path.is_file() || path.file_name().is_some_and(is_by_the_way)
    };
    match if seed.is_dir() { entries(seed)? } else { Vec::new() }.iter().find(|path| !is_own(path)) {
        Some(other) => Err(Error::new("the folder for a seed's scores holds something else")
            .at(other.display())
            .help("choose another --out, or move it away; nothing was changed")),
        None => Ok(()),
    }
}

fn read_mark(folder: &Path) -> Result<Option<Mark>> {
    let path = folder.join(MARK);
    if !path.is_file() {
        return Ok(None);
    }
    let json = Json::read(&path)?;
    Ok(serde_json::from_str(&json.text).ok().filter(|mark: &Mark| mark.format == FORMAT))
}

impl Finetuning<'_> {
    /// Fine-tunes with the seeds 1 to `seeds`, those whose scores are in `out` left out; gives the scores in the seeds'
    /// order. Where the task has test splits, the predictions of each are in `out` afterwards.
    ///
    /// # Errors
    /// As [`Finetuning::run`], when `out` can't be written, or holds scores that were made with something else or what
    /// is no scores.
    pub fn run_seeds(&self, seeds: u64, out: Option<&Path>) -> Result<Vec<SeedScores>> {
        let settings = self.settings();
        let kept = out.map(|out| Kept { path: out.join(&self.task.name) });
        if let Some(out) = out {
            check_scores_folder(out, &self.task.name)?;
        }
        // Which seed's model is the best is known to one process alone.
        let _lock = kept.as_ref().map(|kept| Lock::take(&kept.path)).transpose()?;
        let mut done: Vec<SeedScores> = Vec::new();
        for seed in 1..=seeds {
            let name = format!("{} #{seed}", self.task.name);
            let found = match &kept {
                Some(kept) => self.find(seed, kept, &settings)?,
                None => None,
            };
            let is_found = found.is_some();
            let scores = match found {
                Some(scores) => scores,
                None => {
                    let finetuned = self.run(seed)?;
                    let scores = self.scores(seed, &finetuned, &settings);
                    if let Some(kept) = &kept {
                        self.keep(&scores, &finetuned, kept)?;
                    }
                    scores
                }
            };
            self.console.cell_done(&name, is_found);
            done.push(scores);
        }
        Ok(done)
    }

    /// A seed's scores where they are kept, with the predictions that are asked for; none where the seed has to be
    /// trained.
    fn find(&self, seed: u64, kept: &Kept, settings: &FinetuneSettings) -> Result<Option<SeedScores>> {
        let place = kept.seed(seed);
        let Some(mut found) = read_scores(&place)? else {
            refuse_foreign(&place)?;
            return Ok(None);
        };
        refuse_other(&found, settings, &place)?;
        let tests = self.tests();
        let has = |(name, print): (&String, &String)| found.tests.get(name) == Some(print) && predictions(&place, name).is_file();
        if tests.iter().all(has) {
            return Ok(Some(found));
        }
        refuse_foreign(&place)?;
        if kept.model_of_seed()? != Some(seed) {
            self.console.note(&format!(
                "seed {seed} of {} is trained again: its scores are kept, and not the model that predicts the test rows",
                self.task.name
            ));
            return Ok(None);
        }
        let model = Classifier::load(&ModelFolder::open(&kept.model())?, &self.device.handle.clone().autodiff())?;
        found.tests.extend(tests);
        write_folder(&place, |inside| {
            for path in entries(&place)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "tsv")) {
                fs::copy(&path, inside.join(path.file_name().unwrap_or_default())).doing("copy", &path)?;
            }
            self.write_predictions(&model, inside)?;
            write_json(&inside.join(SCORES), &found)?;
            write_checksums(inside)
        })?;
        Ok(Some(found))
    }

    fn scores(&self, seed: u64, finetuned: &Finetuned, settings: &FinetuneSettings) -> SeedScores {
        SeedScores {
            task: self.task.name.clone(),
            seed,
            score: self.task.main_score(&finetuned.scores),
            scores: finetuned.scores.clone(),
            confusion: self.task.confusion(&finetuned.dev),
            epochs: finetuned.epochs,
            seconds: finetuned.seconds,
            settings: settings.clone(),
            tests: self.tests(),
        }
    }

    fn settings(&self) -> FinetuneSettings {
        FinetuneSettings {
            model: self.pretrained.weights.hash(),
            data: self.task.fingerprint(),
            options: self.options.to_string(),
        }
    }

    /// The test splits by name, with their fingerprints.
    fn tests(&self) -> BTreeMap<String, String> {
        self.task.test.iter().map(|split| (split.name.clone(), split.fingerprint())).collect()
    }

    /// The model is written first: where the scores are, all is.
    fn keep(&self, scores: &SeedScores, finetuned: &Finetuned, kept: &Kept) -> Result<()> {
        let Finetuned { model, .. } = finetuned;
        if kept.is_best(scores)? {
            let labels = match &self.task.kind {
                Kind::Classification { classes } => classes.as_slice(),
                Kind::Regression { .. } => &[],
            };
            // Nobody's while it is written.
            kept.mark(None)?;
            write_folder(&kept.model(), |inside| {
                model.write_into(inside, &self.pretrained.shape, labels, &self.pretrained.tokenizer)?;
                write_checksums(inside)
            })?;
            kept.mark(Some(scores.seed))?;
        }
        write_folder(&kept.seed(scores.seed), |inside| {
            self.write_predictions(model, inside)?;
            write_json(&inside.join(SCORES), scores)?;
            write_checksums(inside)
        })
    }

    fn write_predictions(&self, model: &Classifier, folder: &Path) -> Result<()> {
        for (split, outputs) in self.task.test.iter().zip(self.predict_test(model)) {
            write_text(&predictions(folder, &split.name), &self.task.predictions(&outputs))?;
        }
        Ok(())
    }
}

fn predictions(folder: &Path, split: &str) -> PathBuf {
    folder.join(format!("{split}.tsv"))
}

const SCORES: &str = "scores.json";

/// The scores that a folder keeps; none where there are none yet.
fn read_scores(folder: &Path) -> Result<Option<SeedScores>> {
    let path = folder.join(SCORES);
    if !path.exists() {
        return Ok(None);
    }
    let scores = read_json(&path, "a fine-tuning's scores");
    let scores = scores.map_err(|error| error.help("delete the file to have it made again"))?;
    check(folder)?;
    Ok(Some(scores))
}

/// Where `--every-checkpoint` keeps the scores of a run's checkpoints: `step-0001000/TASK/seed-1/scores.json` below.
/// Each of several models has a folder of its name there.
pub fn checkpoint_scores_folder(run: &Path, model: Option<&str>) -> PathBuf {
    let folder = run.join("finetune");
    model.map_or(folder.clone(), |name| folder.join(name))
}

/// The scores of a run's checkpoints (of one of its models, when it has several), with their steps; none where none
/// were made.
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
    let mut found = if folder.is_dir() { entries(folder)? } else { Vec::new() };
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).doing("read", folder)?.collect::<std::io::Result<Vec<_>>>().doing("read", folder)?;
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

fn refuse_other(found: &SeedScores, settings: &FinetuneSettings, place: &Path) -> Result<()> {
    let there = &found.settings;
    let differs = match () {
        () if there.model != settings.model => "another model".to_owned(),
        () if there.data != settings.data => "other data".to_owned(),
        () if there.options != settings.options => format!("other settings: {}", there.options),
        () => return Ok(()),
    };
    Err(Error::new(format!("the folder keeps scores of {differs}"))
        .at(place.display())
        .help("choose another --out; nothing was changed"))
}
