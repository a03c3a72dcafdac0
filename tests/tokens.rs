//! Tokenizers and data folders: the same bytes always, and what damage gets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use upstill::Result;
use upstill::tokens::{BuildOptions, HeldOutBy, Manifest, Progress, SPECIAL_TOKENS, Shards, Tokenizer, Watch, build};

const WORDS: &[&str] =
    &["river", "stone", "walks", "walking", "unhappy", "happily", "Anna", "Boris", "small", "smaller", "tree", "trees"];

/// Sentence `i` of a small language.
fn sentence(i: usize) -> String {
    let word = |step: usize| WORDS[(i * step + i / 7) % WORDS.len()];
    format!("The {} {} the {} and {} {}.", word(1), word(5), word(7), word(11), word(3))
}

/// Documents of some sentences each, an empty line between them.
fn corpus(documents: usize) -> String {
    let document = |d: usize| (0..5 + d % 9).map(|i| sentence(d * 13 + i)).collect::<Vec<_>>().join(" ");
    (0..documents).map(|d| document(d) + "\n\n").collect()
}

fn train() -> Tokenizer {
    Tokenizer::train(corpus(50).lines().map(str::to_owned), 90, 2).unwrap()
}

/// [`train`]'s tokenizer, trained once.
fn tokenizer() -> Tokenizer {
    static TRAINED: LazyLock<Tokenizer> = LazyLock::new(train);
    TRAINED.clone()
}

/// A scratch folder with a corpus in it.
struct Scratch {
    dir: tempfile::TempDir,
    input: String,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("corpus.txt");
        fs::write(&input, corpus(300)).unwrap();
        Scratch { input: input.to_str().unwrap().to_owned(), dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self, out: &str, options: &BuildOptions) -> Result<Manifest> {
        self.build_with(out, options, 2, false)
    }

    fn build_with(&self, out: &str, options: &BuildOptions, threads: usize, force: bool) -> Result<Manifest> {
        let watch = Watch { threads, stop: &|| false, progress: &|_: Progress| {} };
        build(std::slice::from_ref(&self.input), &self.at(out), force, &tokenizer(), options, &watch)
    }

    fn clean(&self, text: impl ToString) -> String {
        text.to_string().replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

fn options() -> BuildOptions {
    BuildOptions { keep_one_of: 2, held_out: 0.1, shard_tokens: 2000, ..BuildOptions::default() }
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

#[test]
fn training_gives_the_same_bytes_for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |name: &str, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(train).save(&dir.path().join(name)).unwrap();
        content(&dir.path().join(name))
    };
    let one = bytes("one", 1);
    assert_eq!(one.keys().collect::<Vec<_>>(), ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]);
    assert_eq!(one, bytes("four", 4));
    assert_eq!(one, bytes("again", 4));
}

#[test]
fn a_saved_tokenizer_loads_in_every_way_and_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let made = tokenizer();
    assert_eq!(made.vocab()[..5], SPECIAL_TOKENS);
    made.save(dir.path()).unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("vocab.txt"), dir.path().join("tokenizer.json")] {
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded.hash(), made.hash(), "{}", path.display());
        assert_eq!(loaded.encode("Anna walks [MASK].").unwrap(), made.encode("Anna walks [MASK].").unwrap());
    }
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(Tokenizer::load(dir.path()).unwrap().hash(), made.hash());
}

#[test]
fn truncation_and_padding_of_a_tokenizer_json_are_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let made = tokenizer();
    made.save(dir.path()).unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json["truncation"] = serde_json::json!({"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    fs::write(&path, json.to_string()).unwrap();
    let loaded = Tokenizer::load(&path).unwrap();
    let text = "the river ".repeat(20);
    assert_eq!(loaded.encode(&text).unwrap(), made.encode(&text).unwrap());
    assert_eq!(loaded.hash(), made.hash());
}

#[test]
fn tokenizers_that_will_not_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        Tokenizer::load(&path).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!(error("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\nthe\n"), @r"
    the vocabulary has no [SEP], [MASK]
      in: DIR/vocab.txt
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    insta::assert_snapshot!(error("empty.txt", b""), @r"
    the vocabulary is empty
      in: DIR/empty.txt
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    insta::assert_snapshot!(error("latin.txt", b"[PAD]\n\xf6\n"), @r"
    the vocabulary is not UTF-8: line 2
      in: DIR/latin.txt
    help: a vocab.txt holds one token a line, in UTF-8
    ");
    insta::assert_snapshot!(error("cut.json", b"{\"version\": \"1.0\", \"trunc"), @r"
    not a tokenizer.json: EOF while parsing a string at line 1 column 25
      in: DIR/cut.json
    help: fetch the file again, or use its vocab.txt
    ");
    let bpe = br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
    insta::assert_snapshot!(error("bpe.json", bpe), @"
    the vocabulary has no [PAD], [UNK], [CLS], [SEP], [MASK]
      in: DIR/bpe.json
    help: if it has others, name them in a tokenizer_config.json beside it, of the class PreTrainedTokenizerFast: eos_token (or sep_token), and bos_token (or cls_token), pad_token, unk_token and mask_token as far as there are such; or make a vocabulary with `upstill tokenizer train --kind bpe`
    ");
    insta::assert_snapshot!(error("unigram.json", br#"{"version": "1.0", "model": {"type": "Unigram", "vocab": []}}"#), @r"
    the tokenizer is a Unigram model, and upstill reads WordPiece (BERT's) and BPE (ModernBERT's)
      in: DIR/unigram.json
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    let missing = Tokenizer::load(&dir.path().join("none")).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(missing, @r"
    could not read DIR/none: No such file or directory (os error 2)
    help: check the path
    ");
    fs::create_dir(dir.path().join("folder")).unwrap();
    let missing =
        Tokenizer::load(&dir.path().join("folder")).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(missing, @r"
    the folder holds neither tokenizer.json nor vocab.txt
      in: DIR/folder
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
}

#[test]
fn vocabularies_that_can_not_be_made() {
    let train = |text: &str, size| Tokenizer::train(std::iter::once(text.to_owned()), size, 1).unwrap_err().to_string();
    insta::assert_snapshot!(train(" \n ", 100), @r"
    there is not one word to make a vocabulary from
    help: give it more text
    ");
    insta::assert_snapshot!(train("the river and the stone", 10), @r"
    a vocabulary of 10 is too small: the special tokens and single letters are 25
    help: ask for more with --vocab
    ");
}

#[test]
fn a_data_folder_is_the_same_for_any_number_of_threads() {
    let scratch = Scratch::new();
    for (out, threads) in [("one", 1), ("four", 4), ("again", 4)] {
        scratch.build_with(out, &options(), threads, false).unwrap();
    }
    let one = content(&scratch.at("one"));
    assert!(one.contains_key("train-00001.tok"), "{:?}", one.keys());
    assert!(one == content(&scratch.at("four")) && one == content(&scratch.at("again")));
}

#[test]
fn a_data_folder_holds_what_the_manifest_says() {
    let scratch = Scratch::new();
    let manifest = scratch.build("data", &options()).unwrap();
    let shards = Shards::open(&scratch.at("data")).unwrap();
    let (train, held_out) = (shards.train(), shards.held_out());
    assert_eq!((train.len() as u64, train.tokens()), (manifest.train.sentences, manifest.train.tokens));
    assert_eq!((held_out.len() as u64, held_out.tokens()), (manifest.held_out.sentences, manifest.held_out.tokens));
    assert!(!held_out.is_empty() && held_out.len() * 5 < train.len(), "{} and {}", held_out.len(), train.len());
    assert_eq!(shards.token_counts().iter().sum::<u64>(), train.tokens());
    assert_eq!(shards.hash(), manifest.hash);
    assert_eq!(manifest.counts.documents, 300);
    assert_eq!(manifest.counts.sampled - manifest.counts.dropped_short, manifest.train.sentences + manifest.held_out.sentences);
    let known: std::collections::BTreeSet<Vec<u32>> =
        (0..5000).map(|i| shards.tokenizer().encode(&sentence(i)).unwrap()).collect();
    let mut ids = vec![9; 9];
    for i in 0..train.len() {
        train.read(i, &mut ids);
        assert_eq!(ids.len(), train.length_of(i));
        assert!(known.contains(&ids), "{}", shards.tokenizer().decode(&ids));
    }
    insta::assert_snapshot!(manifest.to_string().replace(env!("CARGO_PKG_VERSION"), "VERSION"), @r"
    upstill data 9ef12c0af71a, made by upstill VERSION
      vocabulary  86 tokens (a78901978b31)
      documents   300, of which 22 held out
      sentences   2,691, one of every 2 kept: 1,340
                  0 under 5 tokens dropped, 0 over 510 split
      train       1,239 sentences, 11,151 tokens (9.0 a sentence), 6 files
      held out    101 sentences, 909 tokens (9.0 a sentence), 1 files
      unknown     0 tokens are [UNK], 0 %
      from        1 files, 121,399 bytes
    ");
}

#[test]
fn the_same_sentences_in_memory_have_the_same_hash() {
    let scratch = Scratch::new();
    scratch.build("data", &BuildOptions { shard_tokens: 1 << 20, ..options() }).unwrap();
    let shards = Shards::open(&scratch.at("data")).unwrap();
    let all = |sentences: &upstill::tokens::Sentences| {
        let mut ids = Vec::new();
        (0..sentences.len())
            .map(|i| {
                sentences.read(i, &mut ids);
                ids.clone()
            })
            .collect::<Vec<_>>()
    };
    let memory = Shards::from_sentences(tokenizer(), all(shards.train()), all(shards.held_out()));
    assert_eq!(memory.hash(), shards.hash());
    assert_eq!(memory.token_counts(), shards.token_counts());
}

#[test]
fn long_sentences_are_split_and_nothing_is_lost() {
    let scratch = Scratch::new();
    let all = BuildOptions { keep_one_of: 1, min_tokens: 1, held_out: 0.0, ..options() };
    let whole = scratch.build("whole", &all).unwrap();
    let split = scratch.build("split", &BuildOptions { max_tokens: 4, ..all }).unwrap();
    assert_eq!(split.train.tokens, whole.train.tokens);
    assert_eq!(split.counts.split_long, whole.train.sentences);
    let shards = Shards::open(&scratch.at("split")).unwrap();
    assert!((0..shards.train().len()).all(|i| (1..=4).contains(&shards.train().length_of(i))));
}

#[test]
fn held_out_documents_stay_held_out_when_files_are_added() {
    let scratch = Scratch::new();
    let all = BuildOptions { keep_one_of: 1, ..options() };
    let before = scratch.build("before", &all).unwrap();
    fs::write(&scratch.input, corpus(300) + &corpus(400)[corpus(300).len()..]).unwrap();
    let after = scratch.build("after", &all).unwrap();
    assert!(after.counts.documents == 400 && after.held_out.sentences > before.held_out.sentences);
    let (before_ids, after_ids) = (Shards::open(&scratch.at("before")).unwrap(), Shards::open(&scratch.at("after")).unwrap());
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for i in 0..before_ids.held_out().len() {
        before_ids.held_out().read(i, &mut a);
        after_ids.held_out().read(i, &mut b);
        assert_eq!(a, b);
    }
}

#[test]
fn sentences_are_held_out_where_documents_are_few() {
    let scratch = Scratch::new();
    // A file without an empty line is one document, unless each line is one.
    fs::write(&scratch.input, (0..400).map(|i| sentence(i) + "\n").collect::<String>()).unwrap();
    let lines = scratch.build("lines", &BuildOptions { keep_one_of: 1, lines: true, ..options() }).unwrap();
    assert_eq!((lines.counts.documents, lines.held_out_by, lines.inputs[0].documents), (400, HeldOutBy::Document, 400));
    assert_eq!(
        (lines.counts.documents_held_out, lines.train.sentences),
        (lines.held_out.sentences, 400 - lines.held_out.sentences)
    );
    let all = BuildOptions { keep_one_of: 1, ..options() };
    let manifest = scratch.build("data", &all).unwrap();
    assert_eq!((manifest.counts.documents, manifest.held_out_by), (1, HeldOutBy::Sentence));
    let (train, held_out) = (manifest.train.sentences, manifest.held_out.sentences);
    assert!((15..80).contains(&held_out) && train + held_out == 400, "{train} and {held_out}");
    insta::assert_snapshot!(manifest.to_string().lines().nth(2).unwrap(), @"  documents   1; sentences are held out");
    let threads = scratch.build_with("again", &all, 4, false).unwrap();
    assert_eq!(threads, manifest);
    assert_eq!(content(&scratch.at("data")), content(&scratch.at("again")));
    // A sentence is in one split, however often it occurs.
    let shards = Shards::open(&scratch.at("data")).unwrap();
    let of = |sentences: &upstill::tokens::Sentences| {
        let mut ids = Vec::new();
        (0..sentences.len())
            .map(|i| {
                sentences.read(i, &mut ids);
                ids.clone()
            })
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert!(of(shards.train()).is_disjoint(&of(shards.held_out())));
    // What no share can divide is left as it was, and as it was written before.
    fs::write(&scratch.input, sentence(1) + "\n" + &sentence(1)).unwrap();
    let one = scratch.build("one", &BuildOptions { held_out: 1e-9, ..all }).unwrap();
    assert_eq!((one.held_out_by, one.train.sentences, one.held_out.sentences), (HeldOutBy::Document, 2, 0));
    assert!(!fs::read_to_string(scratch.at("one/manifest.json")).unwrap().contains("held_out_by"));
}

#[test]
fn all_can_be_held_out_and_then_nothing_is_trained_on() {
    let scratch = Scratch::new();
    let all = BuildOptions { held_out: 1.0, ..options() };
    let manifest = scratch.build("data", &all).unwrap();
    assert_eq!((manifest.train.sentences, manifest.counts.documents_held_out), (0, 300));
    let whole = scratch.build("whole", &BuildOptions { held_out: 0.0, ..all.clone() }).unwrap();
    assert_eq!(manifest.held_out.tokens, whole.train.tokens);
    let shards = Shards::open(&scratch.at("data")).unwrap();
    assert_eq!((shards.train().len(), shards.held_out().len() as u64), (0, manifest.held_out.sentences));
    fs::write(&scratch.input, "Too short.\n").unwrap();
    let error = scratch.build("none", &BuildOptions { min_tokens: 50, ..all }).unwrap_err().to_string();
    assert!(error.starts_with("nothing is left to score"), "{error}");
}

#[test]
fn what_lies_in_the_output_folder_is_no_input() {
    let scratch = Scratch::new();
    let folder = scratch.dir.path().to_str().unwrap().to_owned();
    let watch = Watch { threads: 2, stop: &|| false, progress: &|_: Progress| {} };
    let build = |inputs: &[String], force| build(inputs, &scratch.at("data"), force, &tokenizer(), &options(), &watch);
    let first = build(std::slice::from_ref(&folder), false).unwrap();
    // Its vocab.txt is a .txt file below the input by now.
    assert!(scratch.at("data/vocab.txt").exists());
    for inputs in [folder.clone(), format!("{folder}/**/*.txt")] {
        let again = build(&[inputs], true).unwrap();
        assert_eq!((again.hash.as_str(), again.inputs.len()), (first.hash.as_str(), 1));
    }
    insta::assert_snapshot!(scratch.clean(build(&[format!("{folder}/data")], true).unwrap_err()), @"
    all of the input lies in the folder that is to be written
      in: DIR/data
    help: choose another --out
    ");
    assert_eq!(Shards::open(&scratch.at("data")).unwrap().hash(), first.hash);
}

#[test]
fn tokens_that_are_unknown_are_counted() {
    let scratch = Scratch::new();
    fs::write(&scratch.input, "The river xyz\u{4e2d} the stone.\n\nThe river and the tree.\n").unwrap();
    let manifest = scratch.build("data", &BuildOptions { keep_one_of: 1, held_out: 0.0, ..options() }).unwrap();
    let tokens = manifest.train.tokens;
    let unknown = Shards::open(&scratch.at("data")).unwrap().token_counts()[1];
    assert!(unknown >= 1 && manifest.counts.unknown == Some(unknown), "{manifest}");
    assert_eq!(manifest.unknown_share(), Some(unknown as f64 / tokens as f64));
    // A folder of an earlier version doesn't say.
    let path = scratch.at("data/manifest.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json["counts"].as_object_mut().unwrap().remove("unknown").unwrap();
    json.as_object_mut().unwrap().remove("checksum").unwrap();
    fs::write(&path, json.to_string()).unwrap();
    assert_eq!(Manifest::read(&scratch.at("data")).unwrap().unknown_share(), None);
}

#[test]
fn an_output_folder_in_use_is_left_alone() {
    let scratch = Scratch::new();
    scratch.build("data", &options()).unwrap();
    let before = content(&scratch.at("data"));
    insta::assert_snapshot!(scratch.clean(scratch.build("data", &options()).unwrap_err()), @r"
    the output folder already holds data
      in: DIR/data
    help: choose another with --out, or replace it with --force
    ");
    assert_eq!(content(&scratch.at("data")), before);
    let other = scratch.build_with("data", &BuildOptions { seed: 5, ..options() }, 2, true).unwrap();
    assert_eq!(Shards::open(&scratch.at("data")).unwrap().hash(), other.hash);

    fs::create_dir(scratch.at("mine")).unwrap();
    fs::write(scratch.at("mine/thesis.txt"), "x").unwrap();
    insta::assert_snapshot!(scratch.clean(scratch.build_with("mine", &options(), 2, true).unwrap_err()), @r"
    the output folder already holds something that is not upstill's data
      in: DIR/mine
    help: choose another with --out
    ");
    assert_eq!(fs::read_dir(scratch.at("mine")).unwrap().count(), 1);
    fs::create_dir(scratch.at("empty")).unwrap();
    scratch.build("empty", &options()).unwrap();
}

#[test]
fn a_build_that_fails_or_is_stopped_leaves_nothing() {
    let scratch = Scratch::new();
    let left = || fs::read_dir(scratch.dir.path()).unwrap().count();
    let stopped = Watch { threads: 2, stop: &|| true, progress: &|_: Progress| {} };
    let error =
        build(std::slice::from_ref(&scratch.input), &scratch.at("data"), false, &tokenizer(), &options(), &stopped).unwrap_err();
    assert!(error.is_interrupted());
    insta::assert_snapshot!(error, @"nothing was written");
    assert_eq!(left(), 1);

    let mut text = corpus(300).into_bytes();
    text.push(0xff);
    fs::write(&scratch.input, text).unwrap();
    insta::assert_snapshot!(scratch.clean(scratch.build("data", &options()).unwrap_err()), @r"
    the text is not UTF-8: byte 0xff at offset 121399
      in: DIR/corpus.txt:601
    help: convert the file (`iconv -t UTF-8`), or read on with --lossy
    ");
    assert_eq!(left(), 1);

    fs::write(&scratch.input, "\n\n \n").unwrap();
    insta::assert_snapshot!(scratch.clean(scratch.build("data", &options()).unwrap_err()), @r"
    the corpus is empty: there is not one sentence in it
    help: check that the input holds text
    ");
    fs::write(&scratch.input, "Too short.\n\nThis too.\n").unwrap();
    let all = BuildOptions { keep_one_of: 1, held_out: 0.0, min_tokens: 50, ..options() };
    insta::assert_snapshot!(scratch.clean(scratch.build("data", &all).unwrap_err()), @r"
    nothing is left to train on: of 2 sentences, sampling kept 2, of which 2 have fewer than 50 tokens; 0 of 2 documents are held out
    help: give it more text, or change --keep-one-of, --min-tokens or --held-out
    ");
    let wrong = BuildOptions { keep_one_of: 0, min_tokens: 9, max_tokens: 3, held_out: f64::NAN, ..options() };
    insta::assert_snapshot!(scratch.clean(scratch.build("data", &wrong).unwrap_err()), @"keep-one-of is 0: 1 keeps every sentence, 4 one of four; min-tokens is above max-tokens; held-out is a share of the documents: from 0, for none, to 1, for all");
    assert_eq!(left(), 1);
}

#[test]
fn damaged_data_folders_are_refused_by_name() {
    let scratch = Scratch::new();
    scratch.build("data", &options()).unwrap();
    let folder = scratch.at("data");
    let good = content(&folder);
    // Alters one file, asks for the error, and puts the file back.
    let error = |name: &str, alter: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good[name].clone();
        alter(&mut bytes);
        fs::write(folder.join(name), bytes).unwrap();
        let error = scratch.clean(Shards::open(&folder).unwrap_err());
        fs::write(folder.join(name), &good[name]).unwrap();
        error
    };
    insta::assert_snapshot!(error("train-00001.tok", &|bytes| bytes.truncate(1000)), @r"
    the shard is cut or grown: it has 1000 bytes, and was written with 5038
      in: DIR/data/train-00001.tok
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    insta::assert_snapshot!(error("train-00001.tok", &|bytes| bytes[700] ^= 4), @r"
    the shard is damaged: its content doesn't have the checksum that it was written with
      in: DIR/data/train-00001.tok
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    insta::assert_snapshot!(error("train-00001.tok", &|bytes| bytes[50] ^= 4), @r"
    the shard is damaged: its header doesn't have the checksum that it was written with
      in: DIR/data/train-00001.tok
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    insta::assert_snapshot!(error("held-out-00000.tok", &|bytes| bytes[8] = 9), @r"
    the shard has layout version 9, and this upstill reads 1
      in: DIR/data/held-out-00000.tok
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    insta::assert_snapshot!(error("held-out-00000.tok", &|bytes| bytes[0] = b'U'), @r"
    not a shard: it doesn't start as one
      in: DIR/data/held-out-00000.tok
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    insta::assert_snapshot!(error("token-counts.bin", &|bytes| bytes[3] ^= 1), @r"
    the token counts are damaged: they don't have the checksum that they were written with
      in: DIR/data/token-counts.bin
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    insta::assert_snapshot!(error("manifest.json", &|bytes| bytes.truncate(100)), @r"
    the manifest can't be read: EOF while parsing a string at line 5 column 32
      in: DIR/data/manifest.json
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    let other = Tokenizer::train(corpus(60).lines().map(str::to_owned), 80, 2).unwrap();
    other.save(&scratch.at("other")).unwrap();
    let json = fs::read(scratch.at("other/tokenizer.json")).unwrap();
    insta::assert_snapshot!(error("tokenizer.json", &|bytes| bytes.clone_from(&json)).replace(other.hash().get(..12).unwrap(), "OTHER"), @r"
    the tokenizer is not the one that the data was made with (OTHER, not a78901978b31)
      in: DIR/data
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    Shards::open(&folder).unwrap();

    let open = || scratch.clean(Shards::open(&folder).unwrap_err());
    fs::remove_file(folder.join("train-00001.tok")).unwrap();
    insta::assert_snapshot!(open(), @r"
    a shard that the manifest names is missing
      in: DIR/data/train-00001.tok
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    fs::remove_file(folder.join("manifest.json")).unwrap();
    insta::assert_snapshot!(open(), @r"
    the folder has no manifest.json: it is no data folder, or its build did not finish
      in: DIR/data
    help: build it again: `upstill data build INPUT... --tokenizer DIR --out DIR/data --force`
    ");
    fs::remove_dir_all(&folder).unwrap();
    insta::assert_snapshot!(open(), @r"
    there is no such data folder
      in: DIR/data
    help: check the path, or build it: `upstill data build INPUT... --tokenizer DIR --out DIR/data`
    ");
}

proptest! {
    #[test]
    fn sentences_in_memory_come_back(
        train in prop::collection::vec(prop::collection::vec(0u32..60, 0..12), 0..20),
        held_out in prop::collection::vec(prop::collection::vec(0u32..60, 1..5), 0..3),
    ) {
        let shards = Shards::from_sentences(tokenizer(), train.clone(), held_out.clone());
        prop_assert_eq!((shards.train().len(), shards.held_out().len()), (train.len(), held_out.len()));
        let mut ids = Vec::new();
        for (i, sentence) in train.iter().enumerate() {
            shards.train().read(i, &mut ids);
            prop_assert_eq!(&ids, sentence);
        }
    }
}
