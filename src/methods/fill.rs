//! The likeliest words for a `[MASK]`.

use burn::tensor::Device;
use burn::tensor::activation::softmax;
use serde::Serialize;

use super::evaluate::must_be_numbers;
use crate::config::ObjectiveKind;
use crate::device::{Compute, wait};
use crate::error::{Error, Result};
use crate::kernels::Places;
use crate::model::{Dropout, Inputs, LanguageModel};
use crate::tokens::Tokenizer;

/// A token that may stand for a `[MASK]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The token, `##` marking a piece that continues a word.
    pub token: String,
    /// Its probability.
    pub probability: f32,
}

/// For each `[MASK]` of a sentence, the `top` likeliest tokens, likeliest first.
///
/// # Errors
/// When the model is a causal one, the sentence has no `[MASK]`, or is longer than the model reads; when the model has
/// no rows for some of the tokens, or what it says is no number.
pub fn fill_mask(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    sentence: &str,
    top: usize,
    device: &Device,
) -> Result<Vec<Vec<Candidate>>> {
    wait(fill_mask_async(model, tokenizer, sentence, top, device))
}

/// [`fill_mask`] without blocking.
///
/// # Errors
/// As there.
pub async fn fill_mask_async(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    sentence: &str,
    top: usize,
    device: &Device,
) -> Result<Vec<Vec<Candidate>>> {
    model.shape().must_hold(tokenizer)?;
    if model.shape().family().objective() == ObjectiveKind::Causal {
        return Err(Error::new(format!(
            "the model is a {}, which predicts the next token and reads no [MASK]",
            model.shape().family()
        ))
        .help("have it go on with a text: `upstill generate MODEL \"Once upon a time\"`"));
    }
    let special = tokenizer.special();
    let words = tokenizer.encode(sentence)?;
    let ids: Vec<i32> = [special.cls].iter().chain(&words).chain(&[special.sep]).map(|&id| id as i32).collect();
    let longest = model.shape().max_positions();
    if ids.len() > longest {
        return Err(
            Error::new(format!("the sentence is {} tokens long, and the model reads {longest}", ids.len())).help("shorten it")
        );
    }
    let masks: Vec<i32> =
        (0..ids.len()).filter(|&i| special.mask.is_some_and(|mask| ids[i] == mask as i32)).map(|i| i as i32).collect();
    if masks.is_empty() {
        return Err(Error::new("the sentence has no [MASK]")
            .help("put [MASK] in place of a word, as in \"Paris is the [MASK] of France.\""));
    }
    let positions: Vec<i32> = (0..ids.len() as i32).collect();
    let inputs = Inputs::new(&ids, &positions, &vec![1; ids.len()], 1, &Compute::of(device));
    let probabilities_nv = softmax(model.logits(&inputs, &Places::new(&masks, device), &mut Dropout::off()), 1);
    let data = probabilities_nv.into_data_async().await;
    let data = data.map_err(|error| Error::new(format!("the device could not be read: {error:?}")))?;
    let flat: Vec<f32> = data.try_to_vec().expect("probabilities are f32");
    must_be_numbers(flat.iter().map(|&value| f64::from(value)), "the probability of a word")?;
    // A model may have more rows in its table than the tokenizer has tokens; those stand for nothing.
    Ok(flat
        .chunks(model.shape().vocab_size())
        .map(|row| best(&row[..tokenizer.vocab_size().min(row.len())], top, tokenizer))
        .collect())
}

fn best(row_v: &[f32], top: usize, tokenizer: &Tokenizer) -> Vec<Candidate> {
    let mut ids: Vec<usize> = (0..row_v.len()).collect();
    ids.sort_by(|&a, &b| row_v[b].total_cmp(&row_v[a]).then(a.cmp(&b)));
    ids.truncate(top);
    ids.into_iter().map(|id| Candidate { token: tokenizer.token(id as u32).to_owned(), probability: row_v[id] }).collect()
}
