//! The study of models that teach each other: each alone, one way, both ways, and beside them the other ways of using a
//! second model.

use std::collections::BTreeMap;

use super::pocket::Size;
use super::registration::TestSpec;
use super::spec::{ArmSpec, StudySpec, TeacherSeeds};
use crate::config::MODEL;

/// A model of the study: its layers and its width.
type Shape = (usize, usize);

const LARGE: &str = "large alone";
const SMALL: &str = "small alone";
const MUTUAL: &str = "mutual";

impl StudySpec {
    /// Large and small alone, one way each, both ways (Lee et al. 2023b), each alone for the FLOPs of both ways; and
    /// the large one with the small one as its teacher (Lee et al. 2023) and as what it inherits from (Qin et al.
    /// 2022).
    pub fn cotrain(size: Size) -> Self {
        let (steps, large, small): (u64, Shape, Shape) = match size {
            Size::Tiny => (6, (2, 32), (1, 16)),
            Size::Small => (1000, (4, 64), (2, 64)),
            Size::Full => (4000, (6, 96), (3, 96)),
        };
        let base = format!(
            "[model]\nheads = 2\nmax_positions = 64\ntoken_types = 2\ndropout = 0.0\n\
             [data]\nshards = \"pocket\"\nrows = \"packed\"\nlength = 64\n\
             [train]\nsteps = {steps}\nbatch = 16\nlr = \"0 -> 5e-3 over 15%, then -> 0 linear\"\n\
             evaluate_every = {}\nevaluate_rows = {}\ncheckpoint_every = {steps}\nkeep_checkpoints = 1\n",
            (steps / 10).max(1),
            if size == Size::Tiny { 32 } else { 256 },
        );
        let tasks = if size == Size::Full { crate::tasks::pocket_names() } else { Vec::new() };
        Self {
            title: "Do two models that teach each other get better?".into(),
            about: format!(
                "A large model ({} layers, {} wide) and a small one ({} layers, {} wide) are pre-trained on the pocket language for \
                 {steps} steps of 16 rows of 64 tokens: alone, side by side with one learning from the other, and with both \
                 (Lee et al. 2023b); beside them, the large one with the trained small one as its teacher.",
                large.0, large.1, small.0, small.1
            ),
            base,
            seeds: if size == Size::Tiny { vec![1, 2] } else { vec![1, 2, 3] },
            teacher_seeds: TeacherSeeds::default(),
            teachers: vec![ArmSpec { name: "teacher, small".into(), set: alone(small), ..ArmSpec::default() }],
            arms: arms(large, small, size),
            baseline: Some(LARGE.into()),
            tasks: tasks.into_iter().map(str::to_owned).collect(),
            glue: None,
            task_seeds: Vec::new(),
            held_out: BTreeMap::new(),
            pairs: BTreeMap::new(),
            branches: Vec::new(),
            branch_seeds: Vec::new(),
            score_at: Vec::new(),
            finetune_lr: 1e-3,
            finetune_epochs: 3.0,
            test: Some(TestSpec::default()),
            tune: None,
            answers: None,
        }
    }
}

fn arms(large: Shape, small: Shape, size: Size) -> Vec<ArmSpec> {
    let against = |model: &str, arm: &str| BTreeMap::from([(model.to_owned(), arm.to_owned())]);
    let both = || BTreeMap::from([("large".to_owned(), LARGE.to_owned()), ("small".to_owned(), SMALL.to_owned())]);
    let side_by_side = |name: &str, set: &[&str]| ArmSpec {
        name: name.to_owned(),
        set: together(large, small, set),
        against: both(),
        ..ArmSpec::default()
    };
    let longer = |name: &str, shape: Shape, alone_arm: &str| ArmSpec {
        name: name.to_owned(),
        set: alone(shape),
        flops_of: Some(MUTUAL.into()),
        against: against(MODEL, alone_arm),
        ..ArmSpec::default()
    };
    let taught = |name: &str, preset: &str| ArmSpec {
        name: name.to_owned(),
        teacher: Some("teacher, small".into()),
        set: [vec![format!("preset={preset}")], sizes("model", large)].concat(),
        against: against(MODEL, LARGE),
        ..ArmSpec::default()
    };
    let mut arms = vec![
        ArmSpec { name: LARGE.into(), set: alone(large), ..ArmSpec::default() },
        longer("large alone, FLOPs of mutual", large, LARGE),
        ArmSpec { name: SMALL.into(), set: alone(small), ..ArmSpec::default() },
        longer("small alone, FLOPs of mutual", small, SMALL),
        side_by_side("small teaches", &["models.small.from.large.soft=0"]),
        side_by_side("large teaches", &["models.large.from.small.soft=0"]),
        side_by_side(MUTUAL, &[]),
        taught("dwt", "dwt-normal"),
        taught("inherit", "inherit"),
    ];
    if size == Size::Full {
        arms.push(side_by_side("mutual, soft 4 -> 1", &["distill.soft=4 -> 1 linear"]));
        arms.push(side_by_side("mutual, temperature 1", &["distill.temperature=1"]));
        arms.push(taught("dwt, soft 4 -> 1", "dwt-decay"));
    }
    arms
}

fn sizes(section: &str, (layers, hidden): Shape) -> Vec<String> {
    vec![format!("{section}.layers={layers}"), format!("{section}.hidden={hidden}")]
}

fn alone(shape: Shape) -> Vec<String> {
    [vec!["preset=standalone".to_owned()], sizes("model", shape)].concat()
}

fn together(large: Shape, small: Shape, more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|&set| set.to_owned()).collect();
    [vec!["method=cotrain".to_owned()], sizes("models.large", large), sizes("models.small", small), more].concat()
}
