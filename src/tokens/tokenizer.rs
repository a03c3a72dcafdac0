//! The WordPiece tokenizer: loading, saving, encoding.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::ModelWrapper;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Model as _};

use super::train;
use crate::error::{Error, IoContext, Result};
use crate::files::{Files, make_folder, write_files};

/// The tokens that every vocabulary must have, in the order in which a new one starts.
pub const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The files that [`Tokenizer::save`] writes.
pub(super) const TOKENIZER_FILES: [&str; 3] = ["vocab.txt", "tokenizer.json", "tokenizer_config.json"];

/// The ids of the special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// `[PAD]`: fills a row.
    pub pad: u32,
    /// `[UNK]`: a word that the pieces can't spell.
    pub unk: u32,
    /// `[CLS]`: opens a row.
    pub cls: u32,
    /// `[SEP]`: ends a sentence.
    pub sep: u32,
    /// `[MASK]`: a token to be predicted.
    pub mask: u32,
}

/// A WordPiece tokenizer as BERT uses it; cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    vocab: Arc<Vec<String>>,
    special: Special,
    hash: Arc<str>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab.len()).field("hash", &self.hash).finish()
    }
}

impl Tokenizer {
    /// Loads a folder that holds `tokenizer.json` or `vocab.txt`, a `vocab.txt` (a token a line, its id the line's
    /// number from 0), or any `tokenizer.json` with a WordPiece model. Truncation, padding and added special tokens are
    /// switched off. A `vocab.txt` doesn't say whether it is cased: it is taken for cased when one of its tokens
    /// changes in lower case.
    ///
    /// # Errors
    /// When there is no such file, it is damaged or of another kind, or special tokens are missing.
    pub fn load(path: &Path) -> Result<Self> {
        let file = if path.is_dir() {
            let found = ["tokenizer.json", "vocab.txt"].map(|name| path.join(name)).into_iter().find(|file| file.is_file());
            found.ok_or_else(|| {
                Error::new("the folder holds neither tokenizer.json nor vocab.txt").at(path.display()).help(TRAIN)
            })?
        } else {
            path.to_path_buf()
        };
        let bytes = fs::read(&file).doing("read", &file)?;
        let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let loaded = if is_json { from_json(&bytes) } else { from_vocab_txt(&bytes) };
        loaded.and_then(Self::new).map_err(|error| error.at(file.display()))
    }

    /// A tokenizer from the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        from_json(json).and_then(Self::new)
    }

    /// A tokenizer with BERT's uncased normalisation over `vocab`, ids in order.
    ///
    /// # Errors
    /// When special tokens are missing, or a token occurs twice.
    pub fn from_vocab(vocab: Vec<String>) -> Result<Self> {
        with_vocab(vocab).and_then(Self::new)
    }

    /// Makes a vocabulary of `vocab_size` pieces from `texts`, the special tokens first; a piece must occur
    /// `min_frequency` times. The result depends on the words and their counts alone.
    ///
    /// # Errors
    /// When `texts` holds no words, or `vocab_size` is too small for its letters.
    pub fn train<I>(texts: I, vocab_size: usize, min_frequency: u64) -> Result<Self>
    where
        I: Iterator<Item = String> + Send,
    {
        let bare = bert_pipeline(WordPiece::default(), true);
        let words = train::count_words(texts, &bare)?;
        Self::from_vocab(train::vocabulary(&words, vocab_size, min_frequency)?)
    }

    fn new(mut inner: tokenizers::Tokenizer) -> Result<Self> {
        let ModelWrapper::WordPiece(model) = inner.get_model() else {
            let kind = model_name(inner.get_model());
            return Err(Error::new(format!("the tokenizer is a {kind} model, and BERT's is WordPiece")).help(TRAIN));
        };
        if model.get_vocab_size() == 0 {
            return Err(Error::new("the vocabulary is empty").help(TRAIN));
        }
        let special = find_special(&inner)?;
        inner.with_truncation(None).expect("no truncation is always valid").with_padding(None);
        inner.set_encode_special_tokens(false);
        let added = SPECIAL_TOKENS.map(|token| AddedToken::from(token, true));
        inner.add_special_tokens(added).map_err(failed)?;
        inner.with_decoder(Some(WordPieceDecoder::default())).with_post_processor(Some(bert_template(special)?));
        let vocab = in_id_order(inner.get_vocab(true))?;
        let hash = content_hash(&inner, &vocab).into();
        Ok(Tokenizer { inner: Arc::new(inner), vocab: Arc::new(vocab), special, hash })
    }

    /// The same tokenizer, to which "\[MASK\]" and its like in a text are plain characters.
    #[must_use]
    pub fn without_special(&self) -> Self {
        let mut inner = (*self.inner).clone();
        inner.set_encode_special_tokens(true);
        Tokenizer { inner: Arc::new(inner), ..self.clone() }
    }

    /// Writes `vocab.txt`, `tokenizer.json` (with BERT's `[CLS] A [SEP] B [SEP]`) and `tokenizer_config.json`, from which
    /// `transformers` loads the tokenizer.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        make_folder(folder)?;
        write_files(folder, &self.files()?)
    }

    /// What [`Tokenizer::save`] writes.
    ///
    /// # Errors
    /// When the underlying library can't write itself down, which it has no reason for.
    pub fn files(&self) -> Result<Files> {
        let json = self.inner.to_string(false).map_err(failed)?;
        let contents = [self.vocab.join("\n") + "\n", json, format!("{:#}\n", self.settings())];
        Ok(TOKENIZER_FILES.into_iter().zip(contents).map(|(name, text)| (name.to_owned(), text.into_bytes())).collect())
    }

    /// What `tokenizer_config.json` says. `transformers` 5 rebuilds BERT's tokenizer from these settings and takes the
    /// vocabulary alone from `tokenizer.json`; a tokenizer that they can't describe needs the class that reads it whole.
    pub(crate) fn settings(&self) -> serde_json::Value {
        let mut settings = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        });
        if let Some(bert) = self.as_berts() {
            settings["tokenizer_class"] = json!("BertTokenizer");
            settings["do_lower_case"] = json!(bert.lowercase);
            settings["strip_accents"] = json!(bert.strip_accents);
            settings["tokenize_chinese_chars"] = json!(bert.handle_chinese_chars);
        }
        settings
    }

    /// The normaliser, when all else is as BERT has it.
    fn as_berts(&self) -> Option<&BertNormalizer> {
        let (ModelWrapper::WordPiece(model), Some(NormalizerWrapper::BertNormalizer(normalizer))) =
            (self.inner.get_model(), self.inner.get_normalizer())
        else {
            return None;
        };
        let spelling = (model.unk_token.as_str(), model.continuing_subword_prefix.as_str(), model.max_input_chars_per_word);
        let splits = matches!(self.inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
        (normalizer.clean_text && splits && spelling == ("[UNK]", "##", 100)).then_some(normalizer)
    }

    /// The ids of `text`, without special tokens around it; a literal `[MASK]` becomes the mask's id.
    ///
    /// # Errors
    /// When the underlying library fails, which plain text gives it no reason to.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false).map_err(failed)?.get_ids().to_vec())
    }

    /// [`Tokenizer::encode`] of many texts as the underlying library does it by itself, on all cores: what a benchmark compares with.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn encode_all(&self, texts: &[String]) -> Result<Vec<tokenizers::Encoding>> {
        let texts = texts.iter().map(String::as_str).collect();
        self.inner.encode_batch_fast(texts, false).map_err(failed)
    }

    /// The text of `ids` for reading: pieces joined into words, words by spaces, none before closing punctuation. Ids
    /// that aren't in the vocabulary are passed over.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        for token in ids.iter().filter_map(|id| self.vocab.get(*id as usize)) {
            match token.strip_prefix("##") {
                Some(rest) => text.push_str(rest),
                None if text.is_empty()
                    || matches!(token.as_str(), "." | "," | "!" | "?" | ":" | ";" | ")")
                    || text.ends_with('(') =>
                {
                    text.push_str(token);
                }
                None => {
                    text.push(' ');
                    text.push_str(token);
                }
            }
        }
        text
    }

    /// The token of `id`; "" when the vocabulary has no such id.
    pub fn token(&self, id: u32) -> &str {
        self.vocab.get(id as usize).map_or("", String::as_str)
    }

    /// The id of `token`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// All tokens in the order of their ids.
    pub fn vocab(&self) -> &[String] {
        &self.vocab
    }

    /// How many tokens there are.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The ids of the special tokens.
    pub fn special(&self) -> Special {
        self.special
    }

    /// Whether `id` is one of the five special tokens.
    pub fn is_special(&self, id: u32) -> bool {
        let Special { pad, unk, cls, sep, mask } = self.special;
        [pad, unk, cls, sep, mask].contains(&id)
    }

    /// Whether `id` is a piece that goes on with a word ("##ing").
    pub fn continues_word(&self, id: u32) -> bool {
        self.token(id).starts_with("##")
    }

    /// Whether text is lower-cased first: what `transformers` calls `do_lower_case`.
    pub fn lowercases(&self) -> bool {
        matches!(self.inner.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(bert)) if bert.lowercase)
    }

    /// BLAKE3, in hexadecimal, of the vocabulary in the order of its ids and of the normaliser's settings. Two
    /// tokenizers with the same hash give the same ids.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

const TRAIN: &str = "make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt";

/// The library's errors in our words.
pub(super) fn failed(error: tokenizers::Error) -> Error {
    Error::new(format!("the tokenizer failed: {error}"))
}

fn from_json(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|error| Error::new(format!("not a tokenizer.json: {error}")).help("fetch the file again, or use its vocab.txt"))
}

fn from_vocab_txt(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        Error::new(format!("the vocabulary is not UTF-8: line {line}")).help("a vocab.txt holds one token a line, in UTF-8")
    })?;
    with_vocab(text.lines().map(str::to_owned).collect())
}

fn with_vocab(vocab: Vec<String>) -> Result<tokenizers::Tokenizer> {
    // BERT's uncased vocabulary holds capitals that have no small form, as "ℝ": they say nothing.
    let cased = vocab.iter().any(|token| !token.starts_with('[') && token.to_lowercase() != *token);
    let mut lines = HashMap::with_capacity(vocab.len());
    for (line, token) in (1..).zip(&vocab) {
        if token.trim().is_empty() {
            return Err(Error::new(format!("the vocabulary's line {line} is empty")).help("a vocab.txt holds one token a line"));
        }
        if let Some(first) = lines.insert(token, line) {
            let what = format!("the vocabulary holds `{token}` twice: lines {first} and {line}");
            return Err(Error::new(what).help("a vocab.txt holds each token once"));
        }
    }
    let ids = WordPiece::read_bytes(vocab.join("\n").as_bytes()).map_err(failed)?;
    let model = WordPiece::builder().vocab(ids).build().map_err(failed)?;
    Ok(bert_pipeline(model, !cased))
}

/// BERT's normalisation and pre-tokenisation before `model`; `lowercase` also strips accents.
fn bert_pipeline(model: WordPiece, lowercase: bool) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner
        .with_normalizer(Some(BertNormalizer::new(true, true, None, lowercase)))
        .expect("there are no added tokens to normalise");
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner
}

fn bert_template(special: Special) -> Result<TemplateProcessing> {
    TemplateProcessing::builder()
        .try_single("[CLS]:0 $A:0 [SEP]:0")
        .and_then(|builder| builder.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
        .map(|builder| builder.special_tokens(vec![("[CLS]", special.cls), ("[SEP]", special.sep)]))
        .map_err(|error| Error::new(error.to_string()))?
        .build()
        .map_err(|error| Error::new(error.to_string()))
}

fn find_special(inner: &tokenizers::Tokenizer) -> Result<Special> {
    let ids = SPECIAL_TOKENS.map(|token| inner.token_to_id(token));
    if let [Some(pad), Some(unk), Some(cls), Some(sep), Some(mask)] = ids {
        return Ok(Special { pad, unk, cls, sep, mask });
    }
    let missing: Vec<_> = SPECIAL_TOKENS.iter().zip(ids).filter(|(_, id)| id.is_none()).map(|(token, _)| *token).collect();
    Err(Error::new(format!("the vocabulary has no {}", missing.join(", "))).help(TRAIN))
}

fn in_id_order(vocab: HashMap<String, u32>) -> Result<Vec<String>> {
    let mut tokens: Vec<_> = vocab.into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    match tokens.iter().enumerate().find(|(expected, (id, _))| *expected != *id as usize) {
        None => Ok(tokens.into_iter().map(|(_, token)| token).collect()),
        Some((expected, _)) => Err(Error::new(format!(
            "the vocabulary's ids are not 0, 1, 2, ...: {expected} is missing or the one before it occurs twice"
        ))
        .help(TRAIN)),
    }
}

fn model_name(model: &ModelWrapper) -> &'static str {
    match model {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::WordPiece(_) => "WordPiece",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::Unigram(_) => "Unigram",
    }
}

fn content_hash(inner: &tokenizers::Tokenizer, vocab: &[String]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("upstill tokenizer, 1");
    // Two ways to write one meaning must not give two hashes: no `strip_accents` means "as `lowercase` says".
    let normalizer = match inner.get_normalizer() {
        Some(NormalizerWrapper::BertNormalizer(bert)) => {
            let strip = bert.strip_accents.unwrap_or(bert.lowercase);
            json!(BertNormalizer::new(bert.clean_text, bert.handle_chinese_chars, Some(strip), bert.lowercase))
        }
        other => json!(other),
    };
    let settings = match inner.get_model() {
        ModelWrapper::WordPiece(model) => {
            json!([model.unk_token, model.continuing_subword_prefix, model.max_input_chars_per_word])
        }
        _ => json!(null),
    };
    hasher.update(json!([normalizer, inner.get_pre_tokenizer(), settings]).to_string().as_bytes());
    for token in vocab {
        hasher.update(&(token.len() as u64).to_le_bytes()).update(token.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn small() -> Tokenizer {
        let words = ["the", "cat", "sat", "un", "##happ", "##y", ".", ",", "cafe", "mask", "[", "]", "ℝ", "##ᴬ"];
        Tokenizer::from_vocab(SPECIAL_TOKENS.iter().chain(&words).map(|token| (*token).to_owned()).collect()).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, text: &str) -> String {
        tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn text_is_normalised_as_bert_does() {
        let tokenizer = small();
        assert_eq!(pieces(&tokenizer, "The CAT\u{a0}sat,  unhappy."), "the cat sat , un ##happ ##y .");
        assert_eq!(pieces(&tokenizer, "Café dogs"), "cafe [UNK]");
        assert_eq!(tokenizer.decode(&tokenizer.encode("The cat sat, unhappy.").unwrap()), "the cat sat, unhappy.");
        assert!(tokenizer.encode("").unwrap().is_empty());
    }

    #[test]
    fn a_literal_mask_is_the_mask_unless_text_is_only_text() {
        let tokenizer = small();
        assert_eq!(pieces(&tokenizer, "the [MASK] sat"), "the [MASK] sat");
        assert_eq!(pieces(&tokenizer.without_special(), "the [MASK] sat"), "the [ mask ] sat");
    }

    #[test]
    fn ids_are_looked_up_both_ways() {
        let tokenizer = small();
        assert_eq!(tokenizer.special(), Special { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4 });
        assert_eq!(
            (tokenizer.id("cat"), tokenizer.token(6), tokenizer.id("dog"), tokenizer.token(99)),
            (Some(6), "cat", None, "")
        );
        assert!(tokenizer.is_special(4) && !tokenizer.is_special(5));
        assert!(tokenizer.continues_word(9) && !tokenizer.continues_word(8));
        assert_eq!(tokenizer.vocab_size(), 19);
    }

    #[test]
    fn a_cased_vocabulary_keeps_its_case() {
        let vocab = SPECIAL_TOKENS.iter().chain(&["The", "the", "Café"]).map(|token| (*token).to_owned()).collect();
        assert_eq!(pieces(&Tokenizer::from_vocab(vocab).unwrap(), "The the Café"), "The the Café");
    }
}
