//! `upstill report`: a made-up study of three arms and three seeds, from folders to page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use upstill::log::{StepRecord, Summary};
use upstill::study::registration::{Registration, TestSpec};
use upstill::study::report::write_summary;
use upstill::study::report::{read, terminal_table, write_report};
use upstill::study::results::{Arm, Budget, ScoresAt, SeedResult, Study, Tried, Tuned};
use upstill::train::{FinetuneSettings, SeedScores};

const STEPS: u64 = 600;

/// A number in -1..1 that looks like chance and is the same everywhere.
fn noise(seed: u64, step: u64) -> f64 {
    let x = (seed * 1_000_003 + step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

struct Fake {
    name: &'static str,
    /// Where the loss ends up, and how fast.
    floor: f64,
    pace: f64,
    /// Soft weight at the start and at the end.
    soft: Option<(f64, f64)>,
    schedule: &'static str,
}

const ARMS: [Fake; 3] = [
    Fake { name: "standalone", floor: 3.96, pace: 60.0, soft: None, schedule: "0" },
    Fake { name: "dwt-strong", floor: 3.95, pace: 36.0, soft: Some((4.0, 4.0)), schedule: "4" },
    Fake { name: "dwt-decay", floor: 3.90, pace: 40.0, soft: Some((4.0, 1.0)), schedule: "4 -> 1 linear" },
];

impl Fake {
    fn loss(&self, seed: u64, step: u64) -> f64 {
        let own = 0.01 * noise(seed, 0) + 0.008 * noise(seed, self.schedule.len() as u64);
        self.floor + 4.6 * (-(step as f64) / self.pace).exp() + 0.6 / (1.0 + step as f64 / 60.0) + own
    }

    fn record(&self, seed: u64, step: u64) -> StepRecord {
        let share = step as f64 / STEPS as f64;
        let hard = self.loss(seed, step) + 0.12 * noise(seed, step + 1);
        let soft = self.soft.map(|_| 0.3 + 2.0 * (-(step as f64) / self.pace).exp() + 0.03 * noise(seed + 9, step));
        let alpha = self.soft.map(|(from, to)| from + (to - from) * share);
        let held_out = (step % 50 == 49).then(|| self.loss(seed, step) + 0.05);
        StepRecord {
            step,
            loss: hard + alpha.zip(soft).map_or(0.0, |(alpha, soft)| alpha * soft),
            loss_hard: hard,
            loss_soft: soft,
            alpha_hard: 1.0,
            alpha_soft: alpha,
            temperature: self.soft.map(|_| 2.0),
            features: Vec::new(),
            lr: 5e-4 * if share < 0.05 { share / 0.05 } else { (1.0 - share) / 0.95 },
            grad_norm: 1.2 + 6.0 * (-(step as f64) / 20.0).exp() + 0.3 * noise(seed + 5, step),
            tokens_per_s: if self.soft.is_some() { 9_800.0 } else { 14_200.0 } + 600.0 * noise(seed + 7, step),
            mfu: None,
            held_out_loss: held_out,
            teacher_held_out_loss: None,
            models: Vec::new(),
            agreement: BTreeMap::new(),
        }
    }

    /// An end of training: the sooner, the further from the floor.
    fn budget(&self, seed: u64, steps: u64) -> Budget {
        let teacher = if self.soft.is_some() { 1.3 } else { 1.0 };
        Budget { steps, flops: 1e9 * teacher * steps as f64, held_out_loss: self.loss(seed, steps) + 0.05 }
    }

    /// Writes a run directory; `until` less than all steps leaves it unfinished.
    fn run(&self, dir: &Path, seed: u64, until: u64) -> SeedResult {
        let records: Vec<StepRecord> = (0..until).map(|step| self.record(seed, step)).collect();
        let lines: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("steps.jsonl"), lines).unwrap();
        let (method, teacher) = match self.soft {
            None => ("standalone", String::new()),
            Some(_) => (
                "dwt",
                format!(
                    "[teacher]\nfrom = \"runs/<teacher> & co\"\n[distill]\nsoft = \"{}\"\nstart = \"fresh\"\n",
                    self.schedule
                ),
            ),
        };
        fs::write(dir.join("plan.toml"), format!("method = \"{method}\"\nseed = {seed}\n{teacher}[train]\nsteps = {STEPS}\n"))
            .unwrap();
        fs::write(dir.join("run.json"), "{\n  \"device\": \"cpu (2 threads)\"\n}\n").unwrap();
        let last = records.last().unwrap();
        if until == STEPS {
            let summary = Summary {
                files: Default::default(),
                steps: STEPS,
                held_out_loss: last.held_out_loss,
                loss: last.loss,
                tokens_per_s: 1e4,
                seconds: 83.0,
                run: dir.display().to_string(),
                held_out: BTreeMap::new(),
                models: Vec::new(),
                agreement: BTreeMap::new(),
            };
            fs::write(dir.join("summary.json"), serde_json::to_string(&summary).unwrap()).unwrap();
        }
        let scores = [("cola", 0.41), ("sst2", 0.84)]
            .map(|(task, score)| (task.to_owned(), score + 0.1 * (4.0 - self.floor) + 0.02 * noise(seed, 77)));
        SeedResult {
            path: dir.file_name().unwrap().into(),
            seed,
            held_out_loss: last.held_out_loss,
            held_out: BTreeMap::from([("news".to_owned(), self.loss(seed, STEPS) + 0.3)]),
            pairs: BTreeMap::from([("blimp".to_owned(), 1.0 - self.floor / 10.0 + 0.001 * noise(seed, 3))]),
            scores: BTreeMap::from(scores),
            scores_at: vec![ScoresAt { steps: 300, scores: BTreeMap::from([("cola".to_owned(), 0.3)]) }],
            curve: [300, 600].map(|steps| (steps, self.loss(seed, steps))).to_vec(),
            budgets: [150, 300, 600].map(|steps| self.budget(seed, steps)).to_vec(),
        }
    }
}

fn study(dir: &Path) -> Study {
    let arm = |fake: &Fake| {
        let runs = (1..=3).map(|seed| fake.run(&dir.join(format!("{}-{seed}", fake.name)), seed, STEPS)).collect();
        let mut arm = Arm {
            name: fake.name.into(),
            method: if fake.soft.is_some() { "dwt" } else { "standalone" }.into(),
            teacher: fake.soft.map(|_| "2 layers".into()),
            soft: fake.soft.map(|_| fake.schedule.into()),
            start: Some("fresh".into()),
            parameters: Some(1_234_567),
            seconds: Some(83.0),
            flops: Some(6e11 * if fake.soft.is_some() { 1.3 } else { 1.0 }),
            flops_with_teacher: fake.soft.map(|_| 6e11 * 1.8),
            tuned: vec![Tuned {
                key: "train.lr".into(),
                chosen: "2e-3".into(),
                tried: [("1e-3", Some(4.2)), ("2e-3", Some(4.1)), ("4e-3", None)]
                    .map(|(value, loss)| Tried { value: value.into(), loss })
                    .to_vec(),
                seeds: vec![1001],
                ..Tuned::default()
            }],
            runs,
            ..Arm::default()
        };
        arm.summarise();
        arm
    };
    let mut study = Study {
        arms: ARMS.iter().map(arm).collect(),
        title: "A weak teacher & <what> it does".into(),
        about: "Students of 4 layers on the pocket language, 600 steps each.".into(),
        source_loss: Some(3.42),
        chosen: vec!["The temperature is 2.".into(), "Soft loss without the factor τ².".into()],
        device: Some("cpu (2 threads)".into()),
        seconds: Some(747.0),
        registration: Some(Registration::of("title = \"A weak teacher\"", Some(&TestSpec::default()))),
        ..Study::default()
    };
    (study.claims, study.saved) = (study.all_claims(), study.all_saved());
    let text = serde_json::to_string_pretty(&study).unwrap();
    fs::write(dir.join("study.json"), &text).unwrap();
    // To the bit what is read.
    serde_json::from_str(&text).unwrap()
}

fn page_of(dirs: &[PathBuf]) -> String {
    let dir = tempfile::tempdir().unwrap();
    write_report(dirs, &dir.path().join("report.html")).unwrap();
    fs::read_to_string(dir.path().join("report.html")).unwrap()
}

#[test]
fn the_terminal_table_is_aligned_and_marks_the_best() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(terminal_table(&study(dir.path())), @"
      arm         held-out loss      − standalone [95 %]  p, t-test  sign flips     Holm  verdict  seeds
      standalone  4.070 ± 0.005                                                                        3
      dwt-strong  4.060 ± 0.005  −0.010 [−0.010, −0.010]    < 0.001       0.250  < 0.001  better       3
    * dwt-decay   4.003 ± 0.006  −0.068 [−0.073, −0.062]    < 0.001       0.250  < 0.001  better       3
    * the lowest; nats a masked token, ± standard deviation over seeds

    dwt-strong lowers the held-out loss by 0.010 nats [0.010, 0.010] against standalone (3 seeds, p < 0.001 after Holm): better.
    dwt-decay lowers the held-out loss by 0.068 nats [0.062, 0.073] against standalone (3 seeds, p < 0.001 after Holm): better.

      arm                 loss on news                 blimp                  cola                  sst2
      standalone         4.320 ± 0.005         0.604 ± 0.001         0.409 ± 0.017         0.839 ± 0.017
      dwt-strong  4.310 ± 0.005 better  0.605 ± 0.001 better  0.410 ± 0.017 better  0.840 ± 0.017 better
      dwt-decay   4.253 ± 0.006 better  0.610 ± 0.001 better  0.415 ± 0.017 better  0.845 ± 0.017 better

      arm         as good as                            steps saved [95 %]       FLOPs saved   with the teacher's  teacher shared by 10    pays from  seeds
      dwt-strong  standalone, 150 steps  before the first budget in 3 of 3                                                                                3
      dwt-strong  standalone, 300 steps                        53 [53, 53]     −7 % [−7, −7]  −107 % [−107, −107]      −17 % [−17, −17]                   3
      dwt-strong  standalone, 600 steps                        85 [85, 85]  −12 % [−12, −12]     −62 % [−62, −62]      −17 % [−17, −17]                   3
      dwt-decay   standalone, 150 steps  before the first budget in 3 of 3                                                                                3
      dwt-decay   standalone, 300 steps                        94 [90, 98]      11 % [9, 13]     −89 % [−91, −87]           1 % [−1, 3]  10 students      3
      dwt-decay   standalone, 600 steps                     322 [316, 328]     40 % [39, 41]      −10 % [−11, −9]         35 % [34, 36]   2 students      3

      arm         teacher   soft weight    start  parameters  time a run
      standalone                                       1.2 M        1:23
      dwt-strong  2 layers  4              fresh       1.2 M        1:23
      dwt-decay   2 layers  4 -> 1 linear  fresh       1.2 M        1:23

      arm         key       taken  tried: loss on the tuning split             on seeds
      standalone  train.lr  2e-3   1e-3: 4.200, 2e-3: 4.100, 4e-3: broke down      1001
      dwt-strong  train.lr  2e-3   1e-3: 4.200, 2e-3: 4.100, 4e-3: broke down      1001
      dwt-decay   train.lr  2e-3   1e-3: 4.200, 2e-3: 4.100, 4e-3: broke down      1001
    ");
}

#[test]
fn a_study_becomes_one_page_with_every_chart() {
    let dir = tempfile::tempdir().unwrap();
    let written = study(dir.path());
    assert_eq!(read(&[dir.path().into()]).unwrap()[0].study, written);
    let page = page_of(&[dir.path().into()]);

    let headings: Vec<&str> = page.split("</span> ").skip(1).filter_map(|rest| rest.split("</h3>").next()).collect();
    let expected = [
        "Held-out loss at the end",
        "What the held-out loss differs by from standalone",
        "Held-out loss at the end of training, by budget",
        "Loss on news at the end",
        "Accuracy on blimp",
        "Score on cola",
        "Score on sst2",
        "Held-out loss",
        "Score on cola by pre-training step",
        "Hard loss",
        "Soft loss",
        "Weight of the soft loss",
        "Temperature",
        "Learning rate",
        "Gradient norm",
        "Speed",
    ];
    assert_eq!(headings, expected);
    assert_eq!(page.matches("<svg class=").count(), expected.len());
    // Five end points of three arms, two differences, and three budgets of three arms; three seeds each.
    assert_eq!(page.matches("<circle").count(), 3 * (5 * 3 + 2 + 3 * 3));
    for arm in &written.arms {
        let loss = arm.held_out_loss.unwrap();
        assert!(
            page.contains(&format!("<td class=\"n\">{:.3} ± {:.3}</td>", loss.mean, loss.sd.unwrap())),
            "{} is in the table",
            arm.name
        );
    }
    assert!(page.contains("<tr class=\"best\"><th scope=\"row\">dwt-decay</th>"));
    for claim in written.claims_at(&written.primary()) {
        let start = claim.sentence.rsplit_once(' ').unwrap().0.replace('<', "&lt;");
        assert!(page.contains(&start), "{start}");
    }
    assert!(page.contains("<b>better</b>.</li>") && page.contains("Fixed in the study file ("));
    assert!(page.contains("source 3.42"), "the source's loss is a line in the chart");
    assert!(page.contains("What was chosen here and not by the paper") && page.contains("<li>The temperature is 2.</li>"));
    assert_eq!(page.matches("<details>").count(), 10, "nine plans, and the other end points in words");
}

#[test]
fn a_summary_is_small_and_says_all() {
    let dir = tempfile::tempdir().unwrap();
    let study = study(dir.path());
    let summary = dir.path().join("summary");
    fs::create_dir(&summary).unwrap();
    fs::write(dir.path().join("cells.jsonl"), "{}\n").unwrap();
    write_summary(&study, dir.path(), &summary).unwrap();
    let read = |name: &str| fs::read_to_string(summary.join(name)).unwrap();
    assert_eq!(read("cells.jsonl"), "{}\n");
    let figure = read("figure.svg");
    assert!(figure.starts_with("<svg xmlns=") && figure.len() < 40_000 && !figure.contains("<script"));
    assert_eq!(figure.matches("class=\"heading\"").count(), 3);
    insta::assert_snapshot!(read("report.md"), @"
    # A weak teacher & &lt;what> it does

    Students of 4 layers on the pocket language, 600 steps each. 9 runs in 3 arms. Device: cpu (2 threads). Time in all: 12:27.

    ```sh
    upstill study study.toml                                  # runs all of it again
    upstill study study.toml --cells cells.jsonl --verify 3   # repeats three of its runs
    ```

    - dwt-strong lowers the held-out loss by 0.010 nats [0.010, 0.010] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-decay lowers the held-out loss by 0.068 nats [0.062, 0.073] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-strong is as good as standalone after 600 steps in 515; steps saved: 85 [85, 85]; FLOPs saved: −12 % [−12, −12], −62 % [−62, −62] with the teacher's training, −17 % [−17, −17] with a teacher shared by 10 students (3 seeds).
    - dwt-decay is as good as standalone after 600 steps in 278; steps saved: 322 [316, 328]; FLOPs saved: 40 % [39, 41], −10 % [−11, −9] with the teacher's training, 35 % [34, 36] with a teacher shared by 10 students (3 seeds).

    Fixed in the study file (9250db8d80abc319) before the first run: the held-out loss is tested, of every arm against its reference, at level 0.05 after Holm's correction; a difference below 0.01 nats counts as none.

    ![Every seed a dot; the bars are 95 % intervals](figure.svg)

    ## Results

    | arm | held-out loss | − standalone [95 %] | p, t-test | sign flips | Holm | verdict | seeds |
    | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |
    | standalone | 4.070 ± 0.005 |  |  |  |  |  | 3 |
    | dwt-strong | 4.060 ± 0.005 | −0.010 [−0.010, −0.010] | < 0.001 | 0.250 | < 0.001 | better | 3 |
    | **dwt-decay** | 4.003 ± 0.006 | −0.068 [−0.073, −0.062] | < 0.001 | 0.250 | < 0.001 | better | 3 |

    Mean ± sample standard deviation over seeds; the lowest student's in bold. Difference from standalone with its 95 % interval (Student's t, paired where seeds match); p of the t-test and of the sign-flip test, two-sided, and the first corrected over 2 arms by Holm's procedure. With 3 seeds a sign-flip test can't come below 0.250. Equivalent: surely less than 0.01 apart (two one-sided tests).

    ## Steps saved

    | arm | as good as | steps saved [95 %] | FLOPs saved | with the teacher's | teacher shared by 10 | pays from | seeds |
    | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
    | dwt-strong | standalone, 150 steps | before the first budget in 3 of 3 |  |  |  |  | 3 |
    | dwt-strong | standalone, 300 steps | 53 [53, 53] | −7 % [−7, −7] | −107 % [−107, −107] | −17 % [−17, −17] |  | 3 |
    | dwt-strong | standalone, 600 steps | 85 [85, 85] | −12 % [−12, −12] | −62 % [−62, −62] | −17 % [−17, −17] |  | 3 |
    | dwt-decay | standalone, 150 steps | before the first budget in 3 of 3 |  |  |  |  | 3 |
    | dwt-decay | standalone, 300 steps | 94 [90, 98] | 11 % [9, 13] | −89 % [−91, −87] | 1 % [−1, 3] | 10 students | 3 |
    | dwt-decay | standalone, 600 steps | 322 [316, 328] | 40 % [39, 41] | −10 % [−11, −9] | 35 % [34, 36] | 2 students | 3 |

    How much less an arm takes to come as far as its reference: the horizontal distance between their curves of ends of training, seed by seed, between budgets linear over the logarithm of the steps; nothing is extrapolated. FLOPs are a share of the reference's. Intervals are of 95 % over seeds.

    ## Other end points

    | arm | loss on news | blimp | cola | sst2 |
    | --- | ---: | ---: | ---: | ---: |
    | standalone | 4.320 ± 0.005 | 0.604 ± 0.001 | 0.409 ± 0.017 | 0.839 ± 0.017 |
    | dwt-strong | 4.310 ± 0.005<br>−0.010 [−0.010, −0.010] better | 0.605 ± 0.001<br>+0.001 [+0.001, +0.001] better | 0.410 ± 0.017<br>+0.001 [+0.001, +0.001] better | 0.840 ± 0.017<br>+0.001 [+0.001, +0.001] better |
    | dwt-decay | 4.253 ± 0.006<br>−0.068 [−0.073, −0.062] better | 0.610 ± 0.001<br>+0.006 [+0.006, +0.006] better | 0.415 ± 0.017<br>+0.006 [+0.006, +0.006] better | 0.845 ± 0.017<br>+0.006 [+0.006, +0.006] better |

    Mean ± sample standard deviation over seeds; below, the difference with its 95 % interval and what it is, corrected over the arms of its column (Holm). These end points are secondary: among many, some are beyond chance by chance.

    <details><summary>All of them in words</summary>

    - dwt-strong lowers the loss on news by 0.010 nats [0.010, 0.010] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-decay lowers the loss on news by 0.068 nats [0.062, 0.073] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-strong raises the accuracy on blimp by 0.001 [0.001, 0.001] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-decay raises the accuracy on blimp by 0.006 [0.006, 0.006] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-strong raises the score on cola by 0.001 [0.001, 0.001] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-decay raises the score on cola by 0.006 [0.006, 0.006] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-strong raises the score on sst2 by 0.001 [0.001, 0.001] against standalone (3 seeds, p < 0.001 after Holm): better.
    - dwt-decay raises the score on sst2 by 0.006 [0.006, 0.006] against standalone (3 seeds, p < 0.001 after Holm): better.

    </details>

    ## The arms

    | arm | teacher | soft weight | start | parameters | time a run |
    | --- | --- | --- | --- | ---: | ---: |
    | standalone |  |  |  | 1.2 M | 1:23 |
    | dwt-strong | 2 layers | 4 | fresh | 1.2 M | 1:23 |
    | dwt-decay | 2 layers | 4 -> 1 linear | fresh | 1.2 M | 1:23 |

    ## What was tuned

    | arm | key | taken | tried: loss on the tuning split | on seeds |
    | --- | --- | --- | --- | ---: |
    | standalone | train.lr | 2e-3 | 1e-3: 4.200, 2e-3: 4.100, 4e-3: broke down | 1001 |
    | dwt-strong | train.lr | 2e-3 | 1e-3: 4.200, 2e-3: 4.100, 4e-3: broke down | 1001 |
    | dwt-decay | train.lr | 2e-3 | 1e-3: 4.200, 2e-3: 4.100, 4e-3: broke down | 1001 |

    Every arm has its own; the value with the lowest loss on the tuning split was taken, and none at an edge.

    ## What was chosen here and not by the paper

    - The temperature is 2.
    - Soft loss without the factor τ².
    ");
}

#[test]
fn the_page_needs_no_other_file_and_text_stays_text() {
    let dir = tempfile::tempdir().unwrap();
    study(dir.path());
    let page = page_of(&[dir.path().into()]);
    for outside in ["http", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("<title>A weak teacher &amp; &lt;what&gt; it does</title>"));
    assert!(page.contains("runs/&lt;teacher&gt; &amp; co") && !page.contains("<teacher>") && !page.contains("<what>"));
    assert!(!page.contains("NaN") && !page.contains("inf ") && !page.contains("null"));
    assert_eq!(page.matches("<figure").count(), page.matches("</figure>").count());
}

#[test]
fn loose_runs_are_compared_and_an_unfinished_one_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    for seed in [1, 2] {
        ARMS[0].run(&dir.path().join(format!("alone-seed{seed}")), seed, STEPS);
    }
    ARMS[2].run(&dir.path().join("distilled"), 1, 123);
    let materials = read(&[dir.path().into()]).unwrap();
    let arms: Vec<_> =
        materials[0].study.arms.iter().map(|arm| (arm.name.as_str(), arm.seeds, arm.held_out_loss.is_some())).collect();
    assert_eq!(arms, [("alone", 2, true), ("distilled", 1, false)]);
    let page = page_of(&[dir.path().into()]);
    assert!(page.contains("<small>unfinished: step 123 of 600, held-out loss so far 4."), "{page}");
    assert!(page.contains("2 ways of training, compared") && page.contains("1 run unfinished."));
}

#[test]
fn scores_of_checkpoints_are_drawn_over_pre_training_steps() {
    let dir = tempfile::tempdir().unwrap();
    for (fake, gain) in [(&ARMS[0], 0.1), (&ARMS[2], 0.2)] {
        let run = dir.path().join(fake.name);
        fake.run(&run, 1, STEPS);
        for (step, seed) in [(200_u64, 1_u64), (200, 2), (400, 1), (400, 2), (600, 1), (600, 2)] {
            let score = 0.5 + gain * step as f64 / STEPS as f64 + 0.01 * noise(seed, step);
            let scores = SeedScores {
                task: "cola".into(),
                seed,
                score,
                scores: BTreeMap::from([("matthews".to_owned(), score)]),
                confusion: None,
                epochs: 3.0,
                seconds: 1.0,
                settings: FinetuneSettings { model: "m".into(), data: "d".into(), options: "o".into() },
                tests: BTreeMap::new(),
            };
            let place = run.join(format!("finetune/step-{step:07}/cola/seed-{seed}"));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("scores.json"), serde_json::to_string(&scores).unwrap()).unwrap();
        }
    }
    let materials = read(&[dir.path().into()]).unwrap();
    let arms = &materials[0].study.arms;
    let last: Vec<f64> = arms.iter().map(|arm| (arm.scores["cola"].mean * 100.0).round()).collect();
    assert_eq!((arms[0].name.as_str(), &last[..]), ("dwt-decay", &[70.0, 60.0][..]), "the table has the last checkpoint's");
    let page = page_of(&[dir.path().into()]);
    let figure = page.split("</span> Score on cola by pre-training step</h3>").nth(1).unwrap().split("</figure>").next().unwrap();
    assert!(figure.contains("standalone") && figure.contains("dwt-decay") && figure.contains(">score<"), "{figure}");
    fs::write(dir.path().join("standalone/finetune/step-0000200/cola/seed-1/scores.json"), "{}").unwrap();
    let error = read(&[dir.path().into()]).unwrap_err().to_string();
    assert!(error.contains("not a fine-tuning's scores") && error.contains("step-0000200"), "{error}");
}

#[test]
fn broken_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| {
        let out = dir.path().join("report.html");
        let error = write_report(&[path.into()], &out).unwrap_err();
        assert!(!out.exists() && error.exit_code() == 2);
        error.to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    let run = dir.path().join("runs/a");
    let mut said = vec![error(&dir.path().join("nowhere")), error(dir.path())];
    ARMS[0].run(&run, 1, STEPS);
    said.push(error(&run.join("plan.toml")));
    for (file, text) in [("summary.json", "{\"steps\": 60"), ("plan.toml", "seed = = 1"), ("steps.jsonl", "{\"step\": 1}\n{}\n")]
    {
        let whole = fs::read(run.join(file)).unwrap();
        fs::write(run.join(file), text).unwrap();
        said.push(error(&run));
        fs::write(run.join(file), whole).unwrap();
    }
    fs::write(dir.path().join("study.json"), "{\"arms\": 3}").unwrap();
    said.push(error(dir.path()));
    insta::assert_snapshot!(said.join("\n\n"), @r#"
    no such folder
      in: DIR/nowhere
    help: give a run directory or a study's folder

    neither a run directory nor a study
      in: DIR
    help: a run directory holds plan.toml and steps.jsonl, a study's folder study.json or runs below it

    not a folder
      in: DIR/runs/a/plan.toml
    help: give a run directory or a study's folder

    the file ends too early: EOF while parsing an object at line 1 column 12
      in: DIR/runs/a/summary.json
    help: restore the file, or run what wrote it again

    not a plan: extra `=`, expected nothing
      in: DIR/runs/a/plan.toml
    help: leave this run out, or restore the file

    not a step record: missing field `loss`, column 11
      in: DIR/runs/a/steps.jsonl:1
    help: mend or remove that line

    not what this file should hold: invalid type: integer `3`, expected a sequence at line 1 column 10
      in: DIR/study.json
    help: restore the file, or run what wrote it again
    "#);
}
