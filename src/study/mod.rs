//! Studies: grids of runs, their statistics, and the report.

pub mod figure;
pub mod report;
pub mod results;
pub mod scores;
pub mod statistics;

mod cotrain;
mod runner;
mod spec;
mod transfer;

pub use runner::{StudyOptions, cell_count, claim, run_cells};
pub use spec::{ArmSpec, Size, StudySpec};
pub use transfer::{
    Experiment, ExperimentResult, TransferArm, TransferArmResult, TransferStudy, TransferStudySpec, run_transfer_study,
    transfer_tables,
};
