//! `upstill train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{DeviceArg, print_json};
use crate::config::{ObjectiveKind, Plan, RunFile};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::log::{Console, Summary, clock};
use crate::train::transfer::{TransferOptions, train_transfer, transfer_task};
use crate::train::{Ranks, RunOptions, begin_at, interrupted, plan_run, train_run_in_ranks};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill train run.toml --out runs/first
  upstill train run.toml --out runs/first --resume
  upstill train run.toml --out runs/half --set train.steps=5000 --from runs/first/checkpoints/step-0004000
  upstill train run.toml --out runs/hot --set distill.temperature=4 --set train.steps=2000
  mpirun -n 4 upstill train run.toml --out runs/first      several processes, of a build with --features mpi")]
pub struct Args {
    /// The run file
    run_file: PathBuf,
    /// The run directory; runs/NAME of the run file unless given
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run that is in the directory
    #[arg(long)]
    resume: bool,
    /// Start with this checkpoint of another run, RUN/checkpoints/step-N, where both runs are the same up to there
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<PathBuf>,
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
    let file = args.device.run_file(&args.run_file, &args.set)?;
    let ranks = Ranks::join()?;
    if file.is_transfer() {
        return match ranks {
            Some(_) => Err(Error::new("a transfer run has one process").help("start it without mpirun or srun")),
            None => transfer(args, &file),
        };
    }
    let Some(ranks) = ranks else { return train(args, &file, None) };
    match train(args, &file, Some(&ranks)) {
        // All ranks were asked to stop and have saved; any other error is one rank's, and the others wait for it.
        Err(error) if !error.is_interrupted() => ranks.abort(&error),
        // Rank 0 says so for all.
        Err(error) if ranks.is_first() => Err(error),
        _ => Ok(()),
    }
}

/// A run of language models, in one process or among several.
fn train(args: Args, file: &RunFile, ranks: Option<&Arc<Ranks>>) -> Result<()> {
    let is_first = ranks.is_none_or(|ranks| ranks.is_first());
    let (plan, shards) = plan_run(file)?;
    let name = args.run_file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&name));
    // Rank 0 says for all which kind it is.
    let device = if is_first { args.device.choose(&plan.runtime.device) } else { Device::choose(&plan.runtime.device) }?;
    // A GPU for each worker of each rank of a machine; those of the rank alone where a launcher shows it no others, as
    // Slurm does.
    let workers = plan.runtime.workers.max(1);
    let before = ranks.map_or(0, |ranks| ranks.local_rank() * workers);
    let sees_its_own = before > 0 && device.several(workers + 1).is_err();
    let device = if sees_its_own { device } else { device.several(before + 1)?.swap_remove(before) };
    if is_first {
        eprintln!("{}", plan.describe(None));
    }
    let console = if is_first { Console::stderr() } else { Console::silent() };
    if let Some(checkpoint) = args.from.as_ref().filter(|_| is_first) {
        begin_at(&plan, &dir, checkpoint)?;
    }
    let resume = args.resume || args.from.is_some();
    let options = RunOptions { dir: &dir, resume, name: &name, console: &console, device: &device };
    let summary = train_run_in_ranks(&plan, &shards, &options, ranks)?;
    match (is_first, args.json) {
        (true, true) => print_json(&summary),
        (true, false) => print!("{}", came_to(&summary, &plan, &dir)),
        (false, _) => {}
    }
    Ok(())
}

/// What a run came to, and what can be done with it.
fn came_to(summary: &Summary, plan: &Plan, dir: &Path) -> String {
    let loss = |loss: f64| format!("held-out loss {loss:.4} (perplexity {:.4})", loss.exp());
    let folder = dir.display().to_string();
    let mut out = format!(
        "{folder}: {} steps in {}, {:.0} tokens/s\n",
        summary.steps,
        clock(Duration::try_from_secs_f64(summary.seconds).unwrap_or_default()),
        summary.tokens_per_s
    );
    let mut models = Vec::new();
    for own in &summary.models {
        let model = format!("{folder}/model/{}", own.name);
        out += &format!("  {model}: {}\n", own.held_out_loss.map_or_else(String::new, loss));
        models.push(model);
    }
    if models.is_empty() {
        out += &summary.held_out_loss.map_or_else(String::new, |of| format!("  {}\n", loss(of)));
        models.push(folder.clone());
    }
    out += &summary.held_out.iter().map(|(name, of)| format!("  on {name}: {}\n", loss(*of))).collect::<String>();
    let teacher = plan.teacher.as_ref().filter(|teacher| teacher.model.is_some()).map(|teacher| teacher.from.as_str());
    let (is_pocket, causal) = (plan.data.shards == "pocket", plan.objective() == ObjectiveKind::Causal);
    let sentence = if is_pocket { "the cat [MASK] the small dog ." } else { "a sentence with a [MASK]." };
    let beside = teacher.map_or_else(String::new, |teacher| format!(" --teacher {teacher}"));
    let compare = teacher.map_or_else(String::new, |teacher| format!(" --compare {teacher}"));
    let before = teacher.map_or_else(String::new, |teacher| format!("{teacher} "));
    out += "next:\n";
    out += &models.iter().map(|model| format!("  upstill eval {model}{beside}\n")).collect::<String>();
    out += &match causal {
        true => format!("  upstill generate {} '{}'\n", models[0], if is_pocket { "the cat" } else { "Once upon a time" }),
        false => format!("  upstill fill {} '{sentence}'{compare}\n", models[0]),
    };
    out += &format!("  upstill report {before}{folder}                      # the curves, one HTML file\n");
    out + &format!("  upstill export {} models/{}     # a folder that `transformers` loads\n", models[0], last(dir))
}

/// The last part of a path.
fn last(dir: &Path) -> String {
    dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned()
}

/// A run file with `method = "transfer"`.
fn transfer(args: Args, file: &RunFile) -> Result<()> {
    if args.from.is_some() {
        return Err(Error::new("--from is not for a transfer run").help("--resume goes on with one that was cut off"));
    }
    let plan = file.resolve_transfer()?;
    let task = transfer_task(&plan.data, plan.seed)?;
    task.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let name = args.run_file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&name));
    // Teachers and their outputs lie beside the run, so that the next run of the same teacher finds them.
    let shared = dir.parent().map_or_else(PathBuf::new, Path::to_owned).join("teachers-of-transfer");
    let device = args.device.choose(&plan.device)?;
    let console = Console::stderr();
    let options =
        TransferOptions { dir: &dir, shared: &shared, name: &name, console: &console, device: &device, stop: &interrupted };
    let summary = train_transfer(&plan, &task, &options)?;
    if args.json {
        print_json(&summary);
        return Ok(());
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    println!("student: {} of {} test texts right", percent(summary.accuracy), summary.test);
    if let (Some(teacher), Some(agreement)) = (summary.teacher_accuracy, summary.agreement) {
        println!("teacher: {}; they agree on {}", percent(teacher), percent(agreement));
    }
    Ok(())
}
