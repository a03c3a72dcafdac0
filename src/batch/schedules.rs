//! What changes over a run: how many rows a step's batch has, and how many of its tokens are masked.

use crate::config::{Plan, Schedule};

/// What a plan changes from step to step. By default nothing.
#[derive(Clone, Default)]
pub(super) struct Schedules {
    sizes: Option<Vec<Stretch>>,
    /// Shares masked, and the steps of the run.
    rates: Option<(Schedule, u64)>,
}

/// Steps one after another whose batches have as many rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    first_step: u64,
    /// Of the endless sequence of epochs.
    first_row: u64,
    rows: usize,
}

impl Schedules {
    pub fn of(plan: &Plan) -> Self {
        let train = &plan.train;
        let stretches = || stretches(|step| train.rows_at(step), train.batch_settles_at());
        Self {
            sizes: train.batch_schedule.as_ref().map(|_| stretches()),
            rates: plan.data.mask_schedule.clone().map(|rates| (rates, train.steps)),
        }
    }

    /// The first row of a step's batch in the endless sequence of epochs, and how many rows it has; `batch` of each
    /// step where they do not change.
    pub fn rows(&self, step: u64, batch: usize) -> (u64, usize) {
        let Some(stretches) = &self.sizes else { return (step.wrapping_mul(batch as u64), batch) };
        let at = stretches.partition_point(|stretch| stretch.first_step <= step);
        let Stretch { first_step, first_row, rows } = stretches[at - 1];
        (first_row.wrapping_add((step - first_step).wrapping_mul(rows as u64)), rows)
    }

    /// The share of tokens masked at a step; none where it does not change.
    pub fn rate(&self, step: u64) -> Option<f64> {
        self.rates.as_ref().map(|(rates, steps)| rates.at(step, *steps))
    }
}

/// The stretches of steps whose rows are `rows_at` and the same from the step `settles` on. The first begins at step 0.
fn stretches(rows_at: impl Fn(u64) -> usize, settles: u64) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    let mut first_row = 0;
    for first_step in 0..=settles {
        let rows = rows_at(first_step);
        if out.last().is_none_or(|last| last.rows != rows) {
            out.push(Stretch { first_step, first_row, rows });
        }
        first_row += rows as u64;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_batch_whatever_their_sizes() {
        let sizes = [2, 2, 3, 5, 5, 4, 4];
        let rows_at = |step: u64| sizes.get(step as usize).copied().unwrap_or(4);
        let schedules = Schedules { sizes: Some(stretches(rows_at, 5)), rates: None };
        assert_eq!(schedules.sizes.as_ref().unwrap().len(), 4);
        let mut next = 0;
        for step in 0..20 {
            assert_eq!(schedules.rows(step, 9), (next, rows_at(step)), "step {step}");
            next += rows_at(step) as u64;
        }
        assert_eq!(Schedules::default().rows(7, 9), (63, 9));
    }
}
