//! `upstill report`.

use std::path::PathBuf;

use super::print_json;
use crate::error::Result;
use crate::study::report::{terminal_table, write_report};
use crate::study::results::Arm;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill report runs/alone runs/distilled
  upstill report studies/pocket --out paper.html --json")]
pub struct Args {
    /// Run directories, studies' folders, or folders with runs below them
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The file to write: one HTML file that needs no other
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Print the arms on standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: the shape of `study --json`, the arms of all that was given together.
#[derive(serde::Serialize)]
struct Json {
    arms: Vec<Arm>,
    report: String,
}

pub fn run(args: Args) -> Result<()> {
    let materials = write_report(&args.dirs, &args.out)?;
    for material in &materials {
        eprintln!("{}", terminal_table(&material.study));
    }
    eprintln!("report: {}", args.out.display());
    if args.json {
        let arms = materials.into_iter().flat_map(|material| material.study.arms).collect();
        print_json(&Json { arms, report: args.out.display().to_string() });
    }
    Ok(())
}
