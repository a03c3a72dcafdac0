//! Tokenizers from files: `tokenizer.json` or `vocab.txt`, and what lies beside it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Model as _};

use super::pipelines;
use super::settings::{CONFIG, Class, Settings};
use super::special::{Names, Normalization, ROBERTAS_TOKENS, SPECIAL_TOKENS, TRAIN, failed};
use super::vocab::{self, Capitals};
use crate::error::{Error, Result, note, quietly};

/// A tokenizer as its files give it.
pub(super) struct Opened {
    pub(super) inner: tokenizers::Tokenizer,
    /// Tokens to be added, each with the id that a file says it has.
    pub(super) added: Vec<(Option<u32>, AddedToken)>,
    /// What its special tokens are called.
    pub(super) names: Names,
    /// Whether its settings name a mask, which must be there then.
    pub(super) names_mask: bool,
}

impl From<tokenizers::Tokenizer> for Opened {
    fn from(inner: tokenizers::Tokenizer) -> Self {
        let names = names_in(&inner);
        Opened { inner, added: Vec::new(), names, names_mask: false }
    }
}

/// The file that a path names: itself, or the one in its folder.
pub(super) fn find(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let found = ["tokenizer.json", "vocab.txt"].map(|name| path.join(name)).into_iter().find(|file| file.is_file());
    found.ok_or_else(|| Error::new("the folder holds neither tokenizer.json nor vocab.txt").at(path.display()).help(TRAIN))
}

/// A tokenizer from the bytes of a `tokenizer.json` or a `vocab.txt`, and from what lies beside the file.
pub(super) fn open(file: &Path, bytes: &[u8]) -> Result<Opened> {
    let settings = Settings::read(file.parent().unwrap_or(Path::new("")))?;
    if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return open_json(file, bytes, &settings);
    }
    let class = settings.class()?;
    settings.check(class)?;
    if class.is_some_and(Class::needs_json) {
        return Err(settings.refuse("tokenizer_class", "needs a tokenizer.json, and there is a vocabulary alone", NO_JSON));
    }
    let (vocab, notes) = vocab::read(bytes)?;
    notes.iter().for_each(|what| note(format!("{} {what}", file.display())));
    let normalization = decide(file, &vocab, &settings)?;
    let names = Names::from(SPECIAL_TOKENS);
    let added = settings.added(Default::default(), &names)?;
    Ok(Opened { inner: berts(vocab::model(&vocab)?, normalization), added, names, names_mask: settings.names_mask() })
}

/// A tokenizer from the bytes of a `tokenizer.json` and from its settings; `file` is what it is called in messages.
pub(super) fn open_json(file: &Path, bytes: &[u8], settings: &Settings) -> Result<Opened> {
    let class = settings.class()?;
    settings.check(class)?;
    let inner = from_json(bytes)?;
    let is_wordpiece = matches!(inner.get_model(), ModelWrapper::WordPiece(_));
    if !is_wordpiece && settings.has_config && class == Some(Class::Bert) {
        let help = "if tokenizer.json says all, as a BPE tokenizer's does, write PreTrainedTokenizerFast there";
        return Err(settings.refuse(
            "tokenizer_class",
            "stands for WordPiece, and tokenizer.json holds byte-pair merges (BPE)",
            help,
        ));
    }
    if is_wordpiece && matches!(class, Some(Class::Roberta | Class::Gpt2 | Class::Qwen2 | Class::Llama)) {
        let help = "write BertTokenizer there if text is split as BERT splits it";
        return Err(settings.refuse("tokenizer_class", "stands for byte-pair merges, and tokenizer.json has none", help));
    }
    let listed = inner.get_added_tokens_decoder().into_iter().collect();
    let names = class.map_or(Ok(None), |class| settings.names(class))?.unwrap_or_else(|| names_in(&inner));
    let (inner, listed) = match (class, inner.get_model()) {
        (Some(Class::Bert), _) if settings.has_config => (berts(model_of(&inner)?, settings.normalization()?), listed),
        (Some(Class::Roberta), ModelWrapper::BPE(model)) => (robertas(model, settings.has_prefix_space()?)?, listed),
        (Some(class @ (Class::Gpt2 | Class::Qwen2 | Class::Llama)), _) => {
            pipelines::compare(class, &inner, settings)?;
            (inner, Default::default())
        }
        _ => (inner, Default::default()),
    };
    if is_wordpiece && !settings.has_config && class != Some(Class::Whole) && !reads_as_default(&inner) {
        note(format!(
            "no {CONFIG} says how to read {}: text is normalised as it says itself; `transformers` takes BERT's tokenizers for \
             uncased then",
            file.display()
        ));
    }
    Ok(Opened { inner, added: settings.added(listed, &names)?, names, names_mask: settings.names_mask() })
}

/// Whether a tokenizer normalises text as `transformers` has BERT do it where nothing is said.
fn reads_as_default(inner: &tokenizers::Tokenizer) -> bool {
    let Some(NormalizerWrapper::BertNormalizer(bert)) = inner.get_normalizer() else { return false };
    bert.clean_text && bert.handle_chinese_chars && bert.lowercase && bert.strip_accents != Some(false)
}

const NO_JSON: &str = "fetch tokenizer.json too, or write BertTokenizer there if the vocabulary is BERT's";

/// How text for a `vocab.txt` is normalised: as its settings say, else as the vocabulary looks. What was assumed is
/// said.
fn decide(file: &Path, vocab: &[String], settings: &Settings) -> Result<Normalization> {
    let (said, capitals) = (settings.normalization()?, Capitals::of(vocab));
    if settings.says_case() {
        return Ok(said);
    }
    let config = file.with_file_name(CONFIG);
    if settings.has_config {
        if capitals.is_cased() {
            note(format!(
                "{} doesn't say `do_lower_case`, so text is lower-cased, as `transformers` does; but {capitals}: if the model is \
                 cased, write \"do_lower_case\": false there",
                config.display()
            ));
        }
        return Ok(said);
    }
    let lowercase = !capitals.is_cased();
    let guess = match lowercase {
        true => "uncased: text is lower-cased and loses its accents",
        false => "cased: text keeps its capitals and accents",
    };
    note(format!(
        "no {CONFIG} says how to read {}; it is taken for {guess} ({capitals}). To decide it, write {{\"do_lower_case\": {lowercase}}} \
         (or {}) into {}",
        file.display(),
        !lowercase,
        config.display()
    ));
    Ok(Normalization { lowercase, ..said })
}

/// Reads a `tokenizer.json` whose model is WordPiece or BPE.
pub(super) fn from_json(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    #[derive(Deserialize)]
    struct Kind {
        model: Option<Model>,
        normalizer: Option<Value>,
    }
    #[derive(Deserialize)]
    struct Model {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let damaged = |why: &dyn std::fmt::Display| {
        Error::new(format!("not a tokenizer.json: {why}")).help("fetch the file again, or use its vocab.txt")
    };
    let another = |kind: &str| {
        Error::new(format!("the tokenizer is a {kind} model, and upstill reads WordPiece (BERT's) and BPE (ModernBERT's)"))
            .help(TRAIN)
    };
    let Kind { model, normalizer } = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
    if let Some(kind) = model.and_then(|model| model.kind).filter(|kind| !["WordPiece", "BPE"].contains(&kind.as_str())) {
        return Err(another(&kind));
    }
    // Its size is whatever its first bytes say, and the library takes that much memory.
    if normalizer.is_some_and(|normalizer| holds(&normalizer, "Precompiled")) {
        return Err(Error::new(
            "the tokenizer normalises text with a table of SentencePiece's (Precompiled), which BERT's don't have",
        )
        .help(TRAIN));
    }
    let read = guarded(|| tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| Error::new(error.to_string())));
    let inner = read.map_err(|error| damaged(&error.what()))?;
    match inner.get_model() {
        ModelWrapper::WordPiece(_) => Ok(inner),
        ModelWrapper::BPE(model) if model.dropout.is_some_and(|share| share > 0.0) => {
            Err(Error::new("the tokenizer leaves out merges at random (`model.dropout`), so that a text has other ids each time")
                .help("write \"dropout\": null there"))
        }
        ModelWrapper::BPE(_) => Ok(inner),
        ModelWrapper::WordLevel(_) => Err(another("WordLevel")),
        ModelWrapper::Unigram(_) => Err(another("Unigram")),
    }
}

/// Whether a normaliser, or one within it, is of this type.
fn holds(normalizer: &Value, kind: &str) -> bool {
    match normalizer {
        Value::Object(map) => map.get("type").is_some_and(|found| found == kind) || map.values().any(|value| holds(value, kind)),
        Value::Array(list) => list.iter().any(|value| holds(value, kind)),
        _ => false,
    }
}

/// The library may panic on what a file holds: that is an error too.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    quietly(work).unwrap_or_else(|panic| Err(Error::new(format!("the tokenizer failed: {panic}")).help(DAMAGED)))
}

const DAMAGED: &str = "its settings can't be meant so: fetch the file again, or use its vocab.txt";

/// BERT's normalisation and pre-tokenisation before `model`.
pub(super) fn berts(model: WordPiece, normalization: Normalization) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(normalization.normalizer())).expect("there are no added tokens to normalise");
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner
}

/// RoBERTa's pipeline over the merges of a model, as `transformers` makes it: nothing is normalised.
fn robertas(model: &BPE, has_prefix_space: bool) -> Result<tokenizers::Tokenizer> {
    let mut keys = json!(model);
    for (key, usual) in
        [("dropout", json!(null)), ("unk_token", json!(null)), ("fuse_unk", json!(false)), ("byte_fallback", json!(false))]
    {
        keys[key] = usual;
    }
    (keys["continuing_subword_prefix"], keys["end_of_word_suffix"]) = (json!(""), json!(""));
    let model: BPE =
        serde_json::from_str(&keys.to_string()).map_err(|error| Error::new(format!("the merges can't be read: {error}")))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner
        .with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(has_prefix_space)))
        .with_decoder(Some(ByteLevel::default()));
    Ok(inner)
}

/// What a tokenizer calls its special tokens, where no settings say so: as BERT, or as RoBERTa if it has those alone.
fn names_in(inner: &tokenizers::Tokenizer) -> Names {
    let has = |names: [&str; 5]| names.iter().all(|name| inner.token_to_id(name).is_some());
    Names::from(if !has(SPECIAL_TOKENS) && has(ROBERTAS_TOKENS) { ROBERTAS_TOKENS } else { SPECIAL_TOKENS })
}

/// BERT's model over the vocabulary of another's.
fn model_of(inner: &tokenizers::Tokenizer) -> Result<WordPiece> {
    vocab::model(&vocab::in_id_order(inner.get_model().get_vocab())?)
}

/// Gives the ids that no token has one: the library numbers an added token by counting the others.
pub(super) fn fill_holes(inner: &mut tokenizers::Tokenizer) -> Result<()> {
    let model = inner.get_model();
    let known = model.get_vocab_size();
    if known == 0 {
        return Err(Error::new("the vocabulary is empty").help(TRAIN));
    }
    let vocab = vocab::in_id_order(model.get_vocab())?;
    if vocab.len() == known {
        return Ok(());
    }
    if inner.get_added_tokens_decoder().keys().any(|id| *id as usize >= known) {
        let what = format!(
            "the vocabulary has {known} tokens and ids up to {}, so that added tokens share ids with others",
            vocab.len() - 1
        );
        return Err(Error::new(what).help("give every id a token of its own"));
    }
    let ModelWrapper::WordPiece(model) = model else {
        let what = format!("the vocabulary has {known} tokens and ids up to {}: some ids have no token", vocab.len() - 1);
        return Err(Error::new(what).help("give every id a token"));
    };
    let mut filled = vocab::model(&vocab)?;
    filled.unk_token.clone_from(&model.unk_token);
    filled.continuing_subword_prefix.clone_from(&model.continuing_subword_prefix);
    filled.max_input_chars_per_word = model.max_input_chars_per_word;
    inner.with_model(filled);
    Ok(())
}

/// Adds tokens that are found whole in a text; each must get the id that its file gives it.
pub(super) fn add(inner: &mut tokenizers::Tokenizer, added: Vec<(Option<u32>, AddedToken)>, names: &Names) -> Result<()> {
    let known = inner.get_added_tokens_decoder();
    let (mut wanted, mut tokens) = (Vec::new(), Vec::new());
    for (id, token) in added {
        let there = || known.values().any(|known| known.content == token.content);
        let missing = || names.has(&token.content) && inner.token_to_id(&token.content).is_none();
        match id {
            Some(id) => wanted.push((id, token.content.clone())),
            // `transformers` would give a missing [MASK] an id that no model was trained with.
            None if there() || missing() => continue,
            None => {}
        }
        tokens.push(token);
    }
    guarded(|| inner.add_tokens(tokens).map_err(failed))?;
    match wanted.iter().find(|(id, token)| !token.is_empty() && inner.token_to_id(token) != Some(*id)) {
        None => Ok(()),
        Some((id, token)) => {
            let found = inner.token_to_id(token).unwrap_or_default();
            let what = format!("the added token `{token}` is said to have the id {id}, and with this vocabulary it has {found}");
            Err(Error::new(what).help("take the vocabulary and the settings of one model"))
        }
    }
}
