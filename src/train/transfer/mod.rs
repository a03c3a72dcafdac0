//! A transfer run in its folder: the task divided, the teacher made ready and asked once, the student trained phase by
//! phase with the loop of all methods, and scored on the test set at the end.
//!
//! The folder holds `plan.toml`, `run.json`, `steps.jsonl`, `model/` (the student) and `summary.json`, and until then a
//! checkpoint; teachers and their outputs are beside them, or in the folder that a study's cells share.
//!
//! Each phase of a schedule is one value of [`Transfer`](crate::methods::Transfer), one call of the loop and a new
//! optimizer. What is frozen has no gradient, so that neither the loop nor the optimizer knows of freezing. The teacher
//! is asked once, chunk by chunk, and its outputs are kept under the hash of all that they depend on. A transfer run
//! file has keys of its own (`src/config/transfer/`), chosen by its `method`.

mod data;
mod midway;
mod phases;
mod stopping;
mod student;
mod teacher;

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use data::{transfer_contents, transfer_task};
pub use midway::PhaseSummary;
pub use phases::{Phase, answering, phases};
pub use stopping::{EarlyStopping, Verdict};
pub use student::{StudentSettings, read_student};
pub use teacher::{CHUNK, Outputs, TransferTeacherModel, ready_teacher, teacher_outputs};

use crate::config::{LogitTargets, MODEL, Padding, Targets, TransferPlan};
use crate::device::{Device, wait};
use crate::error::{Error, Result};
use crate::files::manifest::{Hashes, hash};
use crate::log::{Console, Resume};
use crate::loss::{confidence, largest_variance, log_odds};
use crate::methods::{Head, LabelledRow, TextTokens, TransferRow, TransferRows, predict};
use crate::model::{Student, TextRow, Weights};
use crate::tasks::{Example, TransferTask, Unlabelled};
use data::class;
use midway::Keeper;
use phases::PhaseRun;
use student::{Prepared, prepare, write_student};
use teacher::texts_per_s;

use super::life::{Home, Stretch, claim, finished};
use super::numbers::refuse_broken_weights;
use super::written::RunInfo;

/// How a transfer run is carried out; nothing of it changes results.
pub struct TransferOptions<'a> {
    /// The run's folder.
    pub dir: &'a Path,
    /// Where teachers and their outputs are kept.
    pub shared: &'a Path,
    /// What the run is called on the screen.
    pub name: &'a str,
    /// Where progress goes.
    pub console: &'a Console,
    /// What it runs on.
    pub device: &'a Device,
    /// Whether to save and end: [`interrupted`](crate::train::interrupted), or a test's own.
    pub stop: &'a dyn Fn() -> bool,
}

/// What a transfer run came to: the content of its `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferSummary {
    /// The task.
    pub task: String,
    /// The run's seed.
    pub seed: u64,
    /// The student's share of right answers on the test set.
    pub accuracy: f64,
    /// The teacher's; none where the student has no use for one.
    pub teacher_accuracy: Option<f64>,
    /// How often the student answers the test set as the teacher does.
    pub agreement: Option<f64>,
    /// The variance of the teacher's predictions on the transfer set (table 9).
    pub teacher_variance: Option<f64>,
    /// The largest variance possible with as many classes.
    pub largest_variance: f64,
    /// The student's parameters.
    pub parameters: u64,
    /// Those of them that are word vectors.
    pub word_parameters: u64,
    /// The teacher's parameters.
    pub teacher_parameters: Option<u64>,
    /// Test texts the student answers a second.
    pub examples_per_s: f64,
    /// Texts that the teacher classifies in a second.
    pub teacher_examples_per_s: Option<f64>,
    /// Labelled rows learnt from; those for validation are as many as `validation` says beside.
    pub labelled: usize,
    /// Labelled rows for validation.
    pub validation: usize,
    /// Transfer rows, those for validation included.
    pub transfer: usize,
    /// Test rows.
    pub test: usize,
    /// Phase by phase.
    pub phases: Vec<PhaseSummary>,
    /// Wall time.
    pub seconds: f64,
    /// What a reader should know of the data.
    pub notes: Vec<String>,
    /// blake3 of `steps.jsonl` and of the student's files, by their paths in the run's folder; none of runs of older
    /// versions.
    #[serde(default, skip_serializing_if = "Hashes::is_empty")]
    pub files: Hashes,
}

/// Trains a student in its folder; a finished run is found and not repeated, one that was cut off goes on exactly.
///
/// # Errors
/// When the transfer set is empty and the student learns from it, the folder holds another run, files can't be read or
/// written, or a step isn't finite. After Ctrl-C an [interrupted](Error::is_interrupted) error, with all saved.
pub fn train_transfer(plan: &TransferPlan, task: &TransferTask, options: &TransferOptions) -> Result<TransferSummary> {
    let _lock = claim(options.dir, plan, true)?;
    if let Some(summary) = finished(options.dir)? {
        return Ok(summary);
    }
    let started = Instant::now();
    let distils = plan.distill.targets != Targets::None;
    if distils && task.transfer.is_empty() {
        return Err(Error::new("the transfer set is empty: there is nothing for the teacher to label")
            .help("name data.unlabelled, or lower data.per_class so that labelled rows are left over"));
    }
    let Prepared { teacher, tokens, student } = prepare(plan, task, options)?;
    let (train, validation, variance) = rows(plan, task, &tokens, teacher.as_ref(), options)?;
    let steps = phases(&plan.distill, student.layers().len());
    let keeper = Keeper::of(plan, task, options)?;
    let device = &options.device.handle;
    let run =
        PhaseRun { plan, train: &train, validation: &validation, pad: tokens.pad(), device, keeper: &keeper, stop: options.stop };
    let new = || RunInfo::of(&vocabulary_hash(&tokens), keeper.plan_hash().to_owned());
    let Learnt { student, phases, mut stretch } = learn(&run, &steps, student, options, new)?;

    let mut summary = TransferSummary {
        task: task.name.clone(),
        seed: plan.seed,
        accuracy: 0.0,
        teacher_accuracy: None,
        agreement: None,
        teacher_variance: variance,
        largest_variance: largest_variance(task.classes.len()),
        parameters: student.parameters().0,
        word_parameters: student.parameters().1,
        teacher_parameters: None,
        examples_per_s: 0.0,
        teacher_examples_per_s: None,
        labelled: task.labelled.len(),
        validation: task.labelled_validation.len(),
        transfer: task.all_transfer().count(),
        test: task.test.examples.len(),
        phases,
        seconds: 0.0,
        notes: task.notes.clone(),
        files: Hashes::new(),
    };
    test(&mut summary, plan, task, (&student, &tokens, answering(&steps)), teacher.as_ref(), options)?;
    wait(refuse_broken_weights(&student, MODEL, "the last phase"))?;
    summary.seconds = started.elapsed().as_secs_f64();
    let summary = stretch.finish(
        |inside| write_student(inside, &student, plan, &tokens, &task.classes, answering(&steps)),
        |files| TransferSummary { files, ..summary },
    )?;
    keeper.clear()?;
    stretch.end(&format!("done: accuracy {:.4}", summary.accuracy))?;
    Ok(summary)
}

/// What the phases come to.
struct Learnt<'a> {
    student: Student,
    phases: Vec<PhaseSummary>,
    stretch: Stretch<'a>,
}

/// Takes a student through all phases, or those that a run which was cut off has left.
fn learn<'a>(
    run: &PhaseRun,
    steps: &[Phase],
    mut student: Student,
    options: &TransferOptions<'a>,
    new: impl FnOnce() -> RunInfo,
) -> Result<Learnt<'a>> {
    let plan = run.plan;
    let mut midway = run.keeper.found(&student)?;
    let mut summaries = midway.as_ref().map_or_else(Vec::new, |midway| midway.state.summaries.clone());
    let done: u64 = summaries.iter().map(|phase| phase.steps).sum();
    let most = steps.iter().map(|phase| run.round(phase) * plan.train.rounds).sum();
    let at = done + midway.as_ref().map_or(0, |midway| midway.state.step);
    let records = midway.as_ref().and_then(|midway| midway.records.clone());
    let resume = Resume { step: at, records: records.as_deref() };
    let home = Home { dir: options.dir, name: options.name, console: options.console };
    let (device, hash) = (options.device.to_string(), run.keeper.plan_hash());
    let mut stretch = Stretch::begin(home, device, hash, new, (at, most), Some(resume))?;
    for (number, phase) in (0..).zip(steps).skip(summaries.len()) {
        if phase.new_heads && midway.is_none() {
            student = student.with_new_heads(plan.seed.wrapping_add(number), run.device)?;
        }
        let ended = run.run(phase, student, &summaries, midway.take(), &mut stretch);
        stretch.reach(stretch.next_step())?;
        let (best, summary) = ended?;
        student = best;
        options.console.note(&format!(
            "{}  {}: {} steps, validation loss {:.4}",
            options.name, summary.name, summary.steps, summary.validation_loss
        ));
        summaries.push(summary);
    }
    Ok(Learnt { student, phases: summaries, stretch })
}

/// Scores a student, and its teacher, on the test set, which nothing before has read.
fn test(
    summary: &mut TransferSummary,
    plan: &TransferPlan,
    task: &TransferTask,
    (student, tokens, head): (&Student, &TextTokens, Head),
    teacher: Option<&TransferTeacherModel>,
    options: &TransferOptions,
) -> Result<()> {
    let tests = &task.test.examples;
    let rows = text_rows(plan, tokens, tests)?;
    let texts: Vec<&TextRow> = rows.iter().collect();
    let clock = Instant::now();
    let answers = predict(student, &texts, head, tokens.pad(), 64, &options.device.handle);
    summary.examples_per_s = texts.len() as f64 / clock.elapsed().as_secs_f64().max(1e-9);
    let truth: Vec<usize> = tests.iter().map(class).collect();
    let answered: Vec<usize> = answers.iter().map(|scores| likeliest(scores)).collect();
    summary.accuracy = share_equal(&answered, &truth);
    if let (Some(teacher), Some(settings)) = (teacher, &plan.teacher) {
        let (length, vector) = (plan.data.length, settings.representation);
        let found = teacher_outputs(teacher, tests, length, vector, options.shared, options.device, options.stop)?;
        summary.teacher_examples_per_s = Some(texts_per_s(teacher, tests, length, options.device)?);
        let says: Vec<usize> = found.classified.logits.iter().map(|scores| likeliest(scores)).collect();
        summary.teacher_accuracy = Some(share_equal(&says, &truth));
        summary.agreement = Some(share_equal(&answered, &says));
        summary.teacher_parameters = Some(Weights::of(&teacher.model).iter().map(|(_, tensor)| tensor.values.len() as u64).sum());
    }
    Ok(())
}

/// Names what a student reads, in `run.json`.
fn vocabulary_hash(tokens: &TextTokens) -> String {
    match tokens {
        TextTokens::Pieces(tokenizer) => tokenizer.hash().to_owned(),
        TextTokens::Words(words) => hash(words.vocab().join("\n").as_bytes()),
    }
}

/// Rows to learn from and rows to stop by, with the teacher's targets, and the variance of its predictions.
fn rows(
    plan: &TransferPlan,
    task: &TransferTask,
    tokens: &TextTokens,
    teacher: Option<&TransferTeacherModel>,
    options: &TransferOptions,
) -> Result<(TransferRows, TransferRows, Option<f64>)> {
    let labelled = |examples: &[Example]| {
        let texts = text_rows(plan, tokens, examples)?;
        Ok::<_, Error>(
            texts.into_iter().zip(examples).map(|(text, example)| LabelledRow { text, class: class(example) }).collect(),
        )
    };
    let mut train = TransferRows { labelled: labelled(&task.labelled)?, transfer: Vec::new() };
    let mut validation = TransferRows { labelled: labelled(&task.labelled_validation)?, transfer: Vec::new() };
    let (Some(teacher), Some(settings), true) = (teacher, &plan.teacher, plan.distill.targets != Targets::None) else {
        return Ok((train, validation, None));
    };
    let hidden: Vec<Example> = task.all_transfer().map(Unlabelled::hidden).collect();
    let asked = teacher_outputs(
        teacher,
        &hidden,
        plan.data.length,
        settings.representation,
        options.shared,
        options.device,
        options.stop,
    )?;
    let variance = confidence(asked.classified.logits.iter().map(Vec::as_slice));
    let said = asked.classified.logits.into_iter().zip(asked.classified.representations);
    let mut all: Vec<TransferRow> = text_rows(plan, tokens, &hidden)?
        .into_iter()
        .zip(said)
        .map(|(text, (logits, representation))| TransferRow {
            text,
            class: likeliest(&logits),
            logits: match plan.distill.logits {
                LogitTargets::LogOdds => log_odds(&logits, plan.distill.largest_logit),
                LogitTargets::Raw => logits,
            },
            representation,
        })
        .collect();
    validation.transfer = all.split_off(task.transfer.len());
    train.transfer = all;
    Ok((train, validation, Some(variance)))
}

/// Texts as the student reads them.
fn text_rows(plan: &TransferPlan, tokens: &TextTokens, examples: &[Example]) -> Result<Vec<TextRow>> {
    let mut rows = tokens.rows(examples, plan.data.length)?;
    if plan.model.padding == Padding::Seen {
        for row in &mut rows {
            row.ids.resize(plan.data.length, tokens.pad());
            row.types.resize(plan.data.length, 0);
        }
    }
    Ok(rows)
}

/// The first of the highest.
fn likeliest(scores: &[f32]) -> usize {
    (0..scores.len()).reduce(|best, at| if scores[at] > scores[best] { at } else { best }).unwrap_or(0)
}

fn share_equal(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// Answers texts with a student that [`train_transfer`] wrote: a class's index each.
///
/// # Errors
/// When the folder holds no student, or a text can't be encoded.
pub fn answer(folder: &Path, texts: &[Example], device: &Device) -> Result<Vec<usize>> {
    let (student, tokens, settings) = read_student(folder, &device.handle)?;
    let mut rows = tokens.rows(texts, settings.length)?;
    if settings.padding == Padding::Seen {
        rows.iter_mut().for_each(|row| row.ids.resize(settings.length, tokens.pad()));
    }
    let rows: Vec<&TextRow> = rows.iter().collect();
    let head = if settings.answers_by_regression { Head::Regression } else { Head::Classifier };
    Ok(predict(&student, &rows, head, tokens.pad(), 64, &device.handle).iter().map(|scores| likeliest(scores)).collect())
}
