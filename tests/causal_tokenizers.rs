//! Tokenizers of causal models, as GPT-2, SmolLM2, Llama 3 and Qwen3 have them: without a token for padding, for what
//! can't be spelt, or before a text. Golden: tests/golden/causal_tokenizers.py.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use upstill::batch::{BatchOptions, Batches, Objective, Split};
use upstill::config::Rows;
use upstill::tokens::{BuildOptions, Shards, Special, Tokenizer, Watch, build};

use crate::settings::{Case, golden};

const FILE: &str = "causal_tokenizers.json";

fn load(name: &str, cases: &[Case]) -> Tokenizer {
    Tokenizer::load(cases.iter().find(|case| case.name == name).unwrap().dir.path()).unwrap()
}

#[test]
fn ids_are_those_of_transformers_read_and_saved() {
    let (texts, cases) = golden(FILE);
    let opened: Vec<Vec<u32>> = opened();
    assert!(cases.len() >= 15 && texts.len() > 40);
    for (case, opened) in cases.iter().zip(&opened) {
        let tokenizer = Tokenizer::load(case.dir.path()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let saved = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((saved.hash(), saved.special()), (tokenizer.hash(), tokenizer.special()), "{}", case.name);
        for (read, tokenizer) in [("read", &tokenizer), ("saved", &saved)] {
            for (text, ids) in texts.iter().zip(&case.ids) {
                assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{}, {read}, {text:?}", case.name);
                // Qwen's composes characters, and one puts a blank before a text.
                let is_whole = !case.name.starts_with("Qwen3") && case.name != "GPT-2 after a blank";
                assert!(!is_whole || tokenizer.text_bytes(ids) == text.len(), "{}, {text:?}", case.name);
            }
            assert_eq!(&tokenizer.encode_to_go_on("the cat").unwrap(), opened, "{}, {read}", case.name);
        }
    }
    for case in cases.iter().filter(|case| case.refused.is_some()) {
        let error = Tokenizer::load(case.dir.path()).unwrap_err().to_string();
        assert!(error.contains(case.refused.as_ref().unwrap()), "{}: {error}", case.name);
    }
}

/// What each case puts before "the cat", of the cases that are read: they come first.
fn opened() -> Vec<Vec<u32>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(FILE);
    let golden: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap().iter();
    cases.filter_map(|case| serde_json::from_value(case.get("opened")?.clone()).unwrap()).collect()
}

#[test]
fn what_ends_a_text_stands_for_what_is_not_named() {
    let (_, cases) = golden(FILE);
    let of = |name: &str| {
        let tokenizer = load(name, &cases);
        let names = tokenizer.special_names().map(|name| name.map(str::to_owned));
        (tokenizer.special(), names)
    };
    let some = |names: [&str; 5]| names.map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
    let end = 350;
    let gpt2 = (
        Special { pad: end, unk: Some(end), cls: end, sep: end, mask: None },
        some(["", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", ""]),
    );
    assert_eq!(of("GPT-2"), gpt2);
    assert_eq!(of("GPT-2 without settings"), gpt2);
    assert_eq!(
        of("Llama 3"),
        (Special { pad: 353, unk: None, cls: 350, sep: 353, mask: None }, some(["", "", "<|begin_of_text|>", "<|eot_id|>", ""]))
    );
    assert_eq!(
        of("Qwen3"),
        (Special { pad: 350, unk: None, cls: 352, sep: 352, mask: None }, some(["<|endoftext|>", "", "", "<|im_end|>", ""]))
    );
    assert_eq!(of("SmolLM2, whole").0, Special { pad: 2, unk: Some(0), cls: 1, sep: 2, mask: None });
}

#[test]
fn rows_are_opened_and_ended_and_a_data_folders_tokenizer_opens_texts() {
    let (_, cases) = golden(FILE);
    let (tokenizer, dir) = (load("Qwen3", &cases), tempfile::tempdir().unwrap());
    let text = dir.path().join("a.txt");
    fs::write(&text, "The cat sat on the mat. It was happy.\n\nA <|im_end|> is text.\n\n".repeat(4)).unwrap();
    let options = BuildOptions { keep_one_of: 1, min_tokens: 1, held_out: 0.0, ..BuildOptions::default() };
    let watch = Watch { threads: 1, stop: &|| false, progress: &|_| {} };
    let out = dir.path().join("data");
    let manifest = build(&[text.display().to_string()], &out, false, &tokenizer, &options, &watch).unwrap();
    assert_eq!(manifest.counts.unknown, Some(0), "nothing is unknown to bytes");
    let shards = Shards::open(&out).unwrap();
    let end = tokenizer.id("<|im_end|>").unwrap();
    assert_eq!(shards.tokenizer().hash(), tokenizer.hash());
    let ids = tokenizer.encode("the cat").unwrap();
    assert_eq!(tokenizer.encode_to_go_on("the cat").unwrap(), ids);
    assert_eq!(shards.tokenizer().encode_to_go_on("the cat").unwrap(), [&[end][..], &ids].concat());
    let again = Shards::from_files(&shards.files().unwrap()).unwrap();
    assert_eq!((again.hash(), again.tokenizer().special()), (shards.hash(), tokenizer.special()));
    let options = BatchOptions { layout: Rows::Sentence, length: 64, batch: 12, seed: 1, objective: Objective::Causal };
    let batch = Batches::new(&shards, Split::Train, options).unwrap().at(0);
    for row in batch.input_ids_bs.chunks(64).zip(batch.segments_bs.chunks(64)) {
        let real = row.1.iter().filter(|&&segment| segment > 0).count();
        let ends: Vec<usize> = (0..real).filter(|&at| row.0[at] == end as i32).collect();
        assert_eq!(ends, [0, real - 1], "{row:?}");
    }
}

#[test]
fn a_class_that_splits_otherwise_than_its_file_is_noted() {
    let (texts, cases) = golden(FILE);
    let case = cases.iter().find(|case| case.name == "SmolLM2, whole").unwrap();
    let config = case.dir.path().join("tokenizer_config.json");
    let mut keys: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    keys["tokenizer_class"] = json!("GPT2Tokenizer");
    fs::write(&config, keys.to_string()).unwrap();
    let tokenizer = Tokenizer::load(case.dir.path()).unwrap();
    for (text, ids) in texts.iter().zip(&case.ids) {
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "digits stand alone, as they were trained: {text:?}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_upstill")).args(["tokenizer", "show"]).arg(case.dir.path()).arg("12").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).replace(case.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(said, @"note: DIR/tokenizer_config.json names GPT2Tokenizer, as which `transformers` 5 splits text whatever tokenizer.json says; it says otherwise, and is obeyed. Write PreTrainedTokenizerFast there, and both read it alike");
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout), @"
    354 tokens
    text is read as tokenizer.json says
    <|im_end|> 2  <|endoftext|> 0  <|im_start|> 1  <|im_end|> 2
         20  1
         21  2
    ");
}

#[test]
fn a_mask_is_asked_for_where_tokens_are_masked() {
    let (_, cases) = golden(FILE);
    let tokenizer = load("Llama 3", &cases);
    let sentence = tokenizer.encode("the cat sat").unwrap();
    let shards = Shards::from_sentences(tokenizer, vec![sentence.clone(); 2], vec![sentence]);
    let masked = upstill::batch::Masking::default().into();
    let options = BatchOptions { layout: Rows::Sentence, length: 16, batch: 2, seed: 1, objective: masked };
    let error = Batches::new(&shards, Split::Train, options).map(drop).unwrap_err().to_string();
    assert!(error.contains("the vocabulary has no [MASK]"), "{error}");
}
