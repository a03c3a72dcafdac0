//! `upstill data`: text to shards, and what shards hold.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};
use crate::text::ReadOptions;
use crate::tokens::{BuildOptions, Manifest, Progress, Shards, Tokenizer, Watch, build};

/// `upstill data ...`
#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Turn text into a data folder: sentences as tokens, in memory-mapped shards.
    Build(BuildArgs),
    /// Check a data folder and print what it holds and where it came from.
    Show(ShowArgs),
}

/// Where the text is within the files; shared with `upstill tokenizer train`.
#[derive(Args, Debug)]
pub struct ReadArgs {
    /// Files, folders or globs: .txt .jsonl .tsv .csv (also .gz, .zst) and .parquet
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// The field of .jsonl objects that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub field: String,
    /// The column of .tsv, .csv and .parquet files that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub column: String,
    /// Read on where bytes are not UTF-8, with U+FFFD in their place
    #[arg(long)]
    pub lossy: bool,
}

impl ReadArgs {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions { field: self.field.clone(), column: self.column.clone(), lossy: self.lossy }
    }
}

/// `upstill data build INPUT... --out DIR --tokenizer DIR|FILE`
#[derive(Args, Debug)]
pub struct BuildArgs {
    #[command(flatten)]
    read: ReadArgs,
    /// The data folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A folder with tokenizer.json or vocab.txt, or one of those files
    #[arg(long, value_name = "DIR|FILE")]
    tokenizer: PathBuf,
    /// Keep one sentence of every N consecutive ones, chosen uniformly; 1 keeps all
    #[arg(long, value_name = "N", default_value_t = 4)]
    keep_one_of: usize,
    /// Drop sentences with fewer tokens
    #[arg(long, value_name = "N", default_value_t = 5)]
    min_tokens: usize,
    /// Split sentences with more tokens; nothing is lost
    #[arg(long, value_name = "N", default_value_t = 510)]
    max_tokens: usize,
    /// The share of documents held out for evaluation, chosen by their content
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    held_out: f64,
    /// Take each line as one sentence
    #[arg(long)]
    lines: bool,
    /// Decides which sentences are kept
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// CPU threads; 0 for all. The result is the same
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Replace the data folder that --out names
    #[arg(long)]
    force: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// `upstill data show DIR`
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The data folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Print the manifest as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `upstill data build`.
///
/// # Errors
/// As [`build`] says.
pub fn run(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Build(args) => run_build(args),
        DataCommand::Show(args) => run_show(args),
    }
}

fn run_build(args: &BuildArgs) -> Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let options = BuildOptions {
        keep_one_of: args.keep_one_of,
        min_tokens: args.min_tokens,
        max_tokens: args.max_tokens,
        held_out: args.held_out,
        lines: args.lines,
        seed: args.seed,
        read: args.read.options(),
        ..BuildOptions::default()
    };
    let stop = stop_on_interrupt();
    let bar = bytes_bar(args.json);
    let progress = |progress: Progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.bytes);
        let per_second = progress.sentences as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{per_second:.0} sentences/s"));
    };
    let watch = Watch { threads: args.threads, stop: &stop, progress: &progress };
    let built = build(&args.read.inputs, &args.out, args.force, &tokenizer, &options, &watch);
    bar.finish_and_clear();
    let manifest = built?;
    if manifest.held_out.sentences == 0 {
        eprintln!("note: nothing is held out: {} documents are few for a share of {}", manifest.counts.documents, args.held_out);
    }
    print(&manifest, args.json)
}

/// Runs `upstill data show`: the data is checked, then described.
///
/// # Errors
/// As [`Shards::open`] says.
fn run_show(args: &ShowArgs) -> Result<()> {
    Shards::open(&args.folder)?;
    print(&Manifest::read(&args.folder)?, args.json)
}

fn print(manifest: &Manifest, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(manifest).map_err(|error| Error::new(error.to_string()))?);
    } else {
        println!("{manifest}");
    }
    Ok(())
}

/// A bar of bytes read, with rate and time left; silent with `json` or when standard error is no terminal.
pub(super) fn bytes_bar(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {msg}, {eta} left";
    ProgressBar::new(0).with_style(ProgressStyle::with_template(template).expect("the template is well formed"))
}

/// A flag that Ctrl-C sets, for the work to end cleanly.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // A handler that is already set belongs to whoever called us, who then decides what Ctrl-C does.
    let _ = ctrlc::try_set_handler(move || flag.store(true, Ordering::Relaxed));
    stop
}
