//! What every part of the tokenizer knows: special tokens, how text is normalised, the files it is kept in, its errors.

use tokenizers::normalizers::bert::BertNormalizer;

use crate::error::Error;

/// The tokens that a vocabulary has, in the order in which a new one starts; the last is for masked models alone.
pub const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// What RoBERTa (Liu et al. 2019) calls them.
pub(super) const ROBERTAS_TOKENS: [&str; 5] = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"];

/// What a tokenizer calls its special tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// In the order of [`SPECIAL_TOKENS`]; none where it has no token for that.
    pub(super) tokens: [Option<String>; 5],
    /// Whether it is a causal model's, with names of its own for what opens and ends a text (`bos_token`, `eos_token`):
    /// it says itself what is put around a text. Others put both there, as BERT does.
    pub(super) is_causal: bool,
}

impl From<[&str; 5]> for Names {
    fn from(tokens: [&str; 5]) -> Self {
        Names { tokens: tokens.map(|token| Some(token.to_owned())), is_causal: false }
    }
}

impl Names {
    /// Whether they are [`SPECIAL_TOKENS`].
    pub(super) fn are_berts(&self) -> bool {
        self.tokens.iter().map(Option::as_deref).eq(SPECIAL_TOKENS.map(Some))
    }

    /// Those that there are.
    pub(super) fn iter(&self) -> impl Iterator<Item = &String> {
        self.tokens.iter().flatten()
    }

    /// Whether a token is one of them.
    pub(super) fn has(&self, token: &str) -> bool {
        self.iter().any(|name| name == token)
    }
}

/// The files that a tokenizer's `save` writes; `vocab.txt` for WordPiece alone.
pub(super) const TOKENIZER_FILES: [&str; 3] = ["vocab.txt", "tokenizer.json", "tokenizer_config.json"];

/// The ids of the special tokens. What ends a sentence is always there; where a tokenizer names nothing else, as many
/// causal models' don't, it opens and fills rows too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// `[PAD]`: fills a row, where nobody sees it.
    pub pad: u32,
    /// `[UNK]`: a word that the pieces can't spell; none where they spell every byte.
    pub unk: Option<u32>,
    /// `[CLS]`: opens a row. Of a tokenizer that names no such token it is what ended the text before, as GPT-2 read
    /// its texts.
    pub cls: u32,
    /// `[SEP]`: ends a sentence.
    pub sep: u32,
    /// `[MASK]`: a token to be predicted; none where a model predicts what comes next.
    pub mask: Option<u32>,
}

/// How text is normalised before it is split into words: BERT's settings, by `transformers`' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normalization {
    /// Whether text is lower-cased: `do_lower_case`.
    pub lowercase: bool,
    /// Whether accents, and in other scripts signs that don't stand alone, are taken off; nothing for "as `lowercase`
    /// says".
    pub strip_accents: Option<bool>,
    /// Whether each Chinese character is a word of its own: `tokenize_chinese_chars`.
    pub chinese_chars: bool,
}

impl Default for Normalization {
    fn default() -> Self {
        Normalization { lowercase: true, strip_accents: None, chinese_chars: true }
    }
}

impl Normalization {
    pub(super) fn normalizer(self) -> BertNormalizer {
        BertNormalizer::new(true, self.chinese_chars, self.strip_accents, self.lowercase)
    }
}

pub(super) const TRAIN: &str = "make a vocabulary with `upstill tokenizer train`, or use BERT's own vocab.txt";

/// The library's errors in our words.
pub(super) fn failed(error: tokenizers::Error) -> Error {
    Error::new(format!("the tokenizer failed: {error}"))
}
