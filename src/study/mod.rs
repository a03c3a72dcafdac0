//! Studies: grids of runs, their statistics, and the report.

pub mod claims;
pub mod comparison;
pub mod figure;
pub mod findings;
pub mod registration;
pub mod report;
pub mod results;
pub mod saved;
pub mod scores;
pub mod statistics;

mod answers;
mod cells;
mod cotrain;
mod gather;
mod jobs;
mod kept;
mod measures;
mod planner;
mod pocket;
mod register;
mod runner;
mod spec;
mod spec_check;
mod tasks;
mod transfer;
mod tune;
mod verify;

pub use cells::{CellLine, ModelLine, NUMERICS};
pub use jobs::{cell_name, jobs, kubernetes_job, parse_cell, slurm_script};
pub use planner::plan_study;
pub use pocket::Size;
pub use register::register;
pub use runner::{StudyOptions, run_cell_of, run_cells};
pub use spec::{ArmSpec, StudySpec, TeacherSeeds, TeacherWord};
pub use transfer::{
    Experiment, ExperimentResult, TransferArm, TransferArmResult, TransferStudy, TransferStudySpec, run_transfer_study,
    transfer_tables,
};
pub use tune::TuneSpec;
pub use verify::{Verified, verify};
