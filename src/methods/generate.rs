//! Text that a causal model goes on with, a token at a time.

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::evaluate::must_be_numbers;
use crate::device::{Compute, failed, wait};
use crate::error::{Error, Result};
use crate::model::{AnyModel, LanguageModel, Past};
use crate::tokens::Tokenizer;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What logits are divided by before one is drawn; 0 takes the likeliest.
    pub temperature: f64,
    /// Draw from so many of the likeliest alone; none for all (Fan et al. 2018).
    pub top_k: Option<usize>,
    /// Draw from the likeliest that together have this probability, and no more of them; 1 for all (Holtzman et al.
    /// 2020).
    pub top_p: f64,
}

impl Choice {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: None, top_p: 1.0 };

    fn check(&self) -> Result<()> {
        let Self { temperature, top_k, top_p } = *self;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(Error::new(format!("the temperature is {temperature}"))
                .help("give 0 for the likeliest token, or more, such as 0.8"));
        }
        if top_k == Some(0) {
            return Err(Error::new("the number of tokens to draw from is 0").help("give 1 or more"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::new(format!("the share of probability to draw from is {top_p}"))
                .help("give a number above 0 and up to 1, such as 0.9"));
        }
        Ok(())
    }

    /// One of the vocabulary's tokens; `unit` is drawn evenly from 0 to below 1.
    fn of(&self, logits_v: &[f32], unit: impl FnOnce() -> f64) -> u32 {
        // Among equals the first, as an argmax has it.
        let mut order: Vec<usize> = (0..logits_v.len()).collect();
        order.sort_by(|&a, &b| logits_v[b].total_cmp(&logits_v[a]).then(a.cmp(&b)));
        if self.temperature == 0.0 {
            return order[0] as u32;
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let highest = f64::from(logits_v[order[0]]);
        let weight = |&id: &usize| ((f64::from(logits_v[id]) - highest) / self.temperature).exp();
        let mut sums: Vec<f64> = order.iter().map(weight).collect();
        for at in 1..sums.len() {
            sums[at] += sums[at - 1];
        }
        // Of what `top_k` left, the fewest whose sum reaches the share.
        let whole = sums[sums.len() - 1];
        let kept = sums.partition_point(|sum| *sum < self.top_p * whole).min(sums.len() - 1);
        let drawn = unit() * sums[kept];
        order[sums.partition_point(|sum| *sum <= drawn).min(kept)] as u32
    }
}

/// How much is written, and how it is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generate {
    /// Tokens at most.
    pub tokens: usize,
    /// How each is chosen.
    pub choice: Choice,
    /// Decides what is drawn.
    pub seed: u64,
}

/// What a model writes after a text, until it ends its sentence, `tokens` are written, or its positions are used up;
/// without what ends it. `each` is told each token as it is chosen; what it fails with ends the writing.
///
/// # Errors
/// When the model is no causal one, has no rows for some of the tokens or no room for more than the text; when options
/// can't be; when the device fails, or what the model says is no number; as `each`.
pub fn generate(
    model: &AnyModel,
    tokenizer: &Tokenizer,
    text: &str,
    options: &Generate,
    device: &Device,
    each: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Vec<u32>> {
    wait(generate_async(model, tokenizer, text, options, device, each))
}

/// [`generate`] without blocking.
///
/// # Errors
/// As there.
pub async fn generate_async(
    model: &AnyModel,
    tokenizer: &Tokenizer,
    text: &str,
    options: &Generate,
    device: &Device,
    each: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Vec<u32>> {
    model.shape().must_hold(tokenizer)?;
    let special = tokenizer.special();
    let mut start = tokenizer.encode_to_go_on(text)?;
    if start.is_empty() {
        start.push(special.cls);
    }
    // A model may have more rows in its table than the tokenizer has tokens; those stand for nothing.
    ids_after(model, &start, Some(special.sep), tokenizer.vocab_size(), options, device, each).await
}

/// [`generate`] in ids: after `start`, up to the id `stop`, from the first `known` rows of the vocabulary.
///
/// # Errors
/// As there.
pub fn generate_ids(
    model: &AnyModel,
    start: &[u32],
    stop: Option<u32>,
    known: usize,
    options: &Generate,
    device: &Device,
    each: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Vec<u32>> {
    wait(ids_after(model, start, stop, known, options, device, each))
}

async fn ids_after(
    model: &AnyModel,
    start: &[u32],
    stop: Option<u32>,
    known: usize,
    options: &Generate,
    device: &Device,
    each: &mut dyn FnMut(u32) -> Result<()>,
) -> Result<Vec<u32>> {
    options.choice.check()?;
    let (compute, most) = (Compute::of(device), model.shape().max_positions());
    if start.is_empty() || start.len() >= most {
        return Err(Error::new(format!("the text is {} tokens long, and the model has {most} positions", start.len()))
            .help("give a text that leaves room for more"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let (mut past, mut next, mut out) = (Past::default(), start.to_vec(), Vec::new());
    while out.len() < options.tokens && start.len() + out.len() < most {
        let ids: Vec<i32> = next.iter().map(|&id| id as i32).collect();
        let logits_1v = model.next(&ids, &mut past, &compute)?;
        let data = logits_1v.into_data_async().await.map_err(|error| failed("the next token", &error))?;
        let logits_v: Vec<f32> = data.iter::<f32>().take(known).collect();
        must_be_numbers(logits_v.iter().map(|&logit| f64::from(logit)), "a logit of the next token")?;
        let id = options.choice.of(&logits_v, &mut unit);
        if Some(id) == stop {
            break;
        }
        each(id)?;
        out.push(id);
        next = vec![id];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_from_what_is_left() {
        // Probabilities 0.1, 0.5, 0.15, 0.25.
        let logits = [0.1f32, 0.5, 0.15, 0.25].map(f32::ln);
        let of = |choice: Choice, unit: f64| choice.of(&logits, || unit);
        let all = Choice { temperature: 1.0, ..Choice::GREEDY };
        for (unit, id) in [(0.0, 1), (0.49, 1), (0.51, 3), (0.74, 3), (0.76, 2), (0.91, 0), (0.999_999, 0)] {
            assert_eq!(of(all, unit), id, "{unit}");
        }
        assert_eq!(of(Choice::GREEDY, 0.999), 1);
        assert_eq!([0.6, 0.7].map(|unit| of(Choice { top_k: Some(2), ..all }, unit)), [1, 3]);
        assert_eq!([0.6, 0.7].map(|unit| of(Choice { top_p: 0.6, ..all }, unit)), [1, 3]);
        assert_eq!(of(Choice { top_p: 0.3, ..all }, 0.999), 1, "one is left, however small the share");
        // Shares at temperature 1/2 go as their squares: 0.25 of 0.345.
        assert_eq!([0.72, 0.73].map(|unit| of(Choice { temperature: 0.5, ..all }, unit)), [1, 3]);
    }

    #[test]
    fn what_can_not_be_drawn_from_is_refused() {
        let refused = |choice: Choice| choice.check().unwrap_err().to_string();
        assert!(refused(Choice { temperature: -1.0, ..Choice::GREEDY }).contains("the temperature is -1"));
        assert!(refused(Choice { temperature: f64::NAN, ..Choice::GREEDY }).contains("NaN"));
        assert!(refused(Choice { top_k: Some(0), ..Choice::GREEDY }).contains("is 0"));
        assert!(refused(Choice { top_p: 1.5, ..Choice::GREEDY }).contains("is 1.5"));
        Choice::GREEDY.check().unwrap();
    }
}
