//! `upstill data build`, from files to shards, beside the tokenizer library's own batches in memory and Python's
//! `datasets.map`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use super::median;
use crate::error::{IoContext, Result};
use crate::text::{ReadOptions, Reader, find};
use crate::tokens::{BuildOptions, Tokenizer, Watch, build};

const SCRIPT: &str = include_str!("datasets.py");

/// One way from text to tokens.
#[derive(Debug, Clone, Serialize)]
pub struct DataRow {
    /// What was done, and with what.
    pub way: &'static str,
    /// Median over the rounds.
    pub seconds: f64,
    /// Bytes of text a second, as UTF-8 out of its compression.
    pub bytes_per_s: f64,
    /// The library's seconds over these, the median over the rounds: above 1 is faster than its batches.
    pub ratio: f64,
    /// The lowest and the highest of the rounds.
    pub ratio_range: [f64; 2],
}

const OURS: &str = "data build: files to shards";
const LIBRARY: &str = "tokenizers: batches in memory";
const DATASETS: &str = "datasets.map, from memory";

/// Each way in turn, `rounds` times, on all cores and over the same text. `scratch` is a folder that need not exist,
/// and does not afterwards. `note` is told what is not there.
///
/// # Errors
/// When the text can't be read, or `scratch` can't be written.
pub fn bench_data(
    inputs: &[String],
    tokenizer: &Tokenizer,
    rounds: usize,
    python: &str,
    scratch: &Path,
    mut note: impl FnMut(String),
) -> Result<Vec<DataRow>> {
    let lines = paragraphs(inputs)?;
    let bytes: usize = lines.iter().map(String::len).sum();
    let mut python = Some(python);
    let mut taken: Vec<(&'static str, Vec<f64>)> = [OURS, LIBRARY, DATASETS].map(|way| (way, Vec::new())).to_vec();
    for _ in 0..rounds {
        taken[0].1.push(build_once(inputs, tokenizer, scratch)?);
        let started = Instant::now();
        std::hint::black_box(tokenizer.encode_all(&lines)?);
        taken[1].1.push(started.elapsed().as_secs_f64());
        match python.map(|python| with_datasets(python, tokenizer, &lines, scratch)) {
            Some(Ok(seconds)) => taken[2].1.push(seconds),
            Some(Err(why)) => {
                note(format!("NOTE: no datasets.map to compare with: {why}"));
                python = None;
            }
            None => {}
        }
    }
    let library = taken[1].1.clone();
    let row = |(way, seconds): (&'static str, Vec<f64>)| {
        let mut ratios: Vec<f64> = library.iter().zip(&seconds).map(|(library, own)| library / own).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio_range = [ratios[0], ratios[ratios.len() - 1]];
        let seconds = median(seconds);
        DataRow { way, seconds, bytes_per_s: bytes as f64 / seconds, ratio: median(ratios), ratio_range }
    };
    Ok(taken.into_iter().filter(|(_, seconds)| !seconds.is_empty()).map(row).collect())
}

/// Seconds from files to shards, every sentence kept.
fn build_once(inputs: &[String], tokenizer: &Tokenizer, scratch: &Path) -> Result<f64> {
    let options = BuildOptions { keep_one_of: 1, ..BuildOptions::default() };
    let watch = Watch { threads: 0, stop: &|| false, progress: &|_| () };
    let started = Instant::now();
    let built = build(inputs, scratch, true, tokenizer, &options, &watch);
    let seconds = started.elapsed().as_secs_f64();
    built?;
    std::fs::remove_dir_all(scratch).doing("remove", scratch)?;
    Ok(seconds)
}

fn paragraphs(inputs: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for document in Reader::new(find(inputs)?, ReadOptions::default()) {
        all.extend(document?.text.lines().map(str::to_owned));
    }
    Ok(all)
}

/// Seconds as Python saw them; `Err` says why there are none.
fn with_datasets(python: &str, tokenizer: &Tokenizer, lines: &[String], scratch: &Path) -> std::result::Result<f64, String> {
    tokenizer.save(scratch).map_err(|error| error.to_string())?;
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).arg(scratch).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{python}: {error}"))?;
    let mut input = child.stdin.take().expect("standard input is a pipe");
    // A script that ends early closes the pipe; its answer says why.
    let _ = input.write_all(lines.join("\n").as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let _ = std::fs::remove_dir_all(scratch);
    let answer = String::from_utf8_lossy(&output.stdout);
    answer.trim().parse().map_err(|_| format!("{python} has no `datasets` and `transformers`, or they failed"))
}
