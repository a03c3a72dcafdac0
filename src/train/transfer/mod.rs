//! A transfer run in its folder: the task divided, the teacher made ready and asked once, the student trained phase by phase with
//! the loop of all methods, and scored on the test set at the end.
//!
//! The folder holds `plan.toml`, `steps.jsonl`, `model/` (the student) and `summary.json`, and until then a checkpoint; teachers and
//! their outputs are beside them, or in the folder that a study's cells share.

mod data;
mod midway;
mod phases;
mod stopping;
mod student;
mod teacher;

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use data::{transfer_contents, transfer_task};
pub use phases::{Phase, PhaseSummary, answering, phases};
pub use stopping::{EarlyStopping, Verdict};
pub use student::{StudentSettings, read_student};
pub use teacher::{CHUNK, Outputs, TransferTeacherModel, ready_teacher, teacher_outputs};

use crate::config::{LogitTargets, Padding, Targets, TransferPlan};
use crate::device::Device;
use crate::error::{Error, IoContext, Result};
use crate::files::{Claim, Lock, write_folder, write_text};
use crate::log::{Console, RunLog};
use crate::loss::{confidence, largest_variance, log_odds};
use crate::methods::{Head, LabelledRow, TextTokens, TransferRow, TransferRows, predict};
use crate::model::{TextRow, Weights};
use crate::tasks::{Example, TransferTask, Unlabelled};
use data::class;
use midway::Keeper;
use phases::PhaseRun;
use student::{Prepared, prepare, write_student};
use teacher::texts_per_s;

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
    /// And the teacher.
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
}

/// Trains a student in its folder; a finished run is found and not repeated, one that was cut off goes on exactly.
///
/// # Errors
/// When the transfer set is empty and the student learns from it, the folder holds another run, files can't be read or written, or
/// a step isn't finite. After Ctrl-C an [interrupted](Error::is_interrupted) error, with all saved.
pub fn train_transfer(plan: &TransferPlan, task: &TransferTask, options: &TransferOptions) -> Result<TransferSummary> {
    let _lock = claim(options.dir, plan)?;
    let path = options.dir.join("summary.json");
    if path.exists() {
        let text = fs::read_to_string(&path).doing("read", &path)?;
        return serde_json::from_str(&text).map_err(|error| {
            Error::new(format!("not a run's summary: {error}")).at(path.display()).help("delete it to train again")
        });
    }
    let started = Instant::now();
    let distils = plan.distill.targets != Targets::None;
    if distils && task.transfer.is_empty() {
        return Err(Error::new("the transfer set is empty: there is nothing for the teacher to label")
            .help("name data.unlabelled, or lower data.per_class so that labelled rows are left over"));
    }
    let device = &options.device.handle;
    let Prepared { teacher, tokens, mut student } = prepare(plan, task, options)?;
    let pad = tokens.pad();
    let (train, validation, variance) = rows(plan, task, &tokens, teacher.as_ref(), options)?;

    let steps = phases(&plan.distill, student.layers().len());
    let keeper = Keeper::of(plan, task, options)?;
    let mut midway = keeper.found(&student)?;
    let mut summaries = midway.as_ref().map_or_else(Vec::new, |midway| midway.state.summaries.clone());
    let mut done = summaries.iter().map(|phase| phase.steps).sum::<u64>();
    let run = PhaseRun { plan, train: &train, validation: &validation, pad, device, keeper: &keeper, stop: options.stop };
    let most = steps.iter().map(|phase| run.round(phase) * plan.train.rounds).sum();
    let at = done + midway.as_ref().map_or(0, |midway| midway.state.step);
    let mut log = RunLog::open(options.dir, Some(at), options.console.run(options.name, most, at))?;
    for (number, phase) in (0..).zip(&steps).skip(summaries.len()) {
        if phase.new_heads && midway.is_none() {
            student = student.with_new_heads(plan.seed.wrapping_add(number), device)?;
        }
        let (best, summary) = run.run(phase, student, &summaries, midway.take(), &mut log)?;
        (student, done) = (best, done + summary.steps);
        options.console.note(&format!(
            "{}  {}: {} steps, validation loss {:.4}",
            options.name, summary.name, summary.steps, summary.validation_loss
        ));
        summaries.push(summary);
    }

    // The test set is read here, and nowhere above.
    let test = text_rows(plan, &tokens, &task.test.examples)?;
    let texts: Vec<&TextRow> = test.iter().collect();
    let clock = Instant::now();
    let answers = predict(&student, &texts, answering(&steps), pad, 64, device);
    let examples_per_s = texts.len() as f64 / clock.elapsed().as_secs_f64().max(1e-9);
    let truth: Vec<usize> = task.test.examples.iter().map(class).collect();
    let answered: Vec<usize> = answers.iter().map(|scores| likeliest(scores)).collect();
    let mut summary = TransferSummary {
        task: task.name.clone(),
        seed: plan.seed,
        accuracy: share_equal(&answered, &truth),
        teacher_accuracy: None,
        agreement: None,
        teacher_variance: variance,
        largest_variance: largest_variance(task.classes.len()),
        parameters: student.parameters().0,
        word_parameters: student.parameters().1,
        teacher_parameters: None,
        examples_per_s,
        teacher_examples_per_s: None,
        labelled: task.labelled.len(),
        validation: task.labelled_validation.len(),
        transfer: task.all_transfer().count(),
        test: texts.len(),
        phases: summaries,
        seconds: 0.0,
        notes: task.notes.clone(),
    };
    if let (Some(teacher), Some(settings)) = (&teacher, &plan.teacher) {
        let (length, vector) = (plan.data.length, settings.representation);
        let tests = &task.test.examples;
        let found = teacher_outputs(teacher, tests, length, vector, options.shared, options.device, options.stop)?;
        summary.teacher_examples_per_s = Some(texts_per_s(teacher, tests, length, options.device)?);
        let says: Vec<usize> = found.classified.logits.iter().map(|scores| likeliest(scores)).collect();
        summary.teacher_accuracy = Some(share_equal(&says, &truth));
        summary.agreement = Some(share_equal(&answered, &says));
        summary.teacher_parameters = Some(Weights::of(&teacher.model).iter().map(|(_, tensor)| tensor.values.len() as u64).sum());
    }
    log.finish(&format!("done: accuracy {:.4}", summary.accuracy))?;
    summary.seconds = started.elapsed().as_secs_f64();
    write_folder(&options.dir.join("model"), |inside| {
        write_student(inside, &student, plan, &tokens, &task.classes, answering(&steps))
    })?;
    let text = serde_json::to_string_pretty(&summary).expect("a summary in memory can be written") + "\n";
    write_text(&path, &text)?;
    keeper.clear()?;
    Ok(summary)
}

/// Takes the run's folder for this process, and begins it with its plan, or checks that the one there is this plan's.
fn claim(dir: &Path, plan: &TransferPlan) -> Result<Lock> {
    let known = |file: &Path| {
        let text = fs::read_to_string(file).doing("read", file)?;
        let there: Option<TransferPlan> = toml::from_str(&text).ok();
        match there.is_some_and(|there| TransferPlan { device: plan.device.clone(), ..there } == *plan) {
            true => Ok(()),
            false => Err(Error::new("this folder holds a run of another plan; it was left as it is")
                .at(dir.display())
                .help("choose another --out, or compare the run file with plan.toml there")),
        }
    };
    Claim { folder: dir, marker: "plan.toml", what: "a run" }.take(known, |file| plan.save(file))
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
