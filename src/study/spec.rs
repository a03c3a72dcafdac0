//! What a study runs: teachers, arms and seeds over one base run file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::registration::TestSpec;
use super::results::HELD_OUT;
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
/// [test]                             # fixed before the first run
/// end_point = "held-out loss"
/// margin = 0.01
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
    /// Seeds that each teacher is trained with; students learn from the first. One unless written.
    #[serde(default = "one_seed")]
    pub teacher_seeds: Vec<u64>,
    /// Trained first.
    #[serde(default)]
    pub teachers: Vec<ArmSpec>,
    /// The students.
    pub arms: Vec<ArmSpec>,
    /// The arm that the others are compared with; the first without a teacher unless written.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Labelled tasks that every trained model is scored on.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Learning rate of fine-tuning.
    #[serde(default = "finetune_lr")]
    pub finetune_lr: f64,
    /// Passes over a task's training split.
    #[serde(default = "finetune_epochs")]
    pub finetune_epochs: f64,
    /// What is tested, and what counts as no difference; without it, differences are shown and none is called equivalent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestSpec>,
}

/// A way of training: what it sets over the base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// What it is called.
    pub name: String,
    /// The teacher's name, `uniform`, or a folder with a model.
    #[serde(default)]
    pub teacher: Option<String>,
    /// `key=value` over the base.
    #[serde(default)]
    pub set: Vec<String>,
    /// It is given as many steps as cost the FLOPs of a run of this arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops_of: Option<String>,
    /// The arms that its models are compared with, by the models' names; the one model of most methods is called `model`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub against: BTreeMap<String, String>,
}

pub(super) fn one_seed() -> Vec<u64> {
    vec![1]
}

fn finetune_lr() -> f64 {
    2e-5
}

fn finetune_epochs() -> f64 {
    3.0
}

/// How much of the paper's grid is run on the pocket language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// Seconds: shows that everything works, and nothing else.
    Tiny,
    /// Minutes: one teacher, the soft weights, three seeds.
    Small,
    /// Hours: teachers of 4, 2 and 1 layers, soft weight 1, 4 and 4 -> 1, fresh and remapped, controls, three seeds.
    Full,
}

impl StudySpec {
    /// Reads a study file.
    ///
    /// # Errors
    /// When it can't be read or is not a study; the message says where.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).doing("read", path)?;
        let spec: Self = toml::from_str(&text).map_err(|error| {
            Error::new(format!("not a study file\n{}", error.to_string().trim_end()))
                .at(path.display())
                .help("see `upstill study --help`")
        })?;
        spec.check().map_err(|error| error.at(path.display()))?;
        Ok(spec)
    }

    fn check(&self) -> Result<()> {
        let mut names: Vec<&str> = self.teachers.iter().chain(&self.arms).map(|arm| arm.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(
                Error::new(format!("two arms are called {:?}", twice[0])).help("give every teacher and arm a name of its own")
            );
        }
        if self.seeds.is_empty() || self.teacher_seeds.is_empty() || self.arms.is_empty() {
            return Err(Error::new("a study needs at least one seed, one teacher seed and one arm"));
        }
        let known = |name: &String| self.arms.iter().any(|arm| arm.name == *name);
        for arm in self.teachers.iter().chain(&self.arms) {
            if let Some(unknown) = arm.against.values().chain(&arm.flops_of).find(|name| !known(name)) {
                return Err(Error::new(format!("the arm {:?} names {unknown:?}, which is none of the arms", arm.name))
                    .help("`against` and `flops_of` take the name of an arm"));
            }
        }
        if let Some(baseline) = self.baseline.as_ref().filter(|baseline| !self.arms.iter().any(|arm| arm.name == **baseline)) {
            return Err(Error::new(format!("the baseline {baseline:?} is none of the arms")));
        }
        match &self.test {
            Some(test) => {
                let arms: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
                test.check(&self.end_points(), &arms, self.baseline.as_deref())
            }
            None => Ok(()),
        }
    }

    /// What its models are measured by, by name.
    fn end_points(&self) -> Vec<&str> {
        std::iter::once(HELD_OUT).chain(self.tasks.iter().map(String::as_str)).collect()
    }

    /// The paper's study on the pocket language.
    pub fn pocket(size: Size) -> Self {
        let (steps, seeds): (u64, &[u64]) = match size {
            Size::Tiny => (6, &[1, 2]),
            Size::Small => (900, &[1, 2, 3]),
            // Long enough for 6 layers to pass 4 (`examples/depth.toml`).
            Size::Full => (5000, &[1, 2, 3]),
        };
        let (layers, hidden, teacher_layers): (usize, usize, &[usize]) = match size {
            Size::Tiny => (2, 32, &[1]),
            Size::Small => (4, 64, &[2]),
            Size::Full => (6, 64, &[4, 2, 1]),
        };
        // The highest rate at which a student of 6 layers trains well; those of 4 take more.
        let lr = if size == Size::Full { "2e-3" } else { "5e-3" };
        let base = format!(
            "[model]\nlayers = {layers}\nhidden = {hidden}\nheads = {}\nmax_positions = 64\ntoken_types = 2\ndropout = 0.0\n\
             [data]\nshards = \"pocket\"\nrows = \"packed\"\nlength = 64\n\
             [train]\nsteps = {steps}\nbatch = 16\nlr = \"0 -> {lr} over 15%, then -> 0 linear\"\n\
             evaluate_every = {}\nevaluate_rows = {}\ncheckpoint_every = {steps}\nkeep_checkpoints = 1\n",
            hidden / 32,
            (steps / 10).max(1),
            if size == Size::Tiny { 32 } else { 256 },
        );
        let teacher_name = |layers: usize| format!("teacher, {layers} layer{}", if layers == 1 { "" } else { "s" });
        let teachers = teacher_layers.iter().map(|&layers| ArmSpec {
            name: teacher_name(layers),
            set: vec!["preset=standalone".into(), format!("model.layers={layers}")],
            ..ArmSpec::default()
        });
        let mut arms = vec![ArmSpec { name: "stand-alone".into(), set: vec!["preset=standalone".into()], ..ArmSpec::default() }];
        let presets = [("soft 1", "dwt-normal"), ("soft 4", "dwt-strong"), ("soft 4 -> 1", "dwt-decay")];
        for &layers in teacher_layers {
            for (name, preset) in if size == Size::Tiny { &presets[..1] } else { &presets[..] } {
                let starts: &[&str] = if size == Size::Full { &["fresh", "remap"] } else { &["fresh"] };
                for start in starts {
                    let of = if teacher_layers.len() > 1 { format!(", from {layers}") } else { String::new() };
                    let remapped = if *start == "remap" { ", remapped" } else { "" };
                    arms.push(ArmSpec {
                        name: format!("{name}{of}{remapped}"),
                        teacher: Some(teacher_name(layers)),
                        set: vec![format!("preset={preset}"), format!("distill.start={start}")],
                        ..ArmSpec::default()
                    });
                }
            }
        }
        if size == Size::Full {
            let controls = [
                ("inherit, from 4", Some(teacher_name(4)), "inherit"),
                ("uniform teacher", Some("uniform".into()), "dwt-normal"),
            ];
            arms.extend(controls.map(|(name, teacher, preset)| ArmSpec {
                name: name.into(),
                teacher,
                set: vec![format!("preset={preset}")],
                ..ArmSpec::default()
            }));
        }
        let tasks = match size {
            Size::Tiny => vec!["pocket-acceptability"],
            Size::Small => vec!["pocket-sentiment"],
            Size::Full => crate::tasks::pocket_names(),
        };
        Self {
            title: "Does a weak teacher make a better student?".into(),
            about: format!(
                "A student of {layers} layers, {hidden} wide, is pre-trained on the pocket language for {steps} steps of 16 rows of 64 tokens: \
                 alone, and with the predictions of a smaller, weaker teacher as a second target (Lee et al. 2023)."
            ),
            base,
            seeds: seeds.to_vec(),
            teacher_seeds: one_seed(),
            teachers: teachers.collect(),
            arms,
            baseline: Some("stand-alone".into()),
            tasks: tasks.into_iter().map(str::to_owned).collect(),
            finetune_lr: 1e-3,
            finetune_epochs: match size {
                Size::Tiny => 0.25,
                Size::Small => 2.0,
                Size::Full => 3.0,
            },
            test: Some(TestSpec::default()),
        }
    }
}
