//! Runs a study's cells, each once: a cell is named by the hash of its plan, found when it is there, and the same anywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::results::{Arm, SeedResult, half_way};
use super::spec::{ArmSpec, StudySpec};
use crate::config::{LearnerPlan, MODEL, Plan, RunFile, SourcePlan};
use crate::device::Device;
use crate::error::{Error, IoContext, Result};
use crate::files::write_text;
use crate::log::{Console, StepRecord, Summary, read_steps};
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
    steps: Vec<StepRecord>,
    /// By the name of the model.
    scores: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Trains teachers, then students, then scores them; gives the arms, teachers first.
///
/// # Errors
/// The first cell's that fails; the others keep what they have, and the same command goes on.
pub fn run_cells(spec: &StudySpec, shards: &Shards, tasks: &[Task], options: &StudyOptions) -> Result<Vec<Arm>> {
    let base = RunFile::parse(&spec.base, "the study's base")?;
    let plan_of = |arm: &ArmSpec, seed: u64, teacher: Option<&Path>| plan_cell(&base, shards, arm, seed, teacher);
    let mut arms: Vec<Arm> = Vec::new();

    let teacher_cells = cells(&spec.teachers, &spec.teacher_seeds, options.dir, |arm, seed| plan_of(arm, seed, None))?;
    let results = run_all(&teacher_cells, shards, tasks, spec, options)?;
    let teacher_dirs: BTreeMap<&str, &Path> =
        teacher_cells.iter().rev().map(|cell| (spec.teachers[cell.arm].name.as_str(), cell.dir.as_path())).collect();
    let teachers = gather(&spec.teachers, &teacher_cells, &results, options.dir);
    arms.extend(teachers.into_iter().map(|arm| Arm { is_teacher: true, ..arm }));

    let with_teacher = |arm: &ArmSpec, seed: u64| {
        let teacher = arm.teacher.as_ref().map(|name| teacher_dirs.get(name.as_str()).copied().unwrap_or(Path::new(name)));
        plan_of(arm, seed, teacher)
    };
    let student_cells = cells(&spec.arms, &spec.seeds, options.dir, |arm, seed| {
        let Some(name) = &arm.flops_of else { return with_teacher(arm, seed) };
        let other = spec.arms.iter().find(|other| other.name == *name).unwrap_or(arm);
        let own = with_teacher(arm, seed)?.estimate().computed.total();
        let steps = (flops(&with_teacher(other, seed)?) / own.max(1.0)).round().max(1.0) as u64;
        let mut longer = arm.clone();
        longer.set.push(format!("train.steps={steps}"));
        with_teacher(&longer, seed)
    })?;
    let results = run_all(&student_cells, shards, tasks, spec, options)?;
    for arm in gather(&spec.arms, &student_cells, &results, options.dir) {
        let teacher = arm.teacher.as_ref().and_then(|name| arms.iter().find(|other| other.is_teacher && other.name == *name));
        let in_all = teacher.and_then(|teacher| Some(teacher.flops? + arm.flops?));
        arms.push(Arm { flops_with_teacher: in_all, ..arm });
    }
    Ok(arms)
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

fn cells(arms: &[ArmSpec], seeds: &[u64], dir: &Path, plan: impl Fn(&ArmSpec, u64) -> Result<Plan>) -> Result<Vec<Cell>> {
    let mut out = Vec::new();
    for &seed in seeds {
        for (index, arm) in arms.iter().enumerate() {
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
    let run = RunOptions { dir: &cell.dir, resume: true, name: &cell.name, console: options.console, device: options.device };
    let summary = train_run(&cell.plan, shards, &run)?;
    let scored = |own: LearnerPlan| Ok((own.name.clone(), score(cell, &own.name, tasks, spec, options.device)?));
    let scores = shown(&cell.plan).into_iter().map(scored).collect::<Result<_>>()?;
    options.console.cell_done(&cell.name, found);
    Ok(CellResult { summary, steps: read_steps(&cell.dir.join("steps.jsonl"))?, scores })
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
        half_way_loss: half_way(&of_model(&result.steps, model.as_deref())),
        scores: result.scores.get(&own.name).cloned().unwrap_or_default(),
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

/// The records as one of several models saw them.
fn of_model(steps: &[StepRecord], model: Option<&str>) -> Vec<StepRecord> {
    match model {
        Some(model) => steps.iter().filter_map(|record| record.of(model)).collect(),
        None => steps.to_vec(),
    }
}

/// Makes the study's folder with its spec, or checks that the one there is this study's.
///
/// # Errors
/// When the folder holds something else.
pub fn claim(dir: &Path, spec: &StudySpec) -> Result<()> {
    let file = dir.join("study.toml");
    let text = toml::to_string(spec).expect("a study in memory can be written");
    match std::fs::read_to_string(&file) {
        Ok(there) if there == text => Ok(()),
        Ok(_) => Err(Error::new("this folder holds another study; it was left as it is")
            .at(dir.display())
            .help("choose another --out")),
        Err(_) => {
            let is_empty = !dir.exists() || dir.is_dir() && std::fs::read_dir(dir).doing("read", dir)?.next().is_none();
            if !is_empty {
                return Err(Error::new("this folder holds something that is not a study; it was left as it is")
                    .at(dir.display())
                    .help("choose another --out"));
            }
            std::fs::create_dir_all(dir).doing("create", dir)?;
            write_text(&file, &text)
        }
    }
}
