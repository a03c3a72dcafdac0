//! The command: help, errors, exit codes, and a run that is interrupted.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::tempdir;

use crate::common::{program, run_file};

/// The command in a folder of its own, on the CPU.
fn upstill(dir: &Path, args: &[&str]) -> Command {
    let mut command = program();
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

#[test]
fn help_fits_a_screen() {
    let dir = tempdir().unwrap();
    let help = String::from_utf8(run(dir.path(), &["--help"]).stdout).unwrap();
    insta::assert_snapshot!(help, @"
    Distil upwards: train a larger language model with the help of a smaller, weaker one.

    Usage: upstill [COMMAND]

    Commands:
      study      Compare a stand-alone student with students of weak teachers: a grid of runs, a table, a report
      init       Write a commented run file, or a study's, for text or token shards of your own
      train      Train what a run file says
      teach      Ask a run's teacher about its batches once, and keep the answers for any number of runs
      plan       Say what a run file comes to: parameters, memory, FLOPs, expected time. Trains nothing
      snapshot   Hold the first steps of a run against a committed file: losses, gradient norms, weights
      eval       Score a model on held-out text
      fill       Show the likeliest words for [MASK], of several models side by side
      generate   Have a causal model go on with a text
      finetune   Fine-tune a model on a labelled task and score it
      import     Say what a Hugging Face folder holds, and write it anew as `transformers` has it today
      export     Write a model for `transformers`, with a model card
      logits     Write a model's logits for sentences, for anyone to compare with
      data       Build or show token shards
      tokenizer  Train or show a WordPiece vocabulary
      report     Draw runs and studies in one HTML file
      bench      Measure the parts, in each form, beside PyTorch
      doctor     Say what this machine has, and test it
      help       Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Start from nothing:
      upstill study --size tiny          a weak teacher, students, a report: seconds, nothing to download
      upstill study                      with seeds enough for a first answer: minutes

    From text of your own, a folder with .txt, .jsonl, .csv or .parquet files:
      upstill init dwt articles/         reads it into token shards, and writes teacher.toml and student.toml
      upstill train teacher.toml
      upstill train student.toml

    From a model that is there, a Hugging Face folder of the BERT family:
      upstill fill bert-base-uncased/ 'Paris is the [MASK] of France.'
      upstill eval bert-base-uncased/ --pairs blimp/
      upstill finetune bert-base-uncased/ --task cola --data glue/

    Exit codes: 0 done, 1 a check failed, 2 could not run, 130 interrupted (after saving).
    ");
}

#[test]
fn alone_it_shows_three_ways_in_and_colours_only_where_they_are_wanted() {
    let dir = tempdir().unwrap();
    let alone = run(dir.path(), &[]);
    let said = String::from_utf8(alone.stdout).unwrap();
    assert!(alone.status.success() && alone.stderr.is_empty());
    for way in ["Start from nothing:", "From text of your own", "From a model that is there", "upstill --help"] {
        assert!(said.contains(way), "{said}");
    }
    // Help has colours; a pipe has none unless they are forced, and NO_COLOR goes before.
    let help = |set: &[(&str, &str)]| {
        let mut command = upstill(dir.path(), &["--help"]);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        let output = command.envs(set.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(!help(&[]) && help(&[("CLICOLOR_FORCE", "1")]));
    assert!(!help(&[("CLICOLOR", "0")]) && !help(&[("NO_COLOR", "1")]));
}

#[test]
fn without_a_home_everything_on_the_cpu_works() {
    let dir = tempdir().unwrap();
    let mut command = upstill(dir.path(), &["doctor"]);
    let output = command.env_remove("HOME").env_remove("XDG_CACHE_HOME").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    for part in
        ["upstill   ", "commit ", "system    ", "cpu       ", "threads, memory", "set       UPSTILL_DEVICE=cpu", "self-test"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn every_subcommands_help_reads_as_it_did() {
    let dir = tempdir().unwrap();
    let commands: [&[&str]; 24] = [
        &["study"],
        &["study", "dwt"],
        &["study", "cotrain"],
        &["study", "transfer"],
        &["study", "run"],
        &["init"],
        &["snapshot"],
        &["train"],
        &["teach"],
        &["plan"],
        &["eval"],
        &["fill"],
        &["generate"],
        &["finetune"],
        &["import"],
        &["export"],
        &["logits"],
        &["data", "build"],
        &["data", "show"],
        &["data", "dump"],
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
     1. model.hiden (line 2): no such key
          did you mean `model.hidden`?
     2. model.layers (line 3): found the text "two"
          write a whole number from 0
     3. method: is missing
          write method = "dwt" or "standalone", or preset = "dwt-normal"
     4. data.shards: is missing
          write a folder made by `upstill data build`, or "pocket"
     5. train.batch (line 5): is 0
          write 1 or more
      in: run.toml
    help: mend these; `upstill plan` checks a run file without training
    "#);
    insta::assert_snapshot!(fails(dir.path(), &["eval", "nowhere"]), @"
    exit 2
    error: there is no model in nowhere
    help: give a run directory that has finished, a checkpoint, a folder with config.json and model.safetensors, or a .gguf file
    ");
    insta::assert_snapshot!(fails(dir.path(), &["fill", "nowhere", "a [MASK]"]), @"
    exit 2
    error: there is no model in nowhere
    help: give a run directory that has finished, a checkpoint, a folder with config.json and model.safetensors, or a .gguf file
    ");
    insta::assert_snapshot!(fails(dir.path(), &["finetune", "nowhere", "--task", "cola"]), @"
    exit 2
    error: there is no model in nowhere
    help: give a run directory that has finished, a checkpoint, a folder with config.json and model.safetensors, or a .gguf file
    ");
    insta::assert_snapshot!(fails(dir.path(), &["report", "nowhere"]), @"
    exit 2
    error: no such folder
      in: nowhere
    help: give a run directory or a study's folder
    ");
    insta::assert_snapshot!(fails(dir.path(), &["doctor", "--device", "tpu"]), @r#"
    exit 2
    error: unknown device "tpu"
    help: one of: auto, cpu, cuda, cuda:N, wgpu, wgpu:N, wgpu:software
    "#);
    insta::assert_snapshot!(fails(dir.path(), &["bench", "agree", "--device", "cpu", "--form", "cubecl"]), @r#"
    exit 2
    device: cpu (N threads): asked for
    error: this device has no cubecl kernels
    help: write [runtime] kernels = "auto", or leave --form out; it has composed and fused
    "#);
    insta::assert_snapshot!(fails(dir.path(), &["study", "none.toml"]), @"
    exit 2
    error: could not read none.toml: No such file or directory (os error 2)
    help: check the path
    ");
}

#[test]
fn a_run_goes_from_its_file_to_scores() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), run_file(40, 20)).unwrap();
    let json = |args: &[&str]| -> serde_json::Value {
        let output = run(dir.path(), args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let summary = json(&["train", "run.toml", "--set", "held_out.again=pocket", "--json"]);
    assert_eq!(keys(&summary), ["steps", "held_out_loss", "loss", "tokens_per_s", "seconds", "run", "held_out", "files"]);
    let again = summary["held_out"]["again"].as_f64().unwrap() - summary["held_out_loss"].as_f64().unwrap();
    assert!(again.abs() < 1e-5, "the same rows and masks under a name: {again}");
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
    let pairs = json(&["eval", "runs/run", "--pairs", "pocket", "--held-out", "again=pocket", "--rows", "8", "--json"]);
    assert_eq!(keys(&pairs), ["held_out", "pairs"], "what was asked for, and no more");
    assert_eq!(pairs["held_out"]["again"]["held_out_loss"], scores["held_out_loss"], "the same rows and masks under a name");
    assert_eq!(keys(&pairs["pairs"]), ["accuracy", "margin", "pairs", "ties", "phenomena", "paradigms"]);
    assert!(pairs["pairs"]["accuracy"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)));
    let line = r#"{"context": "the dog", "choices": ["sees a cat.", "see a cat."], "answer": 0}"#;
    fs::write(dir.path().join("questions.jsonl"), [line; 3].join("\n")).unwrap();
    insta::assert_snapshot!(fails(dir.path(), &["eval", "runs/run", "--choices", "questions.jsonl"]), @"
    exit 2
    device: cpu (N threads): asked for
    error: a masked model gives a choice after its context no likelihood
    help: take a causal model; a masked one is scored on minimal pairs: --pairs
    ");
    let filled = json(&["fill", "runs/run", "anna is a [MASK] .", "--compare", "runs/run", "--top", "3", "--json"]);
    assert_eq!(filled.as_array().unwrap().len(), 2);
    assert_eq!(filled[0]["masks"][0].as_array().unwrap().len(), 3);
    let plan = json(&["plan", "run.toml", "--json"]);
    assert_eq!(keys(&plan), ["plan", "hash", "estimate", "expected_seconds", "sum_bytes", "ranks"]);
    assert_eq!(plan["plan"]["runtime"]["device"], "cpu", "--device is the plan's, whose memory is estimated");
    let report = run(dir.path(), &["report", "runs/run", "--out", "r.html"]);
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    assert!(fs::read_to_string(dir.path().join("r.html")).unwrap().contains("<svg"));
}

#[test]
fn questions_are_scored_side_by_side() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), run_file(2, 2)).unwrap();
    let set = ["--set", "model.family=llama", "--out", "causal"];
    assert!(run(dir.path(), &[&["train", "run.toml"], &set[..]].concat()).status.success());
    let long = "the dog sees a cat. ".repeat(12);
    let questions = [
        r#"{"context": "the dog", "choices": ["sees a cat.", "see a cat."], "answer": "A"}"#.to_owned(),
        format!(r#"{{"context": "{long}", "choices": ["the dog", "a cat", "a"], "answer": 2}}"#),
        format!(r#"{{"context": "{long}", "choices": ["a", "a"], "answer": 0}}"#),
    ];
    fs::write(dir.path().join("three.jsonl"), questions.join("\n")).unwrap();
    fs::write(dir.path().join("one.jsonl"), &questions[0]).unwrap();
    let eval = ["eval", "causal", "--choices", "three.jsonl", "--choices", "one.jsonl"];
    let output = run(dir.path(), &[&eval[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [three, one] = [0, 1].map(|at| &found["choices"][at]);
    assert_eq!((&three["file"], &three["questions"], &one["questions"]), (&json!("three.jsonl"), &json!(3), &json!(1)));
    assert!((three["chance"].as_f64().unwrap() - (0.5 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
    assert_eq!((&three["cut"]["questions"], &three["cut"]["first"]), (&json!(2), &json!("three.jsonl:2")));
    let ends = &three["acc_interval"];
    let [low, acc, high] = [&ends["low"], &three["acc"], &ends["high"]].map(|value| value.as_f64().unwrap());
    assert!(0.0 <= low && low <= acc && acc <= high && high <= 1.0, "{three}");
    assert_eq!(one["acc_interval"], json!(null), "one question says nothing about others");
    let said = String::from_utf8(run(dir.path(), &eval).stdout).unwrap();
    let shown: Vec<&str> = said.lines().collect();
    assert!(shown[0].starts_with("multiple choice  questions") && shown[0].ends_with("chance"), "{said}");
    assert!(shown[1].starts_with("three.jsonl") && shown[1].ends_with("44.44 %"), "{said}");
    assert!(shown[2].starts_with("one.jsonl") && shown[2].ends_with("50.00 %"), "{said}");
    let cut = "too long for the model, cut at the context's beginning by up to ";
    assert!(shown[3].starts_with(cut) && shown[3].ends_with("tokens: three.jsonl:2 and 1 more"), "{said}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_ends_and_goes_on_exactly() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), run_file(40, 20)).unwrap();
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

    let claim = &first["claims"][0];
    assert_eq!((claim["arm"].as_str(), claim["margin"].as_f64()), (Some("soft 1"), Some(0.01)));
    assert!(claim["sentence"].as_str().unwrap().ends_with(['.']) && claim["verdict"].is_string(), "{claim}");
    assert_eq!(first["registration"]["study_file"].as_str().map(str::len), Some(16));
}

#[test]
fn a_studys_summary_is_a_folder_to_commit() {
    let dir = tempdir().unwrap();
    let summary = |folder: &str| run(dir.path(), &["study", "--size", "tiny", "--summary", folder]);
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/notes.txt"), "mine").unwrap();
    let refused = summary("mine");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a study's summary"));
    assert!(!dir.path().join("runs/study-tiny/cells").exists(), "nothing is trained for a summary that can't be written");

    assert!(summary("results/tiny").status.success());
    let read = |name: &str| fs::read_to_string(dir.path().join("results/tiny").join(name)).unwrap();
    assert_eq!(read("study.toml"), fs::read_to_string(dir.path().join("runs/study-tiny/study.toml")).unwrap());
    assert_eq!(read("cells.jsonl").lines().count(), 6, "two teachers, four students");
    assert!(
        read("report.md").starts_with("# Does a weak teacher make a better student?\n") && read("figure.svg").contains("</svg>")
    );
    // The file of another study is not written over.
    fs::write(dir.path().join("results/tiny/study.toml"), read("study.toml").replace("seeds = [1, 2]", "seeds = [1, 3]"))
        .unwrap();
    let refused = summary("results/tiny");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("summary of another study"));
    assert!(read("study.toml").contains("[1, 3]"));
}

/// A model that was trained for a step, and a folder of GLUE's with two tasks.
fn model_and_glue(dir: &Path) {
    fs::write(dir.join("run.toml"), run_file(40, 20)).unwrap();
    let short = ["train", "run.toml", "--set", "train.steps=2", "--set", "train.checkpoint_every=1", "--out", "m"];
    assert!(run(dir, &short).status.success());
    let write = |name: &str, text: String| {
        let path = dir.join("glue").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let rows = |count: usize| {
        (0..count).map(|at| format!("x\t{}\t\tanna is a {}.\n", at % 2, ["dog", "baker"][at % 2])).collect::<String>()
    };
    write("CoLA/train.tsv", rows(12));
    write("CoLA/dev.tsv", rows(6));
    write("CoLA/test.tsv", "index\tsentence\n0\tben is a dog.\n1\t\n".to_owned());
    let pairs = |count: usize| {
        let row = |at: usize| format!("{at}\tanna is a dog.\tben is a dog.\t{}\n", ["entailment", "not_entailment"][at % 2]);
        "index\tsentence1\tsentence2\tlabel\n".to_owned() + &(0..count).map(row).collect::<String>()
    };
    write("RTE/train.tsv", pairs(6));
    write("RTE/dev.tsv", pairs(4));
}

#[test]
fn glue_is_fine_tuned_kept_and_found_again() {
    let dir = tempdir().unwrap();
    model_and_glue(dir.path());
    let command = [
        "finetune",
        "m",
        "--task",
        "glue",
        "--data",
        "glue",
        "--seeds",
        "2",
        "--batch",
        "4",
        "--epochs",
        "1",
        "--keep-best",
        "--out",
        "kept",
    ];
    let output = run(dir.path(), &[&command[..], &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: CoLA/train.tsv: row count 12, and the official file's is 8551"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["task", "metrics", "seeds", "tasks", "left_out"]);
    assert_eq!(keys(&json["tasks"][0]), ["task", "metrics", "seeds", "score", "classes", "confusion", "notes", "scores"]);
    assert!(
        json["tasks"][0]["metrics"]["matthews"]["sd"].is_number() && json["tasks"][1]["metrics"]["accuracy"]["mean"].is_number()
    );
    let confused: u64 = json["tasks"][1]["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(confused, 8, "4 dev rows, 2 seeds");

    let predictions = fs::read_to_string(dir.path().join("kept/cola/seed-2/CoLA.tsv")).unwrap();
    let lines: Vec<&str> = predictions.lines().collect();
    assert!(lines[0] == "index\tprediction" && lines.len() == 3 && ["1\t0", "1\t1"].contains(&lines[2]), "{predictions}");
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("kept/rte/model/config.json")).unwrap()).unwrap();
    assert_eq!(
        (&config["architectures"][0], &config["id2label"]["1"]),
        (&"BertForSequenceClassification".into(), &"not_entailment".into())
    );

    let settings = fs::read_to_string(dir.path().join("kept/rte/model/tokenizer_config.json")).unwrap();
    assert!(settings.contains("\"model_max_length\": 32"), "{settings}");

    let again = run(dir.path(), &[&command[..], &["--json"]].concat());
    assert_eq!(String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&again.stderr).contains("4 of 4 runs done (4 found)"));
    let other = ["finetune", "m", "--task", "rte", "--data", "glue", "--seeds", "1", "--lr", "1e-3", "--out", "kept"];
    let refused = fails(dir.path(), &other)
        .lines()
        .filter(|line| !line.starts_with("note:") && !line.starts_with("device:"))
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!(refused, @"
    exit 2
    error: the folder keeps scores of other settings: lr 2e-5, batch 4, length 32, 1 passes, dropout 0.1, best pass kept
      in: kept/rte/seed-1
    help: choose another --out; nothing was changed
    ");
}

#[test]
fn every_checkpoint_is_scored_for_the_report() {
    let dir = tempdir().unwrap();
    model_and_glue(dir.path());
    let command = [
        "finetune",
        "m",
        "--every-checkpoint",
        "--task",
        "rte",
        "--data",
        "glue",
        "--seeds",
        "2",
        "--batch",
        "4",
        "--epochs",
        "1",
        "--json",
    ];
    let output = run(dir.path(), &command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps: Vec<u64> = json["checkpoints"].as_array().unwrap().iter().map(|one| one["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2]);
    assert_eq!((&json["task"], &json["metrics"]), (&"rte".into(), &json["checkpoints"][1]["metrics"]));
    assert!(run(dir.path(), &["report", "m", "--out", "r.html"]).status.success());
    assert!(fs::read_to_string(dir.path().join("r.html")).unwrap().contains("Score on rte by pre-training step"));
    // Step 2 is the run's last: its scores are the finished model's, and those of step 1 are not.
    assert!(run(dir.path(), &["export", "m", "out"]).status.success());
    let card = fs::read_to_string(dir.path().join("out/README.md")).unwrap();
    assert!(card.contains("| rte | accuracy | ") && card.matches("| rte |").count() == 1, "{card}");
    assert!(card.contains("Held-out loss ") && card.contains("| method | standalone |"), "{card}");
    // A damaged checkpoint is passed over, said, and seen in the exit code; the others are scored.
    let damage = |step: &str| {
        let weights = dir.path().join("m/checkpoints").join(step).join("model/model.safetensors");
        let mut bytes = fs::read(&weights).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&weights, bytes).unwrap();
    };
    damage("step-0000001");
    let output = run(dir.path(), &command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("note: the checkpoint of step 1 is left out: "), "{said}");
    assert!(said.contains("error: checkpoints that can't be read were left out: those of steps 1\n"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["checkpoints"].as_array().unwrap().len(), &json["checkpoints"][0]["step"]), (1, &2.into()));
    damage("step-0000002");
    let all = fails(dir.path(), &command);
    assert!(all.starts_with("exit 2\n") && all.contains("none of the checkpoints can be read: those of steps 1, 2"), "{all}");
}

#[test]
fn what_finetune_is_asked_for_has_to_fit_together() {
    let dir = tempdir().unwrap();
    model_and_glue(dir.path());
    let said = |args: &[&str]| fails(dir.path(), &[&["finetune", "m"], args].concat());
    let all = [
        said(&[]),
        said(&["--task", "cola"]),
        said(&["--task", "qnli", "--data", "glue"]),
        said(&["--task", "glue", "--data", "glue/CoLA"]),
        said(&["--task", "glue", "--data", "glue", "--train", "a.tsv"]),
        said(&["--task", "pocket-sentiment", "--dev", "a.tsv"]),
        said(&["--train", "glue/RTE/train.tsv", "--dev", "glue/RTE/dev.tsv", "--text", "premise", "--label", "label"]),
        said(&["--task", "rte", "--data", "glue", "--patience", "0"]),
        said(&["--task", "rte", "--data", "glue", "--warmup", "1"]),
        said(&["--task", "rte", "--data", "glue", "--epochs", "nan", "--lr", "inf"]),
        said(&["--task", "rte", "--data", "glue", "--epochs", "1e-9"]),
    ];
    let no_run = fails(dir.path(), &["finetune", "m/model", "--every-checkpoint", "--task", "rte", "--data", "glue"]);
    assert!(no_run.contains("error: there are no checkpoints\n  in: m/model\nhelp: --every-checkpoint takes a run"), "{no_run}");
    insta::assert_snapshot!(all.join("\n"), @"
    exit 2
    error: no task was named
    help: name one with --task, or a table's columns with --train, --dev, --text and --label

    exit 2
    error: --task cola needs --data
    help: give the folder with GLUE's official files, which holds CoLA/, SST-2/ and so on

    exit 2
    error: qnli needs train.tsv; the folder holds CoLA, RTE
      in: glue
    help: --data takes the folder that holds QNLI/ or that folder itself; --train FILE takes any other file

    exit 2
    error: the folder holds no task of GLUE; it holds dev.tsv, test.tsv, train.tsv
      in: glue/CoLA
    help: --data takes the folder that holds CoLA/, SST-2/ and so on, as GLUE's own download makes it

    exit 2
    error: --train, --dev and --test replace the files of one task
    help: name the task with --task

    exit 2
    error: a pocket task has no files
    help: leave out --train, --dev and --test

    exit 2
    error: there is no column `premise`; there is `index`, `sentence1`, `sentence2`, `label`
      in: glue/RTE/train.tsv
    help: mend the file, or read it as a table: --train, --dev, --text, --text2 and --label name files and columns

    exit 2
    error: --patience is 0: at least one pass is taken

    exit 2
    error: --warmup is 1: it is a share of the steps, from 0 to below 1

    exit 2
    error: --lr is inf: it has to be a finite number above 0; --epochs is NaN: it has to be a finite number above 0

    exit 2
    error: --epochs is 1e-9: of 6 examples that is less than one step of 32
    help: train on more passes, or take a smaller --batch
    ");
}

#[test]
fn a_table_is_a_task_by_its_columns() {
    let dir = tempdir().unwrap();
    model_and_glue(dir.path());
    let args = [
        "finetune",
        "m",
        "--train",
        "glue/RTE/train.tsv",
        "--dev",
        "glue/RTE/dev.tsv",
        "--text",
        "sentence1",
        "--text2",
        "sentence2",
    ];
    let more = ["--label", "label", "--metric", "f1", "--seeds", "1", "--epochs", "9", "--patience", "1"];
    let output = run(dir.path(), &[&args[..], &more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.starts_with("f1 ") && printed.contains("rows: true; columns: answered") && printed.contains("not_entailment"),
        "{printed}"
    );
}

#[test]
fn a_studys_jobs_run_in_any_order_and_come_to_the_study() {
    let dir = tempdir().unwrap();
    let emitted = run(dir.path(), &["study", "--size", "tiny", "--out", "by jobs", "--device", "cpu", "--emit", "jobs"]);
    assert!(emitted.status.success());
    let lines = String::from_utf8(emitted.stdout).unwrap();
    assert!(lines.lines().next().unwrap().contains("--cell 'teacher, 1 layer#1'"), "{lines}");
    assert_eq!(lines.lines().count(), 6);
    // The last first: its teacher isn't there yet. Then all at once, as a shell reads them.
    let program = Path::new(env!("CARGO_BIN_EXE_upstill"));
    let shell = |line: &str| {
        let line = line.replacen("upstill", &format!("'{}'", program.display()), 1);
        std::process::Command::new("sh").args(["-c", &line]).current_dir(dir.path()).spawn().unwrap()
    };
    assert!(shell(lines.lines().last().unwrap()).wait().unwrap().success());
    let all: Vec<_> = lines.lines().map(shell).collect();
    assert!(all.into_iter().all(|mut job| job.wait().unwrap().success()));
    let json = |name: &str| -> serde_json::Value {
        let output = run(dir.path(), &["study", "--size", "tiny", "--out", name, "--device", "cpu", "--json"]);
        let mut study: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        study["arms"].take()
    };
    let (by_jobs, at_once) = (json("by jobs"), json("at once"));
    for (a, b) in by_jobs.as_array().unwrap().iter().zip(at_once.as_array().unwrap()) {
        assert_eq!((&a["name"], &a["held_out_loss"], &a["scores"]), (&b["name"], &b["held_out_loss"], &b["scores"]));
    }
    let wrong = run(dir.path(), &["study", "--size", "tiny", "--out", "by jobs", "--cell", "nobody#1"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no run \"nobody\" with seed 1"));
}

/// The tasks of an array job and the pods of an indexed Job run the same commands, by their numbers.
#[test]
fn a_studys_runs_are_written_down_for_slurm_and_for_kubernetes() {
    let dir = tempdir().unwrap();
    let emitted = |form: &str| {
        let output = run(dir.path(), &["study", "--size", "tiny", "--out", "it's", "--device", "cpu", "--emit", form]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let script = emitted("slurm");
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("\n#SBATCH --array=1-6\n"), "{script}");
    let job = emitted("kubernetes");
    insta::assert_snapshot!(job.replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r#"
    # One pod a run; a student trains its teacher, or waits for the pod that does. What is done already is not repeated.
    # Set here: the image, the claim of a volume that all pods share and that holds the data, and GPUs under resources.
    apiVersion: batch/v1
    kind: Job
    metadata:
      name: upstill-study
    spec:
      completions: 6
      parallelism: 6
      completionMode: Indexed
      backoffLimit: 6
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 120
          containers:
          - name: upstill
            image: upstill:VERSION
            workingDir: /work
            command: ["/bin/sh", "-c"]
            args:
            - |
              case $((JOB_COMPLETION_INDEX + 1)) in
              1) exec upstill study dwt --size tiny --out 'it'\''s' --device cpu --cell 'teacher, 1 layer#1' ;;
              2) exec upstill study dwt --size tiny --out 'it'\''s' --device cpu --cell 'teacher, 1 layer#2' ;;
              3) exec upstill study dwt --size tiny --out 'it'\''s' --device cpu --cell 'stand-alone#1' ;;
              4) exec upstill study dwt --size tiny --out 'it'\''s' --device cpu --cell 'soft 1#1' ;;
              5) exec upstill study dwt --size tiny --out 'it'\''s' --device cpu --cell 'stand-alone#2' ;;
              6) exec upstill study dwt --size tiny --out 'it'\''s' --device cpu --cell 'soft 1#2' ;;
              *) echo "there is no such run" >&2; exit 2 ;;
              esac
            volumeMounts:
            - name: work
              mountPath: /work
          volumes:
          - name: work
            persistentVolumeClaim:
              claimName: upstill
    "#);
    let (_, inside) = job.split_once("        - |\n").unwrap();
    let inside: String =
        inside.lines().map_while(|line| line.strip_prefix("          ")).map(|line| format!("{line}\n")).collect();

    let program = Path::new(env!("CARGO_BIN_EXE_upstill"));
    let task = |script: &str, variable: &str, number: &str| {
        let script = script.replace("exec upstill", &format!("exec '{}'", program.display()));
        let shell = std::process::Command::new("sh").args(["-c", &script]).env(variable, number).current_dir(dir.path()).output();
        let output = shell.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let cells = || {
        let cells = fs::read_to_string(dir.path().join("it's/cells.jsonl")).unwrap_or_default();
        cells.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(task(&script, "SLURM_ARRAY_TASK_ID", "3").0, Some(0));
    let is = |found: &[serde_json::Value], at: usize, arm: &str, seed: u64| found[at]["arm"] == arm && found[at]["seed"] == seed;
    assert!(cells().len() == 1 && is(&cells(), 0, "stand-alone", 1), "the third run");
    assert_eq!(task(&inside, "JOB_COMPLETION_INDEX", "4").0, Some(0));
    assert!(cells().len() == 2 && is(&cells(), 1, "stand-alone", 2), "the fifth run");
    let (code, said) = task(&script, "SLURM_ARRAY_TASK_ID", "7");
    assert!(code == Some(2) && said.contains("there is no such run"), "{said}");
}

#[test]
fn a_transfer_study_prints_its_tables_and_repeats_nothing() {
    let dir = tempdir().unwrap();
    let study = |more: &[&str]| run(dir.path(), &[&["study", "transfer", "--size", "tiny"], more].concat());
    let output = study(&["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let arms = found["experiments"][0]["arms"].as_array().unwrap();
    let names: Vec<&str> = arms.iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["RNN encoder, words, last state", "student alone", "student, hard targets", "student, soft targets"]);
    for key in [
        "accuracy",
        "teacher_accuracy",
        "parameters",
        "compression",
        "teacher_variance",
        "largest_variance",
        "examples_per_s",
        "runs",
    ] {
        assert!(arms[3].get(key).is_some_and(|value| !value.is_null()), "an arm has {key:?}");
    }
    assert!(arms[1]["teacher_accuracy"].is_null() && arms[3]["accuracy"]["sd"].as_f64().is_some());
    let cells = || fs::read_dir(dir.path().join("runs/study-transfer-tiny/cells")).unwrap().count();
    let before = cells();
    let again = study(&[]);
    assert!(again.status.success() && cells() == before && before == 8, "{before} cells");
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("tables 5, 7, 8, 9") && text.contains("student, hard targets"), "{text}");
    let other = study(&["--set", "model.hidden=9"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("another study"));
    // Somebody's folder is refused before a teacher is trained in it.
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/thesis.tex"), "mine").unwrap();
    let refused = study(&["--out", "mine"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a study"));
    assert_eq!(fs::read_dir(dir.path().join("mine")).unwrap().count(), 1);
}
