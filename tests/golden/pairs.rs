//! Pseudo-log-likelihoods are those of `transformers`: tests/golden/pairs.py.

use std::fs;

use burn::tensor::Device;
use serde::Deserialize;
use tempfile::tempdir;
use upstill::methods::{Pll, pseudo_log_likelihoods, score_pairs};
use upstill::model::ModelFolder;
use upstill::tasks::read_pairs;

use super::{golden, path};

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    sentence_good: String,
    sentence_bad: String,
    good: Scores,
    bad: Scores,
}

#[derive(Deserialize)]
struct Scores {
    original: f64,
    within_word: f64,
}

#[test]
fn sentences_score_as_with_transformers() {
    let (golden, device) = (golden::<Golden>("pairs.json"), Device::flex());
    let folder = ModelFolder::open(&path("folders/legacy")).unwrap();
    let (model, tokenizer) = (folder.load(&device).unwrap(), folder.tokenizer().unwrap());
    let texts = golden.pairs.iter().flat_map(|pair| [(&pair.sentence_good, &pair.good), (&pair.sentence_bad, &pair.bad)]);
    let (texts, wanted): (Vec<&String>, Vec<&Scores>) = texts.unzip();
    let sentences: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    for pll in [Pll::Original, Pll::WithinWord] {
        let found = pseudo_log_likelihoods(&model, &tokenizer, &sentences, pll, &device, &mut |_, _| Ok(())).unwrap();
        for ((text, found), wanted) in texts.iter().zip(found).zip(&wanted) {
            let wanted = if pll == Pll::Original { wanted.original } else { wanted.within_word };
            assert!((found - wanted).abs() < 1e-4, "{pll:?} of {text:?}: {found}, and {wanted} with transformers");
        }
    }
    let dir = tempdir().unwrap();
    let file = dir.path().join("pairs.jsonl");
    let line = |pair: &Pair| serde_json::json!({"sentence_good": pair.sentence_good, "sentence_bad": pair.sentence_bad});
    fs::write(&file, golden.pairs.iter().map(|pair| line(pair).to_string() + "\n").collect::<String>()).unwrap();
    let pairs = read_pairs(file.to_str().unwrap()).unwrap();
    let scores = score_pairs(&model, &tokenizer, &pairs, Pll::Original, &device, &mut |_, _| Ok(())).unwrap();
    let right = golden.pairs.iter().filter(|pair| pair.good.original > pair.bad.original).count();
    assert_eq!(scores.accuracy, right as f64 / golden.pairs.len() as f64);
    assert!(right > 0 && right < golden.pairs.len(), "pairs of both kinds: {right}");
}
