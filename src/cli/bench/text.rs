//! The benchmarks that start from text: `bench data`, `bench start`, `bench train`.

use std::path::PathBuf;

use crate::bench::{DataRow, TrainBenchSize, bench_data, bench_start, bench_train};
use crate::cli::{DeviceArg, print_json};
use crate::error::Result;
use crate::tokens::Tokenizer;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench data 'text/*.txt.zst' --tokenizer bert-base-uncased/vocab.txt
  upstill bench data book.txt --tokenizer data/text --python .venv/bin/python --json

`data build` reads, unpacks, splits, tokenises every sentence, and writes; the library has the text in memory and writes nothing.")]
pub struct Data {
    /// Files, folders or globs: .txt .jsonl .tsv .csv (also .gz, .zst) and .parquet
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// A folder with tokenizer.json or vocab.txt, or one of those files
    #[arg(long, value_name = "DIR|FILE")]
    tokenizer: PathBuf,
    /// Times that each way runs
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A Python that may have `datasets` and `transformers`
    #[arg(long, default_value = "python3", env = "UPSTILL_PYTHON")]
    python: String,
    /// Print the rows on standard output for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run_data(args: &Data) -> Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let note = |note| eprintln!("{note}");
    let rows = bench_data(&args.inputs, &tokenizer, args.rounds.max(1), &args.python, &scratch(), note)?;
    if args.json {
        print_json(&serde_json::json!({ "rows": rows }));
        return Ok(());
    }
    println!("{:<30} {:>8} {:>8}  against the library's batches", "way", "time", "MB/s");
    for DataRow { way, seconds, bytes_per_s, ratio, ratio_range: [low, high] } in rows {
        println!("{way:<30} {seconds:>6.1} s {:>8.2}  {ratio:.2} x ({low:.2} to {high:.2})", bytes_per_s / 1e6);
    }
    Ok(())
}

/// A folder that nothing else uses.
fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("upstill-bench-{}", std::process::id()))
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench start data/wiki")]
pub struct Start {
    /// A folder that `upstill data build` wrote
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Print the times on standard output for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run_start(args: &Start) -> Result<()> {
    let start = bench_start(&args.data)?;
    if args.json {
        print_json(&start);
        return Ok(());
    }
    println!("opening and checking {:.2} s, packing {} sentences {:.2} s", start.open_s, start.sentences, start.pack_s);
    for (step, ms) in start.batch_ms {
        println!("a batch from step {step} on: {ms:.2} ms");
    }
    Ok(())
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill bench train data/mine --python .venv/bin/python
  upstill bench train data/mine --layers 4 --hidden 256 --sentences 4000

Masked language modelling alone, from token ids to the last step: the data folder's first sentences, once. All ways have as many
tokens a step, the same rates and dropout, and are scored on the same held-out sentences.")]
pub struct Train {
    /// A folder that `upstill data build` wrote
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Encoder layers
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Width; heads are 64 wide
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    /// Sentences of the pass
    #[arg(long, default_value_t = 8000)]
    sentences: usize,
    /// Sentences a step, or packed rows with as many tokens
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Longest row in tokens
    #[arg(long, default_value_t = 128)]
    length: usize,
    /// Times that each way runs
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// A Python that may have `transformers` and `accelerate`
    #[arg(long, default_value = "python3", env = "UPSTILL_PYTHON")]
    python: String,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the rows on standard output for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run_train(args: &Train) -> Result<()> {
    let device = args.device.choose("auto")?;
    let Train { layers, hidden, sentences, batch, length, .. } = *args;
    let size = TrainBenchSize { layers, hidden, sentences: sentences.max(1), batch: batch.max(1), length };
    let note = |note| eprintln!("{note}");
    let rows = bench_train(&args.data, size, args.rounds.max(1), &device, &args.python, &scratch(), note)?;
    if args.json {
        print_json(&serde_json::json!({ "rows": rows }));
        return Ok(());
    }
    println!("{:<26} {:>6} {:>9} {:>9} {:>9}  faster than the Trainer", "way", "steps", "time", "tokens/s", "held out");
    for row in rows {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} x"));
        let line = format!(
            "{:<26} {:>6} {:>7.1} s {:>9.0} {:>9.3}  {ratio}",
            row.way, row.steps, row.seconds, row.tokens_per_s, row.held_out_loss
        );
        println!("{}", line.trim_end());
    }
    Ok(())
}
