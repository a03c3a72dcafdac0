//! Fine-tuning: what a seed fixes, which pass is kept, and what a folder of scores is good for.

use std::fs;

use upstill::device::Device;
use upstill::log::Console;
use upstill::methods::{EncodedTask, Finetune};
use upstill::model::{BertShape, Classifier, Weights};
use upstill::tasks::{Example, Label, PocketSizes, Split, Task, draw_pocket_task};
use upstill::text::pocket::words;
use upstill::tokens::Tokenizer;
use upstill::train::{FinetuneOptions, Finetuned, Finetuning, Pretrained, SeedScores};

fn pretrained() -> Pretrained {
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap();
    let shape = BertShape::new(tokenizer.vocab_size(), 32, 1, 2, 32);
    let weights = Weights::of(&shape.init(1, 0.02, &Device::cpu("test").handle));
    Pretrained { shape: shape.into(), weights, tokenizer, initializer_range: 0.02 }
}

fn task() -> Task {
    draw_pocket_task("pocket-sentiment", 0, PocketSizes { train: 60, dev: 40 }).unwrap()
}

fn options() -> FinetuneOptions {
    FinetuneOptions { lr: 5e-3, batch: 16, epochs: 4.0, ..FinetuneOptions::default() }
}

fn with<T>(options: &FinetuneOptions, each: impl FnOnce(&Finetuning) -> T) -> T {
    let (pretrained, task, device, console) = (pretrained(), task(), Device::cpu("test"), Console::silent());
    each(&Finetuning::new(&pretrained, &task, options, &device, &console).unwrap())
}

fn run(options: &FinetuneOptions, seed: u64) -> Finetuned {
    with(options, |tuning| tuning.run(seed).unwrap())
}

#[test]
fn a_seed_fixes_everything_and_another_changes_it() {
    let [first, again, other] = [1, 1, 2].map(|seed| run(&options(), seed).dev);
    assert!(first == again && first != other);
}

#[test]
fn outputs_are_in_the_rows_order_whatever_the_batch() {
    let (pretrained, task, device) = (pretrained(), task(), Device::cpu("test"));
    let encoded = EncodedTask::new(&task, &pretrained.tokenizer, 32).unwrap();
    let model =
        Classifier::start_from(&pretrained.weights, &pretrained.shape, 2, 0.02, 1, &device.handle.clone().autodiff()).unwrap();
    let predict = |batch: usize| Finetune::new(&encoded, batch, 1, &device.handle).predict_dev(&model).remove(0).concat();
    // Padding is not seen; sums of another length round otherwise.
    let (alone, together) = (predict(1), predict(7));
    assert!(alone.iter().zip(&together).all(|(a, b)| (a - b).abs() < 1e-5), "{alone:?} {together:?}");
    assert!(alone.iter().any(|x| (x - alone[0]).abs() > 1e-4), "rows are told apart");
}

#[test]
fn without_a_better_score_it_stops_and_the_first_pass_is_best() {
    // No weight moves beyond rounding, so no pass is better than the first.
    let still = FinetuneOptions { lr: 1e-12, epochs: 9.0, patience: Some(2), ..options() };
    assert_eq!(run(&still, 1).epochs, 3.0);
    assert_eq!(run(&FinetuneOptions { keep_best: true, ..still }, 1).epochs, 1.0);
}

#[test]
fn the_best_pass_is_no_worse_than_the_last() {
    for seed in 1..=3 {
        let best = run(&FinetuneOptions { keep_best: true, ..options() }, seed);
        let last = run(&options(), seed);
        assert!(best.scores["accuracy"] >= last.scores["accuracy"] && best.epochs <= last.epochs, "seed {seed}");
        assert_eq!(task().score(&best.dev), best.scores);
    }
}

#[test]
fn seeds_that_are_kept_are_not_repeated_and_equal_those_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let out = Some(dir.path());
    let timeless = |scores: Vec<SeedScores>| scores.into_iter().map(|one| SeedScores { seconds: 0.0, ..one }).collect::<Vec<_>>();
    with(&options(), |tuning| {
        let first = tuning.run_seeds(1, out).unwrap();
        let scores = dir.path().join("pocket-sentiment/seed-1/scores.json");
        let written = fs::read_to_string(&scores).unwrap();
        let both = tuning.run_seeds(2, out).unwrap();
        // JSON is read to within a unit in an f64's last place.
        assert!((both[0].seconds - first[0].seconds).abs() < 1e-9, "found, its time included");
        assert_eq!(timeless(both[..1].to_vec()), timeless(first));
        assert_eq!(timeless(both.clone()), timeless(tuning.run_seeds(2, None).unwrap()));
        let model = Weights::read(&dir.path().join("pocket-sentiment/model/model.safetensors")).unwrap();
        assert_eq!(model.get("classifier.weight").unwrap().shape, [2, 32]);
        fs::remove_file(&scores).unwrap();
        assert_eq!(timeless(tuning.run_seeds(2, out).unwrap()), timeless(both));
        fs::write(&scores, &written[..written.len() / 2]).unwrap();
        let error = tuning.run_seeds(1, out).unwrap_err().to_string();
        assert!(error.contains("not a fine-tuning's scores") && error.contains("delete the file"), "{error}");
    });
}

#[test]
fn what_nothing_can_be_trained_with_is_refused_before() {
    let (pretrained, task, device, console) = (pretrained(), task(), Device::cpu("test"), Console::silent());
    let refused = |options: FinetuneOptions| {
        Finetuning::new(&pretrained, &task, &options, &device, &console).map(|_| ()).unwrap_err().to_string()
    };
    for epochs in [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e-9, 1e300] {
        let error = refused(FinetuneOptions { epochs, ..options() });
        assert!(error.contains("--epochs is") && !error.contains("--resume"), "{epochs}: {error}");
    }
    for lr in [f64::NAN, f64::INFINITY, 0.0, -1e-5] {
        let error = refused(FinetuneOptions { lr, ..options() });
        assert!(error.contains("--lr is") && !error.contains("--resume"), "{lr}: {error}");
    }
    assert!(refused(FinetuneOptions { warmup: f64::NAN, ..options() }).contains("--warmup is NaN"));
    // 60 examples are 4 batches of 16: a quarter of a pass is the least.
    assert_eq!(FinetuneOptions { epochs: 0.25, ..options() }.steps(60).unwrap(), 1);
    assert!(FinetuneOptions { epochs: 0.24, ..options() }.steps(60).is_err());
}

#[test]
fn a_step_that_is_not_finite_is_no_run_to_resume() {
    let wild = FinetuneOptions { lr: 1e30, ..options() };
    let error = with(&wild, |tuning| tuning.run(1).map(|_| ()).unwrap_err().to_string());
    assert!(error.contains("is not finite") && error.contains("lower --lr") && !error.contains("--resume"), "{error}");
}

#[test]
fn predictions_that_are_asked_for_later_are_those_of_the_kept_scores() {
    let dir = tempfile::tempdir().unwrap();
    let (pretrained, device, console) = (pretrained(), Device::cpu("test"), Console::silent());
    let with_tests = |rows: std::ops::Range<usize>| {
        let mut task = task();
        let examples = task.train[rows].iter().map(|example| Example { label: Label::Hidden, ..example.clone() }).collect();
        task.test = vec![Split { name: "later".into(), examples }];
        task
    };
    let run = |task: &Task, out: &str| {
        let tuning = Finetuning::new(&pretrained, task, &options(), &device, &console).unwrap();
        let scores = tuning.run_seeds(2, Some(&dir.path().join(out))).unwrap();
        scores.into_iter().map(|one| (one.score, one.confusion)).collect::<Vec<_>>()
    };
    let predictions = |out: &str| {
        [1, 2]
            .map(|seed| fs::read_to_string(dir.path().join(out).join(format!("pocket-sentiment/seed-{seed}/later.tsv"))).unwrap())
    };
    let at_once = run(&with_tests(0..30), "at-once");
    let before = run(&task(), "later");
    let later = run(&with_tests(0..30), "later");
    assert_eq!((&at_once, &at_once), (&before, &later));
    assert_eq!(predictions("at-once"), predictions("later"), "of the kept model, and of the seed that was trained again");
    assert_eq!(predictions("later")[0].lines().count(), 31);
    // Of other rows, anew.
    run(&with_tests(30..50), "later");
    assert_eq!(predictions("later")[0].lines().count(), 21);
}

#[test]
fn a_folder_that_is_not_fine_tunings_own_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let there = dir.path().join("pocket-sentiment");
        fs::create_dir_all(there.join(name).parent().unwrap()).unwrap();
        fs::write(there.join(name), "mine").unwrap();
        let error = with(&options(), |tuning| tuning.run_seeds(1, Some(dir.path())).unwrap_err().to_string());
        assert_eq!(fs::read_to_string(there.join(name)).unwrap(), "mine");
        fs::remove_dir_all(&there).unwrap();
        error
    };
    for name in ["plan.toml", "model/model.safetensors", "model", "seed-1/notes.txt", "checkpoints/step-0000002/state.json"] {
        let error = refused(name);
        assert!(error.contains("holds something else") && error.contains("nothing was changed"), "{name}: {error}");
    }
    fs::write(dir.path().join("pocket-sentiment"), "a file").unwrap();
    assert!(with(&options(), |tuning| tuning.run_seeds(1, Some(dir.path())).is_err()), "a file of that name");
    assert_eq!(fs::read_to_string(dir.path().join("pocket-sentiment")).unwrap(), "a file");
    fs::remove_file(dir.path().join("pocket-sentiment")).unwrap();
    // One of ours, in which somebody put a file where a seed's folder will be.
    with(&options(), |tuning| {
        tuning.run_seeds(1, Some(dir.path())).unwrap();
        let notes = dir.path().join("pocket-sentiment/seed-2/notes.txt");
        fs::create_dir_all(notes.parent().unwrap()).unwrap();
        fs::write(&notes, "mine").unwrap();
        let error = tuning.run_seeds(2, Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("holds something else") && notes.is_file(), "{error}");
    });
}

#[test]
fn rows_are_no_longer_than_the_model() {
    with(&options(), |tuning| assert_eq!(tuning.options.length, 32));
}
