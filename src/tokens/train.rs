//! WordPiece training, as BERT's vocabulary was made by the `tokenizers` library: byte-pair merges by count over words
//! spelt with "##". The library's own trainer numbers pieces in the order of a randomly seeded hash table, so that two
//! trainings on one text give two vocabularies; this one gives the same bytes always. The library still normalises.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use rayon::prelude::*;
use tokenizers::{Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::tokenizer::{SPECIAL_TOKENS, failed};
use crate::error::{Error, Result};

/// Letters beyond this many, the rarest, are left out, as in the library's BERT trainer.
const LETTERS: usize = 1000;
/// Longer words are `[UNK]` to the model, so they teach nothing.
const WORD_CHARS: usize = 100;
/// Text counted in one go: bounds memory and feeds all cores.
const CHUNK_BYTES: usize = 8 << 20;

/// Words and how often they occur, in the order of the words.
pub(super) type WordCounts = BTreeMap<String, u64>;
type Pair = (u32, u32);

/// Counts the words of `texts` as `pipeline` normalises and splits them.
pub(super) fn count_words(texts: impl Iterator<Item = String> + Send, pipeline: &tokenizers::Tokenizer) -> Result<WordCounts> {
    let (mut counts, mut chunk, mut bytes) = (WordCounts::new(), Vec::new(), 0);
    for text in texts {
        bytes += text.len();
        chunk.push(text);
        if bytes >= CHUNK_BYTES {
            add_counts(&mut counts, &chunk, pipeline)?;
            chunk.clear();
            bytes = 0;
        }
    }
    add_counts(&mut counts, &chunk, pipeline)?;
    Ok(counts)
}

fn add_counts(counts: &mut WordCounts, texts: &[String], pipeline: &tokenizers::Tokenizer) -> Result<()> {
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    let parts: Vec<HashMap<String, u64>> =
        lines.par_chunks(64).map(|lines| count_lines(lines, pipeline)).collect::<Result<_>>()?;
    for (word, count) in parts.into_iter().flatten() {
        *counts.entry(word).or_default() += count;
    }
    Ok(())
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
pub(super) fn vocabulary(words: &WordCounts, vocab_size: usize, min_frequency: u64) -> Result<Vec<String>> {
    let letters = letters(words);
    let (mut pieces, words) = spell(words, &letters);
    if words.is_empty() {
        return Err(Error::new("there is not one word to make a vocabulary from").help("give it more text"));
    }
    if pieces.tokens.len() > vocab_size {
        let what = format!(
            "a vocabulary of {vocab_size} is too small: the special tokens and single letters are {}",
            pieces.tokens.len()
        );
        return Err(Error::new(what).help("ask for more with --vocab"));
    }
    merge(&mut pieces, words, vocab_size, min_frequency);
    Ok(pieces.tokens)
}

fn letters(words: &WordCounts) -> BTreeSet<char> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        word.chars().for_each(|letter| *counts.entry(letter).or_default() += count);
    }
    let mut by_count: Vec<_> = counts.into_iter().map(|(letter, count)| (Reverse(count), letter)).collect();
    by_count.sort_unstable();
    by_count.into_iter().take(LETTERS).map(|(_, letter)| letter).collect()
}

/// The tokens known so far, with their ids.
#[derive(Default)]
struct Pieces {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Pieces {
    fn id(&mut self, token: String) -> u32 {
        *self.ids.entry(token).or_insert_with_key(|token| {
            self.tokens.push(token.clone());
            (self.tokens.len() - 1) as u32
        })
    }
}

/// A word as the pieces that spell it so far.
struct Word {
    pieces: Vec<u32>,
    count: u64,
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

fn merge(pieces: &mut Pieces, mut words: Vec<Word>, vocab_size: usize, min_frequency: u64) {
    let mut pairs = Pairs::of(&words);
    while pieces.tokens.len() < vocab_size {
        let Some((count, pair)) = pairs.pop() else { break };
        if count < min_frequency {
            break;
        }
        let (first, second) = (&pieces.tokens[pair.0 as usize], &pieces.tokens[pair.1 as usize]);
        let token = format!("{first}{}", second.strip_prefix("##").unwrap_or(second));
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
    }
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

    #[test]
    fn the_most_frequent_pairs_become_pieces() {
        let words = counts(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]);
        let vocab = vocabulary(&words, 38, 2).unwrap();
        assert_eq!(vocab[..5], SPECIAL_TOKENS);
        insta::assert_snapshot!(vocab[5..].join(" "), @"d e i l n o r s t w ##d ##e ##i ##o ##r ##s ##t ##w ##es ##est lo low ne ##west newest wi ##dest widest ##er lower");
    }

    #[test]
    fn a_piece_can_be_spelt_in_two_ways() {
        // "abcabc" repeats a pair within a word, and "bab" rises in count after its letters were counted.
        let words = counts(&[("abcabc", 9), ("babab", 7), ("aaaa", 5), ("xabc", 4)]);
        assert_eq!(vocabulary(&words, 40, 1).unwrap(), library(&words, 40, 1));
    }

    #[test]
    fn it_agrees_with_the_library_on_text() {
        let text = include_str!("../../Cargo.lock").to_lowercase();
        let mut words = WordCounts::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && word.len() < 30) {
            *words.entry(word.to_owned()).or_default() += 1;
        }
        let (ours, theirs) = (vocabulary(&words, 500, 2).unwrap(), library(&words, 500, 2));
        assert_eq!(ours.len(), 500);
        assert_eq!(ours, theirs);
    }

    /// The library's vocabulary, whose letters are given in order so that it doesn't number them by chance.
    fn library(words: &WordCounts, vocab_size: usize, min_frequency: u64) -> Vec<String> {
        let (pieces, _) = spell(words, &letters(words));
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
