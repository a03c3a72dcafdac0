//! `upstill data`: text to shards, and what shards hold.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{new_folder, print_json};
use crate::batch::{BatchOptions, Batches, Masking, Objective, Split};
use crate::config::{Rows, RunFile};
use crate::error::{Error, Result};
use crate::log::Reading;
use crate::text::{LONGEST_LINE, ReadOptions};
use crate::tokens::{BuildOptions, HeldOutBy, Manifest, Progress, Tokenizer, Watch, build, percent};
use crate::train::{dump_asked, interrupted, open_shards, plan_run};

#[derive(clap::Subcommand)]
pub enum DataCommand {
    /// Turn text into a data folder: sentences as tokens, in memory-mapped shards
    Build(Build),
    /// Check a data folder, say what it holds and where it came from, and draw a masked batch of it
    Show(Show),
    /// Write what a run asks of its teacher, for a teacher that is another program
    Dump(Dump),
}

pub fn run(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Build(args) => run_build(args),
        DataCommand::Show(args) => run_show(args),
        DataCommand::Dump(args) => run_dump(args),
    }
}

/// Where the text is: the same for `upstill tokenizer train`.
#[derive(clap::Args)]
pub struct ReadArgs {
    /// Files, folders or globs: .txt .jsonl .json .tsv .csv (also .gz, .bz2, .xz, .zst) and .parquet
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
    /// The longest line of JSON or row of a table that is read, in MiB; of Parquet, a quarter of the longest page
    #[arg(long, value_name = "MB", default_value_t = LONGEST_LINE as u64 >> 20, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub longest_line: u64,
}

impl ReadArgs {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            field: self.field.clone(),
            column: self.column.clone(),
            lossy: self.lossy,
            each_line: false,
            longest_line: longest_line(self.longest_line),
        }
    }
}

/// `--longest-line` in bytes.
pub(super) fn longest_line(mebibytes: u64) -> usize {
    usize::try_from(mebibytes << 20).unwrap_or(usize::MAX)
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill data build 'text/*.txt.zst' --tokenizer bert-base-uncased/vocab.txt --out data/text
  upstill data build reviews.jsonl.gz --field body --keep-one-of 1 --tokenizer data/text --out data/reviews")]
pub struct Build {
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
    /// The share of documents held out for evaluation, chosen by their content; 1 for data that is only scored
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    held_out: f64,
    /// Take each line as one sentence, as run_mlm's --line_by_line does
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

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill data show data/wiki
  upstill data show pocket --packed --batch 100 --rows 8")]
pub struct Show {
    /// The data folder, or pocket for the embedded language
    #[arg(value_name = "DIR")]
    folder: String,
    /// Rows of a masked batch to draw
    #[arg(long, value_name = "N", default_value_t = 4)]
    rows: usize,
    /// Which batch of 32 rows
    #[arg(long, value_name = "STEP", default_value_t = 0)]
    batch: u64,
    /// Tokens in a row
    #[arg(long, value_name = "N", default_value_t = 64)]
    length: usize,
    /// Several sentences in a row
    #[arg(long)]
    packed: bool,
    /// Decides order and masks
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Writes asked.json and a safetensors file for each block of rows: input_ids, segments (0 at padding) and positions [rows, s],
slots and labels [rows, m], used [rows], all i32. Whoever answers writes a cache, as examples/teacher_in_transformers.py does
with any model of `transformers` over the same vocabulary.

Examples:
  upstill data dump student.toml --out asked
  python examples/teacher_in_transformers.py bert-base-uncased asked answers --top-k 12
  upstill train student.toml --set teacher.from=answers")]
pub struct Dump {
    /// The run file; whom it names as its teacher plays no part
    run_file: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// These steps' batches, counted from 0, the last left out; the whole run's unless given
    #[arg(long, value_name = "A..B", value_parser = super::teach::steps)]
    steps: Option<Range<u64>>,
    /// Override a key of the run file, as in seed=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn run_dump(args: &Dump) -> Result<()> {
    let mut file = RunFile::load(&args.run_file)?;
    args.set.iter().for_each(|assignment| file.set(assignment));
    if file.is_transfer() {
        return Err(Error::new("a transfer run has texts, not masked rows").help("name the run file of a language model"));
    }
    // What is asked does not depend on who answers, who need not be here.
    if file.wanted().teacher.is_some() {
        file.set("teacher.from=uniform");
    }
    let (plan, shards) = plan_run(&file)?;
    let target = new_folder(&args.out)?;
    let steps = args.steps.clone().unwrap_or(0..plan.train.steps);
    let mut blocks = 0;
    target.write(|folder| {
        blocks = dump_asked(&plan, &shards, steps, folder, &interrupted)?;
        Ok(())
    })?;
    println!("{}: asked.json and {blocks} blocks of rows", args.out.display());
    Ok(())
}

fn run_build(args: &Build) -> Result<()> {
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
    let manifest = build_shown(&args.read.inputs, &args.out, args.force, &tokenizer, &options, args.threads, args.json)?;
    print(&manifest, args.json);
    Ok(())
}

/// [`build`] with a bar of how far it is, unless `quiet`, and what to know about its outcome.
pub(super) fn build_shown(
    inputs: &[String],
    out: &Path,
    force: bool,
    tokenizer: &Tokenizer,
    options: &BuildOptions,
    threads: usize,
    quiet: bool,
) -> Result<Manifest> {
    let (reading, started) = (Reading::new(quiet), Instant::now());
    let progress = |progress: Progress| {
        let per_second = progress.sentences as f64 / started.elapsed().as_secs_f64().max(1e-3);
        reading.show(progress.bytes, progress.total_bytes, &format!("{per_second:.0} sentences/s"));
    };
    let watch = Watch { threads, stop: &interrupted, progress: &progress };
    let built = build(inputs, out, force, tokenizer, options, &watch);
    reading.finish();
    let manifest = built?;
    say_what_to_know(&manifest);
    Ok(manifest)
}

/// More `[UNK]` than this, and a vocabulary does not fit its text.
const MOST_UNKNOWN: f64 = 0.01;

fn say_what_to_know(manifest: &Manifest) {
    let (documents, share) = (manifest.counts.documents, manifest.options.held_out);
    let documents = if documents == 1 { "1 document is little".to_owned() } else { format!("{documents} documents are few") };
    match manifest.held_out_by {
        HeldOutBy::Sentence => eprintln!(
            "note: {documents} for a share of {share}, so sentences are held out one by one; put empty lines between \
             documents to hold out whole ones"
        ),
        HeldOutBy::Document if share > 0.0 && manifest.held_out.sentences == 0 => {
            eprintln!(
                "note: nothing is held out: {documents} for a share of {share}, and so are its sentences; --held-out takes a larger one"
            );
        }
        HeldOutBy::Document => {}
    }
    if manifest.train.sentences == 0 {
        eprintln!("note: all is held out: this data can be scored, not trained on");
    }
    if let Some(unknown) = manifest.unknown_share().filter(|share| *share > MOST_UNKNOWN) {
        eprintln!(
            "warning: {} of the tokens are [UNK], words that the vocabulary can't spell: a model learns nothing from them. Take a vocabulary \
             that fits the text: `upstill tokenizer train INPUT... --out DIR` (--alphabet, --keep-accents, --cased), or a multilingual one",
            percent(unknown)
        );
    }
}

fn run_show(args: &Show) -> Result<()> {
    let shards = open_shards(&args.folder)?;
    if args.folder != "pocket" {
        print(&Manifest::read(Path::new(&args.folder))?, args.json);
    }
    if args.json {
        return Ok(());
    }
    let layout = if args.packed { Rows::Packed } else { Rows::Sentence };
    // What a vocabulary without a mask is for.
    let has_mask = shards.tokenizer().special().mask.is_some();
    let objective = if has_mask { Masking::default().into() } else { Objective::Causal };
    let options = BatchOptions { layout, length: args.length, batch: 32, seed: args.seed, objective };
    let split = if shards.train().is_empty() { Split::HeldOut } else { Split::Train };
    let batches = Batches::new(&shards, split, options)?;
    println!("\n{}", batches.at(args.batch).show(shards.tokenizer(), args.rows));
    Ok(())
}

fn print(manifest: &Manifest, json: bool) {
    if json {
        print_json(manifest);
    } else {
        println!("{manifest}");
    }
}
