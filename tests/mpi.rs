//! Several processes that share each batch, as `mpirun` starts them: the numbers of as many workers in one process, one
//! folder, and an end of all where one ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::tempdir;

use upstill::text::pocket::Pocket;

use crate::common::{BASE, listening, program, steps, wait_for, weights};

/// A student with a teacher, and two models that teach each other: what stands above, and below.
const METHODS: [(&str, &str, &str); 2] = [
    ("dwt", "preset = \"dwt-normal\"", "[teacher]\nfrom = \"uniform\"\n"),
    ("cotrain", "method = \"cotrain\"", "[models.large]\nlayers = 2\n[models.small]\nlayers = 1\n"),
];

/// `mpirun`, and the build with MPI that `UPSTILL_TEST_MPI` names.
fn mpirun(dir: &Path) -> (Command, String) {
    let program = std::env::var("UPSTILL_TEST_MPI").expect("UPSTILL_TEST_MPI names a build with --features mpi");
    let mut command = listening(Command::new("mpirun"));
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    command.current_dir(dir).stdin(Stdio::null());
    (command, program)
}

/// A run's words among so many ranks.
fn among(ranks: usize, program: &str, words: &[&str]) -> Vec<String> {
    ["-n", &ranks.to_string(), program, "train"].iter().chain(words).map(|&word| word.to_owned()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn written(dir: &Path) {
    let base = BASE.replace("in memory", "pocket");
    for (name, above, below) in METHODS {
        let text = format!("{above}{base}[runtime]\ndevice = \"cpu\"\nthreads = 1\n{below}");
        fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    }
}

/// Ends a process at once.
fn kill(pid: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// The processes of upstill that an `mpirun` started, by their parent.
fn ranks_of(mpirun: &Child) -> Vec<String> {
    let found = Command::new("pgrep").args(["-P", &mpirun.id().to_string()]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

fn model_bytes(dir: &Path, method: &str) -> Vec<u8> {
    let models: &[&str] = if method == "cotrain" { &["model/large", "model/small"] } else { &["model"] };
    models.iter().flat_map(|model| fs::read(dir.join(model).join("model.safetensors")).unwrap()).collect()
}

#[test]
#[ignore = "needs MPI: UPSTILL_TEST_MPI names a build with --features mpi"]
fn ranks_come_to_the_bits_of_as_many_workers_and_leave_one_folder() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    written(dir);
    for (method, ..) in METHODS {
        for count in [2, 4] {
            let (mut command, upstill) = mpirun(dir);
            let file = format!("{method}.toml");
            let (ranks, workers) = (format!("{method}-ranks-{count}"), format!("{method}-workers-{count}"));
            let output = command.args(among(count, &upstill, &[&file, "--out", &ranks])).output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            assert_eq!(said(&output).matches("done: ").count(), 1, "one voice: {}", said(&output));
            let how = "ranks sum on their hosts, through MPI: NCCL is for CUDA, and the device is cpu\n";
            assert_eq!(said(&output).matches(how).count(), 1, "{}", said(&output));
            let set = [format!("runtime.workers={count}"), format!("runtime.threads={count}")];
            let alone = program()
                .args(["train", &file, "--out", &workers, "--set", &set[0], "--set", &set[1]])
                .current_dir(dir)
                .output()
                .unwrap();
            assert!(alone.status.success(), "{}", said(&alone));
            assert_eq!(steps(&dir.join(&ranks)), steps(&dir.join(&workers)), "{method}, {count} ranks");
            assert!(
                model_bytes(&dir.join(&ranks), method) == model_bytes(&dir.join(&workers), method),
                "{method}, {count} ranks"
            );
        }
    }
}

#[test]
#[ignore = "needs MPI: UPSTILL_TEST_MPI names a build with --features mpi"]
fn a_killed_rank_ends_all_and_any_number_of_ranks_goes_on() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    written(dir);
    let long = ["dwt.toml", "--set", "train.steps=120", "--set", "train.checkpoint_every=10", "--set", "train.evaluate_every=60"];
    let (mut command, upstill) = mpirun(dir);
    let whole = command.args(among(2, &upstill, &[&long[..], &["--out", "whole"]].concat())).output().unwrap();
    assert!(whole.status.success(), "{}", said(&whole));
    let mut kills = 0;
    for trial in 0.. {
        let ranks = [2, 3, 1, 2][trial % 4];
        let (mut command, _) = mpirun(dir);
        let words = among(ranks, &upstill, &[&long[..], &["--out", "killed", "--resume"]].concat());
        let mut started = command.args(words).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        // Later each time, so that it goes on.
        let until = Instant::now() + Duration::from_millis(700 + 97 * trial as u64);
        while Instant::now() < until && started.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(victim) = ranks_of(&started).get(trial % ranks).cloned().filter(|_| kills < 20) else {
            assert!(started.wait().unwrap().success());
            break;
        };
        let from = Instant::now();
        let _ = Command::new("kill").args(["-9", &victim]).status();
        let ended = started.wait().unwrap();
        assert!(from.elapsed() < Duration::from_secs(10), "all end with one");
        if ended.success() {
            break; // It was done before.
        }
        kills += 1;
    }
    assert!(kills > 0);
    let (killed, whole) = (dir.join("killed"), dir.join("whole"));
    let (killed_steps, whole_steps) = (steps(&killed), steps(&whole));
    assert_eq!(killed_steps.len(), whole_steps.len());
    for (killed, whole) in killed_steps.iter().zip(&whole_steps) {
        // Other numbers of ranks sum in other groups: f32 rounding, which 120 steps of Adam make larger.
        let (a, b) = (killed.loss, whole.loss);
        assert!((a - b).abs() < 2e-3 * b.abs(), "step {}: {a} and {b}", whole.step);
    }
    drop(weights(&killed));
}

#[test]
#[ignore = "needs MPI: UPSTILL_TEST_MPI names a build with --features mpi"]
fn ranks_that_differ_are_refused_and_named() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    written(dir);
    // Shards of other text by the same vocabulary.
    let pocket = Pocket::new(5);
    for (name, parts) in [("one", 0..40), ("two", 40..80)] {
        let text: Vec<String> = parts.map(|part| pocket.document(part).sentences.join(" ")).collect();
        fs::write(dir.join(format!("{name}.txt")), text.join("\n\n")).unwrap();
    }
    for words in [
        &["tokenizer", "train", "one.txt", "two.txt", "--vocab", "500", "--out", "words"][..],
        &["data", "build", "one.txt", "--tokenizer", "words", "--held-out", "0.2", "--out", "shards-1"],
        &["data", "build", "two.txt", "--tokenizer", "words", "--held-out", "0.2", "--out", "shards-2"],
    ] {
        let output = program().args(words).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let refused = |second: &[&str]| {
        let (mut command, upstill) = mpirun(dir);
        let words = ["dwt.toml", "--out", "run", "--set", "data.shards=shards-1"];
        command.args(among(1, &upstill, &words)).arg(":");
        let output = command.args(among(1, &upstill, &[&words[..], second].concat())).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(!dir.join("run").exists(), "nothing was begun");
        said(&output)
    };
    let error = refused(&["--set", "train.lr=1e-3"]);
    assert!(error.contains("rank 1 has another plan than rank 0:\n  train.lr"), "{error}");
    let error = refused(&["--set", "data.mask_rate=0.3"]);
    assert!(error.contains("data.mask_rate"), "{error}");
    let error = refused(&["--set", "data.shards=shards-2"]);
    assert!(error.contains("rank 1 has another plan than rank 0") && error.contains("data.shards_hash"), "{error}");
    let error = refused(&["--set", "runtime.sum_dtype=bf16"]);
    assert!(error.contains("rank 1 has another runtime.sum_dtype than rank 0: bf16, not f32"), "{error}");
    let (mut command, upstill) = mpirun(dir);
    let output = command.args(among(9, &upstill, &["dwt.toml", "--out", "run"])).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("9 workers can't share a batch of 8 rows"), "{}", said(&output));
}

#[test]
#[ignore = "needs MPI: UPSTILL_TEST_MPI names a build with --features mpi"]
fn a_signal_saves_and_a_rank_that_hangs_is_named() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    written(dir);
    let often = ["--set", "train.checkpoint_every=50", "--set", "train.keep_checkpoints=1"];
    let endless = [&["dwt.toml", "--set", "train.steps=20000", "--set", "train.evaluate_every=20000"], &often[..]].concat();
    let begun = |out: &str| fs::read_dir(dir.join(out).join("checkpoints")).is_ok_and(|found| found.count() > 0);
    let start = |out: &str| {
        let (mut command, upstill) = mpirun(dir);
        command.args(["--mca", "odls_base_sigkill_timeout", "5"]).env("UPSTILL_RANKS_WAIT", "3");
        command.args(among(2, &upstill, &[&endless[..], &["--out", out]].concat()));
        let started = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        wait_for("the first steps", || begun(out));
        started
    };
    // One rank alone is told, or all of them through mpirun.
    for signalled in ["a rank", "mpirun"] {
        let started = start(signalled);
        let pid = if signalled == "mpirun" { started.id().to_string() } else { ranks_of(&started)[1].clone() };
        kill(&pid, "-TERM");
        let output = started.wait_with_output().unwrap();
        assert!(!output.status.success());
        assert!(said(&output).contains("everything is saved"), "{signalled}: {}", said(&output));
        assert!(fs::read_dir(dir.join(signalled).join("checkpoints")).unwrap().count() == 1, "{signalled}");
    }
    let started = start("hangs");
    let hanging = ranks_of(&started)[1].clone();
    kill(&hanging, "-STOP");
    let from = Instant::now();
    let output = started.wait_with_output().unwrap();
    assert!(from.elapsed() < Duration::from_secs(30));
    assert!(!output.status.success() && said(&output).contains("rank 0: error: waited 3 s for rank 1"), "{}", said(&output));
}

#[test]
fn a_build_without_mpi_is_not_one_of_several() {
    let dir = tempdir().unwrap();
    written(dir.path());
    let mut command = program();
    command.env("OMPI_COMM_WORLD_SIZE", "2").args(["train", "dwt.toml", "--out", "run"]).current_dir(dir.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("one of several") && said(&output).contains("--features mpi"), "{}", said(&output));
    assert!(!dir.path().join("run").exists());
}
