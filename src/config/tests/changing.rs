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
    assert_snapshot!([line("masking"), line("training")].join("\n"), @"
    masking    30 % at most (0.3 until 50%, then 0.15 until 90%, then 0.05) of the tokens, 80/10/10; 20 slots a row; 15 % of held-out ones
    training   100 steps of at most 128 rows (16 -> 128 linear over 50 steps, then 128), 0 epochs, 268 thousand tokens
    ");
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
    assert_snapshot!(all.join("\n"), @"
    the run file has a mistake
      train.batch: goes down to 0
        write 1 or more
    the run file has a mistake
      train.batch: `8 -> 16 linear over 500 steps` ends at step 500, but the run has 100 steps
        make the piece shorter or the run longer; `over 5%` follows the run's length
    the run file has a mistake
      train.batch: goes down to 2, and runtime.workers = 4 each take a row at least
        write more rows, or fewer workers
    the run file has a mistake
      train.batch: changes, so that train.epochs doesn't say how many steps there are
        write train.steps
    the run file has a mistake
      data.held_out_mask_rate: is missing, and mask_rate changes: held-out rows are masked alike throughout a run
        write held_out_mask_rate = 0.15, or another share
    the run file has a mistake
      data.mask_rate: is 0
        write a number between 0 and 1, such as 0.15
    the run file has a mistake
      train.batch: is -3
        write 1 or more
    ");
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

/// The training settings and the configuration of ModernBERT (Warner et al. 2024), rows full.
#[test]
fn modernberts_recipe_has_the_papers_tokens() {
    let file = run_file(include_str!("../../../examples/modernbert-base.toml"));
    let full = DataFacts { tokens_per_row: 1024.0, rows_per_epoch: 1_000_000_000, ..data() };
    let plan = file.resolve(&Facts { data: Ok(full), teacher: None, ..facts() }).unwrap();
    let tokens = |steps: u64| (0..steps).map(|step| plan.train.rows_at(step) as f64 * 1024.0).sum::<f64>();
    for (found, paper) in [(plan.estimate().tokens, 1.719e12), (tokens(18_165), 50e9), (tokens(2764), 3e9)] {
        assert!((found / paper - 1.0).abs() < 1e-3, "{found:e} for {paper:e}");
    }
}
