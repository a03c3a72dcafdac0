//! The command: help, errors, exit codes, and a run that is interrupted.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::tempdir;

/// The command in a folder of its own, on the CPU.
fn upstill(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upstill"));
    command.args(args).current_dir(dir).env("UPSTILL_DEVICE", "cpu").stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    upstill(dir, args).output().unwrap()
}

/// Exit code and what a person reads of a failing command.
fn fails(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.stdout.is_empty(), "nothing on standard output: {}", String::from_utf8_lossy(&output.stdout));
    let threads = format!("{} threads", std::thread::available_parallelism().unwrap());
    let said = String::from_utf8_lossy(&output.stderr).replace(&threads, "N threads");
    format!("exit {}\n{said}", output.status.code().unwrap())
}

const RUN_FILE: &str = r#"
preset = "standalone"
seed = 1
[model]
layers = 1
hidden = 32
heads = 2
max_positions = 32
dropout = 0.0
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = 40
batch = 4
evaluate_every = 20
evaluate_rows = 8
checkpoint_every = 20
"#;

#[test]
fn help_fits_a_screen() {
    let dir = tempdir().unwrap();
    let help = String::from_utf8(run(dir.path(), &["--help"]).stdout).unwrap();
    insta::assert_snapshot!(help, @"
    Distil upwards: train a larger language model with the help of a smaller, weaker one.

    Usage: upstill <COMMAND>

    Commands:
      study      Compare a stand-alone student with students of weak teachers: a grid of runs, a table, a report
      train      Train what a run file says
      plan       Say what a run file comes to: parameters, memory, FLOPs, expected time. Trains nothing
      eval       Score a model on held-out text
      fill       Show the likeliest words for [MASK], of several models side by side
      finetune   Fine-tune a model on a labelled task and score it
      data       Build or show token shards
      tokenizer  Train or show a WordPiece vocabulary
      report     Draw runs and studies in one HTML file
      bench      Measure the parts, in each form, beside PyTorch
      doctor     Say what this machine has, and test it
      help       Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Start here:
      upstill study                      see what a weak teacher does, in a few minutes, nothing to download
      upstill plan RUN.toml              what a run file comes to, before anything is trained
      upstill train RUN.toml --out runs/mine

    Exit codes: 0 done, 1 a check failed, 2 could not run, 130 interrupted (after saving).
    ");
}

#[test]
fn every_subcommands_help_reads_as_it_did() {
    let dir = tempdir().unwrap();
    let commands: [&[&str]; 12] = [
        &["study"],
        &["train"],
        &["plan"],
        &["eval"],
        &["fill"],
        &["finetune"],
        &["data", "build"],
        &["data", "show"],
        &["tokenizer", "train"],
        &["tokenizer", "show"],
        &["report"],
        &["doctor"],
    ];
    for command in commands {
        // UPSTILL_DEVICE would be shown as the flag's value.
        let output = upstill(dir.path(), &[command, &["--help"]].concat()).env_remove("UPSTILL_DEVICE").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        insta::assert_snapshot!(format!("help-{}", command.join("-")), help);
    }
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let dir = tempdir().unwrap();
    insta::assert_snapshot!(fails(dir.path(), &["train", "none.toml"]), @"
    exit 2
    error: could not read none.toml: No such file or directory (os error 2)
    help: check the path
    ");
    fs::write(dir.path().join("run.toml"), "[model]\nhiden = 128\nlayers = \"two\"\n[train]\nbatch = 0\n").unwrap();
    insta::assert_snapshot!(fails(dir.path(), &["plan", "run.toml"]), @r#"
    exit 2
    error: the run file has 5 mistakes
     1. model.hiden: no such key
          did you mean `model.hidden`?
     2. model.layers: found the text "two"
          write a whole number from 0
     3. method: is missing
          write method = "dwt" or "standalone", or preset = "dwt-normal"
     4. data.shards: is missing
          write a folder made by `upstill data build`, or "pocket"
     5. train.batch: is 0
          write 1 or more
      in: run.toml
    help: mend these; `upstill plan` checks a run file without training
    "#);
    insta::assert_snapshot!(fails(dir.path(), &["eval", "nowhere"]), @"
    exit 2
    error: there is no model in nowhere
    help: give a run directory that has finished, a checkpoint, or a folder with config.json and model.safetensors
    ");
    insta::assert_snapshot!(fails(dir.path(), &["fill", "nowhere", "a [MASK]"]), @"
    exit 2
    error: there is no model in nowhere
    help: give a run directory that has finished, a checkpoint, or a folder with config.json and model.safetensors
    ");
    insta::assert_snapshot!(fails(dir.path(), &["finetune", "nowhere", "--task", "cola"]), @r#"
    exit 2
    error: unknown task "cola"
    help: one of: pocket-acceptability, pocket-sentiment, pocket-paraphrase, pocket-entailment, pocket-similarity
    "#);
    insta::assert_snapshot!(fails(dir.path(), &["report", "nowhere"]), @"
    exit 2
    error: no such folder
      in: nowhere
    help: give a run directory or a study's folder
    ");
    insta::assert_snapshot!(fails(dir.path(), &["doctor", "--device", "tpu"]), @r#"
    exit 2
    error: unknown device "tpu"
    help: one of: auto, cpu, wgpu, wgpu:N, wgpu:software
    "#);
    insta::assert_snapshot!(fails(dir.path(), &["study", "none.toml"]), @"
    exit 2
    device: cpu (N threads): asked for
    error: could not read none.toml: No such file or directory (os error 2)
    help: check the path
    ");
}

#[test]
fn a_run_goes_from_its_file_to_scores() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    let json = |args: &[&str]| -> serde_json::Value {
        let output = run(dir.path(), args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let summary = json(&["train", "run.toml", "--json"]);
    assert_eq!(keys(&summary), ["steps", "held_out_loss", "loss", "tokens_per_s", "seconds", "run"]);
    for file in [
        "plan.toml",
        "run.json",
        "steps.jsonl",
        "summary.json",
        "model/config.json",
        "model/model.safetensors",
        "model/vocab.txt",
    ] {
        assert!(dir.path().join("runs/run").join(file).exists(), "{file}");
    }
    let scores = json(&["eval", "runs/run", "--teacher", "runs/run/checkpoints/step-0000020", "--rows", "8", "--json"]);
    assert_eq!(keys(&scores), ["held_out_loss", "perplexity", "masked_accuracy", "masked_tokens", "teacher_agreement"]);
    let difference = scores["held_out_loss"].as_f64().unwrap() - summary["held_out_loss"].as_f64().unwrap();
    assert!(difference.abs() < 1e-4, "eval and train score the same rows: {difference}");
    let filled = json(&["fill", "runs/run", "anna is a [MASK] .", "--compare", "runs/run", "--top", "3", "--json"]);
    assert_eq!(filled.as_array().unwrap().len(), 2);
    assert_eq!(filled[0]["masks"][0].as_array().unwrap().len(), 3);
    let plan = json(&["plan", "run.toml", "--json"]);
    assert_eq!(keys(&plan), ["plan", "hash", "estimate", "expected_seconds"]);
    let report = run(dir.path(), &["report", "runs/run", "--out", "r.html"]);
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    assert!(fs::read_to_string(dir.path().join("r.html")).unwrap().contains("<svg"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_ends_and_goes_on_exactly() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    let long = ["train", "run.toml", "--set", "train.steps=400", "--set", "train.checkpoint_every=400", "--out"];
    let (cut, whole) = ([&long[..], &["cut"]].concat(), [&long[..], &["whole"]].concat());
    let child = upstill(dir.path(), &cut).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let steps = dir.path().join("cut/steps.jsonl");
    while fs::metadata(&steps).map_or(0, |file| file.len()) == 0 {
        assert!(started.elapsed() < Duration::from_secs(120), "the run does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("everything is saved") && said.contains("--resume"), "{said}");

    assert!(run(dir.path(), &[&cut[..], &["--resume"]].concat()).status.success());
    assert!(run(dir.path(), &whole).status.success());
    let weights = |name: &str| fs::read(dir.path().join(name).join("model/model.safetensors")).unwrap();
    assert!(weights("cut") == weights("whole"), "the interrupted run ended elsewhere");
}

#[test]
fn a_study_prints_its_arms_and_repeats_nothing() {
    let dir = tempdir().unwrap();
    let study = || -> serde_json::Value {
        let output = run(dir.path(), &["study", "--size", "tiny", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = study();
    let arms = first["arms"].as_array().unwrap();
    let names: Vec<&str> = arms.iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["teacher, 1 layer", "stand-alone", "soft 1"]);
    for key in ["name", "method", "teacher", "soft", "start", "seeds", "held_out_loss", "scores", "parameters", "seconds"] {
        assert!(arms[2].get(key).is_some(), "an arm has {key:?}");
    }
    assert!(arms[2]["held_out_loss"]["sd"].as_f64().unwrap() >= 0.0);
    assert!(arms[2]["scores"]["pocket-acceptability"]["mean"].is_number());
    let report = fs::read_to_string(dir.path().join(first["report"].as_str().unwrap())).unwrap();
    assert!(report.contains("soft 1") && !report.contains("http"), "the report is whole and loads nothing");

    let plans = || fs::read_dir(dir.path().join("runs/study-tiny/cells")).unwrap().count();
    let cells = plans();
    let again = study();
    assert_eq!((again["arms"].clone(), plans()), (first["arms"].clone(), cells), "a second time finds every run");
}
