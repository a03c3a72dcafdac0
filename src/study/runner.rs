//! Runs a study's cells, each once: a cell is named by the hash of its plan, found when it is there, and the same
//! anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::answers::Shared;
use super::cells::{CellLine, Ledger, ModelLine, NUMERICS};
use super::gather::{add_budgets, gather};
use super::measures::{Measured, Measures};
use super::planner::{Branch, Cell, Planner, shown};
use super::results::{Arm, ScoresAt, Study, Tried, Tuned};
use super::spec::{ArmSpec, StudySpec, TeacherOf};
use super::tasks;
use super::tune::{Grid, Next};
use crate::config::{MODEL, Plan};
use crate::device::{Device, DeviceKind, processor};
use crate::error::{Error, Result};
use crate::files::Lock;
use crate::log::{Console, StepRecord, read_steps};
use crate::tasks::Task;
use crate::tokens::Shards;
use crate::train::{RunOptions, begin_at, checkpoint_of, interrupted, model_folder, train_run, waiting};

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
    /// Files with cells that were run elsewhere (`cells.jsonl`).
    pub cells: &'a [PathBuf],
    /// Hash of the study's file, as [`register`](super::register) gives it.
    pub registered: &'a str,
}

/// What every part of a study's work needs.
pub(super) struct Work<'a> {
    pub spec: &'a StudySpec,
    pub shards: &'a Shards,
    pub tasks: &'a [Task],
    /// What models are scored on beside that.
    pub measures: Measures,
    pub options: &'a StudyOptions<'a>,
    pub ledger: Ledger,
    /// Teachers' answers, where arms share them.
    pub shared: Shared,
}

impl<'a> Work<'a> {
    pub fn new(spec: &'a StudySpec, shards: &'a Shards, tasks: &'a [Task], options: &'a StudyOptions<'a>) -> Result<Self> {
        let ledger = Ledger::open(options.dir, &spec.title, options.cells)?;
        Ok(Self { spec, shards, tasks, measures: Measures::default(), options, ledger, shared: Shared::default() })
    }

    /// Opens what models are scored on beside tasks, before anything is trained; `cells` are those to be scored.
    fn with_measures<'b>(mut self, cells: impl Iterator<Item = &'b Cell> + Clone) -> Result<Self> {
        let Some(first) = cells.clone().next() else { return Ok(self) };
        let tokenizer = self.shards.tokenizer();
        self.measures = Measures::open(self.spec, tokenizer, &first.plan.data.shards)?;
        let shortest = cells.min_by_key(|cell| cell.plan.model.shape.max_positions()).unwrap_or(first);
        self.measures.must_fit(&shortest.plan, tokenizer)?;
        Ok(self)
    }
}

/// Chooses what is tuned, trains teachers, then students, and scores them; gives what `study.json` says of them,
/// teachers first.
///
/// # Errors
/// Any mistake in any plan, before anything is trained; later the first cell's that fails: the others keep what they
/// have, and the same command goes on.
pub fn run_cells(spec: &StudySpec, shards: &Shards, tasks: &[Task], options: &StudyOptions) -> Result<Study> {
    let mut planner = Planner::new(spec, shards, options.dir);
    let work = Work::new(spec, shards, tasks, options)?;
    let (teachers, students) = planner.results()?;
    let work = work.with_measures(teachers.iter().chain(&students))?;
    let branches = planner.branches(&students)?;
    work.expect(teachers.iter().chain(&students).chain(&branches));
    work.say_what_is_not_shared(&branches);
    for (is_teacher, arms) in [(true, &spec.teachers), (false, &spec.arms)] {
        for (index, _) in tuned_arms(&planner, arms)? {
            for value in spec.tune.iter().flat_map(|tune| &tune.values) {
                work.expect(&planner.trials(is_teacher, index, *value)?);
            }
        }
    }
    let of_teachers = work.tune(&mut planner, true, |_| true)?;
    let tuned = work.tune(&mut planner, false, |_| true)?;
    let (teachers, students) = planner.results()?;
    let (of_taught, lines) = work.run_by_seed(&teachers, &students)?;
    let taught = gather(&spec.teachers, &teachers, &of_taught, &of_teachers, options.dir);
    let mut arms: Vec<Arm> = taught.into_iter().map(|arm| Arm { is_teacher: true, ..arm }).collect();
    let branches = planner.branches(&students)?;
    let shorter = work.run_all(&branches)?;
    let mut gathered = gather(&spec.arms, &students, &lines, &tuned, options.dir);
    add_budgets(&mut gathered, &spec.arms, &students, branches.iter().zip(&shorter));
    for arm in gathered {
        let in_all = flops_with_teacher(spec, &arms, &arm, &students);
        arms.push(Arm { flops_with_teacher: in_all, ..arm });
    }
    work.shared.words().into_iter().for_each(|line| options.console.note(&line));
    let mut chosen: Vec<String> = Vec::new();
    for line in teachers.iter().chain(&students).flat_map(|cell| cell.plan.notes()) {
        if !chosen.contains(&line) {
            chosen.push(line);
        }
    }
    let objective = students.first().map(|cell| cell.plan.objective()).unwrap_or_default();
    Ok(Study { arms, chosen, objective, ..Study::default() })
}

/// The FLOPs of an arm's run and of what its teacher's training took, where the study trained it.
fn flops_with_teacher(spec: &StudySpec, arms: &[Arm], arm: &Arm, students: &[Cell]) -> Option<f64> {
    let written =
        spec.arms.iter().find(|written| arm.name == written.name || arm.name.starts_with(&format!("{}: ", written.name)))?;
    let TeacherOf::Trained { teacher, .. } = spec.teacher_of(written) else { return None };
    let share = students.iter().find(|cell| cell.arm_name == written.name)?.taught.as_ref()?.share();
    let teacher = arms.iter().find(|other| other.is_teacher && other.name == teacher.name)?;
    Some(teacher.flops? * share + arm.flops?)
}

/// One run of a study, by its arm's name and its seed, and what it needs: tuning and teachers that aren't there are run
/// first, and what another process runs is waited for. Found when it is there, never repeated.
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
    let mut planner = Planner::new(spec, shards, options.dir);
    let work = Work::new(spec, shards, tasks, options)?;
    let (teachers, students) = planner.results()?;
    let work = work.with_measures(teachers.iter().chain(&students))?;
    let is = |cell: &&Cell| cell.arm_name == name && cell.seed == seed;
    if teachers.iter().any(|cell| is(&cell)) {
        work.tune(&mut planner, true, |arm| arm.name == name)?;
        let teachers = planner.teachers()?;
        return work.run_all(&teachers.into_iter().filter(|cell| is(&cell)).collect::<Vec<_>>()).map(drop);
    }
    if !students.iter().any(|cell| is(&cell)) {
        return Err(Error::new(format!("the study has no run {name:?} with seed {seed}"))
            .help("`upstill study ... --emit jobs` lists them"));
    }
    // An arm that is given another's FLOPs is planned with that one's teacher too.
    let arm = spec.arms.iter().find(|arm| arm.name == name);
    let other = arm.and_then(|arm| spec.arms.iter().find(|other| arm.flops_of.as_ref() == Some(&other.name)));
    let needed: Vec<&str> = [arm, other]
        .into_iter()
        .flatten()
        .filter_map(|arm| match spec.teacher_of(arm) {
            TeacherOf::Trained { teacher, .. } => Some(teacher.name.as_str()),
            _ => None,
        })
        .collect();
    work.tune(&mut planner, true, |arm| needed.contains(&arm.name.as_str()))?;
    let tuned_as = arm.and_then(|arm| arm.tuned_as.as_deref()).unwrap_or(name);
    work.tune(&mut planner, true, |arm| arm.name == tuned_as)?;
    work.tune(&mut planner, false, |arm| arm.name == tuned_as)?;
    let students: Vec<Cell> = planner.students()?.into_iter().filter(|cell| is(&cell)).collect();
    work.run_all(&students)?;
    work.run_all(&planner.branches(&students)?).map(drop)
}

/// The arms that have the placeholder that is tuned, with their places.
fn tuned_arms<'a>(planner: &Planner, arms: &'a [ArmSpec]) -> Result<Vec<(usize, &'a ArmSpec)>> {
    let mut out = Vec::new();
    for (index, arm) in arms.iter().enumerate() {
        if planner.is_tuned(arm)? {
            out.push((index, arm));
        }
    }
    Ok(out)
}

/// What another process or thread holds is asked for again after so long.
const POLL: Duration = Duration::from_secs(2);

impl Work<'_> {
    /// Tells the screen of cells to come.
    fn expect<'b>(&self, cells: impl IntoIterator<Item = &'b Cell>) {
        self.options.console.expect(cells.into_iter().map(|cell| (cell.name.clone(), cell.work())));
    }

    /// Tells of shorter runs that have more to train than a decay, once for each arm.
    fn say_what_is_not_shared(&self, branches: &[Cell]) {
        let mut told: Vec<&str> = Vec::new();
        for cell in branches {
            let Some(branch) = &cell.branch else { continue };
            if branch.what == "train.lr" && 2 * branch.shared >= cell.plan.train.steps || told.contains(&cell.arm_name.as_str()) {
                continue;
            }
            told.push(&cell.arm_name);
            self.options.console.note(&format!(
                "{}: {} of the {} steps are trained anew, for the whole run has another {} by then",
                cell.name,
                cell.plan.train.steps - branch.shared,
                cell.plan.train.steps,
                branch.what
            ));
        }
    }

    /// Chooses the value of every teacher or arm that is wanted and has one to choose; gives what was tried, by its
    /// name.
    fn tune(
        &self,
        planner: &mut Planner,
        is_teacher: bool,
        wanted: impl Fn(&ArmSpec) -> bool,
    ) -> Result<BTreeMap<String, Tuned>> {
        let Some(tune) = &self.spec.tune else { return Ok(BTreeMap::new()) };
        let arms = if is_teacher { &self.spec.teachers } else { &self.spec.arms };
        let of_interest = tuned_arms(planner, arms)?.into_iter().filter(|(_, arm)| wanted(arm));
        let mut grids: Vec<(usize, &ArmSpec, Grid)> = of_interest.map(|(index, arm)| (index, arm, Grid::new(tune))).collect();
        // All arms go on together, so that every core has work.
        loop {
            let mut trials: Vec<(usize, Cell)> = Vec::new();
            for (place, (index, arm, grid)) in grids.iter_mut().enumerate() {
                match grid.next(&arm.name, tune)? {
                    Next::Take(value) => drop(planner.chosen.insert(arm.name.clone(), value)),
                    Next::Try(values) => {
                        for value in values {
                            trials.extend(planner.trials(is_teacher, *index, value)?.into_iter().map(|cell| (place, cell)));
                        }
                    }
                }
            }
            if trials.is_empty() {
                break;
            }
            let cells: Vec<Cell> = trials.iter().map(|(_, cell)| cell.clone()).collect();
            let lines = self.run_all(&cells)?;
            for (place, (_, _, grid)) in grids.iter_mut().enumerate() {
                for (value, loss) in mean_losses(trials.iter().zip(&lines).filter(|((of, _), _)| *of == place)) {
                    grid.tell(value, loss);
                }
            }
        }
        let tried =
            |(value, loss): &(f64, Option<f64>)| Tried { value: value.to_string(), loss: loss.filter(|loss| loss.is_finite()) };
        let results = grids.into_iter().filter_map(|(_, arm, grid)| {
            let tuned = Tuned {
                key: tune.name.clone(),
                seeds: tune.seeds.clone(),
                steps: tune.steps,
                chosen: planner.chosen.get(&arm.name)?.to_string(),
                tried: grid.values.iter().map(tried).collect(),
            };
            Some((arm.name.clone(), tuned))
        });
        Ok(results.collect())
    }

    /// The lines of teachers and of students. Those of a seed go before those of the next, so that a study which is
    /// stopped has compared all arms over some seeds.
    fn run_by_seed(&self, teachers: &[Cell], students: &[Cell]) -> Result<(Vec<CellLine>, Vec<CellLine>)> {
        let turn = |cell: &Cell| self.spec.seeds.iter().position(|seed| *seed == cell.seed).unwrap_or(0);
        let mut cells: Vec<(usize, &Cell)> = teachers.iter().chain(students).enumerate().collect();
        cells.sort_by_key(|(_, cell)| turn(cell));
        let lines = self.run_all(&cells.iter().map(|(_, cell)| (*cell).clone()).collect::<Vec<_>>())?;
        let mut lines: Vec<(usize, CellLine)> = cells.iter().map(|(place, _)| *place).zip(lines).collect();
        lines.sort_by_key(|(place, _)| *place);
        let mut lines: Vec<CellLine> = lines.into_iter().map(|(_, line)| line).collect();
        let of_students = lines.split_off(teachers.len());
        Ok((lines, of_students))
    }

    /// Runs cells on `jobs` threads; the results are in the cells' order. What another process runs is left for later,
    /// so that several of them share a study.
    fn run_all(&self, cells: &[Cell]) -> Result<Vec<CellLine>> {
        self.expect(cells);
        let failed = AtomicBool::new(false);
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..cells.len()).collect());
        let results: Mutex<Vec<Option<Result<CellLine>>>> = Mutex::new(cells.iter().map(|_| None).collect());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.options.jobs.clamp(1, cells.len().max(1));
        let go_on = || {
            let mut busy = 0;
            while !failed.load(Ordering::SeqCst) && !interrupted() {
                let Some(index) = locked(&queue).pop_front() else { break };
                match self.run_if_free(&cells[index]) {
                    Some(result) => {
                        failed.fetch_or(result.is_err(), Ordering::SeqCst);
                        locked(&results)[index] = Some(result);
                        busy = 0;
                    }
                    None => {
                        let mut queue = locked(&queue);
                        queue.push_back(index);
                        busy += 1;
                        let all_are_busy = busy >= queue.len();
                        drop(queue);
                        if all_are_busy {
                            busy = 0;
                            std::thread::sleep(POLL);
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                // A job has as many threads whether or not others run beside it: the bits of a result go by their
                // number.
                scope.spawn(|| {
                    match rayon::ThreadPoolBuilder::new().num_threads((cores / self.options.jobs.max(1)).max(1)).build() {
                        Ok(pool) => pool.install(go_on),
                        Err(_) => go_on(),
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for result in results.into_iter().flatten() {
            // What a run says of going on is about a run alone.
            out.push(result.map_err(|error| if error.is_interrupted() { stopped() } else { error })?);
        }
        match out.len() == cells.len() {
            true => Ok(out),
            false => Err(stopped()),
        }
    }

    /// What a cell came to, whether it was run before or now; `None` while another process runs it.
    fn run_if_free(&self, cell: &Cell) -> Option<Result<CellLine>> {
        let result = (|| {
            if let Some(line) = self.found(cell)? {
                return Ok(Some((line, true)));
            }
            let Some(_lock) = try_hold(cell, self.options.dir)? else { return Ok(None) };
            // Somebody may have run it meanwhile.
            if let Some(line) = self.found(cell)? {
                return Ok(Some((line, true)));
            }
            // A teacher that another one trains is waited for while there is other work.
            if let Some(taught) = cell.taught.as_ref().filter(|taught| !taught.cell.dir.join("summary.json").exists())
                && try_hold(&taught.cell, self.options.dir)?.is_none()
            {
                return Ok(None);
            }
            let was_trained = cell.dir.join("summary.json").exists();
            Ok(Some((self.run(cell)?, was_trained)))
        })();
        if let Ok(Some((_, found))) = &result {
            self.options.console.cell_done(&cell.name, *found);
        }
        result.map(|found| found.map(|(line, _)| line)).transpose()
    }

    fn found(&self, cell: &Cell) -> Result<Option<CellLine>> {
        if let Some(line) = self.ledger.find(cell, &self.scoring(cell))? {
            return Ok(Some(line));
        }
        // What was scored otherwise is scored again, but not trained again for that.
        let trained = self.ledger.of(cell).filter(|_| !cell.dir.join("summary.json").exists());
        let Some(line) = trained else { return Ok(None) };
        self.options.console.note(&format!(
            "{}: its model is not here to be scored as this study asks; delete its line from cells.jsonl, and it is trained again",
            cell.name
        ));
        self.ledger.find(cell, &line.scoring)
    }

    /// How a cell's models are scored; trials are not.
    fn scoring(&self, cell: &Cell) -> String {
        if cell.is_trial || cell.branch.is_some() {
            return String::new();
        }
        let tasks = self.tasks_of(cell);
        let of_tasks = if tasks.is_empty() { String::new() } else { tasks::words(self.spec, &tasks) };
        [of_tasks, self.measures.words()].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// The tasks that a cell's models are scored on.
    fn tasks_of(&self, cell: &Cell) -> Vec<&Task> {
        let names = self.spec.tasks_of(&cell.arm_name, cell.seed);
        names.iter().filter_map(|name| self.tasks.iter().find(|task| task.name == *name)).collect()
    }

    /// Trains and scores a cell that the caller holds, and writes its line.
    pub fn run(&self, cell: &Cell) -> Result<CellLine> {
        let mut line = CellLine {
            study: self.spec.title.clone(),
            registered: self.options.registered.to_owned(),
            numerics: NUMERICS,
            upstill: format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("UPSTILL_COMMIT")),
            cell: cell.id.clone(),
            arm: cell.arm_name.clone(),
            seed: cell.seed,
            value: cell.value,
            is_trial: cell.is_trial,
            device: device_text(self.options.device),
            threads: threads_of(&cell.plan),
            scoring: self.scoring(cell),
            plan: cell.plan.to_toml(),
            ..CellLine::default()
        };
        let summary = match self.train(cell) {
            // A trial of a rate that is too high is an answer too.
            Err(error) if cell.is_trial && error.is_not_finite() => {
                line.stopped = Some(error.what().to_owned());
                return self.ledger.add(&line);
            }
            summary => summary?,
        };
        let steps = read_steps(&cell.dir.join("steps.jsonl"))?;
        for own in shown(&cell.plan) {
            let of = (!cell.plan.models.is_empty()).then_some(own.name.as_str());
            let records = of_model(&steps, of);
            let curve = records.iter().filter_map(|record| Some((record.step + 1, record.held_out_loss?))).collect();
            let mut model = ModelLine { held_out_loss: summary.held_out_loss_of(of), curve, ..ModelLine::default() };
            self.score(cell, &own.name, &mut model)?;
            line.models.insert(own.name, model);
        }
        line.seconds = summary.seconds;
        self.ledger.add(&line)
    }

    /// Adds what one of a cell's models scores beside the held-out loss.
    fn score(&self, cell: &Cell, model: &str, line: &mut ModelLine) -> Result<()> {
        if self.scoring(cell).is_empty() {
            return Ok(());
        }
        let (device, place) = (self.options.device, model_folder(model));
        let Measured { held_out, pairs } = self.measures.score(&cell.dir.join(&place), &cell.plan, device)?;
        (line.held_out, line.pairs) = (held_out, pairs);
        let tasks = self.tasks_of(cell);
        if tasks.is_empty() {
            return Ok(());
        }
        let of_model = if model == MODEL { String::new() } else { format!("-{model}") };
        let finetuned = |folder: &Path, at: &str| {
            let kept = cell.dir.join(format!("scores{of_model}{at}.json"));
            tasks::score(&folder.join(&place), &kept, cell.seed, &tasks, self.spec, device)
        };
        line.scores = finetuned(&cell.dir, "")?;
        for steps in self.spec.score_at(cell.plan.train.steps) {
            let checkpoint = checkpoint_of(&cell.dir, steps);
            if checkpoint.exists() {
                line.scores_at.push(ScoresAt { steps, scores: finetuned(&checkpoint, &format!("-{steps}"))? });
            }
        }
        Ok(())
    }

    /// Lets a shorter run begin where it parts from the whole one, if that one's checkpoint is there. Without it, or
    /// where it can't be used, the run trains from the beginning, and comes to the same.
    fn branch_off(&self, cell: &Cell, plan: &Plan, branch: &Branch) {
        let checkpoint = checkpoint_of(&branch.off, branch.shared);
        if !checkpoint.exists() || cell.dir.join("plan.toml").exists() {
            return;
        }
        if let Err(error) = begin_at(plan, &cell.dir, &checkpoint) {
            self.options.console.note(&format!("{} trains from the beginning: {}", cell.name, error.what()));
        }
    }

    /// Trains a cell that the caller holds, and its teacher before it where its weights are not there.
    fn train(&self, cell: &Cell) -> Result<crate::log::Summary> {
        if let Some(taught) = &cell.taught
            && !taught.cell.dir.join("summary.json").exists()
        {
            let _lock = hold(&taught.cell, self.options)?;
            self.train(&taught.cell)?;
        }
        let Work { shards, options, .. } = self;
        let live = cell.plan_to_train(shards)?;
        let plan = match self.shared.answers(&cell.plan, &live, shards, (options.dir, options.device))? {
            Some(answers) => cell.plan_with_teacher(shards, &answers)?,
            None => live,
        };
        if let Some(branch) = &cell.branch {
            self.branch_off(cell, &plan, branch);
        }
        let run = RunOptions { dir: &cell.dir, resume: true, name: &cell.name, console: options.console, device: options.device };
        train_run(&plan, shards, &run)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stopped() -> Error {
    Error::interrupted("the study was stopped; every run is saved").help("the same command goes on")
}

/// The mean loss of each value over its seeds.
fn mean_losses<'a>(trials: impl Iterator<Item = (&'a (usize, Cell), &'a CellLine)>) -> Vec<(f64, f64)> {
    let mut by_value: Vec<(f64, Vec<f64>)> = Vec::new();
    for ((_, cell), line) in trials {
        let Some(value) = cell.value else { continue };
        // Of several models that train together, the mean: one rate is chosen for all.
        let losses: Vec<f64> = line.models.values().filter_map(|model| model.held_out_loss).collect();
        let loss = super::statistics::mean(&losses).unwrap_or(f64::INFINITY);
        match by_value.iter_mut().find(|(other, _)| *other == value) {
            Some((_, losses)) => losses.push(loss),
            None => by_value.push((value, vec![loss])),
        }
    }
    by_value.into_iter().map(|(value, losses)| (value, losses.iter().sum::<f64>() / losses.len() as f64)).collect()
}

/// The part that computes, in words that are the same wherever its kind is.
pub(super) fn device_text(device: &Device) -> String {
    match device.kind {
        DeviceKind::Cpu => processor(),
        _ => format!("{} ({})", device.kind.word(), device.name),
    }
}

/// CPU threads of a run that starts on this thread.
pub(super) fn threads_of(plan: &Plan) -> usize {
    if plan.runtime.threads == 0 { rayon::current_num_threads() } else { plan.runtime.threads }
}

/// Keeps other processes that share the study's folder off a cell; waits for one that has it.
fn hold(cell: &Cell, options: &StudyOptions) -> Result<Lock> {
    Lock::wait_file(&lock_file(cell, options.dir), &mut waiting(options.console, &cell.name))
}

/// [`hold`] without waiting: `None` while another has it.
fn try_hold(cell: &Cell, dir: &Path) -> Result<Option<Lock>> {
    Lock::try_file(&lock_file(cell, dir))
}

fn lock_file(cell: &Cell, dir: &Path) -> PathBuf {
    dir.join("locks").join(&cell.id)
}

/// The records as one of several models saw them.
fn of_model(steps: &[StepRecord], model: Option<&str>) -> Vec<StepRecord> {
    match model {
        Some(model) => steps.iter().filter_map(|record| record.of(model)).collect(),
        None => steps.to_vec(),
    }
}
