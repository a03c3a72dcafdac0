//! Studies: grids of runs, their statistics, and the report.

pub mod figure;
pub mod registration;
pub mod report;
pub mod results;
pub mod saved;
pub mod scores;
pub mod statistics;

mod cotrain;
mod jobs;
mod runner;
mod spec;
mod transfer;

pub use jobs::{cell_name, jobs, parse_cell};
pub use runner::{StudyOptions, cell_count, claim, run_cell_of, run_cells};
pub use spec::{ArmSpec, Size, StudySpec};
pub use transfer::{
    Experiment, ExperimentResult, TransferArm, TransferArmResult, TransferStudy, TransferStudySpec, run_transfer_study,
    transfer_tables,
};
