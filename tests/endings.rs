//! How the command ends: closed pipes, signals, data that is cut short under it.
#![cfg(unix)]

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::tempdir;

use crate::common::{listening, program, wait_for};

const RUN_FILE: &str = r#"
preset = "standalone"
[model]
layers = 1
hidden = 32
heads = 2
max_positions = 32
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = 20
batch = 4
checkpoint_every = 1000
"#;

fn upstill(dir: &Path, args: &[&str]) -> Command {
    let mut command = program();
    command.args(args).current_dir(dir).env("UPSTILL_DEVICE", "cpu").stdin(Stdio::null());
    command
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "signal {:?}: {said}", output.status.signal());
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Its standard output is a pipe that nobody reads any more.
fn without_a_reader(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.wait_with_output().unwrap()
}

#[test]
fn a_reader_that_has_gone_ends_the_command_quietly() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    for args in [
        &["plan", "--keys"][..],
        &["plan", "run.toml"],
        &["plan", "run.toml", "--json"],
        &["data", "show", "pocket"],
        &["doctor"],
        &["train", "run.toml", "--out", "run", "--json"],
        &["--help"],
    ] {
        let said = ended(&without_a_reader(upstill(dir.path(), args)), 0);
        // Drivers of GPUs may say errors of their own.
        assert!(!said.contains("could not write"), "{args:?}: {said}");
    }
    assert!(dir.path().join("run/summary.json").exists());
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_says() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    let mut child = upstill(dir.path(), &["train", "run.toml", "--out", "run"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(dir.path().join("run/summary.json").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_can_not_be_written_is_an_error() {
    let dir = tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = upstill(dir.path(), &["plan", "--keys"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert!(ended(&output, 2).contains("could not write to standard output"));
}

/// Starts a run of many steps and gives it back once it has taken some.
fn long_run(dir: &Path, prefix: &str) -> Child {
    fs::write(dir.join("run.toml"), RUN_FILE).unwrap();
    let train = format!("{prefix} exec {} train run.toml --set train.steps=1000000 --out run", env!("CARGO_BIN_EXE_upstill"));
    let mut shell = listening(Command::new("sh"));
    shell.args(["-c", &train]).current_dir(dir).env("UPSTILL_DEVICE", "cpu").stdin(Stdio::null());
    let child = shell.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first step", || has_content(&dir.join("run/steps.jsonl")));
    child
}

#[test]
fn each_signal_that_asks_for_the_end_saves_a_run() {
    for name in ["INT", "TERM", "HUP"] {
        let dir = tempdir().unwrap();
        let child = long_run(dir.path(), "");
        signal(&child, name);
        let said = ended(&child.wait_with_output().unwrap(), 130);
        assert!(said.contains("everything is saved"), "{name}: {said}");
        assert_eq!(fs::read_dir(dir.path().join("run/checkpoints")).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let dir = tempdir().unwrap();
    let child = long_run(dir.path(), "trap '' HUP INT;");
    let steps = dir.path().join("run/steps.jsonl");
    for name in ["HUP", "INT"] {
        signal(&child, name);
        let before = fs::metadata(&steps).unwrap().len();
        wait_for("further steps", || fs::metadata(&steps).unwrap().len() > before + 20_000);
    }
    signal(&child, "TERM");
    ended(&child.wait_with_output().unwrap(), 130);
}

#[test]
fn where_nothing_is_to_be_saved_a_signal_ends_at_once() {
    let dir = tempdir().unwrap();
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut command = upstill(dir.path(), &["bench", "step", "--against", "nothing", "--rounds", "1000000"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // It listens before it chooses a device.
        std::thread::sleep(Duration::from_secs(1));
        signal(&child, name);
        ended(&child.wait_with_output().unwrap(), code);
    }
}

#[test]
fn data_that_is_cut_short_under_a_run_is_said() {
    let dir = tempdir().unwrap();
    let lines: String = (0..4000).map(|i| format!("The {i}th small dog sees a large cat near the red house.\n\n")).collect();
    fs::write(dir.path().join("text.txt"), lines).unwrap();
    for args in [
        &["tokenizer", "train", "text.txt", "--vocab", "300", "--out", "words"][..],
        &["data", "build", "text.txt", "--tokenizer", "words", "--keep-one-of", "1", "--held-out", "0.1", "--out", "data"],
    ] {
        let output = upstill(dir.path(), args).output().unwrap();
        ended(&output, 0);
    }
    fs::write(dir.path().join("run.toml"), RUN_FILE.replace("\"pocket\"", "\"data\"")).unwrap();
    let train = ["train", "run.toml", "--set", "train.steps=1000000", "--out", "run"];
    let child = upstill(dir.path(), &train).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first step", || has_content(&dir.path().join("run/steps.jsonl")));
    let shard = dir.path().join("data/train-00000.tok");
    File::options().write(true).open(shard).unwrap().set_len(0).unwrap();
    let said = ended(&child.wait_with_output().unwrap(), 2);
    assert!(said.contains("cut short") && said.contains("--resume"), "{said}");
}
