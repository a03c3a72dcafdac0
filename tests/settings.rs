//! What lies beside a vocabulary: `tokenizer_config.json` and its kin, obeyed as `transformers` does. Golden:
//! tests/golden/settings.py.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value, json};
use upstill::tokens::{Normalization, Tokenizer};

/// A golden folder with its files.
pub struct Case {
    pub name: String,
    pub dir: tempfile::TempDir,
    pub ids: Vec<Vec<u32>>,
    /// The key that is refused.
    pub refused: Option<String>,
}

/// The texts and folders of a golden file. Where `vocab` stands in a folder's file, it is the file's one vocabulary.
pub fn golden(file: &str) -> (Vec<String>, Vec<Case>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let mut golden: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let vocab: Option<Vec<String>> = serde_json::from_value(golden["vocab"].take()).unwrap();
    let vocab = vocab.unwrap_or_default();
    let lines = vocab.join("\n") + "\n";
    let ids: Map<String, Value> = vocab.into_iter().zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    let case = |case: &Value| {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in case["files"].as_object().unwrap() {
            let mut content = content.clone();
            if content["model"]["vocab"] == "vocab" {
                content["model"]["vocab"] = json!(ids);
            }
            let text = match &content {
                Value::String(text) if text == "vocab" => lines.clone(),
                Value::String(text) => text.clone(),
                json => json.to_string(),
            };
            fs::write(dir.path().join(name), text).unwrap();
        }
        let refused = case.get("refused").map(|key| key.as_str().unwrap().to_owned());
        let ids = case.get("ids").map_or_else(Vec::new, |ids| serde_json::from_value(ids.clone()).unwrap());
        Case { name: case["name"].as_str().unwrap().to_owned(), dir, ids, refused }
    };
    let cases = golden["cases"].as_array().unwrap().iter().map(case).collect();
    (serde_json::from_value(golden["texts"].take()).unwrap(), cases)
}

#[track_caller]
fn same_ids(name: &str, tokenizer: &Tokenizer, texts: &[String], wanted: &[Vec<u32>]) {
    for (text, ids) in texts.iter().zip(wanted) {
        let found = tokenizer.encode(text).unwrap();
        let show = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token(id)).collect::<Vec<_>>().join(" ");
        assert_eq!(&found, ids, "{name}, {text:?}:\n{}\nwanted\n{}", show(&found), show(ids));
    }
}

#[test]
fn settings_give_the_ids_of_transformers_or_are_refused_by_name() {
    let (texts, cases) = golden("settings.json");
    assert!(cases.iter().filter(|case| case.refused.is_none()).count() > 30);
    for case in &cases {
        let loaded = Tokenizer::load(case.dir.path());
        if let Some(key) = &case.refused {
            let error = loaded.unwrap_err().to_string();
            assert!(
                error.contains(key) && error.contains("tokenizer_config.json") || error.contains("vocab.txt"),
                "{}: {error}",
                case.name
            );
            continue;
        }
        let tokenizer = loaded.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        same_ids(&case.name, &tokenizer, &texts, &case.ids);
        // A file named by itself is read with what lies beside it.
        if !case.dir.path().join("tokenizer.json").exists() {
            let file = Tokenizer::load(&case.dir.path().join("vocab.txt")).unwrap();
            assert_eq!(file.hash(), tokenizer.hash(), "{}", case.name);
        }
    }
}

#[test]
fn what_is_saved_is_read_back_the_same_from_either_file() {
    let (texts, cases) = golden("settings.json");
    for case in cases.iter().filter(|case| case.refused.is_none()) {
        let tokenizer = Tokenizer::load(case.dir.path()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let again = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(again.hash(), tokenizer.hash(), "{}", case.name);
        same_ids(&case.name, &again, &texts, &case.ids);
        let settings = fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap();
        if settings.contains("BertTokenizer") {
            fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
            let by_lines = Tokenizer::load(dir.path()).unwrap();
            assert_eq!(by_lines.hash(), tokenizer.hash(), "{}", case.name);
            same_ids(&case.name, &by_lines, &texts, &case.ids);
        }
    }
}

#[test]
fn tokenizers_of_other_ids_have_other_hashes() {
    let (_, cases) = golden("settings.json");
    let mut seen: Vec<(String, Vec<Vec<u32>>, &str)> = Vec::new();
    for case in cases.iter().filter(|case| case.refused.is_none()) {
        let tokenizer = Tokenizer::load(case.dir.path()).unwrap();
        for (hash, ids, name) in &seen {
            assert!(hash != tokenizer.hash() || *ids == case.ids, "{name} and {} have one hash and give other ids", case.name);
        }
        seen.push((tokenizer.hash().to_owned(), case.ids.clone(), &case.name));
    }
}

const SPECIAL: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let path = dir.path().to_path_buf();
    (dir, path)
}

fn show(dir: &Path, text: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_upstill")).args(["tokenizer", "show"]).arg(dir).arg(text).output().unwrap()
}

fn said(dir: &Path, output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace(dir.to_str().unwrap(), "DIR")
}

#[test]
fn what_is_guessed_is_said_with_the_way_to_decide_it() {
    let uncased = format!("{SPECIAL}the\ndog\n<URL>\n");
    let (_dir, dir) = folder(&[("vocab.txt", &uncased)]);
    let output = show(&dir, "The Dog");
    insta::assert_snapshot!(said(&dir, &output), @r#"note: no tokenizer_config.json says how to read DIR/vocab.txt; it is taken for uncased: text is lower-cased and loses its accents (0 of 2 pieces of letters have capitals). To decide it, write {"do_lower_case": true} (or false) into DIR/tokenizer_config.json"#);
    assert!(String::from_utf8_lossy(&output.stdout).contains("the\n      6  dog"), "{output:?}");
    fs::write(dir.join("tokenizer_config.json"), "{\"do_lower_case\": false}").unwrap();
    assert_eq!(said(&dir, &show(&dir, "The Dog")), "");

    let cased = format!("{SPECIAL}the\nThe\nDog\n");
    let (_dir, dir) = folder(&[("vocab.txt", &cased), ("tokenizer_config.json", "{\"model_max_length\": 512}")]);
    insta::assert_snapshot!(said(&dir, &show(&dir, "The Dog")), @r#"note: DIR/tokenizer_config.json doesn't say `do_lower_case`, so text is lower-cased, as `transformers` does; but 2 of 3 pieces of letters have capitals: if the model is cased, write "do_lower_case": false there"#);
    let (_dir, dir) = folder(&[("vocab.txt", &format!("\u{feff}{SPECIAL}the\ndog\nthe\n"))]);
    let notes = said(&dir, &show(&dir, "The Dog"));
    assert!(notes.contains("byte order mark (BOM)") && notes.contains("`the` (lines 6 and 8)"), "{notes}");
}

#[test]
fn files_that_can_not_be_meant_are_named() {
    let error = |files: &[(&str, &str)]| {
        let (_dir, dir) = folder(files);
        Tokenizer::load(&dir).unwrap_err().to_string().replace(dir.to_str().unwrap(), "DIR")
    };
    let vocab = format!("{SPECIAL}the\n");
    insta::assert_snapshot!(error(&[("vocab.txt", &vocab), ("tokenizer_config.json", "{\"do_lower_case\":")]), @"
    the file is not JSON: EOF while parsing a value at line 1 column 17
      in: DIR/tokenizer_config.json
    help: mend it, fetch it again, or take it away
    ");
    insta::assert_snapshot!(error(&[("vocab.txt", &vocab), ("tokenizer_config.json", "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}")]), @"
    `tokenizer_class` needs a tokenizer.json, and there is a vocabulary alone
      in: DIR/tokenizer_config.json
    help: fetch tokenizer.json too, or write BertTokenizer there if the vocabulary is BERT's
    ");
    insta::assert_snapshot!(error(&[("vocab.txt", &vocab), ("tokenizer_config.json", "{\"mask_token\": \"<mask>\"}")]), @r#"
    `mask_token` is "<mask>", and upstill reads [MASK] alone there
      in: DIR/tokenizer_config.json
    help: rename the token to [MASK], in the vocabulary and in this file
    "#);
    insta::assert_snapshot!(error(&[("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n"), ("tokenizer_config.json", "{\"mask_token\": \"[MASK]\"}")]), @"
    the vocabulary has no [MASK]
      in: DIR/vocab.txt
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    insta::assert_snapshot!(error(&[("vocab.txt", "[PAD]\n[CLS]\n[SEP]\n[MASK]\nthe\n"), ("tokenizer_config.json", "{\"additional_special_tokens\": [\"[UNK]\"]}")]), @"
    the vocabulary has no [UNK]
      in: DIR/vocab.txt
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    insta::assert_snapshot!(error(&[("vocab.txt", &vocab), ("tokenizer_config.json", "{\"additional_special_tokens\": \"<URL>\"}")]), @r#"
    `additional_special_tokens` is "<URL>", and must be a list of tokens
      in: DIR/tokenizer_config.json
    help: write ["<URL>"]
    "#);
}

#[test]
fn a_tokenizer_json_that_the_library_panics_on_is_an_error_that_names_it() {
    let (_, cases) = golden("settings.json");
    let case = cases.iter().find(|case| case.name == "tokenizer.json whole").unwrap();
    let good: Value = serde_json::from_str(&fs::read_to_string(case.dir.path().join("tokenizer.json")).unwrap()).unwrap();
    let error = |key: &str, value: Value| {
        let mut json = good.clone();
        json[key] = value;
        let (_dir, dir) = folder(&[("tokenizer.json", &json.to_string())]);
        let output = show(&dir, "the dog");
        let said = said(&dir, &output);
        assert!(output.status.code() == Some(2) && !said.contains("panicked"), "{said}");
        said
    };
    insta::assert_snapshot!(error("pre_tokenizer", json!({"type": "FixedLength", "length": 0})), @"
    note: no tokenizer_config.json says how to read DIR/tokenizer.json: text is normalised as it says itself; `transformers` takes BERT's tokenizers for uncased then
    error: the tokenizer failed: chunk size must be non-zero
      in: DIR/tokenizer.json
    help: its settings can't be meant so: fetch the file again, or use its vocab.txt
    ");
    insta::assert_snapshot!(error("normalizer", json!({"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": "/////w=="}]})), @"
    error: the tokenizer normalises text with a table of SentencePiece's (Precompiled), which BERT's don't have
      in: DIR/tokenizer.json
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    insta::assert_snapshot!(error("model", json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]})), @"
    error: the tokenizer is a Unigram model, and upstill reads WordPiece (BERT's) and BPE (ModernBERT's)
      in: DIR/tokenizer.json
    help: make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt
    ");
    let said = error("added_tokens", json!([{"id": 7, "content": "[MASK]"}]));
    assert!(said.contains("not a tokenizer.json: missing field `single_word`"), "{said}");
}

/// What `tokenizer train` made is read with its settings by every command: by the folder and by either file.
#[test]
fn a_trained_tokenizer_keeps_its_options() {
    let (_dir, dir) = folder(&[("a.txt", "Der Hund ist schön. Das Café ist groß. Der Hund!\n".repeat(3).as_str())]);
    let train = |out: &str, options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upstill"));
        command.args(["tokenizer", "train", "a.txt", "--vocab", "90", "--min-frequency", "1", "--out", out]).args(options);
        let output = command.current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{}", said(&dir, &output));
        (Tokenizer::load(&dir.join(out)).unwrap(), output)
    };
    let pieces = |tokenizer: &Tokenizer| {
        tokenizer.encode("Hund schön").unwrap().iter().map(|id| tokenizer.token(*id).to_owned()).collect::<Vec<_>>().join(" ")
    };
    let standard = Normalization::default();
    let (plain, output) = train("plain", &[]);
    assert_eq!((plain.normalization(), pieces(&plain)), (Some(standard), "hund schon".to_owned()));
    assert!(said(&dir, &output).contains("--keep-accents"), "{}", said(&dir, &output));
    let (accents, output) = train("accents", &["--keep-accents"]);
    assert_eq!(accents.normalization(), Some(Normalization { strip_accents: Some(false), ..standard }));
    assert_eq!((pieces(&accents), said(&dir, &output)), ("hund schön".to_owned(), String::new()));
    let (cased, _) = train("cased", &["--cased"]);
    assert_eq!(cased.normalization(), Some(Normalization { lowercase: false, ..standard }));
    assert_eq!(pieces(&cased), "Hund schön");
    for (name, tokenizer) in [("plain", &plain), ("accents", &accents), ("cased", &cased)] {
        for file in ["vocab.txt", "tokenizer.json"] {
            assert_eq!(Tokenizer::load(&dir.join(name).join(file)).unwrap().hash(), tokenizer.hash(), "{name}/{file}");
        }
    }
    let (_, output) = train("few", &["--alphabet", "12", "--keep-accents"]);
    let warned = said(&dir, &output);
    assert!(warned.starts_with("warning: the alphabet of 12 letters covers ") && warned.contains("--alphabet "), "{warned}");
}
