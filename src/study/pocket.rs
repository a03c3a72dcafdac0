//! The paper's study on the pocket language (Lee et al. 2023), in three sizes.

use std::collections::BTreeMap;

use super::registration::TestSpec;
use super::spec::{ArmSpec, StudySpec, TeacherSeeds};

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
        let teachers = teacher_layers.iter().map(|&layers| ArmSpec {
            name: teacher_name(layers),
            set: vec!["preset=standalone".into(), format!("model.layers={layers}")],
            ..ArmSpec::default()
        });
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
            base: base(size, layers, hidden, steps),
            seeds: seeds.to_vec(),
            teacher_seeds: TeacherSeeds::paired(),
            teachers: teachers.collect(),
            arms: arms(size, teacher_layers),
            baseline: Some("stand-alone".into()),
            tasks: tasks.into_iter().map(str::to_owned).collect(),
            glue: None,
            task_seeds: Vec::new(),
            held_out: BTreeMap::new(),
            pairs: BTreeMap::new(),
            branches: Vec::new(),
            branch_seeds: Vec::new(),
            score_at: Vec::new(),
            finetune_lr: 1e-3,
            finetune_epochs: match size {
                Size::Tiny => 0.25,
                Size::Small => 2.0,
                Size::Full => 3.0,
            },
            test: Some(TestSpec::default()),
            tune: None,
            answers: None,
        }
    }
}

/// The run file that every cell starts from.
fn base(size: Size, layers: usize, hidden: usize, steps: u64) -> String {
    // The highest rate at which a student of 6 layers trains well; those of 4 take more.
    let lr = if size == Size::Full { "2e-3" } else { "5e-3" };
    format!(
        "[model]\nlayers = {layers}\nhidden = {hidden}\nheads = {}\nmax_positions = 64\ntoken_types = 2\ndropout = 0.0\n\
         [data]\nshards = \"pocket\"\nrows = \"packed\"\nlength = 64\n\
         [train]\nsteps = {steps}\nbatch = 16\nlr = \"0 -> {lr} over 15%, then -> 0 linear\"\n\
         evaluate_every = {}\nevaluate_rows = {}\ncheckpoint_every = {steps}\nkeep_checkpoints = 1\n",
        hidden / 32,
        (steps / 10).max(1),
        if size == Size::Tiny { 32 } else { 256 },
    )
}

/// The students: one alone, one for each teacher, soft weight and start, and the controls of the full size.
fn arms(size: Size, teacher_layers: &[usize]) -> Vec<ArmSpec> {
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
        let controls =
            [("inherit, from 4", Some(teacher_name(4)), "inherit"), ("uniform teacher", Some("uniform".into()), "dwt-normal")];
        arms.extend(controls.map(|(name, teacher, preset)| ArmSpec {
            name: name.into(),
            teacher,
            set: vec![format!("preset={preset}")],
            ..ArmSpec::default()
        }));
    }
    arms
}

fn teacher_name(layers: usize) -> String {
    format!("teacher, {layers} layer{}", if layers == 1 { "" } else { "s" })
}
