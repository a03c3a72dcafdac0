//! `upstill study`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{DeviceArg, print_json};
use crate::config::{Plan, RunFile};
use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::files::write_text;
use crate::log::Console;
use crate::study::report::{terminal_table, write_report};
use crate::study::results::Study;
use crate::study::{Size, StudyOptions, StudySpec, cell_count, claim, run_cells};
use crate::tasks::{Task, pocket_task};
use crate::text::pocket::{Channel, source_loss};
use crate::train::open_shards;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill study                          the paper's question in miniature, in minutes
  upstill study --size full              the paper's whole grid, in hours
  upstill study cotrain                  do two models that teach each other get better?
  upstill study my-study.toml --out runs/mine

The same command again finds what is done and goes on with the rest.")]
pub struct Args {
    /// A study file; or `dwt` or `cotrain`, the studies on the pocket language, of which the first is run unless given
    study_file: Option<PathBuf>,
    /// How much of a study on the pocket language; small unless given
    #[arg(long, value_enum)]
    size: Option<Size>,
    /// The study's folder; runs/study-SIZE or runs/NAME unless given
    #[arg(long)]
    out: Option<PathBuf>,
    /// Runs at the same time; the number of cores on a CPU, 1 on a GPU, unless given
    #[arg(long)]
    jobs: Option<usize>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the results on standard output for machines
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let device = args.device.choose("auto")?;
    let (spec, name) = spec(args.study_file.as_deref(), args.size)?;
    let dir = args.out.unwrap_or_else(|| Path::new("runs").join(name));
    let tasks = spec.tasks.iter().map(|name| find_task(name)).collect::<Result<Vec<_>>>()?;
    claim(&dir, &spec)?;
    let wanted = RunFile::parse(&spec.base, "the study's base")?.wanted();
    let shards_name = wanted.shards.clone().unwrap_or_default();
    let shards = open_shards(&shards_name)?;
    eprintln!("{} runs into {}", cell_count(&spec), dir.display());

    let console = Console::study(cell_count(&spec));
    let jobs = args.jobs.unwrap_or_else(|| default_jobs(&device));
    let arms = run_cells(&spec, &shards, &tasks, &StudyOptions { dir: &dir, jobs, device: &device, console: &console })?;
    console.finish();

    let report = dir.join("report.html");
    let study = Study {
        arms,
        report: Some(report.clone()),
        title: spec.title.clone(),
        about: spec.about.clone(),
        baseline: spec.baseline.clone(),
        source_loss: source(&shards_name, wanted.mask_rate),
        chosen: chosen(&dir)?,
        device: Some(device.to_string()),
        seconds: Some(started.elapsed().as_secs_f64()),
    };
    let text = serde_json::to_string_pretty(&study).expect("results in memory can be written") + "\n";
    write_text(&dir.join("study.json"), &text)?;
    write_report(std::slice::from_ref(&dir), &report)?;
    if args.json {
        print_json(&study);
        return Ok(());
    }
    println!("{}", terminal_table(&study));
    println!("report: {}", report.display());
    Ok(())
}

/// The study, and what its folder is called unless `--out` says.
fn spec(wanted: Option<&Path>, size: Option<Size>) -> Result<(StudySpec, String)> {
    let pocket = size.unwrap_or(Size::Small);
    match wanted.map(|path| (path, path.to_str())) {
        None | Some((_, Some("dwt"))) => Ok((StudySpec::pocket(pocket), format!("study-{pocket:?}").to_lowercase())),
        Some((_, Some("cotrain"))) => Ok((StudySpec::cotrain(pocket), format!("study-cotrain-{pocket:?}").to_lowercase())),
        Some((path, _)) if size.is_some() => Err(Error::new("--size is for the studies on the pocket language, dwt and cotrain")
            .at(path.display())
            .help("a study file says its own sizes")),
        Some((path, _)) => Ok((StudySpec::load(path)?, path.file_stem().unwrap_or_default().to_string_lossy().into_owned())),
    }
}

fn find_task(name: &str) -> Result<Task> {
    pocket_task(name).ok_or_else(|| {
        Error::new(format!("unknown task {name:?}")).help(format!("one of: {}", crate::tasks::pocket_names().join(", ")))
    })
}

/// A CPU run keeps little more than one core busy, so as many run side by side as there are cores.
fn default_jobs(device: &Device) -> usize {
    match device.kind {
        DeviceKind::Cpu => std::thread::available_parallelism().map_or(1, usize::from),
        DeviceKind::Wgpu | DeviceKind::SoftwareGpu => 1,
    }
}

/// The loss of the source that wrote the text, where it is known: of the pocket language, under BERT's masking.
fn source(shards: &str, mask_rate: f64) -> Option<f64> {
    (shards == "pocket" && mask_rate == Channel::default().rate).then(|| source_loss().mean)
}

/// What was chosen here and not by the paper: of the study's plans, each line once.
fn chosen(dir: &Path) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let cells = dir.join("cells");
    let mut plans: Vec<PathBuf> = match std::fs::read_dir(&cells) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()).map(|entry| entry.path().join("plan.toml")).collect(),
        Err(_) => Vec::new(),
    };
    plans.sort();
    for path in plans.iter().filter(|path| path.exists()) {
        for line in Plan::load(path)?.notes() {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    Ok(lines)
}
