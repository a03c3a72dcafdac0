//! What a cache of a teacher's answers says of itself, and whether it answers what a run asks.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::kept::{AnswersKind, AnswersPlan};
use super::mistakes::Mistakes;
use super::plan::*;
use super::schedule::number;
use crate::error::{Error, Result};

/// The one layout of a cache that there is.
pub const ANSWERS_FORMAT: u32 = 1;

/// `cache.json`: whom a cache has answers of, to what, and how they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswersHeader {
    /// [`ANSWERS_FORMAT`].
    pub format: u32,
    /// Who answered: blake3 of the weights of upstill's own teachers, any text of others.
    pub teacher: String,
    /// What is kept of a distribution.
    pub kind: AnswersKind,
    /// How many tokens of it, k, or how many draws, n.
    pub count: usize,
    /// The temperature of the distribution that was cut down or drawn from.
    pub temperature: f64,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// blake3 of the shards' content, their vocabulary included.
    pub shards: String,
    /// The run's seed: it decides the order of rows, and the masks.
    pub seed: u64,
    /// One sentence a row, or several.
    pub rows: Rows,
    /// Tokens of a row.
    pub length: usize,
    /// Share of the tokens that are masked; 0 of what a causal model is asked.
    pub mask_rate: f64,
    /// Whether words are masked whole.
    pub whole_word: bool,
    /// Exponent of masking by rarity.
    pub rarity: f64,
    /// Which tokens it was asked for.
    pub positions: Positions,
    /// Rows of a block.
    pub block_rows: u64,
}

impl AnswersHeader {
    /// For answers to what a plan asks at its masked tokens.
    pub fn of(plan: &Plan, teacher: &str, kind: AnswersKind, count: usize, block_rows: u64) -> Self {
        let DataPlan { shards_hash, rows, length, mask_rate, whole_word, rarity, .. } = plan.data.clone();
        Self {
            format: ANSWERS_FORMAT,
            teacher: teacher.to_owned(),
            kind,
            count,
            temperature: plan.distill.temperature.at(0, plan.train.steps),
            vocabulary: plan.model.shape.vocab_size(),
            shards: shards_hash,
            seed: plan.seed,
            rows,
            length,
            mask_rate,
            whole_word,
            rarity,
            positions: Positions::Masked,
            block_rows,
        }
    }

    /// What is kept, in words: `top-k 12`, `50 draws`.
    pub fn kept(&self) -> String {
        match self.kind {
            AnswersKind::TopK => format!("top-k {}", self.count),
            AnswersKind::Draws => format!("{} draws", self.count),
        }
    }

    /// The keys of a run file in which a cache was made otherwise than `other`: key, here, there. Teacher, temperature
    /// and what is kept are no part of it.
    pub fn asked_otherwise(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let asked = |of: &Self| {
            [
                ("data.shards", format!("shards {}", of.shards.get(..12).unwrap_or(&of.shards))),
                ("data.shards", format!("a vocabulary of {}", of.vocabulary)),
                ("seed", of.seed.to_string()),
                ("data.rows", of.rows.to_string()),
                ("data.length", of.length.to_string()),
                ("data.mask_rate", number(of.mask_rate)),
                ("data.whole_word", of.whole_word.to_string()),
                ("data.rarity", number(of.rarity)),
                ("distill.positions", of.positions.to_string()),
            ]
        };
        let pairs = asked(self).into_iter().zip(asked(other));
        pairs.filter(|(here, there)| here != there).map(|((key, here), (_, there))| (key, here, there)).collect()
    }
}

/// What was found of a cache.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswersFacts {
    /// What it says of itself.
    pub header: AnswersHeader,
    /// blake3 of its `cache.json`.
    pub content_hash: String,
    /// The rows that have answers, in order; numbers of the endless sequence of epochs.
    pub rows: Vec<Range<u64>>,
}

impl AnswersFacts {
    /// As a plan has it.
    pub fn plan(&self) -> AnswersPlan {
        let AnswersHeader { teacher, kind, count, temperature, .. } = self.header.clone();
        AnswersPlan { content_hash: self.content_hash.clone(), teacher, kind, count, temperature }
    }
}

impl Plan {
    /// The steps at which a model listens to the fixed teacher, in order; ranges do not touch.
    pub fn taught_steps(&self) -> Vec<Range<u64>> {
        let weights: Vec<_> = match self.models.is_empty() {
            true => vec![&self.distill.soft],
            false => {
                self.models.iter().flat_map(|own| &own.from).filter(|from| from.name == TEACHER).map(|from| &from.soft).collect()
            }
        };
        let constants: Option<Vec<f64>> = weights.iter().map(|soft| soft.as_constant()).collect();
        if let Some(constants) = constants {
            let listens = constants.iter().any(|&soft| soft != 0.0) && self.train.steps > 0;
            return listens.then_some(0..self.train.steps).into_iter().collect();
        }
        let mut out: Vec<Range<u64>> = Vec::new();
        for step in (0..self.train.steps).filter(|&step| weights.iter().any(|soft| soft.at(step, self.train.steps) != 0.0)) {
            match out.last_mut() {
                Some(last) if last.end == step => last.end += 1,
                _ => out.push(step..step + 1),
            }
        }
        out
    }

    /// The temperature of what it takes from the fixed teacher, where that is one number throughout.
    pub fn taught_temperature(&self) -> Option<f64> {
        if self.models.is_empty() {
            return self.distill.temperature.as_constant();
        }
        let sources = self.models.iter().flat_map(|own| &own.from).filter(|from| from.name == TEACHER);
        let mut all = sources.map(|from| from.temperature.as_constant());
        let first = all.next()??;
        all.all(|other| other == Some(first)).then_some(first)
    }
}

impl Plan {
    /// Whether the same is asked of a row whichever step has it, and all steps have as many rows: a cache of answers
    /// knows rows alone.
    ///
    /// # Errors
    /// The key that changes over the run.
    pub fn must_ask_alike(&self) -> Result<()> {
        let changes = [("data.mask_rate", self.data.mask_schedule.as_ref()), ("train.batch", self.train.batch_schedule.as_ref())];
        match changes.into_iter().find_map(|(key, course)| Some((key, course?))) {
            None => Ok(()),
            Some((key, course)) => Err(Error::new(format!(
                "{key} changes over the run ({course}), and a cache of answers is addressed by rows that are asked alike throughout"
            ))
            .help(format!("write one number for {key}, or name the teacher itself as teacher.from"))),
        }
    }
}

/// Whether a cache has what a run asks for.
pub(super) fn check(plan: &Plan, found: &AnswersFacts, out: &mut Mistakes) {
    if let Err(error) = plan.must_ask_alike() {
        return out.add("teacher.from", error.what(), "write one number there, or name the teacher itself");
    }
    let header = &found.header;
    let from = plan.teacher.as_ref().map_or("CACHE", |teacher| &teacher.from);
    // Nothing is masked of what a causal model is asked.
    if (header.mask_rate == 0.0) != (plan.data.mask_rate == 0.0) {
        let (of, own) = if header.mask_rate == 0.0 { ("a causal", "masked") } else { ("a masked", "causal") };
        let what = format!("the cache {from} has the answers of {of} language model, and the run trains a {own} one");
        return out.add("teacher.from", what, "have a teacher of the run's kind answer: `upstill teach RUN.toml --out ANOTHER`");
    }
    for (key, there, here) in header.asked_otherwise(&AnswersHeader::of(plan, &header.teacher, header.kind, header.count, 1)) {
        if key != "distill.positions" {
            let what = format!("the cache {from} has answers for {there}, and the run asks for {here}");
            out.add(key, what, "put the key back, or have the teacher answer this run: `upstill teach RUN.toml --out ANOTHER`");
        }
    }
    if plan.distill.positions != header.positions {
        let what = format!("the cache {from} has answers at masked positions alone");
        out.add("distill.positions", what, "write positions = \"masked\", or name the teacher itself");
    }
    if plan.distill.start == Start::Remap {
        out.add("distill.start", "a cache has a teacher's answers, and no layers to start from", "write start = \"fresh\"");
    }
    if plan.taught_temperature() != Some(header.temperature) {
        let own = plan.taught_temperature().map_or_else(|| "not the same throughout".to_owned(), number);
        let what = format!(
            "is {own}, and the cache {from} was written at {}: what was cut off can't be softened again",
            number(header.temperature)
        );
        let fix = format!(
            "write temperature = {}, or have the teacher answer again at another into another folder",
            number(header.temperature)
        );
        out.add("distill.temperature", what, fix);
    }
    if let Some(step) = first_unanswered(plan, &found.rows) {
        let batch = plan.train.batch as u64;
        let what = format!(
            "step {} asks for rows {} to {} of the training split's sequence, and the cache {from} has {}",
            step + 1,
            step * batch,
            (step + 1) * batch - 1,
            rows_text(&found.rows)
        );
        let steps = plan.taught_steps().last().map_or(plan.train.steps, |last| last.end);
        let fix = format!(
            "`upstill teach RUN.toml --out {from} --steps {step}..{steps}`, RUN.toml naming the teacher itself, adds them"
        );
        out.add("teacher.from", what, fix);
    }
}

/// The first step that listens to the teacher and whose rows are not all there.
fn first_unanswered(plan: &Plan, rows: &[Range<u64>]) -> Option<u64> {
    let batch = plan.train.batch as u64;
    for steps in plan.taught_steps() {
        let asked = steps.start * batch..steps.end * batch;
        // Ranges do not touch: the one that holds the first row goes as far as it goes.
        let reached = rows.iter().find(|there| there.contains(&asked.start)).map_or(asked.start, |there| there.end);
        if reached < asked.end {
            return Some(reached / batch.max(1));
        }
    }
    None
}

/// `rows 0 to 511 and 1024 to 1535`.
fn rows_text(rows: &[Range<u64>]) -> String {
    const SHOWN: usize = 3;
    let mut texts: Vec<String> = rows.iter().take(SHOWN).map(|rows| format!("{} to {}", rows.start, rows.end - 1)).collect();
    if rows.len() > SHOWN {
        texts.push(format!("{} stretches more", rows.len() - SHOWN));
    }
    if texts.is_empty() { "none".into() } else { format!("rows {}", texts.join(", ")) }
}
