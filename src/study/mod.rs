//! Studies: grids of runs, their statistics, and the report.

pub mod figure;
pub mod report;
pub mod results;
pub mod scores;
pub mod statistics;

mod cotrain;
mod runner;
mod spec;

pub use runner::{StudyOptions, cell_count, claim, run_cells};
pub use spec::{ArmSpec, Size, StudySpec};
