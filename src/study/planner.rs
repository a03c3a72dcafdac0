//! The plans of a study's runs, made before anything is trained. A student's plan names its teacher by the teacher's
//! own cell, not by its weights or a path, so that a cell has the same name in any folder and is known before its
//! teacher is there.
//!
//! So the whole study is planned, and every mistake found, before anything trains, and a line of `cells.jsonl` stands
//! for a run on any machine. Weights do not travel: a student that is not found trains its teacher again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec::{ArmSpec, StudySpec, TeacherOf};
use super::tune::TuneSpec;
use crate::batch::{BatchOptions, Batches, Objective, Split};
use crate::checkpoint::{CHECKPOINTS, folder_name};
use crate::config::{LearnerPlan, Plan, RunFile, TeacherFacts};
use crate::error::{Error, Result};
use crate::tokens::Shards;
use crate::train::{find_facts, plan_on};

/// One run of an arm, planned.
#[derive(Clone)]
pub(super) struct Cell {
    /// Its place among the teachers or the arms.
    pub arm: usize,
    pub arm_name: String,
    pub seed: u64,
    /// What it is called on the screen.
    pub name: String,
    /// Hash of `plan`.
    pub id: String,
    pub dir: PathBuf,
    /// The plan, which names the teacher by its cell.
    pub plan: Plan,
    /// What the placeholder stands for, in a study that tunes this arm.
    pub value: Option<f64>,
    /// Whether it is a trial of `value`: no result of the study, but of its tuning.
    pub is_trial: bool,
    /// Where it leaves a longer run, if it ends at a smaller budget than that.
    pub branch: Option<Branch>,
    file: RunFile,
    pub taught: Option<Box<Taught>>,
}

/// What a shorter run has from the whole one.
#[derive(Clone)]
pub(super) struct Branch {
    /// The folder of the longer run.
    pub off: PathBuf,
    /// How long both are the same run.
    pub shared: u64,
    /// What differs then.
    pub what: &'static str,
}

/// The teacher of a cell.
#[derive(Clone)]
pub(super) struct Taught {
    pub cell: Cell,
    /// Steps that it had done, where it had not ended.
    step: Option<u64>,
}

impl Taught {
    /// Where the weights are, once it is trained.
    pub fn weights(&self) -> PathBuf {
        match self.step {
            None => self.cell.dir.clone(),
            Some(step) => self.cell.dir.join(CHECKPOINTS).join(folder_name(step)),
        }
    }

    /// The share of its training that went into it.
    pub fn share(&self) -> f64 {
        self.step.map_or(1.0, |step| step as f64 / self.cell.plan.train.steps as f64)
    }

    /// What a student's plan knows of it before it is trained.
    fn facts(&self) -> TeacherFacts {
        let plan = &self.cell.plan;
        let at = self.step.map_or(String::new(), |step| format!(" step {step}"));
        TeacherFacts {
            shape: plan.model.shape.clone(),
            tokenizer_hash: plan.data.tokenizer_hash.clone(),
            content_hash: format!("cell {}{at}", self.cell.id),
            has_head: true,
            first_differing_tokens: Vec::new(),
        }
    }
}

impl Cell {
    /// What it costs.
    pub fn flops(&self) -> f64 {
        flops(&self.plan)
    }

    /// What of it is left to be done where the steps that it shares with another run are there.
    pub fn work(&self) -> f64 {
        let shared = self.branch.as_ref().map_or(0, |branch| branch.shared);
        self.flops() * (1.0 - shared as f64 / self.plan.train.steps.max(1) as f64)
    }

    /// This cell, to be run in another folder; its teacher stays where it is if it is trained there.
    pub fn in_folder(&self, folder: &Path) -> Self {
        let mut cell = self.clone();
        cell.dir = folder.join("cells").join(&self.id);
        cell.branch = None; // trained from the beginning
        if let Some(taught) = &mut cell.taught
            && !taught.cell.dir.join("summary.json").exists()
        {
            taught.cell = taught.cell.in_folder(folder);
        }
        cell
    }

    /// The plan to train by: with its teacher's weights, which must be there.
    ///
    /// # Errors
    /// When they are not.
    pub fn plan_to_train(&self, shards: &Shards) -> Result<Plan> {
        let Some(taught) = &self.taught else {
            let answers = self.plan.teacher.as_ref().is_some_and(|teacher| teacher.answers.is_some());
            return if answers { self.plan_with(shards, &self.file) } else { Ok(self.plan.clone()) };
        };
        let weights = taught.weights();
        if taught.step.is_some() && !weights.exists() {
            return Err(Error::new(format!("{} has no such checkpoint any more", taught.cell.name))
                .at(weights.display())
                .help(format!("delete {}, and the teacher is trained again", taught.cell.dir.display())));
        }
        self.plan_with_teacher(shards, &weights)
    }

    /// The plan with whoever or whatever teaches in a folder.
    pub fn plan_with_teacher(&self, shards: &Shards, folder: &Path) -> Result<Plan> {
        let mut file = self.file.clone();
        file.set(&format!("teacher.from={}", folder.display()));
        self.plan_with(shards, &file)
    }

    fn plan_with(&self, shards: &Shards, file: &RunFile) -> Result<Plan> {
        let plan = plan_on(file, shards);
        let mut plan = plan.map_err(|error| error.at(format!("arm {:?}", self.arm_name)))?;
        plan.train.keep_at.clone_from(&self.plan.train.keep_at);
        Ok(plan)
    }
}

/// What a run costs.
pub(super) fn flops(plan: &Plan) -> f64 {
    plan.estimate().computed.total() * plan.train.steps as f64
}

/// The plans of all runs of a study that are results, by their names: teachers first. Of arms that are tuned, with the
/// first value.
///
/// # Errors
/// The first mistake in a plan. Nothing is trained.
pub fn plan_study(spec: &StudySpec, shards: &Shards, dir: &Path) -> Result<Vec<(String, Plan)>> {
    let planner = Planner::new(spec, shards, dir);
    let (teachers, students) = planner.results()?;
    let branches = planner.branches(&students)?;
    Ok(teachers.into_iter().chain(students).chain(branches).map(|cell| (cell.name, cell.plan)).collect())
}

/// What a cell is for.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Result,
    Trial(f64),
}

/// Makes the plans of a study's runs.
pub(super) struct Planner<'a> {
    spec: &'a StudySpec,
    shards: &'a Shards,
    dir: &'a Path,
    /// By the names of teachers and arms: the values that tuning chose.
    pub chosen: BTreeMap<String, f64>,
}

impl<'a> Planner<'a> {
    /// A planner for a study whose cells are in `dir`.
    pub fn new(spec: &'a StudySpec, shards: &'a Shards, dir: &'a Path) -> Self {
        Self { spec, shards, dir, chosen: BTreeMap::new() }
    }

    /// All results of teachers and of students, in this order; of arms that are still to be tuned, with their grids'
    /// first value.
    ///
    /// # Errors
    /// The first mistake in a plan, whether or not its teacher is trained.
    pub fn results(&self) -> Result<(Vec<Cell>, Vec<Cell>)> {
        Ok((self.teachers()?, self.students()?))
    }

    /// The teachers' results.
    pub fn teachers(&self) -> Result<Vec<Cell>> {
        self.each(
            &self.spec.teachers,
            |teacher| self.spec.seeds_of_teacher(teacher),
            |index, seed| self.teacher(index, seed, Use::Result),
        )
    }

    /// The students' results.
    pub fn students(&self) -> Result<Vec<Cell>> {
        let mut students =
            self.each(&self.spec.arms, |arm| self.spec.seeds_of(arm), |index, seed| self.student(index, seed, Use::Result))?;
        for cell in &mut students {
            let branches = self.branches_of(cell)?;
            let shared = branches.iter().filter_map(|branch| Some(branch.branch.as_ref()?.shared));
            let early = self.spec.score_at(cell.plan.train.steps);
            cell.plan.train.keep_at = shared.filter(|&step| step > 0).chain(early).collect();
        }
        Ok(students)
    }

    /// The students' runs that end at other budgets, in the order of the students.
    pub fn branches(&self, students: &[Cell]) -> Result<Vec<Cell>> {
        let all = students.iter().map(|cell| self.branches_of(cell)).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().flatten().collect())
    }

    fn branches_of(&self, whole: &Cell) -> Result<Vec<Cell>> {
        let arm = &self.spec.arms[whole.arm];
        let mut out = Vec::new();
        for budget in self.spec.branches_of(arm, whole.seed) {
            let (steps, of) = (budget.of(whole.plan.train.steps), whole.plan.train.steps);
            if steps > of {
                return Err(Error::new(format!("the arm {:?} has {of} steps, and `branches` a budget of {steps}", arm.name))
                    .help("a branch ends before the whole run; raise train.steps, or write shares"));
            }
            if steps == of {
                continue;
            }
            let mut shorter = arm.clone();
            shorter.set.push(format!("train.steps={steps}"));
            let mut cell = self.cell(whole.arm, &shorter, whole.seed, Use::Result, whole.taught.clone())?;
            let parting = cell.plan.parting(&whole.plan);
            cell.name = format!("{} after {steps} steps #{}", arm.name, whole.seed);
            // The last step is always taken: it is the one that is evaluated. A few steps are not worth a checkpoint.
            let shared = Some(parting.steps.min(steps - 1)).filter(|shared| 20 * shared >= steps).unwrap_or(0);
            cell.branch = Some(Branch { off: whole.dir.clone(), shared, what: parting.what });
            out.push(cell);
        }
        Ok(out)
    }

    /// Seed after seed, so that a study which is stopped has all arms of some seeds.
    fn each<'b>(
        &self,
        arms: &'b [ArmSpec],
        seeds: impl Fn(&'b ArmSpec) -> &'b [u64],
        cell: impl Fn(usize, u64) -> Result<Cell>,
    ) -> Result<Vec<Cell>> {
        let mut all: Vec<u64> = Vec::new();
        for seed in arms.iter().flat_map(&seeds) {
            if !all.contains(seed) {
                all.push(*seed);
            }
        }
        let mut out = Vec::new();
        for seed in all {
            for (index, _) in arms.iter().enumerate().filter(|(_, arm)| seeds(arm).contains(&seed)) {
                out.push(cell(index, seed)?);
            }
        }
        Ok(out)
    }

    /// The trials of a value for a teacher, or for an arm.
    pub fn trials(&self, is_teacher: bool, index: usize, value: f64) -> Result<Vec<Cell>> {
        let seeds = self.spec.tune.iter().flat_map(|tune| &tune.seeds);
        seeds
            .map(|&seed| match is_teacher {
                true => self.teacher(index, seed, Use::Trial(value)),
                false => self.student(index, seed, Use::Trial(value)),
            })
            .collect()
    }

    /// Whether an arm has the placeholder that is tuned, and a value of its own for it.
    pub fn is_tuned(&self, arm: &ArmSpec) -> Result<bool> {
        Ok(arm.tuned_as.is_none() && self.has_placeholder(arm)?)
    }

    fn has_placeholder(&self, arm: &ArmSpec) -> Result<bool> {
        let Some(tune) = &self.spec.tune else { return Ok(false) };
        Ok(self.written(arm, Some((tune, 1.0)))? != self.written(arm, Some((tune, 2.0)))?)
    }

    /// The base with an arm's settings.
    fn written(&self, arm: &ArmSpec, tuned: Option<(&TuneSpec, f64)>) -> Result<RunFile> {
        let fill = |text: &str| tuned.map_or_else(|| text.to_owned(), |(tune, value)| tune.fill(text, value));
        let mut file = RunFile::parse(&fill(&self.spec.base), "the study's base")?;
        arm.set.iter().for_each(|assignment| file.set(&fill(assignment)));
        Ok(file)
    }

    fn teacher(&self, index: usize, seed: u64, wanted: Use) -> Result<Cell> {
        let arm = &self.spec.teachers[index];
        let mut cell = self.cell(index, arm, seed, wanted, None)?;
        let early = self.spec.arms.iter().filter_map(|student| match self.spec.teacher_of(student) {
            TeacherOf::Trained { teacher, at: Some(at) } if teacher.name == arm.name => Some(at.of(cell.plan.train.steps)),
            _ => None,
        });
        let early: Vec<u64> = early.filter(|&step| step != cell.plan.train.steps).collect();
        let steps = cell.plan.train.steps;
        if let Some(late) = early.iter().find(|&&step| step > steps) {
            return Err(Error::new(format!("arms learn from {:?} after {late} of its {steps} steps", arm.name))
                .help("choose a time within its training"));
        }
        cell.plan.train.keep_at = early;
        Ok(cell)
    }

    fn student(&self, index: usize, seed: u64, wanted: Use) -> Result<Cell> {
        let arm = &self.spec.arms[index];
        let Some(name) = &arm.flops_of else { return self.cell(index, arm, seed, wanted, self.taught(arm, seed, wanted)?) };
        let other = self.spec.arms.iter().find(|other| other.name == *name).unwrap_or(arm);
        let own = self.cell(index, arm, seed, Use::Result, self.taught(arm, seed, Use::Result)?)?;
        let theirs = self.cell(index, other, seed, Use::Result, self.taught(other, seed, Use::Result)?)?;
        let steps = (theirs.flops() / own.plan.estimate().computed.total().max(1.0)).round().max(1.0) as u64;
        let mut longer = arm.clone();
        longer.set.push(format!("train.steps={steps}"));
        self.cell(index, &longer, seed, wanted, self.taught(arm, seed, wanted)?)
    }

    /// The teacher of an arm's seed: in a trial one of the trial's own seed, where teachers are paired with students.
    fn taught(&self, arm: &ArmSpec, seed: u64, wanted: Use) -> Result<Option<Box<Taught>>> {
        let TeacherOf::Trained { teacher, at } = self.spec.teacher_of(arm) else { return Ok(None) };
        let index = self.spec.teachers.iter().position(|other| other.name == teacher.name).unwrap_or(0);
        let seed = self.spec.teacher_seed(seed);
        let is_result = wanted == Use::Result || self.spec.seeds_of_teacher(teacher).contains(&seed);
        let cell = match is_result {
            true => self.teacher(index, seed, Use::Result)?,
            // The trial of its own best value, where trials are as long as results.
            false => self.whole_trial(index, seed)?,
        };
        let step = at.map(|at| at.of(cell.plan.train.steps)).filter(|&step| step != cell.plan.train.steps);
        Ok(Some(Box::new(Taught { cell, step })))
    }

    /// A teacher for trials of students: of the trials' seed, trained to its end.
    fn whole_trial(&self, index: usize, seed: u64) -> Result<Cell> {
        let value = self.value(&self.spec.teachers[index]);
        let full = TuneSpec { steps: None, ..self.spec.tune.clone().expect("only a study that tunes has trials") };
        let spec = StudySpec { tune: Some(full), ..self.spec.clone() };
        let planner = Planner { spec: &spec, shards: self.shards, dir: self.dir, chosen: self.chosen.clone() };
        planner.teacher(index, seed, Use::Trial(value))
    }

    /// The value that an arm is run with: what tuning chose, or before that the first to be tried.
    fn value(&self, arm: &ArmSpec) -> f64 {
        let first = || self.spec.tune.as_ref().and_then(|tune| tune.values.first().copied()).unwrap_or(0.0);
        let known = arm.tuned_as.iter().chain([&arm.name]).find_map(|name| self.chosen.get(name));
        known.copied().unwrap_or_else(first)
    }

    fn cell(&self, index: usize, arm: &ArmSpec, seed: u64, wanted: Use, taught: Option<Box<Taught>>) -> Result<Cell> {
        let value = match (&self.spec.tune, wanted) {
            (None, _) => None,
            (Some(_), Use::Trial(value)) => Some(value),
            (Some(_), Use::Result) => Some(self.value(arm)),
        };
        let mut file = self.written(arm, self.spec.tune.as_ref().zip(value))?;
        file.set(&format!("seed={seed}"));
        if let (None, Some(from)) = (&taught, &arm.teacher) {
            file.set(&format!("teacher.from={from}"));
        }
        let mut plan = self.resolved(arm, &file, taught.as_deref())?;
        if let (Use::Trial(_), Some(tune)) = (wanted, &self.spec.tune) {
            for setting in self.trial_settings(tune, &plan)? {
                file.set(&setting);
            }
            plan = self.resolved(arm, &file, taught.as_deref())?;
        }
        if let Some(kept) = self.spec.kept(arm)? {
            plan = kept.plan(plan);
        }
        let tried = match (wanted, &self.spec.tune) {
            (Use::Trial(value), Some(tune)) => format!(", {} {value}", tune.name),
            _ => String::new(),
        };
        let id = plan.hash();
        Ok(Cell {
            arm: index,
            arm_name: arm.name.clone(),
            seed,
            name: format!("{}{tried} #{seed}", arm.name),
            dir: self.dir.join("cells").join(&id),
            id,
            plan,
            value: value.filter(|_| self.has_placeholder(arm).unwrap_or(false)),
            is_trial: wanted != Use::Result,
            branch: None,
            file,
            taught,
        })
    }

    /// A file's plan, with what is known of a teacher that need not be trained yet.
    fn resolved(&self, arm: &ArmSpec, file: &RunFile, taught: Option<&Taught>) -> Result<Plan> {
        let mut file = file.clone();
        let mut wanted = file.wanted();
        if let Some(taught) = taught {
            file.set(&format!("teacher.from=cells/{}", taught.cell.id));
            wanted.teacher = None;
            wanted.family = wanted.family.or(Some(taught.cell.plan.model.shape.family()));
        }
        let mut facts = find_facts(&wanted, Ok(self.shards));
        if let Some(taught) = taught.filter(|_| file.wanted().teacher.is_some()) {
            if !taught.cell.plan.models.is_empty() {
                return Err(Error::new(format!("the teacher {:?} trains several models", taught.cell.arm_name))
                    .at(format!("arm {:?}", arm.name))
                    .help("a teacher is one model"));
            }
            facts.teacher = Some(Ok(taught.facts()));
        }
        file.resolve(&facts).map_err(|error| error.at(format!("arm {:?}", arm.name)))
    }

    /// What makes a trial of a result's plan: its length, and held-out rows that no result is scored on.
    fn trial_settings(&self, tune: &TuneSpec, plan: &Plan) -> Result<[String; 3]> {
        let data = &plan.data;
        let objective = Objective::of_held_out(plan);
        let options = BatchOptions { layout: data.rows, length: data.length, batch: 1, seed: 0, objective };
        let there = Batches::new(self.shards, Split::HeldOut, options)?.rows_per_epoch();
        let after = plan.train.evaluate_rows;
        if there < after + after.min(tune.rows.unwrap_or(after)) {
            return Err(Error::new(format!(
                "{there} held-out rows are too few: results are scored on {after}, and tuning on as many others"
            ))
            .help(
                "lower train.evaluate_rows in the base, or give [tune] fewer `rows`; or hold out more when building the data",
            ));
        }
        Ok([
            format!("train.steps={}", tune.steps.unwrap_or(u64::MAX).min(plan.train.steps)),
            format!("train.evaluate_rows={}", tune.rows.unwrap_or(after)),
            format!("train.evaluate_after={after}"),
        ])
    }
}

/// The models of a run that a study shows: of several, those that learn from another, for one that doesn't is as it
/// would be alone; when none does, all.
pub(super) fn shown(plan: &Plan) -> Vec<LearnerPlan> {
    let all = plan.learners();
    let learn: Vec<LearnerPlan> = all.iter().filter(|own| !own.from.is_empty()).cloned().collect();
    if learn.is_empty() { all } else { learn }
}
