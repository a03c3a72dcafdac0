//! What `upstill bench` measures: every form of one thing, in turn (A B A B), so that other work on the machine falls
//! on all alike, and beside PyTorch where a Python that has it is there.
//!
#![doc = include_str!("README.md")]

mod agree;
mod data;
mod growth;
mod layers;
mod loss;
mod lstm;
mod meter;
mod peer;
mod ranks;
mod sizes;
mod start;
mod step;
mod train;

use serde::Serialize;

pub use agree::{Agreement, agree};
pub use data::{DataRow, bench_data};
pub use growth::{Growth, GrowthPoint, bench_growth, growth_page};
pub use layers::{LayersRow, LayersSize, bench_layers};
pub use loss::{LossSize, bench_loss};
pub use lstm::{LstmSize, bench_lstm};
pub use ranks::{RanksBenchOptions, RanksRow, answer_steps, bench_ranks};
pub use sizes::{LONG_SIZE, LOSS_STEP_SIZES, PAPER_SIZE, STEP_SIZES, StepSize};
pub use start::{Start, bench_start};
pub use step::{StepBenchOptions, StepRow, StepSpent, bench_step, bench_step_forms};
pub use train::{TrainBenchSize, TrainRow, bench_train};

/// One measurement: a line of the table, an object of `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `loss`, `head and loss`, `step` or `bilstm`.
    pub what: &'static str,
    /// Its shape.
    pub size: String,
    /// `composed`, `fused`, `pytorch` or `pytorch compiled`.
    pub form: &'static str,
    /// The device.
    pub device: String,
    /// Median over the rounds, forward and backward.
    pub seconds: f64,
    /// Tokens trained on a second, where that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Bytes that any form must read or write at least: logits in, gradient out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewest_bytes: Option<u64>,
    /// `fewest_bytes` a second over what copying memory reaches in the same rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_share: Option<f64>,
    /// Memory on top of what was held before, at its highest; where the system says.
    pub peak_bytes: Option<u64>,
    /// What `ratio` compares with: `pytorch`, or `composed` where PyTorch is not there.
    pub peer: &'static str,
    /// The peer's seconds over these: above 1 is faster than the peer.
    pub ratio: Option<f64>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Fills in the ratios of rows that measure one thing.
fn against_peer(mut rows: Vec<Row>) -> Vec<Row> {
    let seconds_of = |form: &str| rows.iter().find(|row| row.form == form).map(|row| row.seconds);
    let (peer, seconds) = match seconds_of("pytorch") {
        Some(seconds) => ("pytorch", Some(seconds)),
        None => ("composed", seconds_of("composed")),
    };
    for row in &mut rows {
        (row.peer, row.ratio) = (peer, seconds.map(|seconds| seconds / row.seconds));
    }
    rows
}
