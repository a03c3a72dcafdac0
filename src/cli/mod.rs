//! The command: words and exit codes, no maths.

mod bench;
mod data;
mod doctor;
mod eval;
#[cfg(test)]
mod examples;
mod export;
mod fill;
mod finetune;
mod generate;
mod import;
mod init;
mod logits;
mod plan;
mod report;
mod shell;
mod snapshot;
mod study;
mod study_args;
mod study_transfer;
mod teach;
mod tokenizer;
mod train;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::config::RunFile;
use crate::device::{Device, DeviceKind, Kernels, kernels_to_come};
use crate::error::{Error, Result};
use crate::files::{Target, is_free};
use crate::train::{catch_interrupts, saving};

/// Train a larger language model with the help of a smaller, weaker one.
#[derive(Parser)]
#[command(name = "upstill", version, about, after_help = AFTER, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// The three ways in, as lines of an overview.
macro_rules! ways_in {
    () => {
        "\
Start from nothing:
  upstill study --size tiny          a weak teacher, students, a report: seconds, nothing to download
  upstill study                      with seeds enough for a first answer: minutes

From text of your own, a folder with .txt, .jsonl, .csv or .parquet files:
  upstill init dwt articles/         reads it into token shards, and writes teacher.toml and student.toml
  upstill train teacher.toml
  upstill train student.toml

From a model that is there, a Hugging Face folder of the BERT family:
  upstill fill bert-base-uncased/ 'Paris is the [MASK] of France.'
  upstill eval bert-base-uncased/ --pairs blimp/
  upstill finetune bert-base-uncased/ --task cola --data glue/"
    };
}

const WAYS_IN: &str = concat!(
    "upstill trains a larger language model with the help of a smaller, weaker one.\n\n",
    ways_in!(),
    "\n\n`upstill --help` lists every command, `upstill COMMAND --help` its options, with examples."
);

const AFTER: &str =
    concat!(ways_in!(), "\n\nExit codes: 0 done, 1 a check failed, 2 could not run, 130 interrupted (after saving).");

#[derive(Subcommand)]
enum Command {
    /// Compare a stand-alone student with students of weak teachers: a grid of runs, a table, a report
    Study(study::Args),
    /// Write a commented run file, or a study's, for text or token shards of your own
    Init(init::Args),
    /// Train what a run file says
    Train(train::Args),
    /// Ask a run's teacher about its batches once, and keep the answers for any number of runs
    Teach(teach::Args),
    /// Say what a run file comes to: parameters, memory, FLOPs, expected time. Trains nothing
    Plan(plan::Args),
    /// Hold the first steps of a run against a committed file: losses, gradient norms, weights
    Snapshot(snapshot::Args),
    /// Score a model on held-out text
    Eval(eval::Args),
    /// Show the likeliest words for [MASK], of several models side by side
    Fill(fill::Args),
    /// Have a causal model go on with a text
    Generate(generate::Args),
    /// Fine-tune a model on a labelled task and score it
    Finetune(finetune::Args),
    /// Say what a Hugging Face folder holds, and write it anew as `transformers` has it today
    Import(import::Args),
    /// Write a model for `transformers`, with a model card
    Export(export::Args),
    /// Write a model's logits for sentences, for anyone to compare with
    Logits(logits::Args),
    /// Build or show token shards
    #[command(
        subcommand,
        after_help = "\
Examples:
  upstill data build 'text/*.txt.zst' --tokenizer bert-base-uncased/ --out data/text
  upstill data show data/text"
    )]
    Data(data::DataCommand),
    /// Train or show a WordPiece vocabulary
    #[command(
        subcommand,
        after_help = "\
Examples:
  upstill tokenizer train text/ --vocab 8192 --out data/vocabulary
  upstill tokenizer show data/vocabulary 'Paris is the [MASK] of France.'"
    )]
    Tokenizer(tokenizer::TokenizerCommand),
    /// Draw runs and studies in one HTML file
    Report(report::Args),
    /// Measure the parts, in each form, beside PyTorch
    #[command(
        subcommand,
        after_help = "\
Examples:
  upstill bench step
  upstill bench agree --device wgpu"
    )]
    Bench(bench::BenchCommand),
    /// Say what this machine has, and test it
    Doctor(doctor::Args),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions(shell::CompletionsArgs),
    /// Write man pages
    #[command(hide = true)]
    Man(shell::ManArgs),
}

impl Command {
    fn has_something_to_save(&self) -> bool {
        let builds = matches!(self, Command::Data(data::DataCommand::Build(_) | data::DataCommand::Dump(_)));
        builds
            || matches!(self, Command::Study(_) | Command::Init(_) | Command::Train(_) | Command::Teach(_) | Command::Finetune(_))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Some(command) = Cli::parse().command else {
        println!("{WAYS_IN}");
        return ExitCode::SUCCESS;
    };
    catch_interrupts();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let word = if error.is_interrupted() { "stopped" } else { "error" };
            eprintln!("{word}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    Kernels::asked()?; // a mistake in the environment is told before any work
    // What these have reached is saved, or taken away, before they end; the others end at once.
    let _saving = command.has_something_to_save().then(saving);
    match command {
        Command::Study(args) => study::run(args),
        Command::Init(args) => init::run(args),
        Command::Train(args) => train::run(args),
        Command::Teach(args) => teach::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Fill(args) => fill::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Finetune(args) => finetune::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Data(command) => data::run(&command),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Report(args) => report::run(args),
        Command::Bench(command) => bench::run(&command),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => {
            shell::completions(&args);
            Ok(())
        }
        Command::Man(args) => shell::man(&args),
    }
}

/// `--device`, the same everywhere.
#[derive(clap::Args)]
struct DeviceArg {
    /// auto, cpu, cuda, cuda:N, wgpu, wgpu:N or wgpu:software
    #[arg(long, env = "UPSTILL_DEVICE")]
    device: Option<String>,
}

impl DeviceArg {
    /// What is asked for; an empty `UPSTILL_DEVICE` asks for nothing.
    fn asked(&self) -> Option<&str> {
        self.device.as_deref().filter(|device| !device.is_empty())
    }

    /// A run file with `key=value` assignments written over it, and the device, so that its plan is made for that one.
    fn run_file(&self, path: &Path, set: &[String]) -> Result<RunFile> {
        let mut file = RunFile::load(path)?;
        set.iter().for_each(|assignment| file.set(assignment));
        if let Some(device) = self.asked() {
            file.set(&format!("runtime.device={device}"));
        }
        Ok(file)
    }

    /// The device asked for here, else `otherwise`; said on standard error.
    fn choose(&self, otherwise: &str) -> Result<Device> {
        let to_come = kernels_to_come();
        let device = Device::choose(self.asked().unwrap_or(otherwise))?;
        eprintln!("device: {device}");
        if let (DeviceKind::Cuda, Some(folder)) = (device.kind, to_come) {
            eprintln!(
                "note: the first steps compile and tune this GPU's kernels, for some minutes; they are kept in {}",
                folder.display()
            );
        }
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if device.kind == DeviceKind::Cuda && !["HOME", "XDG_CACHE_HOME", "UPSTILL_KERNEL_CACHE"].into_iter().any(is_set) {
            eprintln!(
                "note: there is no HOME, so what is compiled and tuned for this GPU is not kept; UPSTILL_KERNEL_CACHE=DIR keeps it"
            );
        }
        Ok(device)
    }
}

/// A folder that is not there yet, so that nothing is overwritten; taken before the work.
fn new_folder(path: &Path) -> Result<Target<'static>> {
    Target::take(path, &|path| match is_free(path)? {
        true => Ok(()),
        false => Err(Error::new("the folder to write is there already, and holds something")
            .at(path.display())
            .help("name another, or remove it first")),
    })
}

/// Prints a result for machines on standard output.
fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("a result in memory can be written"));
}
