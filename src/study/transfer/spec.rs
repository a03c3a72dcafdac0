//! Arms over one base run file, table by table, and the paper's own.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::study::pocket::Size;

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

/// What a table compares with, where it has it.
pub(super) const ALONE: &str = "student alone";

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
        if size == Size::Full {
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
