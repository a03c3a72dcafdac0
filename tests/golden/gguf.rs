//! GGUF files of Llama's family: goldens by tests/golden/gguf_files.py.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Deserialize;
use tempfile::tempdir;
use upstill::device::Compute;
use upstill::methods::{Choice, Generate, generate_ids};
use upstill::model::{Dropout, Inputs, LanguageModel, ModelFolder, RopeScaling, Shape};

use super::{Places, golden, host, path};
use crate::close::{Kind, close};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    row: Vec<i32>,
    at: Vec<i32>,
    logits: Vec<f64>,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    ids: Vec<Vec<u32>>,
    /// Of "the cat", with what the tokenizer puts before a text.
    opened: Vec<u32>,
}

fn file(name: &str) -> PathBuf {
    path(&format!("gguf-{name}.gguf"))
}

/// Logits, text and ids of a file or a folder are `transformers`'.
fn same(case: &Case, texts: &[String], at: &Path) {
    let device = Device::flex();
    let folder = ModelFolder::open(at).unwrap();
    let (model, tokenizer) = (folder.load(&device).unwrap(), folder.tokenizer().unwrap());
    let positions: Vec<i32> = (0..case.row.len() as i32).collect();
    let inputs = Inputs::new(&case.row, &positions, &vec![1; case.row.len()], 1, &Compute::of(&device));
    close(&host(model.logits(&inputs, &Places::new(&case.at, &device), &mut Dropout::off())), &case.logits, Kind::Logits);
    let options = Generate { tokens: case.greedy.len(), choice: Choice::GREEDY, seed: 0 };
    let known = model.shape().vocab_size();
    assert_eq!(generate_ids(&model, &case.prompt, None, known, &options, &device, &mut |_| Ok(())).unwrap(), case.greedy);
    for (text, ids) in texts.iter().zip(&case.ids) {
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{}, {text:?}", case.name);
        // Qwen's composes characters.
        assert!(case.name == "qwen3" || &tokenizer.decode(ids) == text, "{}: bytes come back, {text:?}", case.name);
    }
    assert_eq!(tokenizer.encode_to_go_on("the cat").unwrap(), case.opened, "{}", case.name);
}

#[test]
fn a_gguf_file_and_what_is_imported_of_it_are_the_model_that_transformers_reads() {
    let Golden { texts, cases } = golden("gguf.json");
    for case in &cases {
        let dir = tempdir().unwrap();
        let (folder, out) = (ModelFolder::open(&file(&case.name)).unwrap(), dir.path().join("out"));
        let inventory = folder.inventory(&folder.tensors().unwrap());
        assert!(inventory.has_head() && inventory.missing.is_empty() && inventory.left_over.is_empty(), "{inventory:?}");
        same(case, &texts, &file(&case.name));
        let Shape::Llama(shape) = &folder.shape else { panic!("{:?}", folder.shape) };
        let scaling = RopeScaling { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8192 };
        assert_eq!(shape.rope_scaling, (case.name == "llama3").then_some(scaling));
        let tokenizer = folder.tokenizer().unwrap();
        ModelFolder::write(&out, &folder.load(&Device::flex()).unwrap(), &tokenizer).unwrap();
        same(case, &texts, &out);
        let again = ModelFolder::open(&out).unwrap();
        let read = again.tokenizer().unwrap();
        assert_eq!((again.shape, read.hash(), read.special()), (folder.shape, tokenizer.hash(), tokenizer.special()));
    }
}

/// A golden file with a piece of it replaced; the two are of one length, so that nothing else moves.
fn error(name: &str, from: &[u8], to: &[u8]) -> String {
    let mut bytes = fs::read(file(name)).unwrap();
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    refused(&bytes)
}

fn refused(bytes: &[u8]) -> String {
    let dir = tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let read = ModelFolder::open(&path).and_then(|folder| Ok((folder.tensors()?, folder.tokenizer()?)));
    read.map(drop).unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
}

/// The entry of a two-dimensional tensor after its name: sizes, type.
fn entry(name: &str, sizes: [u64; 2], kind: u32) -> Vec<u8> {
    let [first, second] = sizes.map(u64::to_le_bytes);
    [name.as_bytes(), &2u32.to_le_bytes(), &first, &second, &kind.to_le_bytes()].concat()
}

#[test]
fn what_a_gguf_file_asks_for_and_is_not_here_is_refused_by_its_name() {
    let of = |kind: u32| entry("blk.0.ffn_down.weight", [96, 64], kind);
    insta::assert_snapshot!(error("smol", &of(3), &of(14)), @"
    the tensor blk.0.ffn_down.weight is of the type Q6_K, and upstill reads F32, F16, BF16, Q8_0, Q4_0 and Q4_1
      in: FILE
    help: convert the model to one of those types, or take its safetensors
    ");
    let sizes = |second: u64| entry("blk.0.ffn_down.weight", [96, second], 3);
    insta::assert_snapshot!(error("smol", &sizes(64), &sizes(1 << 40)), @"
    the tensor blk.0.ffn_down.weight would lie at 39328 and take 65970697666560 bytes, and the file has 72320: it was cut, or is damaged
      in: FILE
    help: fetch the file again
    ");
    insta::assert_snapshot!(error("smol", &sizes(64), &sizes(u64::MAX)), @"
    the tensor blk.0.ffn_down.weight has the sizes [18446744073709551615, 96], which no file has
      in: FILE
    help: fetch the file again
    ");
    insta::assert_snapshot!(error("smol", &entry("blk.0.ffn_down.weight", [96, 64], 3), &entry("blk.0.ffn_down.weight", [95, 64], 3)), @"
    the tensor blk.0.ffn_down.weight has rows of 95, which are no whole blocks of 32
      in: FILE
    help: fetch the file again
    ");
    insta::assert_snapshot!(error("smol", &sizes(64), &sizes(32)), @"
    the weights are not those of the body of the model (2 layers, width 64, vocabulary 354 by its config.json):
      model.layers.0.mlp.down_proj.weight: found [32, 96], wanted [64, 96]
      in: FILE
    help: config.json and the weights must belong together and be whole: fetch or save both again
    ");
    insta::assert_snapshot!(error("smol", b"smollm", b"smellm"), @r#"
    the tokenizer splits text in the way "smellm" (tokenizer.ggml.pre), and upstill knows gpt-2, smollm, llama-bpe, llama3, llama-v3, qwen2
      in: FILE
    help: ids would be wrong without it: take another model
    "#);
    insta::assert_snapshot!(error("smol", b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0bert"), @r#"
    the tokenizer is of the kind "bert" (tokenizer.ggml.model), and upstill reads "gpt2": merges of bytes
      in: FILE
    help: take a model with such a tokenizer, as SmolLM2, Llama 3 and Qwen3 have it
    "#);
    insta::assert_snapshot!(error("qwen3", b"qwen3.block_count", b"qwen3.black_count"), @"
    the file has no qwen3.block_count
      in: FILE
    help: fetch the file again, or take the model's safetensors
    ");
    insta::assert_snapshot!(error("qwen3", b"\x05\0\0\0\0\0\0\0qwen3", b"\x05\0\0\0\0\0\0\0mamba"), @r#"
    the GGUF file holds a model of the architecture "mamba", and upstill reads "llama" and "qwen3"
      in: FILE
    help: take a model of Llama's family, or its safetensors
    "#);
    insta::assert_snapshot!(error("llama3", b"blk.0.attn_q.weight", b"blk.0.attn_Q.weight"), @"
    the weights are not those of the body of the model (1 layers, width 32, vocabulary 354 by its config.json):
      missing: model.layers.0.self_attn.q_proj.weight
      left over: model.layers.0.attn_Q.weight
      in: FILE
    help: config.json and the weights must belong together and be whole: fetch or save both again
    ");
    let divisors: Vec<u8> = [1f32, 1.0].iter().flat_map(|divisor| divisor.to_le_bytes()).collect();
    let other: Vec<u8> = [1f32, 2.0].iter().flat_map(|divisor| divisor.to_le_bytes()).collect();
    insta::assert_snapshot!(error("llama3", &divisors, &other), @"
    rope_freqs.weight scales rotary angles otherwise than Llama 3.1 and later do
      in: FILE
    help: take the model's safetensors, whose config.json says how they are scaled
    ");
    insta::assert_snapshot!(refused(b"GGML"), @"
    not a GGUF file: it does not begin with GGUF
      in: FILE
    help: fetch the file again
    ");
    insta::assert_snapshot!(refused(&[&b"GGUF\x01\0\0\0"[..], &[0; 40]].concat()), @"
    the GGUF file is of version 1, and upstill reads 2 and 3
      in: FILE
    help: convert the model again with a present llama.cpp
    ");
    insta::assert_snapshot!(refused(&[&b"GGUF\0\0\0\x03"[..], &[0; 40]].concat()), @"
    the GGUF file is big-endian, and upstill reads little-endian ones
      in: FILE
    help: convert the model again
    ");
    insta::assert_snapshot!(refused(&[&b"GGUF\x03\0\0\0"[..], &[0xff; 16]].concat()), @"
    it announces 18446744073709551615 tensors, and 8 bytes are left
      in: FILE
    help: fetch the file again
    ");
}

#[test]
fn a_gguf_file_that_is_cut_anywhere_is_refused() {
    let whole = fs::read(file("smol")).unwrap();
    for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        let said = refused(&whole[..length]);
        assert!(said.contains("FILE") && said.contains("help: "), "cut to {length}: {said}");
    }
}
