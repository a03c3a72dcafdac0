//! Several models through the command: trained together, then each used by itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::tempdir;

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upstill"));
    command.args(args).current_dir(dir).env("UPSTILL_DEVICE", "cpu").stdin(Stdio::null()).output().unwrap()
}

fn works(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const RUN_FILE: &str = r#"
method = "cotrain"
[model]
max_positions = 32
dropout = 0.0
[models.large]
layers = 2
hidden = 32
heads = 2
[models.small]
layers = 1
hidden = 16
[data]
shards = "pocket"
rows = "packed"
length = 32
[train]
steps = 4
batch = 4
evaluate_every = 2
evaluate_rows = 8
checkpoint_every = 2
"#;

#[test]
fn each_of_several_models_is_used_by_itself() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("run.toml"), RUN_FILE).unwrap();
    let json: Value = serde_json::from_str(&works(dir.path(), &["plan", "run.toml", "--json"])).unwrap();
    assert_eq!(json["plan"]["models"][0]["name"], "large");
    let summary: Value = serde_json::from_str(&works(dir.path(), &["train", "run.toml", "--out", "r", "--json"])).unwrap();
    assert_eq!(summary["models"][1]["name"], "small");
    assert!(summary["agreement"]["large/small"].is_number() && summary["models"][1]["held_out_loss"].is_number());

    let refused = run(dir.path(), &["eval", "r"]);
    insta::assert_snapshot!(String::from_utf8_lossy(&refused.stderr), @"
    error: there are several models in r/model: large, small
    help: name one of them: r/model/large
    ");
    for (model, layers) in [("r/model/large", 2), ("r/checkpoints/step-0000002/model/small", 1)] {
        let scores: Value = serde_json::from_str(&works(dir.path(), &["eval", model, "--rows", "4", "--json"])).unwrap();
        assert!(scores["held_out_loss"].as_f64().unwrap() > 0.0);
        let name = model.rsplit('/').next().unwrap();
        assert!(works(dir.path(), &["fill", model, "anna is a [MASK] ."]).contains(&format!("model/{name}")));
        let out = format!("out-{layers}");
        works(dir.path(), &["export", model, &out]);
        let config: Value = serde_json::from_slice(&fs::read(dir.path().join(&out).join("config.json")).unwrap()).unwrap();
        assert_eq!(config["num_hidden_layers"], layers);
        let card = fs::read_to_string(dir.path().join(&out).join("README.md")).unwrap();
        assert!(card.contains("| method | cotrain |\n| trained as | "), "{card}");
        assert_eq!(card.contains("Held-out loss "), !model.contains("checkpoints"), "{card}");
    }
    assert_eq!(summary["models"][0]["held_out_loss"], summary["held_out_loss"]);
    let tune =
        ["finetune", "r/model/small", "--task", "pocket-acceptability", "--seeds", "1", "--epochs", "0.02", "--every-checkpoint"];
    works(dir.path(), &tune);
    assert!(dir.path().join("r/finetune/small/step-0000002/pocket-acceptability/seed-1/scores.json").exists());
    works(dir.path(), &["report", "r", "--out", "r.html"]);
    let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
    for shown in ["r: large", "r: small", "Agreement between models", "Score on pocket-acceptability by pre-training step"] {
        assert!(page.contains(shown), "the report shows {shown}");
    }
}

#[test]
fn the_cotrain_study_has_every_way_of_using_a_second_model() {
    let dir = tempdir().unwrap();
    let study =
        || -> Value { serde_json::from_str(&works(dir.path(), &["study", "cotrain", "--size", "tiny", "--json"])).unwrap() };
    let first = study();
    let arms = first["arms"].as_array().unwrap();
    let names: Vec<&str> = arms.iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    insta::assert_snapshot!(names.join("\n"), @"
    teacher, small
    large alone
    large alone, FLOPs of mutual
    small alone
    small alone, FLOPs of mutual
    small teaches: large
    large teaches: small
    mutual: large
    mutual: small
    dwt
    inherit
    ");
    let arm = |name: &str| arms.iter().find(|arm| arm["name"] == name).unwrap();
    let flops = |name: &str| arm(name)["flops"].as_f64().unwrap();
    // As many steps as the FLOPs are worth: to half a step.
    for (longer, alone) in [("large alone, FLOPs of mutual", "large alone"), ("small alone, FLOPs of mutual", "small alone")] {
        assert!((flops(longer) - flops("mutual: large")).abs() <= 0.5 * flops(alone) / 6.0, "{longer}");
    }
    assert!(
        flops("mutual: large") > flops("small teaches: large")
            && flops("small teaches: large") > flops("large alone") + flops("small alone")
    );
    assert!(arm("dwt")["flops_with_teacher"].as_f64().unwrap() > flops("dwt") + 0.9 * flops("small alone"));
    assert_eq!((&arm("mutual: small")["against"], &arm("mutual: small")["teacher"]), (&"small alone".into(), &"large".into()));
    let again = study();
    for (arm, before) in again["arms"].as_array().unwrap().iter().zip(arms) {
        for number in ["/held_out_loss/mean", "/seconds"] {
            let of = |arm: &Value| arm.pointer(number).unwrap().as_f64().unwrap();
            // Read back from JSON, a number may be off by its last bit.
            assert!((of(arm) - of(before)).abs() < 1e-9, "a second time finds every run: {arm} and {before}");
        }
    }
    let table = works(dir.path(), &["study", "cotrain", "--size", "tiny"]);
    for column in ["compared with", "FLOP a run", "with its teacher's"] {
        assert!(table.contains(column), "{table}");
    }
    let page = fs::read_to_string(dir.path().join("runs/study-cotrain-tiny/report.html")).unwrap();
    assert!(
        page.contains("Agreement between models") && page.contains("mutual: large and small"),
        "agreement over time is drawn"
    );
}

#[test]
fn the_examples_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    works(root, &["plan", "examples/cotrain.toml", "--no-time"]);
    let spec = upstill::study::StudySpec::load(&root.join("examples/wiki-cotrain.toml")).unwrap();
    assert_eq!(spec.arms[0].against["small"], "small alone");
    let refused = run(root, &["study", "examples/wiki-cotrain.toml", "--size", "tiny"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--size is for the studies on the pocket language"));
}
