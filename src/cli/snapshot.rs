//! `upstill snapshot`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{DeviceArg, print_json};
use crate::error::{Error, Result};
use crate::files::can_write;
use crate::log::Console;
use crate::train::{Held, Off, Origin, SNAPSHOT_STEPS, Snapshot, SnapshotRun};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill snapshot run.toml --update                       writes run.snapshot.json, to be committed
  upstill snapshot run.toml                                holds the run against it: exit code 1 where it leaves
  upstill snapshot student.toml --teacher teacher.toml     of a student whose teacher isn't trained yet
  upstill snapshot run.toml --device wgpu:software

On the CPU the same upstill promises every bit on the same processor with as many threads: losses, norms and the hash of the
weights are then compared so. Elsewhere sums are rounded otherwise, and numbers may differ by what the command says.")]
pub struct Args {
    /// The run file
    run_file: PathBuf,
    /// Optimizer steps; those of the snapshot, or 20 for a new one, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Write the snapshot, over one that is there
    #[arg(long)]
    update: bool,
    /// The snapshot; beside the run file, as RUN.snapshot.json, unless given
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A run file whose model, trained for as many steps as the snapshot has, takes the place of the teacher that the
    /// run file names
    #[arg(long, value_name = "RUN_FILE")]
    teacher: Option<PathBuf>,
    /// Override a key of the run file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print how they compare on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let file = args.device.run_file(&args.run_file, &args.set)?;
    let teacher = args.teacher.as_deref().map(|teacher| args.device.run_file(teacher, &[])).transpose()?;
    let path = args.file.clone().unwrap_or_else(|| args.run_file.with_extension("snapshot.json"));
    let before = match args.update {
        true => None,
        false => Some(there(&path, &args)?),
    };
    if args.update {
        can_write(&path)?;
    }
    let steps = args.steps.or(before.as_ref().map(|before| before.steps)).unwrap_or(SNAPSHOT_STEPS);
    let name = args.run_file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (console, device) = (Console::stderr(), args.device.choose(&file.wanted().device)?);
    // Where fewer steps are compared, the teacher is still the snapshot's.
    let teacher = teacher.as_ref().map(|teacher| (teacher, before.as_ref().map_or(steps, |before| before.steps)));
    let taken = SnapshotRun { file: &file, teacher, steps, name: &name, console: &console, device: &device };
    let now = Snapshot::take(&taken)?;
    let Some(before) = before else {
        now.write(&path)?;
        match args.json {
            true => print_json(&json!({"snapshot": path.display().to_string(), "steps": now.steps, "weights": now.weights})),
            false => println!("{}: {} steps on {}", path.display(), now.steps, origin(&now.made_on)),
        }
        return Ok(());
    };
    let (held, differences) = (before.hold(&now), before.differences(&now));
    match args.json {
        true => print_json(&json!({"snapshot": path.display().to_string(), "plan": differences, "held": held})),
        false => print!("{}", words(&path, &before, &now, &held)),
    }
    verdict(&path, &held, &differences)
}

/// The snapshot to compare with.
fn there(path: &Path, args: &Args) -> Result<Snapshot> {
    if !path.exists() {
        return Err(Error::new("there is no snapshot of this run yet")
            .at(path.display())
            .help("the same command with --update makes it"));
    }
    let before = Snapshot::read(path).map_err(|error| error.help("restore the file, or make it again with --update"))?;
    match (before.has_own_teacher(), args.teacher.is_some()) {
        (true, false) => Err(Error::new("this snapshot's teacher was trained for it, from a run file of its own")
            .at(path.display())
            .help("name that file with --teacher; or make another snapshot with --update")),
        (false, true) => Err(Error::new("this snapshot was made without --teacher")
            .at(path.display())
            .help("leave --teacher out; or make another snapshot with --update")),
        _ if args.steps.is_some_and(|steps| steps > before.steps) => {
            Err(Error::new(format!("the snapshot has {} steps, and no more can be compared", before.steps))
                .at(path.display())
                .help("make a longer one: --update, with as many --steps"))
        }
        _ => Ok(before),
    }
}

/// Exit code 1 where the run is not the snapshot's.
fn verdict(path: &Path, held: &Held, differences: &[String]) -> Result<()> {
    let help = "if it was meant to change, --update writes the snapshot anew";
    let error = match (&held.leaves, differences) {
        (_, [_, ..]) => {
            Error::check(format!("the run is not the snapshot's any more; its plan differs:\n  {}", differences.join("\n  ")))
        }
        (Some(off), _) => Error::check(format!("the run leaves its snapshot at step {}: {}", off.step, apart(off))),
        (None, _) if !held.holds() => Error::check("the weights after the last step are not the snapshot's"),
        _ => return Ok(()),
    };
    Err(error.at(path.display()).help(help))
}

/// What was compared, and by how much it differs.
fn words(path: &Path, before: &Snapshot, now: &Snapshot, held: &Held) -> String {
    let mut out = format!("{}: {} steps\n", path.display(), held.steps);
    out += &format!("  made on  {}\n  now on   {}\n", origin(&before.made_on), origin(&now.made_on));
    out += &match held.allowed {
        0.0 => format!("  allowed  nothing: {}\n", held.why),
        allowed => format!("  allowed  {allowed} of each number: {}\n", held.why),
    };
    out += &match &held.furthest {
        None => "  curves   equal to the bit\n".to_owned(),
        Some(off) => format!("  curves   furthest off at step {}: {}\n", off.step, apart(off)),
    };
    out += match (held.weights_equal, held.allowed == 0.0) {
        (Some(true), _) => "  weights  equal to the bit\n",
        (Some(false), true) => "  weights  differ\n",
        (Some(false), false) => "  weights  differ, which is no fault here\n",
        (None, _) => "  weights  not compared: fewer steps than the snapshot's\n",
    };
    out
}

/// `loss/hard 6.531 was 6.420 (0.017 apart)`.
fn apart(off: &Off) -> String {
    let number = |number: Option<f64>| number.map_or("none".to_owned(), |number| number.to_string());
    format!("{} is {}, was {} ({:.1e} apart)", off.curve, number(off.is), number(off.was), off.off)
}

fn origin(origin: &Origin) -> String {
    format!(
        "{} ({}), {} threads, {}, {} kernels, {} rows at once; upstill {} ({})",
        origin.device,
        origin.name,
        origin.threads,
        origin.precision,
        origin.kernels,
        origin.rows_at_once,
        origin.version,
        origin.commit
    )
}
