//! Runs a study's cells, each once: a cell is named by the hash of its plan, found when it is there, and the same anywhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::results::{Arm, SeedResult};
use super::spec::{ArmSpec, StudySpec};
use crate::config::{LearnerPlan, MODEL, Plan, RunFile, SourcePlan};
use crate::device::Device;
use crate::error::{Error, IoContext, Result};
use crate::files::{is_free, write_text};
use crate::log::{Console, Summary};
use crate::model::ModelFolder;
use crate::tasks::Task;
use crate::tokens::Shards;
use crate::train::{FinetuneOptions, Finetuning, Pretrained, RunOptions, find_facts, interrupted, model_folder, train_run};

/// How a study is carried out; nothing of it changes results beyond rounding.
pub struct StudyOptions<'a> {
    /// The study's folder; cells are in `cells/`.
    pub dir: &'a Path,
    /// Runs at the same time. On a CPU each has its share of the cores.
    pub jobs: usize,
    /// What it runs on.
    pub device: &'a Device,
    /// Where progress goes.
    pub console: &'a Console,
}

/// One run of an arm, planned.
struct Cell {
    arm: usize,
    seed: u64,
    name: String,
    dir: PathBuf,
    plan: Plan,
}

/// A finished cell.
struct CellResult {
    summary: Summary,
    /// By the name of the model.
    scores: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Trains teachers, then students, then scores them; gives the arms, teachers first.
///
/// # Errors
/// The first cell's that fails; the others keep what they have, and the same command goes on.
pub fn run_cells(spec: &StudySpec, shards: &Shards, tasks: &[Task], options: &StudyOptions) -> Result<Vec<Arm>> {
    let planner = Planner { base: RunFile::parse(&spec.base, "the study's base")?, spec, shards, dir: options.dir };
    let mut arms: Vec<Arm> = Vec::new();

    let teacher_cells = planner.teachers()?;
    let results = run_all(&teacher_cells, shards, tasks, spec, options)?;
    let teachers = gather(&spec.teachers, &teacher_cells, &results, options.dir);
    arms.extend(teachers.into_iter().map(|arm| Arm { is_teacher: true, ..arm }));

    let student_cells = planner.students(&teacher_cells, |_, _| true)?;
    let results = run_all(&student_cells, shards, tasks, spec, options)?;
    for arm in gather(&spec.arms, &student_cells, &results, options.dir) {
        let teacher = arm.teacher.as_ref().and_then(|name| arms.iter().find(|other| other.is_teacher && other.name == *name));
        let in_all = teacher.and_then(|teacher| Some(teacher.flops? + arm.flops?));
        arms.push(Arm { flops_with_teacher: in_all, ..arm });
    }
    Ok(arms)
}

/// One run of a study, by its arm's name and its seed, and the teachers that it needs: those that aren't there are trained first, and
/// those that another process trains are waited for. Found when it is there, never repeated.
///
/// # Errors
/// When the study has no such run, or a run fails.
pub fn run_cell_of(
    spec: &StudySpec,
    shards: &Shards,
    tasks: &[Task],
    options: &StudyOptions,
    (name, seed): (&str, u64),
) -> Result<()> {
    let planner = Planner { base: RunFile::parse(&spec.base, "the study's base")?, spec, shards, dir: options.dir };
    let teacher_cells = planner.teachers()?;
    if let Some(cell) = teacher_cells.iter().find(|cell| spec.teachers[cell.arm].name == name && cell.seed == seed) {
        return run_cell(cell, shards, tasks, spec, options).map(|_| ());
    }
    let arm = spec.arms.iter().find(|arm| arm.name == name).filter(|_| spec.seeds.contains(&seed)).ok_or_else(|| {
        Error::new(format!("the study has no run {name:?} with seed {seed}")).help("`upstill study ... --emit jobs` lists them")
    })?;
    // An arm that is given another's FLOPs is planned with that one's teacher too.
    let other = arm.flops_of.as_ref().and_then(|name| spec.arms.iter().find(|other| other.name == *name));
    let needed: Vec<&String> = [Some(arm), other].into_iter().flatten().filter_map(|arm| arm.teacher.as_ref()).collect();
    for cell in &teacher_cells {
        // Students learn from the first seed of a teacher.
        if needed.contains(&&spec.teachers[cell.arm].name) && cell.seed == spec.teacher_seeds[0] {
            train_cell(cell, shards, options)?;
        }
    }
    for cell in planner.students(&teacher_cells, |arm, at| arm.name == name && at == seed)? {
        run_cell(&cell, shards, tasks, spec, options)?;
    }
    Ok(())
}

/// Makes the plans of a study's runs.
struct Planner<'a> {
    base: RunFile,
    spec: &'a StudySpec,
    shards: &'a Shards,
    dir: &'a Path,
}

impl Planner<'_> {
    fn teachers(&self) -> Result<Vec<Cell>> {
        let all = |_: &ArmSpec, _| true;
        cells(&self.spec.teachers, &self.spec.teacher_seeds, self.dir, all, |arm, seed| self.plan(arm, seed, None))
    }

    /// Those that are wanted, when their teachers are trained.
    fn students(&self, teachers: &[Cell], wanted: impl Fn(&ArmSpec, u64) -> bool) -> Result<Vec<Cell>> {
        let spec = self.spec;
        let dirs: BTreeMap<&str, &Path> =
            teachers.iter().rev().map(|cell| (spec.teachers[cell.arm].name.as_str(), cell.dir.as_path())).collect();
        let with_teacher = |arm: &ArmSpec, seed: u64| {
            let teacher = arm.teacher.as_ref().map(|name| dirs.get(name.as_str()).copied().unwrap_or(Path::new(name)));
            self.plan(arm, seed, teacher)
        };
        cells(&spec.arms, &spec.seeds, self.dir, wanted, |arm, seed| {
            let Some(name) = &arm.flops_of else { return with_teacher(arm, seed) };
            let other = spec.arms.iter().find(|other| other.name == *name).unwrap_or(arm);
            let own = with_teacher(arm, seed)?.estimate().computed.total();
            let steps = (flops(&with_teacher(other, seed)?) / own.max(1.0)).round().max(1.0) as u64;
            let mut longer = arm.clone();
            longer.set.push(format!("train.steps={steps}"));
            with_teacher(&longer, seed)
        })
    }

    fn plan(&self, arm: &ArmSpec, seed: u64, teacher: Option<&Path>) -> Result<Plan> {
        plan_cell(&self.base, self.shards, arm, seed, teacher)
    }
}

/// What a run costs.
fn flops(plan: &Plan) -> f64 {
    plan.estimate().computed.total() * plan.train.steps as f64
}

/// The models of a run that a study shows: of several, those that learn from another, for one that doesn't is as it would be
/// alone; when none does, all.
fn shown(plan: &Plan) -> Vec<LearnerPlan> {
    let all = plan.learners();
    let learn: Vec<LearnerPlan> = all.iter().filter(|own| !own.from.is_empty()).cloned().collect();
    if learn.is_empty() { all } else { learn }
}

/// Cells of a study: teachers and students.
pub fn cell_count(spec: &StudySpec) -> u64 {
    (spec.teachers.len() * spec.teacher_seeds.len() + spec.arms.len() * spec.seeds.len()) as u64
}

fn plan_cell(base: &RunFile, shards: &Shards, arm: &ArmSpec, seed: u64, teacher: Option<&Path>) -> Result<Plan> {
    let mut file = base.clone();
    arm.set.iter().for_each(|assignment| file.set(assignment));
    file.set(&format!("seed={seed}"));
    if let Some(teacher) = teacher {
        file.set(&format!("teacher.from={}", teacher.display()));
    }
    let facts = find_facts(&file.wanted(), &Ok(shards.clone()));
    file.resolve(&facts).map_err(|error| error.at(format!("arm {:?}", arm.name)))
}

fn cells(
    arms: &[ArmSpec],
    seeds: &[u64],
    dir: &Path,
    wanted: impl Fn(&ArmSpec, u64) -> bool,
    plan: impl Fn(&ArmSpec, u64) -> Result<Plan>,
) -> Result<Vec<Cell>> {
    let mut out = Vec::new();
    for &seed in seeds {
        for (index, arm) in arms.iter().enumerate().filter(|(_, arm)| wanted(arm, seed)) {
            let plan = plan(arm, seed)?;
            let dir = dir.join("cells").join(plan.hash());
            out.push(Cell { arm: index, seed, name: format!("{} #{seed}", arm.name), dir, plan });
        }
    }
    Ok(out)
}

/// Runs cells on `jobs` threads; the results are in the cells' order.
fn run_all(cells: &[Cell], shards: &Shards, tasks: &[Task], spec: &StudySpec, options: &StudyOptions) -> Result<Vec<CellResult>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<Option<Result<CellResult>>>> = Mutex::new(cells.iter().map(|_| None).collect());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.clamp(1, cells.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads((cores / jobs).max(1)).build();
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(cell) = cells.get(index).filter(|_| !failed.load(Ordering::SeqCst)) else { break };
                    let run = || run_cell(cell, shards, tasks, spec, options);
                    let result = match &pool {
                        Ok(pool) => pool.install(run),
                        Err(_) => run(),
                    };
                    failed.fetch_or(result.is_err(), Ordering::SeqCst);
                    results.lock().expect("no thread panics while it holds this")[index] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panics while it holds this");
    let mut out = Vec::new();
    for result in results {
        match result {
            Some(result) => out.push(result?),
            None => continue,
        }
    }
    match out.len() == cells.len() {
        true => Ok(out),
        false => Err(Error::interrupted("the study was stopped; every run is saved").help("the same command goes on")),
    }
}

fn run_cell(cell: &Cell, shards: &Shards, tasks: &[Task], spec: &StudySpec, options: &StudyOptions) -> Result<CellResult> {
    let found = cell.dir.join("summary.json").exists();
    let summary = train_cell(cell, shards, options)?;
    let _lock = hold(cell, options)?;
    let scored = |own: LearnerPlan| Ok((own.name.clone(), score(cell, &own.name, tasks, spec, options.device)?));
    let scores = shown(&cell.plan).into_iter().map(scored).collect::<Result<_>>()?;
    options.console.cell_done(&cell.name, found);
    Ok(CellResult { summary, scores })
}

fn train_cell(cell: &Cell, shards: &Shards, options: &StudyOptions) -> Result<Summary> {
    let _lock = hold(cell, options)?;
    let run = RunOptions { dir: &cell.dir, resume: true, name: &cell.name, console: options.console, device: options.device };
    train_run(&cell.plan, shards, &run)
}

/// Keeps other processes that share the study's folder off a cell for as long as the file is open; waits for one that has it.
fn hold(cell: &Cell, options: &StudyOptions) -> Result<File> {
    const POLL: Duration = Duration::from_secs(2);
    let folder = options.dir.join("locks");
    std::fs::create_dir_all(&folder).doing("create", &folder)?;
    let path = folder.join(cell.plan.hash());
    let file = File::create(&path).doing("create", &path)?;
    let mut has_said = false;
    loop {
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {}
            // Some file systems have no locks; then the user's care is what there is.
            Ok(()) | Err(std::fs::TryLockError::Error(_)) => return Ok(file),
        }
        if interrupted() {
            return Err(Error::interrupted(format!("stopped while another process runs {}", cell.name)));
        }
        if !std::mem::replace(&mut has_said, true) {
            options.console.note(&format!("another process runs {}: waiting for it", cell.name));
        }
        std::thread::sleep(POLL);
    }
}

/// `scores.json` of a cell, or `scores-NAME.json` for each of several models: fine-tuned scores, and the settings they were made with.
#[derive(Serialize, Deserialize)]
struct Scores {
    settings: String,
    scores: BTreeMap<String, f64>,
}

/// Fine-tunes one of a cell's models on each task, and keeps the main scores beside it.
fn score(cell: &Cell, model: &str, tasks: &[Task], spec: &StudySpec, device: &Device) -> Result<BTreeMap<String, f64>> {
    let path = cell.dir.join(if model == MODEL { "scores.json".to_owned() } else { format!("scores-{model}.json") });
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    let settings = format!("lr {}, {} epochs, tasks {}", spec.finetune_lr, spec.finetune_epochs, names.join(" "));
    if let Ok(text) = std::fs::read_to_string(&path)
        && let Ok(there) = serde_json::from_str::<Scores>(&text)
        && there.settings == settings
    {
        return Ok(there.scores);
    }
    let pretrained = Pretrained::read(&ModelFolder::open(&cell.dir.join(model_folder(model)))?)?;
    let finetune_options = FinetuneOptions {
        lr: spec.finetune_lr,
        epochs: spec.finetune_epochs,
        dropout: 0.0,
        warmup: 0.1,
        ..FinetuneOptions::default()
    };
    let mut scores = BTreeMap::new();
    for task in tasks {
        if interrupted() {
            return Err(Error::interrupted("the study was stopped; every run is saved").help("the same command goes on"));
        }
        let silent = Console::silent();
        let found = Finetuning::new(&pretrained, task, &finetune_options, device, &silent)?.run(cell.seed)?;
        scores.insert(task.name.clone(), task.main_score(&found.scores));
    }
    let text =
        serde_json::to_string_pretty(&Scores { settings, scores: scores.clone() }).expect("scores in memory can be written");
    write_text(&path, &(text + "\n"))?;
    Ok(scores)
}

/// The arms' results, one entry for each model that is shown.
fn gather(arms: &[ArmSpec], cells: &[Cell], results: &[CellResult], dir: &Path) -> Vec<Arm> {
    let mut out = Vec::new();
    for (index, spec) in arms.iter().enumerate() {
        let mine: Vec<(&Cell, &CellResult)> = cells.iter().zip(results).filter(|(cell, _)| cell.arm == index).collect();
        out.extend(shown(&mine[0].0.plan).iter().map(|own| arm(spec, own, &mine, dir)));
    }
    out
}

fn arm(spec: &ArmSpec, own: &LearnerPlan, mine: &[(&Cell, &CellResult)], dir: &Path) -> Arm {
    let plan = &mine[0].0.plan;
    let model = (!plan.models.is_empty()).then(|| own.name.clone());
    let runs = mine.iter().map(|(cell, result)| SeedResult {
        path: cell.dir.strip_prefix(dir).unwrap_or(&cell.dir).to_owned(),
        seed: cell.seed,
        held_out_loss: result.summary.held_out_loss_of(model.as_deref()),
        scores: result.scores.get(&own.name).cloned().unwrap_or_default(),
        ..SeedResult::default()
    });
    let of_sources = |text: fn(&SourcePlan) -> String| own.from.iter().map(text).collect::<Vec<_>>().join(", ");
    let learns = !own.from.is_empty();
    let mut arm = Arm {
        name: model.as_ref().map_or(spec.name.clone(), |model| format!("{}: {model}", spec.name)),
        method: plan.method.to_string(),
        teacher: if learns { Some(of_sources(|from| from.name.clone())) } else { spec.teacher.clone() },
        soft: match learns {
            true => Some(of_sources(|from| from.soft.to_string())),
            false => plan.teacher.as_ref().map(|_| plan.distill.soft.to_string()),
        },
        start: Some(plan.distill.start.to_string()),
        parameters: Some(own.parameters().total),
        seconds: super::statistics::mean(&mine.iter().map(|(_, result)| result.summary.seconds).collect::<Vec<_>>()),
        flops: Some(flops(plan)),
        against: spec.against.get(&own.name).cloned(),
        runs: runs.collect(),
        model: model.clone(),
        ..Arm::default()
    };
    arm.summarise();
    arm
}

/// Makes the study's folder with its spec, or checks that the one there is this study's; gives the spec as it stands there.
///
/// # Errors
/// When the folder holds something else.
pub fn claim(dir: &Path, spec: &impl Serialize) -> Result<String> {
    let file = dir.join("study.toml");
    let text = toml::to_string(spec).expect("a study in memory can be written");
    match std::fs::read_to_string(&file) {
        Ok(there) if there == text => Ok(text),
        Ok(_) => Err(Error::new("this folder holds another study; it was left as it is")
            .at(dir.display())
            .help("choose another --out")),
        Err(_) => {
            if !is_free(dir)? {
                return Err(Error::new("this folder holds something that is not a study; it was left as it is")
                    .at(dir.display())
                    .help("choose another --out"));
            }
            std::fs::create_dir_all(dir).doing("create", dir)?;
            write_text(&file, &text)?;
            Ok(text)
        }
    }
}
