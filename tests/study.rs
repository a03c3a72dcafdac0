//! Studies: a rate for each arm, a teacher a seed or at a share of its training, cells that travel, and what is
//! refused.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::tempdir;

use crate::common::program;

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = program();
    command.args(args).current_dir(dir).env("UPSTILL_DEVICE", "cpu").stdin(Stdio::null()).output().unwrap()
}

/// The results of a study that must work.
fn study(dir: &Path, args: &[&str]) -> Value {
    let output = run(dir, &[&["study"], args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a person reads of a study that can't be run.
fn refused(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, &[&["study"], args].concat());
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const STUDY: &str = r#"title = "tiny"
seeds = [1, 2]
teacher_seeds = "paired"
baseline = "alone"
base = """
[model]
layers = 2
hidden = 16
heads = 2
max_positions = 32
dropout = 0.0
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = 8
batch = 4
lr = "0 -> {lr} over 15%, then -> 0 linear"
evaluate_every = 4
evaluate_rows = 8
"""
[tune]
name = "lr"
values = [0.01, 0.1]
seeds = [9]
grow = 9
[[teachers]]
name = "small"
set = ["preset=standalone", "model.layers=1"]
[[arms]]
name = "alone"
set = ["preset=standalone"]
[[arms]]
name = "taught"
teacher = "small"
set = ["preset=dwt-normal"]
[[arms]]
name = "taught early"
teacher = "small@50%"
set = ["preset=dwt-normal", "train.lr=1e-2"]
"#;

fn folders(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn a_study_tunes_pairs_and_travels() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("s.toml"), STUDY).unwrap();
    let first = study(dir, &["s.toml", "--out", "a", "--jobs", "2"]);
    let arms = first["arms"].as_array().unwrap();
    let arm = |name: &str| arms.iter().find(|arm| arm["name"] == name).unwrap();
    for name in ["small", "alone", "taught"] {
        let tuned = &arm(name)["tuned"][0];
        let tried = tuned["tried"].as_array().unwrap();
        let loss = |tried: &Value| tried["loss"].as_f64().unwrap_or(f64::INFINITY);
        let best = tried.iter().map(loss).fold(f64::INFINITY, f64::min);
        let at = tried.iter().position(|tried| loss(tried) == best).unwrap();
        assert!(at > 0 && at + 1 < tried.len() && tried[at]["value"] == tuned["chosen"], "{name}: {tuned}");
    }
    assert!(arm("taught early")["tuned"].is_null(), "it has a rate of its own in the file");
    assert_eq!(arm("small")["seeds"], 2, "a teacher for each seed");
    let (whole, early) = (arm("taught")["flops_with_teacher"].as_f64(), arm("taught early")["flops_with_teacher"].as_f64());
    let teacher = arm("small")["flops"].as_f64().unwrap();
    assert!((whole.unwrap() - early.unwrap() - teacher / 2.0).abs() < 1e-3 * teacher, "half of the teacher's training");

    // Students of different teachers differ; each has its own.
    let text = fs::read_to_string(dir.join("a/cells.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |arm: &str, seed: u64| {
        let is = |line: &&Value| line["arm"] == arm && line["seed"] == seed && line["is_trial"].is_null();
        lines.iter().find(is).unwrap()
    };
    for seed in [1, 2] {
        let of_teacher = line("small", seed)["cell"].as_str().unwrap();
        assert!(line("taught", seed)["plan"].as_str().unwrap().contains(&format!("cell {of_teacher}\"")));
        assert!(line("taught early", seed)["plan"].as_str().unwrap().contains(&format!("cell {of_teacher} step 4\"")));
    }
    let is_trial = |line: &&Value| line["is_trial"] == true;
    let trial = lines.iter().find(is_trial).unwrap()["plan"].as_str().unwrap();
    assert!(trial.contains("evaluate_after = 8") && trial.contains("seed = 9"), "other rows, another seed: {trial}");

    // Elsewhere, from the lines alone, nothing is trained, not even a teacher.
    let elsewhere = study(dir, &["s.toml", "--out", "b", "--cells", "a/cells.jsonl"]);
    assert_eq!(elsewhere["arms"], first["arms"]);
    assert_eq!(folders(&dir.join("b/cells")), 0);
    assert_eq!(fs::read_to_string(dir.join("b/cells.jsonl")).unwrap().lines().count(), lines.len());
    let again = study(dir, &["s.toml", "--out", "b"]);
    assert_eq!((&again["arms"], folders(&dir.join("b/cells"))), (&first["arms"], 0), "the lines are its own now");

    // A student that is missing needs its teacher's weights, and comes to the same.
    let without = |arm: &str| -> String {
        let kept = text.lines().zip(&lines).filter(|(_, line)| !(line["arm"] == arm && line["seed"] == 2));
        kept.map(|(text, _)| format!("{text}\n")).collect()
    };
    fs::write(dir.join("part.jsonl"), without("taught early")).unwrap();
    let completed = study(dir, &["s.toml", "--out", "c", "--cells", "part.jsonl", "--jobs", "2"]);
    let losses = |study: &Value| study["arms"].as_array().unwrap().iter().map(|arm| arm["runs"].clone()).collect::<Vec<_>>();
    assert_eq!(losses(&completed), losses(&first));
    assert_eq!(folders(&dir.join("c/cells")), 2, "the student and its teacher");

    // Without weights, --verify trains teachers too; an altered loss is found.
    let verified = run(dir, &["study", "s.toml", "--out", "b", "--verify", "3"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        verified.status.success() && said.matches("agrees").count() == 3,
        "{said}{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    assert!(
        !fs::read_dir(dir.join("b")).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("verify"))
    );
    let altered = fs::read_to_string(dir.join("b/cells.jsonl")).unwrap().replace("\"held_out_loss\":", "\"held_out_loss\":1");
    fs::write(dir.join("altered.jsonl"), &altered).unwrap();
    let said = refused(dir, &["s.toml", "--out", "f", "--cells", "altered.jsonl"]);
    assert!(said.contains("not as it was written") && said.contains("altered.jsonl, line 1"), "{said}");
    // Lines from before there were checksums; what they hold is another's word.
    let unsealed = |line: &str| line.rsplit_once(",\"checksum\"").map(|(inside, _)| format!("{inside}}}\n")).unwrap();
    fs::write(dir.join("b/cells.jsonl"), altered.lines().map(unsealed).collect::<String>()).unwrap();
    let verified = run(dir, &["study", "s.toml", "--out", "b", "--verify", "1"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.code() == Some(1) && said.contains("DIFFERS"), "{said}");
    refuses_what_is_anothers(dir);
}

/// Lines of another study and of other numerics, and a study's folder that is to be another study's.
fn refuses_what_is_anothers(dir: &Path) {
    fs::write(dir.join("other.toml"), STUDY.replace("\"tiny\"", "\"another\"")).unwrap();
    let said = refused(dir, &["other.toml", "--out", "d", "--cells", "a/cells.jsonl"]);
    assert!(said.contains("the cells of another study, \"tiny\"; this one is \"another\""), "{said}");
    let newer = fs::read_to_string(dir.join("a/cells.jsonl")).unwrap().replace("\"numerics\":1", "\"numerics\":99");
    fs::write(dir.join("newer.jsonl"), newer).unwrap();
    let said = refused(dir, &["s.toml", "--out", "e", "--cells", "newer.jsonl"]);
    assert!(said.contains("version 99 of the numerics") && said.contains("newer.jsonl, line 1"), "{said}");
    fs::write(dir.join("s.toml"), STUDY.replace("seeds = [1, 2]", "seeds = [1, 2, 3]")).unwrap();
    let said = refused(dir, &["s.toml", "--out", "a"]);
    assert!(said.contains("line 2 there: seeds = [1, 2]") && said.contains("line 2 now:   seeds = [1, 2, 3]"), "{said}");
}

#[test]
fn a_stopped_study_goes_on_in_two_processes_at_once() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("s.toml"), STUDY).unwrap();
    let runs = |study: &Value| study["arms"].as_array().unwrap().iter().map(|arm| arm["runs"].clone()).collect::<Vec<_>>();
    let whole = runs(&study(dir, &["s.toml", "--out", "whole", "--jobs", "1"]));
    let text = fs::read_to_string(dir.join("whole/cells.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seeds: Vec<u64> = lines.filter(|line| line["is_trial"].is_null()).map(|line| line["seed"].as_u64().unwrap()).collect();
    assert!(seeds.is_sorted() && seeds.len() == 8, "all arms of a seed, teachers too, before the next: {seeds:?}");

    let start = |words: &[&str]| {
        let mut command = program();
        command.args(["study", "s.toml", "--out", "shared", "--jobs", "1"]).args(words).current_dir(dir);
        command.env("UPSTILL_DEVICE", "cpu").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = start(&[]);
    let started = Instant::now();
    while !dir.join("shared/cells.jsonl").exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "the study does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &first.id().to_string()]).status().unwrap().success());
    let stopped = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(130), "{said}");
    assert!(said.contains("every run is saved") && !said.contains("--resume"), "{said}");

    let both = [start(&["--json"]), start(&["--json"])].map(|process| process.wait_with_output().unwrap());
    for output in both {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(runs(&serde_json::from_slice(&output.stdout).unwrap()), whole);
    }
    let text = fs::read_to_string(dir.join("shared/cells.jsonl")).unwrap();
    let mut cells: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["cell"].clone()).collect();
    let lines = cells.len();
    cells.sort_by_key(Value::to_string);
    cells.dedup();
    assert_eq!(cells.len(), lines, "a line a cell");
}

#[test]
fn what_cant_be_meant_is_refused_before_anything_trains() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let said = |from: &str, to: &str| {
        assert!(STUDY.contains(from), "{from}");
        fs::write(dir.join("s.toml"), STUDY.replace(from, to)).unwrap();
        let said = refused(dir, &["s.toml", "--out", "a"]);
        assert_eq!(folders(&dir.join("a/cells")), 0);
        said
    };
    for (from, to, reason) in [
        ("values = [0.01, 0.1]", "values = [0.01]", "a grid of one value"),
        ("values = [0.01, 0.1]", "values = [0.01, -0.1]", "not above 0"),
        ("seeds = [9]", "seeds = [2]", "seed 2 is one of the study's"),
        ("seeds = [9]", "seeds = [9]\ngird = 3", "unknown field `gird`"),
        ("{lr}", "1e-2", "{lr} stands neither in the base"),
        ("small@50%", "small@150%", "150 % of its training"),
        ("small@50%", "small@9", "of its 8 steps"),
        ("\"paired\"", "\"pared\"", "`teacher_seeds` is \"paired\" or a list of seeds"),
        ("teacher = \"small\"\n", "teacher = \"small\"\nseeds = [1, 3]\n", "seed 3, and its teacher \"small\" has no such seed"),
        ("[[arms]]\nname = \"taught\"", "[[arms]]\nnmae = \"taught\"", "unknown field `nmae`"),
        ("set = [\"preset=dwt-normal\"]", "tuned_as = \"nobody\"", "no arm that is tuned"),
        ("set = [\"preset=dwt-normal\"]", "set = [\"distill.sotf=1\"]", "did you mean `distill.soft`"),
        ("evaluate_rows = 8\n", "evaluate_rows = 1000000\n", "held-out rows are too few"),
    ] {
        let said = said(from, to);
        assert!(said.contains(reason), "{to}: {said}");
    }
    let said = refused(dir, &["transfer", "--size", "tiny", "--seeds", "0"]);
    assert!(said.contains("--seeds"), "{said}");
}

/// Ends of training at two budgets, another held-out set, and minimal pairs.
const MEASURED: &str = r#"title = "measured"
seeds = [1, 2]
held_out = { again = "pocket" }
pairs = { minimal = "pairs.jsonl" }
branches = ["50%", "100%"]
branch_seeds = [1]
tasks = ["pocket-acceptability"]
score_at = ["25%", "100%"]
finetune_lr = 1e-3
finetune_epochs = 0.01
base = """
preset = "standalone"
[model]
layers = 1
hidden = 16
heads = 2
max_positions = 32
dropout = 0.0
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = 16
batch = 4
lr = "0 -> 1e-2 over 2 steps, then 1e-2 until 75%, then -> 0 linear"
evaluate_every = 4
evaluate_rows = 8
"""
[[arms]]
name = "alone"
[[arms]]
name = "smoothed"
set = ["distill.label_smoothing=0.1"]
branches = []
"#;

const PAIRS: &str = r#"{"sentence_good": "the dog is sleeping.", "sentence_bad": "the dog are sleeping."}
{"sentence_good": "the dogs near the old barn are sleeping.", "sentence_bad": "the dogs near the old barn is sleeping."}"#;

#[test]
fn a_study_measures_at_several_budgets_and_on_other_text() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("s.toml"), MEASURED).unwrap();
    fs::write(dir.join("pairs.jsonl"), PAIRS).unwrap();
    let found = study(dir, &["s.toml", "--out", "a", "--jobs", "1"]);
    let run = |arm: usize, seed: usize| &found["arms"][arm]["runs"][seed];
    for (arm, seed) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (own, again) = (run(arm, seed)["held_out_loss"].as_f64(), run(arm, seed)["held_out"]["again"].as_f64());
        assert!((own.unwrap() - again.unwrap()).abs() < 1e-5, "the same text under another name: {own:?} {again:?}");
        assert!(run(arm, seed)["pairs"]["minimal"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)));
    }
    let budgets = run(0, 0)["budgets"].as_array().unwrap();
    assert_eq!(budgets.iter().map(|budget| budget["steps"].as_u64().unwrap()).collect::<Vec<_>>(), [8, 16]);
    assert_eq!(budgets[1]["held_out_loss"], run(0, 0)["held_out_loss"]);
    assert_ne!(budgets[0]["held_out_loss"], budgets[1]["held_out_loss"]);
    assert_eq!(budgets[0]["flops"].as_f64().unwrap() * 2.0, budgets[1]["flops"].as_f64().unwrap());
    assert!(run(0, 1)["budgets"].is_null() && run(1, 0)["budgets"].is_null(), "of the first seed and arm alone");
    let early = run(1, 1)["scores_at"].as_array().unwrap();
    assert_eq!((early.len(), early[0]["steps"].as_u64()), (1, Some(4)), "the end is scored anyway");
    assert!(early[0]["scores"]["pocket-acceptability"].is_number() && run(1, 1)["scores"]["pocket-acceptability"].is_number());
    assert_eq!(folders(&dir.join("a/cells")), 5);
    let infos = fs::read_dir(dir.join("a/cells")).unwrap().map(|cell| cell.unwrap().path().join("run.json"));
    let branched = infos.filter(|path| fs::read_to_string(path).unwrap().contains("step-0000007")).count();
    assert_eq!(branched, 1, "the decay alone was trained, from where it begins");

    // Elsewhere nothing is trained: not for a further set either, which needs the models.
    let elsewhere = study(dir, &["s.toml", "--out", "b", "--cells", "a/cells.jsonl"]);
    assert_eq!((&elsewhere["arms"], folders(&dir.join("b/cells"))), (&found["arms"], 0));
    fs::write(dir.join("more.toml"), MEASURED.replace("again = \"pocket\"", "again = \"pocket\", more = \"pocket\"")).unwrap();
    let more = study(dir, &["more.toml", "--out", "c", "--cells", "a/cells.jsonl"]);
    assert_eq!((&more["arms"][0]["runs"][0]["budgets"], folders(&dir.join("c/cells"))), (&run(0, 0)["budgets"], 0));
}

#[test]
fn what_a_study_cant_measure_is_told_before_anything_is_trained() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let refused = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(dir.join("a"));
        fs::write(dir.join("pairs.jsonl"), PAIRS).unwrap();
        fs::write(dir.join("s.toml"), MEASURED.replace(from, to)).unwrap();
        let said = refused(dir, &["s.toml", "--out", "a"]);
        assert_eq!(folders(&dir.join("a/cells")), 0);
        said
    };
    let sizes = "max_positions = 32\ndropout = 0.0\n[data]\nshards = \"pocket\"\nrows = \"packed\"\nlength = 32";
    for (from, to, says) in [
        ("again = \"pocket\"", "again = \"nowhere\"", "nowhere"),
        ("pairs.jsonl", "none.jsonl", "no such file or folder: none.jsonl"),
        ("minimal = \"pairs.jsonl\"", "again = \"pairs.jsonl\"", "two end points are called \"again\""),
        ("\"50%\"", "\"150%\"", "\"150%\" is no time of a run"),
        ("\"50%\"", "\"17\"", "the arm \"alone\" has 16 steps, and `branches` a budget of 17"),
        (sizes, &sizes.replace("32", "9"), "tokens long with [CLS] and [SEP], and the model reads 9"),
    ] {
        let said = refused(from, to);
        assert!(said.contains(says) && said.contains("help: "), "{to}: {said}");
    }
}

#[test]
fn arms_are_scored_on_tasks_of_their_own_glues_too() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir_all(dir.join("glue/RTE")).unwrap();
    let rows: String = (0..8)
        .map(|row| format!("{row}\tthe cat sat .\tthe dog ran .\t{}\n", ["entailment", "not_entailment"][row % 2]))
        .collect();
    for file in ["train.tsv", "dev.tsv"] {
        fs::write(dir.join("glue/RTE").join(file), format!("index\tsentence1\tsentence2\tlabel\n{rows}")).unwrap();
    }
    let top = "task_seeds = [2]\nglue = \"glue\"\nfinetune_epochs = 1.0\nbase";
    let text = STUDY.replacen("base", top, 1).replace("[tune]\nname = \"lr\"\nvalues = [0.01, 0.1]\nseeds = [9]\ngrow = 9\n", "");
    let text = text.replace("0 -> {lr} over 15%, then -> 0 linear", "0.01");
    let scored = text.replace("name = \"taught\"\n", "name = \"taught\"\ntasks = [\"rte\"]\n");
    fs::write(dir.join("s.toml"), &scored).unwrap();
    study(dir, &["s.toml", "--out", "a", "--jobs", "2"]);
    let lines = fs::read_to_string(dir.join("a/cells.jsonl")).unwrap();
    for line in lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let is_scored = line["arm"] == "taught" && line["seed"] == 2;
        assert_eq!(line["models"]["model"]["scores"]["rte"].is_number(), is_scored, "{line}");
    }

    fs::write(dir.join("nowhere.toml"), scored.replace("glue = \"glue\"\n", "")).unwrap();
    let error = refused(dir, &["nowhere.toml", "--out", "b"]);
    assert!(error.contains("does not say where GLUE is") && error.contains("write `glue = "), "{error}");
    fs::write(dir.join("unknown.toml"), scored.replace("\"rte\"", "\"RTE\"")).unwrap();
    let error = refused(dir, &["unknown.toml", "--out", "b"]);
    assert!(error.contains("unknown task \"RTE\"") && error.contains("rte"), "{error}");
    assert!(!dir.join("b").exists(), "refused before anything is made");
}
