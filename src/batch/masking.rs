//! Dynamic masking: which tokens of a sentence are hidden, and what stands in their place.
//!
//! * How many, and 80/10/10: BERT (Devlin et al. 2019, A.1; `create_masked_lm_predictions` of google-research/bert).
//! * Anew in every epoch: RoBERTa (Liu et al. 2019, 4.1).
//! * Whole words: the same code of BERT: words in random order, one that would exceed the count is passed over.
//! * Rare tokens first: XLM (Lample and Conneau 2019) and DistilBERT's script, P(token) ~ count^-0.7; drawn without
//!   replacement by exponential keys (Efraimidis and Spirakis 2006). DistilBERT's script draws over a whole batch; here
//!   each sentence draws its own, so that its mask doesn't depend on its neighbours.
//!
//! The generator is keyed by (seed, epoch, sentence): a sentence has the same mask alone in a row and packed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::pieces::Piece;
use crate::error::{Error, Result};
use crate::tokens::Shards;

/// How tokens are chosen for masking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// Share of a sentence's tokens that is masked, above 0 and at most 1; 0.15 in BERT.
    pub rate: f64,
    /// Mask a word's pieces together or not at all.
    pub whole_word: bool,
    /// 0 chooses uniformly; above 0 a token is chosen with probability ~ count^-rarity (0.7 in XLM and DistilBERT).
    pub rarity: f64,
}

impl Default for Masking {
    fn default() -> Self {
        Self { rate: 0.15, whole_word: false, rarity: 0.0 }
    }
}

impl Masking {
    /// Masked positions of a sentence of `tokens` tokens, special ones not counted: the rate rounded (halves to even,
    /// as BERT's code does), at least 1, at most all.
    pub fn count(&self, tokens: usize) -> usize {
        let share = (self.rate * tokens as f64).round_ties_even() as usize;
        share.max(1).min(tokens)
    }

    pub(super) fn check(&self) -> Result<()> {
        if !(self.rate > 0.0 && self.rate <= 1.0) {
            return Err(Error::new(format!("the masking rate is {}", self.rate))
                .help("give a share above 0 and at most 1; BERT's is 0.15"));
        }
        if !(self.rarity >= 0.0 && self.rarity.is_finite()) {
            return Err(Error::new(format!("the masking rarity is {}", self.rarity))
                .help("give 0 for uniform masking, or 0.7 as XLM and DistilBERT"));
        }
        Ok(())
    }
}

/// A masked token: its place in the sentence, and the id that the model sees there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Masked {
    pub at: usize,
    pub input: u32,
}

/// Masking with what it needs to know of the vocabulary, by id.
pub(super) struct Masker {
    masking: Masking,
    mask: u32,
    /// Ids that may be masked, and that may replace others: all but the special ones.
    ordinary: Vec<u32>,
    is_ordinary: Vec<bool>,
    continues_word: Vec<bool>,
    /// count^-rarity; empty when uniform.
    weights: Vec<f64>,
}

/// Space that is used again for every sentence.
#[derive(Default)]
pub(super) struct Scratch {
    units: Vec<Unit>,
    chosen: Vec<usize>,
    masked: Vec<Masked>,
}

/// What is chosen together: a token, or a whole word.
#[derive(Clone, Copy)]
struct Unit {
    start: usize,
    end: usize,
    /// The lower, the earlier it is drawn; only with rarity.
    key: f64,
}

impl Masker {
    pub fn new(shards: &Shards, masking: Masking) -> Result<Self> {
        masking.check()?;
        let tokenizer = shards.tokenizer();
        let mask = tokenizer.special().mask.ok_or_else(|| {
            Error::new("the vocabulary has no [MASK], so no token can be masked")
                .help("take a tokenizer for masked language models")
        })?;
        let ids = 0..tokenizer.vocab_size() as u32;
        let is_ordinary: Vec<bool> = ids.clone().map(|id| !tokenizer.is_special(id)).collect();
        let ordinary: Vec<u32> = ids.clone().filter(|&id| is_ordinary[id as usize]).collect();
        if ordinary.is_empty() {
            return Err(
                Error::new("the vocabulary has no tokens but special ones").help("make one with `upstill tokenizer train`")
            );
        }
        // A token that the train split lacks counts as seen once, as in DistilBERT's script.
        let weight = |&count: &u64| (count.max(1) as f64).powf(-masking.rarity);
        let weights = if masking.rarity == 0.0 { Vec::new() } else { shards.token_counts().iter().map(weight).collect() };
        let continues_word = ids.map(|id| tokenizer.continues_word(id)).collect();
        Ok(Self { masking, mask, ordinary, is_ordinary, continues_word, weights })
    }

    /// The mask of one sentence, or of a piece of one, in the order of its tokens; at another `rate` than its own,
    /// where one is given. Special tokens are never masked.
    pub fn mask<'a>(&self, rng: &mut ChaCha8Rng, rate: Option<f64>, ids: &[u32], scratch: &'a mut Scratch) -> &'a [Masked] {
        self.units(rng, ids, &mut scratch.units);
        let masking = Masking { rate: rate.unwrap_or(self.masking.rate), ..self.masking };
        self.choose(rng, masking.count(ids.len()), scratch);
        scratch.masked.clear();
        scratch.masked.extend(scratch.chosen.iter().map(|&at| Masked { at, input: self.replacement(rng, ids[at]) }));
        &scratch.masked
    }

    /// The sentence's tokens or words, special tokens left out; with rarity, in the order in which they are drawn.
    fn units(&self, rng: &mut ChaCha8Rng, ids: &[u32], units: &mut Vec<Unit>) {
        units.clear();
        for (at, &id) in ids.iter().enumerate() {
            if !self.is_ordinary.get(id as usize).is_some_and(|&ordinary| ordinary) {
                continue;
            }
            let joins = self.masking.whole_word && self.continues_word[id as usize];
            match units.last_mut() {
                Some(word) if joins && word.end == at => word.end += 1,
                _ => units.push(Unit { start: at, end: at + 1, key: 0.0 }),
            }
        }
        if !self.weights.is_empty() {
            units.iter_mut().for_each(|unit| unit.key = -open_unit(rng).ln() / self.weight(&ids[unit.start..unit.end]));
            units.sort_by(|a, b| a.key.total_cmp(&b.key));
        }
    }

    /// The mean weight of a word's pieces.
    fn weight(&self, ids: &[u32]) -> f64 {
        let sum: f64 = ids.iter().map(|&id| self.weights.get(id as usize).copied().unwrap_or(1.0)).sum();
        sum / ids.len() as f64
    }

    fn choose(&self, rng: &mut ChaCha8Rng, count: usize, Scratch { units, chosen, .. }: &mut Scratch) {
        chosen.clear();
        for drawn in 0..units.len() {
            if chosen.len() == count {
                break;
            }
            if self.weights.is_empty() {
                let other = drawn + below(rng, units.len() - drawn);
                units.swap(drawn, other);
            }
            let Unit { start, end, .. } = units[drawn];
            if chosen.len() + (end - start) <= count {
                chosen.extend(start..end);
            }
        }
        chosen.sort_unstable();
    }

    /// 80 % [MASK], 10 % a random token, 10 % the token itself.
    fn replacement(&self, rng: &mut ChaCha8Rng, id: u32) -> u32 {
        match below(rng, 10) {
            0..8 => self.mask,
            8 => self.ordinary[below(rng, self.ordinary.len())],
            _ => id,
        }
    }
}

/// The generator of a sentence's mask in an epoch.
pub(super) fn generator(seed: u64, epoch: u64, piece: &Piece) -> ChaCha8Rng {
    let mut key = *b"................upstill masking.";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(piece.sentence as u64);
    if piece.part > 0 {
        // 2^32 words apart: further than any piece draws.
        rng.set_word_pos((piece.part as u128) << 32);
    }
    rng
}

/// A number below `n`, uniform to one part in 2^32 / n (Lemire's multiplication, without its rejection).
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

/// A number above 0 and at most 1.
fn open_unit(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    const VOCAB: u32 = 100;

    /// Ids 0..5 are special, odd ids from 51 on continue a word; id i was seen i^2 times.
    fn masker(masking: Masking) -> Masker {
        let weights = if masking.rarity == 0.0 {
            vec![]
        } else {
            (0..VOCAB).map(|id| f64::from(id * id).max(1.0).powf(-masking.rarity)).collect()
        };
        Masker {
            masking,
            mask: 4,
            ordinary: (5..VOCAB).collect(),
            is_ordinary: (0..VOCAB).map(|id| id >= 5).collect(),
            continues_word: (0..VOCAB).map(|id| id > 50 && id % 2 == 1).collect(),
            weights,
        }
    }

    fn mask(masking: Masking, sentence: usize, ids: &[u32]) -> Vec<Masked> {
        let mut rng = generator(7, 0, &Piece { sentence, part: 0, parts: 1 });
        masker(masking).mask(&mut rng, None, ids, &mut Scratch::default()).to_vec()
    }

    #[test]
    fn the_count_is_berts() {
        let counts = |rate| [1, 2, 3, 10, 30, 126, 510].map(|tokens| Masking { rate, ..Masking::default() }.count(tokens));
        assert_eq!(counts(0.15), [1, 1, 1, 2, 4, 19, 76]);
        assert_eq!(counts(1.0), [1, 2, 3, 10, 30, 126, 510]);
        assert_eq!(counts(1e-9), [1; 7]);
        assert_eq!(Masking::default().count(0), 0);
    }

    proptest! {
        #[test]
        fn as_many_as_the_count_and_never_special(ids in prop::collection::vec(0..VOCAB, 1..60), rate in 0.01f64..1.0, rarity in 0u8..2, sentence in 0usize..1000) {
            let masking = Masking { rate, whole_word: false, rarity: f64::from(rarity) };
            let masked = mask(masking, sentence, &ids);
            let ordinary = ids.iter().filter(|&&id| id >= 5).count();
            prop_assert_eq!(masked.len(), masking.count(ids.len()).min(ordinary));
            prop_assert!(masked.windows(2).all(|pair| pair[0].at < pair[1].at));
            prop_assert!(masked.iter().all(|m| ids[m.at] >= 5 && (m.input == 4 || m.input >= 5)));
        }

        #[test]
        fn whole_words_stay_whole(ids in prop::collection::vec(0..VOCAB, 1..60), rarity in 0u8..2, sentence in 0usize..1000) {
            let masking = Masking { rate: 0.3, whole_word: true, rarity: f64::from(rarity) };
            let masked = mask(masking, sentence, &ids);
            prop_assert!(masked.len() <= masking.count(ids.len()));
            let is_masked = |at: usize| masked.iter().any(|m| m.at == at);
            for at in 1..ids.len() {
                if ids[at - 1] >= 5 && ids[at] > 50 && ids[at] % 2 == 1 {
                    prop_assert_eq!(is_masked(at - 1), is_masked(at), "pieces {} and {}", at - 1, at);
                }
            }
        }
    }

    #[test]
    fn eighty_ten_ten() {
        let ids: Vec<u32> = (0..1000).map(|i| 5 + i % 95).collect();
        let (mut masks, mut kept, mut random, mut drawn) = (0, 0, 0, [0u32; VOCAB as usize]);
        for sentence in 0..300 {
            for m in mask(Masking { rate: 0.5, ..Masking::default() }, sentence, &ids) {
                match m.input {
                    4 => masks += 1,
                    input if input == ids[m.at] => kept += 1,
                    input => (random, drawn[input as usize]) = (random + 1, drawn[input as usize] + 1),
                }
            }
        }
        let total = f64::from(masks + kept + random);
        // A random token is the token itself once in 95 draws.
        let expected = [(masks, 0.8), (kept, 0.1 + 0.1 / 95.0), (random, 0.1 - 0.1 / 95.0)];
        expected
            .iter()
            .for_each(|&(count, share)| assert!((f64::from(count) / total - share).abs() < 0.004, "{count} of {total}"));
        assert!(drawn[5..].iter().all(|&count| count > 80), "every ordinary token replaces some: {drawn:?}");
    }

    #[test]
    fn every_place_is_as_likely() {
        let ids: Vec<u32> = (5..25).collect();
        let mut counts = [0u32; 20];
        (0..20_000).for_each(|sentence| mask(Masking::default(), sentence, &ids).iter().for_each(|m| counts[m.at] += 1));
        // 3 of 20 masked: 3000 expected, standard deviation 50.
        assert!(counts.iter().all(|count| count.abs_diff(3000) < 250), "{counts:?}");
    }

    #[test]
    fn rare_tokens_are_chosen_as_often_as_their_weight_says() {
        // One of two is chosen: P(10 before 40) = 10^-2r / (10^-2r + 40^-2r), which is 0.8 at r = 0.5.
        let masking = Masking { rate: 0.5, rarity: 0.5, whole_word: false };
        let rare = (0..20_000).filter(|&sentence| mask(masking, sentence, &[40, 10])[0].at == 1).count();
        assert!((rare as f64 / 20_000.0 - 0.8).abs() < 0.01, "{rare}");
    }

    #[test]
    fn sentences_epochs_seeds_and_pieces_differ() {
        let first = |seed, epoch, sentence, part| generator(seed, epoch, &Piece { sentence, part, parts: 9 }).next_u64();
        let mut values = vec![
            first(0, 0, 0, 0),
            first(1, 0, 0, 0),
            first(0, 1, 0, 0),
            first(0, 0, 1, 0),
            first(0, 0, 0, 1),
            first(0, 0, 1, 1),
        ];
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 6);
    }

    #[test]
    fn a_rate_that_is_no_share_is_refused() {
        for rate in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Masking { rate, ..Masking::default() }.check().is_err(), "{rate}");
        }
        insta::assert_snapshot!(Masking { rate: 15.0, ..Masking::default() }.check().unwrap_err(), @r"
        the masking rate is 15
        help: give a share above 0 and at most 1; BERT's is 0.15
        ");
        insta::assert_snapshot!(Masking { rarity: -1.0, ..Masking::default() }.check().unwrap_err(), @r"
        the masking rarity is -1
        help: give 0 for uniform masking, or 0.7 as XLM and DistilBERT
        ");
    }
}
