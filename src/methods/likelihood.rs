//! Log-likelihoods of causal models: the sum over tokens of each one's log-probability given those before it. A text is
//! read once.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::evaluate::must_be_numbers;
use super::pll::{FRAME, Tick, rows_at_once};
use crate::device::{Compute, failed, wait};
use crate::error::Result;
use crate::kernels::Places;
use crate::loss::hard_losses;
use crate::model::{Dropout, Inputs, LanguageModel};
use crate::tokens::Tokenizer;

/// A text in tokens, of which those at the end are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scored {
    /// All of them; the last is not read, but asked for.
    pub ids: Vec<u32>,
    /// How many tokens at the end are asked for: one at least, and one less than there are at most.
    pub asked: usize,
}

/// The log-likelihood of each sentence, given as its tokens without `[CLS]` and `[SEP]`, in nats: of its tokens and of
/// the `[SEP]` that ends it, after `[CLS]`. Sentences of one length go together, so that no padding is read.
///
/// # Errors
/// When `tick` fails, or the device; when what the model says is no number.
///
/// # Panics
/// When a sentence is longer than the model reads.
pub fn log_likelihoods(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    sentences: &[Vec<u32>],
    device: &Device,
    tick: Tick,
) -> Result<Vec<f64>> {
    let (most, special) = (model.shape().max_positions(), tokenizer.special());
    assert!(sentences.iter().all(|ids| ids.len() + FRAME <= most), "sentences that the model can read");
    let framed = |ids: &Vec<u32>| Scored {
        ids: [special.cls].iter().chain(ids).chain(&[special.sep]).copied().collect(),
        asked: ids.len() + 1,
    };
    let texts: Vec<Scored> = sentences.iter().map(framed).collect();
    of_texts(model, &texts, "the log-likelihood of a sentence", device, tick)
}

/// The log-likelihood of what is asked for of each text, in nats. Texts of one length go together; `what` names one for
/// an error.
///
/// # Errors
/// When `tick` fails, or the device; when what the model says is no number.
pub(super) fn of_texts(
    model: &impl LanguageModel,
    texts: &[Scored],
    what: &str,
    device: &Device,
    tick: Tick,
) -> Result<Vec<f64>> {
    let compute = Compute::of(device);
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&at| texts[at].ids.len()); // stable: the same batches for the same texts
    let all: usize = texts.iter().map(|text| text.asked).sum();
    let (mut sums, mut done) = (vec![0.0; texts.len()], 0);
    for alike in order.chunk_by(|&a, &b| texts[a].ids.len() == texts[b].ids.len()) {
        // Each row is asked at most as often as it has tokens.
        let rows = (rows_at_once(model, 1, &compute) / texts[alike[0]].ids.len()).max(1);
        for chunk in alike.chunks(rows) {
            let chunk: Vec<(usize, &Scored)> = chunk.iter().map(|&at| (at, &texts[at])).collect();
            let losses = losses(model, &chunk, &compute)?;
            let mut losses = losses.into_iter();
            for (at, text) in chunk {
                sums[at] = -losses.by_ref().take(text.asked).map(f64::from).sum::<f64>();
                done += text.asked;
            }
            tick(done, all)?;
        }
    }
    must_be_numbers(sums.iter().copied(), what)?;
    Ok(sums)
}

/// Minus the log-probability of each token that is asked for, row after row, in nats; all rows have one length.
fn losses(model: &impl LanguageModel, texts: &[(usize, &Scored)], compute: &Compute) -> Result<Vec<f32>> {
    let (rows, length) = (texts.len(), texts[0].1.ids.len() - 1);
    let (mut ids, mut places, mut labels) = (Vec::with_capacity(rows * length), Vec::<i32>::new(), Vec::<i32>::new());
    for (_, text) in texts {
        let asked = length - text.asked..length;
        places.extend(asked.clone().map(|at| (ids.len() + at) as i32));
        labels.extend(asked.map(|at| text.ids[at + 1] as i32));
        ids.extend(text.ids[..length].iter().map(|&id| id as i32));
    }
    let positions: Vec<i32> = (0..length as i32).collect::<Vec<_>>().repeat(rows);
    let inputs = Inputs::new(&ids, &positions, &vec![1; ids.len()], rows, compute);
    let count = labels.len();
    let hidden_nd = model.hidden(&inputs, Some(&Places::new(&places, &compute.device)), &mut Dropout::off());
    let labels_n = Tensor::<1, Int>::from_data(TensorData::new(labels, [count]), &compute.device);
    let losses_n = hard_losses(model.head(hidden_nd, compute), labels_n, compute);
    let data = wait(losses_n.into_data_async()).map_err(|error| failed("an evaluation", &error))?;
    Ok(data.iter::<f32>().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LlamaShape;

    #[test]
    fn a_sentence_scores_what_its_tokens_add_up_to_alone_and_among_others() {
        let device = Device::flex();
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "mat"];
        let tokenizer = Tokenizer::from_vocab(words.map(str::to_owned).to_vec()).unwrap();
        let model = LlamaShape::new(8, 16, 2, 2, 8).init(3, 0.5, &device);
        let sentences = [vec![4, 5, 6], vec![4], vec![7, 5, 4], vec![4, 5, 6, 7]];
        let found = log_likelihoods(&model, &tokenizer, &sentences, &device, &mut |_, _| Ok(())).unwrap();
        for (sentence, found) in sentences.iter().zip(found) {
            let row: Vec<i32> = [2].into_iter().chain(sentence.iter().map(|&id| id as i32)).chain([3]).collect();
            // By the chain rule, one prefix after another.
            let mut sum = 0.0;
            for end in 1..row.len() {
                let positions: Vec<i32> = (0..end as i32).collect();
                let inputs = Inputs::new(&row[..end], &positions, &vec![1; end], 1, &Compute::of(&device));
                let logits = model.logits(&inputs, &Places::new(&[end as i32 - 1], &device), &mut Dropout::off());
                let logits: Vec<f32> = logits.into_data().try_to_vec().unwrap();
                let log_sum = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
                sum += f64::from(logits[row[end] as usize]) - log_sum;
            }
            assert!((found - sum).abs() < 1e-4, "{found} {sum}");
        }
    }
}
