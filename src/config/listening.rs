//! How a student listens to its teacher.

use serde::{Deserialize, Serialize};

use super::shape::TeacherModel;
use crate::words::words;

words! {
    /// How far a student's distribution q is from its teacher's p.
    #[derive(Default)]
    DivergenceKind {
        /// KL(p || q), the paper's equation 2.
        #[default]
        Kl = "kl",
        /// KL(q || p).
        ReverseKl = "reverse-kl",
        /// Generalised Jensen-Shannon divergence.
        JensenShannon = "jensen-shannon",
        /// Half of the sum of |p - q|.
        TotalVariation = "total-variation",
    }
}

/// A divergence and what it has of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// Which.
    pub kind: DivergenceKind,
    /// The teacher's share of the mixture in Jensen-Shannon's; 0 of others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub beta: f64,
}

impl Divergence {
    /// Whether it is the paper's, and stands in no plan.
    pub fn is_kl(&self) -> bool {
        self.kind == DivergenceKind::Kl
    }
}

pub(super) fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

words! {
    /// At which of a batch's slots a student listens to its teacher.
    #[derive(Default)]
    GateKind {
        /// At all of them.
        #[default]
        Open = "none",
        /// Where the teacher's entropy is among the batch's lowest (He et al. 2026, "Switch Distillation").
        LowestEntropy = "lowest-entropy",
        /// Where the teacher's most probable token is the label.
        TeacherRight = "teacher-right",
        /// Where the teacher's loss on the label is lower than the student's.
        TeacherBetter = "teacher-better",
    }
}

/// A gate of the soft loss, slot by slot. A slot where it is closed counts 0 in the mean over all slots, so that an
/// open one weighs what it weighs without a gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Which.
    pub kind: GateKind,
    /// The share of the slots that are open by lowest entropy; 0 of other gates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub share: f64,
    /// Whether the hard loss is taken only where the gate is closed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub switch: bool,
}

impl Gate {
    /// Whether there is none, and it stands in no plan.
    pub fn is_open(&self) -> bool {
        self.kind == GateKind::Open
    }
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A further model of an ensemble of teachers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberPlan {
    /// What the run file calls it.
    pub name: String,
    /// A run directory, a checkpoint or a Hugging Face folder.
    pub from: String,
    /// What its logits weigh in the mean.
    pub weight: f64,
    /// The model that was found there.
    pub model: TeacherModel,
}

pub(super) fn unit_weight() -> f64 {
    1.0
}

pub(super) fn is_unit_weight(weight: &f64) -> bool {
    *weight == 1.0
}
