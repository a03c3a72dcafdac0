//! One type for everything that changes over a run: the learning rate, each loss weight, the temperature.

use serde::{Deserialize, Serialize};

/// A value over a run: `2.0`, `"4 -> 1 linear"`, `"0 -> 5e-4 over 5%, then -> 0 linear"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule(f64);

impl Schedule {
    /// The same value throughout.
    pub fn constant(value: f64) -> Self {
        Schedule(value)
    }

    /// The value used at update `step` (0-based) of `total`.
    pub fn at(&self, _step: u64, _total: u64) -> f64 {
        self.0
    }
}
