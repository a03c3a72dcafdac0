//! One rule for all that read a model: its body is whole, finite and of the sizes that config.json says, or every
//! command refuses it; wrappings are taken off and told; only heads may be new.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use burn::tensor::Device;
use serde_json::{Value, json};
use tempfile::tempdir;
use upstill::model::{
    BertShape, BiLstmShape, Classifier, EncoderShape, HostTensor, LanguageModel, ModelFolder, ModernBertShape, Pooling, Shape,
    StudentShape, Weights,
};
use upstill::tokens::{Tokenizer, pocket_shards};
use upstill::train::{MemoryRun, Pretrained};

use crate::common::{plan, run, shards, steps};
use crate::memory::timeless;

/// The pocket language's, so that each command reads the models here, which none is to refuse for its vocabulary.
fn tokenizer() -> Tokenizer {
    static POCKET: LazyLock<Tokenizer> = LazyLock::new(|| pocket_shards().unwrap().tokenizer().clone());
    POCKET.clone()
}

fn shape(tokens: usize) -> BertShape {
    BertShape::new(tokens, 8, 2, 2, 32)
}

/// A small model's folder.
fn model(at: &Path) -> PathBuf {
    let (tokenizer, path) = (tokenizer(), at.join("model"));
    ModelFolder::write(&path, &shape(tokenizer.vocab_size()).init(3, 0.3, &Device::flex()), &tokenizer).unwrap();
    as_others_write_it(&path);
    path
}

/// Takes away what upstill knows its own folders by: that one was altered is another test's (tests/damage.rs).
fn as_others_write_it(folder: &Path) {
    let _ = fs::remove_file(folder.join("checksums.json"));
    let _ = fs::remove_file(folder.with_file_name("summary.json"));
}

/// Another one, whose tensors are changed.
fn altered(of: &Path, name: &str, change: impl FnOnce(Weights) -> Weights) -> PathBuf {
    let path = of.with_file_name(name);
    fs::create_dir(&path).unwrap();
    for entry in fs::read_dir(of).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    let file = path.join("model.safetensors");
    change(Weights::read(&file).unwrap()).write(&file).unwrap();
    as_others_write_it(&path);
    path
}

fn renamed(weights: &Weights, name: impl Fn(&str) -> Option<String>) -> Weights {
    let mut out = Weights::default();
    for (old, tensor) in weights.iter() {
        if let Some(new) = name(old) {
            out.insert(&new, tensor.clone());
        }
    }
    out
}

fn set(folder: &Path, key: &str, value: Value) {
    as_others_write_it(folder);
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

/// The command, with a line of text on standard input.
fn upstill(dir: &Path, args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_upstill"))
        .args(args)
        .current_dir(dir)
        .env("UPSTILL_DEVICE", "cpu")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(b"the dogs bark\n");
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What every command that reads a model says of this one; all must refuse it.
fn refused_by_all(dir: &Path, folder: &Path) -> Vec<(&'static str, String)> {
    let path = folder.to_str().unwrap();
    let data = "[data]\nshards = \"pocket\"\nlength = 16\n[train]\nsteps = 1\nbatch = 2\n";
    let taught = format!("method = \"dwt\"\n[teacher]\nfrom = {path:?}\n{data}");
    let transfer =
        format!("method = \"transfer\"\n[teacher]\nfrom = {path:?}\n[data]\ntask = \"pocket-sentiment\"\nper_class = 20\n");
    fs::write(dir.join("taught.toml"), taught).unwrap();
    fs::write(dir.join("transfer.toml"), transfer).unwrap();
    let commands: [(&str, Vec<&str>); 8] = [
        ("fill", vec!["fill", path, "the [MASK] bark"]),
        ("eval", vec!["eval", path, "--data", "pocket", "--rows", "2"]),
        ("logits", vec!["logits", path]),
        ("finetune", vec!["finetune", path, "--task", "pocket-sentiment", "--seeds", "1", "--epochs", "0.01"]),
        ("import", vec!["import", path]),
        ("export", vec!["export", path, "exported"]),
        ("train", vec!["train", "taught.toml", "--out", "taught"]),
        ("transfer", vec!["train", "transfer.toml", "--out", "transferred"]),
    ];
    let said = |(name, args): (&'static str, Vec<&str>)| {
        let output = upstill(dir, &args);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{name}: {}", stderr(&output));
        (name, stderr(&output))
    };
    let out = commands.into_iter().map(said).collect();
    assert!(!dir.join("exported").exists());
    out
}

#[test]
fn a_body_that_is_not_whole_is_refused_by_every_command() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let lacking = altered(&whole, "lacking", |weights| {
        renamed(&weights, |name| (!name.contains("layer.1.") && !name.contains("word_embeddings")).then(|| name.to_owned()))
    });
    for (command, said) in refused_by_all(dir.path(), &lacking) {
        assert!(said.contains("missing: bert.encoder.layer.1 (all its 16 tensors)"), "{command}: {said}");
        assert!(said.contains("missing: bert.embeddings.word_embeddings.weight"), "{command}: {said}");
    }
}

#[test]
fn a_tokenizer_with_more_tokens_than_rows_is_refused_by_every_command() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let more = altered(&whole, "more", |weights| weights);
    let tokens = tokenizer().vocab_size();
    fs::remove_file(more.join("tokenizer.json")).unwrap();
    let vocab = fs::read_to_string(more.join("vocab.txt")).unwrap();
    fs::write(more.join("vocab.txt"), vocab + "new-a\nnew-b\n").unwrap();
    for (command, said) in refused_by_all(dir.path(), &more) {
        let wanted = format!("the tokenizer has {} tokens, and the model's word table {tokens} rows", tokens + 2);
        assert!(said.contains(&wanted), "{command}: {said}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_every_command() {
    let dir = tempdir().unwrap();
    let spoilt = altered(&model(dir.path()), "spoilt", |mut weights| {
        let name = "bert.encoder.layer.0.output.dense.bias";
        let mut tensor = weights.get(name).unwrap().clone();
        (tensor.values[1], tensor.values[5]) = (f32::NAN, f32::INFINITY);
        weights.insert(name, tensor);
        let name = "cls.predictions.bias";
        let mut tensor = weights.get(name).unwrap().clone();
        tensor.values[0] = f32::NEG_INFINITY;
        weights.insert(name, tensor);
        weights
    });
    for (command, said) in refused_by_all(dir.path(), &spoilt) {
        let wanted = "2 of the 8 values of bert.encoder.layer.0.output.dense.bias are NaN or infinite; 1 more tensors have such values too";
        assert!(said.contains(wanted), "{command}: {said}");
    }
}

#[test]
fn wrappings_are_taken_off_and_told() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let wanted = ModelFolder::open(&whole).unwrap().tensors().unwrap();
    let variants: [(&str, &str); 7] = [
        ("module.", "`module.`"),
        ("_orig_mod.", "`_orig_mod.`"),
        ("model.", "`model.`"),
        ("bert.", "`bert.`"),
        ("model_state_dict.module.", "`model_state_dict.module.`"),
        ("state_dict.model.", "`state_dict.model.`"),
        ("module._orig_mod.", "`module._orig_mod.`"),
    ];
    for (prefix, told) in variants {
        let name = prefix.replace('.', "-");
        let wrapped = altered(&whole, &name, |weights| renamed(&weights, |old| Some(format!("{prefix}{old}"))));
        let folder = ModelFolder::open(&wrapped).unwrap();
        assert_eq!(folder.tensors().unwrap(), wanted, "{prefix}");
        assert_eq!(Pretrained::read(&folder).unwrap().weights, wanted, "{prefix}");
        let said = stderr(&upstill(dir.path(), &["fill", wrapped.to_str().unwrap(), "the [MASK] bark"]));
        assert!(said.contains(&format!("note: {}: the names of 42 tensors are wrapped: {told}", wrapped.display())), "{said}");
    }
    // A BERT without its prefix, below another module's name, beside that module's own classifier.
    let inner = altered(&whole, "inner", |weights| {
        let mut out = renamed(&weights, |old| Some(format!("encoder.{}", old.strip_prefix("bert.")?)));
        out.insert("head.weight", HostTensor { shape: vec![1], values: vec![1.0] });
        out
    });
    let found = ModelFolder::open(&inner).unwrap().tensors().unwrap();
    let body = |weights: &Weights| renamed(weights, |name| name.starts_with("bert.").then(|| name.to_owned()));
    assert_eq!(body(&found), body(&wanted));
    // The same names twice over, and not the same values.
    let twice = altered(&whole, "twice", |weights| {
        let mut out = weights.clone();
        for (name, tensor) in weights.iter() {
            let tensor = HostTensor { values: tensor.values.iter().map(|x| x + 1.0).collect(), ..tensor.clone() };
            out.insert(&format!("model.{name}"), tensor);
        }
        out
    });
    let error = ModelFolder::open(&twice).unwrap().tensors().unwrap_err().to_string();
    assert!(error.contains("twice, and differing"), "{error}");
}

#[test]
fn a_teacher_of_another_vocabulary_is_not_compared_with() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let other = dir.path().join("other");
    let tokenizer = Tokenizer::train(["a cat sat".to_owned()].into_iter(), 40, 1).unwrap();
    ModelFolder::write(&other, &shape(tokenizer.vocab_size()).init(3, 0.3, &Device::flex()), &tokenizer).unwrap();
    let eval = |teacher: &Path| {
        let [model, teacher] = [&whole, teacher].map(|path| path.to_str().unwrap());
        upstill(dir.path(), &["eval", model, "--data", "pocket", "--rows", "2", "--teacher", teacher])
    };
    assert!(eval(&whole).status.success());
    let refused = eval(&other);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(
        said.contains("the model's vocabulary is not the one that pocket was built with\n  in: ") && said.contains("other"),
        "{said}"
    );
}

#[test]
fn a_closed_pipe_ends_logits_quietly() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_upstill"))
        .args(["logits", whole.to_str().unwrap()])
        .env("UPSTILL_DEVICE", "cpu")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(&b"the dogs bark\n".repeat(50)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).contains("error")), (Some(0), false), "{}", stderr(&output));
}

#[test]
fn fine_tuning_says_which_heads_are_new() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let args = ["finetune", whole.to_str().unwrap(), "--task", "pocket-sentiment", "--seeds", "1", "--epochs", "0.01"];
    let output = upstill(dir.path(), &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let wanted = "note: the heads bert.pooler.dense and classifier start from random weights; not used: cls\n";
    assert!(stderr(&output).contains(wanted), "{}", stderr(&output));
}

#[test]
fn what_a_config_says_of_dropout_and_new_heads_is_obeyed() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    for key in ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"] {
        set(&whole, key, json!(0.25));
    }
    set(&whole, "initializer_range", json!(0.5));
    let args = ["finetune", "model", "--task", "pocket-sentiment", "--seeds", "1", "--epochs", "0.01", "--out", "out"];
    let output = upstill(dir.path(), &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let scores = fs::read_to_string(dir.path().join("out/pocket-sentiment/seed-1/scores.json")).unwrap();
    assert!(scores.contains("dropout 0.25"), "{scores}");
    let pretrained = Pretrained::read(&ModelFolder::open(&whole).unwrap()).unwrap();
    let range = pretrained.initializer_range;
    let fresh = Classifier::start_from(&pretrained.weights, &pretrained.shape, 64, range, 1, &Device::flex()).unwrap();
    let drawn = Weights::of(&fresh).get("classifier.weight").unwrap().values.clone();
    let deviation = (drawn.iter().map(|x| x * x).sum::<f32>() / drawn.len() as f32).sqrt();
    // Of 512 draws, within 4 standard errors.
    assert!((deviation - 0.5).abs() < 0.07, "{deviation}");
    // One that has several is told, and gets the usual one.
    set(&whole, "attention_probs_dropout_prob", json!(0.0));
    let output = upstill(dir.path(), &args[..8]);
    assert!(stderr(&output).contains("config.json has several dropouts; fine-tuning has 0.1 everywhere"), "{}", stderr(&output));
}

#[test]
fn a_students_sizes_are_compared_before_anything_is_made() {
    let bilstm =
        BiLstmShape { vocab_size: 9, words: 4, hidden: 3, pooling: Pooling::Max, input_dropout: 0.0, recurrent_dropout: 0.0 };
    let device = Device::flex();
    let modernbert = ModernBertShape::new(9, 8, 2, 2, 16);
    for encoder in
        [EncoderShape::BiLstm(bilstm.clone()), EncoderShape::Bert(shape(9)), EncoderShape::ModernBert(modernbert.clone())]
    {
        for projection in [0, 5] {
            let student = StudentShape { encoder: encoder.clone(), projection, classes: 2 };
            let weights = Weights::of(&student.init(1, &device));
            assert_eq!(Weights::of(&student.load(&weights, &device).unwrap()), weights);
        }
    }
    let student = StudentShape { encoder: EncoderShape::BiLstm(bilstm.clone()), projection: 5, classes: 2 };
    let mut weights = Weights::of(&student.init(1, &device));
    let huge = EncoderShape::BiLstm(BiLstmShape { vocab_size: 1 << 50, hidden: usize::MAX, ..bilstm });
    let said = StudentShape { encoder: huge, ..student.clone() }.load(&weights, &device).unwrap_err().to_string();
    assert!(said.contains("bilstm.words.weight: found [9, 4], wanted [1125899906842624, 4]"), "{said}");
    let two = StudentShape { encoder: EncoderShape::ModernBert(modernbert.clone()), ..student.clone() };
    let three = EncoderShape::ModernBert(ModernBertShape { layers: 3, ..modernbert });
    let said = StudentShape { encoder: three, ..student.clone() }.load(&Weights::of(&two.init(1, &device)), &device);
    let said = said.unwrap_err().to_string();
    assert!(said.contains("missing: model.layers.2 (all its 6 tensors)"), "{said}");
    weights.insert("classifier.bias", HostTensor { shape: vec![2], values: vec![0.0, f32::NAN] });
    let said = student.load(&weights, &device).unwrap_err().to_string();
    assert!(said.contains("1 of the 2 values of classifier.bias"), "{said}");
}

#[test]
fn sizes_are_compared_before_anything_is_made() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let wide = format!("wanted [{}, 16000000]", tokenizer().vocab_size());
    let claims = [
        ("hidden_size", 1_000_000_000_u64, "hidden_size = 1000000000, more than any model has"),
        ("hidden_size", 16_000_000, wide.as_str()),
        ("vocab_size", 16_000_000, "wanted [16000000, 8]"),
        ("num_hidden_layers", 1_000, "missing: bert.encoder.layer.999 (all its 16 tensors)"),
        ("intermediate_size", 16_000_000, "wanted [16000000, 8]"),
        ("max_position_embeddings", 16_000_000, "wanted [16000000, 8]"),
        ("type_vocab_size", 16_000_000, "wanted [16000000, 8]"),
        ("type_vocab_size", u64::MAX, "type_vocab_size"),
    ];
    for (number, (key, value, wanted)) in claims.into_iter().enumerate() {
        let lying = altered(&whole, &format!("lying-{number}"), |weights| weights);
        set(&lying, key, json!(value));
        let said = ModelFolder::open(&lying).and_then(|folder| folder.load(&Device::flex())).unwrap_err().to_string();
        let shown = said.contains(wanted) || said.contains("and ") && key == "num_hidden_layers";
        assert!(shown, "{key} = {value}: {said}");
        if number == 1 {
            refused_by_all(dir.path(), &lying);
        }
    }
}

#[test]
fn the_parts_of_a_model_lie_in_its_folder() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    for (number, outside) in
        ["../model/model.safetensors", "/model.safetensors", "", "a/../../model/model.safetensors"].iter().enumerate()
    {
        for (kind, single) in ["model.safetensors", "pytorch_model.bin"].iter().enumerate() {
            let path = altered(&whole, &format!("parts-{number}-{kind}"), |weights| weights);
            fs::remove_file(path.join("model.safetensors")).unwrap();
            let index = json!({ "weight_map": { "bert.pooler.dense.bias": outside } });
            fs::write(path.join(format!("{single}.index.json")), index.to_string()).unwrap();
            let said = ModelFolder::open(&path).unwrap().tensors().unwrap_err().to_string();
            assert!(said.contains("outside of the model's folder"), "{outside}: {said}");
        }
    }
    // Two parts with a tensor of one name.
    let path = altered(&whole, "two", |weights| weights);
    fs::rename(path.join("model.safetensors"), path.join("a.safetensors")).unwrap();
    let mut other = Weights::default();
    other.insert("cls.predictions.bias", HostTensor { shape: vec![300], values: vec![9.0; 300] });
    other.write(&path.join("b.safetensors")).unwrap();
    let index = json!({ "weight_map": { "x": "a.safetensors", "y": "b.safetensors" } });
    fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
    let said = ModelFolder::open(&path).unwrap().tensors().unwrap_err().to_string();
    assert!(said.contains("two of the model's parts hold cls.predictions.bias"), "{said}");
}

/// A pickle of 4.6 GB in 300 bytes: a tensor whose one number stands everywhere (stride 0), in the layout of before
/// PyTorch 1.6.
fn expanded() -> Vec<u8> {
    let global = |module: &str, name: &str| format!("c{module}\n{name}\n").into_bytes();
    let mut out = Vec::new();
    // Magic number, protocol version, what machine wrote it.
    out.extend(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.");
    out.extend(b"\x80\x02M\xe9\x03.");
    out.extend(b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u.");
    // {"bert.x": _rebuild_tensor_v2(storage, 0, (1_150_000_000,), (0,), False, {})}
    out.extend(b"\x80\x02}X\x06\x00\x00\x00bert.x");
    out.extend(global("torch._utils", "_rebuild_tensor_v2"));
    out.extend(b"((X\x07\x00\x00\x00storage");
    out.extend(global("torch", "FloatStorage"));
    out.extend(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01NtQK\x00J");
    out.extend(1_150_000_000_i32.to_le_bytes());
    out.extend(b"\x85K\x00\x85\x89}tRs.");
    // The storages' keys, and the one storage: a number.
    out.extend(b"\x80\x02]X\x01\x00\x00\x000a.");
    out.extend(1_u64.to_le_bytes());
    out.extend(1.0_f32.to_le_bytes());
    out
}

#[test]
fn a_pickle_claims_no_more_than_its_file_holds() {
    let dir = tempdir().unwrap();
    let path = altered(&model(dir.path()), "pickle", |weights| weights);
    fs::remove_file(path.join("model.safetensors")).unwrap();
    fs::write(path.join("pytorch_model.bin"), expanded()).unwrap();
    let said = ModelFolder::open(&path).unwrap().tensors().unwrap_err().to_string();
    assert!(said.contains("tensor bert.x of shape [1150000000] would take 4600000000 bytes, and the whole file has"), "{said}");
}

#[test]
fn an_untied_decoder_is_refused_in_true_words_and_no_hindrance_to_fine_tuning() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let untied = |name: &str, tensor: &str, as_tensor: &str| {
        altered(&whole, name, |mut weights| {
            let from = weights.get(tensor).unwrap().clone();
            weights.insert(as_tensor, HostTensor { values: from.values.iter().map(|x| x + 0.5).collect(), ..from });
            weights
        })
    };
    for path in [
        untied("weight", "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        untied("bias", "cls.predictions.bias", "cls.predictions.decoder.bias"),
    ] {
        let folder = ModelFolder::open(&path).unwrap();
        let said = folder.load(&Device::flex()).unwrap_err().to_string();
        assert!(said.contains("decoder is not tied: cls.predictions.decoder.") && said.contains("upstill finetune"), "{said}");
        Pretrained::read(&folder).unwrap();
        let import = upstill(dir.path(), &["import", path.to_str().unwrap()]);
        let out = String::from_utf8_lossy(&import.stdout).into_owned();
        assert!(import.status.success() && out.contains("its decoder is not tied"), "{out}");
    }
    let lacking = altered(&whole, "lacking", |weights| weights);
    set(&lacking, "tie_word_embeddings", json!(false));
    let said = ModelFolder::open(&lacking).unwrap().load(&Device::flex()).unwrap_err().to_string();
    assert!(said.contains("cls.predictions.decoder.weight is missing"), "{said}");
}

#[test]
fn only_a_classifier_of_texts_on_a_pooler_classifies() {
    let dir = tempdir().unwrap();
    let whole = model(dir.path());
    let folder = ModelFolder::open(&whole).unwrap();
    let tuned = Classifier::start_from(&folder.tensors().unwrap(), &folder.shape, 2, 0.02, 1, &Device::flex()).unwrap();
    let classifier = altered(&whole, "classifier", |_| Weights::of(&tuned));
    let load = |path: &Path| ModelFolder::open(path).and_then(|folder| Classifier::load(&folder, &Device::flex()));
    assert_eq!(Weights::of(&load(&classifier).unwrap()), Weights::of(&tuned));
    let distil = altered(&classifier, "distil", |weights| {
        renamed(&weights, |name| Some(name.replace("bert.pooler.dense", "pre_classifier")))
    });
    let said = load(&distil).unwrap_err().to_string();
    assert!(said.contains("DistilBERT's (pre_classifier)"), "{said}");
    let tokens =
        altered(&classifier, "tokens", |weights| renamed(&weights, |name| (!name.contains("pooler")).then(|| name.to_owned())));
    let said = load(&tokens).unwrap_err().to_string();
    assert!(said.contains("stands on no pooler"), "{said}");
    let half = altered(&classifier, "half", |weights| {
        renamed(&weights, |name| (name != "bert.pooler.dense.bias").then(|| name.to_owned()))
    });
    let said = load(&half).unwrap_err().to_string();
    assert!(said.contains("missing: bert.pooler.dense.bias"), "{said}");
}

/// A teacher of the common plan in a folder, and one whose table is padded with rows that would win every softmax.
fn teachers(dir: &Path) -> [PathBuf; 2] {
    let shards = shards();
    let plain = dir.join("teacher");
    run(&plan(&shards, &["method=standalone", "model.layers=1"]), &shards, &plain);
    let plain = plain.join("model");
    let tokens = shards.tokenizer().vocab_size();
    let padded = altered(&plain, "padded", |mut weights| {
        for (name, width) in [("bert.embeddings.word_embeddings.weight", 32), ("cls.predictions.bias", 1)] {
            let mut tensor = weights.get(name).unwrap().clone();
            tensor.shape[0] += 7;
            tensor.values.extend(vec![5.0; 7 * width]);
            weights.insert(name, tensor);
        }
        weights
    });
    set(&padded, "vocab_size", json!(tokens + 7));
    [plain, padded]
}

#[test]
fn a_teacher_with_spare_rows_teaches_as_one_without() {
    let (dir, shards) = (tempdir().unwrap(), shards());
    let teachers = teachers(dir.path());
    for (start, positions) in [("fresh", "masked"), ("remap", "masked"), ("fresh", "all")] {
        let records = teachers.each_ref().map(|teacher| {
            let set = [
                "method=dwt".to_owned(),
                format!("teacher.from={}", teacher.display()),
                format!("distill.start={start}"),
                format!("distill.positions={positions}"),
                "train.steps=4".to_owned(),
            ];
            let plan = plan(&shards, &set.each_ref().map(String::as_str));
            let name = format!("{start}-{positions}-{}", teacher.file_name().unwrap().to_str().unwrap());
            run(&plan, &shards, &dir.path().join(&name));
            timeless(&steps(&dir.path().join(name)))
        });
        assert_eq!(records[0], records[1], "{start}, {positions}");
        assert!(records[0].iter().any(|record| record.loss_soft.is_some_and(|soft| soft > 0.0)));
    }
}

#[test]
fn a_student_that_is_remapped_has_its_teachers_norms() {
    let (dir, shards) = (tempdir().unwrap(), shards());
    let [teacher, _] = teachers(dir.path());
    set(&teacher, "layer_norm_eps", json!(1e-2));
    let set = ["method=dwt", "model.layers=1", "distill.start=remap", &format!("teacher.from={}", teacher.display())];
    let student = MemoryRun::new(plan(&shards, &set), &shards, None, &upstill::device::Device::cpu("test"), 1).unwrap().model();
    let teacher = ModelFolder::open(&teacher).unwrap();
    assert_eq!(student.shape(), teacher.shape);
    let Shape::Bert(shape) = student.shape() else { unreachable!("a BERT") };
    assert_eq!(shape.norm_epsilon, 1e-2);
    let said = |model: &upstill::model::AnyModel| {
        let text = ["the dogs bark .".to_owned()];
        let sentences = upstill::methods::FramedSentences::new(shards.tokenizer(), &text, &model.shape()).unwrap();
        let mut bytes = Vec::new();
        sentences.write_logits(model, 1, &Device::flex(), &mut bytes).unwrap();
        bytes
    };
    assert_eq!(said(&student), said(&teacher.load(&Device::flex()).unwrap()));
}
