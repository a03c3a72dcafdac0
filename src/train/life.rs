//! The life of a run in its folder, whatever it trains: the folder is claimed, a finished run is found, a stretch of
//! work begins or goes on from the last checkpoint, and its end leaves models, records and a summary.
//! [`MemoryRun`](super::MemoryRun) lives the same life in a map of files.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::written::RunInfo;
use crate::checkpoint::{Checkpoints, Reached};
use crate::config::{MODEL, Plan, TransferPlan};
use crate::error::{Error, IoContext, Result};
use crate::files::manifest::{Hashes, SUMMARY, check, differing, hashes_within, read_json, write_json};
use crate::files::{Claim, Lock, write_folder, write_text};
use crate::log::{Console, Resume, RunLog, STEPS, StepRecord};

/// A plan that a run's folder is known by.
pub(super) trait Planned {
    /// What makes this plan another than the one in a `plan.toml`, a line a key; none where results would be the same.
    ///
    /// # Errors
    /// When the file can't be read, or was altered.
    fn differs_from(&self, file: &Path) -> Result<Vec<String>>;

    /// Writes `plan.toml`.
    ///
    /// # Errors
    /// As the file system says.
    fn write(&self, file: &Path) -> Result<()>;
}

impl Planned for Plan {
    fn differs_from(&self, file: &Path) -> Result<Vec<String>> {
        Ok(self.differences(&Plan::load(file)?))
    }

    fn write(&self, file: &Path) -> Result<()> {
        self.save(file)
    }
}

impl Planned for TransferPlan {
    fn differs_from(&self, file: &Path) -> Result<Vec<String>> {
        Ok(self.differences(&TransferPlan::load(file)?))
    }

    fn write(&self, file: &Path) -> Result<()> {
        self.save(file)
    }
}

/// Takes a run's folder for this process, and begins it with its plan, or checks that the one there is this plan's.
/// `resumes` says whether a run that is there is to be gone on with.
///
/// # Errors
/// When another process has the folder, it holds something else, or it holds this run and that isn't wanted. It is left
/// as it is.
pub(super) fn claim(dir: &Path, plan: &impl Planned, resumes: bool) -> Result<Lock> {
    let known = |file: &Path| match (&plan.differs_from(file)?[..], resumes) {
        ([], true) => Ok(()),
        ([], false) => Err(Error::new("this folder already holds this run; it was left as it is")
            .at(dir.display())
            .help("--resume goes on with it; another --out starts anew")),
        (differences, _) => Err(Error::new(format!(
            "this folder holds a run of another plan; it was left as it is:\n  {}",
            differences.join("\n  ")
        ))
        .at(dir.display())
        .help("choose another --out; or put these keys back, and --resume goes on with the run that is there")),
    };
    Claim { folder: dir, marker: "plan.toml", what: "a run" }.take(known, |file| plan.write(file))
}

/// What a run came to, when it is finished, and its models and records are as it left them.
///
/// # Errors
/// When the summary can't be read, or a file is not what it was.
pub(super) fn finished<T: DeserializeOwned>(dir: &Path) -> Result<Option<T>> {
    let path = dir.join(SUMMARY);
    if !path.exists() {
        return Ok(None);
    }
    let summary = read_json(&path, "a run's summary");
    let summary = summary.map_err(|error| error.help("delete it, and the same command with --resume writes it again"))?;
    check(dir)?;
    Ok(Some(summary))
}

/// Where a run lives, and what it is called.
#[derive(Clone, Copy)]
pub(super) struct Home<'a> {
    /// Its folder.
    pub dir: &'a Path,
    /// Its name on the screen.
    pub name: &'a str,
    /// Where progress goes.
    pub console: &'a Console,
}

/// A stretch of a run, between a start and an end: its records, its checkpoints, and its entry in `run.json`.
pub(super) struct Stretch<'a> {
    home: Home<'a>,
    checkpoints: Checkpoints,
    plan_hash: String,
    info: RunInfo,
    log: RunLog,
    started: Instant,
    /// Real tokens trained on; none where they are not counted.
    tokens: Option<f64>,
}

impl<'a> Stretch<'a> {
    /// Begins at step `at` of at most `most`. `new` is `run.json` where the run has just begun; `resume` is where its
    /// records go on.
    ///
    /// # Errors
    /// When `run.json` or the records can't be read, were altered, or can't be written.
    pub fn begin(
        home: Home<'a>,
        device: String,
        plan_hash: &str,
        new: impl FnOnce() -> RunInfo,
        (at, most): (u64, u64),
        resume: Option<Resume>,
    ) -> Result<Self> {
        let mut info = read_info(home.dir, new)?;
        info.start(std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(), device, at);
        write_info(home.dir, &info)?;
        let log = RunLog::open(home.dir, resume, home.console.run(home.name, most, at))?;
        let (checkpoints, plan_hash) = (Checkpoints::of_run(home.dir), plan_hash.to_owned());
        Ok(Self { home, checkpoints, plan_hash, info, log, started: Instant::now(), tokens: None })
    }

    /// Writes a step down, and counts the real tokens that it trained on, where they are known.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn record(&mut self, record: &StepRecord, tokens: Option<f64>) -> Result<()> {
        self.log.record(record)?;
        self.tokens = tokens.map_or(self.tokens, |tokens| Some(self.tokens.unwrap_or(0.0) + tokens));
        Ok(())
    }

    /// Saves a checkpoint of `step` steps, which `fill` writes; of those before it, the last `keep` stay, the best one
    /// and those of the steps `keep_at`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(
        &mut self,
        step: u64,
        held_out_loss: Option<f64>,
        (keep, keep_at): (usize, &[u64]),
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        self.log.flush()?;
        let (plan_hash, records) = (self.plan_hash.clone(), Some(self.log.records()));
        self.checkpoints.save(Reached { step, plan_hash, held_out_loss, records }, fill)?;
        self.reach(step)?;
        self.checkpoints.prune(keep, keep_at)?.iter().for_each(|line| self.home.console.note(line));
        Ok(())
    }

    /// Says in `run.json` how far this stretch has come.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn reach(&mut self, step: u64) -> Result<()> {
        self.info.reach(step, self.started.elapsed().as_secs_f64(), self.tokens);
        write_info(self.home.dir, &self.info)
    }

    /// How the run came about.
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// The step of the next record.
    pub fn next_step(&self) -> u64 {
        self.log.next_step()
    }

    /// Leaves what a finished run leaves: its models, which `fill` writes, all of them or none, and then what it came
    /// to, which `summary` says with the hashes of everything.
    ///
    /// # Errors
    /// When a file can't be written, or the folder was changed by somebody else.
    pub fn finish<S: Serialize>(
        &mut self,
        fill: impl FnOnce(&Path) -> Result<()>,
        summary: impl FnOnce(Hashes) -> S,
    ) -> Result<S> {
        let dir = self.home.dir;
        self.log.flush()?;
        write_folder(&dir.join(MODEL), fill)?;
        let summary = summary(left_behind(dir, self.log.records())?);
        write_json(&dir.join(SUMMARY), &summary)?;
        Ok(summary)
    }

    /// The last line on the screen.
    ///
    /// # Errors
    /// When the records can't be written.
    pub fn end(self, words: &str) -> Result<()> {
        self.log.finish(words)
    }
}

/// How the run in a folder came about, or `new` where it has just begun.
fn read_info(dir: &Path, new: impl FnOnce() -> RunInfo) -> Result<RunInfo> {
    let path = dir.join("run.json");
    if !path.exists() {
        return Ok(new());
    }
    let text = String::from_utf8_lossy(&fs::read(&path).doing("read", &path)?).into_owned();
    RunInfo::parse(&text).map_err(|error| {
        error.at(path.display()).help("delete it, and the same command with --resume begins a new one: nothing else is lost")
    })
}

fn write_info(dir: &Path, info: &RunInfo) -> Result<()> {
    write_text(&dir.join("run.json"), &info.to_json())
}

/// The hashes of what a finished run leaves: its models and its records, whose hash is `records`.
///
/// # Errors
/// When the records are not those that were written: a file that is open can be written to where its folder is gone.
fn left_behind(dir: &Path, records: String) -> Result<Hashes> {
    let mut files = Hashes::from([(STEPS.to_owned(), records)]);
    if let [wrong, ..] = &differing(dir, &files)?[..] {
        let what = format!("the run's folder was changed while it trained: {wrong}");
        return Err(Error::new(what).at(dir.display()).help("train again in a folder that nobody else writes to"));
    }
    files.extend(hashes_within(&dir.join(MODEL), dir)?);
    Ok(files)
}
