//! `upstill plan`.

use std::path::PathBuf;

use serde_json::json;

use super::print_json;
use crate::config::{RunFile, reference};
use crate::error::{Error, Result};
use crate::train::plan_run;

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
    /// Print the plan and the estimate on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.keys {
        println!("{}", reference());
        return Ok(());
    }
    let path = args.run_file.ok_or_else(|| Error::new("no run file is named"))?;
    let mut file = RunFile::load(&path)?;
    args.set.iter().for_each(|assignment| file.set(assignment));
    let (plan, _) = plan_run(&file)?;
    match args.json {
        true => print_json(&json!({"plan": plan, "hash": plan.hash(), "estimate": plan.estimate()})),
        false => println!("{}", plan.describe(None)),
    }
    Ok(())
}
