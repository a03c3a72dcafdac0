//! Models of a study fine-tuned on its tasks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spec::StudySpec;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_text;
use crate::log::Console;
use crate::model::ModelFolder;
use crate::tasks::Task;
use crate::train::{FinetuneOptions, Finetuning, Pretrained, interrupted};

/// How models are scored on tasks, in words.
pub(super) fn words(spec: &StudySpec, tasks: &[&Task]) -> String {
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    let at = if spec.score_at.is_empty() { String::new() } else { format!(", at {}", spec.score_at.join(" ")) };
    format!("lr {}, {} epochs, tasks {}{at}", spec.finetune_lr, spec.finetune_epochs, names.join(" "))
}

/// A file of scores: those of tasks, and the settings they were made with.
#[derive(Serialize, Deserialize)]
struct Scores {
    settings: String,
    scores: BTreeMap<String, f64>,
}

/// Fine-tunes the model in a folder on each task with a seed, and keeps the main scores in the file `kept`, where they
/// are found again.
pub(super) fn score(
    model: &Path,
    kept: &Path,
    seed: u64,
    tasks: &[&Task],
    spec: &StudySpec,
    device: &Device,
) -> Result<BTreeMap<String, f64>> {
    let settings = words(spec, tasks);
    if let Ok(text) = std::fs::read_to_string(kept)
        && let Ok(there) = serde_json::from_str::<Scores>(&text)
        && there.settings == settings
    {
        return Ok(there.scores);
    }
    let pretrained = Pretrained::read(&ModelFolder::open(model)?)?;
    let options = FinetuneOptions {
        lr: spec.finetune_lr,
        epochs: spec.finetune_epochs,
        dropout: 0.0,
        warmup: 0.1,
        ..FinetuneOptions::default()
    };
    let mut scores = BTreeMap::new();
    for task in tasks {
        if interrupted() {
            return Err(Error::interrupted("the study was stopped; every run is saved").help("the same command goes on"));
        }
        let silent = Console::silent();
        let found = Finetuning::new(&pretrained, task, &options, device, &silent)?.run(seed)?;
        scores.insert(task.name.clone(), task.main_score(&found.scores));
    }
    let text =
        serde_json::to_string_pretty(&Scores { settings, scores: scores.clone() }).expect("scores in memory can be written");
    write_text(kept, &(text + "\n"))?;
    Ok(scores)
}
