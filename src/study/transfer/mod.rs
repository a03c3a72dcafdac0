//! The experiments of Mukherjee and Awadallah 2019, tables 5 to 12, as arms over one base run file: every cell is a
//! transfer run, found when it is there.

mod results;
mod spec;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use results::{ExperimentResult, TransferArmResult, TransferStudy, transfer_tables};
pub use spec::{Experiment, TransferArm, TransferStudySpec};

use super::runner::StudyOptions;
use crate::config::{RunFile, Targets, TransferPlan};
use crate::error::{Error, Result};
use crate::files::Lock;
use crate::log::Console;
use crate::tasks::TransferTask;
use crate::train::transfer::{TransferOptions, TransferSummary, ready_teacher, train_transfer, transfer_contents, transfer_task};
use crate::train::{interrupted, waiting};

/// One run, planned.
struct Cell {
    name: String,
    dir: PathBuf,
    plan: TransferPlan,
    task: usize,
}

/// Makes teachers ready, then runs every cell; gives the tables. The folder is [registered](super::register) already.
///
/// # Errors
/// The first cell's that fails; the others keep what they have, and the same command goes on.
pub fn run_transfer_study(spec: &TransferStudySpec, options: &StudyOptions) -> Result<TransferStudy> {
    let started = std::time::Instant::now();
    let (cells, tasks) = plan_cells(spec, options.dir)?;
    // Students of one teacher would else all wait for it, or make it several times.
    let mut teachers: Vec<&Cell> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.plan.distill.targets != Targets::None) {
        let same = |other: &&Cell| {
            other.task == cell.task && other.plan.seed == cell.plan.seed && other.plan.teacher == cell.plan.teacher
        };
        if !cell.dir.join("summary.json").exists() && !teachers.iter().any(same) {
            teachers.push(cell);
        }
    }
    let silent = Console::silent();
    in_parallel(options.jobs, &teachers, &|cell| match &cell.plan.teacher {
        Some(teacher) => ready_teacher(&cell.plan, teacher, &tasks[cell.task], options.dir, options.device, &silent).map(drop),
        None => Ok(()),
    })?;
    let mut unique: Vec<&Cell> = Vec::new();
    for cell in &cells {
        if !unique.iter().any(|other| other.dir == cell.dir) {
            unique.push(cell);
        }
    }
    in_parallel(options.jobs, &unique, &|cell| {
        let found = cell.dir.join("summary.json").exists();
        run_cell(cell, &tasks, options)?;
        options.console.cell_done(&cell.name, found);
        Ok(())
    })?;
    let mut left = cells.iter();
    let mut experiments = Vec::new();
    for experiment in &spec.experiments {
        let mut arms = Vec::new();
        for arm in &experiment.arms {
            let runs =
                left.by_ref().take(spec.seeds.len()).map(|cell| run_cell(cell, &tasks, options)).collect::<Result<Vec<_>>>()?;
            arms.push(TransferArmResult::of(&arm.name, runs));
        }
        experiments.push(ExperimentResult { name: experiment.name.clone(), arms });
    }
    Ok(TransferStudy {
        title: spec.title.clone(),
        experiments,
        notes: tasks.first().map(|task| task.notes.clone()).unwrap_or_default(),
        device: options.device.to_string(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// In the order of experiments, arms and seeds; tasks are divided once for all cells of the same data and seed.
fn plan_cells(spec: &TransferStudySpec, dir: &Path) -> Result<(Vec<Cell>, Vec<TransferTask>)> {
    let base = RunFile::parse(&spec.base, "the study's base")?;
    let (mut cells, mut tasks, mut of) = (Vec::new(), Vec::<TransferTask>::new(), Vec::new());
    for arm in spec.experiments.iter().flat_map(|experiment| &experiment.arms) {
        for &seed in &spec.seeds {
            let mut file = base.clone();
            arm.set.iter().for_each(|assignment| file.set(assignment));
            file.set(&format!("seed={seed}"));
            let plan = file.resolve_transfer().map_err(|error| error.at(format!("arm {:?}", arm.name)))?;
            let data = (plan.data.clone(), seed);
            let task = match of.iter().position(|known| *known == data) {
                Some(task) => task,
                None => {
                    tasks.push(transfer_task(&plan.data, seed)?);
                    of.push(data);
                    tasks.len() - 1
                }
            };
            let contents = transfer_contents(&plan, &tasks[task])?;
            cells.push(Cell {
                name: format!("{} #{seed}", arm.name),
                dir: dir.join("cells").join(plan.hash(&contents)),
                plan,
                task,
            });
        }
    }
    Ok((cells, tasks))
}

fn run_cell(cell: &Cell, tasks: &[TransferTask], options: &StudyOptions) -> Result<TransferSummary> {
    // Other processes may share the study's folder: each cell is one's at a time.
    let lock = options.dir.join("locks").join(cell.dir.file_name().unwrap_or_default());
    let _lock = Lock::wait_file(&lock, &mut waiting(options.console, &cell.name))?;
    let run = TransferOptions {
        dir: &cell.dir,
        shared: options.dir,
        name: &cell.name,
        console: options.console,
        device: options.device,
        stop: &interrupted,
    };
    train_transfer(&cell.plan, &tasks[cell.task], &run)
}

/// Runs each cell on one of `jobs` threads, each with its share of the cores.
fn in_parallel(jobs: usize, cells: &[&Cell], each: &(dyn Fn(&Cell) -> Result<()> + Sync)) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.clamp(1, cells.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads((cores / jobs).max(1)).build();
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)).filter(|_| !failed.load(Ordering::SeqCst)) {
                    let result = match &pool {
                        Ok(pool) => pool.install(|| each(cell)),
                        Err(_) => each(cell),
                    };
                    if let Err(error) = result {
                        failed.store(true, Ordering::SeqCst);
                        first.lock().expect("no thread panics while it holds this").get_or_insert(error);
                    }
                }
            });
        }
    });
    match first.into_inner().expect("no thread panics while it holds this") {
        Some(error) => Err(error),
        None if interrupted() => {
            Err(Error::interrupted("the study was stopped; finished runs are saved").help("the same command goes on"))
        }
        None => Ok(()),
    }
}
