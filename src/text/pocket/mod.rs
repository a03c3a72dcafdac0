//! The pocket language: a seeded generator of English-like text whose true source is known.
//!
//! A document is a few sentences about one topic, which now and then changes. A sentence follows a grammar (`rules`)
//! over a small world (`world`):
//!
//! * **clauses**, where a verb agrees in number with a noun that may stand several phrases away, and is of that noun's
//!   class, as adjectives are: "the dogs that the girl near the barns has thanked are sleeping.";
//! * **facts** about people, the same in every text, named by one relation after another: "the boss of the mother of
//!   ben is a doctor.";
//! * **sentiment**, where "not", "but" and "although" turn things round;
//! * **hands** and **turns**, which need a state to be followed: "anna gave the key to ben, ben gave ...".
//!
//! Most words are settled by other words far away and through several steps, so deeper models reach a lower loss. The
//! grammar knows its own probabilities, so the loss of an ideal reader is known too: [`Pocket::source_loss`].

pub mod grammar;
pub mod inside;
mod rules;
pub mod world;

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use grammar::{Grammar, Symbol, below, uniform};
pub use inside::Channel;
use inside::{Reader, Seen};
use rules::TOPICS;
pub use rules::{AUXILIARIES, NUMBERS};

static GRAMMAR: LazyLock<Grammar> = LazyLock::new(rules::grammar);

/// How often a sentence keeps the topic of the one before; otherwise it draws any topic, the old one included.
const SAME_TOPIC: f64 = 0.8;
/// The least and the most sentences of a document.
const SENTENCES: (usize, usize) = (4, 12);
/// The stream of random numbers that [`Pocket::source_loss`] uses, which no document has.
const SOURCE_STREAM: u64 = u64::MAX;

/// The pocket language, as drawn from one seed. The language and its world are the same for every seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pocket {
    /// Draws the text.
    pub seed: u64,
}

/// Some sentences that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its sentences in order, each with its full stop.
    pub sentences: Vec<String>,
}

/// A mean with its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean, in nats per masked word.
    pub mean: f64,
    /// One standard error of the mean, over sentences.
    pub standard_error: f64,
    /// How many words the mean is over.
    pub tokens: usize,
}

/// What an ideal reader loses on the pocket language under BERT's masking, measured once: [`Pocket::source_loss`] of
/// seed 0, 20,000 sentences and the default channel. The language is the same for every seed, so this holds for all of
/// them.
pub fn source_loss() -> Estimate {
    Estimate { mean: 0.782_379, standard_error: 0.003_716, tokens: 215_280 }
}

impl Pocket {
    /// The text of this seed.
    pub fn new(seed: u64) -> Self {
        Pocket { seed }
    }

    /// Document `index`: a function of the seed and the index alone.
    pub fn document(&self, index: u64) -> Document {
        let rng = &mut self.stream(index);
        let mut topic = below(rng, TOPICS);
        let sentences = (0..SENTENCES.0 + below(rng, SENTENCES.1 - SENTENCES.0 + 1)).map(|_| {
            if uniform(rng) >= SAME_TOPIC {
                topic = below(rng, TOPICS);
            }
            write(&draw(&format!("S.{topic}"), rng))
        });
        Document { sentences: sentences.collect() }
    }

    /// What an ideal reader loses in nats a masked word: it knows the grammar and the channel, sees one corrupted
    /// sentence at a time, and gives each word its true probability. Exact for each sentence, and estimated over this
    /// many of them, drawn from the seed; at least 2 are.
    ///
    /// Its unit is the language's own words and punctuation marks, so compare it with models whose vocabulary holds
    /// each of [`words`] whole and that mask each place with the same chance. A vocabulary that splits words spreads a
    /// word's loss over its pieces, and the means are then not comparable.
    pub fn source_loss(&self, sentences: usize, channel: Channel) -> Estimate {
        let start = symbol("S");
        let reader = Reader::new(&GRAMMAR, start);
        let rng = &mut self.stream(SOURCE_STREAM);
        let drawn: Vec<(Vec<u16>, Vec<Seen>)> = (0..sentences.max(2))
            .map(|_| {
                let mut truth = Vec::new();
                GRAMMAR.draw(start, rng, &mut truth);
                let seen = truth.iter().map(|&word| corrupt(word, channel, rng)).collect();
                (truth, seen)
            })
            .collect();
        // What a place shows is averaged over, not drawn; so every place of a sentence counts, not only the chosen
        // ones.
        let lost: Vec<(f64, usize)> = drawn
            .par_iter()
            .map(|(truth, seen)| {
                let contexts =
                    reader.contexts(seen, channel).expect("the grammar made this sentence, so it can make one of its length");
                (truth.iter().zip(&contexts).map(|(&word, context)| channel.loss(context, word)).sum(), truth.len())
            })
            .collect();
        estimate(&lost)
    }

    fn stream(&self, index: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        rng
    }
}

/// Every word and punctuation mark of the language, sorted: what a vocabulary must hold.
pub fn words() -> Vec<&'static str> {
    GRAMMAR.words().iter().map(String::as_str).collect()
}

/// Draws what a symbol of the grammar becomes, word by word: for tasks, which put phrases together in their own ways.
pub(crate) fn draw(name: &str, rng: &mut ChaCha8Rng) -> Vec<&'static str> {
    let mut out = Vec::new();
    GRAMMAR.draw(symbol(name), rng, &mut out);
    out.into_iter().map(|word| GRAMMAR.words()[usize::from(word)].as_str()).collect()
}

/// A word of the language, as its own list has it.
pub(crate) fn known(word: &str) -> &'static str {
    let word = GRAMMAR.word(word).unwrap_or_else(|| panic!("the pocket language has no word {word}"));
    GRAMMAR.words()[usize::from(word)].as_str()
}

/// Words as text: punctuation joins the word before it.
pub(crate) fn write(words: &[&str]) -> String {
    words.join(" ").replace(" ,", ",").replace(" .", ".")
}

fn symbol(name: &str) -> Symbol {
    GRAMMAR.symbol(name).unwrap_or_else(|| panic!("the pocket language has no symbol {name}"))
}

/// What is shown in place of a word that may be chosen.
fn corrupt(word: u16, channel: Channel, rng: &mut ChaCha8Rng) -> Seen {
    if uniform(rng) >= channel.rate {
        return Some(word);
    }
    match uniform(rng) {
        u if u < channel.hidden => None,
        u if u < channel.hidden + channel.replaced => Some(below(rng, GRAMMAR.words().len()) as u16),
        _ => Some(word),
    }
}

/// The mean a word over sentences of (sum, words), with the standard error of that ratio.
fn estimate(lost: &[(f64, usize)]) -> Estimate {
    let (sum, tokens) = lost.iter().fold((0.0, 0), |(sum, tokens), &(l, n)| (sum + l, tokens + n));
    let mean = sum / tokens as f64;
    let squares: f64 = lost.iter().map(|&(l, n)| (l - mean * n as f64).powi(2)).sum();
    let count = lost.len() as f64;
    Estimate { mean, standard_error: (squares * count / (count - 1.0)).sqrt() / tokens as f64, tokens }
}

#[cfg(test)]
mod tests;
