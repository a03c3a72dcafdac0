//! Minimal pairs, scored by likelihoods: of masked models by pseudo-log-likelihoods.

use burn::tensor::Device;
use rayon::prelude::*;

use super::likelihood::log_likelihoods;
use super::pll::{FRAME, Pll, Tick, pseudo_log_likelihoods};
use crate::config::ObjectiveKind;
use crate::error::{Error, Result};
use crate::model::LanguageModel;
use crate::tasks::{MinimalPair, PairScores};
use crate::tokens::Tokenizer;

/// Scores minimal pairs: of each, the sentence with the higher pseudo-log-likelihood is the one preferred; of a causal
/// model, the one with the higher log-likelihood.
///
/// # Errors
/// Before anything is scored: a way to mask for a causal model; a sentence that is longer than the model reads or that
/// has no token, and no pairs at all. Later: when `tick` fails, or the device.
pub fn score_pairs(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    pairs: &[MinimalPair],
    pll: Pll,
    device: &Device,
    tick: Tick,
) -> Result<PairScores> {
    let sentences = encode_pairs(tokenizer, pairs, model.shape().max_positions())?;
    let scores = match (model.shape().family().objective(), pll) {
        (ObjectiveKind::Masked, pll) => pseudo_log_likelihoods(model, tokenizer, &sentences, pll, device, tick)?,
        (ObjectiveKind::Causal, Pll::Original) => log_likelihoods(model, tokenizer, &sentences, device, tick)?,
        (ObjectiveKind::Causal, Pll::WithinWord) => {
            return Err(Error::new("a causal model hides no token: its sentences have likelihoods").help("leave --pll out"));
        }
    };
    let two: Vec<[f64; 2]> = scores.chunks_exact(2).map(|two| [two[0], two[1]]).collect();
    PairScores::of(pairs, &two).ok_or_else(|| Error::new("there are no pairs to score"))
}

/// The tokens of each pair's good and bad sentence, one after another, for a model that reads at most `most` tokens.
///
/// # Errors
/// A sentence that is longer, or that has no token: with its line.
pub fn encode_pairs(tokenizer: &Tokenizer, pairs: &[MinimalPair], most: usize) -> Result<Vec<Vec<u32>>> {
    let plain = tokenizer.without_special();
    let encode = |pair: &MinimalPair| -> Result<[Vec<u32>; 2]> {
        let of = |text: &str| encoded(&plain, text, most).map_err(|error| error.at(&pair.place));
        Ok([of(&pair.good)?, of(&pair.bad)?])
    };
    let encoded: Vec<Result<[Vec<u32>; 2]>> = pairs.par_iter().map(encode).collect();
    Ok(encoded.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()) // the first mistake is told
}

/// The tokens of a sentence that a model can score.
fn encoded(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    if ids.is_empty() {
        return Err(Error::new(format!("the sentence {text:?} has no token")).help("mend the line, or remove it"));
    }
    let whole = ids.len() + FRAME;
    if whole > most {
        let what = format!("a sentence is {whole} tokens long with [CLS] and [SEP], and the model reads {most}");
        return Err(Error::new(what).help("shorten or remove it, or take a model with more positions"));
    }
    Ok(ids)
}
