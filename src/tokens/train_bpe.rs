//! Byte-level BPE training (Sennrich et al. 2016; Radford et al. 2019), as ModernBERT's vocabulary was made: words are
//! split by GPT-2's pattern, spelt in 256 bytes, and merged by falling count. The merges are those of [`super::train`],
//! so that one text gives the same bytes always; nothing is ever unknown.

use std::collections::BTreeSet;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::open::Opened;
use super::special::{Names, SPECIAL_TOKENS, failed};
use super::train::{Pair, Pieces, WORD_CHARS, Word, WordCounts, count, merge};
use crate::error::{Error, Result};

/// How a byte-level vocabulary is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpeOptions {
    /// How many tokens the vocabulary has at most.
    pub vocab_size: usize,
    /// How often a piece must occur.
    pub min_frequency: u64,
}

/// A tokenizer over the pieces of `texts`: the special tokens first, then bytes, then merges.
pub(super) fn train(texts: impl Iterator<Item = String> + Send, options: &BpeOptions) -> Result<Opened> {
    let (words, _) = count(texts, &pipeline(BPE::default()), false)?;
    if words.is_empty() {
        return Err(Error::new("there is not one word to make a vocabulary from").help("give it more text"));
    }
    let (mut pieces, spelt) = spell(&words);
    if pieces.tokens.len() > options.vocab_size {
        let what =
            format!("a vocabulary of {} is too small: special tokens and bytes are {}", options.vocab_size, pieces.tokens.len());
        return Err(Error::new(what).help("ask for more with --vocab"));
    }
    let merges = merge(&mut pieces, spelt, options.vocab_size, options.min_frequency, "");
    let names = Names::from(SPECIAL_TOKENS);
    Ok(Opened { inner: pipeline(model(&pieces, merges)?), added: special(), names, names_mask: true })
}

/// The special tokens, with the ids that they have. A mask takes the space before it along, as ModernBERT's does: it
/// stands for a word.
fn special() -> Vec<(Option<u32>, AddedToken)> {
    let token = |token: &str| AddedToken::from(token, true).lstrip(token == "[MASK]");
    (0..).map(Some).zip(SPECIAL_TOKENS.map(token)).collect()
}

/// ModernBERT's: composed characters, GPT-2's words, bytes as letters.
fn pipeline(model: BPE) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(NFC)).expect("there are no added tokens to normalise");
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true))).with_decoder(Some(ByteLevel::default()));
    inner
}

fn spell(words: &WordCounts) -> (Pieces, Vec<Word>) {
    let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let mut pieces = Pieces::default();
    for token in SPECIAL_TOKENS.iter().map(|token| (*token).to_owned()).chain(bytes.into_iter().map(String::from)) {
        pieces.id(token);
    }
    let usable = words.iter().filter(|(word, _)| word.chars().count() <= WORD_CHARS);
    let spelt = usable.map(|(word, count)| {
        let pieces = word.chars().map(|letter| pieces.id(letter.to_string())).collect();
        Word { pieces, count: *count }
    });
    let spelt = spelt.collect();
    (pieces, spelt)
}

fn model(pieces: &Pieces, merges: Vec<Pair>) -> Result<BPE> {
    let token = |id: u32| pieces.tokens[id as usize].clone();
    let vocab = pieces.tokens.iter().cloned().zip(0..).collect();
    let merges = merges.into_iter().map(|(first, second)| (token(first), token(second))).collect();
    BPE::builder().vocab_and_merges::<Vocab>(vocab, merges).build().map_err(failed)
}

#[cfg(test)]
mod tests {
    use tokenizers::models::bpe::BpeTrainer;
    use tokenizers::{Model as _, models::TrainerWrapper};

    use super::*;
    use crate::tokens::Tokenizer;

    /// Sentences with many pairs of equal counts, accents that compose, and bytes of several scripts.
    fn texts() -> Vec<String> {
        let words = ["the", "cat", "sat", "café", "cafe\u{301}", "unhappy", "happily", "中文", "naïve,", "don't", "42", "😀"];
        (0..400).map(|i| (0..7).map(|j| words[(i * 7 + j * (i % 5 + 1)) % words.len()]).collect::<Vec<_>>().join(" ")).collect()
    }

    fn trained(vocab_size: usize) -> Tokenizer {
        Tokenizer::train_bpe(texts().into_iter(), &BpeOptions { vocab_size, min_frequency: 2 }).unwrap()
    }

    #[test]
    fn merges_are_those_of_the_library() {
        let mut theirs = pipeline(BPE::default());
        let special = SPECIAL_TOKENS.map(|token| AddedToken::from(token, true));
        let trainer = BpeTrainer::builder().vocab_size(330).min_frequency(2).show_progress(false);
        let trainer =
            trainer.special_tokens(special.to_vec()).initial_alphabet(ByteLevel::alphabet().into_iter().collect()).build();
        theirs.train(&mut TrainerWrapper::from(trainer), texts().into_iter()).unwrap();
        let ours = trained(330);
        assert_eq!(ours.vocab_size(), theirs.get_model().get_vocab_size());
        for (token, id) in theirs.get_model().get_vocab() {
            assert_eq!(ours.id(&token), Some(id), "{token}");
        }
        for text in texts() {
            assert_eq!(ours.encode(&text).unwrap(), theirs.encode_fast(text.as_str(), false).unwrap().get_ids(), "{text}");
        }
    }

    #[test]
    fn one_text_gives_one_tokenizer_to_which_nothing_is_unknown() {
        let (first, second) = (trained(300), trained(300));
        assert_eq!(first.files().unwrap(), second.files().unwrap());
        assert!(first.is_bpe() && !first.files().unwrap().contains_key("vocab.txt"));
        let text = "A [MASK] of ζ \u{1F600} and café\ttabs";
        let ids = first.encode(text).unwrap();
        assert!(!ids.contains(&first.special().unk.unwrap()) && ids.contains(&first.special().mask.unwrap()));
        assert_eq!(first.decode(&first.encode("naïve ζ, 中 \u{1F600}").unwrap()), "naïve ζ, 中 \u{1F600}");
        assert_eq!(first.hash(), Tokenizer::from_bytes(&first.files().unwrap()["tokenizer.json"]).unwrap().hash());
        let other =
            Tokenizer::train_bpe(texts().into_iter().take(50), &BpeOptions { vocab_size: 300, min_frequency: 2 }).unwrap();
        assert_ne!(first.hash(), other.hash());
    }

    #[test]
    fn what_cannot_be_trained_is_said() {
        let of = |texts: Vec<String>, vocab_size| {
            Tokenizer::train_bpe(texts.into_iter(), &BpeOptions { vocab_size, min_frequency: 1 }).unwrap_err().to_string()
        };
        assert!(of(vec![], 300).contains("not one word"));
        assert!(of(texts(), 100).contains("special tokens and bytes are 261"));
    }
}
