//! The pocket language as shards in memory: the data named `pocket`.

use std::collections::HashMap;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::{Shards, Tokenizer};
use crate::error::Result;
use crate::text::pocket::{Pocket, words};

/// Documents trained on, and held out after them.
const DOCUMENTS: [u64; 2] = [20_000, 1_000];
/// Draws the text; the language itself is the same for every seed.
const SEED: u64 = 2023;

/// The pocket language: its vocabulary (every word whole), a training split and a held-out split. Made once a process.
///
/// # Errors
/// None in practice; what [`Tokenizer::train`] says.
pub fn pocket_shards() -> Result<Shards> {
    static SHARDS: OnceLock<Result<Shards>> = OnceLock::new();
    SHARDS.get_or_init(make).clone()
}

fn make() -> Result<Shards> {
    let pocket = Pocket::new(SEED);
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), VOCABULARY, 1)?;
    let ids = WordIds::new(&tokenizer)?;
    let encode = |from: u64, to: u64| -> Result<Vec<Vec<u32>>> {
        let document = |index| pocket.document(index).sentences.iter().map(|sentence| ids.encode(sentence)).collect();
        let documents = (from..to).into_par_iter().map(document).collect::<Result<Vec<Vec<_>>>>()?;
        Ok(documents.into_iter().flatten().collect())
    };
    let [train, held_out] = DOCUMENTS;
    let (train, held_out) = (encode(0, train)?, encode(train, train + held_out)?);
    Ok(Shards::from_sentences(tokenizer, train, held_out))
}

/// The tokens of each word of the language: looked up, not worked out again for each of its hundred thousands of
/// sentences.
struct WordIds<'a> {
    tokenizer: &'a Tokenizer,
    ids: HashMap<&'static str, Vec<u32>>,
}

impl<'a> WordIds<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Result<Self> {
        let ids = words().into_iter().map(|word| Ok((word, tokenizer.encode(word)?))).collect::<Result<_>>()?;
        Ok(Self { tokenizer, ids })
    }

    /// As [`Tokenizer::encode`], which also splits at spaces and before punctuation.
    fn encode(&self, sentence: &str) -> Result<Vec<u32>> {
        let mut out = Vec::new();
        for word in sentence.split(' ') {
            let (word, mark) = word.split_at(word.trim_end_matches(['.', ',']).len());
            for part in [word, mark].into_iter().filter(|part| !part.is_empty()) {
                match self.ids.get(part) {
                    Some(ids) => out.extend(ids),
                    None => out.extend(self.tokenizer.encode(part)?),
                }
            }
        }
        Ok(out)
    }
}

/// Room for every word and the letters it is made of.
const VOCABULARY: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_language_is_one_token() {
        let shards = pocket_shards().unwrap();
        let split: Vec<&str> = words().into_iter().filter(|word| shards.tokenizer().encode(word).unwrap().len() != 1).collect();
        assert!(split.is_empty(), "{split:?}");
        assert!(shards.held_out().len() > 1_000);
    }

    #[test]
    fn looked_up_tokens_are_the_tokenizers() {
        let shards = pocket_shards().unwrap();
        let ids = WordIds::new(shards.tokenizer()).unwrap();
        for sentence in
            (0..300).flat_map(|index| Pocket::new(SEED).document(index).sentences).chain(["a  strange, word..".into()])
        {
            assert_eq!(ids.encode(&sentence).unwrap(), shards.tokenizer().encode(&sentence).unwrap(), "{sentence}");
        }
    }
}
