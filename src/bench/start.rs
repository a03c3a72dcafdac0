//! What lies before a run's first step on built shards, and whether a late step's batch takes longer than an early
//! one's.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::median;
use crate::batch::{BatchOptions, Batches, Masking, Split};
use crate::config::Rows;
use crate::error::Result;
use crate::tokens::Shards;

/// Seconds of each part.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    /// Sentences of the train split.
    pub sentences: usize,
    /// Opening the folder and checking every byte of it.
    pub open_s: f64,
    /// Cutting and packing the train split.
    pub pack_s: f64,
    /// (step, the median time of its batch and the ones after it, in ms).
    pub batch_ms: Vec<(u64, f64)>,
}

/// Batches whose median counts.
const BATCHES: u64 = 50;

/// Opens `folder` and asks for batches of 32 packed rows of 128 tokens.
///
/// # Errors
/// When the folder can't be opened, or has no sentences.
pub fn bench_start(folder: &Path) -> Result<Start> {
    let clock = Instant::now();
    let shards = Shards::open(folder)?;
    let open_s = clock.elapsed().as_secs_f64();
    let clock = Instant::now();
    let options = BatchOptions { layout: Rows::Packed, length: 128, batch: 32, seed: 1, objective: Masking::default().into() };
    let batches = Batches::new(&shards, Split::Train, options)?;
    let pack_s = clock.elapsed().as_secs_f64();
    let ms = |step: u64| {
        let clock = Instant::now();
        std::hint::black_box(batches.at(step));
        1e3 * clock.elapsed().as_secs_f64()
    };
    // The pages of the shards are read the first time that they are asked for, by whichever step.
    (0..BATCHES).for_each(|step| drop(batches.at(step * 7919)));
    let starts = [1, 1_000_000, 1_000_000_000];
    let batch_ms = starts.map(|first| (first, median((first..first + BATCHES).map(ms).collect()))).to_vec();
    Ok(Start { sentences: shards.train().len(), open_s, pack_s, batch_ms })
}
