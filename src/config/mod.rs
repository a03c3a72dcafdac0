//! Run files: what was written ([`RunFile`]) and what it comes to ([`Plan`]).

mod facts;
mod plan;
mod schedule;

pub use facts::{DataFacts, Facts, TeacherFacts, Wanted};
pub use plan::{
    DataPlan, DistillPlan, Method, ModelPlan, OptimizerKind, Plan, Positions, Precision, Rows, RuntimePlan, Start, TeacherModel,
    TeacherPlan, TrainPlan,
};
pub use schedule::Schedule;
