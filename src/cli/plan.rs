//! `upstill plan`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{DeviceArg, print_json};
use crate::config::{KEYS, Plan, RunFile, TRANSFER_KEYS, reference};
use crate::error::{Error, Result};
use crate::study::{StudySpec, plan_study};
use crate::train::{open_shards, plan_run, trial_speed};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill plan run.toml
  upstill plan run.toml --no-time --set model.layers=12
  upstill plan study.toml                  what each run of a study comes to
  upstill plan --keys                      every key of a run file: its type, default and meaning")]
pub struct Args {
    /// The run file, or a study's
    #[arg(required_unless_present = "keys")]
    run_file: Option<PathBuf>,
    /// Override a key of the run file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// List every key of a run file with its meaning and default
    #[arg(long)]
    keys: bool,
    /// Leave out the expected time, which takes one part of one batch to measure
    #[arg(long)]
    no_time: bool,
    /// Also say what a step would take among up to so many processes, from the speed that is measured here
    #[arg(long, value_name = "N", conflicts_with = "no_time", value_parser = clap::value_parser!(u64).range(2..))]
    ranks: Option<u64>,
    /// With --ranks: what a process sends while it receives as much, in GB/s
    #[arg(long, value_name = "GB/s", default_value_t = 1.0, requires = "ranks")]
    link: f64,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the plan and the estimate on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.keys {
        println!("{}", reference(KEYS));
        println!("\n# With method = \"transfer\" the keys are these:\n{}", reference(TRANSFER_KEYS));
        return Ok(());
    }
    let path = args.run_file.ok_or_else(|| Error::new("no run file is named"))?;
    if is_study(&path) {
        return study(&path, args.json);
    }
    let file = args.device.run_file(&path, &args.set)?;
    if file.is_transfer() {
        let plan = file.resolve_transfer()?;
        match args.json {
            true => print_json(&json!({"plan": plan})),
            false => println!("{}", plan.to_toml()),
        }
        return Ok(());
    }
    if !(args.link.is_finite() && args.link > 0.0) {
        return Err(Error::new(format!("--link is {}", args.link)).help("give GB/s above 0, as in 12.5 for 100 Gb/s"));
    }
    let (plan, shards) = plan_run(&file)?;
    let speed = match args.no_time {
        true => None,
        false => Some(trial_speed(&plan, &shards, &args.device.choose(&plan.runtime.device)?)?),
    };
    let scaled = args.ranks.and_then(|ranks| Some((usize::try_from(ranks).unwrap_or(usize::MAX), speed?)));
    if args.json {
        let seconds = speed.map(|speed| plan.estimate().seconds(speed));
        let ranks = scaled.map(|(ranks, speed)| plan.scaled_to(ranks, speed, 1e9 * args.link));
        let estimate = plan.estimate();
        print_json(&json!({
            "plan": plan, "hash": plan.hash(), "estimate": estimate, "expected_seconds": seconds,
            "sum_bytes": plan.sum_bytes(), "ranks": ranks,
        }));
        return Ok(());
    }
    println!("{}", plan.describe(speed));
    if let Some((ranks, speed)) = scaled {
        println!("{}", plan.describe_ranks(ranks, speed, 1e9 * args.link));
    }
    Ok(())
}

/// Whether a file is a study's: it has a base run file and arms.
fn is_study(path: &Path) -> bool {
    let table = std::fs::read_to_string(path).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| table.contains_key("base") && table.contains_key("arms"))
}

/// What each run of a study comes to.
fn study(path: &Path, as_json: bool) -> Result<()> {
    let spec = StudySpec::load(path)?;
    let base = RunFile::parse(&spec.base, "the study's base")?.wanted();
    let shards = open_shards(&base.shards.unwrap_or_default())?;
    let runs = plan_study(&spec, &shards, Path::new("runs"))?;
    if as_json {
        let one = |(name, plan): &(String, Plan)| json!({"run": name, "hash": plan.hash(), "plan": plan});
        print_json(&runs.iter().map(one).collect::<Vec<_>>());
        return Ok(());
    }
    let widest = runs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, plan) in &runs {
        let estimate = plan.estimate();
        let (steps, flops) = (plan.train.steps, estimate.computed.total() * plan.train.steps as f64);
        let parameters = estimate.student.total as f64 / 1e6;
        println!("{name:<widest$}  {steps:>8} steps  {parameters:>8.2} M parameters  {flops:>8.1e} FLOPs");
    }
    println!("{} runs; `upstill study {}` trains them, and repeats none that is done", runs.len(), path.display());
    Ok(())
}
