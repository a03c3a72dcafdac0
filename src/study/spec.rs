//! What a study runs: teachers, arms and seeds over one base run file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::registration::{HELD_OUT, TestSpec};
use super::tune::TuneSpec;
use crate::error::{Error, IoContext, Result};

/// A study as written: `upstill study STUDY.toml`, or one of the built-in sizes.
///
/// ```toml
/// title = "Does a weak teacher help?"
/// seeds = [1, 2, 3]
/// base = """
/// [model]
/// layers = 4
/// hidden = 128
/// [data]
/// shards = "data/wiki"
/// [train]
/// steps = 2000
/// """
/// [[teachers]]
/// name = "teacher of 2 layers"
/// set = ["model.layers=2"]
/// [[arms]]
/// name = "stand-alone"
/// set = ["preset=standalone"]
/// [[arms]]
/// name = "soft 1"
/// teacher = "teacher of 2 layers"
/// set = ["preset=dwt-normal"]
/// [held_out]                         # other text that every model is scored on
/// imdb = "data/imdb"
/// [pairs]                            # minimal pairs, by pseudo-log-likelihood
/// blimp = "blimp.jsonl.zst"
/// [test]                             # fixed before the first run
/// end_point = "held-out loss"
/// margin = 0.01
/// ```
/// See [`TuneSpec`] for a learning rate of each arm's own.
///
/// ```
/// use upstill::StudySpec;
///
/// let text = "title = 'Two widths'\nseeds = [1, 2]\nbase = ''\n[[arms]]\nname = 'small'\nset = ['model.hidden=32']";
/// let study = StudySpec::parse(text)?;
/// assert_eq!(study.seeds_of(&study.arms[0]), [1, 2]);
/// # Ok::<(), upstill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// The report's heading.
    pub title: String,
    /// What it asks, in a sentence or two.
    #[serde(default)]
    pub about: String,
    /// The run file that every cell starts from.
    pub base: String,
    /// Every arm is run once with each.
    pub seeds: Vec<u64>,
    /// Seeds that each teacher is trained with. One unless written.
    #[serde(default)]
    pub teacher_seeds: TeacherSeeds,
    /// Trained first.
    #[serde(default)]
    pub teachers: Vec<ArmSpec>,
    /// The students.
    pub arms: Vec<ArmSpec>,
    /// The arm that the others are compared with; the first without a teacher unless written.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Labelled tasks that every trained model is fine-tuned on and scored by: pocket tasks, and GLUE's where `glue` is
    /// written.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// The folder with GLUE's official files (`CoLA/`, `SST-2/`, ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glue: Option<String>,
    /// The seeds whose models are scored on tasks; all unless written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_seeds: Vec<u64>,
    /// Other shards whose held-out split every trained model is scored on, by a name for each; their vocabulary is the
    /// data's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, String>,
    /// Minimal pairs that every trained model is scored on, by a name for each: a file in BLiMP's format, a folder of
    /// them, or `pocket`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pairs: BTreeMap<String, String>,
    /// Budgets at which every student's training ends too, as shares of its steps (`25%`) or as steps: each is a run of
    /// its own that goes on from the whole run's checkpoint, as far as both are the same run. With a learning rate such
    /// as `0 -> 1e-3 over 100 steps, then 1e-3 until 80%, then -> 0`, only the decays are trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// The seeds that have them; all unless written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branch_seeds: Vec<u64>,
    /// Times of every student's training at which its model is fine-tuned on the tasks too, as shares (`25%`) or steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub score_at: Vec<String>,
    /// Learning rate of fine-tuning.
    #[serde(default = "finetune_lr")]
    pub finetune_lr: f64,
    /// Passes over a task's training split.
    #[serde(default = "finetune_epochs")]
    pub finetune_epochs: f64,
    /// What of a teacher's distribution is kept: `top-k 12`, or `50 draws`. Then a teacher is asked once about the
    /// batches of a seed, and all arms of that seed read its answers from `answers/` in the study's folder; unless
    /// written, each run has its teacher in memory. Arms that can't (another place or divergence, a temperature that
    /// changes, a student that starts as its teacher) go on as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// What is tested, and what counts as no difference; without it, differences are shown and none is called
    /// equivalent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestSpec>,
    /// A value that is chosen for each arm before its seeds are run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<TuneSpec>,
}

/// Which seeds teachers have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`teacher_seeds` is \"paired\" or a list of seeds")]
pub enum TeacherSeeds {
    /// A rule, by its word.
    Word(TeacherWord),
    /// These; students learn from the first.
    Listed(Vec<u64>),
}

/// A rule for teachers' seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TeacherWord {
    /// A student of seed s learns from the teacher of seed s, so that an interval over seeds holds the teacher's luck
    /// too.
    #[serde(rename = "paired")]
    Paired,
}

impl Default for TeacherSeeds {
    fn default() -> Self {
        Self::Listed(vec![1])
    }
}

impl TeacherSeeds {
    /// A teacher for each seed of the students.
    pub fn paired() -> Self {
        Self::Word(TeacherWord::Paired)
    }
}

/// A way of training: what it sets over the base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// What it is called.
    pub name: String,
    /// The teacher's name, `uniform`, or a folder with a model. `NAME@30%` and `NAME@1500` are the teacher as it was
    /// after that share of its training, or after so many steps.
    #[serde(default)]
    pub teacher: Option<String>,
    /// Seeds of its own; the study's unless written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// `key=value` over the base.
    #[serde(default)]
    pub set: Vec<String>,
    /// Tasks of its own, in place of the study's; an empty list for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<String>>,
    /// Budgets of its own, as the study's `branches`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
    /// What is kept of its teacher's distribution, as the study's `answers`; `none` has its teacher in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// It takes the value that tuning chose for this arm, and is not tuned itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned_as: Option<String>,
    /// It is given as many steps as cost the FLOPs of a run of this arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_of: Option<String>,
    /// The arms that its models are compared with, by the models' names; the one model of most methods is called
    /// `model`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub against: BTreeMap<String, String>,
}

/// Whom an arm learns from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TeacherOf<'a> {
    /// It has no teacher.
    Nobody,
    /// One that the study trains, as it was at some time of its training; at its end unless said.
    Trained { teacher: &'a ArmSpec, at: Option<At> },
    /// `uniform`, or a folder.
    Other(&'a str),
}

/// A time of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum At {
    /// A share of its steps, 0 to 100.
    Percent(f64),
    /// So many steps done.
    Step(u64),
}

impl At {
    /// `30%`, or `1500`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text.trim().strip_suffix('%') {
            Some(percent) => Self::Percent(percent.trim().parse().ok()?),
            None => Self::Step(text.trim().parse().ok()?),
        })
    }

    /// Steps done of so many.
    pub(super) fn of(self, steps: u64) -> u64 {
        match self {
            Self::Percent(percent) => ((steps as f64 * percent / 100.0).round() as u64).max(1),
            Self::Step(step) => step,
        }
    }
}

fn finetune_lr() -> f64 {
    2e-5
}

fn finetune_epochs() -> f64 {
    3.0
}

impl StudySpec {
    /// Reads a study file.
    ///
    /// # Errors
    /// When it can't be read or is not a study; the message says where.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).doing("read", path)?;
        Self::parse(&text).map_err(|error| error.at(path.display()))
    }

    /// A study file's text.
    ///
    /// # Errors
    /// When it is not a study.
    pub fn parse(text: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text).map_err(|error| {
            Error::new(format!("not a study file\n{}", error.to_string().trim_end())).help("see `upstill study --help`")
        })?;
        spec.check()?;
        Ok(spec)
    }

    /// What of a teacher's distribution is kept for an arm, where answers are shared.
    pub(super) fn kept(&self, arm: &ArmSpec) -> Result<Option<Kept>> {
        let written = arm.answers.as_ref().or(self.answers.as_ref()).filter(|written| *written != "none");
        written.map(|written| Kept::parse(written)).transpose()
    }

    /// What its models are measured by, by name.
    pub(super) fn end_points(&self) -> Vec<&str> {
        let measured = self.held_out.keys().chain(self.pairs.keys()).map(String::as_str).chain(self.all_tasks());
        std::iter::once(HELD_OUT).chain(measured).collect()
    }

    /// The tasks that some model is scored on, each once.
    pub fn all_tasks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let of_arms = self.teachers.iter().chain(&self.arms).filter_map(|arm| arm.tasks.as_ref());
        for name in std::iter::once(&self.tasks).chain(of_arms).flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The tasks that a model of an arm with this name and seed is scored on.
    pub(super) fn tasks_of(&self, arm: &str, seed: u64) -> &[String] {
        if !self.task_seeds.is_empty() && !self.task_seeds.contains(&seed) {
            return &[];
        }
        let arm = self.teachers.iter().chain(&self.arms).find(|other| other.name == arm);
        arm.and_then(|arm| arm.tasks.as_ref()).unwrap_or(&self.tasks)
    }

    /// The budgets at which an arm's training of a seed ends, beside its own.
    pub(super) fn branches_of(&self, arm: &ArmSpec, seed: u64) -> Vec<At> {
        if !self.branch_seeds.is_empty() && !self.branch_seeds.contains(&seed) {
            return Vec::new();
        }
        arm.branches.as_ref().unwrap_or(&self.branches).iter().filter_map(|written| At::parse(written)).collect()
    }

    /// Steps before the end of a run of so many at which its model is fine-tuned too.
    pub(super) fn score_at(&self, steps: u64) -> Vec<u64> {
        let written = self.score_at.iter().filter_map(|written| Some(At::parse(written)?.of(steps)));
        written.filter(|&at| at < steps).collect()
    }

    /// The seeds that an arm is run with.
    pub fn seeds_of<'a>(&'a self, arm: &'a ArmSpec) -> &'a [u64] {
        arm.seeds.as_ref().unwrap_or(&self.seeds)
    }

    /// The seeds that a teacher is trained with.
    pub fn seeds_of_teacher<'a>(&'a self, teacher: &'a ArmSpec) -> &'a [u64] {
        match (&teacher.seeds, &self.teacher_seeds) {
            (Some(own), _) => own,
            (None, TeacherSeeds::Word(TeacherWord::Paired)) => &self.seeds,
            (None, TeacherSeeds::Listed(seeds)) => seeds,
        }
    }

    /// The seed of the teacher that a student of this seed learns from.
    pub fn teacher_seed(&self, student: u64) -> u64 {
        match &self.teacher_seeds {
            TeacherSeeds::Word(TeacherWord::Paired) => student,
            TeacherSeeds::Listed(seeds) => seeds.first().copied().unwrap_or(student),
        }
    }

    /// Whom an arm learns from.
    pub(super) fn teacher_of<'a>(&'a self, arm: &'a ArmSpec) -> TeacherOf<'a> {
        let Some(written) = &arm.teacher else { return TeacherOf::Nobody };
        let named = |name: &str| self.teachers.iter().find(|teacher| teacher.name == name);
        if let Some(teacher) = named(written) {
            return TeacherOf::Trained { teacher, at: None };
        }
        let at_a_time = written
            .rsplit_once('@')
            .and_then(|(name, at)| Some(TeacherOf::Trained { teacher: named(name.trim_end())?, at: Some(At::parse(at)?) }));
        at_a_time.unwrap_or(TeacherOf::Other(written))
    }
}
