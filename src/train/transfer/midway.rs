//! A student in the middle of its training, on disk: the same command goes on from there exactly.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::stopping::EarlyStopping;
use super::{TransferOptions, transfer_contents};
use crate::checkpoint::{CHECKPOINTS, Checkpoints};
use crate::config::{MODEL, TransferPlan};
use crate::device::wait;
use crate::error::{Error, Result};
use crate::files::manifest::{read_json, write_json};
use crate::files::remove_folder;
use crate::log::Console;
use crate::model::{Student, Weights};
use crate::tasks::TransferTask;
use crate::train::Learner;
use crate::train::life::Stretch;
use crate::train::numbers::refuse_broken_weights;

/// What a crash can lose.
const EVERY: Duration = Duration::from_secs(60);

const STUDENT: &str = "student.safetensors";
const BEST: &str = "best.safetensors";
const OPTIMIZER: &str = "student.optimizer.safetensors";
const MIDWAY: &str = "midway.json";

/// What a phase came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// Steps taken.
    pub steps: u64,
    /// The validation loss of the student that was kept, in the phase's own measure.
    pub validation_loss: f64,
    /// Wall time.
    pub seconds: f64,
}

/// Where a run is; the phase is the one after those that `summaries` has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Steps done in the phase.
    pub step: u64,
    /// What its validation losses have come to.
    pub stopping: EarlyStopping,
    /// The phases before.
    pub summaries: Vec<PhaseSummary>,
    /// Wall time of the phase so far.
    pub seconds: f64,
}

/// A phase to go on with.
pub(super) struct Midway {
    pub student: Student,
    pub best: Student,
    pub optimizer: Weights,
    pub state: State,
    /// The hash of the records before it.
    pub records: Option<String>,
}

/// Keeps a run's checkpoint: the last one only, and none once the run is finished.
pub(super) struct Keeper<'a> {
    run: &'a Path,
    console: &'a Console,
    checkpoints: Checkpoints,
    plan_hash: String,
    saved: Cell<Instant>,
}

impl<'a> Keeper<'a> {
    pub fn of(plan: &TransferPlan, task: &TransferTask, options: &TransferOptions<'a>) -> Result<Self> {
        Ok(Self {
            run: options.dir,
            console: options.console,
            checkpoints: Checkpoints::of_run(options.dir),
            plan_hash: plan.hash(&transfer_contents(plan, task)?),
            saved: Cell::new(Instant::now()),
        })
    }

    /// The hash of the plan and of what its paths hold.
    pub fn plan_hash(&self) -> &str {
        &self.plan_hash
    }

    pub fn is_due(&self) -> bool {
        self.saved.get().elapsed() >= EVERY
    }

    pub fn save(&self, learner: &Learner<Student>, best: &Student, state: &State, stretch: &mut Stretch) -> Result<()> {
        let step = state.step + state.summaries.iter().map(|phase| phase.steps).sum::<u64>();
        wait(refuse_broken_weights(&learner.model, MODEL, &format!("step {step}")))?;
        stretch.save(step, None, (1, &[]), |inside| {
            Weights::of(&learner.model).write(&inside.join(STUDENT))?;
            Weights::of(best).write(&inside.join(BEST))?;
            learner.optimizer.state(&learner.model).write(&inside.join(OPTIMIZER))?;
            write_json(&inside.join(MIDWAY), state)
        })?;
        self.saved.set(Instant::now());
        Ok(())
    }

    /// The checkpoint, put into students of the shape of `student`; none where the run is new.
    pub fn found(&self, student: &Student) -> Result<Option<Midway>> {
        let last = self.checkpoints.last_whole(None)?;
        last.notes.iter().for_each(|line| self.console.note(line));
        let Some((path, of)) = last.found else { return Ok(None) };
        if of.reached.plan_hash != self.plan_hash {
            return Err(Error::new("what this run reads has changed since it was cut off; it was left as it is")
                .at(self.run.display())
                .help("choose another --out, or put the texts and the teacher back as they were"));
        }
        let state = read_json(&path.join(MIDWAY), "the middle of a transfer run")?;
        let loaded = |name: &str| Weights::read(&path.join(name))?.load_into(student.clone());
        let optimizer = Weights::read(&path.join(OPTIMIZER))?;
        let records = of.reached.records;
        Ok(Some(Midway { student: loaded(STUDENT)?, best: loaded(BEST)?, optimizer, state, records }))
    }

    /// Removes what a finished run has no more use for.
    pub fn clear(&self) -> Result<()> {
        let folder = self.run.join(CHECKPOINTS);
        if folder.exists() { remove_folder(&folder) } else { Ok(()) }
    }
}
