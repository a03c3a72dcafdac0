//! Log-likelihoods of sentences, of causal models: the sum over a sentence's tokens, and its end, of each one's
//! log-probability given those before it. A sentence is read once.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::evaluate::must_be_numbers;
use super::pll::{FRAME, Tick, rows_at_once};
use crate::device::{Compute, failed, wait};
use crate::error::Result;
use crate::kernels::Places;
use crate::loss::hard_losses;
use crate::model::{Dropout, Inputs, LanguageModel};
use crate::tokens::Tokenizer;

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
    let (most, compute) = (model.shape().max_positions(), Compute::of(device));
    assert!(sentences.iter().all(|ids| ids.len() + FRAME <= most), "sentences that the model can read");
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by_key(|&at| sentences[at].len()); // stable: the same batches for the same sentences
    let all: usize = sentences.iter().map(|ids| ids.len() + 1).sum();
    let (mut sums, mut done) = (vec![0.0; sentences.len()], 0);
    for alike in order.chunk_by(|&a, &b| sentences[a].len() == sentences[b].len()) {
        let asked = sentences[alike[0]].len() + 1;
        // Each row is asked as often as it has tokens.
        let rows = (rows_at_once(model, 1, &compute) / (asked + 1)).max(1);
        for chunk in alike.chunks(rows) {
            let losses = losses(model, tokenizer, chunk.iter().map(|&at| &sentences[at][..]), &compute)?;
            for (&at, losses) in chunk.iter().zip(losses.chunks(asked)) {
                sums[at] = -losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
            }
            done += losses.len();
            tick(done, all)?;
        }
    }
    must_be_numbers(sums.iter().copied(), "the log-likelihood of a sentence")?;
    Ok(sums)
}

/// Minus the log-probability of each token and of the end of each sentence, row after row, in nats; all have one
/// length.
fn losses<'a>(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    sentences: impl ExactSizeIterator<Item = &'a [u32]>,
    compute: &Compute,
) -> Result<Vec<f32>> {
    let (special, rows) = (tokenizer.special(), sentences.len());
    let mut ids: Vec<i32> = Vec::new();
    for sentence in sentences {
        ids.extend([special.cls].iter().chain(sentence).chain(&[special.sep]).map(|&id| id as i32));
    }
    let length = ids.len() / rows;
    let positions: Vec<i32> = (0..length as i32).collect::<Vec<_>>().repeat(rows);
    let inputs = Inputs::new(&ids, &positions, &vec![1; ids.len()], rows, compute);
    let places: Vec<i32> = (0..ids.len() as i32).filter(|at| (at + 1) % length as i32 != 0).collect();
    let labels: Vec<i32> = places.iter().map(|&at| ids[at as usize + 1]).collect();
    let hidden_nd = model.hidden(&inputs, Some(&Places::new(&places, &compute.device)), &mut Dropout::off());
    let labels_n = Tensor::<1, Int>::from_data(TensorData::new(labels, [places.len()]), &compute.device);
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
