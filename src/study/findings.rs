//! What a study finds, as `study.json` has it: comparisons of arms, and what arms save. How they are worked out is in
//! `src/study/comparison.rs` and `src/study/saved.rs`; their sentences are in `src/study/claims.rs`.

use serde::{Deserialize, Serialize};

use super::statistics::{Interval, interval_95, mean};

/// What a comparison says, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Beyond chance, in the direction that is wanted.
    Better,
    /// Beyond chance, in the other direction.
    Worse,
    /// Surely smaller than the margin, either way; said also of a difference that is beyond chance and smaller than
    /// matters.
    Equivalent,
    /// None of these.
    Undecided,
}

impl Verdict {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::Undecided => "undecided",
        }
    }
}

/// An arm against its reference at one end point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub against: String,
    /// The end point's name.
    pub end_point: String,
    /// Seeds of the arm, and of its reference.
    pub seeds: (u64, u64),
    /// Whether seeds were compared one by one.
    pub paired: bool,
    /// Mean of the arm less mean of its reference.
    pub difference: f64,
    /// 95 % interval of that (Student's t).
    pub interval: Interval,
    /// Two-sided p-value of the t-test: paired by seed, or Welch's.
    pub p: f64,
    /// The p-value of the sign-flip test, where seeds are paired.
    pub p_sign_flip: Option<f64>,
    /// Assignments of signs that were drawn; none where all were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_flip_draws: Option<u64>,
    /// `p`, corrected over the arms by Holm's procedure.
    pub p_holm: f64,
    /// Arms that are compared at this end point, which is what p is corrected for.
    pub of: u64,
    /// The margin of equivalence, where there is one for this end point.
    pub margin: Option<f64>,
    /// P-value of a difference as large as the margin (TOST).
    pub p_equivalence: Option<f64>,
    /// The margin that would just have passed: any difference is smaller than this.
    pub bound: f64,
    /// Seeds that would see a difference as large as the margin in four of five studies, at Holm's first level; where
    /// seeds are paired.
    pub seeds_needed: Option<u64>,
    /// What it says.
    pub verdict: Verdict,
}

/// A comparison in numbers and in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// What was found, with its interval and what it is worth.
    pub sentence: String,
    /// The numbers.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// A mean over seeds and, from two seeds on, its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its interval.
    #[serde(default)]
    pub interval: Option<Interval>,
}

impl Estimate {
    /// The estimate from one value for each seed; `None` without values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        Some(Self { mean: mean(values)?, interval: interval_95(values) })
    }
}

/// What an arm needs less than its reference to come as far as that one's training with one budget; all of it negative
/// where it needs more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The arm.
    pub arm: String,
    /// The stand-alone one.
    pub against: String,
    /// Steps of the reference, at whose end both are as good.
    pub budget: u64,
    /// Seeds that both have.
    pub seeds: u64,
    /// Seeds whose smallest budget is as good already; how much less would do was not run.
    pub before_the_first: u64,
    /// Seeds that are not as good after their largest budget.
    pub beyond_the_last: u64,
    /// Steps saved; none unless every seed comes to the loss between two of its budgets.
    pub steps: Option<Estimate>,
    /// FLOPs saved, as a share of the reference's.
    pub flops: Option<Estimate>,
    /// FLOPs saved, with all of the teacher's training counted as the arm's, where the study trained it.
    pub flops_with_teacher: Option<Estimate>,
    /// FLOPs saved, with the teacher's training divided by `students`.
    pub flops_sharing_teacher: Option<Estimate>,
    /// Students that share the teacher.
    pub students: u64,
    /// From how many students on, sharing one teacher, FLOPs are saved on average; none where they never are.
    pub pays_from: Option<u64>,
}
