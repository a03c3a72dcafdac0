//! Records of a run: console progress, `steps.jsonl`, TensorBoard events.
//!
//! A [`RunLog`] takes one [`StepRecord`] a step and writes it to all three:
//!
//! ```no_run
//! # fn written(run_dir: &std::path::Path, record: upstill::log::StepRecord) -> upstill::Result<()> {
//! use upstill::log::{Console, RunLog};
//!
//! let console = Console::stderr();
//! let mut log = RunLog::open(run_dir, None, console.run("dwt-decay", 1000, 0))?;
//! log.record(&record)?;
//! log.finish("held-out loss 3.912")?;
//! # Ok(()) }
//! ```

mod console;
mod record;
mod steps;
mod tensorboard;

use std::path::Path;
use std::time::{Duration, Instant};

pub use console::{Console, Progress, Reading, clock};
pub use record::{FeatureRecord, ModelRecord, ModelSummary, SoftRecord, StepRecord, Summary};
pub use steps::{Resume, STEPS, StepWriter, read_steps, steps_before};
pub use tensorboard::EventWriter;

use crate::error::Result;
use crate::files::make_folder;

const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// All records of one run. Buffered: a step costs microseconds, the files are at most a second behind.
pub struct RunLog {
    steps: StepWriter,
    events: EventWriter,
    progress: Progress,
    flushed: Instant,
}

impl RunLog {
    /// Opens the files of `run_dir` (made where it is missing). With `resume` a run goes on: records from that step on
    /// are cut off.
    ///
    /// # Errors
    /// Without `resume`, when the folder already holds records; with it, when they are broken, altered or missing
    /// before that step.
    pub fn open(run_dir: &Path, resume: Option<Resume>, progress: Progress) -> Result<Self> {
        make_folder(run_dir)?;
        let path = run_dir.join(STEPS);
        let steps = match resume {
            Some(from) => StepWriter::resume(&path, from)?,
            None => StepWriter::create(&path)?,
        };
        Ok(Self { steps, events: EventWriter::open(run_dir, resume.map(|from| from.step))?, progress, flushed: Instant::now() })
    }

    /// Writes and shows a step.
    pub fn record(&mut self, record: &StepRecord) -> Result<()> {
        self.steps.write(record)?;
        self.events.write(record)?;
        self.progress.show(record);
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.steps.flush()?;
            self.events.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }

    /// Waits until what was recorded is on disk. Call it before a checkpoint is named, so that the records never lag
    /// behind it.
    pub fn flush(&mut self) -> Result<()> {
        self.steps.sync()?;
        self.events.sync()
    }

    /// The step of the next record.
    pub fn next_step(&self) -> u64 {
        self.steps.next_step()
    }

    /// blake3 of the lines of `steps.jsonl` so far.
    pub fn records(&self) -> String {
        self.steps.hash()
    }

    /// Flushes and takes the run off the screen, leaving a line `text`.
    pub fn finish(mut self, text: &str) -> Result<()> {
        self.flush()?;
        self.progress.finish(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::tests::record;

    fn log(dir: &Path, step: Option<u64>) -> Result<RunLog> {
        RunLog::open(dir, step.map(|step| Resume { step, records: None }), Console::silent().run("test", 10, 0))
    }

    #[test]
    fn a_run_writes_lines_and_events_and_can_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("runs/a");
        let mut first = log(&run, None).unwrap();
        (0..6).for_each(|step| first.record(&record(step)).unwrap());
        first.finish("stopped").unwrap();
        assert!(log(&run, None).is_err());

        let mut second = log(&run, Some(4)).unwrap();
        (4..10).for_each(|step| second.record(&record(step)).unwrap());
        second.finish("done").unwrap();
        let records = read_steps(&run.join("steps.jsonl")).unwrap();
        assert_eq!(records, (0..10).map(record).collect::<Vec<_>>());
        let events =
            std::fs::read_dir(&run).unwrap().filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents"));
        assert_eq!(events.count(), 2);
    }
}
