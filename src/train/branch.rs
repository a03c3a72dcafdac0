//! A run that goes on from another's checkpoint, where both are the same run up to there.
//!
//! A plan's losses do not depend on how it was carried out, so such a run is the one that its plan trains from the
//! beginning, to the bit, and has that plan's hash: the steps that it shares with the other are found, not repeated.
//! Decays of several lengths branched off one stable run come so.

use std::fs;
use std::path::{Path, PathBuf};

use super::card::run_of;
use super::life::claim;
use super::written::RunInfo;
use crate::checkpoint::{CHECKPOINTS, Checkpoints, Reached, State, folder_name, verify};
use crate::config::Plan;
use crate::error::{Error, IoContext, Result};
use crate::files::{Target, is_free, make_folder, write_text};
use crate::log::{Resume, STEPS, StepWriter, steps_before};

/// Where a run has the checkpoint of so many steps; it need not be there.
pub fn checkpoint_of(run: &Path, step: u64) -> PathBuf {
    run.join(CHECKPOINTS).join(folder_name(step))
}

/// Makes the directory of a run whose first steps are another run's: it holds that run's `checkpoint` and the records
/// before it, and [`train_run`](super::train_run) with `resume` goes on from there. A directory that already holds this
/// run is left as it is.
///
/// # Errors
/// When the checkpoint is damaged or belongs to no run, when the two runs part before it (says where), or when the
/// directory holds something else.
pub fn begin_at(plan: &Plan, dir: &Path, checkpoint: &Path) -> Result<()> {
    if dir.join("plan.toml").exists() {
        return claim(dir, plan, true).map(drop);
    }
    let is_new = |dir: &Path| if is_free(dir)? { Ok(()) } else { claim(dir, plan, false).map(drop) };
    is_new(dir)?;
    let State { reached, files, .. } = verify(checkpoint)?;
    let run = run_of(checkpoint).ok_or_else(|| {
        Error::new("the checkpoint lies in no run's folder").at(checkpoint.display()).help("name RUN/checkpoints/step-N")
    })?;
    let other = Plan::load(&run.join("plan.toml"))?;
    let parting = plan.parting(&other);
    if reached.step > parting.steps || reached.step >= plan.train.steps {
        let end = plan.train.steps.saturating_sub(1).min(parting.steps);
        return Err(Error::new(format!(
            "this run can't go on from a checkpoint of {} steps: it parts from {} after {end} of them ({})",
            reached.step,
            run.display(),
            if reached.step > parting.steps { parting.what } else { "it ends there" },
        ))
        .at(checkpoint.display())
        .help("take an earlier checkpoint; schedules written in steps, not in %, stay the same in runs of other lengths"));
    }
    let path = run.join(STEPS);
    let lines = fs::read(&path).doing("read", &path)?;
    let from = Resume { step: reached.step, records: reached.records.as_deref() };
    let records = steps_before(&lines, from).map_err(|error| error.at(path.display()))?;
    Target::take(dir, &is_new)?.write(|inside| {
        plan.save(&inside.join("plan.toml"))?;
        write_text(&inside.join("run.json"), &RunInfo::new(plan).branched_from(checkpoint).to_json())?;
        let mut steps = StepWriter::create(&inside.join(STEPS))?;
        records.iter().try_for_each(|record| steps.write(record))?;
        steps.sync()?;
        let copy = |folder: &Path| files.keys().try_for_each(|name| copy_file(checkpoint, folder, name));
        let reached = Reached { plan_hash: plan.hash(), records: Some(steps.hash()), ..reached };
        Checkpoints::of_run(inside).save(reached, copy).map(drop)
    })
}

fn copy_file(from: &Path, to: &Path, name: &str) -> Result<()> {
    let (from, to) = (from.join(name), to.join(name));
    to.parent().map_or(Ok(()), make_folder)?;
    fs::copy(&from, &to).map(drop).doing("copy", &from)
}
