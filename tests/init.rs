//! `upstill init`: what it writes can be planned and trained, and nothing is written over.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::tempdir;
use upstill::text::pocket::Pocket;

use crate::common::program;

fn upstill(dir: &Path, args: &[&str]) -> Output {
    program().args(args).current_dir(dir).env("UPSTILL_DEVICE", "cpu").output().unwrap()
}

fn does(dir: &Path, args: &[&str]) -> String {
    let output = upstill(dir, args);
    assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(dir: &Path, args: &[&str]) -> String {
    let output = upstill(dir, args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A folder of text files.
fn articles(dir: &Path) {
    fs::create_dir(dir.join("articles")).unwrap();
    let pocket = Pocket::new(3);
    for part in 0..60 {
        fs::write(dir.join(format!("articles/{part}.txt")), pocket.document(part).sentences.join(" ")).unwrap();
    }
}

#[test]
fn a_folder_of_text_becomes_a_teacher_and_a_student() {
    let dir = tempdir().unwrap();
    articles(dir.path());
    let next = does(dir.path(), &["init", "dwt", "articles"]);
    insta::assert_snapshot!(next, @"
    next:
      upstill plan teacher.toml          # what it comes to, and how long it will take
      upstill train teacher.toml
      upstill train student.toml
    ");
    let plan = does(dir.path(), &["plan", "teacher.toml", "--no-time"]);
    assert!(plan.contains("data/articles"), "{plan}");
    // As written, but for its length.
    does(dir.path(), &["train", "teacher.toml", "--set", "train.steps=2", "--set", "train.evaluate_rows=8"]);
    does(dir.path(), &["plan", "student.toml", "--no-time"]);
    let end = does(dir.path(), &["train", "student.toml", "--set", "train.steps=2", "--set", "train.evaluate_rows=8"]);
    assert!(end.contains("upstill eval runs/student --teacher runs/teacher") && end.contains("held-out loss"), "{end}");

    let written = fs::read_to_string(dir.path().join("student.toml")).unwrap();
    let said = fails(dir.path(), &["init", "dwt", "data/articles"]);
    assert!(said.contains("is there already; it was left as it is") && said.contains("--out"), "{said}");
    fs::remove_file(dir.path().join("student.toml")).unwrap();
    let said = fails(dir.path(), &["init", "dwt", "data/articles"]);
    assert!(said.contains("teacher.toml"), "the teacher's file counts, too: {said}");
    assert!(!dir.path().join("student.toml").exists(), "nothing is written where not all can be");
    // With a teacher that is there, one file is written, the same but for its teacher.
    does(dir.path(), &["init", "dwt", "data/articles", "--teacher", "runs/teacher"]);
    assert_eq!(fs::read_to_string(dir.path().join("student.toml")).unwrap(), written);
    let said = fails(dir.path(), &["init", "cotrain", "articles"]);
    assert!(said.contains("data/articles holds token shards already"), "{said}");
}

#[test]
fn every_kind_can_be_planned_and_says_what_its_keys_mean() {
    let dir = tempdir().unwrap();
    let labelled = dir.path().join("reviews");
    fs::create_dir(&labelled).unwrap();
    for name in ["train.tsv", "test.tsv"] {
        fs::write(labelled.join(name), "text\tlabel\ngood\t1\nbad\t0\n").unwrap();
    }
    fs::write(labelled.join("unsup.txt"), "fine\n").unwrap();
    for (kind, data, file) in [
        ("dwt", "pocket", "teacher.toml"),
        ("cotrain", "pocket", "cotrain.toml"),
        ("study", "pocket", "study.toml"),
        ("transfer", "reviews", "transfer.toml"),
    ] {
        does(dir.path(), &["init", kind, data]);
        let plan = does(dir.path(), &["plan", file, "--no-time"]);
        assert!(!plan.is_empty());
        let text = fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(text.starts_with("# ") && text.lines().all(|line| line.chars().count() <= 120), "{text}");
        insta::assert_snapshot!(format!("init-{kind}"), text);
    }
    insta::assert_snapshot!("init-student", fs::read_to_string(dir.path().join("student.toml")).unwrap());
    let runs = does(dir.path(), &["plan", "study.toml"]);
    assert!(runs.contains("uniform teacher #4") && runs.contains("16 runs"), "{runs}");
    let json: serde_json::Value = serde_json::from_str(&does(dir.path(), &["plan", "study.toml", "--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 16);
    let said = fails(dir.path(), &["init", "transfer", "nowhere", "--out", "t.toml"]);
    assert!(said.contains("nowhere"), "{said}");
    let empty = tempdir().unwrap();
    let said = fails(empty.path(), &["init", "dwt", "nowhere.txt", "--out", "t.toml"]);
    assert!(said.contains("nowhere.txt"), "{said}");
}
