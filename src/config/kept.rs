//! What is kept of a teacher's answers, as a plan has it.

use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// What of a teacher's distribution is kept.
    AnswersKind {
        /// The likeliest tokens with their probabilities, and the mass of all others.
        TopK = "top-k",
        /// How often tokens were drawn, with replacement.
        Draws = "draws",
    }
}

/// A cache as a run's plan knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswersPlan {
    /// blake3 of its `cache.json`: what a plan's hash knows it by.
    pub content_hash: String,
    /// Who answered.
    pub teacher: String,
    /// What is kept of a distribution.
    pub kind: AnswersKind,
    /// How many tokens of it, or draws.
    pub count: usize,
    /// The temperature that they were kept at.
    pub temperature: f64,
}
