//! A run in its directory: `plan.toml`, `run.json`, the logs, the checkpoints, `model/`, `summary.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;

use super::held_out::{HeldOutSet, held_out_options, open_held_out_sets};
use super::in_ranks::{agree_on_start, agree_on_weights, follow, send_checkpoint, tell_finished};
use super::learners::{model_folder, optimizer_file, projections_file, restored, set_out};
use super::life::{Home, Stretch, claim, finished};
use super::memory::with_fewer_rows;
use super::numbers::refuse_broken_weights;
use super::peers::Peers;
use super::ranks::Ranks;
use super::workers::{Worker, together};
use super::written::{RunInfo, scored};
use super::{FitOptions, Flow, Learner, fit_ahead, interrupted};
use crate::batch::BatchOptions;
use crate::checkpoint::{Checkpoints, LastWhole, State};
use crate::config::{MODEL, Plan};
use crate::device::{Compute, Device, Traits, wait};
use crate::error::{Error, Result};
use crate::files::make_folder;
use crate::log::{Console, ModelSummary, Resume, STEPS, StepRecord, Summary, read_steps};
use crate::model::{ModelFolder, TrainedModel, Weights};
use crate::tokens::Shards;

/// How a run is carried out; nothing of it changes results.
pub struct RunOptions<'a> {
    /// The run directory.
    pub dir: &'a Path,
    /// Go on with a run that is there.
    pub resume: bool,
    /// What the run is called on the screen.
    pub name: &'a str,
    /// Where progress goes.
    pub console: &'a Console,
    /// What it runs on.
    pub device: &'a Device,
}

/// Trains a plan in its directory, or goes on with it. Several workers (`[runtime] workers`) share each batch on
/// devices of this kind, from this one on, and the CPU's threads evenly.
///
/// # Errors
/// When the directory holds another run (it is left as it is), or this one already and `resume` is off; when a step
/// isn't finite; when a file can't be written. After Ctrl-C: an [interrupted](Error::is_interrupted) error, with all
/// saved.
pub fn train_run(plan: &Plan, shards: &Shards, options: &RunOptions) -> Result<Summary> {
    train_run_in_ranks(plan, shards, options, None)
}

/// [`train_run`] with the other processes that share each batch: all call it with the same plan and shards. The first
/// rank alone reads and writes the directory; each rank has `[runtime] workers` and `threads` of its own.
///
/// # Errors
/// As [`train_run`], and when ranks differ in what they were started with, or in their weights. The caller then ends
/// all ranks ([`Ranks::abort`]), unless the error is an [interrupted](Error::is_interrupted) one, which all have.
pub fn train_run_in_ranks(plan: &Plan, shards: &Shards, options: &RunOptions, ranks: Option<&Arc<Ranks>>) -> Result<Summary> {
    let (workers, sharing) = (plan.runtime.workers.max(1), ranks.map_or(1, |ranks| ranks.sharing_cores()));
    match plan.runtime.threads {
        0 if workers == 1 && sharing == 1 => train_here(plan, shards, options, ranks),
        threads => {
            let all = if threads == 0 { rayon::current_num_threads() / sharing } else { threads };
            let threads = (all / workers).max(1);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(|error| Error::new(format!("could not start {threads} threads: {error}")))?;
            pool.install(|| train_here(plan, shards, options, ranks))
        }
    }
}

/// [`train_run_in_ranks`] on the threads of the caller's pool.
fn train_here(plan: &Plan, shards: &Shards, options: &RunOptions, ranks: Option<&Arc<Ranks>>) -> Result<Summary> {
    let shared;
    let plan = match ranks {
        Some(ranks) => {
            // Each has its share of the rows at once, as workers have: how many decides how sums are rounded.
            shared = plan.shared_by(ranks.size());
            &shared
        }
        None => plan,
    };
    let dir = options.dir;
    // What the device lacks is told before the folder is taken.
    let compute = Compute::of_run(&options.device.handle, plan.runtime.kernels, plan.runtime.precision)?;
    options.device.must_have(compute.precision)?;
    let devices = options.device.several(plan.runtime.workers)?;
    if let Some(ranks) = ranks {
        agree_on_start(ranks, plan, options.device)?;
        if !ranks.is_first() {
            return follow(plan, shards, &devices, ranks);
        }
    }
    let held_out = open_held_out_sets(&plan.held_out)?;
    held_out.iter().try_for_each(|set| set.must_fit(shards.tokenizer(), &plan.data.shards))?;
    let _lock = claim(dir, plan, options.resume)?;
    if let Some(summary) = finished::<Summary>(dir)? {
        options.console.note(&format!("{} is finished already ({} steps)", dir.display(), summary.steps));
        tell_finished(ranks, &summary);
        return Ok(summary);
    }
    if ranks.is_some() {
        return stretch(plan, shards, options, &devices, &held_out, ranks);
    }
    let mut resumes = options.resume;
    with_fewer_rows(
        plan.rows_at_once(),
        |note| options.console.note(note),
        |rows| {
            let mut plan = plan.clone();
            plan.runtime.micro_batch = rows;
            let resumed = std::mem::replace(&mut resumes, true);
            // What an attempt before has left.
            devices.iter().for_each(|device| device.handle.memory_cleanup());
            stretch(&plan, shards, &RunOptions { resume: resumed, ..*options }, &devices, &held_out, None)
        },
    )
}

/// From the last checkpoint, or from the beginning, to the end.
fn stretch(
    plan: &Plan,
    shards: &Shards,
    options: &RunOptions,
    devices: &[Device],
    held_out: &[HeldOutSet],
    ranks: Option<&Arc<Ranks>>,
) -> Result<Summary> {
    let dir = options.dir;
    let checkpoints = Checkpoints::of_run(dir);
    let plan_hash = plan.hash();
    let LastWhole { found: last, notes } = checkpoints.last_whole(Some(&plan_hash))?;
    notes.iter().for_each(|line| options.console.note(line));

    let done = last.as_ref().map_or(0, |(_, state)| state.reached.step);
    let resume = match &last {
        Some((_, state)) => Some(Resume { step: done, records: state.reached.records.as_deref() }),
        None => options.resume.then_some(Resume { step: 0, records: None }),
    };
    let begin = |device: &Device| -> Result<_> {
        let (learners, method) = set_out(plan, shards, None, &device.handle)?;
        let learners = match &last {
            Some((path, _)) => restored(learners, |file| Weights::read(&path.join(file)))?,
            None => learners,
        };
        Ok((learners, method))
    };
    if let Some(ranks) = ranks {
        let before = records_before(&last, dir)?;
        send_checkpoint(ranks, plan, last.as_ref().map(|(path, _)| path.as_path()), done, evaluated(&before))?;
    }
    let (learners, method) = begin(options.device)?;
    if let Some(ranks) = ranks {
        agree_on_weights(ranks, &learners, done)?;
    }
    let workers = if devices.len() > 1 { format!("{} workers from ", devices.len()) } else { String::new() };
    let home = Home { dir, name: options.name, console: options.console };
    let device = format!("{workers}{}", options.device);
    let stretch = Stretch::begin(home, device, &plan_hash, || RunInfo::new(plan), (done, plan.train.steps), resume)?;
    let before = records_before(&last, dir)?;
    let mut keeper = Keeper { stretch, plan, shards, last: before.last().cloned(), stopped: false, ranks };
    let (micro_batch, evaluated) = (plan.runtime.micro_batch, evaluated(&before));
    let fit_options = FitOptions { train: &plan.train, micro_batch, done, evaluated, worker: None };
    let ahead = Traits::of(&options.device.handle).steps_ahead;
    let first = |worker: Option<&Worker>| {
        let options = FitOptions { worker, ..fit_options };
        fit_ahead(method.as_ref(), learners, &options, ahead, |records, learners| keeper.observe(records, learners))
    };
    // From the same checkpoint or seeds, by the same steps: its models are the first worker's.
    let other = |worker: &Worker| {
        let (learners, method) = begin(worker.device())?;
        let options = FitOptions { worker: Some(worker), ..fit_options };
        fit_ahead(method.as_ref(), learners, &options, ahead, |_, _| Ok(Flow::Continue)).map(drop)
    };
    let peers = ranks.map(|ranks| {
        let (peers, how) = Peers::agreed(ranks, plan.runtime.sum_dtype, devices);
        options.console.note(&how);
        peers
    });
    let trained = together(devices, peers.as_ref(), first, other);
    complete(keeper, trained, done, held_out, options)
}

/// What comes after the last step of a stretch: scores and the models' folders; or, where it was stopped or failed,
/// why.
fn complete(
    mut keeper: Keeper,
    trained: Result<Vec<Learner<TrainedModel>>>,
    done: u64,
    held_out: &[HeldOutSet],
    options: &RunOptions,
) -> Result<Summary> {
    let dir = options.dir;
    let reached = keeper.last.as_ref().map_or(done, |record| record.step + 1);
    let written = keeper.stretch.reach(reached);
    let Keeper { mut stretch, plan, shards, last, stopped, ranks } = keeper;
    let trained = match trained {
        Ok(trained) => trained,
        Err(error) => {
            // Why it ended is what counts, also where nothing can be written any more.
            let _ = stretch.end("stopped by an error");
            return Err(error.at(dir.display()));
        }
    };
    written?;
    if stopped {
        stretch.end(&format!("saved at step {reached}"))?;
        return Err(Error::interrupted(format!("stopped at step {reached} of {}; everything is saved", plan.train.steps))
            .at(dir.display())
            .help("the same command with --resume goes on exactly"));
    }
    if let Some(ranks) = ranks {
        agree_on_weights(ranks, &trained, reached)?;
    }
    let mut summary = stretch.info().summary(plan, last.as_ref(), &dir.display().to_string());
    score_sets(&mut summary, plan, &trained, held_out, &options.device.handle)?;
    for learner in &trained {
        wait(refuse_broken_weights(&learner.model, &learner.name, "the last step"))?;
    }
    let summary = stretch.finish(|inside| write_models(inside, &trained, shards), |files| Summary { files, ..summary })?;
    tell_finished(ranks, &summary);
    let held_out = held_out_text(&summary);
    stretch.end(&format!("done: {held_out}{:.0} tokens/s", summary.tokens_per_s))?;
    Ok(summary)
}

/// `held-out loss 3.9120, `, or one for each of several models.
fn held_out_text(summary: &Summary) -> String {
    let each = |own: &ModelSummary| Some(format!("{} {:.4}", own.name, own.held_out_loss?));
    let several: Vec<String> = summary.models.iter().filter_map(each).collect();
    match summary.held_out_loss {
        Some(_) if !several.is_empty() => format!("held-out losses {}, ", several.join(", ")),
        Some(loss) => format!("held-out loss {loss:.4}, "),
        None => String::new(),
    }
}

/// The records of the steps before the one that comes next.
fn records_before(last: &Option<(PathBuf, State)>, dir: &Path) -> Result<Vec<StepRecord>> {
    let Some((_, state)) = last else { return Ok(Vec::new()) };
    let records = read_steps(&dir.join(STEPS))?;
    Ok(records.into_iter().filter(|record| record.step < state.reached.step).collect())
}

/// The last of these that had an evaluation.
fn evaluated(records: &[StepRecord]) -> Option<&StepRecord> {
    records.iter().rfind(|record| record.held_out_loss.is_some())
}

/// What happens after each step: records, checkpoints, a stop on request.
struct Keeper<'a> {
    stretch: Stretch<'a>,
    plan: &'a Plan,
    shards: &'a Shards,
    last: Option<StepRecord>,
    stopped: bool,
    ranks: Option<&'a Arc<Ranks>>,
}

impl Keeper<'_> {
    /// Takes records of steps; the learners are as after the last.
    fn observe(&mut self, records: &[StepRecord], learners: &[Learner<TrainedModel>]) -> Result<Flow> {
        let train = &self.plan.train;
        for record in records {
            self.stretch.record(record, Some(self.plan.data.tokens_per_row * train.rows_at(record.step) as f64))?;
        }
        let record = records.last().expect("a step at least");
        let done = record.step + 1;
        self.last = Some(record.clone());
        self.stopped = self.ranks.map_or_else(interrupted, |ranks| ranks.must_stop()) && done < train.steps;
        if train.has_checkpoint(done) || self.stopped {
            self.ranks.map_or(Ok(()), |ranks| agree_on_weights(ranks, learners, done))?;
            for learner in learners {
                wait(refuse_broken_weights(&learner.model, &learner.name, &format!("step {done}")))?;
            }
            let (keep, shards) = ((train.keep_checkpoints, &train.keep_at[..]), self.shards);
            self.stretch.save(done, scored(record), keep, |inside| write_checkpoint(inside, learners, shards))?;
        }
        Ok(if self.stopped { Flow::Stop } else { Flow::Continue })
    }
}

fn write_checkpoint(folder: &Path, learners: &[Learner<TrainedModel>], shards: &Shards) -> Result<()> {
    for learner in learners {
        write_model(&folder.join(model_folder(&learner.name)), learner, shards)?;
        learner.optimizer.state(&learner.model).write(&folder.join(optimizer_file(&learner.name)))?;
        let projections = &learner.model.projections;
        if !projections.is_empty() {
            Weights::of(projections).write(&folder.join(projections_file(&learner.name)))?;
        }
    }
    Ok(())
}

fn write_model(path: &Path, learner: &Learner<TrainedModel>, shards: &Shards) -> Result<()> {
    make_folder(path)?;
    ModelFolder::write_into(path, &learner.model.lm, shards.tokenizer())
}

/// Scores the trained models on the held-out sets that the plan names.
fn score_sets(
    summary: &mut Summary,
    plan: &Plan,
    trained: &[Learner<TrainedModel>],
    sets: &[HeldOutSet],
    device: &burn::tensor::Device,
) -> Result<()> {
    if sets.is_empty() {
        return Ok(());
    }
    let options = BatchOptions { batch: plan.rows_at_once(), ..held_out_options(Some(plan), None, &plan.model.shape) };
    let mut all = Vec::new();
    for learner in trained {
        let model = learner.model.lm.valid();
        let score = |set: &HeldOutSet| {
            let found = set.score(&model, options, plan.train.evaluate_rows, device)?;
            Ok((set.name.clone(), found.held_out_loss))
        };
        all.push(sets.iter().map(score).collect::<Result<BTreeMap<_, _>>>()?);
    }
    summary.models.iter_mut().zip(&all).for_each(|(own, losses)| own.held_out = losses.clone());
    summary.held_out = all.into_iter().next().unwrap_or_default();
    Ok(())
}

/// Writes the trained models into a folder that is there.
fn write_models(folder: &Path, trained: &[Learner<TrainedModel>], shards: &Shards) -> Result<()> {
    trained.iter().try_for_each(|learner| match learner.name == MODEL {
        true => write_model(folder, learner, shards),
        false => write_model(&folder.join(&learner.name), learner, shards),
    })
}
