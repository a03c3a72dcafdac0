//! `upstill teach`.

use std::ops::Range;
use std::path::PathBuf;

use super::{DeviceArg, print_json};
use crate::config::AnswersKind;
use crate::error::{Error, Result};
use crate::log::Console;
use crate::train::{Asking, Taught, TeachOptions, interrupted, plan_run};
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
Runs that ask the same (shards, masking, seed) then train without the teacher: write teacher.from = \"CACHE\". Batch size,
micro-batch and number of workers may differ, and so may every weight and rate; the temperature may not.
Any number of processes may work on one cache at the same time, and the same command goes on with one that was stopped.

Examples:
  upstill teach student.toml --out answers/seed-1 --top-k 12
  upstill train student.toml --set teacher.from=answers/seed-1
  upstill teach student.toml --out drawn/seed-1 --draws 50
  upstill teach student.toml --out answers/seed-1 --top-k 12 --steps 5000..8000")]
pub struct Args {
    /// The run file; its teacher.from names the teacher itself
    run_file: PathBuf,
    /// The cache's folder; what it has already is kept
    #[arg(long, value_name = "CACHE")]
    out: PathBuf,
    /// Keep the K likeliest tokens, and the mass of all others as one more outcome; 12 unless --draws is given
    #[arg(long, value_name = "K", conflicts_with = "draws")]
    top_k: Option<usize>,
    /// Keep how often tokens were drawn, in N draws with replacement: right on average whatever N
    #[arg(long, value_name = "N")]
    draws: Option<usize>,
    /// Ask about these steps' batches, counted from 0, the last left out; unless given about those with a soft loss
    #[arg(long, value_name = "A..B", value_parser = steps)]
    steps: Option<Range<u64>>,
    /// Override a key of the run file, as in seed=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print what came of it as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Tokens that are kept unless somebody says how many.
const TOP_K: usize = 12;

/// `A..B`.
pub(super) fn steps(text: &str) -> std::result::Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is no range of steps: write A..B, such as 0..1000, with A below B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.trim().parse::<u64>().map_err(|_| wrong())?, to.trim().parse::<u64>().map_err(|_| wrong())?);
    if from < to && to < 1 << 40 { Ok(from..to) } else { Err(wrong()) }
}

pub fn run(args: Args) -> Result<()> {
    let file = args.device.run_file(&args.run_file, &args.set)?;
    if file.is_transfer() {
        return Err(Error::new("a transfer run keeps its teacher's outputs by itself").help("upstill train RUN.toml"));
    }
    let (plan, shards) = plan_run(&file)?;
    let device = args.device.choose(&plan.runtime.device)?;
    let (kind, count) = match (args.top_k, args.draws) {
        (_, Some(draws)) => (AnswersKind::Draws, draws),
        (top_k, None) => (AnswersKind::TopK, top_k.unwrap_or(TOP_K)),
    };
    let console = Console::stderr();
    let options = TeachOptions {
        out: &args.out,
        kind,
        count,
        steps: args.steps.clone(),
        console: &console,
        device: &device,
        stop: &interrupted,
    };
    let asking = Asking::new(&plan, &shards, &options)?;
    let token = plan.objective().token();
    let expected = asking.expects();
    let most = if kind == AnswersKind::Draws { "at most " } else { "" };
    let total = expected.bytes_a_slot * expected.slots as f64;
    eprintln!(
        "{}: {} rows, about {} {token}s, {most}{:.0} bytes each: {most}{}",
        args.out.display(),
        expected.rows,
        expected.slots,
        expected.bytes_a_slot,
        size(total)
    );
    let taught = asking.run()?;
    let Taught { found, made, mended, slots, bytes } = taught;
    if args.json {
        print_json(&json!({
            "cache": args.out.display().to_string(), "rows": expected.rows, "blocks_found": found, "blocks_made": made,
            "blocks_mended": mended, "masked_tokens": slots, "bytes": bytes,
        }));
        return Ok(());
    }
    let each = if slots == 0 { String::new() } else { format!(", {:.1} bytes a {token}", bytes as f64 / slots as f64) };
    println!("{}: {made} blocks made ({}{each}), {found} were there", args.out.display(), size(bytes as f64));
    println!("next:\n  upstill train {} --set teacher.from={}", args.run_file.display(), args.out.display());
    Ok(())
}

/// `12.3 MB`.
fn size(bytes: f64) -> String {
    let (value, unit) = match bytes {
        b if b < 1e6 => (b / 1e3, "kB"),
        b if b < 1e9 => (b / 1e6, "MB"),
        b => (b / 1e9, "GB"),
    };
    format!("{value:.1} {unit}")
}
