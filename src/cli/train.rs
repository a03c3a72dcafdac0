//! `upstill train`.

use std::path::PathBuf;

use super::{DeviceArg, print_json};
use crate::config::RunFile;
use crate::error::Result;
use crate::log::Console;
use crate::train::{RunOptions, plan_run, train_run};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill train run.toml --out runs/first
  upstill train run.toml --out runs/first --resume
  upstill train run.toml --out runs/hot --set distill.temperature=4 --set train.steps=2000")]
pub struct Args {
    /// The run file
    run_file: PathBuf,
    /// The run directory; runs/NAME of the run file unless given
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run that is in the directory
    #[arg(long)]
    resume: bool,
    /// Override a key of the run file, as in distill.temperature=4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print summary.json on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let mut file = RunFile::load(&args.run_file)?;
    args.set.iter().for_each(|assignment| file.set(assignment));
    let (plan, shards) = plan_run(&file)?;
    let name = args.run_file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&name));
    let device = args.device.choose(&plan.runtime.device)?;
    eprintln!("{}", plan.describe(None));
    let console = Console::stderr();
    let summary = train_run(
        &plan,
        &shards,
        &RunOptions { dir: &dir, resume: args.resume, name: &name, console: &console, device: &device },
    )?;
    if args.json {
        print_json(&summary);
    }
    Ok(())
}
