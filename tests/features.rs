//! Losses between layers of a student and of its teacher, of two widths: what they promise of runs.

use std::path::{Path, PathBuf};

use upstill::config::AnswersKind;
use upstill::model::Weights;

use crate::answers::Bench;
use crate::common::{run, run_on, steps, weights};

/// A student half as wide again as its teacher, and twice as deep.
const WIDER: [&str; 4] = ["model.hidden=48", "model.heads=2", "model.layers=2", "train.lr=3e-3"];

const LOSSES: [&[&str]; 4] = [
    &["preset=let", "distill.early=1 -> 0.5 linear"],
    &["distill.soft=0", "distill.hidden=1"],
    &["preset=minilmv2", "distill.hard=1"],
    &["distill.hidden=1", "distill.hidden_layers=1:0, 2:1", "distill.relations=1", "distill.early=1", "distill.positions=all"],
];

fn trained(bench: &Bench, name: &str, sets: &[&[&str]]) -> PathBuf {
    run(&bench.plan("teacher", &sets.concat()), &bench.shards, &bench.path(name));
    bench.path(name)
}

#[test]
fn losses_between_layers_fall_in_parts_among_workers_and_resumed() {
    let bench = Bench::new();
    for (number, set) in LOSSES.iter().enumerate() {
        let of = |name: &str, more: &[&str]| trained(&bench, &format!("{number}-{name}"), &[&WIDER, set, more]);
        let whole = of("whole", &[]);
        let records = steps(&whole);
        for place in 0..records[0].features.len() {
            let loss = |step: usize| records[step].features[place].loss.unwrap();
            assert!(loss(19) < 0.95 * loss(0), "{set:?}: {} {} -> {}", records[0].features[place].name, loss(0), loss(19));
        }
        let last = &records[19];
        let features: f64 = last.features.iter().map(|feature| feature.alpha * feature.loss.unwrap()).sum();
        let soft = last.loss_soft.map_or(0.0, |loss| last.alpha_soft.unwrap() * loss);
        assert!((last.loss - last.alpha_hard * last.loss_hard - soft - features).abs() < 1e-4, "{last:?}");
        for (name, runtime) in [("parts", "runtime.micro_batch=3"), ("workers", "runtime.workers=2")] {
            let other = &steps(&of(name, &[runtime]))[19];
            // Sums in another order, over 20 steps.
            assert!((other.loss - last.loss).abs() < 1e-3, "{name}: {other:?} {last:?}");
        }
        let cut = of("cut", &[]);
        std::fs::remove_file(cut.join("summary.json")).unwrap();
        std::fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
        let plan = bench.plan("teacher", &[&WIDER, *set].concat());
        run_on(&upstill::device::Device::cpu("test"), &plan, &bench.shards, &cut, true).unwrap();
        assert_eq!((weights(&cut), steps(&cut)), (weights(&whole), records), "{set:?}");
        assert_eq!(projections(&cut), projections(&whole), "{set:?}");
    }
}

/// What a run's last checkpoint has of them.
fn projections(run: &Path) -> Option<Weights> {
    let file = run.join("checkpoints/step-0000020/model.projections.safetensors");
    file.exists().then(|| Weights::read(&file).unwrap())
}

#[test]
fn projections_are_learnt_beside_the_model_and_no_part_of_it() {
    let bench = Bench::new();
    let names = |run: &Path| projections(run).map(|found| found.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>());
    let hidden = trained(&bench, "hidden", &[&WIDER, LOSSES[1]]);
    assert_eq!(names(&hidden).unwrap(), ["embedded", "hidden"]);
    assert_eq!(projections(&hidden).unwrap().get("hidden").unwrap().shape, [48, 32]);
    assert_eq!(names(&trained(&bench, "early", &[&WIDER, LOSSES[0]])).unwrap(), ["early"]);
    assert_eq!(names(&trained(&bench, "relations", &[&WIDER, LOSSES[2]])), None);
    let short = ["train.steps=1", "train.lr=1e-9"];
    let before = trained(&bench, "before", &[&WIDER, LOSSES[1], &short]);
    let drawn = Weights::read(&before.join("checkpoints/step-0000001/model.projections.safetensors")).unwrap();
    assert_ne!(projections(&hidden).unwrap(), drawn);
    assert!(weights(&hidden).iter().all(|(name, _)| !name.contains("projection")));

    // A weight of 0 leaves no trace in the weights.
    let off = trained(&bench, "off", &[&WIDER, &["distill.hidden=0", "distill.early=0"]]);
    assert_eq!(weights(&off), weights(&trained(&bench, "without", &[&WIDER])));
}

#[test]
fn losses_between_layers_that_can_not_be_are_refused_with_reasons() {
    let bench = Bench::new();
    bench.teach("cache", (AnswersKind::TopK, 4), &[]);
    let refusals: Vec<String> = [
        ("cache", &["distill.hidden=1", "preset=let"][..]),
        ("teacher", &["distill.hidden=-1", "distill.hidden_layers=0:0, 9:1", "distill.early=1", "distill.early_layers=first"]),
        ("teacher", &["distill.relations=1", "distill.relation_heads=7", "distill.early_layers=1:1"]),
        ("teacher", &["distill.relations=1", "distill.relation_layers=0:1", "method=standalone"]),
    ]
    .iter()
    .map(|(teacher, set)| bench.refusal(teacher, set))
    .collect();
    insta::assert_snapshot!(refusals.join("\n"), @r#"
    the run file has 2 mistakes
     1. distill.hidden: compares layers, and a cache, a program and the uniform teacher have predictions alone
          remove it, or name the teacher itself in teacher.from
     2. distill.early: compares layers, and a cache, a program and the uniform teacher have predictions alone
          remove it, or name the teacher itself in teacher.from
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has 3 mistakes
     1. distill.hidden: a weight of -1 is negative
          write weights of 0 or more
     2. distill.hidden_layers: 9:1 is not there: the student has 2 layers, the teacher 1
          write numbers up to 2:1
     3. distill.early_layers: is "first", and not layers such as "0:0, 2:1, 4:2"
          write the student's layer, a colon and the teacher's, a comma between pairs
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has 2 mistakes
     1. distill.relation_heads: 7 heads do not divide the widths, 32 and 32
          write 32, or another number that does
     2. distill.early_layers: is of a loss that has no weight, distill.early
          write distill.early too, or remove it
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has 3 mistakes
     1. teacher.from: a standalone run has no teacher
          remove it, or write method = "dwt"
     2. distill.relations: a standalone run has no soft loss
          remove it, or write method = "dwt"
     3. distill.relation_layers: a standalone run has no soft loss
          remove it, or write method = "dwt"
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    "#);
}
