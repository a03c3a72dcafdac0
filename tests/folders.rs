//! Folders of the BERT family as others saved them: goldens by tests/golden/folders.py.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use burn::tensor::Device;
use serde::Deserialize;
use upstill::device::Compute;
use upstill::methods::FramedSentences;
use upstill::model::{BertShape, Classifier, Dropout, Inputs, LanguageModel, ModelFolder, Shape, Weights};
use upstill::tokens::Tokenizer;

use crate::close::{Kind, close};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/folders").join(name)
}

#[derive(Deserialize)]
struct Folders {
    ids: Vec<Vec<i32>>,
    mask: Vec<Vec<i32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// `logits`, or the last layer's `hidden` states of a model without a head.
    kind: String,
    values: Vec<f64>,
}

#[test]
fn every_dialect_gives_what_transformers_says() {
    let text = fs::read_to_string(folder("../folders.json")).unwrap();
    let Folders { ids, mask, cases } = serde_json::from_str(&text).unwrap();
    let (rows, length, device) = (ids.len(), ids[0].len(), Device::flex());
    let positions: Vec<i32> = (0..length as i32).collect();
    let inputs = Inputs::new(&ids.concat(), &positions.repeat(rows), &mask.concat(), rows, &Compute::of(&device));
    for case in cases {
        let opened = ModelFolder::open(&folder(&case.name)).unwrap();
        let found: Vec<f32> = match case.kind.as_str() {
            "hidden" => {
                // The headless model as fine-tuning starts from it.
                let classifier = Classifier::start_from(&opened.tensors().unwrap(), &opened.shape, 2, 0.02, 1, &device).unwrap();
                bert_of(&classifier).hidden(&inputs, &mut Dropout::off()).into_data().try_to_vec().unwrap()
            }
            _ => {
                let model = opened.load(&device).unwrap();
                model.logits(&inputs, &inputs.everywhere(), &mut Dropout::off()).into_data().try_to_vec().unwrap()
            }
        };
        let width = found.len() / (rows * length);
        // What a model says at padding means nothing.
        for at in (0..rows * length).filter(|at| mask.concat()[*at] == 1) {
            eprintln!("{} at {at}", case.name);
            close(&found[at * width..][..width], &case.values[at * width..][..width], Kind::Logits);
        }
    }
}

#[test]
fn fine_tuning_starts_from_a_folders_own_pooler() {
    let opened = ModelFolder::open(&folder("old")).unwrap();
    let tensors = opened.tensors().unwrap();
    let classifier = Classifier::start_from(&tensors, &opened.shape, 2, 0.02, 1, &Device::flex()).unwrap();
    let name = "bert.pooler.dense.weight";
    assert_eq!(Weights::of(&classifier).get(name), Some(tensors.get(name).unwrap()));
}

#[test]
fn import_says_what_is_missing_and_left_over() {
    let said = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_upstill")).arg("import").arg(folder(name)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    insta::assert_snapshot!(said("old"), @"
    model          bert: 2 layers x 8 wide, 2 heads, feed-forward 16, vocabulary 370, 12 positions, 2 token types
    weights        pytorch_model.bin: 42 tensors used
    tokenizer      370 tokens
    word head      there: it can teach, predict and be scored
    missing        none
    left over      bert.pooler.dense.bias
                   bert.pooler.dense.weight
                   cls.seq_relationship.bias
                   cls.seq_relationship.weight
    ");
    insta::assert_snapshot!(said("minilm"), @"
    model          bert: 2 layers x 8 wide, 2 heads, feed-forward 16, vocabulary 370, 12 positions, 2 token types
    weights        model-00001-of-00002.safetensors, model-00002-of-00002.safetensors: 37 tensors used
    tokenizer      370 tokens
    word head      missing: it can be fine-tuned, but not teach, predict or be scored
    missing        cls.predictions.bias
                   cls.predictions.transform.LayerNorm.bias
                   cls.predictions.transform.LayerNorm.weight
                   cls.predictions.transform.dense.bias
                   cls.predictions.transform.dense.weight
    left over      bert.pooler.dense.bias
                   bert.pooler.dense.weight
    ");
}

#[test]
fn a_model_without_a_head_is_no_teacher_and_predicts_nothing() {
    let error = ModelFolder::open(&folder("minilm")).unwrap().load(&Device::flex()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(folder("minilm").to_str().unwrap(), "DIR"), @"
    the model has no masked-language-model head, so it predicts no words
      in: DIR
    help: it can be fine-tuned (`upstill finetune`); to predict, teach or be scored, take a model for masked language modelling
    ");
}

#[test]
fn code_in_a_pickle_is_never_run() {
    let error = ModelFolder::open(&folder("code")).unwrap().load(&Device::flex()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(folder("code").to_str().unwrap(), "DIR"), @"
    the file holds no tensors
      in: DIR/pytorch_model.bin
    help: it may have been cut short; code in a pickle is never run: save the weights alone, best as safetensors
    ");
    assert!(!Path::new("pickle-was-run").exists());
}

/// A copy of a folder, to be spoilt.
fn copy(name: &str, to: &Path) -> PathBuf {
    let into = to.join(name);
    fs::create_dir(&into).unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), into.join(entry.file_name())).unwrap();
    }
    into
}

#[test]
fn spoilt_folders_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| {
        let error = ModelFolder::open(path).and_then(|folder| folder.load(&Device::flex())).unwrap_err().to_string();
        error.replace(dir.path().to_str().unwrap(), "DIR")
    };
    let part = copy("minilm", dir.path());
    fs::remove_file(part.join("model-00002-of-00002.safetensors")).unwrap();
    insta::assert_snapshot!(error(&part), @"
    1 of the model's 2 parts are missing: model-00002-of-00002.safetensors
      in: DIR/minilm/model.safetensors.index.json
    help: fetch them into the same folder
    ");

    let empty = copy("distilbert", dir.path());
    fs::rename(empty.join("model.safetensors"), empty.join("tf_model.h5")).unwrap();
    insta::assert_snapshot!(error(&empty), @"
    the folder holds neither model.safetensors nor pytorch_model.bin, but: config.json, tf_model.h5, vocab.txt
      in: DIR/distilbert
    help: fetch the model's weights too; those of other frameworks (.h5, .msgpack, .onnx) are not read
    ");

    let cut = copy("old", dir.path());
    let bytes = fs::read(cut.join("pytorch_model.bin")).unwrap();
    for length in [0, 10, bytes.len() / 2, bytes.len() - 200] {
        fs::write(cut.join("pytorch_model.bin"), &bytes[..length]).unwrap();
        assert!(error(&cut).contains("state dictionary"), "cut at {length}: {}", error(&cut));
    }

    let deeper = copy("legacy", dir.path());
    let config = fs::read_to_string(deeper.join("config.json")).unwrap();
    fs::write(deeper.join("config.json"), config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")).unwrap();
    assert!(error(&deeper).contains("missing: bert.encoder.layer.2 (all its 16 tensors)"), "{}", error(&deeper));
    fs::write(deeper.join("config.json"), config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1")).unwrap();
    assert!(error(&deeper).contains("left over: bert.encoder.layer.1 (all its 16 tensors)"), "{}", error(&deeper));
    fs::write(deeper.join("config.json"), config.replace("\"vocab_size\": 370", "\"vocab_size\": 371")).unwrap();
    assert!(error(&deeper).contains("bert.embeddings.word_embeddings.weight: found"), "{}", error(&deeper));
}

/// What `upstill logits` writes of some sentences, so many at once; and how many of them were cut.
fn logits(model: &impl LanguageModel, tokenizer: &Tokenizer, sentences: &[String], rows: usize) -> (Vec<u8>, usize) {
    let framed = FramedSentences::new(tokenizer, sentences, &model.shape()).unwrap();
    let mut bytes = Vec::new();
    framed.write_logits(model, rows, &Device::flex(), &mut bytes).unwrap();
    (bytes, framed.cut)
}

/// A tensor of four-byte or eight-byte numbers in a safetensors file.
fn tensor<const N: usize, T>(bytes: &[u8], name: &str, number: impl Fn([u8; N]) -> T) -> (Vec<usize>, Vec<T>) {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap();
    (view.shape().to_vec(), view.data().chunks(N).map(|x| number(x.try_into().unwrap())).collect())
}

#[test]
fn a_model_without_token_types_exports_with_a_row_of_zeros_and_reads_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let opened = ModelFolder::open(&folder("distilbert")).unwrap();
    let (model, tokenizer, device) = (opened.load(&Device::flex()).unwrap(), opened.tokenizer().unwrap(), Device::flex());
    let (once, twice) = (dir.path().join("once"), dir.path().join("twice"));
    ModelFolder::export_into(&once, &model, &tokenizer, "a card").unwrap();
    let again = ModelFolder::open(&once).unwrap();
    let Shape::Bert(before) = opened.shape.clone() else { unreachable!("a BERT") };
    assert_eq!(again.shape, BertShape { token_types: 2, ..before }.into());
    let reloaded = again.load(&device).unwrap();
    let sentences = ["a cat".to_owned(), String::new(), "the cat sat on a very long mat , and sat and sat".to_owned()];
    let said = |model| logits(model, &tokenizer, &sentences, 2);
    assert_eq!(said(&reloaded), said(&model));
    let (bytes, cut) = said(&model);
    assert_eq!((tensor(&bytes, "logits", f32::from_le_bytes).0, cut), (vec![3, 12, tokenizer.vocab_size()], 1));
    ModelFolder::export_into(&twice, &reloaded, &tokenizer, "a card").unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "README.md"] {
        assert_eq!(fs::read(once.join(file)).unwrap(), fs::read(twice.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn logits_at_padding_are_zero_and_rows_at_once_change_nothing() {
    let opened = ModelFolder::open(&folder("old")).unwrap();
    let (model, tokenizer) = (opened.load(&Device::flex()).unwrap(), opened.tokenizer().unwrap());
    let sentences = ["a cat sat".to_owned(), "a".to_owned(), String::new()];
    let (one, all) = (1, 8);
    let [alone, together] = [one, all].map(|rows| logits(&model, &tokenizer, &sentences, rows).0);
    let of = |bytes: &[u8]| tensor(bytes, "logits", f32::from_le_bytes);
    let ((_, alone_nsv), (dims, together_nsv)) = (of(&alone), of(&together));
    close(&alone_nsv, &together_nsv, Kind::Logits);
    let (_, mask_ns) = tensor(&together, "attention_mask", i64::from_le_bytes);
    let (_, ids_ns) = tensor(&together, "input_ids", i64::from_le_bytes);
    for (at, logits_v) in together_nsv.chunks(dims[2]).enumerate() {
        assert_eq!(logits_v.iter().all(|&x| x == 0.0), mask_ns[at] == 0, "row {} at {}", at / dims[1], at % dims[1]);
    }
    let special = tokenizer.special();
    let id = |word: &str| i64::from(tokenizer.id(word).unwrap());
    assert_eq!(ids_ns[..5], [special.cls.into(), id("a"), id("cat"), id("sat"), special.sep.into()]);
    assert_eq!((ids_ns[5 + 3], mask_ns[5..10].to_vec()), (special.pad.into(), vec![1, 1, 1, 0, 0]));
}

#[test]
fn export_writes_a_card_and_never_over_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let export = || Command::new(env!("CARGO_BIN_EXE_upstill")).arg("export").arg(folder("old")).arg(&out).output().unwrap();
    assert!(export().status.success());
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.starts_with("---\nlibrary_name: transformers\n") && card.contains("2 layers, width 8"), "{card}");
    let again = export();
    assert_eq!(again.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&again.stderr).replace(out.to_str().unwrap(), "OUT"), @"
    error: the folder to write is there already, and holds something
      in: OUT
    help: name another, or remove it first
    ");
}

#[test]
fn logits_are_a_safetensors_file_on_standard_output() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_upstill"))
        .args(["logits", folder("old").to_str().unwrap(), "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a cat\nthe cat sat\n").unwrap();
    let bytes = child.wait_with_output().unwrap().stdout;
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shapes = ["logits", "input_ids", "attention_mask"].map(|name| file.tensor(name).unwrap().shape().to_vec());
    assert_eq!(shapes, [vec![2, 5, 370], vec![2, 5], vec![2, 5]]);
}

fn bert_of(classifier: &Classifier) -> &upstill::model::Bert {
    match classifier {
        Classifier::Bert(classifier) => &classifier.bert,
        Classifier::ModernBert(_) => unreachable!("a BERT"),
    }
}
