//! The experiments of Mukherjee and Awadallah 2019, tables 5 to 12, as arms over one base run file: every cell is a transfer run,
//! found when it is there.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::results::MeanSd;
use super::runner::StudyOptions;
use super::spec::Size;
use super::statistics::{self, Difference};
use crate::config::{RunFile, Targets, TransferPlan};
use crate::error::{Error, IoContext, Result};
use crate::files::write_text;
use crate::log::Console;
use crate::model::ModelFolder;
use crate::tasks::TransferTask;
use crate::train::interrupted;
use crate::train::transfer::{TransferOptions, TransferSummary, ready_teacher, train_transfer, transfer_task};

/// A study of transfer runs as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferStudySpec {
    /// The heading.
    pub title: String,
    /// The transfer run file that every cell starts from.
    pub base: String,
    /// Every arm is run once with each.
    pub seeds: Vec<u64>,
    /// The tables.
    pub experiments: Vec<Experiment>,
}

/// One table of the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What it asks, with the paper's table.
    pub name: String,
    /// Its rows.
    pub arms: Vec<TransferArm>,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferArm {
    /// What it is called.
    pub name: String,
    /// `key=value` over the base.
    #[serde(default)]
    pub set: Vec<String>,
}

fn arm(name: &str, set: &[&str]) -> TransferArm {
    TransferArm { name: name.to_owned(), set: set.iter().map(|&one| one.to_owned()).collect() }
}

const ALONE: &str = "student alone";

impl TransferStudySpec {
    /// The paper's experiments over a base run file; `larger` is a second, larger teacher for table 6.
    ///
    /// Tables 5 and 7 share their arms (what is asked of them differs), as do 8 and 9.
    pub fn paper(title: &str, base: &str, seeds: &[u64], size: Size, larger: Option<&str>) -> Self {
        let (none, soft, hard) = ("distill.targets=none", "distill.targets=soft", "distill.targets=hard");
        let rnn = ["model.tokens=words", "model.states=last", "model.projection=0", none];
        let main = Experiment {
            name: "distillation, parameters, hard and soft targets, the teacher's confidence (tables 5, 7, 8, 9)".to_owned(),
            arms: vec![
                arm("RNN encoder, words, last state", &rnn),
                arm(ALONE, &[none]),
                arm("student, hard targets", &[hard]),
                arm("student, soft targets", &[soft]),
            ],
        };
        let mut experiments = vec![main];
        if size == Size::Full {
            if let Some(larger) = larger {
                let from = format!("teacher.from={larger}");
                experiments.push(Experiment {
                    name: "a larger teacher (table 6)".to_owned(),
                    arms: vec![
                        arm("student, soft targets", &[soft]),
                        arm("student, soft targets of the larger teacher", &[&from, soft]),
                    ],
                });
            }
            for (labels, table) in [(500, 10), (100, 11)] {
                let per_class = format!("data.per_class={labels}");
                experiments.push(Experiment {
                    name: format!("{labels} labels a class (table {table})"),
                    arms: vec![
                        arm(ALONE, &[&per_class, none]),
                        arm("student, hard targets", &[&per_class, hard]),
                        arm("student, soft targets", &[&per_class, soft]),
                    ],
                });
            }
        }
        if size != Size::Tiny {
            experiments.push(Experiment {
                name: "training schedules (table 12)".to_owned(),
                arms: vec![
                    arm("stagewise", &[soft, "distill.schedule=stagewise"]),
                    arm("joint", &[soft, "distill.schedule=joint"]),
                    arm("distil once, fine-tune for ever", &[soft, "distill.schedule=distil-once"]),
                ],
            });
        }
        Self { title: title.to_owned(), base: base.to_owned(), seeds: seeds.to_vec(), experiments }
    }

    /// The pocket language's run file: a small student, 100 labels a class, and the teacher in `teacher`.
    pub fn pocket_base(teacher: &Path, size: Size) -> String {
        let (hidden, rounds, text) = match size {
            Size::Tiny => (8, 2, 200),
            _ => (64, 15, 0),
        };
        format!(
            "method = \"transfer\"\n\
             [model]\nwords = {hidden}\nhidden = {hidden}\ndropout = 0.2\ninput_dropout = 0.1\nrecurrent_dropout = 0.1\n\
             [teacher]\nfrom = {:?}\nlr = 1e-3\nepochs = 20.0\nbatch = 16\n\
             [data]\ntask = \"pocket-acceptability\"\nper_class = 100\nlength = 32\ntransfer = {text}\ntest_rows = {text}\n\
             [train]\nrounds = {rounds}\noptimizer = \"adam\"\nlr = 2e-3\n",
            teacher.display().to_string()
        )
    }

    /// Cells of the study; the same run in two tables is one cell.
    pub fn cell_count(&self) -> u64 {
        let arms: usize = self.experiments.iter().map(|experiment| experiment.arms.len()).sum();
        (arms * self.seeds.len()) as u64
    }
}

/// What a study of transfer runs found: the content of `study.json`, and of `study transfer --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferStudy {
    /// The heading.
    pub title: String,
    /// Table by table.
    pub experiments: Vec<ExperimentResult>,
    /// What a reader should know of the data.
    pub notes: Vec<String>,
    /// The device, in words.
    pub device: String,
    /// Wall time.
    pub seconds: f64,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentResult {
    /// What it asks.
    pub name: String,
    /// Its rows.
    pub arms: Vec<TransferArmResult>,
}

/// One row of a table, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferArmResult {
    /// What it is called.
    pub name: String,
    /// The student's accuracy on the test set.
    pub accuracy: MeanSd,
    /// The teacher's, where there is one.
    pub teacher_accuracy: Option<MeanSd>,
    /// The student's parameters.
    pub parameters: u64,
    /// The teacher's parameters over the student's.
    pub compression: Option<f64>,
    /// The variance of the teacher's predictions.
    pub teacher_variance: Option<MeanSd>,
    /// The largest possible.
    pub largest_variance: f64,
    /// Test texts the student answers a second.
    pub examples_per_s: f64,
    /// And the teacher, where it was measured.
    pub teacher_examples_per_s: Option<f64>,
    /// Wall time of a run.
    pub seconds: f64,
    /// The runs one by one.
    pub runs: Vec<TransferSummary>,
}

impl TransferArmResult {
    fn of(name: &str, runs: Vec<TransferSummary>) -> Self {
        let all = |of: &dyn Fn(&TransferSummary) -> Option<f64>| runs.iter().filter_map(of).collect::<Vec<f64>>();
        let mean = |of: &dyn Fn(&TransferSummary) -> Option<f64>| statistics::mean(&all(of));
        let spread = |of: &dyn Fn(&TransferSummary) -> Option<f64>| MeanSd::of(&all(of));
        let first = &runs[0];
        Self {
            name: name.to_owned(),
            accuracy: spread(&|run| Some(run.accuracy)).expect("an arm has a run"),
            teacher_accuracy: spread(&|run| run.teacher_accuracy),
            parameters: first.parameters,
            compression: first.teacher_parameters.map(|teacher| teacher as f64 / first.parameters as f64),
            teacher_variance: spread(&|run| run.teacher_variance),
            largest_variance: first.largest_variance,
            examples_per_s: mean(&|run| Some(run.examples_per_s)).expect("an arm has a run"),
            teacher_examples_per_s: mean(&|run| run.teacher_examples_per_s),
            seconds: mean(&|run| Some(run.seconds)).expect("an arm has a run"),
            runs,
        }
    }

    /// What its accuracy is above another arm's, compared seed by seed.
    pub fn above(&self, other: &Self) -> Option<Difference> {
        let seeded = |arm: &Self| arm.runs.iter().map(|run| (run.seed, run.accuracy)).collect::<Vec<_>>();
        statistics::difference(&seeded(self), &seeded(other))
    }
}

/// One run, planned.
struct Cell {
    name: String,
    dir: PathBuf,
    plan: TransferPlan,
    task: usize,
}

/// Makes teachers ready, then runs every cell; gives the tables.
///
/// # Errors
/// The first cell's that fails; the others keep what they have, and the same command goes on.
pub fn run_transfer_study(spec: &TransferStudySpec, options: &StudyOptions) -> Result<TransferStudy> {
    let started = std::time::Instant::now();
    claim(options.dir, spec)?;
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
            let contents = contents(&plan, &tasks[task])?;
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

/// What the paths of a plan hold: rows, and the teacher's and the student's weights.
fn contents(plan: &TransferPlan, task: &TransferTask) -> Result<String> {
    let mut text = task.fingerprint();
    let folders = plan.teacher.iter().map(|teacher| &teacher.from).chain(&plan.model.from);
    for folder in folders {
        text += &ModelFolder::open(Path::new(folder))?.tensors()?.hash();
    }
    if let Some(path) = &plan.model.glove {
        text += blake3::hash(&std::fs::read(path).doing("read", path)?).to_hex().as_str();
    }
    Ok(text)
}

fn run_cell(cell: &Cell, tasks: &[TransferTask], options: &StudyOptions) -> Result<TransferSummary> {
    let run = TransferOptions {
        dir: &cell.dir,
        shared: options.dir,
        name: &cell.name,
        console: options.console,
        device: options.device,
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

fn claim(dir: &Path, spec: &TransferStudySpec) -> Result<()> {
    let file = dir.join("study.toml");
    let text = toml::to_string(spec).expect("a study in memory can be written");
    match std::fs::read_to_string(&file) {
        Ok(there) if there == text => Ok(()),
        Ok(_) => Err(Error::new("this folder holds another study; it was left as it is")
            .at(dir.display())
            .help("choose another --out")),
        Err(_) => {
            std::fs::create_dir_all(dir).doing("create", dir)?;
            write_text(&file, &text)
        }
    }
}

/// The tables in plain text: accuracies in percent, means with standard deviations over seeds.
pub fn transfer_tables(study: &TransferStudy) -> String {
    let mut out = String::new();
    let percent = |spread: MeanSd| match spread.sd {
        Some(sd) => format!("{:.1} ± {:.1}", 100.0 * spread.mean, 100.0 * sd),
        None => format!("{:.1}", 100.0 * spread.mean),
    };
    for experiment in &study.experiments {
        let baseline = experiment.arms.iter().find(|arm| arm.name == ALONE).or(experiment.arms.first());
        let header = [
            "",
            "accuracy %",
            "- first, or alone [95 %]",
            "teacher %",
            "parameters",
            "smaller by",
            "variance of max",
            "texts/s",
            "seeds",
        ];
        let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).to_vec()];
        for arm in &experiment.arms {
            let above = baseline.filter(|baseline| baseline.name != arm.name).and_then(|baseline| arm.above(baseline));
            let optional = |text: Option<String>| text.unwrap_or_default();
            rows.push(vec![
                arm.name.clone(),
                percent(arm.accuracy),
                optional(above.map(|d| {
                    format!("{:+.1} [{:+.1}, {:+.1}]", 100.0 * d.mean, 100.0 * d.interval.low, 100.0 * d.interval.high)
                })),
                optional(arm.teacher_accuracy.map(percent)),
                arm.parameters.to_string(),
                optional(arm.compression.map(|times| format!("{times:.1}x"))),
                optional(arm.teacher_variance.map(|v| format!("{:.3} of {:.3}", v.mean, arm.largest_variance))),
                format!("{:.0}", arm.examples_per_s),
                arm.runs.len().to_string(),
            ]);
        }
        out += &format!("{}\n{}\n", experiment.name, aligned(&rows));
    }
    out
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cell = |(at, text): (usize, &String)| {
            let gap = " ".repeat(widths[at] - text.chars().count());
            if at == 0 { format!("{text}{gap}") } else { format!("{gap}{text}") }
        };
        format!("  {}\n", row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
