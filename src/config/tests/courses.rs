//! What changes from step to step of a run: rows of a batch, and the share of tokens that is masked.

use insta::assert_snapshot;

use super::*;

const GROWING: &str = "train.batch=16 -> 128 over 50 steps, then 128";
const MASKING: &str = "data.mask_rate=0.3 until 50%, then 0.15 until 90%, then 0.05";

fn mistake(sets: &[&str]) -> String {
    with(&[&["train.steps=100"], sets].concat()).resolve(&facts()).unwrap_err().what().to_owned()
}

#[test]
fn a_growing_batch_and_a_falling_mask_rate_are_planned() {
    let plan = with(&["train.steps=100", GROWING, MASKING, "data.held_out_mask_rate=0.15"]).resolve(&facts()).unwrap();
    assert_eq!((plan.train.batch, plan.data.mask_rate, plan.data.held_out_rate()), (128, 0.3, 0.15));
    let rows: Vec<usize> = [0, 1, 25, 49, 50, 99].map(|step| plan.train.rows_at(step)).to_vec();
    assert_eq!(rows, [16, 18, 72, 126, 128, 128], "16 + 112 step / 50, rounded");
    // The sum of what each step has: the plan's tokens and epochs are those that are trained on.
    let all: usize = (0..100).map(|step| plan.train.rows_at(step)).sum();
    assert_eq!(plan.train.all_rows(), all as f64);
    assert_eq!(plan.estimate().tokens, all as f64 * 27.0);
    assert_eq!(plan.epochs(), all as f64 / 30_000_000.0);
    let words = plan.describe(None);
    let line = |name: &str| words.lines().find(|line| line.trim_start().starts_with(name)).unwrap().trim().to_owned();
    assert_snapshot!([line("masking"), line("training")].join("\n"), @"");
    let toml = plan.to_toml();
    let read: Plan = toml::from_str(&toml).unwrap();
    assert_eq!(read, plan, "{toml}");
    let even = with(&["train.steps=100", "data.mask_rate=0.3", "data.held_out_mask_rate=0.15"]).resolve(&facts()).unwrap();
    assert_ne!(even.hash(), plan.hash());
    assert!(!even.to_toml().contains("_schedule"), "{}", even.to_toml());
}

#[test]
fn what_can_not_change_so_is_told() {
    let all = [
        mistake(&["train.batch=0 -> 8 over 5 steps"]),
        mistake(&["train.batch=8 -> 16 over 500 steps"]),
        mistake(&["train.batch=2 -> 16 over 5 steps", "runtime.workers=4"]),
        mistake(&["train.epochs=2", "train.batch=2 -> 16 over 5 steps"]),
        mistake(&["data.mask_rate=0.3 -> 0.1 linear"]),
        mistake(&["data.mask_rate=0.3 -> 0 linear", "data.held_out_mask_rate=0.15"]),
        mistake(&["train.batch=-3"]),
    ];
    assert_snapshot!(all.join("\n"), @"");
    let endless = with(&["train.steps=1000000000000", "train.batch=2 -> 16 linear"]).resolve(&facts()).unwrap_err();
    assert!(endless.what().contains("still changes after 16777216 steps"), "{endless}");
}

#[test]
fn runs_of_other_lengths_part_where_their_batches_do() {
    let of = |steps: &str, rows: &str| with(&[&format!("train.steps={steps}"), rows, "train.lr=1e-3", "distill.soft=1"]);
    let plan = |steps: &str, rows: &str| of(steps, rows).resolve(&facts()).unwrap();
    let by_share = "train.batch=16 -> 128 over 50%";
    let parting = plan("100", by_share).parting(&plan("200", by_share));
    assert_eq!((parting.steps, parting.what), (1, "train.batch"));
    assert_eq!(plan("100", GROWING).parting(&plan("200", GROWING)).steps, 100);
    let cached = with(&["train.steps=100", GROWING]).resolve(&facts()).unwrap().must_ask_alike().unwrap_err().to_string();
    assert!(cached.contains("train.batch changes over the run"), "{cached}");
}
