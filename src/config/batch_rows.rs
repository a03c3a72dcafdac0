//! How many rows a run's steps have, where that changes.

use super::plan::TrainPlan;

/// Steps over which a batch may change: its rows are added up step by step.
pub(super) const MOST_CHANGING_STEPS: u64 = 1 << 24;

impl TrainPlan {
    /// Rows of a step's batch; steps count from 0.
    pub fn rows_at(&self, step: u64) -> usize {
        let rows = self.batch_schedule.as_ref().map(|rows| rows.at(step, self.steps).round() as usize);
        rows.map_or(self.batch, |rows| rows.min(self.batch))
    }

    /// The step from which on all batches have as many rows.
    pub fn batch_settles_at(&self) -> u64 {
        let settles = self.batch_schedule.as_ref().map_or(0, |rows| rows.settles_at(self.steps));
        settles.min(self.steps).min(MOST_CHANGING_STEPS)
    }

    /// Rows of all steps of the run.
    pub fn all_rows(&self) -> f64 {
        let settles = self.batch_settles_at();
        let changing: u64 = (0..settles).map(|step| self.rows_at(step) as u64).sum();
        changing as f64 + (self.steps - settles) as f64 * self.rows_at(settles) as f64
    }
}
