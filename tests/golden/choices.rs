//! Multiple choice scores as lm-evaluation-harness has it over `transformers`: tests/golden/choices.py.

use std::fs;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::Value;
use upstill::methods::{choice_log_likelihoods, score_choices};
use upstill::tasks::read_choices;
use upstill::tokens::Tokenizer;

use super::families::model;
use super::golden;

#[derive(Deserialize)]
struct Golden {
    /// Questions as files have them.
    lines: Vec<String>,
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    /// Of tests/golden/causal_tokenizers.json.
    tokenizer: String,
    config: Value,
    acc: f64,
    acc_norm: f64,
    /// Tokens that each question's context lost.
    cut: Vec<u64>,
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    log_likelihoods: Vec<f64>,
}

fn tokenizer(name: &str) -> Tokenizer {
    let golden: Value = golden("causal_tokenizers.json");
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (file, content) in case["files"].as_object().unwrap() {
        fs::write(dir.path().join(file), content.to_string()).unwrap();
    }
    Tokenizer::load(dir.path()).unwrap()
}

#[test]
fn choices_score_as_with_the_harness() {
    let (golden, device) = (golden::<Golden>("choices.json"), Device::flex());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("questions.jsonl");
    fs::write(&file, golden.lines.join("\n")).unwrap();
    let questions = read_choices(&file).unwrap();
    for wanted in golden.models {
        let tokenizer = tokenizer(&wanted.tokenizer);
        let model = model("choices", &wanted.name, &wanted.config, &device);
        let (found, _) = choice_log_likelihoods(&model, &tokenizer, &questions, &device, &mut |_, _| Ok(())).unwrap();
        assert_eq!(found.len(), wanted.questions.len());
        for ((line, found), wanted) in golden.lines.iter().zip(&found).zip(&wanted.questions) {
            assert_eq!(found.len(), wanted.log_likelihoods.len(), "{line}");
            for (found, wanted) in found.iter().zip(&wanted.log_likelihoods) {
                assert!((found - wanted).abs() < 1e-4, "{line}: {found}, and {wanted} with the harness");
            }
        }
        let scores = score_choices(&model, &tokenizer, &questions, &device, &mut |_, _| Ok(())).unwrap();
        let close = |found: f64, wanted: f64| (found - wanted).abs() < 1e-9; // rounded in the file
        assert!(close(scores.acc, wanted.acc) && close(scores.acc_norm, wanted.acc_norm), "{scores:?}");
        let cut = scores.cut.unwrap();
        let lost: Vec<u64> = wanted.cut.iter().copied().filter(|lost| *lost > 0).collect();
        assert_eq!((cut.questions, Some(cut.most_tokens)), (lost.len() as u64, lost.iter().copied().max()), "{}", wanted.name);
        let first = wanted.cut.iter().position(|lost| *lost > 0).unwrap();
        assert!(cut.first.ends_with(&format!("questions.jsonl:{}", first + 1)), "{}", cut.first);
    }
}
