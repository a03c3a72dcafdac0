//! What a run leaves behind beside its models, whether in a folder or in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use web_time::{SystemTime, UNIX_EPOCH};

use crate::config::Plan;
use crate::error::Result;
use crate::files::manifest::{Hashes, Json, to_json};
use crate::log::{ModelRecord, ModelSummary, StepRecord, Summary};

/// `run.json`: how a run came about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunInfo {
    upstill: String,
    commit: String,
    burn: String,
    tokenizer_hash: String,
    plan_hash: String,
    /// The checkpoint of another run that this one went on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branched_from: Option<String>,
    sessions: Vec<Session>,
}

/// One stretch of a run between a start and an end.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    command: Vec<String>,
    started_unix_s: u64,
    device: String,
    from_step: u64,
    to_step: u64,
    seconds: f64,
    /// Real tokens trained on; none of runs that don't count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
}

/// The version that Cargo.toml pins.
const BURN_VERSION: &str = "0.22.1";

impl RunInfo {
    /// The information about a run that has not started.
    pub fn new(plan: &Plan) -> Self {
        Self::of(&plan.data.tokenizer_hash, plan.hash())
    }

    /// The information about a run of any kind that has not started.
    pub fn of(tokenizer_hash: &str, plan_hash: String) -> Self {
        Self {
            upstill: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("UPSTILL_COMMIT").to_owned(),
            burn: BURN_VERSION.to_owned(),
            tokenizer_hash: tokenizer_hash.to_owned(),
            plan_hash,
            branched_from: None,
            sessions: Vec::new(),
        }
    }

    /// This, for a run that goes on from another's checkpoint.
    pub fn branched_from(self, checkpoint: &Path) -> Self {
        Self { branched_from: Some(checkpoint.display().to_string()), ..self }
    }

    /// A stretch starts here and now.
    pub fn start(&mut self, command: Vec<String>, device: String, from_step: u64) {
        let started_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let session = Session { command, started_unix_s, device, from_step, to_step: from_step, seconds: 0.0, tokens: None };
        self.sessions.push(session);
    }

    /// How far the stretch that was started last has come.
    pub fn reach(&mut self, step: u64, seconds: f64, tokens: Option<f64>) {
        if let Some(session) = self.sessions.last_mut() {
            (session.to_step, session.seconds, session.tokens) = (step, seconds, tokens.map(|tokens| tokens as u64));
        }
    }

    /// From the text of a `run.json`.
    ///
    /// # Errors
    /// When it was altered, cut, or is another file.
    pub fn parse(text: &str) -> Result<Self> {
        Json::open(text)?.parse("a run's record")
    }

    /// What the run came to with its last record; which files it leaves is not known here.
    pub fn summary(&self, plan: &Plan, last: Option<&StepRecord>, run: &str) -> Summary {
        let of = |own: &ModelRecord| ModelSummary {
            name: own.name.clone(),
            held_out_loss: own.held_out_loss,
            loss: own.loss,
            held_out: BTreeMap::new(),
        };
        let tokens = |session: &Session| session.tokens.unwrap_or(0) as f64;
        let (seconds, tokens) =
            self.sessions.iter().fold((0.0, 0.0), |(s, t), session| (s + session.seconds, t + tokens(session)));
        Summary {
            steps: plan.train.steps,
            held_out_loss: last.and_then(|record| record.held_out_loss),
            loss: last.map_or(f64::NAN, |record| record.loss),
            tokens_per_s: tokens / f64::max(seconds, 1e-9),
            seconds,
            run: run.to_owned(),
            held_out: BTreeMap::new(),
            models: last.map_or_else(Vec::new, |record| record.models.iter().map(of).collect()),
            agreement: last.map_or_else(Default::default, |record| record.agreement.clone()),
            files: Hashes::new(),
        }
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

/// What a checkpoint is ranked by: the models' mean held-out loss.
pub(super) fn scored(record: &StepRecord) -> Option<f64> {
    let losses: Vec<f64> = record.models.iter().filter_map(|own| own.held_out_loss).collect();
    match losses.is_empty() {
        true => record.held_out_loss,
        false => Some(losses.iter().sum::<f64>() / losses.len() as f64),
    }
}
