//! `upstill plan`.

use std::path::PathBuf;

use serde_json::json;

use super::{DeviceArg, print_json};
use crate::config::{KEYS, RunFile, TRANSFER_KEYS, reference};
use crate::error::{Error, Result};
use crate::train::{plan_run, trial_speed};

#[derive(clap::Args)]
pub struct Args {
    /// The run file
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
    let mut file = RunFile::load(&path)?;
    args.set.iter().for_each(|assignment| file.set(assignment));
    args.device.write_over(&mut file);
    if file.is_transfer() {
        let plan = file.resolve_transfer()?;
        match args.json {
            true => print_json(&json!({"plan": plan})),
            false => println!("{}", plan.to_toml()),
        }
        return Ok(());
    }
    let (plan, shards) = plan_run(&file)?;
    let speed = match args.no_time {
        true => None,
        false => Some(trial_speed(&plan, &shards, &args.device.choose(&plan.runtime.device)?)?),
    };
    if args.json {
        let seconds = speed.map(|speed| plan.estimate().seconds(speed));
        print_json(&json!({"plan": plan, "hash": plan.hash(), "estimate": plan.estimate(), "expected_seconds": seconds}));
        return Ok(());
    }
    println!("{}", plan.describe(speed));
    Ok(())
}
