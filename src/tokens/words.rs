//! A vocabulary of words: text in lower case, split at white space (the tokenizer of the RNN encoder in Mukherjee and
//! Awadallah 2019).

use std::collections::HashMap;

/// Padding.
const PAD: &str = "[PAD]";
/// Stands for every word that is not in the vocabulary.
const UNKNOWN: &str = "[UNK]";
/// Between the two texts of a pair.
const SEPARATOR: &str = "[SEP]";

/// Words by number: `[PAD]`, `[UNK]`, `[SEP]`, then words from the most frequent on.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Words {
    /// The `most` most frequent words of some texts; equally frequent ones in the alphabet's order.
    pub fn count<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> Self {
        let mut counts: HashMap<String, u64> = HashMap::new();
        for word in texts.flat_map(str::split_whitespace) {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
        let mut counted: Vec<(String, u64)> = counts.into_iter().collect();
        counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let special = [PAD, UNKNOWN, SEPARATOR].map(str::to_owned);
        Self::new(special.into_iter().chain(counted.into_iter().map(|(word, _)| word).take(most)).collect())
    }

    /// Words by number, the first three the special ones, as [`Words::vocab`] gives them.
    pub fn new(words: Vec<String>) -> Self {
        let ids = words.iter().enumerate().map(|(id, word)| (word.clone(), id as u32)).collect();
        Self { words, ids }
    }

    /// The numbers of a text's words.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        text.split_whitespace().map(|word| self.ids.get(&word.to_lowercase()).copied().unwrap_or(1)).collect()
    }

    /// Every word, in the numbers' order.
    pub fn vocab(&self) -> &[String] {
        &self.words
    }

    /// The number of padding.
    pub fn pad(&self) -> u32 {
        0
    }

    /// The number of what stands between the two texts of a pair.
    pub fn separator(&self) -> u32 {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_lower_case_and_unknown_ones_are_one() {
        let words = Words::count(["The cat sat.", "the dog  sat. \n THE b"].into_iter(), 3);
        assert_eq!(words.vocab(), ["[PAD]", "[UNK]", "[SEP]", "the", "sat.", "b"]);
        assert_eq!(words.encode("The b cat"), [3, 5, 1]);
        assert_eq!(words.encode("  "), [] as [u32; 0]);
    }
}
