//! One pass over real sentences, from the first step to the held-out loss: packed rows, sentence rows, and
//! `transformers`' Trainer with a sentence a row, as its `run_mlm.py --line_by_line` has them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::median;
use crate::batch::{BatchOptions, Batches, Masking, Split};
use crate::config::{Rows, RunFile};
use crate::device::{Compute, Device, DeviceKind, wait};
use crate::error::Result;
use crate::files::write_text;
use crate::methods::{LmData, Method, standalone};
use crate::model::BertShape;
use crate::tokens::{Sentences, Shards, Tokenizer};
use crate::train::{FitOptions, Flow, Learner, fit, plan_on};

const SCRIPT: &str = include_str!("trainer.py");

/// What is trained, and on how much.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TrainBenchSize {
    /// Encoder layers.
    pub layers: usize,
    /// Width; heads are 64 wide.
    pub hidden: usize,
    /// Sentences of the pass.
    pub sentences: usize,
    /// Sentences a step, or packed rows that hold as many tokens.
    pub batch: usize,
    /// Longest row in tokens.
    pub length: usize,
}

/// One way to train on them.
#[derive(Debug, Clone, Serialize)]
pub struct TrainRow {
    /// Whose, and what a row is.
    pub way: &'static str,
    /// Optimizer steps of the pass.
    pub steps: u64,
    /// Median over the rounds of the whole pass, from token ids to the last step.
    pub seconds: f64,
    /// Real tokens a second, padding not counted.
    pub tokens_per_s: f64,
    /// Nats a masked token, on the same held-out sentences, after the last round.
    pub held_out_loss: f64,
    /// The Trainer's seconds over these.
    pub ratio: Option<f64>,
}

/// Held-out sentences that every way is scored on.
const HELD_OUT: usize = 512;
const PEAK_LR: f64 = 1e-3;
const WAYS: [(&str, Rows); 2] = [("upstill, packed rows", Rows::Packed), ("upstill, a sentence a row", Rows::Sentence)];
const TRAINER: &str = "transformers' Trainer";

/// Each way in turn, `rounds` times. `scratch` is a folder that need not exist, and does not afterwards; `note` is told
/// what is not there.
///
/// # Errors
/// When the data can't be opened or is empty, a size is impossible, or a step isn't finite.
pub fn bench_train(
    data: &Path,
    size: TrainBenchSize,
    rounds: usize,
    device: &Device,
    python: &str,
    scratch: &Path,
    mut note: impl FnMut(String),
) -> Result<Vec<TrainRow>> {
    let shards = Shards::open(data)?;
    let longest = size.length.saturating_sub(2);
    let (train, held_out) = (first(shards.train(), size.sentences, longest), first(shards.held_out(), HELD_OUT, longest));
    let tokens: usize = train.iter().map(|ids| ids.len() + 2).sum();
    let on_gpu = device.kind == DeviceKind::Cuda;
    let request = Request { size: &size, on_gpu, vocab: shards.tokenizer().vocab_size(), train: &train, held_out: &held_out };
    let request = serde_json::to_string(&request).expect("numbers can be written");
    let few = Shards::from_sentences(shards.tokenizer().clone(), train, held_out);
    let mut passes: Vec<(&'static str, Vec<Pass>)> = WAYS.iter().map(|(way, _)| (*way, Vec::new())).collect();
    let mut theirs = Vec::new();
    let mut python = Some(python);
    for _ in 0..rounds {
        for ((_, layout), (_, all)) in WAYS.iter().zip(&mut passes) {
            all.push(pass(&few, size, *layout, device)?);
        }
        match python.map(|python| with_trainer(python, &request, shards.tokenizer(), scratch)) {
            Some(Ok(pass)) => theirs.push(pass),
            Some(Err(why)) => {
                note(format!("NOTE: no Trainer to compare with: {why}"));
                python = None;
            }
            None => {}
        }
    }
    passes.extend((!theirs.is_empty()).then_some((TRAINER, theirs)));
    let seconds_of = |all: &[Pass]| median(all.iter().map(|pass| pass.seconds).collect());
    let peer = passes.iter().find(|(way, _)| *way == TRAINER).map(|(_, all)| seconds_of(all));
    let row = |(way, all): (&'static str, Vec<Pass>)| {
        let (seconds, last) = (seconds_of(&all), all.last().expect("a round at least"));
        TrainRow {
            way,
            steps: last.steps,
            seconds,
            tokens_per_s: tokens as f64 / seconds,
            held_out_loss: last.held_out_loss,
            ratio: peer.map(|peer| peer / seconds),
        }
    };
    Ok(passes.into_iter().map(row).collect())
}

/// What a pass took and came to.
#[derive(Debug, Clone, Deserialize)]
struct Pass {
    steps: u64,
    seconds: f64,
    held_out_loss: f64,
}

/// What the Trainer is told.
#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    size: &'a TrainBenchSize,
    on_gpu: bool,
    vocab: usize,
    train: &'a [Vec<u32>],
    held_out: &'a [Vec<u32>],
}

/// The first sentences, cut to fit a row.
fn first(sentences: &Sentences, most: usize, longest: usize) -> Vec<Vec<u32>> {
    let mut ids = Vec::new();
    let mut one = |i| {
        sentences.read(i, &mut ids);
        ids[..ids.len().min(longest)].to_vec()
    };
    (0..sentences.len().min(most)).map(&mut one).collect()
}

/// One pass over the train split, with as many tokens a step whatever a row is.
fn pass(shards: &Shards, size: TrainBenchSize, layout: Rows, device: &Device) -> Result<Pass> {
    let rows = |batch| BatchOptions { layout, length: size.length, batch, seed: 1, objective: Masking::default().into() };
    let tokens_a_sentence = shards.train().tokens() as f64 / shards.train().len().max(1) as f64 + 2.0;
    let tokens_a_row = Batches::new(shards, Split::Train, rows(1))?.tokens_per_row();
    let batch = ((size.batch as f64 * tokens_a_sentence / tokens_a_row).round() as usize).max(1);
    let train = Batches::new(shards, Split::Train, rows(batch))?;
    let steps = train.steps_per_epoch() as u64;
    // The loop evaluates after its last step; the time of the pass ends one step before.
    let text = format!(
        "preset = \"standalone\"\n[data]\nshards = \"in memory\"\n[train]\nsteps = {0}\nbatch = {batch}\n\
         lr = \"0 -> {PEAK_LR:?} over 5%, then -> 0 linear\"\nevaluate_every = {1}\ncheckpoint_every = {1}",
        steps + 1,
        2 * steps
    );
    let file = RunFile::parse(&text, "the benchmark")?;
    let plan = plan_on(&file, shards)?;
    let data = LmData {
        train,
        held_out: Batches::new(shards, Split::HeldOut, rows(batch))?,
        evaluate_rows: usize::MAX,
        compute: Compute::of(&device.handle),
    };
    let method = standalone(data, plan.distill.clone(), steps + 1);
    let shape = BertShape::new(shards.tokenizer().vocab_size(), size.hidden, size.layers, (size.hidden / 64).max(1), size.length);
    let model = shape.init(1, 0.02, &device.handle.clone().autodiff());
    let learner = Learner::new(model, &plan.train, 0.1, 1);
    let options = FitOptions { train: &plan.train, micro_batch: batch, done: 0, evaluated: None, worker: None };
    let clock = Instant::now();
    let trained = fit(&method, vec![learner], &options, |record, _| {
        Ok(if record.step + 1 == steps { Flow::Stop } else { Flow::Continue })
    })?;
    let seconds = clock.elapsed().as_secs_f64();
    Ok(Pass { steps, seconds, held_out_loss: wait(method.held_out(&[&trained[0].model]))?.losses[0] })
}

/// A pass as Python saw it; `Err` says why there is none.
fn with_trainer(python: &str, request: &str, tokenizer: &Tokenizer, scratch: &Path) -> std::result::Result<Pass, String> {
    let written = tokenizer.save(scratch).and_then(|()| write_text(&scratch.join("request.json"), request));
    written.map_err(|error| error.to_string())?;
    let output = Command::new(python).args(["-c", SCRIPT]).arg(scratch).stderr(Stdio::null()).output();
    let _ = std::fs::remove_dir_all(scratch);
    let answer = output.map_err(|error| format!("{python}: {error}"))?;
    let last = String::from_utf8_lossy(&answer.stdout).lines().last().unwrap_or_default().to_owned();
    serde_json::from_str(&last).map_err(|_| format!("{python} has no `transformers` with `accelerate`, or they failed"))
}
