//! How a student listens to its teacher: gates, and what they promise of runs.

use upstill::config::AnswersKind;

use crate::answers::{Bench, near};
use crate::common::{plan, run, steps, weights};

const GATES: [&[&str]; 4] = [
    &["distill.gate=lowest-entropy", "distill.gate_share=0.3"],
    &["distill.gate=teacher-right"],
    &["distill.gate=teacher-better", "distill.soft=1 until 50%, then 0"],
    &["preset=switch"],
];

#[test]
fn a_gate_is_the_same_in_parts_among_workers_and_in_a_resumed_run() {
    let bench = Bench::new();
    for (number, gate) in GATES.iter().enumerate() {
        let of = |name: &str, set: &[&str]| {
            let out = bench.path(&format!("{number}-{name}"));
            run(&bench.plan("teacher", &[&["train.evaluate_every=1"], *gate, set].concat()), &bench.shards, &out);
            out
        };
        let whole = of("whole", &[]);
        // Sums in another order; a gate of the batch's parts would be off by far more.
        let losses = |dir: &std::path::Path| -> Vec<(f64, Option<f64>)> {
            steps(dir).into_iter().map(|record| (record.loss, record.held_out_loss)).collect()
        };
        for (name, set) in [("parts", "runtime.micro_batch=3"), ("workers", "runtime.workers=2")] {
            for (at, (found, wanted)) in losses(&of(name, &[set])).iter().zip(&losses(&whole)).enumerate() {
                assert!((found.0 - wanted.0).abs() < 1e-4, "{gate:?} {name} step {at}: {found:?} {wanted:?}");
                assert!((found.1.unwrap() - wanted.1.unwrap()).abs() < 1e-4, "{gate:?} {name} step {at}: {found:?} {wanted:?}");
            }
        }
        let cut = of("cut", &[]);
        std::fs::remove_file(cut.join("summary.json")).unwrap();
        std::fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
        let plan = bench.plan("teacher", &[&["train.evaluate_every=1"], *gate].concat());
        crate::common::run_on(&upstill::device::Device::cpu("test"), &plan, &bench.shards, &cut, true).unwrap();
        assert_eq!(weights(&cut), weights(&whole), "{gate:?}");
    }
}

#[test]
fn a_gate_reads_a_cache_as_it_asks_a_teacher() {
    let bench = Bench::new();
    bench.teach("whole", (AnswersKind::TopK, bench.vocabulary()), &[]);
    bench.teach("drawn", (AnswersKind::Draws, 50), &[]);
    for (number, gate) in GATES[..2].iter().chain([&&["distill.gate=teacher-better"][..]]).enumerate() {
        let of = |teacher: &str| {
            let out = bench.path(&format!("{number}-{teacher}"));
            run(&bench.plan(teacher, gate), &bench.shards, &out);
            out
        };
        let live = of("teacher");
        let open = |dir: &std::path::Path| steps(dir).iter().map(|record| record.loss_soft.unwrap()).sum::<f64>() / 20.0;
        // Entropies and losses of 16 bits: a slot in a hundred may fall on the other side.
        assert!((open(&of("whole")) / open(&live) - 1.0).abs() < 0.02, "{gate:?}: {} {}", open(&of("whole")), open(&live));
        if gate[0] != "distill.gate=teacher-right" {
            // Draws have their chance, and an entropy of 16 bits that is among the lowest is up to 0.002 nats too low.
            let (drawn, live) = (open(&of("drawn")) / 20.0, open(&live) / 20.0);
            assert!((drawn - live).abs() < 0.005, "{gate:?}: {drawn} {live}");
        }
    }
}

#[test]
fn a_gate_that_is_open_everywhere_is_none_and_one_that_never_opens_leaves_the_hard_loss() {
    let bench = Bench::new();
    let of = |name: &str, set: &[&str]| bench.trained(name, set);
    let open = of("open", &["distill.gate=lowest-entropy", "distill.gate_share=1"]);
    near(&open, &of("none", &[]), 1e-5);
    // Where the soft weight is 0 nobody is asked, and nothing is left out: plain masked language modelling to the bit.
    let off = of("off", &["preset=switch", "distill.hard=1", "distill.soft=0"]);
    run(&plan(&bench.shards, &["preset=standalone"]), &bench.shards, &bench.path("alone"));
    assert_eq!(weights(&off), weights(&bench.path("alone")));
}

#[test]
fn gates_that_can_not_be_are_refused_with_reasons() {
    let bench = Bench::new();
    bench.teach("drawn", (AnswersKind::Draws, 50), &[]);
    let all = [
        bench.refusal("teacher", &["distill.gate=lowest-entropy", "distill.gate_share=0", "distill.positions=all"]),
        bench.refusal("teacher", &["distill.gate_share=0.2", "distill.switch=true"]),
        bench.refusal("drawn", &["distill.gate=teacher-right"]),
        bench.refusal("drawn", &["preset=switch"]),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    the run file has 2 mistakes
     1. distill.gate_share: is 0
          write a number above 0 and up to 1, such as 0.2
     2. distill.gate: lowest-entropy chooses among masked positions, and the soft loss is taken at all
          write positions = "masked", or remove the gate
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has 2 mistakes
     1. distill.gate_share: is of another gate
          remove it, or write gate = "lowest-entropy"
     2. distill.switch: there is no gate to switch by
          remove it, or write gate = "lowest-entropy"
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has a mistake
      distill.gate: draws do not tell which token the teacher finds likeliest
        have the teacher answer with --top-k, or name the teacher itself
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has a mistake
      distill.divergence: reverse-kl needs whole distributions, and the teacher is a cache of what was kept of them
        write divergence = "kl", or name the teacher itself
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    "#);
}

#[test]
fn a_soft_weight_fades_by_the_last_evaluation_resumed_or_not() {
    let bench = Bench::new();
    let set = ["distill.fade=0.5", "train.evaluate_every=4", "train.lr=5e-3", "train.batch=16", "train.checkpoint_every=10"];
    let of = |name: &str, more: &[&str]| {
        run(&bench.plan("teacher", &[&set, more].concat()), &bench.shards, &bench.path(name));
        bench.path(name)
    };
    let whole = of("whole", &[]);
    let records = steps(&whole);
    let mut wanted = 1.0;
    for record in &records {
        assert!((record.alpha_soft.unwrap() - wanted).abs() < 1e-12, "step {}: {wanted} {record:?}", record.step);
        assert_eq!(record.held_out_loss.is_some(), record.teacher_held_out_loss.is_some());
        if let (Some(student), Some(teacher)) = (record.held_out_loss, record.teacher_held_out_loss) {
            wanted = upstill::loss::faded(student, teacher, 0.5);
        }
    }
    let weights_of: Vec<f64> = records.iter().filter_map(|record| record.alpha_soft).collect();
    assert!(weights_of.iter().any(|alpha| *alpha > 0.0 && *alpha < 1.0), "the student passes its teacher: {weights_of:?}");
    // The teacher's own loss is what its own evaluation says.
    let own = steps(&bench.path("teacher")).last().unwrap().held_out_loss.unwrap();
    assert!((records[3].teacher_held_out_loss.unwrap() - own).abs() < 1e-5, "{own} {:?}", records[3]);

    // A run that stopped between two evaluations goes on with the weight that it had.
    let cut = of("cut", &[]);
    std::fs::remove_file(cut.join("summary.json")).unwrap();
    std::fs::remove_dir_all(cut.join("checkpoints/step-0000020")).unwrap();
    crate::common::run_on(&upstill::device::Device::cpu("test"), &bench.plan("teacher", &set), &bench.shards, &cut, true)
        .unwrap();
    assert_eq!((weights(&cut), steps(&cut)), (weights(&whole), records.clone()));
    // Every worker has the weight.
    for (found, wanted) in steps(&of("workers", &["runtime.workers=2"])).iter().zip(&records) {
        assert!((found.loss - wanted.loss).abs() < 1e-3, "{found:?} {wanted:?}");
        assert!((found.alpha_soft.unwrap() - wanted.alpha_soft.unwrap()).abs() < 1e-3, "{found:?} {wanted:?}");
    }

    bench.teach("cache", (AnswersKind::TopK, 4), &[]);
    insta::assert_snapshot!(
        [bench.refusal("cache", &["distill.fade=0.1"]), bench.refusal("teacher", &["distill.fade=0"])].join("\n"), @"
    the run file has a mistake
      distill.fade: needs the teacher's held-out loss, and the teacher is not in memory
        remove it, or name the teacher itself in teacher.from
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has a mistake
      distill.fade: is 0
        write a number above 0, such as 0.1
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    ");
}

#[test]
fn last_layers_that_are_compared_come_nearer() {
    let bench = Bench::new();
    let of = |name: &str, set: &[&str]| bench.trained(name, set);
    for (name, positions) in [("masked", "distill.positions=masked"), ("all", "distill.positions=all")] {
        let set = ["preset=distilbert", "distill.start=fresh", "distill.cosine=2", positions];
        let whole = of(name, &set);
        let records = steps(&whole);
        let cosine = |at: usize| records[at].features[0].loss.unwrap();
        assert!(cosine(19) < 0.9 * cosine(0), "{} {}", cosine(0), cosine(19));
        let last = &records[19];
        let soft = 4.0 * last.alpha_soft.unwrap() * last.loss_soft.unwrap();
        assert!((last.loss - (2.0 * last.loss_hard + soft + 2.0 * cosine(19))).abs() < 1e-4, "{last:?}");
        for (more, runtime) in [("parts", "runtime.micro_batch=3"), ("workers", "runtime.workers=2")] {
            let other = steps(&of(&format!("{name}-{more}"), &[&set[..], &[runtime]].concat()));
            assert!((other[19].loss - last.loss).abs() < 1e-3, "{more}: {:?} {last:?}", other[19]);
            assert!((other[19].features[0].loss.unwrap() - cosine(19)).abs() < 1e-4, "{more}: {:?} {last:?}", other[19]);
        }
    }
    // A weight of 0 leaves no trace in the weights.
    let off = of("off", &["distill.cosine=0"]);
    assert_eq!(weights(&off), weights(&of("without", &[])));

    bench.teach("cache", (AnswersKind::TopK, 4), &[]);
    let all =
        [bench.refusal("cache", &["distill.cosine=1"]), bench.refusal("teacher", &["distill.cosine=-1", "model.hidden=64"])];
    insta::assert_snapshot!(all.join("\n"), @"
    the run file has a mistake
      distill.cosine: compares layers, and a cache, a program and the uniform teacher have predictions alone
        remove it, or name the teacher itself in teacher.from
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    the run file has 2 mistakes
     1. distill.cosine: a weight of -1 is negative
          write weights of 0 or more
     2. distill.cosine: compares last layers of one width, and the student's is 64, the teacher's 32
          write [model] hidden = 32, or remove it
      in: the test
    help: mend these; `upstill plan` checks a run file without training
    ");
}

#[test]
fn an_ensemble_of_a_teacher_and_itself_is_that_teacher() {
    let bench = Bench::new();
    run(&plan(&bench.shards, &["preset=standalone", "model.layers=1", "seed=9"]), &bench.shards, &bench.path("other"));
    let with = |name: &str, folder: &str| format!("teachers.{name}.from={}", bench.path(folder).display());
    let of = |name: &str, set: &[&str]| bench.trained(name, set);
    let alone = of("alone", &[]);
    near(&of("twice", &[&with("b", "teacher"), "teachers.b.weight=3"]), &alone, 1e-4);
    // Another one is heard, the more the more it weighs.
    let far = |dir: &std::path::Path| (steps(dir)[0].loss_soft.unwrap() - steps(&alone)[0].loss_soft.unwrap()).abs();
    let [little, much] =
        ["teachers.b.weight=0.01", "teachers.b.weight=100"].map(|weight| of(weight, &[&with("b", "other"), weight]));
    assert!(far(&little) > 1e-6 && far(&much) > 3.0 * far(&little), "{} {}", far(&little), far(&much));
    run(&bench.plan("other", &["train.evaluate_every=1"]), &bench.shards, &bench.path("second"));
    let to_other = steps(&much)[0].loss_soft.unwrap() - steps(&bench.path("second"))[0].loss_soft.unwrap();
    assert!(to_other.abs() < 0.5 * far(&much), "{to_other} {}", far(&much));

    // Its answers are kept as one teacher's, under a name that is neither model's.
    let both = [&*with("b", "other"), "train.evaluate_every=1"];
    let live = of("live", &both);
    bench.teach("cache", (AnswersKind::TopK, bench.vocabulary()), &both);
    run(&bench.plan("cache", &["train.evaluate_every=1"]), &bench.shards, &bench.path("cached"));
    near(&bench.path("cached"), &live, 1e-3);
    let content = |set: &[&str]| bench.plan("teacher", set).teacher.unwrap().content().unwrap();
    let known = [content(&[]), content(&both), content(&[both[0], "teacher.weight=2"])];
    assert!(known[0] != known[1] && known[1] != known[2], "{known:?}");
    assert_eq!(known[0], bench.plan("teacher", &[]).teacher.unwrap().model.unwrap().content_hash);

    // A plan with it survives its file, and its name and folder are no part of the hash.
    let plan = bench.plan("teacher", &both);
    assert_eq!(toml::from_str::<upstill::config::Plan>(&plan.to_toml()).unwrap(), plan);
    assert_eq!(plan.hash(), bench.plan("teacher", &[&with("c", "other"), both[1]]).hash());
    assert_ne!(plan.hash(), bench.plan("teacher", &[both[1]]).hash());
    assert!(plan.describe(None).contains("weighs 1 in an ensemble with b ("), "{}", plan.describe(None));
}

#[test]
fn ensembles_that_can_not_be_are_refused_with_reasons() {
    let bench = Bench::new();
    bench.teach("cache", (AnswersKind::TopK, 4), &[]);
    let (there, missing) = (bench.path("teacher").display().to_string(), bench.path("missing").display().to_string());
    let there = format!("teachers.b.from={there}");
    for (teacher, set, said) in [
        ("teacher", &["teacher.weight=2"][..], "teacher.weight: is of an ensemble, and there is one teacher"),
        ("teacher", &["teachers.b.weight=2"], "teachers.b.from: is missing"),
        ("teacher", &[&there, "teachers.b.weight=0"], "teachers.b.weight: is 0\n"),
        ("teacher", &[&there, "distill.cosine=1"], "distill.cosine: compares layers, and an ensemble has none of its own"),
        ("teacher", &[&format!("teachers.b.from={missing}")], "teachers.b.from: "),
        ("cache", &[&there], "an ensemble is of models in memory, and the first teacher is a cache of answers"),
        ("teacher", &[&there, "teachers.b.wieght=2"], "did you mean `teachers.b.weight`?"),
    ] {
        let refusal = bench.refusal(teacher, set);
        assert!(refusal.contains("the run file has a mistake\n") && refusal.contains(said), "{said}\n{refusal}");
    }
    let file = upstill::config::RunFile::parse(crate::common::BASE, "the test").unwrap();
    let file = file.with("method", "standalone").with("teachers.b.weight", 2.0);
    let refusal = upstill::plan_on(&file, &bench.shards).unwrap_err().to_string();
    assert!(refusal.contains("teachers.b: is of an ensemble, and there is no first teacher"), "{refusal}");
}
