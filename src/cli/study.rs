//! `upstill study`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::study_args::{Common, default_jobs, folder};
use super::{print_json, study_transfer};
use crate::config::{self, ObjectiveKind, RunFile};
use crate::error::{Error, IoContext, Result};
use crate::files::{Claim, InUse, write_text};
use crate::log::Console;
use crate::study::registration::Registration;
use crate::study::report::{terminal_table, write_report, write_summary};
use crate::study::results::Study;
use crate::study::{
    Size, StudyOptions, StudySpec, Verified, jobs, kubernetes_job, parse_cell, register, run_cell_of, run_cells, slurm_script,
    verify,
};
use crate::tasks::{GlueFiles, Task, glue_names, glue_task, pocket_names, pocket_task};
use crate::text::pocket::{Channel, source_loss};
use crate::train::open_shards;

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  upstill study                          the paper's question in miniature, in minutes
  upstill study --size full              the paper's whole grid, in hours
  upstill study cotrain                  do two models that teach each other get better?
  upstill study my-study.toml --out runs/mine
  upstill study transfer                 a fine-tuned BERT into a BiLSTM over unlabelled text (the 2019 paper)
  upstill study transfer --data imdb/ --teacher runs/teacher
  upstill study my-study.toml --emit jobs | parallel -j 8     or a line a task of any scheduler
  upstill study my-study.toml --emit slurm > study.sh         then: sbatch study.sh
  upstill study my-study.toml --emit kubernetes > study.yaml  then: kubectl apply -f study.yaml
  upstill study my-study.toml --cells theirs.jsonl            takes what others ran, and runs the rest
  upstill study my-study.toml --cells theirs.jsonl --verify 3   repeats three of their runs
  upstill study my-study.toml --summary results/mine          what can be committed: study file, cells, figure, report

The same command again finds what is done and goes on with the rest."
)]
pub struct Args {
    #[command(subcommand)]
    which: Option<Which>,
    /// A study file; without one, `upstill study dwt` is run
    study_file: Option<PathBuf>,
    /// How much of the study on the pocket language; small unless given
    #[arg(long, value_enum)]
    size: Option<Size>,
    #[command(flatten)]
    grid: Grid,
}

/// The studies on the pocket language, and any other.
#[derive(clap::Subcommand)]
enum Which {
    /// Students of weak teachers and a student alone, on the pocket language (Lee et al. 2023)
    #[command(after_help = "\
Examples:
  upstill study dwt
  upstill study dwt --size full                          the paper's whole grid, in hours")]
    Dwt(Pocket),
    /// Models that teach each other and each alone, on the pocket language (Lee et al. 2023b)
    #[command(after_help = "\
Examples:
  upstill study cotrain
  upstill study cotrain --size tiny --out runs/tiny")]
    Cotrain(Pocket),
    /// A fine-tuned BERT into a BiLSTM over unlabelled text (Mukherjee and Awadallah 2019)
    #[command(after_help = "\
Examples:
  upstill study transfer
  upstill study transfer --data imdb/ --teacher runs/teacher")]
    Transfer(study_transfer::Args),
    /// The study that a file describes
    #[command(after_help = "\
Examples:
  upstill study run my-study.toml --out runs/mine
  upstill study run my-study.toml --emit jobs | parallel -j 8     or a line a task of a Slurm array")]
    Run(OfFile),
}

/// A study on the pocket language.
#[derive(clap::Args)]
struct Pocket {
    /// How much of it; small unless given
    #[arg(long, value_enum)]
    size: Option<Size>,
    #[command(flatten)]
    grid: Grid,
}

/// A study of one's own.
#[derive(clap::Args)]
struct OfFile {
    /// The study file
    study_file: PathBuf,
    #[command(flatten)]
    grid: Grid,
}

/// What a grid of runs is told.
#[derive(clap::Args)]
struct Grid {
    #[command(flatten)]
    common: Common,
    /// Run nothing: print one command a run, teachers first, for any scheduler over a shared folder; or the script of a
    /// Slurm array, or a Kubernetes Job
    #[arg(long, value_enum, conflicts_with = "cell")]
    emit: Option<Emit>,
    /// Also write what is small enough to be committed into this folder: study file, cells, figure as SVG, report as
    /// Markdown
    #[arg(long, value_name = "DIR", conflicts_with_all = ["emit", "cell", "verify"])]
    summary: Option<PathBuf>,
    /// One run alone, by its arm and seed, with the teachers that it needs; what --emit jobs prints
    #[arg(long, value_name = "ARM#SEED")]
    cell: Option<String>,
    /// Runs that are done, elsewhere perhaps: a study's cells.jsonl; may be repeated
    #[arg(long, value_name = "JSONL")]
    cells: Vec<PathBuf>,
    /// Repeat so many finished runs, chosen by chance, and say whether they agree; exit code 1 if not
    #[arg(long, value_name = "N", conflicts_with_all = ["emit", "cell"], value_parser = clap::value_parser!(u64).range(1..))]
    verify: Option<u64>,
}

/// The form in which a study's runs are written down.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Emit {
    /// A command a line
    Jobs,
    /// The script of an array job
    Slurm,
    /// An indexed Job
    Kubernetes,
}

pub fn run(args: Args) -> Result<()> {
    match args.which {
        None => grid(args.grid, wanted(args.study_file.as_deref(), args.size)?),
        Some(Which::Dwt(args)) => grid(args.grid, built_in("dwt", args.size)),
        Some(Which::Cotrain(args)) => grid(args.grid, built_in("cotrain", args.size)),
        Some(Which::Transfer(args)) => study_transfer::run(args),
        Some(Which::Run(args)) => grid(args.grid, of_file(&args.study_file)?),
    }
}

/// Runs a grid, or does with it what else is asked.
fn grid(args: Grid, wanted: Wanted) -> Result<()> {
    let started = Instant::now();
    let Wanted { spec, text, name, typed } = wanted;
    let dir = folder(&args.common, &name)?;
    if let Some(form) = args.emit {
        return emit(form, &args, &spec, &text, &dir, typed);
    }
    let device = args.common.device.choose("auto")?;
    let tasks = spec.all_tasks().into_iter().map(|name| find_task(name, spec.glue.as_deref())).collect::<Result<Vec<_>>>()?;
    let base = RunFile::parse(&spec.base, "the study's base")?.wanted();
    let shards_name = base.shards.clone().unwrap_or_default();
    let shards = open_shards(&shards_name)?;
    if let Some(summary) = &args.summary {
        claim_summary(summary, &spec, &text)?;
    }
    let (text, _in_use) = registered(&dir, &spec, &text)?;
    let registration = Registration::of(&text, spec.test.as_ref());
    // How many there are is told when they are planned.
    let console = Console::study(0);
    let jobs = args.common.jobs.unwrap_or_else(|| default_jobs(&device));
    let options = StudyOptions {
        dir: &dir,
        jobs,
        device: &device,
        console: &console,
        cells: &args.cells,
        registered: &registration.study_file,
    };
    if let Some(cell) = &args.cell {
        let cell = parse_cell(cell).ok_or_else(|| {
            Error::new(format!("{cell:?} does not name a run")).help("an arm's name, # and a seed; `--emit jobs` lists them")
        })?;
        run_cell_of(&spec, &shards, &tasks, &StudyOptions { jobs: 1, ..options }, cell)?;
        console.finish();
        return Ok(());
    }
    if let Some(count) = args.verify {
        let found = verify(&spec, &shards, &options, count as usize)?;
        console.finish();
        return say_verified(&found, args.common.json);
    }
    eprintln!("into {}", dir.display());
    let found = run_cells(&spec, &shards, &tasks, &options)?;
    console.finish();

    let report = dir.join("report.html");
    let mut study = Study {
        report: Some(report.clone()),
        title: spec.title.clone(),
        about: spec.about.clone(),
        baseline: spec.baseline.clone(),
        source_loss: source(&shards_name, &base),
        device: Some(device.to_string()),
        seconds: Some(started.elapsed().as_secs_f64()),
        registration: Some(registration),
        ..found
    };
    (study.claims, study.saved) = (study.all_claims(), study.all_saved());
    let text = serde_json::to_string_pretty(&study).expect("results in memory can be written") + "\n";
    write_text(&dir.join("study.json"), &text)?;
    write_report(std::slice::from_ref(&dir), &report)?;
    if let Some(summary) = &args.summary {
        write_summary(&study, &dir, summary)?;
    }
    if args.common.json {
        print_json(&study);
        return Ok(());
    }
    println!("{}", terminal_table(&study));
    println!("report: {}", report.display());
    Ok(())
}

/// The study's file in its folder, before the first cell; gives its text as it stands there, and what keeps it so.
fn registered(dir: &Path, spec: &StudySpec, text: &str) -> Result<(String, InUse)> {
    register(dir, text, |there| StudySpec::parse(there).is_ok_and(|there| there == *spec))
}

/// A summary's folder with the study's file, which may be there already: nothing else is written over.
fn claim_summary(folder: &Path, spec: &StudySpec, text: &str) -> Result<()> {
    let known = |file: &Path| {
        let there = std::fs::read_to_string(file).doing("read", file)?;
        match StudySpec::parse(&there).is_ok_and(|there| there == *spec) {
            true => Ok(()),
            false => Err(Error::new("this folder holds the summary of another study; it was left as it is")
                .at(folder.display())
                .help("choose another --summary")),
        }
    };
    let claim = Claim { folder, marker: "study.toml", what: "a study's summary" };
    claim.take(known, |file| write_text(file, text)).map(drop).map_err(|error| error.help("choose another --summary"))
}

/// Prints what came of repeated cells.
fn say_verified(found: &[Verified], as_json: bool) -> Result<()> {
    if as_json {
        print_json(&found);
    } else {
        for cell in found {
            let verdict = if cell.agrees() { "agrees" } else { "DIFFERS" };
            let allowed = if cell.allowed > 1e-9 { format!("up to {}", cell.allowed) } else { "none".to_owned() };
            println!("{}  {verdict}: largest difference of a loss {:.2e}, allowed {allowed}", cell.name, cell.difference);
        }
    }
    match found.iter().filter(|cell| !cell.agrees()).count() {
        0 => Ok(()),
        differing => Err(Error::check(format!("{differing} of {} repeated runs came to other losses", found.len()))
            .help("another version of upstill, or an altered line: run.json and cells.jsonl name the versions")),
    }
}

/// Prints the commands, and makes the folder that they share.
fn emit(form: Emit, args: &Grid, spec: &StudySpec, text: &str, dir: &Path, typed: Vec<String>) -> Result<()> {
    registered(dir, spec, text)?;
    let mut words = vec!["upstill".to_owned(), "study".to_owned()];
    words.extend(typed);
    words.extend(["--out".to_owned(), dir.display().to_string()]);
    words.extend(args.common.device.device.iter().flat_map(|device| ["--device".to_owned(), device.clone()]));
    words.extend(args.cells.iter().flat_map(|file| ["--cells".to_owned(), file.display().to_string()]));
    let lines = jobs(spec, &words);
    match form {
        Emit::Jobs => lines.iter().for_each(|line| println!("{line}")),
        Emit::Slurm => print!("{}", slurm_script(&lines, dir)),
        Emit::Kubernetes => print!("{}", kubernetes_job(&lines)),
    }
    let teachers: usize = spec.teachers.iter().map(|arm| spec.seeds_of_teacher(arm).len()).sum();
    eprintln!(
        "{} runs, of which the first {teachers} train teachers: a student trains or waits for its own where it is missing.\n\
         When all are done: {}",
        lines.len(),
        words.join(" ")
    );
    Ok(())
}

/// A study that was asked for.
struct Wanted {
    spec: StudySpec,
    /// Its file.
    text: String,
    /// What its folder is called unless `--out` says.
    name: String,
    /// The words after `upstill study` that ask for it.
    typed: Vec<String>,
}

/// The study of a file, or the first one on the pocket language.
fn wanted(file: Option<&Path>, size: Option<Size>) -> Result<Wanted> {
    match file {
        None => Ok(built_in("dwt", size)),
        Some(path) if size.is_some() => {
            Err(Error::new("--size is for the studies on the pocket language, dwt, cotrain and transfer")
                .at(path.display())
                .help("a study file says its own sizes"))
        }
        Some(path) => of_file(path),
    }
}

/// A study on the pocket language, by its word.
fn built_in(word: &str, size: Option<Size>) -> Wanted {
    let pocket = size.unwrap_or(Size::Small);
    let named = format!("{pocket:?}").to_lowercase();
    let (spec, name) = match word {
        "cotrain" => (StudySpec::cotrain(pocket), format!("study-cotrain-{named}")),
        _ => (StudySpec::pocket(pocket), format!("study-{named}")),
    };
    let text = toml::to_string(&spec).expect("a study in memory can be written");
    Wanted { spec, text, name, typed: vec![word.to_owned(), "--size".to_owned(), named] }
}

fn of_file(path: &Path) -> Result<Wanted> {
    let spec = StudySpec::load(path)?;
    let text = std::fs::read_to_string(path).doing("read", path)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Wanted { spec, text, name, typed: vec![path.display().to_string()] })
}

/// A task of a study, by its own name; `glue` is the folder with GLUE's official files.
fn find_task(name: &str, glue: Option<&str>) -> Result<Task> {
    if let Some(task) = pocket_task(name) {
        return Ok(task);
    }
    if !glue_names().contains(&name) {
        let known = [pocket_names(), glue_names()].concat().join(", ");
        return Err(Error::new(format!("unknown task {name:?}")).help(format!("one of: {known}")));
    }
    let data = glue.ok_or_else(|| {
        Error::new(format!("the task {name:?} is one of GLUE's, and the study does not say where GLUE is"))
            .help("write `glue = \"FOLDER\"`, the folder with GLUE's official files, which holds CoLA/, SST-2/ and so on")
    })?;
    glue_task(name, Path::new(data), &GlueFiles::default())
}

/// The loss of the source that wrote the text, where it is known: of the pocket language, under BERT's masking.
fn source(shards: &str, base: &config::Wanted) -> Option<f64> {
    let is_masked = base.family.unwrap_or_default().objective() == ObjectiveKind::Masked;
    (shards == "pocket" && is_masked && base.held_out_mask_rate == Channel::default().rate).then(|| source_loss().mean)
}
