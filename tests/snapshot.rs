//! `upstill snapshot`: the run files of examples/ still train as their committed snapshots say, and what has moved is
//! named.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::tempdir;

use crate::common::program;

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn snapshot(dir: &Path, device: &str, args: &[&str]) -> Output {
    program().arg("snapshot").args(args).args(["--device", device]).current_dir(dir).output().unwrap()
}

/// Exit code, standard output and standard error without the device's line.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let error = text(&output.stderr);
    let error: Vec<&str> = error.lines().filter(|line| !line.starts_with("device:") && !line.contains("  done")).collect();
    (output.status.code().unwrap(), text(&output.stdout), error.join("\n"))
}

/// The run files that need nothing from outside.
fn examples_hold_on(device: &str, steps: &[&str]) {
    let dir = tempdir().unwrap();
    let file = |name: &str| examples().join(name).display().to_string();
    let (teacher, student, cotrain) = (file("teacher.toml"), file("student.toml"), file("cotrain.toml"));
    for args in [vec![&*teacher], vec![&*student, "--teacher", &teacher], vec![&*cotrain]] {
        let (code, out, error) = said(&snapshot(dir.path(), device, &[&args[..], steps].concat()));
        assert_eq!(code, 0, "{args:?} on {device}\n{out}\n{error}");
        assert!(out.contains("made on") && out.contains("now on"), "{out}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn the_examples_train_as_their_snapshots_say() {
    examples_hold_on("cpu", &[]);
    examples_hold_on("cpu", &["--steps", "3"]);
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_software_gpu_trains_as_the_cpus_snapshots_say() {
    // A software GPU takes a second or more a step.
    examples_hold_on(crate::common::gpu().kind.word(), &["--steps", "3"]);
}

const RUN_FILE: &str = "preset = \"standalone\"\nseed = 1\n[model]\nlayers = 1\nhidden = 32\nheads = 2\nmax_positions = 32\n\
    [data]\nshards = \"pocket\"\nrows = \"packed\"\nlength = 32\n[train]\nsteps = 40\nbatch = 4\nlr = \"0 -> 5e-3 over 10%, then -> 0 linear\"\n";

#[test]
fn a_run_is_held_against_its_snapshot() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    let run = |args: &[&str]| said(&snapshot(dir.path(), "cpu", &[&["run.toml"], args].concat()));
    let (code, _, error) = run(&[]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(error, @"
    error: there is no snapshot of this run yet
      in: run.snapshot.json
    help: the same command with --update makes it
    ");
    let (code, out, error) = run(&["--update", "--steps", "6"]);
    assert_eq!((code, out.starts_with("run.snapshot.json: 6 steps on cpu (")), (0, true), "{out}{error}");
    let text = fs::read_to_string(dir.path().join("run.snapshot.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["curves"]["loss/hard"].as_array().unwrap().len(), 6);
    assert_eq!(written["weights"].as_object().unwrap().keys().collect::<Vec<_>>(), ["model/model.safetensors"]);
    assert!(written["curves"].as_object().unwrap().keys().all(|name| !name.starts_with("speed/")), "speed is no result");

    // To the bit: the same program, processor and threads.
    let (code, out, error) = run(&[]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("curves   equal to the bit") && out.contains("weights  equal to the bit"), "{out}");
    // The schedule is the whole run's, so the first steps of fewer are the first steps.
    let (code, out, _) = run(&["--steps", "3"]);
    assert!(code == 0 && out.contains("weights  not compared"), "{out}");
    let (code, _, error) = run(&["--steps", "7"]);
    assert!(code == 2 && error.contains("the snapshot has 6 steps"), "{error}");

    // Other operations and another number of threads round otherwise, and are held to rounding.
    for rounding in ["runtime.threads=1", "runtime.kernels=composed"] {
        let (code, out, error) = run(&["--set", rounding]);
        assert!(code == 0 && out.contains("allowed  0.002 of each number"), "{rounding}: {out}{error}");
    }
}

#[test]
fn what_has_moved_is_named() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    let run = |args: &[&str]| said(&snapshot(dir.path(), "cpu", &[&["run.toml"], args].concat()));
    assert_eq!(run(&["--update", "--steps", "4"]).0, 0);
    let (code, _, error) = run(&["--set", "train.lr=1e-3"]);
    assert_eq!(code, 1);
    // Progress may come before it.
    insta::assert_snapshot!(&error[error.find("error:").unwrap()..], @r#"
    error: the run is not the snapshot's any more; its plan differs:
      train.lr: "0 -> 0.005 linear over 10%, then -> 0 linear" there, 0.001 now
      in: run.snapshot.json
    help: if it was meant to change, --update writes the snapshot anew
    "#);
    // A plan that is the same, and a curve that is not: as after a change of upstill's own code.
    let path = dir.path().join("run.snapshot.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut there: serde_json::Value = serde_json::from_str(&text).unwrap();
    there.as_object_mut().unwrap().remove("checksum");
    let losses = there["curves"]["loss/hard"].as_array_mut().unwrap();
    losses[2] = serde_json::json!(losses[2].as_f64().unwrap() + 0.5);
    fs::write(&path, serde_json::to_string_pretty(&there).unwrap()).unwrap();
    let (code, out, error) = run(&[]);
    assert_eq!(code, 1, "{out}");
    assert!(
        error.contains("error: the run leaves its snapshot at step 2: loss/hard is ") && error.contains("--update"),
        "{error}"
    );
    // A damaged file is an error, and no verdict.
    fs::write(&path, text.replace("loss/total", "loss/totals")).unwrap();
    let (code, _, error) = run(&[]);
    assert!(code == 2 && error.contains("run.snapshot.json") && error.contains("--update"), "{error}");
    fs::write(&path, "{}").unwrap();
    let (code, _, error) = run(&[]);
    assert!(code == 2 && error.contains("this is not a snapshot"), "{error}");
}

#[test]
fn a_student_has_its_teachers_first_steps() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("teacher.toml"), RUN_FILE).unwrap();
    let student = RUN_FILE.replace("standalone", "dwt-decay") + "[teacher]\nfrom = \"runs/teacher\"\n";
    fs::write(dir.path().join("student.toml"), student).unwrap();
    let run = |args: &[&str]| said(&snapshot(dir.path(), "cpu", &[&["student.toml"], args].concat()));
    let (code, _, error) = run(&["--update"]);
    assert!(code == 2 && error.contains("runs/teacher"), "a teacher that isn't there is an error: {error}");
    assert_eq!(run(&["--update", "--steps", "3", "--teacher", "teacher.toml"]).0, 0);
    let (code, out, error) = run(&["--teacher", "teacher.toml"]);
    assert!(code == 0 && out.contains("weights  equal to the bit"), "{out}{error}");
    let (code, _, error) = run(&[]);
    assert!(code == 2 && error.contains("--teacher"), "{error}");
    // The teacher's plan counts as the student's does.
    fs::write(dir.path().join("teacher.toml"), RUN_FILE.replace("seed = 1", "seed = 2")).unwrap();
    let (code, _, error) = run(&["--teacher", "teacher.toml"]);
    assert!(code == 1 && error.contains("the teacher's seed: 1 there, 2 now"), "{error}");
}

#[test]
fn a_transfer_run_has_no_snapshot() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("t.toml"), "method = \"transfer\"\n").unwrap();
    let (code, _, error) = said(&snapshot(dir.path(), "cpu", &["t.toml", "--update"]));
    assert!(code == 2 && error.contains("no snapshot") && !dir.path().join("t.snapshot.json").exists(), "{error}");
}
