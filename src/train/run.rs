//! A run in its directory: `plan.toml`, `run.json`, the logs, the checkpoints, `model/`, `summary.json`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{FitOptions, Flow, Learner, fit, interrupted};
use crate::batch::{BatchOptions, Batches, Masking, Split};
use crate::checkpoint::{Checkpoints, LastWhole, State};
use crate::config::{Method as MethodName, Plan, Start};
use crate::device::Device;
use crate::error::{Error, IoContext, Result};
use crate::files::write_text;
use crate::log::{Console, RunLog, StepRecord, Summary};
use crate::methods::{Dwt, MaskedLm, ModelTeacher, Teacher, UniformTeacher, standalone};
use crate::model::{BertForMaskedLm, BertShape, ModelFolder, Weights, remap};
use crate::optim::Optimizer;
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

/// One stretch of a run between a start and an end: an entry of `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    command: Vec<String>,
    started_unix_s: u64,
    device: String,
    from_step: u64,
    to_step: u64,
    seconds: f64,
    tokens: u64,
}

/// `run.json`: how a run came about.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RunInfo {
    upstill: String,
    commit: String,
    burn: String,
    tokenizer_hash: String,
    plan_hash: String,
    sessions: Vec<Session>,
}

/// Trains a plan in its directory, or goes on with it.
///
/// # Errors
/// When the directory holds another run (it is left as it is), or this one already and `resume` is off; when a step isn't
/// finite; when a file can't be written. After Ctrl-C: an [interrupted](Error::is_interrupted) error, with all saved.
pub fn train_run(plan: &Plan, shards: &Shards, options: &RunOptions) -> Result<Summary> {
    match plan.runtime.threads {
        0 => train_here(plan, shards, options),
        threads => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(|error| Error::new(format!("could not start {threads} threads: {error}")))?;
            pool.install(|| train_here(plan, shards, options))
        }
    }
}

/// [`train_run`] on the threads of the caller's pool.
fn train_here(plan: &Plan, shards: &Shards, options: &RunOptions) -> Result<Summary> {
    let dir = options.dir;
    claim(dir, plan, options.resume)?;
    let _lock = lock(dir)?;
    if let Some(summary) = finished(dir)? {
        options.console.note(&format!("{} is finished already ({} steps)", dir.display(), summary.steps));
        return Ok(summary);
    }
    let checkpoints = Checkpoints::of_run(dir);
    let LastWhole { found: last, damaged } = checkpoints.last_whole()?;
    damaged.iter().for_each(|line| options.console.note(line));

    let plain = options.device.handle.clone();
    let tracked = plain.clone().autodiff();
    let mut student = student(plan, &tracked)?;
    let mut optimizer = Optimizer::new(&plan.train);
    let mut done = 0;
    if let Some((path, state)) = &last {
        student = load_model(path, student)?;
        optimizer.load_state(&student, &Weights::read(&path.join(format!("{STUDENT}.optimizer.safetensors")))?)?;
        done = state.step;
    }
    let mut info = read_info(dir, plan)?;
    let session = Session {
        command: std::env::args().collect(),
        started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        device: options.device.to_string(),
        from_step: done,
        to_step: done,
        seconds: 0.0,
        tokens: 0,
    };
    info.sessions.push(session);
    write_info(dir, &info)?;

    let mut keeper = Keeper {
        plan,
        plan_hash: plan.hash(),
        checkpoints,
        shards,
        log: RunLog::open(
            dir,
            last.is_some().then_some(done).or(options.resume.then_some(0)),
            options.console.run(options.name, plan.train.steps, done),
        )?,
        started: Instant::now(),
        session_tokens: 0.0,
        last: last_record(&last, dir)?,
        stopped: false,
    };
    let method = method(plan, shards, &plain)?;
    let fit_options = FitOptions {
        train: &plan.train,
        micro_batch: plan.runtime.micro_batch.min(plan.train.batch).max(1),
        dropout: plan.model.dropout,
        seed: plan.seed,
        done,
    };
    let learner = Learner { name: STUDENT.to_owned(), model: student, optimizer };
    let trained = fit(&method, vec![learner], &fit_options, |record, learners| keeper.observe(record, learners));

    let Keeper { log, started, session_tokens, last, stopped, .. } = keeper;
    let session = info.sessions.last_mut().expect("pushed above");
    session.seconds = started.elapsed().as_secs_f64();
    session.tokens = session_tokens as u64;
    session.to_step = last.as_ref().map_or(done, |record| record.step + 1);
    write_info(dir, &info)?;
    let trained = match trained {
        Ok(trained) => trained,
        Err(error) => {
            log.finish("stopped by an error")?;
            return Err(error.at(dir.display()));
        }
    };
    if stopped {
        let at = info.sessions.last().map_or(0, |session| session.to_step);
        log.finish(&format!("saved at step {at}"))?;
        return Err(Error::interrupted(format!("stopped at step {at} of {}; everything is saved", plan.train.steps))
            .at(dir.display())
            .help("the same command with --resume goes on exactly"));
    }
    let summary = finish(dir, plan, shards, &trained[0].model, last.as_ref(), &info)?;
    let held_out = summary.held_out_loss.map_or(String::new(), |loss| format!("held-out loss {loss:.4}, "));
    log.finish(&format!("done: {held_out}{:.0} tokens/s", summary.tokens_per_s))?;
    Ok(summary)
}

/// The name of the one model that the masked-language-model methods train: its folder in the run and in checkpoints.
const STUDENT: &str = "model";

/// Makes the run's directory with its plan, or checks that the one there is this plan's.
fn claim(dir: &Path, plan: &Plan, resume: bool) -> Result<()> {
    let file = dir.join("plan.toml");
    if file.exists() {
        let there = Plan::load(&file)?;
        if there.hash() != plan.hash() {
            return Err(Error::new("this folder holds a run of another plan; it was left as it is")
                .at(dir.display())
                .help("choose another --out, or compare the run file with plan.toml there"));
        }
        if !resume {
            return Err(Error::new("this folder already holds this run; it was left as it is")
                .at(dir.display())
                .help("--resume goes on with it; another --out starts anew"));
        }
        return Ok(());
    }
    let is_empty = !dir.exists() || dir.is_dir() && fs::read_dir(dir).doing("read", dir)?.next().is_none();
    if !is_empty {
        return Err(Error::new("this folder holds something that is not a run; it was left as it is")
            .at(dir.display())
            .help("choose another --out"));
    }
    fs::create_dir_all(dir).doing("create", dir)?;
    plan.save(&file)
}

/// Keeps a second process out of the run for as long as the file is open.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("plan.toml");
    let file = File::open(&path).doing("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::new("another process is training in this folder")
            .at(dir.display())
            .help("wait for it, or choose another --out")),
        // Some file systems have no locks; then the user's care is what there is.
        Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

pub(super) fn finished(dir: &Path) -> Result<Option<Summary>> {
    let path = dir.join("summary.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).doing("read", &path)?;
    let summary = serde_json::from_str(&text).map_err(|error| {
        Error::new(format!("not a run's summary: {error}")).at(path.display()).help("delete it, and --resume writes it again")
    })?;
    Ok(Some(summary))
}

fn read_info(dir: &Path, plan: &Plan) -> Result<RunInfo> {
    let path = dir.join("run.json");
    if path.exists() {
        let text = fs::read_to_string(&path).doing("read", &path)?;
        return serde_json::from_str(&text).map_err(|error| {
            Error::new(format!("not a run's record: {error}")).at(path.display()).help("delete it, and --resume starts it anew")
        });
    }
    Ok(RunInfo {
        upstill: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("UPSTILL_COMMIT").to_owned(),
        burn: BURN_VERSION.to_owned(),
        tokenizer_hash: plan.data.tokenizer_hash.clone(),
        plan_hash: plan.hash(),
        sessions: Vec::new(),
    })
}

/// The version that Cargo.toml pins.
const BURN_VERSION: &str = "0.22.1";

fn write_info(dir: &Path, info: &RunInfo) -> Result<()> {
    let text = serde_json::to_string_pretty(info).expect("a record in memory can be written") + "\n";
    write_text(&dir.join("run.json"), &text)
}

/// The student before step 1: drawn from the seed, or the teacher's weights remapped.
pub(super) fn student(plan: &Plan, device: &burn::tensor::Device) -> Result<BertForMaskedLm> {
    let shape = student_shape(plan);
    let fresh = shape.init(plan.seed, plan.model.initializer_range, device);
    match (&plan.teacher, plan.distill.start) {
        (Some(teacher), Start::Remap) => {
            let teacher = ModelFolder::open(Path::new(&teacher.from))?;
            remap(&teacher.weights()?, &teacher.shape, &shape)?.load_into(fresh)
        }
        _ => Ok(fresh),
    }
}

fn student_shape(plan: &Plan) -> BertShape {
    let model = &plan.model;
    BertShape {
        vocab_size: model.vocab_size,
        hidden: model.hidden,
        layers: model.layers,
        heads: model.heads,
        intermediate: model.intermediate,
        max_positions: model.max_positions,
        token_types: model.token_types,
        norm_epsilon: 1e-12,
    }
}

pub(super) fn method(plan: &Plan, shards: &Shards, device: &burn::tensor::Device) -> Result<Dwt> {
    let data = masked_lm(plan, shards, device)?;
    let (distill, steps) = (plan.distill.clone(), plan.train.steps);
    let teacher: Box<dyn Teacher> = match (plan.method, &plan.teacher) {
        (MethodName::Dwt, Some(teacher)) => match &teacher.model {
            Some(_) => Box::new(ModelTeacher::new(ModelFolder::open(Path::new(&teacher.from))?.load(device)?)),
            None => Box::new(UniformTeacher { vocab_size: plan.model.vocab_size }),
        },
        _ => return Ok(standalone(data, distill, steps)),
    };
    Ok(Dwt::new(data, distill, steps, teacher))
}

/// The batches of a plan.
fn masked_lm(plan: &Plan, shards: &Shards, device: &burn::tensor::Device) -> Result<MaskedLm> {
    let masking = Masking { rate: plan.data.mask_rate, whole_word: plan.data.whole_word, rarity: plan.data.rarity };
    let options =
        BatchOptions { layout: plan.data.rows, length: plan.data.length, batch: plan.train.batch, seed: plan.seed, masking };
    // Held-out rows come in small batches that fit wherever training fits; how they are batched changes nothing.
    let held_out = BatchOptions { batch: plan.runtime.micro_batch.min(plan.train.batch).max(1), ..options };
    Ok(MaskedLm {
        train: Batches::new(shards, Split::Train, options)?,
        held_out: Batches::new(shards, Split::HeldOut, held_out)?,
        evaluate_rows: plan.train.evaluate_rows,
        device: device.clone(),
    })
}

fn load_model(checkpoint: &Path, model: BertForMaskedLm) -> Result<BertForMaskedLm> {
    Weights::read(&checkpoint.join(STUDENT).join("model.safetensors"))?.load_into(model)
}

/// The record of the step before the one that comes next.
fn last_record(last: &Option<(PathBuf, State)>, dir: &Path) -> Result<Option<StepRecord>> {
    let Some((_, state)) = last else { return Ok(None) };
    let records = crate::log::read_steps(&dir.join("steps.jsonl"))?;
    Ok(records.into_iter().rfind(|record| record.step < state.step))
}

/// What happens after each step: logs, checkpoints, a stop on request.
struct Keeper<'a> {
    plan: &'a Plan,
    plan_hash: String,
    checkpoints: Checkpoints,
    shards: &'a Shards,
    log: RunLog,
    started: Instant,
    session_tokens: f64,
    last: Option<StepRecord>,
    stopped: bool,
}

impl Keeper<'_> {
    fn observe(&mut self, record: &StepRecord, learners: &[Learner<BertForMaskedLm>]) -> Result<Flow> {
        let train = &self.plan.train;
        let done = record.step + 1;
        self.log.record(record)?;
        self.session_tokens += self.plan.data.tokens_per_row * train.batch as f64;
        self.last = Some(record.clone());
        self.stopped = interrupted() && done < train.steps;
        let due = done == train.steps || done.is_multiple_of(train.checkpoint_every);
        if due || self.stopped {
            self.log.flush()?;
            self.checkpoints.save(done, &self.plan_hash, record.held_out_loss, |inside| self.write_models(inside, learners))?;
            self.checkpoints.prune(train.keep_checkpoints)?;
        }
        Ok(if self.stopped { Flow::Stop } else { Flow::Continue })
    }

    fn write_models(&self, folder: &Path, learners: &[Learner<BertForMaskedLm>]) -> Result<()> {
        for learner in learners {
            let model = folder.join(&learner.name);
            fs::create_dir_all(&model).doing("create", &model)?;
            ModelFolder::write_into(&model, &learner.model, self.shards.tokenizer())?;
            let state = learner.optimizer.state(&learner.model);
            state.write(&folder.join(format!("{}.optimizer.safetensors", learner.name)))?;
        }
        Ok(())
    }
}

fn finish(
    dir: &Path,
    plan: &Plan,
    shards: &Shards,
    model: &BertForMaskedLm,
    last: Option<&StepRecord>,
    info: &RunInfo,
) -> Result<Summary> {
    ModelFolder::write(&dir.join(STUDENT), model, shards.tokenizer())?;
    let (seconds, tokens) =
        info.sessions.iter().fold((0.0, 0.0), |(s, t), session| (s + session.seconds, t + session.tokens as f64));
    let summary = Summary {
        steps: plan.train.steps,
        held_out_loss: last.and_then(|record| record.held_out_loss),
        loss: last.map_or(f64::NAN, |record| record.loss),
        tokens_per_s: tokens / f64::max(seconds, 1e-9),
        seconds,
        run: dir.display().to_string(),
    };
    let text = serde_json::to_string_pretty(&summary).expect("a summary in memory can be written") + "\n";
    write_text(&dir.join("summary.json"), &text)?;
    Ok(summary)
}
