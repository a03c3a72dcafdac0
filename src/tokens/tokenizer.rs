//! The tokenizer, WordPiece or byte-level BPE: loading, saving, encoding.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{AddedToken, Model as _};

use super::frame;
use super::open::{self, Opened};
use super::settings::{CAUSAL_KEYS, SPECIAL_KEYS, Settings};
use super::special::{Names, Normalization, Special, TOKENIZER_FILES, TRAIN, failed};
use super::train::{self, Coverage, TrainOptions};
use super::train_bpe::{self, BpeOptions};
use super::vocab::{self, stand_in};
use crate::error::{Error, IoContext, Result};
use crate::files::{Files, make_folder, write_files};

/// A tokenizer: WordPiece as BERT uses it, or byte-pair merges as ModernBERT does; cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    vocab: Arc<Vec<String>>,
    special: Special,
    names: Arc<Names>,
    /// Whether what opens a text is put before one that a model is to go on with.
    opens: bool,
    hash: Arc<str>,
    /// Where it was read from, for messages.
    file: Option<Arc<str>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab.len()).field("hash", &self.hash).finish()
    }
}

impl Tokenizer {
    /// Loads a folder that holds `tokenizer.json` or `vocab.txt`, a `vocab.txt` (a token a line, its id the line's
    /// number from 0), or any `tokenizer.json` with a WordPiece or a BPE model that has BERT's special tokens,
    /// RoBERTa's, or those that its settings name: a token that ends a text at least. A mask may be missing.
    ///
    /// A `tokenizer_config.json` beside it is obeyed as `transformers` obeys it, also over `tokenizer.json`: it says
    /// how text is normalised, and which tokens are found whole. Without one, `tokenizer.json` says that itself, and of
    /// a `vocab.txt` it is guessed whether it is cased, which is said. Truncation, padding and added special tokens are
    /// switched off.
    ///
    /// # Errors
    /// When there is no such file, it is damaged or of another kind, special tokens are missing, or the settings name
    /// something that would give other ids here.
    pub fn load(path: &Path) -> Result<Self> {
        let file = open::find(path)?;
        let bytes = std::fs::read(&file).doing("read", &file)?;
        let opened = open::open(&file, &bytes).and_then(|opened| Self::new(opened, Some(&file)));
        opened.map_err(|error| if error.place().is_some() { error } else { error.at(file.display()) })
    }

    /// A tokenizer from the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        open::from_json(json).and_then(|inner| Self::new(Opened::from(inner), None))
    }

    /// A tokenizer from the bytes of a `tokenizer.json` and of its `tokenizer_config.json`; `file` is what both are
    /// called in messages.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub(crate) fn from_json(json: &[u8], settings: &[u8], file: &Path) -> Result<Self> {
        let settings = Settings::of(settings, &file.display().to_string())?;
        let opened = open::open_json(file, json, &settings).and_then(|opened| Self::new(opened, Some(file)));
        opened.map_err(|error| if error.place().is_some() { error } else { error.at(file.display()) })
    }

    /// A tokenizer with BERT's normalisation over `vocab`, ids in order. It lower-cases unless the vocabulary looks
    /// cased.
    ///
    /// # Errors
    /// When special tokens are missing, or a token occurs twice.
    pub fn from_vocab(vocab: Vec<String>) -> Result<Self> {
        let lowercase = !vocab::Capitals::of(&vocab).is_cased();
        Self::from_vocab_with(vocab, Normalization { lowercase, ..Normalization::default() })
    }

    /// A tokenizer over `vocab`, ids in order, before which text is normalised so.
    ///
    /// # Errors
    /// When special tokens are missing, or a token occurs twice.
    pub fn from_vocab_with(vocab: Vec<String>, normalization: Normalization) -> Result<Self> {
        let model = vocab::model(&vocab)?;
        if model.get_vocab_size() < vocab.len() {
            return Err(Error::new("the vocabulary holds a token twice").help("a vocabulary holds each token once"));
        }
        Self::new(Opened::from(open::berts(model, normalization)), None)
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
        let options = TrainOptions { vocab_size, min_frequency, ..TrainOptions::default() };
        Ok(Self::train_with(texts, &options)?.0)
    }

    /// Makes a vocabulary from `texts`, the special tokens first, and says how much of them its letters cover. The
    /// result depends on the words and their counts alone; the tokenizer keeps the options' normalisation.
    ///
    /// # Errors
    /// When `texts` holds no words, or the vocabulary is too small for its letters.
    pub fn train_with<I>(texts: I, options: &TrainOptions) -> Result<(Self, Coverage)>
    where
        I: Iterator<Item = String> + Send,
    {
        let (vocab, coverage) = train::train(texts, options)?;
        Ok((Self::from_vocab_with(vocab, options.normalization)?, coverage))
    }

    /// Makes a byte-level BPE vocabulary from `texts`, the special tokens first, then bytes. The result depends on the
    /// words and their counts alone.
    ///
    /// # Errors
    /// When `texts` holds no words, or the vocabulary is too small for the bytes.
    pub fn train_bpe<I>(texts: I, options: &BpeOptions) -> Result<Self>
    where
        I: Iterator<Item = String> + Send,
    {
        Self::new(train_bpe::train(texts, options)?, None)
    }

    fn new(opened: Opened, file: Option<&Path>) -> Result<Self> {
        let Opened { mut inner, added, names, names_mask } = opened;
        open::fill_holes(&mut inner)?;
        open::add(&mut inner, added, &names)?;
        let special = find_special(&inner, &names, names_mask)?;
        inner.with_truncation(None).expect("no truncation is always valid").with_padding(None);
        inner.set_encode_special_tokens(false);
        let there = names.iter().filter(|token| inner.token_to_id(token).is_some());
        let added: Vec<AddedToken> = there.map(|token| AddedToken::from(token.clone(), true)).collect();
        let known = inner.get_added_tokens_decoder();
        let missing = added.into_iter().filter(|token| !known.values().any(|there| there.content == token.content));
        let missing: Vec<AddedToken> = missing.collect();
        open::guarded(|| inner.add_special_tokens(missing).map_err(failed))?;
        if matches!(inner.get_model(), ModelWrapper::WordPiece(_)) {
            inner.with_decoder(Some(WordPieceDecoder::default()));
        }
        let vocab = vocab::in_id_order(inner.get_vocab(true))?;
        match names.is_causal {
            // As its file says.
            true => {}
            false if names.are_berts() => drop(inner.with_post_processor(Some(frame::berts(special)?))),
            false => drop(inner.with_post_processor(Some(frame::both(special, &vocab)))),
        }
        let opens = open::guarded(|| inner.encode_fast("a", true).map_err(failed))?.get_ids().first() == Some(&special.cls);
        let hash = content_hash(&inner, &vocab, &names).into();
        let file = file.map(|file| file.display().to_string().into());
        Ok(Tokenizer { inner: Arc::new(inner), vocab: Arc::new(vocab), special, names: Arc::new(names), opens, hash, file })
    }

    /// This tokenizer, which puts what opens a text before one: what is trained on rows that begin so goes on with
    /// texts that do. One that puts something before a text already is as it was.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn opening(&self) -> Result<Self> {
        if self.opens {
            return Ok(self.clone());
        }
        let mut inner = (*self.inner).clone();
        inner.with_post_processor(Some(frame::opened(self.special.cls, &self.vocab)?));
        Ok(Tokenizer { inner: Arc::new(inner), opens: true, ..self.clone() })
    }

    /// This tokenizer, to which "\[MASK\]" and its like in a text are plain characters.
    #[must_use]
    pub fn without_special(&self) -> Self {
        let mut inner = (*self.inner).clone();
        inner.set_encode_special_tokens(true);
        Tokenizer { inner: Arc::new(inner), ..self.clone() }
    }

    /// Writes `vocab.txt` (of WordPiece), `tokenizer.json` (with BERT's `[CLS] A [SEP] B [SEP]`) and
    /// `tokenizer_config.json`, from which `transformers` loads the tokenizer.
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
        // A token with a line's end in it would move all after it.
        let line = |(id, token): (usize, &String)| if token.contains('\n') { stand_in(id) } else { token.clone() };
        let lines: Vec<String> = self.vocab.iter().enumerate().map(line).collect();
        let contents = [lines.join("\n") + "\n", json, format!("{:#}\n", self.settings())];
        let files = TOKENIZER_FILES.into_iter().zip(contents).skip(usize::from(self.is_bpe()));
        Ok(files.map(|(name, text)| (name.to_owned(), text.into_bytes())).collect())
    }

    /// What `tokenizer_config.json` says. `transformers` 5 rebuilds BERT's tokenizer from these settings and takes the
    /// vocabulary alone from `tokenizer.json`; a tokenizer that they can't describe needs the class that reads it
    /// whole.
    pub(crate) fn settings(&self) -> serde_json::Value {
        let mut settings = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
        let keys = if self.names.is_causal { CAUSAL_KEYS } else { SPECIAL_KEYS };
        for (key, name) in keys.into_iter().zip(self.special_names()) {
            if let Some(name) = name.filter(|name| self.id(name).is_some()) {
                settings[key] = json!(name);
            }
        }
        if let Some(bert) = self.as_berts() {
            settings["tokenizer_class"] = json!("BertTokenizer");
            settings["do_lower_case"] = json!(bert.lowercase);
            settings["strip_accents"] = json!(bert.strip_accents);
            settings["tokenize_chinese_chars"] = json!(bert.handle_chinese_chars);
        }
        let added = added_tokens(&self.inner);
        if !is_standard(&added, &self.names, self.special.mask.is_some()) {
            settings["added_tokens_decoder"] = added.into_iter().map(|(id, token)| (id.to_string(), json!(token))).collect();
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
        (normalizer.clean_text && splits && self.names.are_berts() && spelling == ("[UNK]", "##", 100)).then_some(normalizer)
    }

    /// The ids of `text`, without special tokens around it; a literal `[MASK]` becomes the mask's id.
    ///
    /// # Errors
    /// When the underlying library fails, which plain text gives it no reason to.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = open::guarded(|| self.inner.encode_fast(text, false).map_err(failed));
        match (encoded, &self.file) {
            (Ok(encoded), _) => Ok(encoded.get_ids().to_vec()),
            (Err(error), Some(file)) => Err(error.at(file)),
            (Err(error), None) => Err(error),
        }
    }

    /// The ids of a text that a model is to go on with: after what opens a text, where the tokenizer puts it there.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_to_go_on(&self, text: &str) -> Result<Vec<u32>> {
        let opens = self.opens.then_some(self.special.cls);
        Ok(opens.into_iter().chain(self.encode(text)?).collect())
    }

    /// [`Tokenizer::encode`] of many texts as the underlying library does it by itself, on all cores: what a benchmark
    /// compares with.
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
        if self.is_bpe() {
            return self.inner.decode(ids, false).unwrap_or_default();
        }
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

    /// Bytes of the text that `ids` stand for: of merges of bytes to the byte, of others as [`Tokenizer::decode`] has
    /// it.
    pub fn text_bytes(&self, ids: &[u32]) -> usize {
        if !matches!(self.inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return self.decode(ids).len();
        }
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        // A letter stands for a byte; what is found whole in a text is spelt as it is.
        let bytes = |id: &u32| added.get(id).map_or_else(|| self.token(*id).chars().count(), |token| token.content.len());
        ids.iter().map(bytes).sum()
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

    /// What the special tokens are called: what fills a row, what can't be spelt, what opens a text, what ends it, and
    /// the mask; of BERT [`SPECIAL_TOKENS`](super::SPECIAL_TOKENS). None where there is no such token.
    pub fn special_names(&self) -> [Option<&str>; 5] {
        self.names.tokens.each_ref().map(Option::as_deref)
    }

    /// Whether `id` is one of the special tokens.
    pub fn is_special(&self, id: u32) -> bool {
        let Special { pad, unk, cls, sep, mask } = self.special;
        [pad, cls, sep].contains(&id) || unk == Some(id) || mask == Some(id)
    }

    /// Whether `id` is a piece that goes on with a word ("##ing"). A word of byte-level BPE begins with its space,
    /// "Ġthe", or is a sign; letters without a space go on.
    pub fn continues_word(&self, id: u32) -> bool {
        let token = self.token(id);
        match self.is_bpe() {
            true => !self.is_special(id) && token.starts_with(|c: char| c.is_alphanumeric() && !SPACES.contains(&c)),
            false => token.starts_with("##"),
        }
    }

    /// Whether words are spelt by byte-pair merges, and not by WordPiece.
    pub fn is_bpe(&self) -> bool {
        matches!(self.inner.get_model(), ModelWrapper::BPE(_))
    }

    /// Whether text is lower-cased first: what `transformers` calls `do_lower_case`.
    pub fn lowercases(&self) -> bool {
        self.normalization().is_some_and(|normalization| normalization.lowercase)
    }

    /// How text is normalised; nothing for a tokenizer that has its own way, from a `tokenizer.json`.
    pub fn normalization(&self) -> Option<Normalization> {
        let bert = self.as_berts()?;
        let (lowercase, strip_accents, chinese_chars) = (bert.lowercase, bert.strip_accents, bert.handle_chinese_chars);
        Some(Normalization { lowercase, strip_accents, chinese_chars })
    }

    /// BLAKE3, in hexadecimal, of the vocabulary in the order of its ids, of the normaliser's settings, and of the
    /// tokens that are found whole. Two tokenizers with the same hash give the same ids.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// How byte-level BPE writes a space, a line's end and a tabulator.
const SPACES: [char; 3] = ['Ġ', 'Ċ', 'ĉ'];

/// The tokens that are found whole in a text, by id.
fn added_tokens(inner: &tokenizers::Tokenizer) -> Vec<(u32, AddedToken)> {
    let mut added: Vec<_> = inner.get_added_tokens_decoder().into_iter().collect();
    added.sort_unstable_by_key(|(id, _)| *id);
    added
}

/// Whether these are the special tokens alone, found as special tokens are by default.
fn is_standard(added: &[(u32, AddedToken)], names: &Names, has_mask: bool) -> bool {
    added.len() == names.iter().count() - usize::from(!has_mask && names.tokens[4].is_some())
        && added.iter().all(|(_, token)| names.has(&token.content) && *token == AddedToken::from(token.content.as_str(), true))
}

/// The ids of the special tokens. A vocabulary may lack a mask that nothing names: a causal model hides no token.
fn find_special(inner: &tokenizers::Tokenizer, names: &Names, names_mask: bool) -> Result<Special> {
    let (model, unknown) = match inner.get_model() {
        ModelWrapper::WordPiece(model) => (Some(model), Some(model.unk_token.as_str())),
        ModelWrapper::BPE(model) => (None, model.unk_token.as_deref()),
        _ => unreachable!("what is opened is WordPiece or BPE"),
    };
    let own_unknown = names.tokens[1].as_deref();
    if let Some(other) = unknown.filter(|token| Some(*token) != own_unknown) {
        let own = own_unknown.unwrap_or("no such token");
        let what = format!("the tokenizer's word for what it can't spell is `{other}`, and upstill reads {own} alone");
        return Err(Error::new(what).help("rename it in `model.unk_token` and in the vocabulary"));
    }
    // The model itself looks [UNK] up, which an added token would hide from it.
    let id = |token: &String| match model.filter(|_| Some(token.as_str()) == own_unknown) {
        Some(model) => model.token_to_id(token),
        None => inner.token_to_id(token),
    };
    let ids = names.tokens.each_ref().map(|token| token.as_ref().and_then(id));
    let is_needed = |at: usize| at < 4 || names_mask;
    let missing: Vec<&str> = (0..5).filter_map(|at| names.tokens[at].as_deref().filter(|_| ids[at].is_none())).collect();
    let lacks = (0..5).any(|at| is_needed(at) && names.tokens[at].is_some() && ids[at].is_none());
    let [pad, unk, cls, Some(sep), mask] = ids else {
        return Err(without(&missing, model.is_some()));
    };
    match lacks {
        true => Err(without(&missing, model.is_some())),
        false => Ok(Special { pad: pad.unwrap_or(sep), unk, cls: cls.unwrap_or(sep), sep, mask }),
    }
}

fn without(missing: &[&str], is_wordpiece: bool) -> Error {
    let help = if is_wordpiece { TRAIN } else { NAME_THEM };
    Error::new(format!("the vocabulary has no {}", missing.join(", "))).help(help)
}

const NAME_THEM: &str = "if it has others, name them in a tokenizer_config.json beside it, of the class PreTrainedTokenizerFast: eos_token \
                         (or sep_token), and bos_token (or cls_token), pad_token, unk_token and mask_token as far as there are such; or make a \
                         vocabulary with `upstill tokenizer train --kind bpe`";

fn content_hash(inner: &tokenizers::Tokenizer, vocab: &[String], names: &Names) -> String {
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
        // Its vocabulary and its merges, in their order.
        other => json!(other),
    };
    hasher.update(json!([normalizer, inner.get_pre_tokenizer(), settings]).to_string().as_bytes());
    for token in vocab {
        hasher.update(&(token.len() as u64).to_le_bytes()).update(token.as_bytes());
    }
    // A token that is found whole gives other ids than the same token as a piece.
    let added = added_tokens(inner);
    let has_mask = names.tokens[4].as_ref().is_some_and(|mask| inner.token_to_id(mask).is_some());
    if !is_standard(&added, names, has_mask) || !names.are_berts() {
        hasher.update(json!(added).to_string().as_bytes());
    }
    // Which token does what is no part of the vocabulary.
    if !names.are_berts() {
        hasher.update(json!(names.tokens).to_string().as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::SPECIAL_TOKENS;

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
        assert_eq!(tokenizer.special(), Special { pad: 0, unk: Some(1), cls: 2, sep: 3, mask: Some(4) });
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
