//! `upstill study`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{DeviceArg, print_json, study_transfer};
use crate::config::{Plan, RunFile};
use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::files::write_text;
use crate::log::Console;
use crate::study::registration::Registration;
use crate::study::report::{terminal_table, write_report};
use crate::study::results::Study;
use crate::study::{Size, StudyOptions, StudySpec, cell_count, claim, jobs, parse_cell, run_cell_of, run_cells};
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
  upstill study transfer                 a fine-tuned BERT into a BiLSTM over unlabelled text (the 2019 paper)
  upstill study transfer --data imdb/ --teacher runs/teacher
  upstill study my-study.toml --emit jobs | parallel -j 8     or a line a task of a Slurm array

The same command again finds what is done and goes on with the rest.")]
pub struct Args {
    /// A study file; or `dwt`, `cotrain` or `transfer`, the studies on the pocket language, of which the first is run unless given
    study_file: Option<PathBuf>,
    /// How much of a study on the pocket language; small unless given
    #[arg(long, value_enum)]
    size: Option<Size>,
    /// The study's folder; runs/study-SIZE or runs/NAME unless given
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
    /// Runs at the same time; the number of cores on a CPU, 1 on a GPU, unless given
    #[arg(long)]
    pub(super) jobs: Option<usize>,
    /// With `transfer`: a folder with train.tsv, test.tsv and unsup.txt or the like, in place of the pocket language
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// With `transfer --data`: the teacher, a pre-trained or fine-tuned model's folder; given again: a larger one beside it
    #[arg(long, value_name = "MODEL", requires = "data")]
    pub(super) teacher: Vec<PathBuf>,
    /// With `transfer`: seeds of every arm; 5 unless given
    #[arg(long)]
    pub(super) seeds: Option<u64>,
    /// With `transfer`: override a key of the run file, as in model.hidden=150; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Run nothing: print one command a run, teachers first, for any scheduler over a shared folder
    #[arg(long, value_parser = ["jobs"], conflicts_with = "cell")]
    pub(super) emit: Option<String>,
    /// One run alone, by its arm and seed, with the teachers that it needs; what --emit jobs prints
    #[arg(long, value_name = "ARM#SEED")]
    pub(super) cell: Option<String>,
    #[command(flatten)]
    pub(super) device: DeviceArg,
    /// Print the results on standard output for machines
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn size(&self) -> Size {
        self.size.unwrap_or(Size::Small)
    }
}

pub fn run(args: Args) -> Result<()> {
    let is_transfer = args.study_file.as_ref().is_some_and(|name| name.as_os_str() == study_transfer::NAME);
    if is_transfer {
        if args.emit.is_some() || args.cell.is_some() {
            return Err(Error::new("--emit and --cell are not for `upstill study transfer`")
                .help("its command can be given on several machines for several --out folders"));
        }
        return study_transfer::run(args);
    }
    if args.data.is_some() || !args.teacher.is_empty() || args.seeds.is_some() || !args.set.is_empty() {
        return Err(Error::new("--data, --teacher, --seeds and --set are for `upstill study transfer`")
            .help("of another study they are part of its file"));
    }
    let started = Instant::now();
    let (spec, name) = spec(args.study_file.as_deref(), args.size)?;
    let dir = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    if args.emit.is_some() {
        return emit(&args, &spec, &dir);
    }
    let device = args.device.choose("auto")?;
    let tasks = spec.tasks.iter().map(|name| find_task(name)).collect::<Result<Vec<_>>>()?;
    let registered = claim(&dir, &spec)?;
    let wanted = RunFile::parse(&spec.base, "the study's base")?.wanted();
    let shards_name = wanted.shards.clone().unwrap_or_default();
    let shards = open_shards(&shards_name)?;
    if let Some(cell) = &args.cell {
        let cell = parse_cell(cell).ok_or_else(|| {
            Error::new(format!("{cell:?} does not name a run")).help("an arm's name, # and a seed; `--emit jobs` lists them")
        })?;
        let console = Console::study(1);
        let options = StudyOptions { dir: &dir, jobs: 1, device: &device, console: &console };
        run_cell_of(&spec, &shards, &tasks, &options, cell)?;
        console.finish();
        return Ok(());
    }
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
        registration: Some(Registration::of(&registered, spec.test.as_ref())),
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

/// Prints the commands, and makes the folder that they share.
fn emit(args: &Args, spec: &StudySpec, dir: &Path) -> Result<()> {
    claim(dir, spec)?;
    let mut words = vec!["upstill".to_owned(), "study".to_owned()];
    words.extend(args.study_file.iter().map(|file| file.display().to_string()));
    words.extend(args.size.into_iter().flat_map(|size| ["--size".to_owned(), format!("{size:?}").to_lowercase()]));
    words.extend(["--out".to_owned(), dir.display().to_string()]);
    words.extend(args.device.device.iter().flat_map(|device| ["--device".to_owned(), device.clone()]));
    jobs(spec, &words).iter().for_each(|line| println!("{line}"));
    let teachers = spec.teachers.len() * spec.teacher_seeds.len();
    eprintln!(
        "{} commands, of which the first {teachers} train teachers: a student trains or waits for its own where it is missing.\n\
         When all are done: {}",
        cell_count(spec),
        words.join(" ")
    );
    Ok(())
}

/// The study, and what its folder is called unless `--out` says.
fn spec(wanted: Option<&Path>, size: Option<Size>) -> Result<(StudySpec, String)> {
    let pocket = size.unwrap_or(Size::Small);
    match wanted.map(|path| (path, path.to_str())) {
        None | Some((_, Some("dwt"))) => Ok((StudySpec::pocket(pocket), format!("study-{pocket:?}").to_lowercase())),
        Some((_, Some("cotrain"))) => Ok((StudySpec::cotrain(pocket), format!("study-cotrain-{pocket:?}").to_lowercase())),
        Some((path, _)) if size.is_some() => {
            Err(Error::new("--size is for the studies on the pocket language, dwt, cotrain and transfer")
                .at(path.display())
                .help("a study file says its own sizes"))
        }
        Some((path, _)) => Ok((StudySpec::load(path)?, path.file_stem().unwrap_or_default().to_string_lossy().into_owned())),
    }
}

fn find_task(name: &str) -> Result<Task> {
    pocket_task(name).ok_or_else(|| {
        Error::new(format!("unknown task {name:?}")).help(format!("one of: {}", crate::tasks::pocket_names().join(", ")))
    })
}

/// A CPU run keeps little more than one core busy, so as many run side by side as there are cores.
pub(super) fn default_jobs(device: &Device) -> usize {
    match device.kind {
        DeviceKind::Cpu => std::thread::available_parallelism().map_or(1, usize::from),
        DeviceKind::Cuda | DeviceKind::Wgpu | DeviceKind::SoftwareGpu => 1,
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
