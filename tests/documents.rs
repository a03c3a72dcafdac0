//! The commands of README and guide are run, as they stand, on the pocket language; long trainings with fewer steps.
//! Unit tests of src/cli parse all the others.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::tempdir;
use upstill::text::pocket::Pocket;

use crate::common::program;

/// Where the commands stand.
const DOCUMENTS: [&str; 4] = ["README.md", "src/guide/getting_started.md", "src/guide/scoring.md", "src/guide/your_own_text.md"];

/// The commands of a document that need nothing but this repository and what the ones before them have made, in its
/// order.
fn commands(document: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let mut is_shell = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = language == "sh";
        } else if is_shell && line.starts_with("upstill ") && is_here(line) {
            found.push(line.to_owned());
        }
    }
    found
}

/// Whether a command names nothing of the reader's own, and takes seconds.
fn is_here(line: &str) -> bool {
    let command = line.split(" #").next().unwrap().trim_end();
    let foreign = [
        "glue",
        "blimp",
        "imdb",
        "a.csv",
        ".zst",
        "bert-base-uncased",
        " student.toml",
        "data/mine",
        "mine/",
        "paper.toml",
        "cuda",
    ];
    !foreign.iter().any(|name| line.contains(name)) && command != "upstill study"
}

/// A shell runs the line, `upstill` being this program; a training ends after a few steps.
fn run(dir: &Path, line: &str) {
    let (command, _) = line.split_once(" #").unwrap_or((line, ""));
    let fewer = if command.contains("train examples/") { " --set train.steps=4 --set train.evaluate_rows=16" } else { "" };
    let bin = Path::new(program().get_program()).parent().unwrap().to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-ec", &format!("{command}{fewer}")])
        .current_dir(dir)
        .env("PATH", path)
        .env("UPSTILL_DEVICE", "cpu")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(unix)]
#[test]
fn the_commands_that_need_nothing_are_run() {
    let dir = tempdir().unwrap();
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), dir.path().join("examples")).unwrap();
    // A little text of the reader's own, which some commands read.
    fs::create_dir(dir.path().join("articles")).unwrap();
    let pocket = Pocket::new(5);
    for part in 0..40 {
        fs::write(dir.path().join(format!("articles/{part}.txt")), pocket.document(part).sentences.join(" ")).unwrap();
    }
    let mut ran = Vec::new();
    for document in DOCUMENTS {
        for line in commands(document) {
            // What a document before has trained already is there.
            let makes_what_stays = |line: &str| line.contains("train examples/") || line.starts_with("upstill init");
            let is_there = makes_what_stays(&line)
                && ran.iter().any(|before: &String| makes_what_stays(before) && words(before) == words(&line));
            if !is_there {
                run(dir.path(), &line);
            }
            ran.push(line);
        }
    }
    for part in
        ["study --size tiny", "train examples/teacher.toml", "train examples/student.toml", "fill", "eval", "report", "plan"]
    {
        assert!(ran.iter().any(|line| line.contains(part)), "{part} is among them: {ran:#?}");
    }
    assert!(dir.path().join("report.html").exists() && dir.path().join("runs/student/model/config.json").exists());
}

fn words(line: &str) -> Vec<&str> {
    line.split(" #").next().unwrap().split_whitespace().collect()
}
