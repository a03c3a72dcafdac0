//! Run files: what was written ([`RunFile`]) and what it comes to ([`Plan`]).
//!
//! ```text
//! run file, preset, --set ──► RunFile ──► wanted ──► (others look it up) ──► Facts ──► resolve ──► Plan
//! ```
//! This room opens no data and no model: what they hold comes in as [`Facts`], so that resolving is a pure function and
//! every mistake, of the file and against the facts, is said in one message.

mod answers;
mod batch_rows;
mod bounds;
mod check;
mod check_features;
mod check_listening;
mod check_models;
mod check_sizes;
mod describe;
mod describe_features;
mod describe_models;
mod differences;
mod estimate;
mod facts;
mod features;
mod kept;
mod keys;
mod learner;
mod lines;
mod listening;
mod mistakes;
mod plan;
mod resolve;
mod run_file;
mod scaling;
mod schedule;
mod shape;
mod shared;
#[cfg(test)]
mod tests;
mod transfer;

pub use answers::{ANSWERS_FORMAT, AnswersFacts, AnswersHeader};
pub use bounds::Bounds;
pub use estimate::{Estimate, Memory, Speed, Work};
pub use facts::{DataFacts, Facts, TeacherFacts, Wanted};
pub use features::{FeatureKind, LayerLosses, LayerMap, LayersPlan};
pub use kept::{AnswersKind, AnswersPlan};
pub use keys::{Fallback, KEYS, Key, Kind, reference};
pub use listening::{Divergence, DivergenceKind, Gate, GateKind, MemberPlan};
use plan::MIN_LENGTH;
pub use plan::{
    DataPlan, DistillPlan, LearnerPlan, MODEL, Method, OptimizerKind, Plan, Positions, Rows, RuntimePlan, SourcePlan, Start,
    SumDtype, TEACHER, TeacherPlan, TrainPlan, UNIFORM,
};
pub use run_file::RunFile;
pub use scaling::Scaled;
pub use schedule::Schedule;
pub(crate) use shape::NORM_EPSILON;
pub use shape::{
    BertShape, Family, Gpt2Shape, Kept, LlamaShape, ModelPlan, ModernBertShape, ObjectiveKind, Parameters, Pass, RopeScaling,
    Shape, Size, Sizes, TeacherModel,
};
pub use shared::Parting;
pub use transfer::{
    ElementKind, EncoderKind, LogitTargets, Padding, States, TRANSFER_KEYS, Targets, TokenKind, TransferData, TransferDistill,
    TransferModel, TransferPlan, TransferSchedule, TransferTeacher, TransferTrain, Vector,
};
