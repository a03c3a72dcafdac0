//! Pseudo-log-likelihoods of sentences.
//!
//! A masked model gives a sentence no likelihood; its pseudo-log-likelihood is the sum over its tokens of each one's
//! log-probability when it is masked and the others are seen (Salazar et al. 2020). A sentence of n tokens is read n
//! times.

use std::collections::HashMap;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::evaluate::must_be_numbers;
use crate::device::{Compute, failed, wait};
use crate::error::{Error, Result};
use crate::kernels::Places;
use crate::loss::hard_losses;
use crate::model::{Dropout, Inputs, LanguageModel};
use crate::tokens::Tokenizer;

/// What is masked while a token is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pll {
    /// The token alone (Salazar et al. 2020).
    #[default]
    Original,
    /// The token and the later pieces of its word, which would give it away (Kauf and Ivanova 2023, `PLL-word-l2r`).
    WithinWord,
}

impl Pll {
    /// Its words on the command line.
    pub const WORDS: [&'static str; 2] = ["original", "within-word"];

    /// The one of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Original, Self::WithinWord].into_iter().zip(Self::WORDS).find(|(_, known)| *known == word).map(|(pll, _)| pll)
    }
}

/// Told how many tokens are scored, and of how many; what it fails with ends the scoring.
pub type Tick<'a> = &'a mut dyn FnMut(usize, usize) -> Result<()>;

/// `[CLS]` and `[SEP]`.
pub(super) const FRAME: usize = 2;

/// A sentence with one of its tokens to be scored.
#[derive(Clone, Copy)]
struct Query {
    sentence: usize,
    at: usize,
}

/// The pseudo-log-likelihood of each sentence, given as its tokens without `[CLS]` and `[SEP]`, in nats. Equal
/// sentences are scored once; those of one length go together, so that next to no padding is read, and only what is
/// masked goes through the head.
///
/// # Errors
/// When `tick` fails, or the device; when what the model says is no number.
///
/// # Panics
/// When a sentence is longer than the model reads.
pub fn pseudo_log_likelihoods(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    sentences: &[Vec<u32>],
    pll: Pll,
    device: &Device,
    tick: Tick,
) -> Result<Vec<f64>> {
    let (most, compute) = (model.shape().max_positions(), Compute::of(device));
    assert!(sentences.iter().all(|ids| ids.len() + FRAME <= most), "sentences that the model can read");
    let mut known: HashMap<&[u32], usize> = HashMap::new();
    let mut distinct: Vec<&[u32]> = Vec::new();
    let place: Vec<usize> = sentences
        .iter()
        .map(|ids| {
            *known.entry(ids).or_insert_with(|| {
                distinct.push(ids);
                distinct.len() - 1
            })
        })
        .collect();
    let mut order: Vec<usize> = (0..distinct.len()).collect();
    order.sort_by_key(|&at| distinct[at].len()); // stable: the same batches for the same sentences
    let queries = order.iter().flat_map(|&sentence| (0..distinct[sentence].len()).map(move |at| Query { sentence, at }));
    let queries: Vec<Query> = queries.collect();
    let mut sums = vec![0.0; distinct.len()];
    let mut done = 0;
    while done < queries.len() {
        let length = distinct[queries[done].sentence].len() + FRAME;
        let room = rows_at_once(model, length, &compute);
        let alike = queries[done..].iter().take(room).take_while(|query| distinct[query.sentence].len() + FRAME == length);
        let chunk = &queries[done..done + alike.count()];
        let losses = losses(model, tokenizer, &distinct, chunk, pll, &compute)?;
        chunk.iter().zip(losses).for_each(|(query, loss)| sums[query.sentence] -= f64::from(loss));
        done += chunk.len();
        tick(done, queries.len())?;
    }
    must_be_numbers(sums.iter().copied(), "the pseudo-log-likelihood of a sentence")?;
    Ok(place.into_iter().map(|at| sums[at]).collect())
}

/// Rows of one length that are read together: so many tokens that every core is busy and their activations stay small,
/// and no more logits than fit in some memory, where a device multiplies them all out.
pub(super) fn rows_at_once(model: &impl LanguageModel, length: usize, compute: &Compute) -> usize {
    const LOGITS: usize = 1 << 26;
    (compute.traits.tokens_at_once / length).min(LOGITS / model.shape().vocab_size().max(1)).max(1)
}

/// Minus the log-probability of the token that each query asks for, in nats; all sentences have one length.
fn losses(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    sentences: &[&[u32]],
    queries: &[Query],
    pll: Pll,
    compute: &Compute,
) -> Result<Vec<f32>> {
    let special = tokenizer.special();
    let mask =
        special.mask.ok_or_else(|| Error::new("the model's vocabulary has no [MASK], so no token can be hidden from it"))?;
    let length = sentences[queries[0].sentence].len() + FRAME;
    let mut ids = Vec::with_capacity(queries.len() * length);
    for query in queries {
        let sentence = sentences[query.sentence];
        let end = match pll {
            Pll::Original => query.at + 1,
            Pll::WithinWord => {
                let later = sentence[query.at + 1..].iter().take_while(|&&id| tokenizer.continues_word(id));
                query.at + 1 + later.count()
            }
        };
        let seen = |(at, &id): (usize, &u32)| if (query.at..end).contains(&at) { mask } else { id };
        let inside = sentence.iter().enumerate().map(seen);
        ids.extend([special.cls].into_iter().chain(inside).chain([special.sep]).map(|id| id as i32));
    }
    let positions: Vec<i32> = (0..length as i32).collect::<Vec<_>>().repeat(queries.len());
    let inputs = Inputs::new(&ids, &positions, &vec![1; ids.len()], queries.len(), compute);
    let places: Vec<i32> = queries.iter().enumerate().map(|(row, query)| (row * length + 1 + query.at) as i32).collect();
    let labels: Vec<i32> = queries.iter().map(|query| sentences[query.sentence][query.at] as i32).collect();
    let hidden_nd = model.hidden(&inputs, Some(&Places::new(&places, &compute.device)), &mut Dropout::off());
    let labels_n = Tensor::<1, Int>::from_data(TensorData::new(labels, [queries.len()]), &compute.device);
    let losses_n = hard_losses(model.head(hidden_nd, compute), labels_n, compute);
    let data = wait(losses_n.into_data_async()).map_err(|error| failed("an evaluation", &error))?;
    Ok(data.iter::<f32>().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::score_pairs;
    use crate::model::{BertForMaskedLm, BertShape};
    use crate::tasks::MinimalPair;

    fn tokenizer() -> Tokenizer {
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "un", "##happ", "##y", "mat"];
        Tokenizer::from_vocab(words.map(str::to_owned).to_vec()).unwrap()
    }

    fn model(device: &Device) -> BertForMaskedLm {
        let shape = BertShape { intermediate: 32, ..BertShape::new(12, 16, 2, 2, 8) };
        shape.init(3, 0.5, device)
    }

    fn pair(good: &str, bad: &str) -> MinimalPair {
        let [paradigm, phenomenon, good, bad] = ["p", "", good, bad].map(str::to_owned);
        MinimalPair { paradigm, phenomenon, good, bad, place: "pairs.jsonl:7".into() }
    }

    #[test]
    fn a_sentence_scores_the_same_alone_and_among_others() {
        let (device, tokenizer) = (Device::flex(), tokenizer());
        let model = model(&device);
        let sentences: Vec<Vec<u32>> = ["the cat sat", "unhappy", "the cat sat", "the mat", "sat the unhappy mat"]
            .iter()
            .map(|text| tokenizer.encode(text).unwrap())
            .collect();
        let score = |sentences: &[Vec<u32>], pll| {
            pseudo_log_likelihoods(&model, &tokenizer, sentences, pll, &device, &mut |_, _| Ok(())).unwrap()
        };
        for pll in [Pll::Original, Pll::WithinWord] {
            let together = score(&sentences, pll);
            for (sentence, among) in sentences.iter().zip(&together) {
                let alone = score(std::slice::from_ref(sentence), pll)[0];
                // The same sums; products of other shapes may round otherwise.
                assert!((alone - among).abs() < 1e-5, "{alone} {among}");
            }
            assert_eq!(together[0], together[2]);
        }
        let [original, within] = [Pll::Original, Pll::WithinWord].map(|pll| score(&sentences, pll));
        assert_eq!(original[0], within[0], "words of one piece are masked alike");
        assert!((original[1] - within[1]).abs() > 1e-3, "the later pieces of a word are hidden");
    }

    #[test]
    fn what_the_model_cant_read_is_told_before_anything_is_scored() {
        let (device, tokenizer) = (Device::flex(), tokenizer());
        let model = model(&device);
        let fails = |bad: &str| {
            let pairs = [pair("the cat", "cat the"), pair("the cat sat", bad)];
            let mut never = |_, _| panic!("nothing is scored");
            score_pairs(&model, &tokenizer, &pairs, Pll::Original, &device, &mut never).unwrap_err().to_string()
        };
        insta::assert_snapshot!(fails("the cat sat the cat sat the"), @"
        a sentence is 9 tokens long with [CLS] and [SEP], and the model reads 8
          in: pairs.jsonl:7
        help: shorten or remove it, or take a model with more positions
        ");
        insta::assert_snapshot!(fails("\u{200d}"), @r#"
        the sentence "\u{200d}" has no token
          in: pairs.jsonl:7
        help: mend the line, or remove it
        "#);
    }

    #[test]
    fn the_words_of_both_ways() {
        for word in Pll::WORDS {
            assert!(Pll::from_word(word).is_some());
        }
        assert_eq!(Pll::from_word("word"), None);
    }
}
