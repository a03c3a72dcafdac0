//! WordPiece training, as BERT's vocabulary was made by the `tokenizers` library: byte-pair merges by count over words
//! spelt with "##". The library's own trainer numbers pieces in the order of a randomly seeded hash table, so that two
//! trainings on one text give two vocabularies; this one gives the same bytes always. The library still normalises.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use rayon::prelude::*;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::{NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::open::berts;
use super::special::{Normalization, SPECIAL_TOKENS, failed};
use crate::error::{Error, Result};

/// Longer words are `[UNK]` to the model, so they teach nothing.
pub(super) const WORD_CHARS: usize = 100;
/// Text counted in one go: bounds memory and feeds all cores.
const CHUNK_BYTES: usize = 8 << 20;

/// Words and how often they occur, in the order of the words.
pub(super) type WordCounts = BTreeMap<String, u64>;
pub(super) type Pair = (u32, u32);

/// How a vocabulary is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainOptions {
    /// How many tokens the vocabulary has at most.
    pub vocab_size: usize,
    /// How often a piece must occur.
    pub min_frequency: u64,
    /// How many letters (characters, to be exact) the vocabulary spells words in; rarer ones are left out.
    pub alphabet: usize,
    /// How text is normalised, here and wherever the tokenizer is used.
    pub normalization: Normalization,
}

impl Default for TrainOptions {
    /// BERT's size, and the alphabet of the library's BERT trainer.
    fn default() -> Self {
        TrainOptions { vocab_size: 30522, min_frequency: 2, alphabet: 1000, normalization: Normalization::default() }
    }
}

/// How much of a text a vocabulary's letters cover. Letters are all characters of its words, signs and digits too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Letters in the text, as the vocabulary sees it.
    pub letters: u64,
    /// Of those, in the vocabulary's alphabet.
    pub covered: u64,
    /// Different letters in the text.
    pub different: usize,
    /// How many of them, the most frequent, cover 999 of 1,000 letters.
    pub enough: usize,
    /// Accents and other signs that normalisation took off before: they are none of the letters.
    pub stripped: u64,
}

impl Coverage {
    /// The share of letters that the alphabet covers, 0 to 1.
    pub fn covered_share(&self) -> f64 {
        self.covered as f64 / self.letters.max(1) as f64
    }

    /// Signs that were taken off, as a share of the letters and signs of the text, 0 to 1.
    pub fn stripped_share(&self) -> f64 {
        self.stripped as f64 / (self.letters + self.stripped).max(1) as f64
    }
}

/// A vocabulary of the words of `texts`, and how much of them its letters cover.
pub(super) fn train(texts: impl Iterator<Item = String> + Send, options: &TrainOptions) -> Result<(Vec<String>, Coverage)> {
    let (words, stripped) = count_words(texts, options.normalization)?;
    let (letters, coverage) = letters(&words, options.alphabet);
    let vocab = vocabulary(&words, &letters, options.vocab_size, options.min_frequency)?;
    Ok((vocab, Coverage { stripped, ..coverage }))
}

/// Counts the words of `texts`, normalised and split as BERT does, and the signs that normalisation takes off.
fn count_words(texts: impl Iterator<Item = String> + Send, normalization: Normalization) -> Result<(WordCounts, u64)> {
    let strips = normalization.strip_accents.unwrap_or(normalization.lowercase);
    count(texts, &berts(WordPiece::default(), normalization), strips)
}

/// Counts the words that a pipeline splits `texts` into, and, where asked, the signs that BERT's normalisation takes
/// off.
pub(super) fn count(
    texts: impl Iterator<Item = String> + Send,
    pipeline: &tokenizers::Tokenizer,
    strips: bool,
) -> Result<(WordCounts, u64)> {
    let (mut counts, mut stripped, mut chunk, mut bytes) = (WordCounts::new(), 0, Vec::new(), 0);
    let mut add = |chunk: &[String]| -> Result<()> {
        let lines: Vec<&str> = chunk.iter().flat_map(|text| text.lines()).collect();
        let count = |lines: &[&str]| Ok((count_lines(lines, pipeline)?, if strips { count_stripped(lines)? } else { 0 }));
        let parts: Vec<(HashMap<String, u64>, u64)> = lines.par_chunks(64).map(count).collect::<Result<_>>()?;
        for (words, signs) in parts {
            stripped += signs;
            for (word, count) in words {
                *counts.entry(word).or_default() += count;
            }
        }
        Ok(())
    };
    for text in texts {
        bytes += text.len();
        chunk.push(text);
        if bytes >= CHUNK_BYTES {
            add(&chunk)?;
            chunk.clear();
            bytes = 0;
        }
    }
    add(&chunk)?;
    Ok((counts, stripped))
}

/// How many signs BERT's normalisation takes off these lines: accents, and in other scripts vowels that don't stand
/// alone.
fn count_stripped(lines: &[&str]) -> Result<u64> {
    let strip = BertNormalizer::new(false, false, Some(true), false);
    let mut signs = 0;
    for line in lines.iter().filter(|line| !line.is_ascii()) {
        let mut whole = NormalizedString::from(*line);
        let before = whole.nfd().get().chars().count();
        strip.normalize(&mut whole).map_err(failed)?;
        signs += (before - whole.get().chars().count()) as u64;
    }
    Ok(signs)
}

fn count_lines(lines: &[&str], pipeline: &tokenizers::Tokenizer) -> Result<HashMap<String, u64>> {
    let mut counts = HashMap::new();
    for line in lines {
        let mut text = PreTokenizedString::from(*line);
        if let Some(normalizer) = pipeline.get_normalizer() {
            text.normalize(|piece| normalizer.normalize(piece)).map_err(failed)?;
        }
        if let Some(splitter) = pipeline.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut text).map_err(failed)?;
        }
        for (word, ..) in text.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(word.to_owned(), 1);
                }
            }
        }
    }
    Ok(counts)
}

/// The vocabulary: special tokens, letters, letters within words ("##e"), then merges by falling count; among equal
/// counts the pair that was known first.
fn vocabulary(words: &WordCounts, letters: &BTreeSet<char>, vocab_size: usize, min_frequency: u64) -> Result<Vec<String>> {
    let (mut pieces, spelt) = spell(words, letters);
    if spelt.is_empty() && !words.is_empty() {
        let what = format!("not one word can be spelt in the {} letters of the alphabet", letters.len());
        return Err(Error::new(what).help("ask for more with --alphabet"));
    }
    if spelt.is_empty() {
        return Err(Error::new("there is not one word to make a vocabulary from").help("give it more text"));
    }
    if pieces.tokens.len() > vocab_size {
        let what = format!(
            "a vocabulary of {vocab_size} is too small: the special tokens and single letters are {}",
            pieces.tokens.len()
        );
        return Err(Error::new(what).help("ask for more with --vocab"));
    }
    merge(&mut pieces, spelt, vocab_size, min_frequency, "##");
    Ok(pieces.tokens)
}

/// The `most` most frequent letters of the words, and what share they are.
fn letters(words: &WordCounts, most: usize) -> (BTreeSet<char>, Coverage) {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        word.chars().for_each(|letter| *counts.entry(letter).or_default() += count);
    }
    let mut by_count: Vec<_> = counts.into_iter().map(|(letter, count)| (Reverse(count), letter)).collect();
    by_count.sort_unstable();
    let sum = |counts: &[(Reverse<u64>, char)]| counts.iter().map(|(Reverse(count), _)| count).sum();
    let kept = &by_count[..most.min(by_count.len())];
    let all: u64 = sum(&by_count);
    let mut rest = all;
    let enough = by_count.iter().take_while(|(Reverse(count), _)| {
        let goes_on = rest * 1000 > all;
        rest -= count;
        goes_on
    });
    let enough = enough.count();
    let coverage = Coverage { letters: all, covered: sum(kept), different: by_count.len(), enough, stripped: 0 };
    (kept.iter().map(|(_, letter)| *letter).collect(), coverage)
}

/// The tokens known so far, with their ids.
#[derive(Default)]
pub(super) struct Pieces {
    pub tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Pieces {
    pub fn id(&mut self, token: String) -> u32 {
        *self.ids.entry(token).or_insert_with_key(|token| {
            self.tokens.push(token.clone());
            (self.tokens.len() - 1) as u32
        })
    }
}

/// A word as the pieces that spell it so far.
pub(super) struct Word {
    pub pieces: Vec<u32>,
    pub count: u64,
}

/// Spells every word in single letters; words with a letter that was left out, or too long, are dropped.
fn spell(words: &WordCounts, letters: &BTreeSet<char>) -> (Pieces, Vec<Word>) {
    let usable = |word: &str| word.chars().count() <= WORD_CHARS && word.chars().all(|letter| letters.contains(&letter));
    let words: Vec<_> = words.iter().filter(|(word, _)| usable(word)).collect();
    let within: BTreeSet<char> = words.iter().flat_map(|(word, _)| word.chars().skip(1)).collect();
    let special = SPECIAL_TOKENS.iter().map(|token| (*token).to_owned());
    let mut pieces = Pieces::default();
    for token in special.chain(letters.iter().map(char::to_string)).chain(within.iter().map(|letter| format!("##{letter}"))) {
        pieces.id(token);
    }
    let spelt = words.iter().map(|(word, count)| {
        let spelling =
            word.chars().enumerate().map(|(i, letter)| if i == 0 { letter.to_string() } else { format!("##{letter}") });
        Word { pieces: spelling.map(|piece| pieces.id(piece)).collect(), count: **count }
    });
    let spelt = spelt.collect();
    (pieces, spelt)
}

/// Pairs of neighbouring pieces: how often each occurs, and in which words it was ever seen.
#[derive(Default)]
struct Pairs {
    counts: HashMap<Pair, u64>,
    words: HashMap<Pair, Vec<u32>>,
    /// The most frequent pair on top, the smaller ids first among equals. Counts may be out of date.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Pairs {
    fn of(words: &[Word]) -> Self {
        let mut pairs = Pairs::default();
        for (i, word) in words.iter().enumerate() {
            for pair in neighbours(&word.pieces) {
                *pairs.counts.entry(pair).or_default() += word.count;
                pairs.words.entry(pair).or_default().push(i as u32);
            }
        }
        pairs.queue = pairs.counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).collect();
        pairs
    }

    /// The most frequent pair, and its count.
    fn pop(&mut self) -> Option<(u64, Pair)> {
        loop {
            let (count, Reverse(pair)) = self.queue.pop()?;
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == count && now > 0 {
                return Some((count, pair));
            }
            // Only fallen counts are found late: risen ones were pushed when they rose.
            if now > 0 && now < count {
                self.queue.push((now, Reverse(pair)));
            }
        }
    }

    /// Replaces `word`'s pieces by `merged`, and notes in `risen` the pairs with the new piece `id`: only they can have
    /// become more frequent.
    fn respell(&mut self, i: u32, word: &mut Word, merged: Vec<u32>, id: u32, risen: &mut BTreeSet<Pair>) {
        let before = std::mem::replace(&mut word.pieces, merged);
        for pair in neighbours(&before) {
            *self.counts.get_mut(&pair).expect("every neighbouring pair was counted") -= word.count;
        }
        for pair in neighbours(&word.pieces) {
            *self.counts.entry(pair).or_default() += word.count;
            if pair.0 == id || pair.1 == id {
                risen.insert(pair);
                self.words.entry(pair).or_default().push(i);
            }
        }
    }
}

fn neighbours(pieces: &[u32]) -> impl Iterator<Item = Pair> {
    pieces.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Merges by falling count until there are so many pieces or none is frequent enough: the pairs that were merged, in
/// their order. `within` is what a piece begins with where it goes on with a word; nothing where pieces are joined as
/// they are.
pub(super) fn merge(pieces: &mut Pieces, mut words: Vec<Word>, vocab_size: usize, min_frequency: u64, within: &str) -> Vec<Pair> {
    let (mut pairs, mut done) = (Pairs::of(&words), Vec::new());
    while pieces.tokens.len() < vocab_size {
        let Some((count, pair)) = pairs.pop() else { break };
        let merged_pair = pair;
        if count < min_frequency {
            break;
        }
        let (first, second) = (&pieces.tokens[pair.0 as usize], &pieces.tokens[pair.1 as usize]);
        let token = format!("{first}{}", second.strip_prefix(within).unwrap_or(second));
        let id = pieces.id(token);
        let mut where_seen = pairs.words.remove(&pair).unwrap_or_default();
        where_seen.dedup();
        let mut risen = BTreeSet::new();
        for i in where_seen {
            let word = &mut words[i as usize];
            let merged = merged(&word.pieces, pair, id);
            pairs.respell(i, word, merged, id, &mut risen);
        }
        pairs.counts.remove(&pair);
        for pair in risen {
            pairs.queue.push((pairs.counts[&pair], Reverse(pair)));
        }
        done.push(merged_pair);
    }
    done
}

/// `pieces` with each occurrence of `pair`, from the left, replaced by `id`.
fn merged(pieces: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(pieces.len());
    let mut rest = pieces;
    while let [first, tail @ ..] = rest {
        if *first == pair.0 && tail.first() == Some(&pair.1) {
            out.push(id);
            rest = &tail[1..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
    use tokenizers::{AddedToken, Model as _, Trainer as _};

    use super::*;

    fn counts(words: &[(&str, u64)]) -> WordCounts {
        words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
    }

    fn of(words: &WordCounts, vocab_size: usize, min_frequency: u64) -> Vec<String> {
        vocabulary(words, &letters(words, 1000).0, vocab_size, min_frequency).unwrap()
    }

    #[test]
    fn the_most_frequent_pairs_become_pieces() {
        let words = counts(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]);
        let vocab = of(&words, 38, 2);
        assert_eq!(vocab[..5], SPECIAL_TOKENS);
        insta::assert_snapshot!(vocab[5..].join(" "), @"d e i l n o r s t w ##d ##e ##i ##o ##r ##s ##t ##w ##es ##est lo low ne ##west newest wi ##dest widest ##er lower");
    }

    #[test]
    fn a_piece_can_be_spelt_in_two_ways() {
        // "abcabc" repeats a pair within a word, and "bab" rises in count after its letters were counted.
        let words = counts(&[("abcabc", 9), ("babab", 7), ("aaaa", 5), ("xabc", 4)]);
        assert_eq!(of(&words, 40, 1), library(&words, 40, 1));
    }

    fn trained(text: &str, options: &TrainOptions) -> (Vec<String>, Coverage) {
        train(text.lines().map(str::to_owned), &TrainOptions { vocab_size: 100, min_frequency: 1, ..*options }).unwrap()
    }

    #[test]
    fn letters_that_are_left_out_and_signs_that_are_taken_off_are_counted() {
        let few = TrainOptions { alphabet: 2, ..TrainOptions::default() };
        let (vocab, coverage) = trained("aaa bb c", &few);
        assert_eq!(coverage, Coverage { letters: 6, covered: 5, different: 3, enough: 3, stripped: 0 });
        let (_, coverage) = trained(&format!("{} a", "b".repeat(5000)), &few);
        assert_eq!((coverage.different, coverage.enough), (2, 1));
        assert!(!vocab.contains(&"c".to_owned()), "{vocab:?}");
        // Of the six characters of a Hindi word one sign doesn't stand alone, the virama; é has one more.
        let (vocab, coverage) = trained("\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} caf\u{e9}", &TrainOptions::default());
        assert_eq!((coverage.stripped, coverage.letters), (2, 9), "{vocab:?}");
        let keep = Normalization { strip_accents: Some(false), ..Normalization::default() };
        let (vocab, coverage) = trained("Caf\u{e9}", &TrainOptions { normalization: keep, ..TrainOptions::default() });
        assert!(coverage.stripped == 0 && vocab.contains(&"caf\u{e9}".to_owned()), "{vocab:?}");
        let cased = Normalization { lowercase: false, ..Normalization::default() };
        let (vocab, coverage) = trained("Caf\u{e9}", &TrainOptions { normalization: cased, ..TrainOptions::default() });
        assert!(coverage.stripped == 0 && vocab.contains(&"Caf\u{e9}".to_owned()), "{vocab:?}");
    }

    #[test]
    fn it_agrees_with_the_library_on_text() {
        let text = include_str!("../../Cargo.lock").to_lowercase();
        let mut words = WordCounts::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && word.len() < 30) {
            *words.entry(word.to_owned()).or_default() += 1;
        }
        let (ours, theirs) = (of(&words, 500, 2), library(&words, 500, 2));
        assert_eq!(ours.len(), 500);
        assert_eq!(ours, theirs);
    }

    /// The library's vocabulary, whose letters are given in order so that it doesn't number them by chance.
    fn library(words: &WordCounts, vocab_size: usize, min_frequency: u64) -> Vec<String> {
        let (pieces, _) = spell(words, &letters(words, 1000).0);
        let known = pieces.tokens.iter().map(|token| AddedToken::from(token.clone(), false)).collect();
        let mut trainer = WordPieceTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(min_frequency)
            .special_tokens(known)
            .show_progress(false)
            .build();
        let text = words.iter().flat_map(|(word, count)| std::iter::repeat_n(word, *count as usize));
        trainer.feed(text, |word| Ok(vec![word.to_owned()])).unwrap();
        let mut model = WordPiece::default();
        trainer.train(&mut model).unwrap();
        let mut vocab: Vec<_> = model.get_vocab().into_iter().map(|(token, id)| (id, token)).collect();
        vocab.sort();
        vocab.into_iter().map(|(_, token)| token).collect()
    }
}
